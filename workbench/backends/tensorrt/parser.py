"""Which nodes of an ONNX file TensorRT's parser refuses, without a build.

A crash in the parser would end the caller too, so it works in a process of its own:
``python -m workbench.backends.tensorrt.parser tensorrt_rtx MODEL.onnx`` prints the refusals as JSON.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from ...errors import Refusal
from .refusals import OTHER, one_line, parser_refusal
from .versions import VersionAdapter

#: Parsing takes seconds; a driver that hangs must not hang an inspection.
LIMIT_S = 120


def refused_nodes(module: str, model: Path) -> tuple[Refusal, ...]:
    """Ask the parser of the module ``tensorrt`` or ``tensorrt_rtx`` in a child process."""
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((root, os.environ.get("PYTHONPATH", "")))}
    command = [sys.executable, "-m", __name__, module, str(model)]
    try:
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return (Refusal(f"its parser did not answer within {LIMIT_S} s", OTHER),)
    if child.returncode:
        reason = f"its parser ended with code {child.returncode}: {one_line(child.stderr[-400:])}"
        return (Refusal(reason, OTHER),)
    return tuple(Refusal(**row) for row in json.loads(child.stdout.splitlines()[-1]))


def _parsed_here(module: str, model: str) -> list[Refusal]:
    adapter = VersionAdapter(importlib.import_module(module))
    trt = adapter.module
    log = trt.Logger(trt.Logger.INTERNAL_ERROR)  # its messages come through get_error
    builder = trt.Builder(log)
    network = builder.create_network(adapter.network_flags)
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(model):
        return []
    return [parser_refusal(parser.get_error(index)) for index in range(parser.num_errors)]


if __name__ == "__main__":
    print(json.dumps([dataclasses.asdict(refusal) for refusal in _parsed_here(*sys.argv[1:])]))
