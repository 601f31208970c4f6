import dataclasses
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tests.tiny import CLASSES, SIZE, Tiny, some_images, variant_of
from workbench.backends import backend, build_engine, open_engine, open_streams
from workbench.digests import file_digest
from workbench.errors import WorkbenchError
from workbench.records import Batches, Recipe


@pytest.fixture
def tiny():
    return Tiny.of()


@pytest.fixture
def engine(tmp_path, tiny):
    return build_engine(variant_of(tiny.graph(tmp_path)), "onnxruntime", tmp_path / "workspace")


def refused(call, *words):
    """The error that a call raises, which must hold these words."""
    with pytest.raises(WorkbenchError) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_a_session_computes_what_the_graph_says_without_optimization_too(tmp_path, tiny):
    variant = variant_of(tiny.graph(tmp_path))
    engine = build_engine(variant, "onnxruntime", tmp_path / "w", options={"optimization": "none"})
    with open_engine(engine) as session:
        logits = session.run({"images": some_images(5)})["logits"]
    np.testing.assert_allclose(logits, tiny.logits(some_images(5)), atol=1e-5)


def test_an_engine_with_external_weights_stands_on_its_own(tmp_path, tiny):
    graph = tiny.graph(tmp_path, external=True)
    engine = build_engine(variant_of(graph), "onnxruntime", tmp_path / "workspace")
    graph.path.unlink()
    (tmp_path / "tiny.onnx.data").unlink()
    files = backend("onnxruntime").files(engine)
    assert [file.name for file in files] == ["model.onnx", "tiny.onnx.data"]
    assert all(file.is_file() and file.parent == engine.path.parent for file in files)
    onnx.load(engine.path)  # onnx refuses external weights that are linked
    with open_engine(engine) as session:
        logits = session.run({"images": some_images(2)})["logits"]
    np.testing.assert_allclose(logits, tiny.logits(some_images(2)), atol=1e-5)


def test_a_changed_file_leaves_the_variant_as_it_was_and_is_refused_without_checksums_too(engine):
    before = file_digest(engine.variant.path)
    engine.path.write_bytes(b"broken")
    assert file_digest(engine.variant.path) == before
    refused(lambda: open_engine(engine), "is not what was built", "build the engine again")
    old = dataclasses.replace(engine, checksums={})  # from a ledger of an earlier version
    refused(lambda: open_engine(old), "does not load", "export it again")


def test_the_log_lists_the_provider_of_each_node_and_the_record_the_version(engine):
    rows = json.loads(engine.log_path.read_text())
    assert {row["provider"] for row in rows} == {"CPUExecutionProvider"}
    assert "block00/mlp/fc1" in {row["name"] for row in rows}
    with open_engine(engine) as session:
        run = session.layers({"images": some_images(1)}, 1)
    assert [(row["name"], row["type"]) for row in rows] == [(row["name"], row["type"]) for row in run]
    assert engine.environment["onnxruntime"] == onnxruntime.__version__
    assert engine.environment["threads"] >= 1


def test_layers_name_their_nodes_and_add_up_to_less_than_a_call(tmp_path):
    tiny = Tiny.of(hidden=2048)
    engine = build_engine(variant_of(tiny.graph(tmp_path)), "onnxruntime", tmp_path / "w", options={"threads": 1})
    feeds = {"images": some_images(32)}
    with open_engine(engine) as session:
        rows, calls = session.layers(feeds), session.time(feeds, 20)
    assert [row["name"] for row in rows if row["type"] == "MatMul"] == ["block00/mlp/fc1", "head"]
    product = next(row["seconds"] for row in rows if row["name"] == "block00/mlp/fc1")
    assert 0 < product == max(row["seconds"] for row in rows)
    assert sum(row["seconds"] for row in rows) < 2 * max(calls)


def test_streams_share_one_copy_of_the_weights(tmp_path):
    weights = 4 * SIZE * SIZE * 3 * 80_000  # 61 MB: large beside what else a process takes meanwhile
    engine = build_engine(variant_of(Tiny.of(hidden=80_000).graph(tmp_path)), "onnxruntime", tmp_path / "w")
    feeds = {"images": some_images(1)}

    def memory_of(streams):
        sessions = open_streams(engine, streams)
        for session in sessions:
            session.run(feeds)
        taken = sessions[0].memory()
        sessions[0].close()
        return taken

    alone, together = memory_of(1), memory_of(6)
    assert alone >= weights
    assert together < alone + weights


