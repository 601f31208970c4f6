import html
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = """
from workbench.errors import Refusal, WorkbenchError, refuse_unless

def check(path, batch, here):
    refuse_unless(batch > 0, "There is no call to time", why=f"the batch is {batch}", remedy="give 1 or more")
    remedy = "export it again"
    if path:
        raise WorkbenchError(f"{path.name} | is damaged", why=str(path), remedy=remedy)
    return Refusal("it is Monday" if here else "it is far", "wait")
"""


def rows_of(tmp_path, source):
    import troubleshooting

    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "module.py").write_text(source)
    return troubleshooting.rows(tmp_path)[:-1]  # the last is Cancelled's


def test_errors_refusals_and_conditions_are_read_from_the_code(tmp_path):
    import troubleshooting

    assert rows_of(tmp_path, SOURCE) == [
        troubleshooting.Row("room", "There is no call to time", "the batch is {batch}", "give 1 or more"),
        troubleshooting.Row("room", "", "it is Monday / it is far", "wait"),
        troubleshooting.Row("room", "{path.name} | is damaged", "{path}", "export it again"),
    ]


def test_the_page_has_a_row_for_every_error_of_the_package():
    import troubleshooting

    found = troubleshooting.rows(troubleshooting.PACKAGE)
    assert all(row.why and row.remedy for row in found)
    texts = [path.read_text() for path in troubleshooting.PACKAGE.rglob("*.py") if path.name != "errors.py"]
    raised = sum(len(re.findall(r"raise WorkbenchError\(|^\s+refuse_unless\(", text, re.M)) for text in texts)
    assert len([row for row in found if row.what]) >= raised > 200
    page = troubleshooting.page(found)
    assert "The work was cancelled" in page
    for line in page.splitlines():
        assert not line.startswith("|") or len(re.findall(r"(?<!\\)\|", line)) == 4


def test_a_value_at_the_end_of_a_cell_is_shown_and_is_no_attribute_of_it(tmp_path):
    import markdown
    import troubleshooting

    page = troubleshooting.page(rows_of(tmp_path, SOURCE))
    shown = html.unescape(markdown.markdown(page, extensions=["tables", "attr_list"]))
    assert "<td>the batch is {batch}</td>" in shown
    assert "<td>{path.name} | is damaged</td>" in shown
