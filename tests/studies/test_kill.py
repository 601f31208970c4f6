"""A process that runs a study is killed; what it had measured stays, and the next run does the rest."""

import collections
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.studies.kill import study
from workbench.records import Measurement
from workbench.studies.plan import MEASUREMENT

ROOT = Path(__file__).parents[2]
SCRIPT = "tests.studies.kill"


def start(folder, *arguments):
    return subprocess.Popen([sys.executable, "-m", SCRIPT, str(folder), *map(str, arguments)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def measured(folder):
    return study(folder).workspace.observations(MEASUREMENT, Measurement)


def finish(folder):
    """Run what is missing in this process; every cell must then have exactly one measurement."""
    frame = study(folder).run().frame()
    assert set(frame.execution) == {"executed"}
    cells = collections.Counter((m.recipe.label, m.batch) for m in measured(folder))
    assert set(cells.values()) == {1}
    assert len(cells) == 4


def test_a_killed_study_goes_on_where_it_was(tmp_path):
    process = start(tmp_path, 20)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    finish(tmp_path)


@pytest.mark.slow
def test_a_study_killed_at_every_step_loses_nothing_that_was_measured(tmp_path):
    before, survived, call = 0, 0, 0
    while not survived:
        process = start(tmp_path, call)
        process.communicate(timeout=120)
        survived = process.returncode == 0
        assert survived or process.returncode == -signal.SIGKILL
        now = len(measured(tmp_path))
        assert now >= before
        before, call = now, call + 1
    finish(tmp_path)


@pytest.mark.slow
def test_a_study_killed_at_random_moments_loses_nothing_that_was_measured(tmp_path):
    rng, before = random.Random(0), 0
    for _ in range(15):
        process = start(tmp_path)
        process.stdout.readline()  # it has begun
        time.sleep(rng.uniform(0, 1.5))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=120)
        now = len(measured(tmp_path))
        assert now >= before
        before = now
    finish(tmp_path)
