"""Writes a recipe's precision into the nodes of a graph: ``recipe.apply_recipe`` is the way in.

In come a float32 graph, a recipe and calibration images. Out goes a variant: an ONNX file whose types, Q/DQ pairs,
scales and zero points every runtime reads the same. A precision is added by a line in ``dtypes``, one in
``records.recipes.PRECISIONS``, one in ``recipe.LOWERINGS``, and a module here that rewrites the nodes.

The way of an activation to its scale: ``qdq_sites`` says which tensors are quantized, ``activations`` computes
them, ``histogram`` and ``ranges`` gather their values, ``thresholds`` says where to clip, ``scales`` chooses scale
and zero point (also of softmax and GELU outputs), and ``qdq`` inserts the pairs.
"""
