"""Which nodes of an ONNX file a runtime refuses, asked of the runtime itself.

TensorRT's parser answers in a process of its own, because a crash in it would take the caller along:
``python -m workbench.backends.unsupported tensorrt-rtx MODEL.onnx`` prints JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from . import backend
from .tensorrt.log import OTHER, REMEDIES
from .tensorrt.versions import refused_node

#: Parsing takes seconds; a driver that hangs must not hang an inspection.
LIMIT_S = 120
_ROOT = str(Path(__file__).resolve().parents[2])


class Refused(NamedTuple):
    """A node that a runtime does not take; without a name it is the file as a whole."""

    node: str
    operator: str
    why: str
    remedy: str


def refused_nodes(runtime: str, path: Path) -> tuple[Refused, ...] | None:
    """What a runtime refuses in a file, or None where the runtime cannot be asked on this machine.

    ONNX Runtime names the first node that it refuses, TensorRT every one that holds an operator it does not know.

    Raises:
        WorkbenchError: no runtime has this name.
    """
    if backend(runtime).missing():
        return None
    return _ask_onnxruntime(path) if runtime == "onnxruntime" else _ask_in_child(runtime, path)


def _ask_onnxruntime(path: Path) -> tuple[Refused, ...]:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 4  # the error is raised; it need not be printed as well
    try:
        ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception classes have no common base but Exception
        why = _one_line(str(error))
        node = re.search(r"node with name '([^']*)'|Node[: ]*\(([^)]*)\)", why)
        operator = re.search(r"Op \((\w+)\)|implementation for (\w+)", why)
        remedy = "choose another precision or opset, or export again if the file is damaged"
        return (Refused(_first(node), _first(operator), why, remedy),)
    return ()


def _first(match: re.Match | None) -> str:
    return next(filter(None, match.groups()), "") if match else ""


def _ask_in_child(runtime: str, path: Path) -> tuple[Refused, ...]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((_ROOT, os.environ.get("PYTHONPATH", "")))}
    command = [sys.executable, "-m", __name__, runtime, str(path)]
    try:
        child = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return (Refused("", "", f"its parser did not answer within {LIMIT_S} s", OTHER),)
    if child.returncode:
        why = f"its parser ended with code {child.returncode}: {_one_line(child.stderr[-400:])}"
        return (Refused("", "", why, OTHER),)
    return tuple(Refused(*row) for row in json.loads(child.stdout.splitlines()[-1]))


def _ask_parser(runtime: str, path: Path) -> list[Refused]:
    flavour = backend(runtime).flavour
    trt = flavour.module
    log = trt.Logger(trt.Logger.INTERNAL_ERROR)  # what it says comes through get_error
    builder = trt.Builder(log)
    network = builder.create_network(flavour.network_flags)
    parser = trt.OnnxParser(network, log)
    if parser.parse_from_file(str(path)):
        return []
    return [_refused(parser.get_error(index)) for index in range(parser.num_errors)]


def _refused(error) -> Refused:
    name, operator = refused_node(error)
    why = _one_line(error.desc())
    remedy = next((remedy for pattern, remedy in REMEDIES if re.search(pattern, f"{operator} {why}")), "")
    unknown = why == "false"  # all that the parser says of an operator that it does not know
    return Refused(
        name,
        operator,
        f"the parser does not know {operator}" if unknown else why,
        remedy or ("export with another opset or without this operator" if unknown else OTHER),
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]


if __name__ == "__main__":
    print(json.dumps(_ask_parser(sys.argv[1], Path(sys.argv[2]))))
