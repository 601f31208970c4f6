"""Pages of reference, from docstrings: the public names, a page for each room of the package, and the commands."""

from __future__ import annotations

import inspect
from pathlib import Path

from mkdocs.structure.files import File

import workbench
from workbench.cli.commands import app

PACKAGE = Path(workbench.__file__).parent
PUBLIC = """\
# Reference

`import workbench as wb` gives the names below. Each room of the package has a page of its own; what a room is for
is in [the architecture](../architecture.md).

| name | what it does |
| --- | --- |
"""


def on_files(files, config):
    """Add the pages."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    files.append(File.generated(config, "commands.md", content=app.generate_docs()))
    return files


def pages() -> dict[str, str]:
    """Page -> its Markdown, in which mkdocstrings fills in the docstrings."""
    rooms = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    modules = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))
    links = ", ".join(f"[{room}]({room}.md)" for room in [*rooms, "ground_floor"])
    made = {"index": f"{PUBLIC}{public_names()}\n\nRooms: {links}.\n"}
    made |= {room: f"# {room}\n\n::: workbench.{room}\n" for room in rooms}
    made["ground_floor"] = "# Modules of no room\n\n" + "\n".join(f"::: workbench.{name}\n" for name in modules)
    return made


def public_names() -> str:
    """A row for each public name, with the first sentence of its docstring."""
    rows = []
    for name in workbench.__all__:
        made = getattr(workbench, name)
        first = (inspect.getdoc(made) or "").split("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        rows.append(f"| [`wb.{name}`][{made.__module__}.{made.__qualname__}] | {first} |")
    return "\n".join(rows)
