"""The pictures and the table of both READMEs, from one study on this machine.

    python docs/pictures/make.py

opens notebook 07 in JupyterLab, runs it, and writes beside this file the screenshot of its last panel, the Pareto
chart, and ``study.json``: the study's rows with the machine that measured them. The table in README.md and
README.zh-CN.md is written from that record, and a test repeats it. A second run takes the measurements of the first
from ``runs/pictures``; remove that folder to measure anew. It needs Chromium.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.browser.harness import CHROMIUM_ARGUMENTS, CHROMIUM_REMEDY, LabPage, LabServer, chromium
from workbench.reporting import figures
from workbench.studies.results import Results, study_results
from workbench.tutorial import parameter_values

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RUN = ROOT / "runs" / "pictures"
NOTEBOOK = "notebooks/07_trade_offs.ipynb"
SCREENSHOT, CHART, RECORD = HERE / "notebook-07.png", HERE / "pareto.png", HERE / "study.json"
BEGIN, END = "<!-- study: written by docs/pictures/make.py -->", "<!-- /study -->"
#: How long the notebook may take on a machine under load, seconds.
LIMIT_S = 1200
#: A load of this many times the cores is more than the study itself makes.
BUSY = 2
NUMBERS = ("images_per_second", "speedup", "p99_ms", "top1", "top1_low", "top1_high")
NUMBERS += ("drop_points", "drop_points_low", "drop_points_high")
#: File -> the headings of the table, the sentence below it, and what is added where the machine was busy.
READMES = {
    "README.md": (
        ("recipe", "runtime", "batch", "images/s", "× FP32", "p99 ms", "top-1 % [95 %]", "points lost [95 %]"),
        "Measured on {images:,} images of `shapes` on {cpu}, {cores} cores, on {day}; `make tutorial` prints the "
        "table of your machine. {busy}The choice under a limit of {max_drop:g} points: {choice}",
        "**The machine was busy** (load {load:g} on {cores} cores): the times are longer than on a quiet one. ",
    ),
    "README.zh-CN.md": (
        ("配方", "运行时", "批大小", "图像/秒", "× FP32", "p99 毫秒", "top-1 % [95 %]", "损失的百分点 [95 %]"),
        "用 {images:,} 张 `shapes` 图像在 {cpu}（{cores} 核）上测得，{day}；"
        "您自己机器的表格由 `make tutorial` 给出。{busy}限制为 {max_drop:g} 个百分点时的选择（程序原文）：{choice}",
        "**测量时机器很忙**（{cores} 核，负载 {load:g}）：时间比空闲机器上的长。",
    ),
}


def main() -> int:
    """Take the pictures, write the record, and put its table into the READMEs."""
    if chromium() is None:
        print(f"The screenshot needs Chromium: {CHROMIUM_REMEDY}", file=sys.stderr)
        return 2
    values = parameter_values(ROOT / NOTEBOOK)
    run_notebook(project_root())
    results = study_results(RUN / "workspace", values["name"])
    choice = results.choose(values["max_drop"], values["max_latency_ms"] or None)
    chart = figures.pareto(results.frame(), choice=choice, max_drop=values["max_drop"])
    chart.write_image(CHART, width=1000, height=450, scale=2)
    record = record_of(results, choice, values["max_drop"])
    RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    for name in READMES:
        path = ROOT / name
        path.write_text(with_table(path.read_text(), name, record))
    print(f"wrote {SCREENSHOT}, {CHART}, {RECORD} and the tables of {', '.join(READMES)}")
    return 0


def project_root() -> Path:
    """A folder like the project's, with a copy of the notebook, for the server."""
    (RUN / "notebooks").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / NOTEBOOK, RUN / NOTEBOOK)
    if not (RUN / "data").exists():
        (RUN / "data").symlink_to(ROOT / "data")
    return RUN


def run_notebook(root: Path) -> None:
    """Run the notebook in JupyterLab, and take the screenshot of its last panel."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGUMENTS)
        server = LabServer(Path(folder), root)
        try:
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.set_default_timeout(1000 * LIMIT_S)
            take_screenshot(LabPage(page, server).open(NOTEBOOK))
        finally:
            server.stop()
            browser.close()


def take_screenshot(lab: LabPage) -> None:
    """Run all cells and keep the page as it looks at the panel of limits."""
    lab.run_all()
    if errors := lab.cell_errors():
        raise SystemExit(f"{NOTEBOOK} failed:\n" + "\n".join(errors))
    lab.page.evaluate("() => { window.jupyterapp.commands.execute('application:toggle-left-area') }")
    panel = lab.element("trade-off-panel").first
    panel.locator(".js-plotly-plot").first.wait_for()
    panel.evaluate("element => element.scrollIntoView({block: 'start'})")
    lab.page.wait_for_timeout(2_000)  # until the chart stands still
    lab.page.screenshot(path=SCREENSHOT)
    lab.end_kernels()


def record_of(results: Results, choice, max_drop: float) -> dict:
    """What the READMEs say about the study: its rows, fastest first, the choice, and where it was measured."""
    frame = results.frame().sort_values("images_per_second", ascending=False, kind="stable")
    texts = ["label", "where", "batch", "execution"]
    rows = [
        {**{name: row[name] for name in texts}, **{name: round(float(row[name]), 4) for name in NUMBERS}}
        for row in frame.to_dict("records")
        if not math.isnan(row["images_per_second"])
    ]
    environment = dict(results.environment())
    environment.pop("platform", None)  # a kernel's name tells nothing about the figures
    images = int(frame["images"].max())
    chosen = {"choice": choice.reason, "max_drop": max_drop}
    return {"images": images, **chosen, "environment": environment, "rows": rows}


def table(name: str, record: dict) -> str:
    """The table of a README and the sentence below it."""
    headings, sentence, caveat = READMES[name]
    lines = [f"| {' | '.join(headings)} |", "| --- | --- | " + " | ".join(["---:"] * (len(headings) - 2)) + " |"]
    lines += [f"| {' | '.join(cells(row))} |" for row in record["rows"]]
    environment = record["environment"]
    facts = {"cpu": environment["cpu"], "cores": environment["cores"], "day": environment["time"][:10]}
    facts |= {"images": record["images"], "max_drop": record["max_drop"], "choice": record["choice"]}
    load = environment.get("load_average", 0)
    facts["busy"] = caveat.format(load=load, **facts) if load > BUSY * facts["cores"] else ""
    return "\n".join(lines) + "\n\n" + textwrap.fill(sentence.format(**facts), 116, break_on_hyphens=False)


def cells(row: dict) -> tuple[str, ...]:
    """A row of the table."""
    top1 = f"{100 * row['top1']:.1f} [{100 * row['top1_low']:.1f}, {100 * row['top1_high']:.1f}]"
    lost = f"{row['drop_points']:.2f} [{row['drop_points_low']:.2f}, {row['drop_points_high']:.2f}]"
    rate = row["images_per_second"]
    speed = (f"{rate:,.{0 if rate >= 100 else 1}f}", f"{row['speedup']:.2f}", f"{row['p99_ms']:,.1f}")
    return (row["label"], row["where"], str(row["batch"]), *speed, top1, lost)


def with_table(text: str, name: str, record: dict) -> str:
    """A README's text with the table between its marks."""
    head, _, rest = text.partition(BEGIN)
    tail = rest.partition(END)[2]
    return f"{head}{BEGIN}\n\n{table(name, record)}\n\n{END}{tail}"


if __name__ == "__main__":
    sys.exit(main())
