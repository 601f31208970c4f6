"""The clean-up: from the graph that an exporter writes to the canonical form of a ViT, which computes the same.

In comes a model of onnx-ir, in whatever operators an exporter wrote it. Out come the same model in canonical form
and the place of each node. ``clean`` holds the order of the steps, and every other module is one step;
``attention`` uses ``projections`` and ``index_tracking`` to find the linear layers around it.
"""
