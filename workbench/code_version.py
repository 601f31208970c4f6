"""The version of code: a digest of a module's source and of all that it imports from its own package.

An artefact carries this digest, so that code that was changed never meets a file that older code made. The modules
are found by reading the import statements, those inside functions too; nobody keeps a list by hand.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from pathlib import Path


@functools.cache
def code_digest(module: str) -> str:
    """The SHA-256 of the source of a module's ``import_closure``; of its name where it has no file."""
    total = hashlib.sha256()
    for name in import_closure(module) or (module,):
        total.update(name.encode())
        if file := _source(name):
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


@functools.cache
def tool_versions(tools: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of distributions, ``absent`` where there is none."""
    versions = {}
    for tool in tools:
        try:
            versions[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            versions[tool] = "absent"
    return versions


@functools.cache
def import_closure(module: str) -> tuple[str, ...]:
    """The names of a module and of every module that it imports, directly or not, from its own top-level package.

    An ``__init__`` counts where a name is taken from it, not where it is merely passed on the way to a module.
    """
    package, found, waiting = module.partition(".")[0], set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in found and (name == module or name.partition(".")[0] == package) and _source(name):
            found.add(name)
            waiting += _imports(name)
    return tuple(sorted(found))


@functools.cache
def _imports(module: str) -> tuple[str, ...]:
    return tuple(_imported(module, ast.parse(_source(module).read_bytes())))


def _imported(module: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(module, node)
            names = [alias.name for alias in node.names]
            inside = [name for name in names if _source(f"{origin}.{name}")]
            yield from (f"{origin}.{name}" for name in inside)
            if len(inside) < len(names):
                yield origin


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """The full name of the module in ``from ..name import``."""
    if not node.level:
        return node.module
    parts = module.split(".")
    is_package = _source(module).name == "__init__.py"
    parents = parts[: len(parts) - node.level + is_package]
    return ".".join([*parents, *filter(None, [node.module])])


@functools.cache
def _source(module: str) -> Path | None:
    """The file of a Python module, or None for what is no module or is not written in Python."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError, AttributeError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None
