"""Run notebooks as programs: parameters come in, executed copies and recorded scalars go out."""

from __future__ import annotations

import ast
import difflib
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .errors import WorkbenchError
from .records import SCALARS_MIMETYPE

#: The files of the tutorial's notebooks; their numbers are their order.
NUMBERED = "[0-9][0-9]_*.ipynb"
#: The notebook whose study the report is about.
STUDY = "07_trade_offs"
#: Kernels log that their loopback ports are not encrypted and that they were asked to end; neither is of use here.
QUIET = ["--IPKernelApp.log_level=50"]
BAR = "{desc:<28}{bar:30}{n_fmt:>4}/{total_fmt} cells {elapsed}"


def notebook_parameters(path) -> tuple[str, ...]:
    """The names that a notebook's cell tagged ``parameters`` sets.

    Raises:
        WorkbenchError: there is no notebook at ``path``.
    """
    import papermill

    path = Path(path)
    if not path.is_file():
        raise WorkbenchError(
            f"There is no notebook {path}",
            why="the file does not exist",
            remedy="name a file below notebooks/; `workbench lab FOLDER` copies them into a folder of yours",
        )
    return tuple(papermill.inspect_notebook(path))


def run_notebook(path, out, parameters: Mapping | None = None, title: str | None = None) -> dict:
    """Execute one notebook in its own folder, as JupyterLab does.

    Args:
        path: the notebook.
        out: where the executed copy goes; it is kept when a cell fails, with the cells so far.
        parameters: values for names in the notebook's ``parameters`` cell.
        title: of a progress bar on standard error; None shows no bar.

    Returns:
        The scalars that its cells recorded with ``workbench.ui.record``.

    Raises:
        WorkbenchError: the notebook does not know a parameter (papermill itself only warns), or a cell failed.
    """
    import papermill

    path, out = Path(path), Path(out).absolute()
    _refuse_unknown(parameters or {}, {path: notebook_parameters(path)})
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        executed = papermill.execute_notebook(
            path.absolute(),
            out,
            dict(parameters or {}),
            progress_bar={"desc": title, "bar_format": BAR} if title else False,
            cwd=path.absolute().parent,
            extra_arguments=QUIET,
        )
    except papermill.PapermillExecutionError as error:
        raise WorkbenchError(
            f"{path.name} stopped in its cell {error.exec_count}",
            why=f"{error.ename}: {error.evalue}",
            remedy=f"read the whole traceback in {out}",
        ) from error
    return recorded_scalars(executed)


def recorded_scalars(notebook) -> dict:
    """The scalars recorded in an executed notebook (an ``nbformat`` node); of one name the last counts."""
    found = {}
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            found |= output.get("data", {}).get(SCALARS_MIMETYPE, {})
    return found


def run_notebooks(paths: Iterable, out, parameters: Mapping | None = None, screen: bool = True) -> dict[str, dict]:
    """Execute notebooks in the order given, each with those parameters that it knows.

    Args:
        paths: the notebooks.
        out: the folder of the executed copies, which keep their names.
        parameters: values by name; every name must be known to at least one notebook.
        screen: whether each notebook gets a progress bar on standard error.

    Returns:
        Notebook's name without its ending -> the scalars it recorded.

    Raises:
        WorkbenchError: no notebook knows a parameter, or a cell failed.
    """
    known = {Path(path): notebook_parameters(path) for path in paths}
    parameters = dict(parameters or {})
    _refuse_unknown(parameters, known)
    results = {}
    for number, (path, names) in enumerate(known.items(), 1):
        own = {name: value for name, value in parameters.items() if name in names}
        title = f"[{number}/{len(known)}] {path.stem}" if screen else None
        results[path.stem] = run_notebook(path, Path(out) / path.name, own, title)
    return results


def _refuse_unknown(parameters: Mapping, known: Mapping[Path, tuple[str, ...]]) -> None:
    names = sorted({name for own in known.values() for name in own})
    where = ", ".join(path.name for path in known)
    for name in parameters:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise WorkbenchError(
                f"Unknown parameter {name!r}",
                why=f"{where} has {', '.join(names) or 'no parameters'}",
                remedy=f"did you mean {near[0]!r}?" if near else "use one of these names",
            )


def run_tutorial(out, workspace, parameters: Mapping | None = None, notebooks="notebooks") -> str:
    """Run the whole tutorial in the order of its numbers, write the report of its study, and return a summary.

    The parameters ``name``, ``max_drop`` and ``max_latency_ms`` (0 is no limit) of ``07_trade_offs`` name the study
    and the limits of the choice.

    Args:
        out: the folder of executed copies and ``report.html``.
        workspace: where artefacts and measurements are kept between runs.
        parameters: values for the notebooks' parameters.
        notebooks: the folder of the notebooks.

    Returns:
        The table, the chosen engine with its reason, where the time went, and where to look.

    Raises:
        WorkbenchError: the folder has no such notebooks, a parameter that none of them knows, or a cell failed.
    """
    from .reporting.figures.stills import add_stills
    from .reporting.html import write_report
    from .reporting.table import printed
    from .studies.results import study_results

    out, workspace = Path(out).absolute(), Path(workspace).absolute()
    paths = _tutorial_notebooks(Path(notebooks))
    given: dict[str, Any] = {**(parameters or {}), "workspace": str(workspace)}
    run_notebooks(paths.values(), out, given)
    executed = [out / path.name for path in paths.values()]
    missing = add_stills(executed)
    values = parameter_values(paths[STUDY]) | given
    results = study_results(workspace, values["name"])
    choice = results.choose(values["max_drop"], values["max_latency_ms"] or None)
    report = write_report(out / "report.html", results, choice)
    width = min(116, shutil.get_terminal_size((116, 24)).columns)
    return "\n".join(
        (
            "",
            printed(results.frame(), choice.row),
            "",
            textwrap.fill(choice.reason, width),
            "",
            textwrap.fill(f"Time:      {times_of(executed)}", width, subsequent_indent=" " * 11),
            f"Report:    {report}",
            f"Notebooks: {out}, executed; open the originals with `workbench lab`",
            *([missing] if missing else []),
        )
    )


def _tutorial_notebooks(folder: Path) -> dict[str, Path]:
    """Stem -> path of the tutorial's notebooks, in their order."""
    found = {path.stem: path for path in sorted(folder.glob(NUMBERED))}
    if STUDY not in found:
        raise WorkbenchError(
            f"There is no tutorial in {folder}",
            why=f"it has no {STUDY}.ipynb, whose study the report is about",
            remedy="name the workbench's folder of notebooks; `workbench lab FOLDER` copies them into one of yours",
        )
    return found


def times_of(executed: Iterable[Path]) -> str:
    """How long each executed notebook took, and all together, as papermill noted it."""
    import nbformat

    seconds = {}
    for path in executed:
        noted = nbformat.read(path, as_version=4).metadata.get("papermill", {})
        seconds[path.stem[:2]] = float(noted.get("duration") or 0)
    each = ", ".join(f"{name} {took:.0f} s" for name, took in seconds.items())
    return f"{sum(seconds.values()):.0f} s; {each}"


def parameter_values(path) -> dict[str, Any]:
    """The values that a notebook's ``parameters`` cell sets, by name."""
    import papermill

    return {name: ast.literal_eval(one["default"]) for name, one in papermill.inspect_notebook(path).items()}
