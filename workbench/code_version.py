"""The version of code: a digest of a module's source and of the source of everything that it imports from us.

An artefact carries this digest, so an artefact that older code made is never taken for one of today's code. The
modules are found by reading import statements, those inside functions too. No list of modules is kept by hand, and
nothing is imported to find them. Data files are not covered: a function that makes an artefact from one gives its
content as an input.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import importlib.util
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path


@functools.cache
def code_digest(module: str) -> str:
    """The SHA-256 of the source of a module's ``import_closure``.

    Args:
        module: a full name, such as ``workbench.graphs.export``. A module without a Python file, such as
            ``__main__``, is represented by its name alone.
    """
    total = hashlib.sha256()
    for name in import_closure(module) or (module,):
        total.update(name.encode())
        if file := source_file(name):
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


@functools.cache
def tool_versions(tools: tuple[str, ...]) -> dict[str, str]:
    """The installed versions of distributions; ``absent`` for one that is not installed."""
    versions = {}
    for tool in tools:
        try:
            versions[tool] = importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            versions[tool] = "absent"
    return versions


@functools.cache
def import_closure(module: str) -> tuple[str, ...]:
    """The names of a module and of all modules of its top-level package that it imports, directly or indirectly.

    The ``__init__`` of a package counts when a name is imported from it. It does not count when it is only a parent
    of the imported module: ``from package.module import name`` adds ``package.module`` alone.
    """
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found and source_file(name):
            found.add(name)
            waiting += _imports_of(name)
    return tuple(sorted(found))


@functools.cache
def _imports_of(module: str) -> tuple[str, ...]:
    """The modules of the same top-level package that a module's import statements name."""
    file = source_file(module)
    if file is None:
        return ()
    package = module.partition(".")[0]
    names = _named_by(module, file.name == "__init__.py", ast.parse(file.read_bytes()))
    return tuple(name for name in names if name.partition(".")[0] == package)


def _named_by(module: str, is_package: bool, tree: ast.Module) -> Iterator[str]:
    for node in _statements(tree.body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level + is_package or None] if node.level else []
            origin = ".".join([*parents, *filter(None, [node.module])])
            submodules = [name for alias in node.names if source_file(name := f"{origin}.{alias.name}")]
            yield from submodules
            if len(submodules) < len(node.names):
                yield origin


def _statements(block: list) -> Iterator[ast.AST]:
    """All statements of a block and of the blocks inside them: functions, classes, branches, handlers, cases."""
    for node in block:
        yield node
        for inner in ("body", "handlers", "orelse", "finalbody", "cases"):
            yield from _statements(getattr(node, inner, []))


@functools.cache
def source_file(module: str) -> Path | None:
    """The source file of a module, or None where there is no such module or it is not written in Python."""
    package, *parts = module.split(".")
    spec = _spec_of(package)
    if spec is None:
        return None
    paths = [Path(folder, *parts) for folder in spec.submodule_search_locations or ()]
    files = [path / "__init__.py" for path in paths]
    if parts:
        files += [path.with_name(f"{path.name}.py") for path in paths]
    elif spec.origin and spec.origin.endswith(".py"):
        files.append(Path(spec.origin))
    return next((file for file in files if file.is_file()), None)


@functools.cache
def _spec_of(package: str) -> ModuleSpec | None:
    """How a top-level package or module is found; this does not import it."""
    try:
        return importlib.util.find_spec(package)
    except (ImportError, ValueError):  # __main__ has no spec
        return None
