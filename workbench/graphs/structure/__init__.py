"""Recognises a Vision Transformer in an ONNX graph of any origin, whatever its nodes are called.

In comes a model of onnx-ir. Out go its attentions (``attention``), its blocks (``blocks``), the ``ModelSpec`` that
describes it (``spec``), and for each node the place (``placement``), the name (``naming``), the type
(``compute_type``), the multiply-accumulates (``macs``) and the line of Python (``source_lines``). All of them use
one operator table (``operators``), one walker (``walk``) and the same questions about a tensor (``values``,
``shapes``, ``masks``). ``builder`` adds nodes; ``evaluation`` computes a few of them.
"""
