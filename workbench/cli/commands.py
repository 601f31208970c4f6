"""The commands: one function each, whose signature and docstring are its options and its help (cyclopts)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from .. import __version__
from ..errors import WorkbenchError, refuse_unless
from .deployment import bundle, deploy, serve
from .lab import lab
from .measurements import compare, export_records, import_records, tune
from .pipeline import build, import_model, recipe, search
from .progress_line import ProgressLine

#: Exit codes: an error that the user can mend; 128 + SIGINT and 128 + SIGPIPE, as shells report them.
REFUSED, INTERRUPTED, UNREAD = 2, 130, 141

app = App(
    "workbench",
    help="From a JAX ViT to the fastest accurate engine.",
    version=f"workbench {__version__}",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)
app.command(lab)
app.command(bundle)
app.command(serve)
app.command(deploy)
app.command(import_model, name="import")
for command in (recipe, build, search, tune, compare, export_records, import_records):
    app.command(command)
Json = Annotated[bool, Parameter("--json")]
Pairs = Annotated[tuple[tuple[str, str], ...], Parameter(("--parameter", "-p"))]
WORKSPACE = Path("workspace")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0, or the command's own code; 2 for an error with its remedy, or words that are no command or option; 130
        after Ctrl-C; 141 where the reader of the output left early.
    """
    try:
        status = app(arguments, exit_on_error=False, result_action="return_value") or 0
        sys.stdout.flush()
        return status
    except CycloptsError:  # already printed
        return REFUSED
    except BrokenPipeError:  # `workbench doctor | head`; nothing may be left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except WorkbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return INTERRUPTED


@app.command
def doctor(*, host: str | None = None, as_json: Json = False, workspace: Path = WORKSPACE) -> int:
    """What this machine has, what is missing and how to get it; the exit code is 1 when parts clash.

    Args:
        host: a host of the workspace's hosts.toml instead of this machine.
        as_json: for programs.
        workspace: the folder of hosts.toml.
    """
    from ..remote import host as hosts
    from ..remote.doctor import CLASH, table

    rows = hosts.doctor(host, workspace)
    print(json.dumps(rows, indent=1) if as_json else table(rows))
    return int(any(row["status"] == CLASH for row in rows))


@app.command
def fetch_checkpoint(name: str, /, *, out: Path | None = None) -> None:
    """Download a published vit_jax checkpoint; a broken download goes on where it stopped.

    Args:
        name: such as S/16.
        out: the folder; the user's cache when left out.
    """
    from ..datasets.published import fetch_checkpoint

    _fetch(fetch_checkpoint, name, out)


@app.command
def fetch_images(name: str, /, *, out: Path | None = None) -> None:
    """Download a published image set.

    Args:
        name: cifar10.
        out: the folder; the user's cache when left out.
    """
    from ..datasets.published import fetch_images

    _fetch(fetch_images, name, out)


def _fetch(fetch: Callable, name: str, out: Path | None) -> None:
    with ProgressLine() as progress:
        path = fetch(name, out, progress)
    print(path)


@app.command
def inspect(model: Path, /, *, card: str | None = None, as_json: Json = False) -> None:
    """Describe any ONNX model: its blocks, what a compiler will handle badly, and what to do about it.

    Args:
        model: the .onnx file.
        card: the GPU that findings are about, such as T4; the newest when left out.
        as_json: for programs, every node included.
    """
    from ..graphs.analysis.inspect import inspect
    from .inspection import inspection_json, inspection_text

    made = inspect(model, card)
    print(inspection_json(made) if as_json else inspection_text(made))


@app.command
def profile(
    model: str,
    /,
    *,
    sizes: Annotated[tuple[int, ...] | None, Parameter(consume_multiple=True)] = None,
    backend: str | None = None,
    batch: int = 1,
    depth: int | None = None,
    as_json: Json = False,
    workspace: Path = WORKSPACE,
) -> None:
    """Where the time goes: an ONNX model's layers by role, or a ViT's attention and MLP over resolution.

    Args:
        model: an .onnx file, a checkpoint, or a size such as S/16.
        sizes: resolutions in pixels, five or more.
        backend: onnxruntime for an .onnx file, else jax, when left out.
        batch: images a call.
        depth: time a model of fewer blocks.
        as_json: for programs.
        workspace: the folder where engines are kept.
    """
    from .profile import file_profile, resolution_profile, spec_of

    remedy = "give --batch 1 or more"
    refuse_unless(batch > 0, "There is no call to time", why=f"the batch is {batch}", remedy=remedy)
    if Path(model).suffix.lower() == ".onnx":
        refuse_unless(
            not sizes and not depth,
            "An ONNX file is timed as it is",
            why="its resolution and its blocks are fixed in it, so that --sizes and --depth mean nothing",
            remedy="leave them out, or name a checkpoint or a size such as S/16",
        )
        text = file_profile(model, backend, batch, workspace, as_json)
    else:
        with ProgressLine() as progress:
            spec = spec_of(model, depth, workspace)
            text = resolution_profile(spec, sizes, backend, batch, workspace, as_json, progress)
    print(text)


