import pandas as pd

from workbench.ui import table

LONG = "take an image set of two thousand pictures or more, so that a difference of half a point can be seen at all"


def test_no_cell_of_a_table_is_cut_and_thousands_are_separated():
    shown = table(pd.DataFrame({"what to do": [LONG], "MAC": [123456789], "ms": [12345.6], "share": [0.123456]}))
    for text in (shown._repr_html_(), repr(shown)):
        assert LONG in text
        assert "123,456,789" in text
        assert "12,346" in text
        assert "0.1235" in text


def test_a_table_of_a_hundred_rows_is_shown_whole():
    shown = table(pd.DataFrame({"row": range(100)}))
    assert all(f"<td>{row}</td>" in shown._repr_html_() for row in range(100))


def test_names_of_rows_are_shown_and_mere_numbers_of_rows_are_not():
    frame = pd.DataFrame({"ms": [1.5]})
    assert "<th>mlp</th>" in table(frame.set_axis(["mlp"]))._repr_html_()
    assert "<th>0</th>" not in table(frame)._repr_html_()


def test_what_is_not_known_is_a_dash_and_a_truth_value_a_word():
    text = repr(table(pd.DataFrame({"inside": [True, False], "ms": [float("nan"), 2.0]})))
    assert "yes" in text
    assert "no" in text
    assert "–" in text
    assert "nan" not in text.lower()


def test_markup_in_a_cell_is_shown_as_text():
    assert "&lt;b&gt;" in table(pd.Series({"name": "<b>"}))._repr_html_()
