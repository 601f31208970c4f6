"""The clean-up: from the graph that an exporter writes to the canonical form of a ViT, which computes the same.

In comes a model of onnx-ir, in whatever operators an exporter wrote it. Out come the same model in the canonical form
and the place of each node. ``clean`` holds the order of the steps; every other module is one step, or, as
``projections`` and ``index_tracking``, what a step asks.
"""
