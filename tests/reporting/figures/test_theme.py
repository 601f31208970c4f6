import itertools

import numpy as np
import pandas as pd
import pytest

from workbench.errors import WorkbenchError
from workbench.records import PRECISIONS
from workbench.reporting.figures.theme import COLOURS, PAGES, SYMBOLS, marker, need_columns

#: Machado, Oliveira, Fernandes, 2009, IEEE TVCG 15(6), severity 1.0: linear RGB as seen without L or M cones.
PROTANOPIA = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
DEUTERANOPIA = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
#: sRGB to CIE XYZ, relative to the white D65 (IEC 61966-2-1).
XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
WHITE = [0.9505, 1.0, 1.089]


def lab(colour, seen=None):
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = linear if seen is None else np.clip(np.array(seen) @ linear, 0, 1)
    x, y, z = np.cbrt(np.maximum(np.array(XYZ) @ linear / WHITE, 0.008856))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


PAIRS = list(itertools.combinations(PRECISIONS, 2))


def test_a_grey_print_keeps_any_two_precisions_apart():
    assert min(abs(lab(COLOURS[one])[0] - lab(COLOURS[other])[0]) for one, other in PAIRS) > 6.5


@pytest.mark.parametrize("seen", [None, PROTANOPIA, DEUTERANOPIA], ids=["all cones", "no L cones", "no M cones"])
def test_colour_blind_eyes_keep_any_two_precisions_apart(seen):
    distances = [np.linalg.norm(lab(COLOURS[one], seen) - lab(COLOURS[other], seen)) for one, other in PAIRS]
    assert min(distances) > 10  # 2.3 is just noticeable


def test_every_precision_has_a_symbol_of_its_own_and_what_was_emulated_is_hollow():
    assert len(set(SYMBOLS.values())) == len(PRECISIONS) == len(SYMBOLS)
    assert [marker("fp16", emulated=one)["symbol"] for one in (False, True)] == ["square", "square-open"]


def test_text_stands_off_both_pages():
    for page, ink, _ in PAGES.values():
        assert abs(lab(page)[0] - lab(ink)[0]) > 70


def test_a_frame_without_rows_or_columns_is_refused_with_what_was_expected():
    with pytest.raises(WorkbenchError, match="no rows"):
        need_columns(pd.DataFrame({"a": []}), "a")
    with pytest.raises(WorkbenchError, match="no column b"):
        need_columns(pd.DataFrame({"a": [1]}), "a", "b")
