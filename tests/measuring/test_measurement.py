import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.tiny import CLASSES, SIZE, Tiny, some_images, variant_of
from workbench.backends import build_engine, open_engine
from workbench.backends.base import Session
from workbench.backends.hardware.load import Load, Watch
from workbench.datasets import normalise
from workbench.errors import Cancelled, WorkbenchError
from workbench.measuring import (
    Subject,
    measure,
    measure_interleaved,
    measure_session,
    measurement,
    reference,
    timing,
)
from workbench.records import Batches, Graph, Measurement, Recipe
from workbench.statistics.compare import compare
from workbench.workspace import Workspace

QUICK = dict(seconds=0.01)


@pytest.fixture
def tiny():
    return Tiny.of()


@pytest.fixture
def engine(tmp_path, tiny):
    return engine_of(tmp_path, tiny.graph(tmp_path))


def engine_of(folder, graph, recipe=None, **arguments):
    return build_engine(variant_of(graph, recipe), "onnxruntime", folder / "workspace", **arguments)


@pytest.fixture
def labels(tiny):
    """What the model answers to 21 images, but for every seventh of them: a top-1 of 18 in 21."""
    answers = tiny.logits(some_images(21)).argmax(axis=1)
    answers[::7] = (answers[::7] + 1) % CLASSES
    return answers


def test_accuracy_is_what_numpy_finds_and_without_seconds_it_is_measured_alone(engine, tiny, labels):
    found = measure(engine, images=some_images(21), labels=labels, batch=8, seconds=0)
    assert found.top1 == 18 / 21
    assert found.agreement == 1
    assert found.reference_top1 == 18 / 21
    assert found.predictions == tuple(tiny.logits(some_images(21)).argmax(axis=1))
    order = np.argsort(-tiny.logits(some_images(21)), axis=1)[:, :5]
    assert found.top5 == np.mean([label in five for label, five in zip(labels, order)])
    assert found.latencies_s == ()
    assert math.isnan(found.p50_ms)
    assert math.isnan(found.images_per_second)


def test_latencies_are_raw_positive_and_of_the_batch_asked_for_with_the_environment_beside_them(engine):
    found = measure(engine, images=some_images(4), batch=3, **QUICK)
    assert len(found.latencies_s) >= 10
    assert min(found.latencies_s) > 0
    assert found.batch == 3
    assert found.warmup_calls > 0
    assert found.p50_ms <= found.p90_ms <= found.p99_ms
    assert sum(found.end_to_end.calls) == len(found.latencies_s)
    assert found.images_per_second <= 3 * len(found.latencies_s) / sum(found.latencies_s)
    facts = {"cpu", "cores", "threads", "load_average", "onnxruntime", "numpy", "python", "time"}
    assert facts <= set(found.environment)


def test_memory_and_size_cover_the_weights(tmp_path):
    tiny = Tiny.of(hidden=20_000)
    weights = tiny.first.nbytes + tiny.second.nbytes
    found = measure(engine_of(tmp_path, tiny.graph(tmp_path)), **QUICK)
    assert weights < found.engine_bytes < 1.01 * weights
    assert weights < found.memory_bytes < 20 * weights


def test_a_measurement_survives_the_ledger(engine, labels, tmp_path):
    found = measure(engine, images=some_images(21), labels=labels, batch=8, **QUICK)
    workspace = Workspace(tmp_path / "ledger")
    workspace.append("measurement", "key", found)
    assert workspace.observations("measurement", Measurement) == [found]


def test_without_labels_accuracy_is_unknown_and_without_images_the_engine_is_timed_alone(engine):
    unlabelled = measure(engine, images=some_images(5), batch=2, seconds=0)
    assert math.isnan(unlabelled.top1)
    assert math.isnan(unlabelled.top5)
    assert unlabelled.agreement == 1
    timed = measure(engine, **QUICK)
    assert timed.batch == engine.batches.opt
    assert timed.latencies_s
    assert timed.images == 0
    assert math.isnan(timed.agreement)


def test_every_image_counts_in_a_short_last_batch_and_in_one_shorter_than_the_batch(tmp_path, tiny, engine, labels):
    (tmp_path / "static").mkdir()
    static = engine_of(tmp_path, tiny.graph(tmp_path / "static", batch=8))
    found = measure(static, images=some_images(21), labels=labels, batch=8, seconds=0)
    assert (found.images, found.top1) == (21, 18 / 21)
    few = measure(engine, images=some_images(3), labels=labels[:3], batch=16, **QUICK)
    assert few.images == 3
    assert few.latencies_s


