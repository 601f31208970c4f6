"""Profiles of attention that a workspace holds already: a sweep over resolutions is timed once on a machine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..backends.hardware.load import Load
from ..code_version import tool_versions
from ..digests import digest
from ..ledger import new_run_id
from ..models.meter import JaxMeter
from ..performance.attention_profile import Profile, profile_attention
from ..performance.parts import PARTS, Split
from ..progress import Progress, silent
from ..records import ModelSpec
from ..workspace import Workspace
from .request import machine_facts

#: The kind of these observations in the ledger.
KEPT = "attention profile"


@dataclass(frozen=True)
class PartTime:
    """Seconds of one part of a model at one image size: the fastest call and the median one."""

    image_size: int
    part: str
    fastest_s: float
    median_s: float


@dataclass(frozen=True)
class KeptProfile:
    """A ``Profile`` as rows.

    Attributes:
        run_id: when it was measured, and which run that was.
        source: what was timed.
        times: of every part at every size, the whole call as part ``whole``.
        held_back: the size that no curve was fitted to.
        load: what else the machine did meanwhile, the fields of ``Load`` that are known.
    """

    run_id: str
    source: str
    times: tuple[PartTime, ...]
    held_back: int
    load: Mapping[str, float]

    def profile(self, spec: ModelSpec) -> Profile:
        """The profile of this model that the rows were made of."""
        spread = {(row.image_size, row.part): (row.fastest_s, row.median_s) for row in self.times}
        sizes = sorted({size for size, _ in spread})
        splits = {
            size: Split({part: spread[size, part][0] for part in PARTS}, spread[size, "whole"][0]) for size in sizes
        }
        return Profile(spec, self.source, splits, spread, self.held_back, _load(self.load))


def _load(known: Mapping[str, float]) -> Load:
    beside = {name: value for name, value in known.items() if name != "cores"}
    return Load(int(known.get("cores", 1)), **beside)


def find_or_profile_attention(
    spec: ModelSpec,
    sizes: Sequence[int],
    workspace,
    *,
    batch: int = 1,
    seconds: float = 0.5,
    source: str = "JAX on this machine",
    progress: Progress = silent,
) -> tuple[Profile, str]:
    """The profile that an earlier call measured with these arguments on this machine, or a new one.

    ``profile_attention`` always measures.

    Args:
        spec: as for ``profile_attention``, like ``sizes``, ``source`` and ``progress``.
        sizes: image sizes in pixels.
        workspace: a ``Workspace`` or a folder's path, which keeps the profile.
        batch: images per call.
        seconds: of timing per size and round.
        source: what is timed, for titles.
        progress: see ``progress.Progress``.

    Returns:
        The profile, and the run id of its measurement, which begins with the time in UTC.

    Raises:
        WorkbenchError: as for ``profile_attention``.
    """
    workspace, versions = Workspace.of(workspace), tool_versions(("jax", "jaxlib", "flax"))
    key = digest(spec, sorted(set(sizes)), batch, seconds, source, versions, machine_facts())
    if kept := workspace.observations(KEPT, KeptProfile, key):
        return kept[-1].profile(spec), kept[-1].run_id
    found = profile_attention(spec, sizes, meter=JaxMeter(batch, seconds), source=source, progress=progress)
    times = tuple(PartTime(size, part, *spread) for (size, part), spread in found.spread.items())
    known = {name: value for name, value in vars(found.load).items() if not math.isnan(value)}
    kept = KeptProfile(new_run_id(), source, times, found.held_back, known)
    workspace.append(KEPT, key, kept)
    return kept.profile(spec), kept.run_id
