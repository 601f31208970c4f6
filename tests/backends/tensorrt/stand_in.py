"""A stand-in for CUDA that counts what it hands out, and an engine on it that doubles its input."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

SIZE = 4


class Memory:
    """Bytes on the host or the device; NumPy knows them as the base of its array."""

    def __init__(self, cuda, count):
        self._cuda, self.memory = cuda, np.zeros(count, np.uint8)
        self.__array_interface__ = self.memory.__array_interface__
        cuda.taken.add(self)

    def __int__(self):
        return id(self)

    def free(self):
        self._cuda.taken.remove(self)


class Cuda:
    """Memory as pycuda.driver hands it out; ``taken`` is what was not given back."""

    def __init__(self):
        self.taken, self.uploads = set(), 0
        self.enqueued = self.most_enqueued = 0
        self.order = []

    def pagelocked_empty(self, count, dtype):
        return np.asarray(Memory(self, count))

    def mem_alloc(self, count):
        return Memory(self, count)

    def Event(self):
        return Event(self)

    def memcpy_htod_async(self, memory, host, stream):
        self.uploads += 1
        self.order.append(("upload", stream, memory))
        memory.memory[: host.nbytes] = host.view(np.uint8).ravel()

    def memcpy_dtoh_async(self, host, memory, stream):
        self.order.append(("download", stream, memory))
        host.view(np.uint8).reshape(-1)[:] = memory.memory[: host.nbytes]

    def at(self, address):
        return next(memory for memory in self.taken if id(memory) == address)

    def Stream(self):
        return Stream(self)


class Stream:
    """Work is noted in the order in which it was given, and done at once."""

    handle = 7

    def __init__(self, cuda):
        self._cuda = cuda

    def synchronize(self):
        pass

    def wait_for_event(self, event):
        self._cuda.order.append(("wait", self, event))


class Event:
    """What was enqueued up to a place in a stream; CUDA counts how many were not waited for yet."""

    def __init__(self, cuda):
        self._cuda = cuda

    def record(self, stream):
        self._cuda.order.append(("record", stream, self))
        self._cuda.enqueued += 1
        self._cuda.most_enqueued = max(self._cuda.most_enqueued, self._cuda.enqueued)
        return self

    def synchronize(self):
        self._cuda.enqueued -= 1
        return self


class Context:
    """Doubles ``images`` into ``logits``."""

    def __init__(self, cuda):
        self._cuda, self.shape, self.addresses, self.reshaped, self.executed = cuda, None, {}, 0, 0

    def set_optimization_profile_async(self, profile, stream):
        self.profile = profile

    def set_input_shape(self, name, shape):
        self.shape = tuple(shape)
        self.reshaped += 1

    def get_tensor_shape(self, name):
        return self.shape

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        count = int(np.prod(self.shape)) * 4
        given = self._cuda.at(self.addresses["images"]).memory[:count].view(np.float32)
        self._cuda.at(self.addresses["logits"]).memory[:count].view(np.float32)[:] = 2 * given
        self.executed += 1
        self._cuda.order.append(("compute", None, self.addresses["images"]))
        return True


class Native:
    """An engine for batches of 1 to 32, tuned for 8, with room for so many contexts."""

    num_io_tensors, num_optimization_profiles = 2, 1

    def __init__(self, cuda, room):
        self._cuda, self._room, self.contexts = cuda, room, []

    def get_tensor_name(self, index):
        return ("images", "logits")[index]

    def get_tensor_mode(self, name):
        return {"images": "in", "logits": "out"}[name]

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name):
        return (-1, SIZE)

    def get_tensor_profile_shape(self, name, index):
        assert name == "images"  # outputs have no profile
        return [(1, SIZE), (8, SIZE), (32, SIZE)]

    def create_execution_context(self):
        if len(self.contexts) == self._room:
            return None
        self.contexts.append(Context(self._cuda))
        return self.contexts[-1]
