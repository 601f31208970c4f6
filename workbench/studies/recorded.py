"""Runs that were recorded on another machine and come with the workbench, to explore them on a laptop.

``benchmarks/gpu_host.py`` measures them on a machine with a GPU, and its verb ``keep`` writes them;
``benchmarks/photographs.py`` measures accuracy on images that do not come with the workbench. Statistics are
computed from the raw observations when they are read, as for measurements of this machine.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..backends.hardware.load import Load
from ..dtypes import FLOATS
from ..errors import WorkbenchError, one_of, refuse_unless
from ..graphs.analysis.findings.finding import Finding
from ..models.sizes import model_spec
from ..performance.attention_profile import Profile
from ..performance.kernel_findings import find_in_kernels
from ..performance.kernel_places import PlacedKernel, kernels_of_rows, place_kernels
from ..performance.parts import PARTS, Split
from ..project_files import project_folder
from ..records import PRECISIONS, Engine, Measurement, Recipe, decode
from .frame import MIB, measured_row
from .signed_lines import checked, read_lines, write_lines

FORMAT, VERSION = "workbench recorded run", 1
#: Where the runs that come with the workbench are.
FOLDER = project_folder() / "data" / "recorded"
#: What is left out of a file: the machine's list of packages, the builder's log, the kernel of its system.
LEFT_OUT = ("machine", "log", "platform")
#: Times are kept to the nanosecond, which is finer than any clock that took them.
DIGITS = 9
#: The columns of ``RecordedRun.frame`` that ``studies.frame`` has as well.
SHARED = ("label", "precision", "batch", "images_per_second", "compute_images_per_second")
SHARED += ("p50_ms", "p90_ms", "p99_ms", "memory_mib", "engine_mib", "build_s", "top1", "images", "notes")


@dataclass(frozen=True)
class RecordedCase:
    """One engine, one baseline in JAX or PyTorch, or one sweep over resolutions.

    Attributes:
        name: such as ``b32-fp16``.
        measurements: one for each batch, then one for each number of streams.
        engine: its record; the engine itself was not kept. None for a baseline.
        kernels: images of a call -> the rows of ``Session.kernels``.
        logit_error: the largest error against FP32 on ONNX Runtime, as a share of the largest logit.
        checks: what ``tests/gpu/checks.py`` found; empty where it was not asked.
        failed: why the case ended early; empty where it did not.
        profile: attention, MLP and the rest over resolution; None but for a sweep.
    """

    name: str
    measurements: tuple[Measurement, ...] = ()
    engine: Engine | None = None
    kernels: Mapping[int, Sequence[dict]] = field(default_factory=dict)
    logit_error: float | None = None
    checks: Mapping[str, Any] = field(default_factory=dict)
    failed: str = ""
    profile: Profile | None = None

    def placed(self, batch: int | None = None) -> list[PlacedKernel]:
        """The kernels of a call with their blocks and roles; of the largest traced batch by default.

        Raises:
            WorkbenchError: no call of so many images was traced.
        """
        batch = max(self.kernels, default=0) if batch is None else batch
        spec = self.engine.variant.graph.spec if self.engine else None
        if spec is None or batch not in self.kernels:
            traced = ", ".join(map(str, sorted(self.kernels))) or "none"
            raise WorkbenchError(
                f"The kernels of {self.name} at batch {batch} were not recorded",
                why=f"traced were calls of {traced} images",
                remedy="leave the batch out, or choose another case",
            )
        return place_kernels(kernels_of_rows(list(self.kernels[batch])), spec, batch)

    def findings(self) -> pd.DataFrame:
        """Hazards that the kernels show, as ``wb.engine_findings`` has them."""
        engine = self.engine
        rows = find_in_kernels(self.placed(), engine.variant.recipe) if engine and self.kernels else []
        return pd.DataFrame([row[:5] for row in rows], columns=Finding._fields[:5])


@dataclass(frozen=True)
class RecordedRun:
    """What was measured on one machine in one run.

    Attributes:
        name: such as ``h200``.
        machine: the GPU, or the processor where there was none.
        day: when it was measured, ``2026-11-28``.
        cases: by name, in the order of the file.
    """

    name: str
    machine: str
    day: str
    cases: Mapping[str, RecordedCase]

    @property
    def label(self) -> str:
        """What marks a row as recorded elsewhere: ``recorded on NVIDIA H200, 2026-11-28``."""
        return f"recorded on {self.machine}, {self.day}"

    def case(self, name: str) -> RecordedCase:
        """A case by its name.

        Raises:
            WorkbenchError: there is none; the error lists those there are.
        """
        one_of(f"case of the run {self.name!r}", name, tuple(self.cases))
        return self.cases[name]

    def frame(self) -> pd.DataFrame:
        """A row for each measurement.

        Columns: ``case``, ``model``, ``runtime``, ``input``, ``profiles`` (what the engine was built for),
        ``streams`` (0 where the calls of one caller were timed one by one), those of ``SHARED``, where ``label`` is
        the precision and what is quantized in it, ``busy cores`` (that other processes kept busy meanwhile),
        ``notes`` and ``recorded``.
        """
        return pd.DataFrame([row for case in self.cases.values() for row in self._rows(case)])

    def _rows(self, case: RecordedCase) -> Iterable[dict]:
        engine, alone = case.engine, set()
        for m in case.measurements:
            first = m.batch not in alone and m.streams == 1  # streams come after all batches
            alone.add(m.batch)
            yield {
                "case": case.name,
                "model": m.model,
                "runtime": m.environment.get("runtime", m.backend),
                "input": engine.variant.graph.preprocessing.input if engine else "float32",
                "profiles": _profiles(engine),
                "streams": 0 if first else m.streams,
                **{name: value for name, value in measured_row(m).items() if name in SHARED},
                "label": precision_of(m.recipe),
                "busy cores": m.environment.get("other_cores", math.nan),
                "recorded": self.label,
            }

    def builds(self) -> pd.DataFrame:
        """A row for each engine: build time, size, in which types its products multiply, and its error.

        Columns: ``case``, ``model``, ``label``, ``profiles``, ``build_s``, ``engine_mib``, ``products`` (type and
        number of the products of a call), ``fused`` (attentions that are one kernel), ``kernels``, ``logit_error``
        and ``recorded``.
        """
        return pd.DataFrame([self._build(case) for case in self.cases.values() if case.engine])

    def _build(self, case: RecordedCase) -> dict:
        engine, rows = case.engine, list(case.kernels[max(case.kernels)]) if case.kernels else []
        assert engine is not None
        types = Counter(row["type"] for row in rows if row["type"])
        sizes = [m.engine_bytes / MIB for m in case.measurements]
        return {
            "case": case.name,
            "model": engine.variant.graph.spec.name if engine.variant.graph.spec else "",
            "label": precision_of(engine.variant.recipe),
            "profiles": _profiles(engine),
            "build_s": engine.build_seconds,
            "engine_mib": sizes[0] if sizes else float("nan"),
            "products": ", ".join(f"{count} in {kind}" for kind, count in types.most_common()),
            "fused": sum(bool(row["attention"]) for row in rows),
            "kernels": len(rows),
            "logit_error": case.logit_error,
            "recorded": self.label,
        }


def precision_of(recipe: Recipe) -> str:
    """The precision, and in eight bits what is quantized: ``int8 linear``, ``int8 attention``."""
    low = PRECISIONS[recipe.precision].multiplies_in not in (None, *FLOATS)
    return f"{recipe.precision} {recipe.scope}" if low else recipe.precision


def _profiles(engine: Engine | None) -> str:
    """What an engine was built for: ``32, 128, 1…256``; empty for a baseline, which takes any batch."""
    if engine is None:
        return ""
    batches = engine.batches
    spread = str(batches.opt) if batches.min == batches.max else f"{batches.min}…{batches.max}"
    return ", ".join([*map(str, batches.exact), spread])


def recorded(name: str = "h200") -> RecordedRun:
    """A run that comes with the workbench.

    Args:
        name: of a file in ``data/recorded/``.

    Raises:
        WorkbenchError: there is no such run, or its file was changed.
    """
    names = tuple(sorted(path.stem for path in FOLDER.glob("*.jsonl")))
    one_of("recorded run", name, names)
    return read_run(FOLDER / f"{name}.jsonl")


def read_run(path: Path) -> RecordedRun:
    """A run from what ``write_run`` wrote.

    Raises:
        WorkbenchError: it is no such file, or a line is missing, damaged or no case.
    """
    remedy = "take the file from the workbench's own data/recorded, or record the run again"
    header, lines = read_lines(path, FORMAT, VERSION, texts=("machine", "day"), remedy=remedy)
    cases = {}
    for number, line in enumerate(lines, start=2):
        try:
            case = _case(checked(line))
        except (WorkbenchError, ValueError, TypeError, KeyError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"[:300]
            raise WorkbenchError(f"Line {number} of {path} is no case", why=why, remedy=remedy) from error
        cases[case.name] = case
    return RecordedRun(path.stem, header["machine"], header["day"], cases)


def _case(data: Mapping[str, Any]) -> RecordedCase:
    rows = [*data.get("measurements", ()), *data.get("streams", ())]
    kernels = {int(batch): calls for batch, calls in (data.get("kernels") or {}).items()}
    return RecordedCase(
        name=data["case"],
        measurements=tuple(decode(Measurement, row) for row in rows),
        engine=decode(Engine, data["engine"]) if "engine" in data else None,
        kernels=kernels,
        logit_error=data.get("logits"),
        checks=data.get("checks") or {},
        failed=data.get("error", ""),
        profile=_profile(data) if "sweep" in data else None,
    )


def _profile(data: Mapping[str, Any]) -> Profile:
    sweep, times = data["sweep"], data["times"]
    spec = dataclasses.replace(model_spec(sweep["model"]), depth=sweep["depth"])
    spread = {(row["image_size"], row["part"]): (row["fastest_s"], row["median_s"]) for row in times}
    sizes = sorted({size for size, _ in spread})
    splits = {
        size: Split({part: spread[size, part][0] for part in PARTS}, spread[size, "whole"][0]) for size in sizes
    }
    return Profile(spec, data["source"], splits, spread, sizes[-1], Load(**data["load"]))


def write_run(path: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Write the results of a run, as ``benchmarks/gpu_host.py`` has them, to a file.

    Args:
        path: the file; its stem is the run's name.
        results: a case each. What is in ``LEFT_OUT`` is left out, and seconds are rounded to nanoseconds.

    Raises:
        WorkbenchError: no engine names the machine that built it, or the file cannot be written.
    """
    environments = [result["engine"]["environment"] for result in results if "engine" in result]
    named = [
        (facts[kind], facts["time"][:10]) for kind in ("gpu", "cpu") for facts in environments if facts.get(kind)
    ]
    refuse_unless(
        bool(named),
        "Nothing can be recorded",
        why=f"none of {len(results)} cases holds an engine that names its machine",
        remedy="give the folder that `benchmarks/gpu_host.py run` wrote",
    )
    machine, day = named[0]
    header = {"format": FORMAT, "version": VERSION, "machine": machine, "day": day}
    write_lines(path, header, [_kept(result) for result in results])


def _kept(value):
    """A value without what is left out, its seconds rounded."""
    if isinstance(value, Mapping):
        return {name: _kept(each) for name, each in value.items() if name not in LEFT_OUT}
    if isinstance(value, list | tuple):
        return [_kept(each) for each in value]
    return round(value, DIGITS) if isinstance(value, float) else value
