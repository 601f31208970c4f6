"""ONNX graphs of ViTs: exported, cleaned, inspected, rewritten to another precision."""
