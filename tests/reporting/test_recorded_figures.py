"""Every figure of the tables that notebooks and READMEs show of the recorded run, computed anew from its raw lines.

Nothing of the workbench computes here: the file is read as JSON.
"""

import re
import statistics

import pytest

import workbench as wb
from tests.reporting.raw import FILE, lines, percentile_ms, rate, timed
from workbench.reporting import recorded as tables

MIB = 1 << 20


@pytest.fixture(scope="module")
def run():
    return wb.recorded("h200")


@pytest.fixture(scope="module")
def raw():
    return lines()


def test_the_file_is_a_few_megabytes_and_names_no_machine_but_its_gpu():
    assert FILE.stat().st_size < 8 * MIB
    text = FILE.read_text()
    assert "platform" not in text
    assert "/tmp/" not in text
    assert not re.search(r"/(root|home|work)/", text)


def test_each_model_at_its_best_batch(run, raw):
    table = tables.models(run)
    assert set(table.case) == {name for name, line in raw.items() if line.get("measurements")}
    for row in table.to_dict("records"):
        line = raw[row["case"]]
        rates = {batch: rate(m, "compute") for batch, m in timed(line).items()}
        best = max(rates, key=rates.get)
        assert row["batch"] == best
        assert row["img/s"] == pytest.approx(rates[best])
        assert row["p50 ms"] == pytest.approx(1e3 * statistics.median(timed(line)[best]["latencies_s"]))
        assert row["p99 ms"] == pytest.approx(percentile_ms(timed(line)[best], 99))
        everything = [*line["measurements"], *line["streams"]]
        assert row["end to end, img/s"] == pytest.approx(max(rate(m, "end_to_end") for m in everything))


def test_precisions_and_memory(run, raw):
    for row in tables.beside_article(run).to_dict("records"):
        m = timed(raw[row["case"]])[32]
        assert row["img/s"] == pytest.approx(rate(m, "compute"))
        assert row["end to end, img/s"] == pytest.approx(rate(m, "end_to_end"))
    for row in tables.memory(run).to_dict("records"):
        for batch, m in timed(raw[row["case"]]).items():
            assert row[batch] == pytest.approx(m["memory_bytes"] / MIB)


def test_streams(run, raw):
    table = tables.streams(run)
    for case, rows in table.groupby("case"):
        line = raw[case]
        best = max(rate(m, "compute") for m in [*line["measurements"], *line["streams"]])
        assert rows.streams.tolist() == [m["streams"] for m in line["streams"]]
        for row, m in zip(rows.to_dict("records"), line["streams"]):
            assert row["end to end, img/s"] == pytest.approx(rate(m, "end_to_end"))
            assert row["share"] == pytest.approx(rate(m, "end_to_end") / best)
            assert row["p99 ms"] == pytest.approx(percentile_ms(m, 99))


def test_builds_and_the_price_of_dynamic_shapes(run, raw):
    for row in run.builds().to_dict("records"):
        line = raw[row["case"]]
        kernels = next(iter((line.get("kernels") or {"": []}).values()), [])
        assert row["build_s"] == line["engine"]["build_seconds"]
        assert row["kernels"] == len(kernels)
        assert row["fused"] == sum(kernel["attention"] for kernel in kernels)
        for kind in {kernel["type"] for kernel in kernels} - {None}:
            assert f"{sum(kernel['type'] == kind for kernel in kernels)} in {kind}" in row["products"]
    exact, spread = (timed(raw[name]) for name in ("b32-fp16", "b32-fp16-range"))
    for row in tables.profiles(run).to_dict("records"):
        ratio = rate(exact[row["batch"]], "compute") / rate(spread[row["batch"]], "compute")
        assert row["gain"] == pytest.approx(ratio - 1)


def test_accuracy_on_the_same_images(run, raw):
    table = tables.accuracy(run).set_index("case")
    assert len(table) >= 2
    plain = raw["shapes-fp32"]["measurements"][0]
    for case, row in table.iterrows():
        m = raw[case]["measurements"][0]
        assert m["labels"] == plain["labels"]
        right = [sum(p == label for p, label in zip(each["predictions"], each["labels"])) for each in (plain, m)]
        assert row["images"] == len(m["labels"])
        assert row["top-1"] == pytest.approx(right[1] / len(m["labels"]))
        assert row["points lost"] == pytest.approx(100 * (right[0] - right[1]) / len(m["labels"]))


def test_what_notebooks_01_and_06_say_in_words(run):
    shares = tables.precisions(run).set_index("case")["share of limit"]
    assert shares["b32-int8"] < shares["b32-fp16"] < 0.5
    times = tables.kernel_times(run).groupby("kind").sum(numeric_only=True)
    assert times.loc["product", "b32-int8, ms"] < times.loc["product", "b32-fp16, ms"]
    assert times.loc["other", "b32-int8, ms"] > 0.8 * times.loc["other", "b32-fp16, ms"]
