"""ONNX graphs of ViTs: exported or imported, brought to a canonical form, analysed, rewritten to another precision.

In comes a ViT of JAX (``export``, which calls ``trace``) or an ONNX file of any origin (``import_``). Both are
cleaned up (``canonical``) and compared with the original (``parity``). Out go ``records.Graph`` and, from a
recipe (``quantization``), ``records.Variant``, or tables about either (``analysis``). ``structure`` finds
attention, blocks and places in any graph, for all the others; ``model_file`` reads and writes the files. Only
this folder edits ONNX.
"""
