"""The tables of both READMEs about a GPU, from the run that comes with the workbench.

    python docs/pictures/gpu_table.py

writes them between their marks in README.md and README.zh-CN.md; a test repeats it, so that no figure there can be
other than what ``data/recorded/h200.jsonl`` says.
"""

from __future__ import annotations

import math
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import workbench as wb
from workbench.backends.hardware.load import OTHERS
from workbench.reporting import recorded as tables
from workbench.reporting.recorded import SHIPPED
from workbench.studies.recorded import RecordedRun

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- recorded: written by docs/pictures/gpu_table.py -->", "<!-- /recorded -->"
#: Cases that answer questions of their own: notebooks 05 and 06 show them.
ELSEWHERE = ("-uint8", "-range", "-level5")
#: Where a baseline was measured on a quiet machine too, that one is shown: it is the stronger opponent.
QUIET = "-quiet"
#: File -> the headings of the table, and the sentences below it, by what they need.
READMES = {
    "README.md": (
        ("model", "runtime", "precision", "batch", "images/s", "of the limit", "p50 ms", "p99 ms", "memory MiB"),
        {
            "where": "Recorded on one {machine} on {day} by `benchmarks/gpu_host.py`; `wb.recorded()` reads every "
            "call of it. Images/s are counted with the images on the device, at each engine's best batch; "
            "latencies are those of one caller, from array to logits.",
            "busy": "Other work kept up to {busy:.0f} of {cores} cores busy meanwhile, which latencies feel and "
            "images/s on the device hardly do.",
            "quiet": "Where a baseline suffered from that, the table has its figures from a quiet machine of the "
            "same kind, on the same day.",
            "half": "On {model}, FP16 is {ratio} times as fast as the better of JAX and PyTorch.",
            "int8": "On {model}, INT8 is {ratio} times as fast as FP16.",
            "whole": 'With pixels as input (`input="uint8"`) and {streams} streams, {case} completes {rate} '
            "images/s from array to logits: {share} of its compute.",
            "accuracy": "The shipped model classifies of {images} images, as executed there: {shares} correctly.",
        },
    ),
    "README.zh-CN.md": (
        ("模型", "运行时", "精度", "批大小", "图像/秒", "占上限", "p50 毫秒", "p99 毫秒", "内存 MiB"),
        {
            "where": "{day} 在一块 {machine} 上由 `benchmarks/gpu_host.py` 记录；"
            "`wb.recorded()` 读取其中的每一次调用。图像/秒按图像已在设备上时完成的数量计算，"
            "取每个引擎最佳的批大小；延迟是单个调用者从数组到 logits 的时间。",
            "busy": "期间其他工作最多占用 {cores} 核中的 {busy:.0f} 核，"
            "延迟受其影响，设备上的图像/秒几乎不受影响。",
            "quiet": "基线因此变慢时，表中列出同一天在同型号的空闲机器上测得的数字。",
            "half": "在 {model} 上，FP16 的速度是 JAX 与 PyTorch 中较快者的 {ratio} 倍。",
            "int8": "在 {model} 上，INT8 的速度是 FP16 的 {ratio} 倍。",
            "whole": '以像素为输入（`input="uint8"`）、{streams} 个流时，{case} 从数组到 logits '
            "每秒完成 {rate} 张图像：是其计算速度的 {share}。",
            "accuracy": "在那里实际执行时，附带的模型对 {images} 张图像的正确率：{shares}。",
        },
    ),
}


def main() -> int:
    """Write the tables of both READMEs."""
    run = wb.recorded()
    for name in READMES:
        path = ROOT / name
        path.write_text(with_table(path.read_text(), name, run))
    print(f"wrote the tables of {', '.join(READMES)}")
    return 0


