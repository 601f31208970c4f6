"""What the pages for maintainers mention exists: files, folders, names, commands, options and targets."""

import functools
import importlib
import re
import shlex
from pathlib import Path

import pytest

import workbench
from workbench.cli.commands import app

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workbench"
PAGES = [ROOT / "docs" / "architecture.md", ROOT / "CONTRIBUTING.md"]
#: Programs that are not ours.
FOREIGN = {"git", "pytest", "ruff", "ty", "pip", "python3", "ssh"}
TARGETS = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.M))


def quoted(page: Path) -> list[str]:
    """The code spans of a page, and the lines of its blocks that are shell commands."""
    text = page.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.M | re.S)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [*re.findall(r"`([^`\n]+)`", prose), *filter(None, lines)]


@functools.cache
def words() -> frozenset[str]:
    """Every word of the package, its notebooks and settings."""
    files = [*PACKAGE.rglob("*.py"), *ROOT.glob("notebooks/*.ipynb"), ROOT / "pyproject.toml"]
    return frozenset(word for file in files for word in re.findall(r"[\w-]+(?:\.toml)?", file.read_text()))


def is_path(text: str) -> bool:
    return any((base / text).exists() for base in (ROOT, PACKAGE))


def is_dotted_name(text: str) -> bool:
    """``graphs.quantization.recipe.LOWERINGS``, ``wb.measure`` or ``Recipe.exclude``: modules, then attributes."""
    if not re.fullmatch(r"[\w.]+", text):
        return False
    parts = re.sub(r"^(wb|workbench)\.", "", text).split(".")
    for length in range(len(parts), -1, -1):
        try:
            found = importlib.import_module(".".join(["workbench", *parts[:length]]))
        except ImportError:
            continue
        return has_attributes(found, parts[length:])
    return False


def has_attributes(found, names: list[str]) -> bool:
    for name in names:
        if not hasattr(found, name) and name not in getattr(found, "__dataclass_fields__", ()):
            return False
        found = getattr(found, name, None)
    return True


def is_command(text: str) -> bool:
    """A shell command whose program is known and whose subcommand, make target and paths exist."""
    program, *rest = shlex.split(text)
    if program == "make":
        return all(word in TARGETS for word in rest if "=" not in word)
    if program == "workbench":
        return not rest or rest[0] in list(app)
    paths = [word.split("::")[0] for word in rest if "/" in word and not word.startswith(("-", "."))]
    return program in FOREIGN and all(map(is_path, paths))


def is_place(text: str) -> bool:
    """Such as ``block03/attention/qkv``."""
    block, *roles = text.split("/")
    return re.fullmatch(r"block\d\d", block) is not None and set(roles) <= words()


def exists(text: str) -> bool:
    name = text.removeprefix("@")
    return is_path(text) or is_command(text) or is_place(text) or name in words() or is_dotted_name(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_mentions_exists(page):
    assert [text for text in quoted(page) if not exists(text)] == []


def test_a_name_that_does_not_exist_is_found():
    wrong = ["graphs/quantization/grids.py", "wb.meassure", "Recipe.rest", "make tests", "workbench tunes"]
    assert [text for text in wrong if exists(text)] == []
    assert exists("graphs/quantization/scales.py")
    assert exists("graphs.quantization.recipe.LOWERINGS")
    assert exists("Recipe.exclude")


def test_every_room_has_a_sentence_in_the_architecture_and_every_folder_says_what_it_is_for():
    spans = set(quoted(PAGES[0]))
    rooms = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    rooms += [path for path in (PACKAGE / "graphs").iterdir() if (path / "__init__.py").exists()]
    names = {path.relative_to(PACKAGE).as_posix() + "/" * path.is_dir() for path in rooms}
    assert names - {"__init__.py", "__main__.py"} <= spans
    folders = [".".join(file.parent.relative_to(ROOT).parts) for file in PACKAGE.rglob("__init__.py")]
    texts = {folder: importlib.import_module(folder).__doc__ for folder in folders}
    assert [folder for folder, text in texts.items() if not text or "TODO" in text] == []


def test_the_readme_names_every_notebook_and_command():
    text = (ROOT / "README.md").read_text()
    assert all(f"`{path.stem}`" in text for path in ROOT.glob("notebooks/*.ipynb"))
    assert all(name in text for name in app if not name.startswith("-"))
    assert all(hasattr(workbench, name) for name in re.findall(r"\bwb\.(\w+)", text))
    assert all(word in TARGETS for word in re.findall(r"`make ([a-z-]+)`", text))
