"""Shipping an engine: a bundle that checks itself, and a service that falls back to the original model.

An engine and images come in; a *bundle*, a folder of plain files, goes out, and on the receiver's machine a
``Deployment`` that serves it. ``manifest`` defines what a bundle holds, ``bundle`` writes one, ``verify`` checks
one, ``service`` serves one. The engine runs in a process of its own (``engine_process`` here, ``worker`` there),
and ``fallback`` decides when the original model answers instead.
"""
