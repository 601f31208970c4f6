"""The GPU: what it is, and its memory, streams and events through pycuda. Nothing else here touches CUDA."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from typing import NamedTuple


class Gpu(NamedTuple):
    """A GPU as the driver describes it; ``sm`` is its compute capability, 86 for 8.6."""

    name: str
    sm: int
    memory_bytes: int
    driver: str


@functools.lru_cache(maxsize=1)
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that CUDA programs see here, by nvidia-smi: asking it starts no CUDA in this process."""
    command = [
        "nvidia-smi",
        "--query-gpu=name,compute_cap,memory.total,driver_version",
        "--format=csv,noheader,nounits",
    ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        command += ["-i", visible]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(filter(None, map(_gpu, done.stdout.splitlines())))


def _gpu(line: str) -> Gpu | None:
    """One line of nvidia-smi's table: ``NVIDIA H200, 9.0, 143771, 580.65.06`` (memory in MiB)."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 4 or not fields[1].replace(".", "").isdigit():
        return None
    name, capability, mebibytes, driver = fields
    return Gpu(name, int(capability.replace(".", "")), int(mebibytes) << 20 if mebibytes.isdigit() else 0, driver)


@functools.lru_cache(maxsize=1)
def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the driver knows, as nvidia-smi prints it, or None without a driver."""
    try:
        text = subprocess.run(["nvidia-smi"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None
