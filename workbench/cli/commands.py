"""The command ``workbench``: what the notebooks do, on the shell."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .. import __version__
from ..errors import WorkbenchError

#: Exit codes: something the user can mend; 128 + SIGINT and 128 + SIGPIPE, as shells report them.
REFUSED, INTERRUPTED, UNREAD = 2, 130, 141


class Command(NamedTuple):
    """A subcommand: its one line of help, what does it, and its arguments for argparse."""

    help: str
    run: Callable[[argparse.Namespace], int | None]
    arguments: tuple[tuple[tuple[str, ...], Mapping], ...] = ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Returns:
        0; 2 for an error that says what to do about it; 130 after Ctrl-C; 141 where the output's reader left early.
    """
    asked = parser().parse_args(arguments)
    try:
        status = COMMANDS[asked.command].run(asked) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `workbench doctor | head`; nothing may be left to flush at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except WorkbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return INTERRUPTED


def parser() -> argparse.ArgumentParser:
    """The parser of all subcommands."""
    whole = argparse.ArgumentParser(prog="workbench", description="From a JAX ViT to the fastest accurate engine.")
    whole.add_argument("--version", action="version", version=f"workbench {__version__}")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.help)
        for flags, settings in command.arguments:
            sub.add_argument(*flags, **settings)
    return whole


class Screen:
    """Progress on standard error: one line that is rewritten on a terminal, one line per stage elsewhere."""

    def __init__(self, stream=None):
        self.stream = stream or sys.stderr
        self.terminal = self.stream.isatty()
        self.stage, self.begin, self.width = None, time.monotonic(), 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """See ``progress.Progress``."""
        if not self.terminal and stage == self.stage:
            return
        self.stage = stage
        line = f"{100 * done // max(total, 1):3d} %  {time.monotonic() - self.begin:5.0f} s  {stage}"
        self._write(line)

    def _write(self, line: str) -> None:
        if self.terminal:
            print("\r" + line.ljust(self.width), end="", file=self.stream, flush=True)
            self.width = len(line)
        else:
            print(line, file=self.stream, flush=True)

    def close(self) -> None:
        """End the line that was rewritten."""
        if self.terminal and self.width:
            print(file=self.stream)


# ---- the subcommands ---------------------------------------------------------------------------------------------


def _doctor(asked) -> int:
    from ..remote.doctor import CLASH, table
    from ..remote.host import doctor

    rows = doctor(asked.host, asked.workspace)
    print(json.dumps(rows, indent=1) if asked.json else table(rows))
    return int(any(row["status"] == CLASH for row in rows))


def _fetch_checkpoint(asked) -> None:
    from ..datasets.published import fetch_checkpoint

    _fetch(fetch_checkpoint, asked)


def _fetch_images(asked) -> None:
    from ..datasets.published import fetch_images

    _fetch(fetch_images, asked)


def _fetch(fetch, asked) -> None:
    screen = Screen()
    try:
        path = fetch(asked.name, asked.out, screen)
    finally:
        screen.close()
    print(path)


def _inspect(asked) -> None:
    from ..graphs.analysis.inspect import inspect
    from ..reporting.text import tell_inspection

    print(tell_inspection(inspect(asked.model, asked.card), asked.json))


def _profile(asked) -> None:
    from ..reporting.text import tell_profile

    screen = Screen()
    try:
        told = tell_profile(asked, screen)
    finally:
        screen.close()
    print(told)


def _study(asked) -> None:
    from ..studies.study_file import StudyFile

    file, screen = StudyFile.read(asked.file), Screen()
    try:
        study = file.study(screen).run(screen, repeat=asked.repeat)
    finally:
        screen.close()
    _tell(study.results(), asked.out or file.report, file.limits)


def _report(asked) -> None:
    from ..studies.results import study_results

    limits = {"max_drop": asked.max_drop, "max_latency_ms": asked.max_latency_ms}
    _tell(study_results(asked.workspace, asked.study), asked.out, limits)


def _tell(results, report, limits: Mapping) -> None:
    """The table, the report with or without a choice, and the choice last, where a reader's eye is."""
    from ..reporting.html import write_report
    from ..reporting.table import printed

    choice = refusal = None
    try:
        choice = results.choose(**limits)
    except WorkbenchError as error:
        refusal = error
    path = write_report(report, results, choice)
    print(printed(results.frame(), choice and choice.row), end="\n\n")
    print(f"Report: {path}", end="\n\n")
    if refusal:
        raise refusal
    print(choice.reason)


