"""What TensorRT says while it builds: its log kept in a file, its progress passed on, its errors made ours."""

from __future__ import annotations

import contextlib
import functools
import re
import time
from collections.abc import Iterable
from pathlib import Path

from ...errors import Cancelled, WorkbenchError
from ...places import place_of
from ...progress import Progress
from ...records import Variant
from .versions import Flavour, refused_node

#: What TensorRT says -> what to do about it. The first that matches the message or the operator counts.
REMEDIES = (
    (
        r"DynamicQuantizeLinear|MatMulInteger|QLinear|ConvInteger",
        "int8-dynamic and the cpu layout are for ONNX Runtime: choose precision='int8' with layout='tensorrt'",
    ),
    (r"[Zz]ero.?[Pp]oint", "TensorRT wants symmetric quantization: choose layout='tensorrt' in the recipe"),
    (r"FP32 GEMM is not supported", "choose fp16, or int8 with high_precision='fp16', or build for SM80 and later"),
    (r"HW-specific datatypes", "BF16 needs SM80 and later, FP8 SM89 and later: choose another card or type"),
    (
        r"must have same (input )?types|same type",
        "the file mixes types in one operator: make the variant with apply_recipe from an fp32 graph",
    ),
    (
        r"LayerNormalization",
        "TensorRT reads it from 8.6 on; for an older one export with the normalization decomposed "
        "(jax2onnx: normalization_mode='auto')",
    ),
    (r"Gelu|Attention", "export with opset=17, where GELU and attention are spelled out in plain operators"),
    (r"within workspace limit", "raise the option workspace_gib, or leave it out"),
    (r"[Oo]ut.?[Oo]f.?[Mm]emory", "lower batches.max or the option workspace_gib, or free the GPU's memory"),
    (r"Failed to parse the ONNX model|DESERIALIZE", "the file is damaged or no ONNX model: make the variant again"),
    (
        r"No importer|UNSUPPORTED_NODE|[Uu]nsupported",
        "export with another opset, or with a newer TensorRT installed",
    ),
)
OTHER = "read the log beside the engine's folder; a smaller graph that shows the same helps NVIDIA's forum"


class BuildLog:
    """The one logger that TensorRT keeps per process, writing to the file of the build that runs.

    TensorRT ignores every logger but the first for as long as any of its objects lives, so each build needs the
    same one. Made once per module by ``BuildLog.of``.
    """

    def __init__(self, flavour: Flavour):
        outer, base = self, flavour.module.ILogger

        class Logger(base):
            def __init__(self):
                base.__init__(self)

            def log(self, severity, message):
                outer._take(severity.name, message)

        self.logger = Logger()
        self._file, self._watch, self.errors = None, None, []

    @staticmethod
    @functools.cache
    def of(flavour: Flavour) -> BuildLog:
        """The log of a module."""
        return BuildLog(flavour)

    @contextlib.contextmanager
    def into(self, path: Path | str):
        """Keep what is said inside the block in a file, and the errors in ``errors`` as well."""
        with open(path, "w", errors="replace") as file:
            self._file, self._watch, self.errors = file, None, []
            try:
                yield self
            finally:
                self._file = self._watch = None

    def follow(self, watch: BuildWatch) -> None:
        """Report progress by the lines of the log, for versions that have no IProgressMonitor."""
        self._watch = watch

    def _take(self, severity: str, message: str) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk must not throw through C++; writing the engine tells
                self._file.write(f"[{severity}] {message}\n")
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(message)
        if self._watch is not None:
            self._watch.heard(message)


class BuildWatch:
    """Passes a build's progress on, and stops the build where ``progress`` raises or time runs out.

    An exception must not travel through TensorRT's C++ code, so it is kept until the build has returned.
    """

    def __init__(self, progress: Progress, limit_s: float):
        self._progress, self._deadline, self._limit = progress, time.monotonic() + limit_s, limit_s
        self._steps: dict[str, int] = {}
        self._heard = 0
        self._stopped: BaseException | None = None

    def phase_start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of ``steps`` steps begins."""
        self._steps[name] = steps
        self._report(name, 0, steps)

    def phase_finish(self, name: str) -> None:
        """A phase has ended."""
        steps = self._steps.pop(name, 0)
        self._report(name, steps, steps)

    def step_complete(self, name: str, step: int) -> bool:
        """A step of a phase is done; the answer False asks TensorRT to stop."""
        self._report(name, step + 1, self._steps.get(name, 0))
        return self._stopped is None

    def heard(self, message: str) -> None:
        """One line of the log; every layer that is timed counts as a step, and their number is not known."""
        if "Timing Runner" in message or "Autotuning" in message:
            self._heard += 1
            self._report("time kernels", self._heard, 0)

    def raise_if_stopped(self) -> None:
        """Raise what ``progress`` raised meanwhile, or that time is up."""
        if self._stopped is not None:
            raise self._stopped

    def _report(self, stage: str, done: int, total: int) -> None:
        if self._stopped is not None:
            return
        try:
            self._progress(stage, done, total)
        except BaseException as stop:
            self._stopped = stop
        if time.monotonic() > self._deadline:
            self._stopped = Cancelled(
                "The build was given up",
                why=f"it took longer than {self._limit:g} s",
                remedy="raise the option time_limit_s, or lower optimization_level",
            )


def parser_error(variant: Variant, errors: Iterable, logged: Iterable[str]) -> WorkbenchError:
    """What the ONNX parser refused: operator, node and block, and what to do."""
    logged = list(logged)
    for error in errors:
        name, operator = refused_node(error)
        name, operator = name or _node_in(logged), operator or _operator_in(logged)
        why = _first_line(error.desc())
        if not name and not operator:
            return _error(f"TensorRT cannot read {variant.path}", why, why)
        return _error(
            f"TensorRT does not take the {operator or 'operator'} at {name or '(unnamed)'}{_where(name)}",
            why if len(why) > len("false") else f"the parser refuses {operator}",
            f"{operator} {error.desc()}",
        )
    why = _first_line(logged[0]) if logged else "it gives no reason"
    return _error(f"TensorRT cannot read {variant.path}", why, why)


def refused_build(variant: Variant, logged: Iterable[str]) -> WorkbenchError:
    """What the builder refused after the parser had taken the file."""
    logged = list(logged)
    message = logged[-1] if logged else "it returned no engine and logged no error"
    quoted = re.search(r"'([^']+/[^']+)'", message)
    where = f" at {quoted[1]}{_where(quoted[1])}" if quoted else ""
    return _error(f"TensorRT cannot build {variant.recipe.label}{where}", _first_line(message), message)


def _error(what: str, why: str, matched: str) -> WorkbenchError:
    remedy = next((remedy for pattern, remedy in REMEDIES if re.search(pattern, matched)), OTHER)
    return WorkbenchError(what, why=why, remedy=remedy)


def _where(node: str | None) -> str:
    place = place_of(node or "")
    return f" ({place.block}, {place.role})" if place and place.block else ""


def _node_in(logged: Iterable[str]) -> str:
    """The name in the node that 8.6 prints after "--- Begin node ---"."""
    match = re.search(r'(?:^|\n)\s*(?:name: "([^"]*)"|Node name: (.*))', "\n".join(logged))
    return (match[1] or match[2] or "") if match else ""


def _operator_in(logged: Iterable[str]) -> str:
    """``While parsing node number 0 [Relu -> "y"]:``."""
    match = re.search(r"While parsing node number \d+ \[(\w+)", "\n".join(logged))
    return match[1] if match else ""


def _first_line(text: str) -> str:
    return " ".join(text.strip().split("\n")[:2])[:400]