def test_a_graph_with_channels_first_is_fed_its_own_layout(tmp_path, tiny, labels):
    engine = engine_of(tmp_path, tiny.graph(tmp_path, layout="NCHW"))
    first = some_images(21).transpose(0, 3, 1, 2)  # a view is measured like its copy
    for images in (some_images(21), first, np.ascontiguousarray(first)):
        found = measure(engine, images=images, labels=labels, batch=8, seconds=0)
        assert found.top1 == 18 / 21
        assert found.agreement == 1


# ---- references ------------------------------------------------------------------------------------------------


def test_the_default_reference_is_the_graph_and_not_the_variant(tmp_path, tiny):
    (tmp_path / "other").mkdir()
    other = Tiny.of(seed=5)
    disagreeing = other.graph(tmp_path / "other")
    variant = variant_of(tiny.graph(tmp_path), Recipe("int8-dynamic"))
    variant = type(variant)(**{**vars(variant), "path": disagreeing.path})
    engine = build_engine(variant, "onnxruntime", tmp_path / "w")
    images = some_images(30)
    same = tiny.logits(images).argmax(axis=1) == other.logits(images).argmax(axis=1)
    assert 0 < same.mean() < 1
    found = measure(engine, images=images, batch=8, seconds=0)
    assert found.agreement == same.mean()
    assert found.reference == "fp32 on onnxruntime"


def test_a_reference_may_be_an_engine_a_session_logits_or_classes(engine, tiny):
    images = some_images(10)
    logits = tiny.logits(images)
    half = logits.argmax(axis=1)
    half[5:] = (half[5:] + 1) % CLASSES

    def agreement(reference):
        return measure(engine, images=images, batch=4, reference=reference, seconds=0).agreement

    assert agreement(engine) == agreement(logits) == agreement(logits.argmax(axis=1)) == 1
    assert agreement(half) == agreement(half.tolist()) == 0.5
    with open_engine(engine) as session:
        assert agreement(session) == 1


def test_a_reference_whose_file_was_changed_is_refused(tmp_path, tiny):
    workspace = Workspace(tmp_path / "w")
    graph = workspace.artefact("graph", Graph, 1, lambda folder, key: tiny.graph(folder))
    engine = engine_of(tmp_path, graph)
    graph.path.write_bytes(graph.path.read_bytes()[:-50] + bytes(50))
    with pytest.raises(WorkbenchError, match="not what was written"):
        measure(engine, images=some_images(4), seconds=0)


def test_the_answers_of_the_fp32_graph_are_computed_once_for_the_same_images(engine, monkeypatch):
    measure(engine, images=some_images(6), batch=2, seconds=0)
    monkeypatch.setattr(reference, "open_engine", lambda engine: pytest.fail("the reference ran again"))
    measure(engine, images=some_images(6), batch=2, seconds=0)
    with pytest.raises(pytest.fail.Exception):
        measure(engine, images=some_images(6, seed=9), batch=2, seconds=0)


# ---- bad input -------------------------------------------------------------------------------------------------


