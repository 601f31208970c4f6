"""What this machine has for the workbench, which parts do not work together, and the remedies.

Rows are plain dicts: ``item``, ``found``, ``status`` and ``remedy``. The status is ``ok``, ``missing`` for an
optional part that is not installed, or ``clash`` for parts that do not work together.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..backends import REGISTRY, backend
from ..backends.hardware.cpu import environment
from ..backends.hardware.gpu import INSTALL_PYCUDA, Gpu, driver_cuda, gpus, pycuda_cuda
from ..backends.hardware.kernel_trace import tracer_missing, tracer_name
from ..backends.tensorrt.backend import tensorrt_rtx
from ..backends.tensorrt.versions import MAX_OPSET

OK, MISSING, CLASH = "ok", "missing", "clash"
#: Distribution -> what it is for, and how to get it.
PACKAGES = {
    "numpy": ("arrays", "pip install numpy"),
    "jax": ("the model, and the baseline", "pip install vit-workbench"),
    "jaxlib": ("the model, and the baseline", "pip install vit-workbench"),
    "flax": ("the model", "pip install vit-workbench"),
    "onnx": ("graphs", "pip install vit-workbench"),
    "onnxruntime": ("engines on the CPU", "pip install onnxruntime"),
    "tensorrt-rtx": ("engines for RTX GPUs, built on any machine", "pip install tensorrt-rtx (Linux, x86-64)"),
    "tensorrt": ("engines on the GPU of this machine", "pip install tensorrt, on a machine with an NVIDIA GPU"),
    "pycuda": ("running TensorRT engines", INSTALL_PYCUDA),
    "distributed": ("many hosts at once", "pip install 'vit-workbench[dask]'"),
}
#: Names under which a package is installed as well.
ALIASES = {"tensorrt": ("tensorrt", "tensorrt-cu13", "tensorrt-cu12", "tensorrt-cu11")}
#: The oldest driver on Linux for a major version of CUDA ("CUDA Compatibility", minor version compatibility).
DRIVER_FOR_CUDA = {11: 450, 12: 525, 13: 580}
#: The oldest major version of CUDA that a major version of TensorRT is built for, from its support matrices.
CUDA_FOR_TENSORRT = {8: 11, 10: 11, 11: 12}
#: The same for TensorRT for RTX.
CUDA_FOR_RTX = 12


def rows() -> list[dict]:
    """All facts and clashes of this machine, as rows for a table."""
    found = gpus()
    return [
        *_interpreter(),
        *_packages(),
        *_gpu_rows(found),
        *_cuda_rows(found),
        *_kernel_lists(found),
        *_backends(),
        *_combinations(found),
    ]


def _row(item: str, found: str, status: str = OK, remedy: str = "") -> dict:
    return {"item": item, "found": found, "status": status, "remedy": remedy}


def _interpreter() -> Iterator[dict]:
    facts = environment()
    fits = sys.version_info >= (3, 10)
    yield _row(
        "Python",
        f"{platform.python_version()} ({sys.executable})",
        OK if fits else CLASH,
        "" if fits else "install Python 3.11; 3.10 is enough for a host that only runs jobs",
    )
    yield _row(
        "processor", f"{facts['cpu']}, {facts['cores']} cores, {facts['isa'] or 'no vector extensions known'}"
    )
    yield _row("memory", _gib(_physical_memory()))
    yield _row("disk", f"{_gib(shutil.disk_usage(Path.home()).free)} free at {Path.home()}")


def _packages() -> Iterator[dict]:
    for name, (purpose, remedy) in PACKAGES.items():
        if version := _version(name):
            yield _row(name, version)
        else:
            yield _row(name, f"not installed ({purpose})", MISSING, remedy)


def _version(name: str) -> str | None:
    for alias in ALIASES.get(name, (name,)):
        try:
            return importlib.metadata.version(alias)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def _gpu_rows(found: tuple[Gpu, ...]) -> Iterator[dict]:
    if not found:
        remedy = "engines for RTX GPUs are built without one (tensorrt-rtx); to run them, name a host in hosts.toml"
        yield _row("GPU", "nvidia-smi shows none", MISSING, remedy)
        return
    for index, gpu in enumerate(found):
        yield _row(f"GPU {index}", f"{gpu.name}, SM{gpu.sm}, {_gib(gpu.memory_bytes)}")


def _kernel_lists(found: tuple[Gpu, ...]) -> Iterator[dict]:
    """Which tool lists the kernels of a call; without a GPU there are none to list."""
    if not found:
        return
    if refusal := tracer_missing():
        yield _row("kernel lists", refusal.reason, MISSING, refusal.remedy)
    else:
        yield _row("kernel lists", f"by {tracer_name()}")


def _cuda_rows(found: tuple[Gpu, ...]) -> Iterator[dict]:
    driver, runtime = driver_cuda(), pycuda_cuda()
    if driver:
        version = f"{found[0].driver}, " if found else ""
        yield _row("CUDA driver", f"{version}CUDA {_dotted(driver)} and below")
    else:
        remedy = "only a machine with an NVIDIA GPU needs it: install NVIDIA's driver there"
        yield _row("CUDA driver", "nvidia-smi shows none", MISSING, remedy)
    if runtime:
        yield _row("CUDA runtime", f"{_dotted(runtime)}, the one that pycuda was built for")
    else:
        yield _row("CUDA runtime", "pycuda, which brings it, cannot be imported", MISSING, INSTALL_PYCUDA)


def _backends() -> Iterator[dict]:
    yield from map(backend_row, REGISTRY)


def backend_row(name: str) -> dict:
    """Whether one backend can be used on this machine, as a row."""
    runtime = backend(name)
    if refusal := runtime.missing():
        return _row(f"backend {name}", refusal.reason, MISSING, refusal.remedy)
    return _row(f"backend {name}", runtime.description())


# ---- parts that must fit each other ------------------------------------------------------------------------------


def _combinations(found: tuple[Gpu, ...]) -> Iterator[dict]:
    yield from _jax_pair()
    tensorrt, rtx = _version("tensorrt"), _version("tensorrt-rtx")
    if found and (tensorrt or rtx) and not _version("pycuda"):
        yield _row("engines and pycuda", "engines can be built and not run", CLASH, INSTALL_PYCUDA)
    if found and rtx:
        yield from _rtx_and_gpu(found[0])
    if tensorrt and (opset := MAX_OPSET.get(_numbers(tensorrt)[0])):
        lacks = ", and knows neither BF16 nor FP8" if _numbers(tensorrt)[0] == 8 else ""
        found_opset = f"TensorRT {tensorrt} reads opset {opset} and below{lacks}"
        yield _row("TensorRT and opset", found_opset, OK, f"export with opset={min(opset, 20)} for it")
    if found and (cuda := driver_cuda()):
        for what, major, oldest in _built_for(tensorrt):
            yield from _driver_against(what, major, oldest, cuda, found[0].driver)


def _jax_pair() -> Iterator[dict]:
    """jaxlib must not be newer than jax (https://docs.jax.dev/en/latest/jep/9419-jax-versioning.html)."""
    jax, jaxlib = _version("jax"), _version("jaxlib")
    if jax and jaxlib and _numbers(jaxlib) > _numbers(jax):
        yield _row(
            "jax and jaxlib", f"jaxlib {jaxlib} is newer than jax {jax}", CLASH, f"pip install jaxlib=={jax}"
        )


def _rtx_and_gpu(gpu: Gpu) -> Iterator[dict]:
    runtime = tensorrt_rtx()
    if not runtime.missing() and (refusal := runtime.unsupported(gpu.name, gpu.sm)):
        yield _row("tensorrt-rtx and the GPU", refusal.reason, CLASH, refusal.remedy)


def _built_for(tensorrt: str | None) -> Iterator[tuple[str, int, int]]:
    """Each installed package that needs a CUDA: its name, that major version, the oldest it is built for."""
    if runtime := pycuda_cuda():
        yield "pycuda", runtime[0], 0  # it is built on any
    oldest = {"tensorrt": CUDA_FOR_TENSORRT.get(_numbers(tensorrt)[0]) if tensorrt else None, "tensorrt-rtx": None}
    for name, version in (("tensorrt", tensorrt), ("tensorrt-rtx", _version("tensorrt-rtx"))):
        if not version:
            continue
        packaged = [major for major in DRIVER_FOR_CUDA if _version(f"{name}-cu{major}")]
        if major := (packaged[-1] if packaged else oldest[name]):
            yield f"{name} {version}", major, oldest[name] or CUDA_FOR_RTX


def _driver_against(what: str, major: int, oldest: int, cuda: tuple[int, int], driver: str) -> Iterator[dict]:
    """A driver runs what was built for its own major version of CUDA and for older ones."""
    if cuda[0] >= major:
        return
    other = f", or a build for CUDA {cuda[0]}" if cuda[0] >= oldest else ""
    yield _row(
        f"driver and {what.partition(' ')[0]}",
        f"{what} needs CUDA {major}, and driver {driver} ends at CUDA {_dotted(cuda)}",
        CLASH,
        f"install driver {DRIVER_FOR_CUDA[major]} or later{other}",
    )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return 0


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB" if count else "not known"


def table(found: Sequence[Mapping]) -> str:
    """Rows as text for a terminal: one line each, and a second one with the remedy."""
    width, lines = max(len(row["item"]) for row in found), []
    for row in found:
        lines.append(f"{row['status']:8}{row['item']:{width}}  {row['found']}")
        if row["remedy"]:
            lines.append(f"{'':8}{'':{width}}  -> {row['remedy']}")
    return "\n".join(lines)
