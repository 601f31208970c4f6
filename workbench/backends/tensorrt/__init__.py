"""TensorRT 8.6, 10 and 11, and TensorRT for RTX.

A variant comes in; a serialized engine goes out, and sessions on a GPU. ``backend`` is the front; a build goes
through ``options``, ``build``, ``log`` and ``refusals``, an open engine through ``engine`` and ``session``.
``layers`` reads what was built, and ``versions`` holds every difference between the versions.
"""
