"""Studies: many recipes, hosts and batch sizes measured on one graph, and the engine to take.

In come a graph, recipes, images with labels, and hosts. Each cell of that grid becomes a measurement in the
workspace's ledger, or a row with the reason why there is none. Out come a data frame, a Pareto front, and a choice
under limits.
"""
