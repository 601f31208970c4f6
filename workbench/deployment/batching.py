"""Dynamic batching: requests wait a short time for others and are computed together; a full queue refuses."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from ..errors import WorkbenchError


class QueueFull(WorkbenchError):
    """A service has more waiting images than it was told to keep."""


class Closed(WorkbenchError):
    """A service was closed."""


@dataclass(frozen=True, eq=False)
class Request:
    """Images (n, H, W, 3) that wait for their logits (n, classes), and since when (``time.monotonic``)."""

    images: np.ndarray
    answer: Future = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class BatchQueue:
    """A bounded queue that hands requests out in batches, in the order in which they came.

    Args:
        batch: images of a full batch; no request has more.
        delay_s: how long the oldest request waits for others at most, seconds.
        capacity: images that may wait.
    """

    def __init__(self, batch: int, delay_s: float, capacity: int):
        self.batch, self._delay_s, self._capacity = batch, delay_s, capacity
        self._waiting: deque[Request] = deque()
        self._changed = threading.Condition()
        self._images, self._closed = 0, False

    @property
    def images(self) -> int:
        """How many images wait."""
        return self._images

    def put(self, request: Request) -> None:
        """Add a request.

        Raises:
            QueueFull: too many images wait.
            Closed: the service was closed.
        """
        with self._changed:
            if self._closed:
                raise Closed("The service takes no requests", why="it was closed", remedy="deploy the bundle again")
            if self._images + len(request.images) > self._capacity:
                raise QueueFull(
                    f"The service does not take {len(request.images)} images now",
                    why=f"{self._images} images wait already, and it keeps {self._capacity} at most",
                    remedy="ask again later, ask less often, or serve with a larger queue or on more machines",
                )
            self._waiting.append(request)
            self._images += len(request.images)
            self._changed.notify()

    def take(self) -> list[Request]:
        """Wait for the next batch; empty once the queue is closed and every request was handed out."""
        with self._changed:
            while True:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return []
                left = self._waiting[0].since + self._delay_s - time.monotonic()
                if self._images >= self.batch or left <= 0 or self._closed:
                    return self._first_batch()
                self._changed.wait(left)  # another thread may take the oldest meanwhile, so begin again

    def close(self) -> None:
        """Take no more requests; those that wait are handed out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _first_batch(self) -> list[Request]:
        taken, images = [], 0
        while self._waiting and images + len(self._waiting[0].images) <= self.batch:
            request = self._waiting.popleft()
            taken.append(request)
            images += len(request.images)
        self._images -= images
        if self._waiting:
            self._changed.notify()
        return taken
