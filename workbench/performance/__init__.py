"""The speed of a ViT: counted, measured, estimated for a card that is not at hand, and explained.

A ModelSpec, an engine or any ONNX file comes in. Its cost by block and role, the seconds of its layers, the limits
of a machine or a card, curves over resolution, and whether attention is fused go out, most as data frames.
"""
