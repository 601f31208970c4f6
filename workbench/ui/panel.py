"""A panel: choices that read back as a frozen record, a button that does the work, and what came of it.

The same panel serves a click, a cell and papermill. A click starts the work in a thread, so that the kernel stays
free for the next click, on Cancel too; ``panel.result()`` in the next cell waits for that work, or does it itself
when nobody clicked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import ipywidgets as widgets

from ..errors import Cancelled, Refusal
from ..progress import Progress
from .controls import error_box, hooked, log_lines, muted, paragraph, warning
from .job import Job, Status

#: Seconds between two looks at a running job.
TICK_S = 0.25
TAIL_LINES = 6


class Panel(widgets.VBox):
    """Controls above, a Run and a Cancel button, progress, the tail of the log, and the result below.

    Args:
        name: names the panel in CSS classes (``wb-<name>-panel``).
        controls: the widgets to choose with, top to bottom.
        read: makes the frozen record of what is chosen; may raise ``WorkbenchError``.
        work: ``work(record, progress)`` returns the result. It runs in a thread; ``progress`` raises ``Cancelled``.
        after: the panel whose work this one's begins with; its choices count as this one's.
        view: widgets below the controls that ``advise`` keeps up to date, such as a figure.
        verb: what the button says.
        advise: called with the record whenever a choice changes; the remarks and refusals that it returns are shown
            under the controls.
        foresee: what can be told of the result of a record before the work is done.
        show: turns a result into the widget that the panel shows.
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
        foresee: Callable[[Any], Any] = lambda record: None,
        show: Callable[[Any], widgets.Widget | None] = lambda result: None,
    ):
        self._name, self._read, self._work = name, read, work
        self._advise, self._foresee, self._show = advise, foresee, show
        self._lock = threading.RLock()
        self._after, self._followers = after, []
        self._job: Job | None = None
        self._asked = None  # the records that the job was started with
        self._watcher: threading.Thread | None = None
        self._build([*controls, *view], verb)
        super().__init__(children=self._parts, layout={"max_width": "60em", "padding": "4px 0"})
        hooked(hooked(self, "panel"), f"{name}-panel")
        for control in _leaves(controls):
            control.observe(lambda change: self._guard(self._changed), names="value")
        if after is not None:
            after._followers.append(self)
        self._guard(self._changed)

    def _build(self, above: Sequence[widgets.Widget], verb: str) -> None:
        self._note = hooked(widgets.HTML(), "note")
        self._run_button = hooked(widgets.Button(description=verb, button_style="primary"), "run")
        self._cancel_button = hooked(widgets.Button(description="Cancel", disabled=True), "cancel")
        self._bar = hooked(widgets.FloatProgress(min=0, max=1, layout={"width": "12em"}), "progress")
        self._line = hooked(widgets.HTML(), "status")
        self._log = hooked(widgets.HTML(), "log")
        self._message = hooked(widgets.HTML(), "message")
        self._outcome = hooked(widgets.VBox(), "result")
        row = widgets.HBox(
            [self._run_button, self._cancel_button, self._bar, self._line],
            layout={"flex_flow": "row wrap", "align_items": "center", "grid_gap": "4px 8px"},
        )
        self._run_button.on_click(lambda button: self._guard(self.run))
        self._cancel_button.on_click(lambda button: self._guard(self.cancel))
        self._parts = [*above, self._note, row, self._log, self._message, self._outcome]

    def __repr__(self) -> str:
        return f"The {self._name} panel, set to {self.value}"

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
            if self._job is not None and not self._job.wait(0):
                self._say(warning(_busy(self._job.status())))
                return
            self._asked = self._choices()
            self._start()

    def cancel(self) -> None:
        """Ask the running work to stop at its next report of progress; what it had begun is removed."""
        with self._lock:
            if self._job is not None:
                self._job.cancel()
                self._draw(self._job.status())

    def preview(self):
        """What the work made, if it was done for the present choices; else what is known of it beforehand, or None.

        Raises:
            WorkbenchError: the choices do not go together.
        """
        with self._lock:
            done = self._job is not None and self._job.wait(0) and self._job.error is None
            return self._job.outcome() if done and self._asked == self._choices() else self._foresee(self.value)

    def make(self, progress: Progress):
        """Do the work for the present choices here and now, for a panel that comes after this one."""
        return self._work(self.value, progress)

    def result(self):
        """What the work made for the present choices: waits for the run that a click began, or runs now.

        An error is raised once; asking again runs again. Interrupting the kernel while this waits cancels the work.

        Raises:
            WorkbenchError: the work refused its input, or was cancelled.
        """
        with self._lock:
            asked = self._choices()
            if self._job is None or (self._job.wait(0) and self._asked != asked):
                self._asked = asked
                self._start()
            job, watcher = self._job, self._watcher
        try:
            while not job.wait(TICK_S):  # in short waits, so that an interrupt is heard
                pass
        except KeyboardInterrupt:
            job.cancel()
            job.wait()
            raise
        watcher.join()
        if self._asked != asked:  # a run with other choices was under way; do these now
            return self.result()
        if job.error is not None:
            self._job = None
        return job.outcome()

    def _choices(self) -> tuple:
        """The records of this panel and of those before it, its own last."""
        return (*(self._after._choices() if self._after else ()), self.value)

    # ---- the run ---------------------------------------------------------------------------------------------

    def _start(self) -> None:
        chosen = self._asked[-1]
        self._say("")
        self._outcome.children = ()
        job = self._job = Job(lambda progress: self._work(chosen, progress))
        self._draw(job.status())
        _hear_while_a_cell_runs(self._run_button, self._cancel_button)
        self._watcher = threading.Thread(target=self._watch, args=(job.start(),), daemon=True)
        self._watcher.start()

    def _watch(self, job: Job) -> None:
        while not job.wait(TICK_S):
            with self._lock:
                self._draw(job.status())
        with self._lock:
            if self._job is job:  # a new run may have begun the moment this one ended
                self._draw(job.status())
                self._guard(self._conclude, job)

    def _conclude(self, job: Job) -> None:
        if isinstance(job.error, Cancelled):
            self._say(
                paragraph("Cancelled. Nothing half-done is left in the workspace; run again whenever you like.")
            )
        elif job.error is not None:
            self._say(error_box(job.error))
        else:
            self._changed()  # the advice may have changed: what was to be measured is measured now
            shown = self._show(job.outcome())
            self._outcome.children = () if shown is None else (shown,)

    def _draw(self, status: Status) -> None:
        self._cancel_button.disabled = status.state != "running"
        known = status.alive and status.total > 0
        self._bar.value = (
            1.0 if status.state == "done" else status.done / status.total if known else self._bar.value
        )
        if status.alive and not known:
            self._bar.value = 0.0
        self._bar.bar_style = {"done": "success", "failed": "danger", "cancelled": "warning"}.get(status.state, "")
        self._line.value = muted(describe(status))
        self._log.value = log_lines(status.log[-TAIL_LINES:])

    def _changed(self) -> None:
        self._say("")
        self._mark_outdated()
        self._note.value = "".join(map(_note, self._advise(self.value)))
        for follower in self._followers:
            follower._guard(follower._changed)

    def _mark_outdated(self) -> None:
        """Take back what was shown of a run that ended, if the choices are no longer those it was made with."""
        if self._job is None or not self._job.wait(0):
            return
        outdated = self._asked != self._choices()
        self._outcome.layout.display = "none" if outdated else None
        if outdated:
            self._bar.value, self._line.value, self._log.value = 0.0, muted("Changed since the last run."), ""
        else:
            self._draw(self._job.status())

    def _say(self, markup: str) -> None:
        self._message.value = markup

    def _guard(self, callback, *arguments) -> None:
        """Call back; an error appears in the panel instead of in a log that nobody reads."""
        try:
            callback(*arguments)
        except Exception as error:
            self._say(error_box(error))


def _hear_while_a_cell_runs(*buttons: widgets.Button) -> None:
    """Let clicks reach the kernel while ``result()`` keeps its main thread waiting.

    JupyterLab sends them to a subshell, which has a thread of its own (JEP 91). But ipykernel 7.4 passes a message
    on to whichever shell last updated the widget, here the main one; when it remembers none, it leaves it alone.
    """
    for button in buttons:
        vars(button.comm).pop("_reply_subshell_id", None)


def _leaves(controls: Iterable[widgets.Widget]) -> Iterator[widgets.Widget]:
    """The controls themselves and those inside boxes, but not what only shows something."""
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
