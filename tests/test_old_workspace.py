"""A workspace that an earlier version wrote still opens, and says what was renamed."""

import json
import shutil
import sqlite3
import warnings
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.ledger import LEDGER
from workbench.records import CaveatWarning, Engine, Measurement, RenamedFieldWarning, decode, encode
from workbench.studies.plan import Plan
from workbench.studies.results import study_results
from workbench.workspace import Workspace

OLD = Path(__file__).parent / "data" / "old_workspace"


@pytest.fixture
def old(tmp_path):
    """A copy, because reading a ledger writes beside it."""
    return Workspace(shutil.copytree(OLD, tmp_path / "old"))


def renamed(caught) -> set[str]:
    names = (str(each.message) for each in caught if each.category is RenamedFieldWarning)
    return {name.split("field ")[1] for name in names}


def test_the_study_of_an_old_workspace_is_read_and_its_renamed_fields_are_named(old):
    with pytest.warns(CaveatWarning), pytest.warns(RenamedFieldWarning) as caught:
        frame = study_results(old, "old").frame()
    assert renamed(caught) == {
        "'rest', which is named 'high_precision' today",
        "'keep', which is named 'exclude' today",
        "'obstacle', which is named 'refusal' today",
    }
    rows = frame.set_index(["precision", "backend"])
    assert len(rows) == 6
    assert rows.execution.value_counts().to_dict() == {"executed": 2, "built": 1, "refused": 3}
    assert rows.p50_ms["int8", "onnxruntime"] > 0
    assert "layout='tensorrt'" in rows.remedy["int8", "tensorrt-rtx"]
    assert "NVIDIA GPU" in rows.reason["fp32", "tensorrt-rtx"]


def test_the_throughput_of_an_old_study_is_said_to_be_derived_from_latencies(old):
    with (
        pytest.warns(RenamedFieldWarning),
        pytest.warns(CaveatWarning, match="derived from latencies.*measure again"),
    ):
        frame = study_results(old, "old").frame()
    timed = frame[frame.images_per_second.notna()]
    assert len(timed) == 2
    assert timed.notes.str.contains("derived from latencies").all()
    assert timed.compute_images_per_second.isna().all()


def test_a_renamed_field_keeps_its_value(old):
    with pytest.warns(CaveatWarning), pytest.warns(RenamedFieldWarning):
        int8 = old.observations("measurement", Measurement)[1].recipe
    assert (int8.precision, int8.high_precision, int8.exclude) == ("int8", "fp32", ("block00/fc2",))
    assert int8.calibration.variant == "dark"


def test_an_old_engine_is_verified_and_opened(old):
    with pytest.warns(RenamedFieldWarning):
        engine = old.observations("engine", Engine)[1]
    with wb.open_engine(engine) as session:
        (logits,) = session.run({"images": np.zeros((4, 8, 8, 3), np.float32)}).values()
    assert logits.shape == (4, 4)


def test_no_stored_field_of_an_old_record_is_lost():
    kinds = {"study": Plan, "engine": Engine, "study engine": Engine, "measurement": Measurement}
    with sqlite3.connect(OLD / LEDGER) as ledger:
        stored = ledger.execute("SELECT kind, body FROM observations").fetchall()
    ledger.close()
    for kind, body in stored:
        if kind in kinds:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RenamedFieldWarning)
                warnings.simplefilter("ignore", CaveatWarning)
                record = encode(decode(kinds[kind], json.loads(body)))
            assert names_in(json.loads(body)) <= names_in(record) | {"rest", "keep", "obstacle"}


def names_in(value) -> set[str]:
    """All keys of nested JSON objects."""
    if isinstance(value, dict):
        return set(value).union(*map(names_in, value.values()))
    return set().union(*map(names_in, value)) if isinstance(value, list) else set()