@app.command
def study(file: Path, /, *, out: Path | None = None, repeat: bool = False) -> None:
    """Measure the grid of a TOML file (see data/study.toml), choose, and write the report.

    Args:
        file: the TOML file.
        out: the report; the file's own when left out.
        repeat: measure every cell anew.
    """
    from ..studies.study_file import StudyFile

    asked = StudyFile.read(file)
    with ProgressLine() as progress:
        done = asked.study(progress).run(progress, repeat=repeat)
    _print_results(done.results(), out or asked.report, asked.limits)


@app.command
def report(
    *,
    study: str,
    workspace: Path = WORKSPACE,
    out: Path = Path("report.html"),
    max_drop: float = 0.5,
    max_latency_ms: float | None = None,
    min_images_per_second: float | None = None,
    max_memory_mib: float | None = None,
    max_engine_mib: float | None = None,
    max_joules_per_image: float | None = None,
) -> None:
    """Write the report of a study that ran, under other limits if you like.

    Args:
        study: the study's name.
        workspace: the folder in which it ran.
        out: the report.
        max_drop: points of top-1 that may be lost.
        max_latency_ms: of 99 calls in 100.
        min_images_per_second: the throughput that is needed.
        max_memory_mib: peak memory of the session.
        max_engine_mib: size of the engine's files.
        max_joules_per_image: energy, where the machine's can be read.
    """
    from ..studies.results import study_results

    limits = {"max_drop": max_drop, "max_latency_ms": max_latency_ms}
    limits |= {"min_images_per_second": min_images_per_second, "max_memory_mib": max_memory_mib}
    limits |= {"max_engine_mib": max_engine_mib, "max_joules_per_image": max_joules_per_image}
    _print_results(study_results(workspace, study), out, limits)


def _print_results(results, report: Path, limits) -> None:
    """Write the report, then print the table and, last, the choice or why there is none."""
    from ..reporting.html import write_report
    from ..reporting.table import printed

    def write_and_print(choice) -> None:
        path = write_report(report, results, choice)
        print(printed(results.frame(), choice and choice.row), end="\n\n")
        print(f"Report: {path}", end="\n\n")

    try:
        choice = results.choose(**limits)
    except WorkbenchError:
        write_and_print(None)
        raise
    write_and_print(choice)
    print(choice.reason)


@app.command
def tutorial(
    *,
    out: Path = Path("runs/tutorial"),
    workspace: Path = WORKSPACE,
    notebooks: Path | None = None,
    parameter: Pairs = (),
) -> None:
    """Run the whole tutorial: every notebook in order, then the report and the choice.

    Args:
        out: the folder of executed copies and report.html.
        workspace: where artefacts and measurements are kept.
        notebooks: the folder of the notebooks; the workbench's own when left out.
        parameter: a name and a value for the notebooks.
    """
    from ..project_files import project_folder
    from ..tutorial import run_tutorial

    print(run_tutorial(out, workspace, parsed(parameter), notebooks or project_folder() / "notebooks"))


@app.command
def run_notebooks(*notebook: Path, out: Path = Path("runs/notebooks"), parameter: Pairs = ()) -> None:
    """Run notebooks in the order given and print the scalars that they record.

    Args:
        notebook: one notebook or more.
        out: the folder of executed copies.
        parameter: a name and a value for the notebooks.
    """
    from ..tutorial import run_notebooks

    refuse_unless(bool(notebook), "There is no notebook to run", why="none is named", remedy="name one or more")
    print(json.dumps(run_notebooks(notebook, out, parsed(parameter)), indent=1))


def parsed(pairs: Sequence[tuple[str, str]]) -> dict[str, object]:
    """Names and values: a value that is JSON is a number, a boolean or a list; every other value is text."""
    return {name: _parsed(text) for name, text in pairs}


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
