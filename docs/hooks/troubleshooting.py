"""The page of troubleshooting: every error that the package raises and every refusal, with its cause and remedy.

They are read from the source code, so none can be missing and none is out of date. What depends on the call, such
as a path, is shown in braces as the code names it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mkdocs.structure.files import File

from workbench.errors import Cancelled

PACKAGE = Path(__file__).parents[2] / "workbench"
INTRODUCTION = """\
# Troubleshooting

Every error of the workbench says what was asked, why it does not work, and what to do about it. This page lists
them all, by room; search it for a part of the message. Words in braces and dots stand for values of your call.
*Refusals* are what panels, studies and `workbench doctor` show beside a choice that cannot work here.

Errors that are not on this page come from a library or are a bug of the workbench: please report those with the
whole traceback.
"""


@dataclass(frozen=True)
class Row:
    """An error or a refusal in the source code.

    Attributes:
        room: the module's folder, or the module where it lies in none.
        what: what was asked; empty for a refusal, which is about what the reader chose.
        why: what is there instead.
        remedy: what to do.
    """

    room: str
    what: str
    why: str
    remedy: str


def on_files(files, config):
    """Add the page."""
    files.append(File.generated(config, "troubleshooting.md", content=page(rows(PACKAGE))))
    return files


def page(found: list[Row]) -> str:
    """The page as Markdown: a table for each room, sorted by message."""
    parts = [INTRODUCTION]
    for room in sorted({row.room for row in found}):
        parts.append(f"## {room}\n\n| what was asked | why it does not work | remedy |\n| --- | --- | --- |")
        own = sorted({row for row in found if row.room == room}, key=lambda row: (not row.what, row.what, row.why))
        cells = [(cell(row.what) or "*a refusal*", cell(row.why), cell(row.remedy)) for row in own]
        parts[-1] += "".join(f"\n| {' | '.join(each)} |" for each in cells)
    return "\n\n".join(parts) + "\n"


def rows(package: Path) -> list[Row]:
    """All calls in the package that make an error or a refusal, in the order of files and lines."""
    cancelled = Cancelled()
    made = [row for file in sorted(package.rglob("*.py")) for row in rows_of(file, package)]
    return [*made, Row("errors", cancelled.what, cancelled.why, cancelled.remedy)]


def rows_of(file: Path, package: Path) -> Iterator[Row]:
    """The errors and refusals of one file."""
    parts = file.relative_to(package).with_suffix("").parts
    tree = ast.parse(file.read_text())
    texts = local_texts(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (fields := FIELDS.get(called(node))):
            given = dict(zip(fields, node.args)) | {key.arg: key.value for key in node.keywords if key.arg}
            why = given.get("why", given.get("reason"))
            if why is not None and "remedy" in given:
                what = text(given["what"], texts) if "what" in given else ""
                row = Row(parts[0], what, text(why, texts), text(given["remedy"], texts))
                if (row.why, row.remedy) not in PASSED_ON:
                    yield row


#: Cause and remedy of the helpers in ``errors.py``, which pass on what they get.
PASSED_ON = (("{why}", "{remedy}"), ("{reason}", "{remedy}"), ("{what}: {why}", "{remedy}"))
#: Callable -> the names of its positional arguments, see ``workbench.errors``.
FIELDS = {
    "WorkbenchError": ("what",),
    "refuse_unless": ("condition", "what"),
    "Refusal": ("reason", "remedy"),
}


def called(node: ast.Call) -> str:
    """The last part of what is called: ``WorkbenchError`` of ``errors.WorkbenchError(…)``."""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def local_texts(tree: ast.AST) -> dict[str, ast.expr]:
    """Name -> the text that is assigned to it; a name with several texts is left out."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    return {name: values[0] for name, values in found.items() if len(values) == 1 and is_text(values[0])}


def is_text(node: ast.expr) -> bool:
    """Whether an expression is written as text, with values in it or not."""
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def text(node: ast.expr, texts: dict[str, ast.expr]) -> str:
    """An expression as a reader sees it, on one line."""
    return " ".join(spoken(node, texts).split())


def cell(plain: str) -> str:
    """Text for a cell of a table; braces at a cell's end would be attributes to Markdown."""
    for character in "\\|<>*_`[]":
        plain = plain.replace(character, f"\\{character}")
    return plain.replace("{", "&#123;").replace("}", "&#125;")


def spoken(node: ast.expr, texts: dict[str, ast.expr]) -> str:
    """Text as it is, values in braces, both sides of a choice, and dots for a longer calculation."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(spoken(value, texts) for value in values)
        case ast.FormattedValue(value=value) | ast.BoolOp(values=[value, *_]):
            return spoken(value, {})
        case ast.IfExp(body=body, orelse=orelse):
            return f"{spoken(body, texts)} / {spoken(orelse, texts)}"
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            return spoken(left, texts) + spoken(right, texts)
        case ast.Name(id=name) if name in texts:
            return spoken(texts[name], {})
        case ast.Name() | ast.Attribute():
            return f"{{{ast.unparse(node).removeprefix('self.')}}}"
        case ast.Call(args=[ast.Name() | ast.Attribute() as value, *_]):  # str(error), list(shapes)
            return spoken(value, {})
        case _:
            return "…"
