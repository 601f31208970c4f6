"""What every backend promises, asked of each one that is present on this machine.

A backend that can build here but not run (TensorRT for RTX without a GPU) keeps the promises about building, and
refuses to open an engine with a reason and a remedy instead of failing somewhere inside.
"""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest

from tests.tiny import CLASSES, SIZE, Tiny, some_images, variant_of
from workbench.backends import REGISTRY, backend, build_engine, open_engine, open_streams, refused_nodes
from workbench.backends.base import Backend, Session
from workbench.backends.hardware.kernels import MULTIPLIED
from workbench.errors import Cancelled, WorkbenchError
from workbench.records import Batches, Engine, Graph
from workbench.workspace import Workspace

#: A card for backends that need one where there is no GPU.
CARDS = {"tensorrt-rtx": "SM86"}


def present(name: str) -> Backend:
    runtime = backend(name)
    if refusal := runtime.missing():
        pytest.skip(f"{refusal.reason}. Remedy: {refusal.remedy}")
    return runtime


@pytest.fixture(scope="module", params=sorted(REGISTRY))
def built(request, tmp_path_factory):
    """An engine for batches of 1 to 4, and the workspace it was built in."""
    present(request.param)
    folder = tmp_path_factory.mktemp("contract")
    workspace = Workspace(folder / "workspace")
    stages = []
    engine = build_engine(
        variant_of(Tiny.of().graph(folder), runtimes=tuple(REGISTRY)),
        request.param,
        workspace,
        batches=Batches(1, 2, 4),
        card=CARDS.get(request.param),
        progress=lambda *call: stages.append(call),
    )
    return engine, workspace, stages


@pytest.fixture
def sessions(built):
    """Two streams of the engine, or a skip where this machine builds without running."""
    engine = built[0]
    try:
        opened = open_streams(engine, 2)
    except WorkbenchError as error:
        pytest.skip(f"{engine.backend} builds here without running: {error.why}. Remedy: {error.remedy}")
    yield opened
    for session in reversed(opened):
        session.close()


@pytest.fixture(params=sorted(REGISTRY))
def refusing(request, tmp_path):
    """The name of a backend, a graph, and a call that must refuse to build; nothing is left behind."""
    present(request.param)
    workspace = Workspace(tmp_path / "workspace")

    def build(variant, error=WorkbenchError, match=None, **arguments):
        with pytest.raises(error, match=match):
            build_engine(variant, request.param, workspace, **{"card": CARDS.get(request.param), **arguments})

    yield request.param, Tiny.of().graph(tmp_path), build
    assert not list(workspace.path.glob("engines/*"))
    assert workspace.observations("engine", Engine) == []


def test_a_build_is_files_in_a_folder_of_their_own_and_a_row_in_the_ledger(built):
    engine, workspace, stages = built
    folder = workspace.path / "engines" / engine.run_id
    files = {engine.log_path, *backend(engine.backend).files(engine)}
    assert all(file.is_file() and file.is_relative_to(folder) for file in files)
    assert engine.path in files
    assert workspace.observations("engine", Engine, engine.variant.digest) == [engine]
    assert engine.build_seconds > 0
    assert {"cpu", "python", "time"} <= set(engine.environment)
    assert stages
    assert all(stage and 0 <= done <= total for stage, done, total in stages)


def test_a_cancelled_build_leaves_nothing_behind(refusing):
    _, graph, build = refusing

    def cancel(stage, done, total):
        raise Cancelled

    build(variant_of(graph, runtimes=tuple(REGISTRY)), Cancelled, progress=cancel)


@pytest.mark.parametrize("content", [b"", b"no model", None], ids=["empty", "text", "deleted"])
def test_a_file_that_is_no_model_is_refused(refusing, content):
    _, graph, build = refusing
    graph.path.unlink()
    if content is not None:
        graph.path.write_bytes(content)
    build(variant_of(graph, runtimes=tuple(REGISTRY)))


def test_a_variant_for_other_runtimes_an_unknown_option_and_an_unknown_card_are_refused(refusing):
    _, graph, build = refusing
    ours = variant_of(graph, runtimes=tuple(REGISTRY))
    build(variant_of(graph, runtimes=("another",)), match="another")
    build(ours, match="Unknown option", options={"magic": 1})
    build(ours, match="Voodoo 2", card="Voodoo 2")


def test_a_variant_whose_bytes_were_changed_is_not_built(refusing, tmp_path):
    build, workspace = refusing[2], Workspace(tmp_path / "made")
    made = workspace.artefact("graph", Graph, 1, lambda folder, key: Tiny.of().graph(folder))
    made.path.write_bytes(made.path.read_bytes()[:-100] + bytes(100))
    build(variant_of(made, runtimes=tuple(REGISTRY)), match="not what was written")


