"""Which nodes of an ONNX file a runtime refuses, asked of the runtime itself.

TensorRT's parser answers in a process of its own, because a crash in it would take the caller along:
``python -m workbench.backends.unsupported tensorrt-rtx MODEL.onnx`` prints JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from ..errors import Refusal, WorkbenchError
from . import backend
from .tensorrt.log import OTHER, REMEDIES
from .tensorrt.versions import refused_node

#: Parsing takes seconds; a driver that hangs must not hang an inspection.
LIMIT_S = 120
_ROOT = str(Path(__file__).resolve().parents[2])


def refused_nodes(runtime: str, path: Path) -> tuple[Refusal, ...] | None:
    """What a runtime refuses in a file, or None where the runtime cannot be asked on this machine.

    ONNX Runtime names the first node that it refuses, TensorRT every one that holds an operator it does not know.

    Raises:
        WorkbenchError: no runtime has this name.
    """
    if backend(runtime).missing():
        return None
    return _ask_onnxruntime(path) if runtime == "onnxruntime" else _ask_in_child(runtime, path)


def _ask_onnxruntime(path: Path) -> tuple[Refusal, ...]:
    from .onnxruntime import inference_session

    try:
        inference_session(path)
    except WorkbenchError as error:
        why = _one_line(error.why)
        node = re.search(r"node with name '([^']*)'|Node[: ]*\(([^)]*)\)", why)
        remedy = "choose another precision or opset, or export again if the file is damaged"
        name = next(filter(None, node.groups()), "") if node else ""
        return (Refusal(why, remedy, name),)
    return ()


def _ask_in_child(runtime: str, path: Path) -> tuple[Refusal, ...]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((_ROOT, os.environ.get("PYTHONPATH", "")))}
    command = [sys.executable, "-m", __name__, runtime, str(path)]
    try:
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return (Refusal(f"its parser did not answer within {LIMIT_S} s", OTHER),)
    if child.returncode:
        why = f"its parser ended with code {child.returncode}: {_one_line(child.stderr[-400:])}"
        return (Refusal(why, OTHER),)
    return tuple(Refusal(**row) for row in json.loads(child.stdout.splitlines()[-1]))


def _ask_parser(runtime: str, path: Path) -> list[Refusal]:
    flavour = backend(runtime).flavour
    trt = flavour.module
    log = trt.Logger(trt.Logger.INTERNAL_ERROR)  # what it says comes through get_error
    builder = trt.Builder(log)
    network = builder.create_network(flavour.network_flags)
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(path)):
        return []
    return [_refused(parser.get_error(index)) for index in range(parser.num_errors)]


def _refused(error) -> Refusal:
    name, operator = refused_node(error)
    why = _one_line(error.desc())
    remedy = next((remedy for pattern, remedy in REMEDIES if re.search(pattern, f"{operator} {why}")), "")
    unknown = why == "false"  # all that the parser says of an operator that it does not know
    return Refusal(
        f"the parser does not know {operator}" if unknown else why,
        remedy or ("export with another opset or without this operator" if unknown else OTHER),
        name,
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]


if __name__ == "__main__":
    print(json.dumps([dataclasses.asdict(refusal) for refusal in _ask_parser(sys.argv[1], Path(sys.argv[2]))]))
