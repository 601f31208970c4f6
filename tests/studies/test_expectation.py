"""The seconds left that a study reports, on a clock that only its made-up work moves."""

import functools

import numpy as np
import pytest

import workbench as wb
from tests.tiny import CLASSES, SIZE, Tiny
from workbench.errors import Cancelled
from workbench.progress import Meter
from workbench.studies import runner
from workbench.studies.runner import Runner
from workbench.ui.job import Job

RECIPES = (wb.Recipe(), wb.Recipe("int8-dynamic"), wb.Recipe("w8", layout="cpu"), wb.Recipe("w4", layout="cpu"))
QUARTER, WITHIN = 0.25, 0.3


class Clock:
    """Seconds that pass when work is made up."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now

    def pass_by(self, seconds, progress, stage, parts=20):
        """Let seconds pass, with progress reported on the way."""
        for part in range(parts):
            progress(stage, part, parts)
            self.now += seconds / parts
        progress(stage, parts, parts)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("workbench.ui.job.time.monotonic", clock)
    return clock


@pytest.fixture
def make(tmp_path, monkeypatch, clock):
    """Makes a study whose engines take ``classify`` seconds by precision, and whose cells take ``time`` seconds."""
    tiny = Tiny.of()
    graph = tiny.graph(tmp_path)
    images = np.random.default_rng(1).normal(size=(60, SIZE, SIZE, 3)).astype(np.float32)
    labels = tiny.logits(images).argmax(axis=1) % CLASSES
    predictions, rounds = Runner._predictions, runner.interleaved_rounds
    monkeypatch.setattr("workbench.studies.study.Meter", functools.partial(Meter, clock=clock))
    monkeypatch.setattr("workbench.measuring.timing.WINDOW_S", 0.002)

    def make(classify, time, seconds):
        known = set()

        def classified(self, engine, host, progress, batch=32):
            recipe = engine.variant.recipe
            key = (recipe, batch if recipe.depends_on_batch else None)
            if key not in known:  # else an artefact holds them
                clock.pass_by(classify[recipe.precision], progress, "accuracy")
            known.add(key)
            return predictions(self, engine, host, lambda *now: None, batch)

        def timed(taken, open_session, *, seconds, progress):
            found = list(rounds(taken, open_session, seconds=0.02))
            clock.pass_by(time * len(taken), progress, "latency")
            return iter(found)

        monkeypatch.setattr(Runner, "_predictions", classified)
        monkeypatch.setattr(runner, "interleaved_rounds", timed)
        given = {"recipes": RECIPES, "images": images, "labels": labels}
        return wb.Study(graph, tmp_path / "workspace", batches=(1, 8), seconds=seconds, **given)

    return make


def left_by_time(study, clock, **given):
    """(seconds since the start, seconds left as a job says), for every report of a run; and how long it took."""
    found, begin = [], clock.now

    def work(progress):
        def report(*now):
            progress(*now)
            found.append((clock.now - begin, job.status().remaining_s))

        study.run(report, **given)

    job = Job(work)
    job._run()  # in this thread, as the clock is
    if job.error:
        raise job.error
    return found, clock.now - begin


EVEN = {"fp32": 20.0, "int8-dynamic": 20.0, "w8": 20.0, "w4": 20.0}
UNEVEN = {"fp32": 20.0, "int8-dynamic": 14.0, "w8": 22.0, "w4": 30.0}


@pytest.mark.parametrize(
    ("classify", "time", "seconds"),
    [(EVEN, 2.5, 2.0), (UNEVEN, 2.5, 2.0), (UNEVEN, 40.0, 30.0), ({name: 0.5 for name in EVEN}, 13.0, 10.0)],
    ids=["engines", "uneven engines", "engines and cells", "cells"],
)
def test_after_a_quarter_of_the_time_the_seconds_left_are_right_within_30_percent(
    make, clock, classify, time, seconds
):
    reports, total = left_by_time(make(classify, time, seconds), clock)
    later = [(now, left) for now, left in reports if QUARTER * total <= now < 0.95 * total and left is not None]
    assert len(later) > 20
    for now, left in later:
        assert left == pytest.approx(total - now, rel=WITHIN, abs=0.05 * total), f"{now:.0f} of {total:.0f} s"


def test_what_the_ledger_holds_already_is_not_waited_for(make, clock):
    study = make(EVEN, 2.5, 2.0)

    def stop(stage, done, total):
        if stage.startswith("batch 8"):
            raise Cancelled

    with pytest.raises(Cancelled):
        study.run(stop)
    reports, total = left_by_time(make({name: 0.0 for name in EVEN}, 2.5, 2.0), clock)
    assert total == pytest.approx(4 * 2.5)  # batch 8 alone
    last = [left for now, left in reports if now >= 0.5 * total and left is not None]
    assert max(last) <= 0.8 * total
