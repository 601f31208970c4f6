"""The Open Inference Protocol, version 2, as JSON and with Triton's extension for binary tensors.

Sources: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md) and
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import WorkbenchError, refuse_unless
from ..records import whole
from .manifest import Manifest

#: The header that says how many bytes of a body are JSON; binary tensors follow.
HEADER_LENGTH = "Inference-Header-Content-Length"
DATATYPES = {"FP32": np.dtype("<f4"), "UINT8": np.dtype("u1")}
_REMEDY = "see the model's metadata at /v2/models/NAME, and the protocol's specification"


@dataclass(frozen=True, eq=False)
class InferenceRequest:
    """What a client asks: images (N, H, W, 3), and how it wants the answer."""

    images: np.ndarray
    id: str | None = None
    binary_output: bool = False


def model_metadata(manifest: Manifest, version: str) -> dict:
    """The answer to ``GET /v2/models/NAME``. Pixels of type UINT8 are taken as well as normalised FP32."""
    graph = manifest.engine.variant.graph
    size = graph.preprocessing.size
    return {
        "name": manifest.name,
        "versions": [version],
        "platform": f"{manifest.engine.backend}_{manifest.engine.variant.recipe.precision}",
        "inputs": [{"name": graph.input_name, "datatype": "FP32", "shape": [-1, size, size, 3]}],
        "outputs": [{"name": graph.output_name, "datatype": "FP32", "shape": [-1, manifest.classes]}],
    }


def read_request(body: bytes, header_length: str | None, manifest: Manifest) -> InferenceRequest:
    """The request in the body of ``POST /v2/models/NAME/infer``.

    Args:
        body: JSON, and after it the binary tensors if there are any.
        header_length: the value of ``HEADER_LENGTH``: the bytes of JSON; None where all of them are.
        manifest: the bundle's.

    Raises:
        WorkbenchError: the body is no request of the protocol, or not one for this model.
    """
    try:
        length = len(body) if header_length is None else int(header_length)
        _refuse_unless(0 <= length <= len(body), f"{HEADER_LENGTH} is {header_length}, the body has {len(body)}")
        values, tail = json.loads(body[:length]), memoryview(body)[length:]
        (tensor,) = values["inputs"]
        graph = manifest.engine.variant.graph
        _check_names(values, tensor, graph.input_name, graph.output_name)
        images = _tensor(tensor, tail)
        identifier = values.get("id")
        _refuse_unless(identifier is None or isinstance(identifier, str), "the id is no text")
        return InferenceRequest(images, identifier, _wants_binary(values))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise _no_request(f"{type(error).__name__}: {error}"[:400]) from error


def write_response(
    logits: np.ndarray, request: InferenceRequest, manifest: Manifest, version: str
) -> tuple[bytes, dict[str, str]]:
    """The body of the answer, and its headers.

    Args:
        logits: (N, classes) float32.
        request: what was asked.
        manifest: the bundle's.
        version: the version that answered.
    """
    output = {
        "name": manifest.engine.variant.graph.output_name,
        "datatype": "FP32",
        "shape": list(logits.shape),
    }
    values = {"model_name": manifest.name, "model_version": version, "outputs": [output]}
    if request.id is not None:
        values["id"] = request.id
    if not request.binary_output:
        output["data"] = logits.ravel().tolist()
        return json.dumps(values).encode(), {"Content-Type": "application/json"}
    content = logits.astype("<f4").tobytes()
    output["parameters"] = {"binary_data_size": len(content)}
    head = json.dumps(values).encode()
    return head + content, {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}


def _check_names(values: Mapping, tensor: Mapping, input_name: str, output_name: str) -> None:
    _refuse_unless(tensor["name"] == input_name, f"the input is named {input_name!r}, not {tensor['name']!r}")
    wanted = [output["name"] for output in values.get("outputs") or []]
    _refuse_unless(wanted in ([], [output_name]), f"the only output is {output_name!r}, asked were {wanted!r}")


def _tensor(tensor: Mapping, tail: memoryview) -> np.ndarray:
    """The array of an input; its shape is compared with what came before anything of that shape is made."""
    datatype, shape = tensor["datatype"], [whole(length) for length in tensor["shape"]]
    _refuse_unless(datatype in DATATYPES, f"the type {datatype!r} is none of {', '.join(DATATYPES)}")
    lengths = [length for length in shape if length is not None and length > 0]
    _refuse_unless(len(lengths) == len(shape) == 4, f"the shape {tensor['shape']!r} is not that of images"[:200])
    dtype, count = DATATYPES[datatype], math.prod(lengths)
    size = (tensor.get("parameters") or {}).get("binary_data_size")
    if size is None:
        _refuse_unless(not len(tail), "bytes follow the JSON that no input claims")
        flat = _listed(tensor["data"], count, dtype)
    else:
        needed = count * dtype.itemsize
        _refuse_unless(
            size == len(tail) == needed, f"the shape needs {needed} bytes, {size} are declared and {len(tail)} came"
        )
        flat = np.frombuffer(tail, dtype)
    return flat.reshape(lengths)


def _listed(data, count: int, dtype: np.dtype) -> np.ndarray:
    """The numbers of a JSON list, flat or nested as the shape is."""
    array = np.asarray(data)
    _refuse_unless(array.dtype.kind in "iuf", "the data are no numbers")
    _refuse_unless(array.size == count, f"the shape has {count} numbers, {array.size} came")
    if dtype == np.uint8:
        fits = array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255
        _refuse_unless(bool(fits), "pixels are whole numbers from 0 to 255")
    return array.astype(dtype).ravel()


def _wants_binary(values: Mapping) -> bool:
    """Whether the output goes out as bytes: what the output itself asks for, else what the request does."""
    everywhere = (values.get("parameters") or {}).get("binary_data_output", False)
    outputs = values.get("outputs") or [{}]
    return bool((outputs[0].get("parameters") or {}).get("binary_data", everywhere))


def _no_request(why: str) -> WorkbenchError:
    return WorkbenchError("This is no inference request for this model", why=why, remedy=_REMEDY)


def _refuse_unless(condition: bool, why: str) -> None:
    refuse_unless(condition, "This is no inference request for this model", why=why, remedy=_REMEDY)
