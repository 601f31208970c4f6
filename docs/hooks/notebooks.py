"""Pages of the tutorial: every notebook executed once, its text, code, tables and figures as Markdown.

Executed copies are kept in ``runs/docs``; a notebook runs again when its own cells have changed. After a change of
the package, remove that folder.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

from workbench.reporting.figures.stills import FIGURE, PICTURE, add_stills
from workbench.tutorial import run_notebook

ROOT = Path(__file__).parents[2]
EXECUTED = ROOT / "runs" / "docs"


def on_files(files, config):
    """Add a page for each notebook, and its pictures."""
    for page in pages(sorted((ROOT / "notebooks").glob("*.ipynb")), EXECUTED).items():
        files.append(File.generated(config, f"tutorial/{page[0]}", content=page[1]))
    return files


def pages(notebooks: list[Path], executed: Path) -> dict[str, str | bytes]:
    """The files of the pages by name, Markdown and pictures.

    Raises:
        WorkbenchError: a cell failed.
        RuntimeError: the figures cannot be drawn as pictures.
    """
    for path in notebooks:
        if not is_fresh(path, executed / path.name):
            run_notebook(path, executed / path.name, title=path.stem)
    if missing := add_stills(executed / path.name for path in notebooks if not is_pictured(executed / path.name)):
        raise RuntimeError(missing)
    made: dict[str, str | bytes] = {}
    for path in notebooks:
        made |= rendered(executed / path.name)
    return made


def is_fresh(notebook: Path, executed: Path) -> bool:
    """Whether the executed copy, if there is one, ran to its end with the notebook's present cells."""
    return executed.is_file() and cells(notebook) == cells(executed) and not failed(executed)


def is_pictured(executed: Path) -> bool:
    """Whether every figure of an executed notebook has its picture."""
    return all(PICTURE in output.data for output in outputs(executed) if FIGURE in output.get("data", {}))


def cells(notebook: Path) -> list[str]:
    """The sources of a notebook's cells, without the one that papermill adds."""
    read = nbformat.read(notebook, as_version=4)
    return [cell.source for cell in read.cells if "injected-parameters" not in cell.metadata.get("tags", ())]


def failed(notebook: Path) -> bool:
    """Whether papermill stopped in a cell."""
    return any(output.output_type == "error" for output in outputs(notebook))


def outputs(notebook: Path) -> list:
    """All outputs of a notebook's cells."""
    read = nbformat.read(notebook, as_version=4)
    return [output for cell in read.cells for output in cell.get("outputs", ())]


def rendered(notebook: Path) -> dict[str, str | bytes]:
    """An executed notebook as Markdown with its pictures."""
    exporter = MarkdownExporter()
    resources = {"output_files_dir": f"{notebook.stem}_files", "unique_key": notebook.stem}
    text, made = exporter.from_filename(str(notebook), resources=resources)
    return {f"{notebook.stem}.md": text, **made.get("outputs", {})}
