"""Work that lasts as long as a test wants, and a panel over it that has one control."""

import threading

import ipywidgets as widgets
import pytest

from workbench.errors import refuse_unless
from workbench.ui.panel import Panel


class Work:
    """Counts its runs; stays at its first step until ``go`` is set, reporting progress all the while."""

    def __init__(self):
        self.go, self.started, self.runs, self.left_behind = threading.Event(), threading.Event(), [], []

    def __call__(self, value, progress):
        self.runs.append(value)
        self.left_behind.append(value)
        try:
            progress("first step", 0, 4)
            self.started.set()
            while not self.go.wait(0.01):
                progress("first step", 1, 4)
            refuse_unless(value != 13, "There is no 13th", why="it is skipped", remedy="take 14")
            if value == 666:
                raise ZeroDivisionError("<b>division</b> by zero")
            return 2 * value
        finally:
            self.left_behind.pop()


@pytest.fixture
def work():
    work = Work()
    yield work
    work.go.set()


@pytest.fixture
def number():
    return widgets.IntText(value=4)


@pytest.fixture
def panel(work, number):
    def read():
        refuse_unless(number.value >= 0, "A number below zero", why=f"it is {number.value}", remedy="take more")
        return number.value

    return Panel("number", [number], read, work)


@pytest.fixture
def shown():
    """What a panel shows, as one text: its note, its status line, its message."""

    def text(panel):
        return " ".join(part.value for part in (panel._note, panel._line, panel._message))

    return text


@pytest.fixture
def controls():
    """All controls of a panel with the class ``wb-<name>``."""

    def find(panel, name):
        return [c for c in _all(panel) if f"wb-{name}" in getattr(c, "_dom_classes", ())]

    return find


@pytest.fixture
def control(controls):
    """The first control of a panel with the class ``wb-<name>``."""
    return lambda panel, name: controls(panel, name)[0]


def _all(widget):
    yield widget
    for child in getattr(widget, "children", ()):
        yield from _all(child)
