"""Many measurements: grids, hosts, reports."""
