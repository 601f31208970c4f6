import _thread
import logging
import signal
import threading
import time

import ipywidgets as widgets
import pytest

from workbench.errors import Cancelled, Refusal, WorkbenchError
from workbench.ui.panel import Panel, describe


def wait_until(condition, seconds=5):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_result_does_the_work_itself_once_for_each_choice_when_nobody_clicked(panel, work, number):
    work.go.set()
    assert panel.result() == panel.result() == 8
    number.value = 5
    assert panel.result() == 10
    assert work.runs == [4, 5]


def test_result_waits_for_the_run_that_a_click_began_and_a_second_click_is_refused_politely(panel, work, shown):
    panel._run_button.click()
    work.started.wait(5)
    panel._run_button.click()
    assert "already under way" in shown(panel)
    threading.Timer(0.1, work.go.set).start()
    assert panel.result() == panel.result() == 8
    assert work.runs == [4]
    assert "already under way" not in shown(panel)


def test_a_choice_changed_while_a_click_runs_is_what_result_answers_for(panel, work, number):
    panel.run()
    work.started.wait(5)
    number.value = 6
    threading.Timer(0.1, work.go.set).start()
    assert panel.result() == 12
    assert work.runs == [4, 6]


def test_what_was_made_for_other_choices_is_no_longer_shown(number, shown):
    def show(value):
        return widgets.Label(str(value))

    panel = Panel("show", [number], lambda: number.value, lambda value, progress: value, show=show)
    panel.result()
    assert "Done in" in shown(panel)
    number.value = 5
    assert "Done in" not in shown(panel)
    assert "Changed since the last run" in shown(panel)
    assert panel._outcome.layout.display == "none"
    number.value = 4
    assert "Done in" in shown(panel)
    assert panel._outcome.layout.display is None


def test_cancel_stops_the_work_at_its_next_report_and_result_says_so_once_and_runs_again(panel, work, shown):
    panel._run_button.click()
    work.started.wait(5)
    panel._cancel_button.click()
    wait_until(lambda: "Cancelled after" in shown(panel))
    assert work.left_behind == []
    with pytest.raises(Cancelled):
        panel.result()
    work.go.set()
    assert panel.result() == 8
    assert work.runs == [4, 4]


@pytest.mark.parametrize(
    ("wrong", "kind", "raised_in", "words"),
    [
        (13, WorkbenchError, "errors.py", ("There is no 13th", "it is skipped", "What to do", "take 14")),
        (666, ZeroDivisionError, "conftest.py", ("ZeroDivisionError: &lt;b&gt;division&lt;/b&gt;",)),
    ],
)
def test_an_error_appears_and_is_raised_by_result(wrong, kind, raised_in, words, panel, work, number, shown):
    work.go.set()
    number.value = wrong
    panel.run()
    wait_until(lambda: all(each in shown(panel) for each in words))
    with pytest.raises(kind) as raised:
        panel.result()
    assert raised.traceback[-1].path.name == raised_in  # where the work itself raised it


def test_choices_that_do_not_go_together_appear_in_the_panel_and_nothing_runs(panel, work, number, shown):
    number.value = -1
    assert "A number below zero" in shown(panel)
    panel._run_button.click()
    assert work.runs == []
    with pytest.raises(WorkbenchError, match="below zero"):
        panel.result()
    number.value = 3
    assert "below zero" not in shown(panel)


def test_advice_follows_the_choice(number, shown):
    def advise(value):
        return [Refusal(f"{value} is too much", "take 4")] if value > 4 else []

    panel = Panel("advice", [number], lambda: number.value, lambda value, progress: value, advise=advise)
    assert "too much" not in shown(panel)
    number.value = 5
    assert "5 is too much. What to do: take 4." in shown(panel)


def test_the_result_is_shown_and_a_picture_of_it_that_fails_says_so(number, shown):
    def show(value):
        return widgets.Label(f"made {1 / value:g}")

    panel = Panel("show", [number], lambda: number.value, lambda value, progress: value, show=show)
    panel.result()
    assert panel._outcome.children[0].value == "made 0.25"
    number.value = 0
    assert panel.result() == 0
    assert "ZeroDivisionError" in shown(panel)


@pytest.fixture
def interruptible():
    """As in a kernel: a shell that starts tests in its background has them ignore interrupts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_of_the_kernel_cancels_the_work(panel, work, shown, interruptible):
    threading.Timer(0.2, _thread.interrupt_main).start()
    with pytest.raises(KeyboardInterrupt):
        panel.result()
    assert work.left_behind == []
    wait_until(lambda: "Cancelled after" in shown(panel))


@pytest.mark.timing
def test_progress_names_the_stage_the_share_done_and_the_time_that_is_left(number):
    step, go = threading.Event(), threading.Event()

    def work(value, progress):
        progress("counting", 1, 4)
        time.sleep(0.2)
        progress("counting", 2, 4)
        step.set()
        go.wait(5)
        progress("writing", 2, 4)

    panel = Panel("progress", [number], lambda: 1, work)
    panel.run()
    step.wait(5)
    status = panel._run.job.status()
    assert (status.stage, status.done, status.total) == ("counting", 2, 4)
    # One unit took 0.2 s, and two are left.
    assert status.remaining_s == pytest.approx(0.4, rel=0.5)
    assert describe(status) == "counting, 50%, 0 s so far, about 0 s left"
    go.set()
    panel.result()
    assert "writing" in panel._log.value
    assert "counting" in panel._log.value


def test_what_the_work_logs_is_shown_and_what_others_log_is_not(number):
    def work(value, progress):
        logging.getLogger("workbench.test").warning("mind the step")

    panel = Panel("log", [number], lambda: 1, work)
    panel.result()
    logging.getLogger("workbench.test").warning("somebody else")
    assert "mind the step" in panel._log.value
    assert "somebody" not in panel._log.value