def with_nan(images):
    images[3, 0, 0, 0] = np.nan
    return images


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(images=some_images(9)[:, :4]), "do not fit tiny"),
        (dict(images=some_images(9)[0]), "do not fit tiny"),
        (dict(images=some_images(9).transpose(0, 3, 1, 2)), "channels come last"),
        (dict(images=(some_images(9) * 50).astype(np.uint8)), "workbench.normalise"),
        (dict(images=some_images(9).astype(np.float64)), "float32 array"),
        (dict(images=some_images(9).tolist()), "float32 array"),
        (dict(images=with_nan(some_images(9))), "first image 3"),
        (dict(images=some_images(0)), "zero rows"),
        (dict(images=some_images(9), labels=np.zeros(8, int)), "one whole number per image"),
        (dict(images=some_images(9), labels=np.zeros((9, 1), int)), "one whole number per image"),
        (dict(images=some_images(9), labels=np.zeros(9)), "one whole number per image"),
        (dict(images=some_images(9), labels=["cat"] * 9), "one whole number per image"),
        (dict(images=some_images(9), labels=np.full(9, CLASSES)), f"{CLASSES} classes"),
        (dict(images=some_images(9), labels=np.full(9, -1)), f"{CLASSES} classes"),
        (dict(images=some_images(9), batch=33), "takes 1 to 32"),
        (dict(images=some_images(9), batch=0), "positive whole number"),
        (dict(images=some_images(9), batch=2.0), "positive whole number"),
        (dict(labels=np.zeros(9, int)), "needs images"),
        (dict(reference=np.zeros(9, int)), "needs images"),
        (dict(images=some_images(9), reference=np.zeros(8, int)), "reference does not fit"),
        (dict(images=some_images(9), reference=np.zeros((9, 2), int)), "reference does not fit"),
        (dict(images=some_images(9), reference=np.zeros(9)), "reference does not fit"),
        (dict(images=some_images(9), reference=np.zeros((8, CLASSES))), "reference does not fit"),
        (dict(images=some_images(9), reference=np.full((9, CLASSES), np.nan)), "image 0 are NaN"),
        (dict(images=some_images(9), reference="x"), "reference does not fit"),
        (dict(seconds=0), "nothing to measure"),
        (dict(images=some_images(9), seconds=-1), "number of seconds"),
        (dict(images=some_images(9), seconds=float("nan")), "number of seconds"),
        (dict(images=some_images(9), seconds="2"), "number of seconds"),
    ],
)
def test_bad_input_is_refused_before_any_work(engine, arguments, words, monkeypatch):
    monkeypatch.setattr("workbench.measuring.measurement.open_engine", lambda engine: pytest.fail("work was done"))
    with pytest.raises(WorkbenchError, match=words):
        measure(engine, **{"batch": 8, **arguments})


def test_a_batch_below_the_smallest_no_engine_and_an_engine_without_its_file_are_refused(tmp_path, tiny, engine):
    with pytest.raises(WorkbenchError, match="takes 4 to 16"):
        measure(engine_of(tmp_path, tiny.graph(tmp_path), batches=Batches(4, 8, 16)), some_images(9), batch=2)
    with pytest.raises(WorkbenchError, match="given was Variant"):
        measure(engine.variant, images=some_images(4))
    engine.path.unlink()
    with pytest.raises(WorkbenchError, match="build the engine again"):
        measure(engine, images=some_images(4))


def test_an_engine_that_answers_nan_is_an_error(tmp_path, tiny):
    overflowing = Tiny(tiny.first * np.float32(1e30), tiny.second * np.float32(1e30))
    with pytest.raises(WorkbenchError, match="NaN or infinite"):
        measure(engine_of(tmp_path, overflowing.graph(tmp_path)), images=some_images(4), batch=4, seconds=0)


def test_a_cancelled_measurement_closes_its_session(engine, monkeypatch):
    opened = []

    def remember(engine):
        opened.append(open_engine(engine))
        return opened[-1]

    def cancel(stage, done, total):
        raise Cancelled

    monkeypatch.setattr("workbench.measuring.measurement.open_engine", remember)
    with pytest.raises(Cancelled):
        measure(engine, images=some_images(4), batch=4, seconds=0, progress=cancel)
    with pytest.raises(WorkbenchError, match="closed"):
        opened[0].run({"images": some_images(4)})


# ---- what a reader must know -------------------------------------------------------------------------------------


def test_half_precision_on_the_cpu_is_labelled_as_emulated_and_fp32_as_executed(tmp_path, tiny):
    graph = tiny.graph(tmp_path)
    rounded = Tiny.of(seed=1)  # another model, so that its predictions show which file was measured
    (tmp_path / "emulation").mkdir()
    variant = replace(variant_of(graph, Recipe("fp16")), emulation=rounded.graph(tmp_path / "emulation").path)
    engine = build_engine(variant, "onnxruntime", tmp_path / "workspace")
    found = measure(engine, images=some_images(21), batch=4, seconds=0)
    assert found.execution == "emulated"
    assert found.predictions == tuple(rounded.logits(some_images(21)).argmax(axis=1))
    assert found.predictions != tuple(tiny.logits(some_images(21)).argmax(axis=1))
    assert any("fp16" in note and "latency is not" in note for note in found.notes)
    assert measure(engine_of(tmp_path, tiny.graph(tmp_path)), **QUICK).execution == "executed"


