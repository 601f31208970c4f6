"""The GPU: its name and driver through nvidia-smi; its memory, streams and graphs through pycuda.

No other module of ours calls CUDA.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import importlib
import os
import re
import subprocess
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from ...errors import Refusal

INSTALL_PYCUDA = "conda install -c conda-forge pycuda, or pip install pycuda where nvcc is on the PATH"


class Gpu(NamedTuple):
    """A GPU as the driver describes it; ``sm`` is its compute capability, 86 for 8.6."""

    name: str
    sm: int
    memory_bytes: int
    driver: str


@functools.lru_cache(maxsize=1)
def gpus() -> tuple[Gpu, ...]:
    """The GPUs that CUDA programs see here, from nvidia-smi, which starts no CUDA in this process."""
    command = [
        "nvidia-smi",
        "--query-gpu=name,compute_cap,memory.total,driver_version",
        "--format=csv,noheader,nounits",
    ]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        command += ["-i", visible]
    return tuple(filter(None, map(_gpu, _printed(command).splitlines())))


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
    match = re.search(r"CUDA Version:\s*(\d+)\.(\d+)", _printed(["nvidia-smi"]))
    return (int(match[1]), int(match[2])) if match else None


def _printed(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def cuda_driver() -> ModuleType:
    """The module ``pycuda.driver``, loaded after TensorRT where that is installed.

    Loaded the other way round, TensorRT 8.6's ``Builder`` ends the process with a segmentation fault (seen with
    pycuda 2026.1 built for CUDA 13, on an H200).

    Raises:
        ImportError: pycuda or the driver's library is missing.
    """
    with contextlib.suppress(Exception):  # not installed, or it cannot be loaded: then nothing can crash in it
        importlib.import_module("tensorrt")
    return importlib.import_module("pycuda.driver")


def pycuda_missing() -> Refusal | None:
    """Why engines cannot be run through pycuda here, or None."""
    try:
        cuda_driver()
    except ImportError as error:
        return Refusal(f"pycuda cannot be imported: {error}", INSTALL_PYCUDA)
    return None


def pycuda_cuda() -> tuple[int, int] | None:
    """The CUDA that pycuda was built for, or None where it cannot be imported."""
    try:
        major, minor, *_ = cuda_driver().get_version()
    except ImportError:
        return None
    return major, minor


@functools.lru_cache(maxsize=1)
def device() -> Device:
    """The first GPU that this process sees."""
    atexit.register(device.cache_clear)  # while CUDA is still there
    return Device()


class Device:
    """A GPU and its primary context, the one that TensorRT uses too.

    A context belongs to the thread that pushed it: everything below happens inside ``active()``.
    """

    def __init__(self):
        cuda = cuda_driver()
        cuda.init()
        self.cuda = cuda
        self._context = cuda.Device(0).retain_primary_context()

    @contextlib.contextmanager
    def active(self):
        """Make the context current in this thread."""
        self._context.push()
        try:
            yield self
        finally:
            self.cuda.Context.pop()

    def free_bytes(self) -> int:
        """Bytes of the device's memory that are free."""
        return self.cuda.mem_get_info()[0]


class Buffer:
    """The memory of one tensor, pinned on the host and plain on the device. It grows as needed, never shrinks."""

    def __init__(self, device: Device, dtype):
        self._cuda, self.dtype = device.cuda, np.dtype(dtype)
        self._bytes = 0
        self._pinned: Any = None
        self._memory: Any = None
        self.host = np.empty(0, self.dtype)

    def fit(self, shape: tuple[int, ...]) -> bool:
        """Make ``host`` an array of this shape; True when the memory is at other addresses now."""
        wanted = int(np.prod(shape)) * self.dtype.itemsize
        moved = wanted > self._bytes
        if moved:
            self.free()
            self._pinned = self._cuda.pagelocked_empty(wanted, np.uint8)
            self._memory = self._cuda.mem_alloc(wanted)
            self._bytes = wanted
        self.host = self._pinned[:wanted].view(self.dtype).reshape(shape)
        return moved

    @property
    def address(self) -> int:
        """Where the tensor is on the device."""
        return int(self._memory)

    def upload(self, stream) -> None:
        """Copy to the device, in the order of the stream."""
        self._cuda.memcpy_htod_async(self._memory, self.host, stream)

    def download(self, stream) -> None:
        """Copy from the device, in the order of the stream."""
        self._cuda.memcpy_dtoh_async(self.host, self._memory, stream)

    def free(self) -> None:
        """Free the memory; ``host`` must not be used afterwards."""
        self.host = np.empty(0, self.dtype)
        if self._memory is not None:
            self._memory.free()
            self._pinned.base.free()
        self._bytes, self._pinned, self._memory = 0, None, None


class CudaGraph:
    """The work of a stream, recorded once and replayed with a single launch.

    pycuda has no graphs, so these are five calls of the CUDA driver (CUDA Driver API, "Graph Management").
    """

    _THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile

    def __init__(self, stream, work):
        self._driver, self._exec = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
        self._stream = ctypes.c_void_p(stream.handle)
        recorded = ctypes.c_void_p()
        self._call("cuStreamBeginCapture_v2", self._stream, self._THREAD_LOCAL)
        try:
            work()
        finally:
            ended = self._driver.cuStreamEndCapture(self._stream, ctypes.byref(recorded))
        if ended:
            raise RuntimeError(f"the work cannot be captured: CUDA error {ended}")
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(self._exec), recorded, ctypes.c_ulonglong(0))
        finally:
            self._call("cuGraphDestroy", recorded)

    def launch(self) -> None:
        """Do the recorded work again on the stream it was recorded from."""
        self._call("cuGraphLaunch", self._exec, self._stream)

    def free(self) -> None:
        """Destroy the recorded work."""
        self._call("cuGraphExecDestroy", self._exec)

    def _call(self, function: str, *arguments) -> None:
        if error := getattr(self._driver, function)(*arguments):
            raise RuntimeError(f"{function}: CUDA error {error}")