def test_streams_answer_rightly_from_several_threads_at_once(engine, tiny):
    sessions = open_streams(engine, 4)
    batches = [some_images(3, seed=seed) for seed in range(4)]
    barrier = threading.Barrier(4)

    def work(session, images):
        barrier.wait()
        return [session.run({"images": images})["logits"] for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(work, sessions, batches))
    for images, repeated in zip(batches, answers):
        for logits in repeated:
            np.testing.assert_allclose(logits, tiny.logits(images), atol=1e-5)


def test_a_static_batch_takes_that_many_images_and_no_others(tmp_path, tiny):
    variant = variant_of(tiny.graph(tmp_path, batch=4))
    engine = build_engine(variant, "onnxruntime", tmp_path / "w")
    assert engine.batches == Batches(4, 4, 4)
    refused(
        lambda: build_engine(variant, "onnxruntime", tmp_path / "w", batches=Batches(1, 4, 8)), "static batch of 4"
    )
    with open_engine(engine) as session:
        assert session.run({"images": some_images(4)})["logits"].shape == (4, CLASSES)
        refused(lambda: session.run({"images": some_images(3)}), "wrong shape", "exactly that many")


def test_a_file_with_a_node_that_has_no_kernel_or_cut_off_is_refused_and_leaves_nothing(tmp_path, tiny):
    nodes = [
        helper.make_node("Cast", ["images"], ["half"], to=TensorProto.BFLOAT16),
        helper.make_node("MatMul", ["half", "half"], ["product"], "block00/mlp/fc1"),
        helper.make_node("Cast", ["product"], ["logits"], to=TensorProto.FLOAT),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 2]) for name in ("images", "logits")]
    model, graph = helper.make_graph(nodes, "bf16", tensors[:1], tensors[1:]), tiny.graph(tmp_path)
    whole = graph.path.read_bytes()
    opset = [helper.make_opsetid("", 20)]
    no_kernel = helper.make_model(model, opset_imports=opset, ir_version=10).SerializeToString()
    for content, word in ((no_kernel, "block00/mlp/fc1"), (whole[:2000], "no ONNX model")):
        graph.path.write_bytes(content)
        refused(lambda: build_engine(variant_of(graph), "onnxruntime", tmp_path / "w"), word)
        assert not list((tmp_path / "w" / "engines").iterdir())


#: What is asked for -> the changed arguments, and words of the error.
REFUSED = {
    "no runtime": ({}, "pip install onnxruntime"),
    "an unknown backend": ({"backend_name": "onnx-runtime"}, "did you mean 'onnxruntime'"),
    "a graph": ({"variant": "its graph"}, "given was Graph", "apply_recipe"),
    "a tuple of batches": ({"batches": (1, 8, 32)}, "Batches(1, 8, 32)"),
    "a card": ({"card": "T4"}, "T4", "tensorrt-rtx"),
    "a misspelled option": ({"options": {"thread": 2}}, "did you mean 'threads'"),
    "no thread": ({"options": {"threads": 0}}, "whole number of 1 or more"),
    "half a thread": ({"options": {"threads": 0.5}}, "whole number of 1 or more"),
    "a flag for a number": ({"options": {"inter_op": True}}, "whole number of 1 or more"),
    "some optimization": ({"options": {"optimization": "some"}}, "'all', 'none'"),
    "bf16": ({"recipe": Recipe("bf16")}, "emulated"),
    "fp8": ({"recipe": Recipe("fp8")}, "SM89"),
    "int8 for tensorrt": ({"recipe": Recipe("int8")}, "layout='cpu'"),
}


@pytest.mark.parametrize("asked", REFUSED)
def test_a_build_is_refused_with_a_remedy_when_asked_for(tmp_path, tiny, asked, monkeypatch):
    (changed, *words), graph = REFUSED[asked], tiny.graph(tmp_path)
    if asked == "no runtime":
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
    recipe, runtimes = (changed["recipe"], ("tensorrt-rtx",)) if "recipe" in changed else (None, ("onnxruntime",))
    variant = graph if "variant" in changed else variant_of(graph, recipe, runtimes=runtimes)
    arguments = {"backend_name": "onnxruntime", "workspace": tmp_path / "w"}
    arguments |= {name: value for name, value in changed.items() if name not in ("recipe", "variant")}
    refused(lambda: build_engine(variant, **arguments), *words)


def test_half_types_are_emulated_and_others_are_not(tmp_path, tiny):
    graph, runtime = tiny.graph(tmp_path), backend("onnxruntime")

    def emulated(**recipe):
        return runtime.emulated_types(variant_of(graph, Recipe(**recipe)))

    assert emulated(precision="fp16") == ("fp16",)
    assert emulated(precision="int8", layout="tensorrt") == ("fp16",)
    assert emulated(precision="int8", layout="cpu") == emulated(precision="int8-dynamic") == ()
