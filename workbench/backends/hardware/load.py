"""What else the machine did while something was timed: other processes, time a hypervisor took, a falling clock."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from ...files import text_or_empty

#: The machine counts as busy where other processes kept more than this share of its cores busy, ...
OTHERS = 0.1
#: ... the hypervisor gave more than this share of their time to other machines, ...
STOLEN = 0.02
#: ... or the clock ended below this share of what it began with.
CLOCK = 0.9
#: How a remark begins.
BUSY = "busy machine while this was timed"
#: Shorter stretches have too few ticks of the system's clock (usually 10 ms) to say anything.
SHORTEST_S = 0.2


@dataclass(frozen=True)
class Load:
    """The load beside a stretch of work; NaN where the operating system does not tell.

    Attributes:
        cores: that the operating system counts.
        others: how many of them other processes kept busy, on average.
        stolen: share of the cores' time that the hypervisor gave to other machines, 0...1.
        clock: the clock's frequency at the end over that at the beginning.
    """

    cores: int = 1
    others: float = math.nan
    stolen: float = math.nan
    clock: float = math.nan

    @property
    def remarks(self) -> tuple[str, ...]:
        """What makes times of this stretch doubtful, a sentence each; empty where nothing is known to."""
        found = []
        if self.others > OTHERS * self.cores:
            found.append(f"other processes kept {self.others:.1f} of {self.cores} cores busy")
        if self.stolen > STOLEN:
            found.append(f"the hypervisor gave {self.stolen:.0%} of the cores' time to other machines")
        if self.clock < CLOCK:
            found.append(f"the clock fell to {self.clock:.0%} of its frequency")
        return tuple(f"{BUSY}: {words}; repeat it when it is quiet" for words in found)

    def facts(self) -> dict[str, float]:
        """The known numbers, for the environment of a record."""
        known = {"other_cores": self.others, "stolen": self.stolen, "clock_ratio": self.clock}
        return {name: round(value, 3) for name, value in known.items() if not math.isnan(value)}


@dataclass(frozen=True)
class _Moment:
    """Seconds since the machine started, summed over its cores, and those of this process and its children."""

    cores: int
    total_s: float
    busy_s: float
    stolen_s: float
    own_s: float
    mhz: float


class Watch:
    """Holds the load of a stretch of work when that has ended."""

    def __init__(self):
        self.load = Load()


@contextlib.contextmanager
def watched() -> Generator[Watch]:
    """Watch the machine while the body runs; ``load`` of what it gives is known afterwards.

    On Linux, from ``/proc/stat`` (proc(5)) and the frequency of the cores; elsewhere nothing is known.
    """
    watch, before = Watch(), _moment()
    yield watch
    watch.load = _between(before, _moment())


def _between(before: _Moment | None, after: _Moment | None) -> Load:
    if before is None or after is None:
        return Load()
    total_s = after.total_s - before.total_s
    if total_s < SHORTEST_S * after.cores:
        return Load(after.cores)
    others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
    clock = after.mhz / before.mhz if before.mhz else math.nan
    return Load(
        after.cores,
        after.cores * max(0.0, others_s) / total_s,
        (after.stolen_s - before.stolen_s) / total_s,
        clock,
    )


def _moment() -> _Moment | None:
    """Now; None where there is no ``/proc/stat``."""
    lines = text_or_empty("/proc/stat").splitlines()
    if not lines or not lines[0].startswith("cpu "):
        return None
    ticks = [int(word) for word in lines[0].split()[1:]]
    user, nice, system, idle, waiting, irq, softirq, stolen = (*ticks, *[0] * 8)[:8]
    busy, tick_s = user + nice + system + irq + softirq, 1 / os.sysconf("SC_CLK_TCK")
    cores = sum(bool(re.match(r"cpu\d", line)) for line in lines)
    total_s = tick_s * (busy + idle + waiting + stolen)
    own_s = sum(os.times()[:4])
    return _Moment(cores, total_s, tick_s * busy, tick_s * stolen, own_s, _mhz())


def _mhz() -> float:
    """The mean frequency of the cores, MHz; 0 where it is not known."""
    files = sorted(Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    found = [float(text) / 1e3 for file in files if (text := text_or_empty(file).strip()).isdigit()]
    if not found:
        found = [float(n) for n in re.findall(r"cpu MHz\s*:\s*([\d.]+)", text_or_empty("/proc/cpuinfo"))]
    return sum(found) / len(found) if found else 0.0
