import json
import time

import numpy as np
import pytest

from tests.tiny import CLASSES, SIZE, some_images
from workbench.deployment.manifest import read_manifest
from workbench.deployment.open_inference import HEADER_LENGTH, model_metadata, read_request, write_response
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module")
def manifest(packed):
    return read_manifest(packed)


def tensor(images, **changes):
    datatype = {"float32": "FP32", "uint8": "UINT8"}[str(images.dtype)]
    return {"name": "images", "datatype": datatype, "shape": list(images.shape), **changes}


def as_json(images, **changes):
    return json.dumps({"inputs": [tensor(images, data=images.tolist())], **changes}).encode()


def as_binary(images, **changes):
    content = images.tobytes()
    head = json.dumps(
        {"inputs": [tensor(images, parameters={"binary_data_size": len(content)})], **changes}
    ).encode()
    return head + content, str(len(head))


PIXELS = np.arange(2 * SIZE * SIZE * 3, dtype=np.uint8).reshape(2, SIZE, SIZE, 3)


@pytest.mark.parametrize("images", [some_images(2), PIXELS], ids=["FP32", "UINT8"])
def test_json_nested_json_flat_and_binary_mean_the_same(images, manifest):
    flat = json.dumps({"inputs": [tensor(images, data=images.ravel().tolist())]}).encode()
    for body, length in ((as_json(images), None), (flat, None), as_binary(images)):
        found = read_request(body, length, manifest).images
        assert found.dtype == images.dtype
        assert np.array_equal(found, images)


def test_an_answer_is_json_or_binary_as_it_was_asked(manifest):
    logits = np.random.default_rng(0).normal(size=(2, CLASSES)).astype(np.float32)
    plain = read_request(as_json(some_images(2), id="a7"), None, manifest)
    body, headers = write_response(logits, plain, manifest, "1")
    values = json.loads(body)
    assert (values["id"], values["model_name"], values["model_version"]) == ("a7", "tiny", "1")
    (output,) = values["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", [2, CLASSES])
    assert np.array_equal(np.float32(output["data"]), logits.ravel())
    for asked in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "logits", "parameters": {"binary_data": True}}]},
    ):
        body, headers = write_response(
            logits, read_request(as_json(some_images(2), **asked), None, manifest), manifest, "1"
        )
        head = int(headers[HEADER_LENGTH])
        assert json.loads(body[:head])["outputs"][0]["parameters"] == {"binary_data_size": logits.nbytes}
        assert body[head:] == logits.tobytes()


def test_the_metadata_names_what_a_client_must_send(manifest):
    values = model_metadata(manifest, "1")
    assert values["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, SIZE, SIZE, 3]}]
    assert values["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, CLASSES]}]


GOOD = tensor(PIXELS, data=PIXELS.tolist())


@pytest.mark.parametrize(
    "values",
    [[], {}, {"inputs": []}, {"inputs": [GOOD, GOOD]}, {"inputs": 5}, {"inputs": [GOOD], "id": 5},
     {"inputs": [{**GOOD, "name": "pixels"}]}, {"inputs": [{**GOOD, "datatype": "BYTES"}]},
     {"inputs": [{**GOOD, "datatype": []}]}, {"inputs": [{**GOOD, "shape": [10**18, 8, 8, 3]}]},
     {"inputs": [{**GOOD, "shape": [-1, 8, 8, 3]}]}, {"inputs": [{**GOOD, "shape": [0, 8, 8, 3]}]},
     {"inputs": [{**GOOD, "shape": [384]}]}, {"inputs": [{**GOOD, "shape": "2883"}]},
     {"inputs": [{**GOOD, "data": [256] * 384}]}, {"inputs": [{**GOOD, "data": [-1] * 384}]},
     {"inputs": [{**GOOD, "data": [0.5] * 384}]}, {"inputs": [{**GOOD, "data": ["1"] * 384}]},
     {"inputs": [{**GOOD, "data": [[1], [2, 3]]}]}, {"inputs": [{**GOOD, "data": [10**400] * 384}]},
     {"inputs": [{**GOOD, "data": [True] * 384}]}, {"inputs": [{**GOOD, "data": None}]},
     {"inputs": [{**GOOD, "parameters": {"binary_data_size": 384}}]},
     {"inputs": [GOOD], "outputs": [{"name": "probabilities"}]}, {"inputs": [GOOD], "outputs": [5]}],
)  # fmt: skip
def test_what_is_no_request_for_this_model_is_refused(values, manifest):
    with pytest.raises(WorkbenchError, match="no inference request"):
        read_request(json.dumps(values).encode(), None, manifest)


@pytest.mark.parametrize("length", ["-1", "x", "", "99999999", "1e3"])
def test_a_wrong_length_of_the_json_is_refused(length, manifest):
    with pytest.raises(WorkbenchError, match="no inference request"):
        read_request(as_binary(PIXELS)[0], length, manifest)


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_a_fuzzed_request_is_read_or_refused_and_nothing_else(seconds, manifest):
    rng, seeds = np.random.default_rng(0), [(as_json(PIXELS), None), as_binary(PIXELS), as_binary(some_images(1))]
    begin, refused = time.monotonic(), 0
    while time.monotonic() < begin + seconds:
        body, length = seeds[rng.integers(len(seeds))]
        content = bytearray(body)
        for _ in range(rng.integers(1, 6)):
            place = int(rng.integers(len(content) if rng.random() < 0.3 else min(150, len(content))))
            kind = rng.integers(4)
            if kind == 0:
                content[place] = rng.integers(256)
            elif kind == 1:
                del content[place : place + int(rng.integers(20))]
            elif kind == 2:
                content[place:place] = content[: int(rng.integers(20))]
            else:
                content[place:place] = rng.choice([b"9" * 20, b"[[[[", b"null", b"1e999", b"-", b'"', b"NaN"])
        try:
            found = read_request(bytes(content), length, manifest).images
            assert found.ndim == 4
        except WorkbenchError:
            refused += 1
    assert refused > 0
