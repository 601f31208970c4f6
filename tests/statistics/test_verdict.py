import pytest

from workbench.statistics.verdict import holds_limit, side_of


@pytest.mark.parametrize(
    ("interval", "limit", "expected"),
    [
        ((0.1, 0.4), 0.5, "holds"),
        ((0.1, 0.5), 0.5, "holds"),  # at most the limit may be lost
        ((0.4, 0.6), 0.5, "cannot tell"),
        ((0.5, 0.6), 0.5, "cannot tell"),
        ((0.51, 0.6), 0.5, "fails"),
        ((-0.3, -0.1), 0.0, "holds"),
    ],
)
def test_a_limit_holds_or_fails_only_where_the_whole_interval_does(interval, limit, expected):
    assert holds_limit(interval, limit) == expected


@pytest.mark.parametrize(
    ("interval", "expected"),
    [((1.01, 1.2), "faster"), ((0.8, 0.99), "slower"), ((0.9, 1.1), "cannot tell"), ((1.0, 1.0), "cannot tell")],
)
def test_two_models_differ_only_where_the_whole_interval_lies_on_one_side(interval, expected):
    assert side_of(interval, 1.0, "faster", "slower") == expected
