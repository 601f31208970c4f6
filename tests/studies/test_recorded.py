"""A recorded run is read as it was written, marked as recorded, and refused where a byte of it was changed."""

import json

import pytest

import workbench as wb
from tests.studies.recording import GPU, results
from workbench.errors import WorkbenchError
from workbench.studies import recorded
from workbench.studies.recorded import read_run, write_run


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_run(folder / "h200.jsonl", results(folder))
    return folder / "h200.jsonl"


@pytest.fixture
def run(file):
    return read_run(file)


def test_a_run_says_where_and_when_and_every_row_says_that_it_was_recorded(run):
    assert (run.name, run.machine, run.day) == ("h200", "NVIDIA H200", "2026-11-28")
    assert set(run.frame().recorded) == {"recorded on NVIDIA H200, 2026-11-28"} == set(run.builds().recorded)


def test_statistics_come_from_the_raw_values_when_they_are_read(run):
    row = run.frame().query("case == 'b32-fp16' and batch == 32").iloc[0]
    assert row.compute_images_per_second == pytest.approx(20_000)
    assert row.images_per_second == pytest.approx(10_000)
    assert row.p50_ms == pytest.approx(1e3 * (2 + 2.1234567891234) / 2 * 32 / 20_000, abs=1e-6)
    assert row.profiles == "32, 1…256"


def test_calls_of_one_caller_are_told_from_streams(run):
    rows = run.frame().query("case == 'b32-fp16'")
    assert list(rows.streams) == [0, 0, 1, 8]


def test_builds_tell_the_types_of_products_and_findings_are_those_of_an_engine_with_these_kernels(run):
    builds = run.builds().set_index("case")
    assert builds.loc["b32-fp16", "build_s"] == 143
    assert builds.loc["b32-fp16", "fused"] == 12
    assert builds.loc["b32-fp16", "products"].endswith("in fp16")
    assert "attention in three kernels, not one" in set(run.case("b32-int8").findings().hazard)
    assert run.case("b32-fp16-range").findings().empty


def test_a_case_that_was_cut_short_keeps_what_it_found_and_says_so(run):
    case = run.case("b32-fp32")
    assert case.failed == "timed out"
    assert len(case.measurements) == 1


def test_a_sweep_over_resolutions_is_a_profile_again(run):
    profile = run.case("attention-b16-bfloat16").profile
    assert profile.spec.depth == 2
    assert profile.held_back == 192
    assert profile.source in profile.verdict()


def test_the_list_of_packages_the_log_and_the_kernel_of_the_system_are_left_out_and_times_have_nanoseconds(file):
    text = file.read_text()
    assert GPU["platform"] not in text
    assert "a long log" not in text
    assert '"item"' not in text
    line = json.loads(text.splitlines()[1])
    seconds = line["measurements"][0]["latencies_s"]
    assert seconds == [round(value, 9) for value in seconds]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: [*lines[:2], lines[2].replace("25", "26", 1), *lines[3:]], "Line 3 of .* is no case"),
        (lambda lines: lines[:-1], "is not whole"),
        (lambda lines: [lines[0].replace("recorded run", "records"), *lines[1:]], "holds no records"),
        (lambda lines: ["", *lines], "cannot be read as records"),
    ],
)
def test_a_file_that_was_changed_is_refused(file, tmp_path, change, words):
    (tmp_path / "h200.jsonl").write_text("\n".join(change(file.read_text().splitlines())))
    with pytest.raises(WorkbenchError, match=words):
        read_run(tmp_path / "h200.jsonl")


def test_a_run_or_case_that_is_not_there_is_refused_with_those_that_are(run, monkeypatch, file):
    monkeypatch.setattr(recorded, "FOLDER", file.parent)
    assert wb.recorded("h200").machine == run.machine
    with pytest.raises(WorkbenchError, match="h200"):
        wb.recorded("t4")
    with pytest.raises(WorkbenchError, match="b32-int8"):
        run.case("b64")
    with pytest.raises(WorkbenchError, match="traced were calls of 32 images"):
        run.case("b32-int8").placed(128)


def test_nothing_is_recorded_where_no_engine_names_its_machine(tmp_path):
    with pytest.raises(WorkbenchError, match="none of 1 cases"):
        write_run(tmp_path / "x.jsonl", [{"case": "b32-jax-bfloat16", "measurements": [], "streams": []}])