def test_an_engine_whose_bytes_were_changed_is_not_opened(built, tmp_path):
    engine = built[0]
    shutil.copytree(engine.path.parent, tmp_path, dirs_exist_ok=True)
    copy = dataclasses.replace(engine, path=tmp_path / engine.path.name)
    content = bytearray(copy.path.read_bytes())
    content[len(content) // 2] ^= 1
    copy.path.write_bytes(content)
    with pytest.raises(WorkbenchError, match="not what was built"):
        open_engine(copy)


def test_an_engine_opens_or_is_refused_with_a_remedy_and_never_without_a_stream(built):
    engine, refusal = built[0], None
    with pytest.raises(WorkbenchError, match="without a stream"):
        open_streams(engine, 0)
    try:
        with open_engine(engine) as session:
            assert isinstance(session, Session)
    except WorkbenchError as error:
        refusal = error
    if refusal:
        assert backend(engine.backend).isolated  # a runtime on the CPU has no excuse
        assert refusal.why
        assert refusal.remedy


def test_a_session_answers_every_batch_size_it_was_built_for(sessions):
    for count in (1, 2, 3, 4):
        images = some_images(count)
        outputs = sessions[0].run({"images": images})
        assert set(outputs) == {"logits"}
        assert outputs["logits"].shape == (count, CLASSES)
        np.testing.assert_allclose(outputs["logits"], Tiny.of().logits(images), atol=1e-2)


def test_a_session_times_every_call_that_it_was_asked_for(sessions):
    times = sessions[0].time({"images": some_images(2)}, 7)
    assert len(times) == 7
    assert all(0 < seconds < 10 for seconds in times)
    on_device = sessions[0].device_time({"images": some_images(2)}, 5)
    assert on_device is None or (len(on_device) == 5 and min(on_device) > 0)


def test_rows_of_layers_have_a_name_a_type_and_seconds(sessions):
    rows = sessions[0].layers({"images": some_images(2)})
    assert rows is None or (rows and all({"name", "type", "seconds"} <= set(row) for row in rows))


def test_rows_of_kernels_say_what_multiplies_in_which_type_and_a_cpu_has_none(sessions):
    rows = sessions[0].kernels({"images": some_images(2)})
    if rows is None:
        return
    assert all({"name", "seconds", "type", "attention", "grid"} == set(row) and row["seconds"] > 0 for row in rows)
    assert any(row["type"] in MULTIPLIED for row in rows)


def test_memory_covers_the_weights(sessions):
    sessions[0].run({"images": some_images(4)})
    tiny = Tiny.of()
    assert sessions[0].memory() >= tiny.first.nbytes + tiny.second.nbytes


def test_streams_answer_alike(sessions):
    images = some_images(3)
    first, second = (session.run({"images": images})["logits"] for session in sessions)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, "takes ['images']"),
        ({"pixels": some_images(1)}, "given were ['pixels']"),
        ({"images": some_images(1).astype(np.float64)}, "float64"),
        ({"images": (some_images(1) * 50).astype(np.uint8)}, "normalise"),
        ({"images": some_images(1)[0]}, "wrong shape"),
        ({"images": some_images(1)[:, :4]}, f"(any, {SIZE}, {SIZE}, 3)"),
        ({"images": some_images(0)}, "wrong shape"),
        ({"images": some_images(2) * np.float32(np.nan)}, "NaN"),
        ({"images": some_images(1).tolist()}, "list"),
    ],
)
def test_feeds_that_do_not_fit_are_refused_by_name(sessions, feeds, words):
    for call in (sessions[0].run, lambda feeds: sessions[0].time(feeds, 1), sessions[0].layers):
        with pytest.raises(WorkbenchError) as error:
            call(feeds)
        assert words in str(error.value)


def test_closing_the_first_stream_closes_what_all_share_and_may_be_repeated(sessions):
    first, second = sessions
    second.close()
    first.run({"images": some_images(1)})
    first.close()
    first.close()
    for session in sessions:
        with pytest.raises(WorkbenchError, match="session is closed"):
            session.run({"images": some_images(1)})


def test_a_runtime_refuses_no_node_of_a_good_file_and_a_bad_file_with_a_remedy(refusing):
    name, graph, _ = refusing
    assert refused_nodes(name, graph.path) == ()
    graph.path.write_bytes(b"no model")
    (refusal,) = refused_nodes(name, graph.path)
    assert refusal.node == ""
    assert refusal.reason
    assert refusal.remedy


def test_many_batches_are_answered_in_their_order_as_single_ones_are(sessions):
    session = sessions[0]
    given = [{"images": some_images(count, seed=count)} for count in (2, 4, 1, 2, 3)]
    alone = [session.run(feeds)["logits"] for feeds in given]
    for one, other in zip(alone, session.run_all(iter(given)), strict=True):
        np.testing.assert_array_equal(other["logits"], one)


def test_compute_counts_every_call_or_says_that_nothing_is_copied(sessions):
    more = iter([True] * 3)
    moments = sessions[0].compute({"images": some_images(2)}, lambda: next(more, False))
    assert moments is None or (len(moments) == 1 + 3 and moments == sorted(moments))
