from workbench.reporting.figures.labels import label_places


def test_labels_of_neighbours_stand_on_different_sides():
    first, second = label_places([(10, 5), (12, 5)], ["int8 cpu", "int8-dynamic"], (0, 100), (0, 10))
    assert first == "middle left"  # its right is taken by the second point
    assert second == "middle right"


def test_a_label_at_the_edge_stands_inside():
    assert label_places([(99, 5)], ["int8-dynamic"], (0, 100), (0, 10)) == ["middle left"]
