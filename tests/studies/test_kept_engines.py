import dataclasses

import pytest

import workbench as wb
from tests.graphs.drawn import draw
from workbench.errors import WorkbenchError
from workbench.records import Engine
from workbench.studies import kept_engines
from workbench.studies.kept_engines import find_or_build_engine


@pytest.fixture
def variant(tmp_path):
    return wb.apply_recipe(draw(tmp_path), wb.Recipe(), tmp_path / "ws")


def builds(folder) -> int:
    return len(wb.Workspace(folder / "ws").observations("engine", Engine))


def test_the_same_engine_is_built_once(variant, tmp_path):
    first, second = (find_or_build_engine(variant, "onnxruntime", tmp_path / "ws") for _ in range(2))
    assert second == first
    assert builds(tmp_path) == 1


def test_other_batches_other_options_and_another_machine_need_another_engine(variant, tmp_path, monkeypatch):
    given = [{}, {"batches": wb.Batches(1, 2, 2)}, {"options": {"threads": 1}}]
    assert (
        len({find_or_build_engine(variant, "onnxruntime", tmp_path / "ws", **each).run_id for each in given}) == 3
    )
    monkeypatch.setattr(kept_engines, "machine_facts", lambda: {"cpu": "another"})
    find_or_build_engine(variant, "onnxruntime", tmp_path / "ws")
    assert builds(tmp_path) == 4


def test_an_engine_whose_file_was_changed_is_built_again(variant, tmp_path):
    first = find_or_build_engine(variant, "onnxruntime", tmp_path / "ws")
    first.path.write_bytes(b"damaged")
    second = find_or_build_engine(variant, "onnxruntime", tmp_path / "ws")
    assert second.run_id != first.run_id
    assert find_or_build_engine(variant, "onnxruntime", tmp_path / "ws") == second


def test_what_cannot_be_built_is_refused_as_by_build_engine(variant, tmp_path):
    foreign = dataclasses.replace(variant, runtimes=("tensorrt",))
    with pytest.raises(WorkbenchError, match="cannot build"):
        find_or_build_engine(foreign, "onnxruntime", tmp_path / "ws")
