"""The exam's questions and what they point to."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAM = (ROOT / "docs" / "exam.md").read_text()
LINKS = re.findall(r"\]\(([\w/]+)\.md#([\w-]+)\)", EXAM)


def headings(page: str) -> set[str]:
    """The anchors of a page's headings, as Python-Markdown makes them; a notebook's page is made of its text."""
    notebook = ROOT / "notebooks" / f"{Path(page).name}.ipynb"
    if notebook.exists():
        cells = json.loads(notebook.read_text())["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    else:
        text = (ROOT / "docs" / f"{page}.md").read_text()
    return {slug(line.lstrip("# ")) for line in text.splitlines() if line.startswith("#")}


def slug(heading: str) -> str:
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_there_are_fourteen_questions_each_with_what_teaches_it_and_an_answer():
    questions = re.split(r"^## ", EXAM, flags=re.M)[1:]
    assert [question.split(".")[0] for question in questions] == [str(number) for number in range(1, 15)]
    assert all("Taught in [" in question and '??? success "A good answer"' in question for question in questions)


@pytest.mark.parametrize(("page", "anchor"), LINKS, ids=[f"{page}#{anchor}" for page, anchor in LINKS])
def test_the_section_that_teaches_an_answer_exists(page, anchor):
    assert anchor in headings(page)
