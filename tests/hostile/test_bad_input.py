"""Bad input never wins: thousands of generated cases of every kind end in a refusal or are taken rightly.

``python -m tests.hostile 1000`` prints the table of outcomes by kind.
"""

import random

import pytest

from tests.hostile.kinds import KINDS
from tests.hostile.outcomes import WRONG, Case, tally
from workbench.errors import WorkbenchError

#: Cases of a kind in `make test`, where a case is not as cheap as most.
FEW = {"ledger rows": 25, "answers of hosts": 25, "ONNX files": 25, "downloads": 40, "study files": 100}


def found_wrong(kind, count, seed, folder):
    found = tally(KINDS[kind](random.Random(seed), count, folder))
    assert found.counts["tried"] >= count
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_no_case_ends_in_a_traceback_a_hang_or_a_wrong_answer(kind, tmp_path):
    found = found_wrong(kind, FEW.get(kind, 300), 1, tmp_path)
    assert not found.wrong, str(found)
    assert found.counts["refused"] + found.counts["taken"] == found.counts["tried"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_case_of_a_long_run_does_either(kind, tmp_path):
    found = found_wrong(kind, 10 * FEW.get(kind, 300), 2, tmp_path)
    assert not found.wrong, str(found)


def refuse():
    raise WorkbenchError("no", why="bad", remedy="good")


def test_the_tally_tells_the_outcomes_apart(monkeypatch):
    monkeypatch.setattr("tests.hostile.outcomes.LIMIT_S", 0.2)
    cases = {
        "refused": Case("", refuse),
        "taken": Case("", lambda: 1, lambda one: one == 1),
        "silent": Case("", lambda: 1),
        "raw": Case("", lambda: [][0]),
        "hang": Case("", lambda: all(iter(int, 1)) or [0 for _ in iter(int, 1)]),
    }
    for outcome, case in cases.items():
        found = tally([case])
        assert dict(found.counts) == {"tried": 1, outcome: 1}
        assert bool(found.wrong) == (outcome in WRONG)