def with_table(text: str, name: str, run: RecordedRun) -> str:
    """A README's text with the table and its sentences between their marks."""
    headings, sentences = READMES[name]
    lines = [f"| {' | '.join(headings)} |", "| --- | --- | --- |" + " ---: |" * (len(headings) - 3)]
    lines += [f"| {' | '.join(row)} |" for row in rows(run)]
    said = [sentences[kind].format(**facts) for kind, facts in statements(run)]
    joined = (" " if name == "README.md" else "").join(said)
    below = textwrap.fill(joined, 116, break_on_hyphens=False, break_long_words=False)
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{below}\n\n{END}{tail}"


def rows(run: RecordedRun) -> list[tuple[str, ...]]:
    """The rows of the table, model by model, the fastest first."""
    best, taken = _shown(run), tables.memory(run).set_index("case")
    order = {model: place for place, model in enumerate(dict.fromkeys(best.model))}
    best = best.assign(place=best.model.map(order)).sort_values(["place", "img/s"], ascending=[True, False])
    return [
        (
            row["model"],
            row["runtime"],
            row["precision"],
            str(row["batch"]),
            f"{row['img/s']:,.0f}",
            f"{row['share of limit']:.0%}",
            f"{row['p50 ms']:,.2f}",
            f"{row['p99 ms']:,.2f}",
            f"{taken.loc[row['case'], row['batch']]:,.0f}",
        )
        for row in best.to_dict("records")
    ]


def statements(run: RecordedRun) -> list[tuple[str, dict]]:
    """What the sentences say: their kind and their figures, as far as the run holds them."""
    best = _shown(run)
    ours = best[best.runtime.str.startswith("TensorRT")]
    found = [("where", {"machine": run.machine, "day": run.day}), *_busy(run, best)]
    for model in dict.fromkeys(best.model):
        half, int8 = (_best(ours, model, name) for name in ("fp16", "int8"))
        other = best[(best.model == model) & ~best.case.isin(ours.case)]["img/s"].max()
        if not math.isnan(half / other):
            found.append(("half", {"model": model, "ratio": f"{half / other:.2f}"}))
        if not math.isnan(int8 / half):
            found.append(("int8", {"model": model, "ratio": f"{int8 / half:.2f}"}))
    return found + _whole(run) + _accuracy(run)


def _busy(run: RecordedRun, best) -> list[tuple[str, dict]]:
    """What else the machine did, where that was much, and whether another machine's baselines are shown."""
    most, cores = best["busy cores"].max(), next(iter(run.cases.values())).measurements[0].environment["cores"]
    found = [("busy", {"busy": most, "cores": cores})] if most > OTHERS * cores else []
    return [*found, *([("quiet", {})] if best.case.str.endswith(QUIET).any() else [])]


def _shown(run: RecordedRun):
    best = tables.models(run)
    busy = [case.removesuffix(QUIET) for case in best.case if case.endswith(QUIET)]
    return best[(best.model != SHIPPED) & ~best.case.str.endswith(ELSEWHERE) & ~best.case.isin(busy)]


def _best(rows, model: str, precision: str) -> float:
    """The highest throughput of a model in a precision, whatever its scope."""
    return rows[(rows.model == model) & (rows.precision.str.split().str[0] == precision)]["img/s"].max()


def _whole(run: RecordedRun) -> list[tuple[str, dict[str, str]]]:
    """The fastest case with pixels as input, from array to logits."""
    rows = tables.streams(run)
    rows = rows[rows.input == "uint8"]
    if rows.empty:
        return []
    best = rows.loc[rows["end to end, img/s"].idxmax()]
    rate, share = f"{best['end to end, img/s']:,.0f}", f"{best.share:.2f}"
    return [("whole", {"case": f"`{best.case}`", "streams": str(best.streams), "rate": rate, "share": share})]


def _accuracy(run: RecordedRun) -> list[tuple[str, dict[str, str]]]:
    """The shipped model's accuracy in each precision, on as many images as all were measured on."""
    rows = tables.accuracy(run)
    if rows.empty:
        return []
    shares = ", ".join(f"{row['precision']} {100 * row['top-1']:.2f} %" for row in rows.to_dict("records"))
    return [("accuracy", {"images": f"{rows['images'].min():,}", "shares": shares})]


if __name__ == "__main__":
    sys.exit(main())
