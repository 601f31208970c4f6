"""Recognises a Vision Transformer in an ONNX graph of any origin, whatever its nodes are called.

In comes a model of onnx-ir. Out go its attentions (``attention``), its blocks (``blocks``), the place of each node
(``placement``), names by place (``naming``), the ``ModelSpec`` behind it (``spec``), and of a single node its type
(``compute_type``), its multiply-accumulates (``macs``) and its line of Python (``source_lines``). All of them use
one operator table (``operators``), one walker (``walk``) and the same questions about a tensor (``values``,
``shapes``, ``masks``). ``builder`` adds nodes; ``evaluation`` computes a few of them.
"""