def test_an_answer_that_does_not_depend_on_the_image_is_noted_and_equal_images_are_not(tmp_path):
    tiny = Tiny.of()
    blind = Tiny(tiny.first, 0 * tiny.second)
    engine = engine_of(tmp_path, blind.graph(tmp_path))
    found = measure(engine, images=some_images(9), batch=4, seconds=0)
    assert found.agreement == 1
    assert any("does not depend on the image" in note for note in found.notes)
    same = measure(engine, images=np.repeat(some_images(1), 9, axis=0), batch=4, seconds=0)
    assert not any("does not depend" in note for note in same.notes)


def test_images_of_another_scale_are_noted_with_the_scale_by_name(tmp_path, tiny):
    graph = tiny.graph(tmp_path)
    graph = replace(graph, preprocessing=replace(graph.preprocessing, mean=(0.5,) * 3, std=(0.5,) * 3))
    pixels = np.random.default_rng(0).integers(0, 256, (9, SIZE, SIZE, 3)).astype(np.uint8)
    found = measure(engine_of(tmp_path, graph), images=normalise(pixels, graph.preprocessing), batch=4, seconds=0)
    (note,) = (note for note in found.notes if "0…1 scale" in note)
    assert "mean (127.5, 127.5, 127.5), std (127.5, 127.5, 127.5)" in note
    assert "their mean probability is" in note
    usual = measure(engine_of(tmp_path, graph), images=some_images(9), batch=4, seconds=0)
    assert usual.notes == ()


def test_half_precision_without_a_file_that_rounds_is_timed_and_its_accuracy_refused(tmp_path, tiny):
    engine = engine_of(tmp_path, tiny.graph(tmp_path), Recipe("fp16"))
    assert measure(engine, **QUICK).execution == "emulated"
    with pytest.raises(WorkbenchError, match=r"computes fp16 in float32(.|\n)*apply_recipe"):
        measure(engine, images=some_images(4), batch=4, seconds=0)


class Baseline(Session):
    """NumPy as a session, as JAX and torch are."""

    environment = {"numpy threads": 1}  # noqa: RUF012

    def __init__(self, tiny):
        self.tiny = tiny

    def run(self, feeds):
        return {"logits": self.tiny.logits(feeds["images"])}

    def time(self, feeds, repeats):
        return [0.05] * repeats

    def memory(self):
        return 123


def test_a_session_without_an_engine_is_measured_alike(tiny, labels):
    subject = Subject("numpy", "tiny", SIZE, CLASSES)
    found = measure_session(Baseline(tiny), subject, images=some_images(21), labels=labels, batch=8, **QUICK)
    assert (found.backend, found.model, found.memory_bytes) == ("numpy", "tiny", 123)
    assert found.top1 == 18 / 21
    assert math.isnan(found.agreement)
    assert found.p50_ms == pytest.approx(50)
    assert found.environment["numpy threads"] == 1


def test_two_engines_or_more_are_interleaved_and_measured_on_the_same_images(tmp_path, tiny, labels):
    engines = [engine_of(tmp_path, tiny.graph(tmp_path)) for _ in range(2)]
    first, second = measure_interleaved(engines, images=some_images(21), labels=labels, batch=8, **QUICK)
    assert first.environment["interleaved"] == second.environment["interleaved"]
    assert min(len(first.latencies_s), len(second.latencies_s)) >= 10
    assert first.top1 == second.top1 == 18 / 21
    assert first.memory_bytes > 0
    assert first.run_id != second.run_id
    with pytest.raises(WorkbenchError, match="there are 1 engines"):
        measure_interleaved(engines[:1], images=some_images(4))


def test_a_busy_machine_is_noted_in_the_measurement_and_in_its_comparison(tmp_path, tiny, monkeypatch):
    @contextlib.contextmanager
    def watched():
        watch = Watch()
        yield watch
        watch.load = Load(2, others=1.5, stolen=0.0, clock=1.0)

    engines = [engine_of(tmp_path, tiny.graph(tmp_path)) for _ in range(2)]
    monkeypatch.setattr(timing, "watched", watched)
    monkeypatch.setattr(measurement, "watched", watched)
    alone = measure(engines[0], **QUICK)
    pair = measure_interleaved(engines, **QUICK)
    for found in (alone, *pair):
        assert any("1.5 of 2 cores" in note for note in found.notes)
        assert found.environment["other_cores"] == 1.5
    assert sum("1.5 of 2 cores" in note for note in compare(*pair).notes) == 1
