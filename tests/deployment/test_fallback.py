import threading
import time

import numpy as np
import pytest

from workbench.deployment.engine_process import EngineFailed
from workbench.deployment.fallback import ENGINE, NAN, ORIGINAL, Fallback, GoldenCheck, Watch

IMAGES = np.arange(12, dtype=np.float32).reshape(4, 1, 1, 3)
LOGITS = np.arange(8, dtype=np.float32).reshape(4, 2)


class Process:
    """An engine's process as a test wants it to behave; it answers golden images rightly and others with ones."""

    pid = 7

    def __init__(self):
        self.fails, self.answer, self.golden = False, np.ones(2, np.float32), LOGITS
        self.is_closed = self.is_killed = False

    def run(self, stream, images, limit_s):
        if self.fails or self.is_killed:
            raise EngineFailed("The engine's process ended", why="by a test", remedy="none")
        if images.shape == IMAGES.shape and np.array_equal(images, IMAGES):
            return self.golden
        return np.repeat(self.answer[None], len(images), axis=0)

    def kill(self):
        self.is_killed = True

    def close(self):
        self.is_closed = True


def original(images):
    return np.where(np.isinf(images).any(), np.nan, np.zeros((len(images), 2), np.float32))


class Starts:
    """Starts the given processes one after the other, an error where one is given."""

    def __init__(self, *processes):
        self.left, self.count = list(processes), 0

    def __call__(self):
        self.count += 1
        process = self.left.pop(0)
        if isinstance(process, Exception):
            raise process
        return process


def fallback(*processes, check_s=3600.0, pause_s=0.01, **options):
    check = GoldenCheck(IMAGES, LOGITS, 0.1, 4)
    watch = Watch(limit_s=1, check_s=check_s, pause_s=pause_s)
    return Fallback(Starts(*processes), original, check, watch=watch, streams=2, **options)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


ASKED = np.full((3, 1, 1, 3), 5, np.float32)


def answer(guarded, images=ASKED):
    logits, model = guarded.logits(0, images)
    assert len(logits) == len(images)
    return float(logits[0, 0]), model


def test_a_sound_engine_answers():
    with fallback(Process()) as guarded:
        assert answer(guarded) == (1.0, ENGINE)
        assert (guarded.active, guarded.reason, guarded.pid) == (ENGINE, "", 7)


def test_an_engine_that_may_not_be_started_is_not_started():
    starts, fallbacks = Starts(), []
    check = GoldenCheck(IMAGES, LOGITS, 0.1, 4)
    options = dict(watch=Watch(), streams=1, refusal="its file is damaged", on_fallback=lambda: fallbacks.append(1))
    with Fallback(starts, original, check, **options) as guarded:
        assert answer(guarded) == (0.0, ORIGINAL)
        assert (guarded.active, guarded.reason) == (ORIGINAL, "its file is damaged")
    assert (starts.count, fallbacks) == (0, [1])


@pytest.mark.parametrize("golden", [LOGITS + 1, LOGITS * np.nan, np.flip(LOGITS)])
def test_an_engine_with_other_golden_logits_never_serves(golden):
    process = Process()
    process.golden = golden
    with fallback(process) as guarded:
        assert answer(guarded) == (0.0, ORIGINAL)
        assert "golden images" in guarded.reason
        assert process.is_closed


def test_an_engine_that_cannot_be_opened_is_not_started_again():
    with fallback(EngineFailed("It cannot", why="it is a test", remedy=""), pause_s=0) as guarded:
        time.sleep(0.05)
        assert (guarded.active, guarded.reason) == (ORIGINAL, "It cannot: it is a test")
        assert guarded._start.count == 1


def test_after_a_crash_the_original_answers_the_same_request_and_the_engine_comes_back():
    first, second = Process(), Process()
    with fallback(first, second) as guarded:
        first.fails = True
        assert answer(guarded) == (0.0, ORIGINAL)
        until(lambda: guarded.active == ENGINE)
        assert answer(guarded) == (1.0, ENGINE)
        assert guarded.reason == ""
        assert first.is_closed
    assert second.is_closed


def test_while_the_engine_is_away_the_reason_says_why():
    first = Process()
    with fallback(first, pause_s=3600) as guarded:
        first.fails = True
        answer(guarded)
        assert guarded.reason == "The engine's process ended: by a test"
        assert answer(guarded) == (0.0, ORIGINAL)


def test_failed_starts_are_repeated_with_longer_pauses_until_one_succeeds():
    broken = [EngineFailed("It cannot", why="yet", remedy="") for _ in range(3)]
    first = Process()
    with fallback(first, *broken, Process(), pause_s=0.02) as guarded:
        begin, first.fails = time.monotonic(), True
        answer(guarded)
        until(lambda: guarded.active == ENGINE)
        assert time.monotonic() - begin >= 0.02 * (1 + 2 + 4 + 8)
        assert guarded._start.count == 5


def test_nan_of_the_engine_alone_ends_its_service_for_good():
    process = Process()
    process.answer = np.array([1, np.nan], np.float32)
    with fallback(process, pause_s=0) as guarded:
        assert answer(guarded) == (0.0, ORIGINAL)
        time.sleep(0.05)
        assert (guarded.active, guarded.reason) == (ORIGINAL, NAN)


def test_nan_that_the_original_computes_too_is_no_fault_of_the_engine():
    process = Process()
    process.answer = np.array([np.nan, np.nan], np.float32)
    with fallback(process) as guarded:
        logits, model = guarded.logits(0, np.full((1, 1, 1, 3), np.inf, np.float32))
        assert np.isnan(logits).all()
        assert (model, guarded.active) == (ORIGINAL, ENGINE)


def test_an_engine_that_drifts_from_the_golden_logits_while_it_serves_is_found():
    process = Process()
    with fallback(process, check_s=0.01) as guarded:
        assert guarded.active == ENGINE
        process.golden = LOGITS + 1
        until(lambda: guarded.active == ORIGINAL)
        assert "golden images" in guarded.reason


def test_a_crash_that_several_streams_notice_counts_once():
    fallbacks, process = [], Process()
    with fallback(process, pause_s=3600, on_fallback=lambda: fallbacks.append(1)) as guarded:
        process.fails = True
        threads = [threading.Thread(target=answer, args=(guarded,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert fallbacks == [1]
