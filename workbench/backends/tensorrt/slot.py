"""One batch in flight: its buffers, and the events that order its copies and its compute."""

from __future__ import annotations

from typing import Any

from ..hardware.gpu import Buffer
from .engine import LoadedEngine


class Slot:
    """Pinned and device memory of all inputs and outputs of one batch. Made and used inside ``device.active()``.

    Attributes:
        buffers: by the tensor's name.
        uploaded: happens when the inputs are on the device.
        done: happens when the outputs are in pinned memory.
    """

    def __init__(self, loaded: LoadedEngine):
        self.buffers = {name: Buffer(loaded.device, dtype) for name, dtype in loaded.dtypes.items()}
        self.uploaded: Any = loaded.device.cuda.Event()
        self.done: Any = loaded.device.cuda.Event()

    def free(self) -> None:
        """Free the memory and the events."""
        for buffer in self.buffers.values():
            buffer.free()
        self.uploaded = self.done = None