def _tutorial(asked) -> None:
    from ..tutorial import run_tutorial

    print(run_tutorial(asked.out, asked.workspace, dict(map(_parameter, asked.parameter)), asked.notebooks))


def _run_notebooks(asked) -> None:
    from ..tutorial import run_notebooks

    results = run_notebooks(asked.notebook, asked.out, dict(map(_parameter, asked.parameter)))
    print(json.dumps(results, indent=1))


def _parameter(pair: Sequence[str]) -> tuple[str, object]:
    """A name and its value: what reads as JSON is a number, a boolean or a list, everything else is text."""
    name, text = pair
    try:
        return name, json.loads(text)
    except ValueError:
        return name, text


_WORKSPACE = (("--workspace",), {"default": "workspace", "metavar": "FOLDER", "help": "default: workspace"})
_PARAMETERS = (
    ("-p", "--parameter"),
    {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE"), "help": "for the notebooks"},
)


def _out(default: str | None, what: str) -> tuple:
    return ("--out",), {
        "default": default,
        "metavar": "PATH",
        "help": what + (f"; default: {default}" if default else ""),
    }


COMMANDS = {
    "doctor": Command(
        "what this machine has, what is missing and how to get it; 1 when parts clash",
        _doctor,
        (
            (("--host",), {"metavar": "NAME", "help": "a host of the workspace's hosts.toml"}),
            (("--json",), {"action": "store_true", "help": "for programs"}),
            _WORKSPACE,
        ),
    ),
    "fetch-checkpoint": Command(
        "download a published vit_jax checkpoint, going on where a broken download stopped",
        _fetch_checkpoint,
        ((("name",), {"help": "such as S/16"}), _out(None, "the folder; the user's cache when left out")),
    ),
    "fetch-images": Command(
        "download a published image set",
        _fetch_images,
        ((("name",), {"help": "cifar10"}), _out(None, "the folder; the user's cache when left out")),
    ),
    "inspect": Command(
        "describe any ONNX model: its blocks, and what a compiler will trip over with what to do about it",
        _inspect,
        (
            (("model",), {"metavar": "MODEL.onnx"}),
            (("--card",), {"metavar": "NAME", "help": "the GPU to judge by, such as T4; default: the newest"}),
            (("--json",), {"action": "store_true", "help": "for programs, every node included"}),
        ),
    ),
    "profile": Command(
        "where the time goes: an ONNX model's layers by role, or a ViT's attention and MLP over resolution",
        _profile,
        (
            (("model",), {"metavar": "MODEL", "help": "an .onnx file, a checkpoint, or a size such as S/16"}),
            (("--sizes",), {"nargs": "+", "type": int, "metavar": "PIXELS", "help": "resolutions, five or more"}),
            (("--backend",), {"metavar": "NAME", "help": "default: onnxruntime for an .onnx file, else jax"}),
            (("--batch",), {"type": int, "default": 1, "metavar": "N", "help": "images a call; default: 1"}),
            (("--depth",), {"type": int, "metavar": "BLOCKS", "help": "time a model of fewer blocks"}),
            (("--json",), {"action": "store_true", "help": "for programs"}),
            _WORKSPACE,
        ),
    ),
    "study": Command(
        "measure the grid of a TOML file (see data/study.toml), choose, and write the report",
        _study,
        (
            (("file",), {"type": Path, "help": "the TOML file"}),
            _out(None, "the report; the file's own when left out"),
            (("--repeat",), {"action": "store_true", "help": "measure every cell anew"}),
        ),
    ),
    "report": Command(
        "write the report of a study that ran, under other limits if you like",
        _report,
        (
            (("--study",), {"required": True, "metavar": "NAME", "help": "the study's name"}),
            _WORKSPACE,
            _out("report.html", "the report"),
            (("--max-drop",), {"type": float, "default": 0.5, "help": "points of top-1; default: 0.5"}),
            (("--max-latency-ms",), {"type": float, "help": "of 99 calls in 100"}),
        ),
    ),
    "tutorial": Command(
        "run the main job: the notebooks in order, then the report and the choice",
        _tutorial,
        (
            _out("runs/tutorial", "the folder of executed copies and report.html"),
            _WORKSPACE,
            (("--notebooks",), {"default": "notebooks", "metavar": "FOLDER", "help": "default: notebooks"}),
            _PARAMETERS,
        ),
    ),
    "run-notebooks": Command(
        "run notebooks in the order given and print the scalars they record",
        _run_notebooks,
        (
            (("notebook",), {"nargs": "+", "type": Path}),
            _out("runs/notebooks", "the folder of executed copies"),
            _PARAMETERS,
        ),
    ),
}
