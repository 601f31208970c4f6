"""A panel: controls whose choices are a frozen record, a button that starts work with it, and the result.

The same panel serves a click, a cell and papermill. A click starts the work in a thread, so the kernel can handle
the next click, for example on Cancel; ``panel.result()`` in the next cell waits for that work, or does it itself
when nobody has clicked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
from IPython.display import display

from ..errors import Cancelled, Refusal
from ..progress import Progress
from . import summary
from .controls import Chart, error_box, log_lines, muted, paragraph, warning, with_class
from .job import Job, Status

#: Seconds between two updates of what is shown of a running job.
TICK_S = 0.25
TAIL_LINES = 6


@dataclass(frozen=True)
class _Run:
    """A job, the records that were chosen when it was started, and the thread that shows its progress."""

    job: Job
    choices: tuple
    watcher: threading.Thread

    @property
    def ended(self) -> bool:
        return self.job.wait(0)


class Panel(widgets.VBox):
    """Controls, a button for the work and one to cancel it, progress, the last lines of the log, and the result.

    Args:
        name: names the panel in CSS classes (``wb-<name>-panel``).
        controls: the widgets to choose with, top to bottom.
        read: returns the frozen record of what is chosen; may raise ``WorkbenchError``.
        work: ``work(record, progress)`` returns the result. It runs in a thread; ``progress`` raises ``Cancelled``.
        after: the panel whose result this panel's work starts from; its choices count as this panel's.
        view: widgets below the controls that ``advise`` updates, such as a figure.
        verb: the text of the button.
        advise: called with the record whenever a choice changes; the remarks and refusals that it returns are shown
            below the controls.
        preview: returns what is known of a record's result before the work is done.
        show: makes the widget that shows a result.
        renews: whether the summary that stays in the notebook is renewed when a run ends.
    """

    def __init__(
        self,
        name: str,
        controls: Sequence[widgets.Widget],
        read: Callable[[], Any],
        work: Callable[[Any, Progress], Any],
        *,
        after: Panel | None = None,
        view: Sequence[widgets.Widget] = (),
        verb: str = "Run",
        advise: Callable[[Any], Iterable[str | Refusal]] = lambda record: (),
        preview: Callable[[Any], Any] = lambda record: None,
        show: Callable[[Any], widgets.Widget | None] = lambda result: None,
        renews: bool = True,
    ):
        self._name, self._read, self._work = name, read, work
        self._advise, self._preview, self._show = advise, preview, show
        self._lock = threading.RLock()
        self._after, self._followers = after, []
        self._run: _Run | None = None
        self._controls, self._view, self._displays = tuple(controls), tuple(view), []
        self._renews = renews
        self._build([*controls, *view], verb)
        super().__init__(children=self._parts, layout={"max_width": "60em", "padding": "4px 0"})
        with_class(with_class(self, "panel"), f"{name}-panel")
        for control in _leaves(controls):
            control.observe(lambda change: self._guard(self._changed), names="value")
        if after is not None:
            after._followers.append(self)
        self._guard(self._changed)

    def _build(self, above: Sequence[widgets.Widget], verb: str) -> None:
        self._note = with_class(widgets.HTML(), "note")
        self._run_button = with_class(widgets.Button(description=verb, button_style="primary"), "run")
        self._cancel_button = with_class(widgets.Button(description="Cancel", disabled=True), "cancel")
        self._bar = with_class(widgets.FloatProgress(min=0, max=1, layout={"width": "12em"}), "progress")
        self._line = with_class(widgets.HTML(), "status")
        self._log = with_class(widgets.HTML(), "log")
        self._message = with_class(widgets.HTML(), "message")
        self._outcome = with_class(widgets.VBox(), "result")
        row = widgets.HBox(
            [self._run_button, self._cancel_button, self._bar, self._line],
            layout={"flex_flow": "row wrap", "align_items": "center", "grid_gap": "4px 8px"},
        )
        self._run_button.on_click(lambda button: self._guard(self.run))
        self._cancel_button.on_click(lambda button: self._guard(self.cancel))
        self._parts = [*above, self._note, row, self._log, self._message, self._outcome]

    def __repr__(self) -> str:
        return summary.as_text(self._name, *self._summary())

    # ---- what is left of it without a kernel ------------------------------------------------------------------

    def _summary(self) -> tuple[list[summary.Choice], list[str]]:
        """The choices, and all that is shown of them and of the last run."""
        parts = [*self._view, self._note, self._line, self._message]
        outdated = self._outcome.layout.display == "none"
        return [*summary.choices(self._controls)], [
            *summary.shown_html(parts if outdated else [*parts, self._outcome])
        ]

    def _bundle(self) -> dict:
        """The panel for JupyterLab, and a summary for whatever shows the notebook without a kernel."""
        with self._lock:
            found = self._summary()
        widget = super()._repr_mimebundle_() or {}
        return {**widget, "text/html": summary.as_html(self._name, *found), "text/plain": repr(self)}

    def _ipython_display_(self) -> None:
        """Show the panel under a display id, so that its summary can be renewed where it stands."""
        self._displays.append(display(self._bundle(), raw=True, display_id=True))

    def _renew_summary(self) -> None:
        """Write the present summary into the outputs that show this panel.

        JupyterLab then draws the whole panel anew, and loses a chart that it is drawing meanwhile. So a panel whose
        result is a chart keeps the summary of its first display.
        """
        if self._displays and self._renews and not _has_chart(self._outcome):
            bundle = self._bundle()
            for shown in self._displays:
                shown.update(bundle, raw=True)

    # ---- what a cell calls -----------------------------------------------------------------------------------

    @property
    def value(self):
        """The frozen record of what is chosen now.

        Raises:
            WorkbenchError: the choices do not go together; the panel shows the same words.
        """
        return self._read()

    def run(self) -> None:
        """Start the work in a thread, as a click on the button does; refused while a run is under way."""
        with self._lock:
            if self._run is not None and not self._run.ended:
                self._message.value = warning(_busy(self._run.job.status()))
                return
            self._start(self._choices())

    def cancel(self) -> None:
        """Ask the running work to stop at its next report of progress; what it had begun is removed."""
        with self._lock:
            if self._run is not None:
                self._run.job.cancel()
                self._draw(self._run.job.status())

    def preview(self):
        """The result, if the work was done for the present choices; else what is known of it beforehand, or None.

        Raises:
            WorkbenchError: the choices do not go together.
        """
        with self._lock:
            run = self._run
            if run is not None and run.ended and run.job.error is None and run.choices == self._choices():
                return run.job.outcome()
            return self._preview(self.value)

    def make(self, progress: Progress):
        """Do the work for the present choices in this thread, for a panel that comes after this one."""
        return self._work(self.value, progress)

    def result(self):
        """The result for the present choices: waits for the run that a click started, or runs now.

        An error is raised once; the next call runs again. Interrupting the kernel while this waits cancels the
        work.

        Raises:
            WorkbenchError: the work refused its input, or was cancelled.
        """
        with self._lock:
            choices = self._choices()
            run = self._run
            if run is None or (run.ended and run.choices != choices):
                run = self._start(choices)
        try:
            while not run.job.wait(TICK_S):  # in short waits, so that an interrupt is noticed
                pass
        except KeyboardInterrupt:
            run.job.cancel()
            run.job.wait()
            raise
        run.watcher.join()
        if run.choices != choices:  # a run with other choices was under way; now run with these
            return self.result()
        if run.job.error is not None:
            self._run = None
        return run.job.outcome()

    def _choices(self) -> tuple:
        """The records of this panel and of those before it, its own last."""
        return (*(self._after._choices() if self._after else ()), self.value)

    # ---- the run ---------------------------------------------------------------------------------------------

    def _start(self, choices: tuple) -> _Run:
        self._message.value = ""
        self._outcome.children = ()
        job = Job(lambda progress: self._work(choices[-1], progress))
        run = self._run = _Run(job, choices, threading.Thread(target=self._watch, args=(job,), daemon=True))
        self._draw(job.status())
        _receive_clicks_while_a_cell_runs(self._run_button, self._cancel_button)
        job.start()
        run.watcher.start()
        return run

    def _watch(self, job: Job) -> None:
        while not job.wait(TICK_S):
            with self._lock:
                self._draw(job.status())
        with self._lock:
            if self._run is not None and self._run.job is job:  # else a new run has begun meanwhile
                self._draw(job.status())
                self._guard(self._conclude, job)
                self._renew_summary()

    def _conclude(self, job: Job) -> None:
        if isinstance(job.error, Cancelled):
            words = "Cancelled. No unfinished file is left in the workspace; the next run finds what was finished."
            self._message.value = paragraph(words)
        elif job.error is not None:
            self._message.value = error_box(job.error)
        else:
            self._changed()  # the work may have changed the advice: cells to measure are measured now
            shown = self._show(job.outcome())
            self._outcome.children = () if shown is None else (shown,)

    def _draw(self, status: Status) -> None:
        self._cancel_button.disabled = status.state != "running"
        known = status.alive and status.total > 0
        if status.state == "done":
            self._bar.value = 1.0
        elif status.alive:
            self._bar.value = status.done / status.total if known else 0.0
        self._bar.bar_style = {"done": "success", "failed": "danger", "cancelled": "warning"}.get(status.state, "")
        self._line.value = muted(describe(status))
        self._log.value = log_lines(status.log[-TAIL_LINES:])

    def _changed(self) -> None:
        self._message.value = ""
        self._mark_outdated()
        self._note.value = "".join(map(_note, self._advise(self.value)))
        for follower in self._followers:
            follower._guard(follower._changed)

    def _mark_outdated(self) -> None:
        """Hide what is shown of a run that ended, while the choices differ from those that it was started with."""
        if self._run is None or not self._run.ended:
            return
        outdated = self._run.choices != self._choices()
        self._outcome.layout.display = "none" if outdated else None
        if outdated:
            self._bar.value, self._line.value, self._log.value = 0.0, muted("Changed since the last run."), ""
        else:
            self._draw(self._run.job.status())

    def _guard(self, callback, *arguments) -> None:
        """Call back, and show an error in the panel: Jupyter would write it to a log that nobody reads."""
        try:
            callback(*arguments)
        except Exception as error:
            self._message.value = error_box(error)


def _receive_clicks_while_a_cell_runs(*buttons: widgets.Button) -> None:
    """Let clicks reach the kernel while ``result()`` keeps its main thread waiting.

    JupyterLab sends clicks to a subshell, which has a thread of its own (JEP 91). But ipykernel 7.4 passes a
    message for a widget on to the shell that last updated it, here the main one, unless it remembers no such shell.
    """
    for button in buttons:
        vars(button.comm).pop("_reply_subshell_id", None)


def _leaves(controls: Iterable[widgets.Widget]) -> Iterator[widgets.Widget]:
    """The controls themselves and those inside boxes, without widgets that only show something."""
    for control in controls:
        if isinstance(control, widgets.Box):
            yield from _leaves(control.children)
        elif control.has_trait("value") and not isinstance(control, widgets.HTML | widgets.Label):
            yield control


def _note(note: str | Refusal) -> str:
    return muted(note) if isinstance(note, str) else warning(f"{note.reason}. What to do: {note.remedy}.")


def describe(status: Status) -> str:
    """One line about a run: stage, count, seconds elapsed and seconds left."""
    took = _seconds(status.elapsed_s)
    if not status.alive:
        return {"done": f"Done in {took}", "failed": f"Failed after {took}"}.get(
            status.state, f"Cancelled after {took}"
        )
    count = f"{status.done / status.total:.0%}" if status.total else ""
    left = f"about {_seconds(status.remaining_s)} left" if status.remaining_s is not None else ""
    words = ", ".join(filter(None, (status.stage or "starting", count, f"{took} so far", left)))
    return f"Cancelling after the present step: {words}" if status.state == "cancelling" else words


def _busy(status: Status) -> str:
    if status.state == "cancelling":
        return "The cancelled run is finishing its present step; click again when it has ended."
    return (
        "A run is already under way. Wait for it, or cancel it first; the workbench does one thing at a time here."
    )


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _has_chart(widget: widgets.Widget) -> bool:
    """Whether a widget is a chart, or holds one."""
    return isinstance(widget, Chart) or any(map(_has_chart, getattr(widget, "children", ())))
