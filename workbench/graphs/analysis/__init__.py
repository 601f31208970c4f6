"""Says what stands in a graph, what is wrong with it, and what a recipe costs in accuracy.

In come graphs, variants, recipes, images and labels. Out go tables: nodes and findings (``inspect``, ``findings``),
errors block by block (``difference``) and role by role (``role_errors``), the cost of each place (``sensitivity``),
the fewest places to exclude (``search``), and the checks that come before any comparison (``selftest``).
"""
