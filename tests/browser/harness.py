"""A real JupyterLab and a real Chromium: start a server, open a notebook, click, and read what is shown.

What goes wrong without failing a click is collected too: requests to other machines, errors in the browser's
console, uncaught exceptions in the page and in the server's log.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from workbench.records import SCALARS_MIMETYPE

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "runs" / "screenshots"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_REMEDY = "apt-get install --no-install-recommends chromium fonts-dejavu-core"
#: Sandboxing needs privileges that containers lack; their /dev/shm is too small for a browser.
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]
WIDTHS = (1400, 1000)
#: Every cell stays in the page, the server asks nobody for news, and saving does not pop up dialogs.
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"checkForUpdates": False, "fetchNews": "false"},
}


def chromium() -> str | None:
    """The browser's path, or None where there is none."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def notebook(*cells: str) -> dict:
    """A notebook of code cells, for a test to write to a file."""
    code = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "cells": [{**code, "id": f"cell-{i}", "source": source} for i, source in enumerate(cells)],
    }


class LabServer:
    """A JupyterLab on 127.0.0.1 with a token and folders of its own, without the user's settings."""

    def __init__(self, folder: Path, root: Path):
        self.root, self.token, self.log = root, secrets.token_hex(16), folder / "server.log"
        self._settings(folder)
        self._runtime = folder / "runtime"
        names = {"CONFIG": "config", "DATA": "data", "RUNTIME": "runtime"}
        own = {f"JUPYTER_{name}_DIR": str(folder / place) for name, place in names.items()}
        own |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "IPYTHONDIR": str(folder / "ipython")}
        own |= {"JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"), "JUPYTER_PLATFORM_DIRS": "1"}
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
        command += [
            "--LabApp.expose_app_in_browser=True",
            "--ServerApp.port=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={root}",
        ]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
        self.url = self._wait_until_up()

    @staticmethod
    def _settings(folder: Path) -> None:
        for name, values in SETTINGS.items():
            file = folder / "settings" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))

    def _wait_until_up(self, seconds: float = 240) -> str:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and self._process.poll() is None:
            for file in self._runtime.glob("jpserver-*.json"):
                url = json.loads(file.read_text())["url"].replace("localhost", "127.0.0.1")
                if self._answers(url):
                    return url
            time.sleep(0.2)
        self.stop()
        raise RuntimeError(f"JupyterLab did not start:\n{self.log.read_text()}")

    @staticmethod
    def _answers(url: str) -> bool:
        try:
            return urllib.request.urlopen(f"{url}api", timeout=2).status == 200
        except OSError:
            return False

    def sessions(self) -> list[dict]:
        """The notebooks whose kernels run, from the server's REST API."""
        token = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(f"{self.url}api/sessions", headers=token)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def uncaught(self, offset: int = 0) -> list[str]:
        """Uncaught exceptions in the log, from ``offset`` bytes on."""
        text = self.log.read_bytes()[offset:].decode(errors="replace")
        return re.findall(
            r"^.*(?:Traceback \(most recent call last\)|Uncaught exception|\[C ).*(?:\n .*)*", text, re.M
        )

    def stop(self) -> None:
        """End the server and its kernels."""
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class BrowserLog:
    """All requests of a browser context to other machines, and all errors in its console."""

    def __init__(self, context):
        self.outside: list[str] = []
        self.errors: list[str] = []
        context.on("request", self._request)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.errors.append(f"uncaught: {error.error}"))

    def _request(self, request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in LOOPBACK:
            self.outside.append(request.url)

    def _console(self, message) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text} ({message.location.get('url', '')})")


class LabPage:
    """One notebook, open in JupyterLab."""

    def __init__(self, page, server: LabServer):
        self.page, self.server = page, server

    def open(self, path: str) -> LabPage:
        """Open a notebook below the server's root and wait for its kernel."""
        self.page.goto(f"{self.server.url}lab/tree/{path}?reset&token={self.server.token}")
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=120_000)
        self.wait_idle()
        return self

    def end_kernels(self) -> None:
        """Shut down every kernel, so that tests do not slow each other down; the page must still be open.

        To a page that has gone the server cannot send a kernel's last messages nor its end, and logs an uncaught
        exception for each.
        """
        self.page.evaluate("() => window.jupyterapp?.serviceManager.sessions.shutdownAll()")
        assert self.server.sessions() == []

    def wait_idle(self, seconds: float = 120) -> None:
        """Wait until the status bar says that the kernel is idle."""
        bar = self.page.locator("#jp-main-statusbar", has_text="| Idle")
        bar.wait_for(timeout=1000 * seconds)

    def run_all(self) -> None:
        """Run all cells and wait for the last; what they raised is in ``cell_errors``."""
        self._command("notebook:run-all-cells")

    def start_all(self) -> None:
        """Run all cells, not waited for."""
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")

    def find(self, text: str) -> int:
        """The number of the first code cell that contains ``text``, counted from zero."""
        cells = enumerate(self.cells())
        return next(i for i, cell in cells if cell["cell_type"] == "code" and text in "".join(cell["source"]))

    def run_cells(self, begin: int, end: int) -> None:
        """Run the cells from ``begin`` to before ``end``, one after the other; none may raise an error."""
        for index in range(begin, end):
            self.run_cell(index)
        assert self.cell_errors() == []

    def run_cell(self, index: int) -> None:
        """Run one cell, counted from zero, and wait for it."""
        self.page.evaluate(
            "index => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = index }", index
        )
        self._command("notebook:run-cell")

    def _command(self, name: str) -> None:
        self.page.evaluate("name => window.jupyterapp.commands.execute(name).then(() => null)", name)

    def cells(self) -> list[dict]:
        """The notebook's cells as they would be saved now."""
        return self.page.evaluate("() => window.jupyterapp.shell.currentWidget.content.model.toJSON().cells")

    def cell_errors(self) -> list[str]:
        """What the cells raised, and what they wrote to standard error."""
        outputs = [output for cell in self.cells() for output in cell.get("outputs", ())]
        raised = [f"{o['ename']}: {o['evalue']}" for o in outputs if o["output_type"] == "error"]
        return raised + ["".join(o["text"]) for o in outputs if o.get("name") == "stderr"]

    def scalars(self) -> dict:
        """What the notebook recorded with ``ui.record``."""
        outputs = [output for cell in self.cells() for output in cell.get("outputs", ())]
        return {k: v for output in outputs for k, v in output.get("data", {}).get(SCALARS_MIMETYPE, {}).items()}

    def value(self, expression: str) -> str:
        """The value of an expression in the notebook's kernel, as text."""
        return self.page.evaluate(VALUE, expression)

    def wait_run(self, seconds: float) -> None:
        """Wait until no cell waits for the kernel."""
        self.page.wait_for_function(PROMPTS_DONE, timeout=1000 * seconds)

    def output(self, index: int) -> str:
        """The text below a cell, counted from zero."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-Cell-outputArea").inner_text()

    def element(self, *names: str):
        """The element with the CSS class ``wb-<name>``, inside those named before it."""
        return self.page.locator(" ".join(f".wb-{name}" for name in names))

    def wait_text(self, locator, text: str, seconds: float = 120) -> None:
        """Wait until an element's text contains ``text``."""
        locator.filter(has_text=text).first.wait_for(timeout=1000 * seconds)

    def wait_some(self, selector: str, total: int) -> None:
        """Wait until there are some elements but not all; a chart that is drawn anew has none for a moment."""
        self.page.wait_for_function(SOME, arg=[selector, total])

    def drag(self, handle, track) -> None:
        """Drag a slider's handle to the right end of its track with the mouse."""
        handle.scroll_into_view_if_needed()
        begin, line = handle.bounding_box(), track.bounding_box()
        middle = begin["y"] + begin["height"] / 2
        self.page.mouse.move(begin["x"] + begin["width"] / 2, middle)
        self.page.mouse.down()
        self.page.mouse.move(line["x"] + line["width"] + 20, middle, steps=8)
        self.page.mouse.up()

    def ring(self, panel: str) -> tuple[float, float]:
        """Where the ring around the chosen engine stands in a panel's chart, in the chart's own pixels."""
        found = self.page.wait_for_function(RING, arg=f".wb-{panel} .js-plotly-plot")  # it may be drawn just now
        return tuple(found.json_value())

    def wait_ring(self, panel: str, stands, seconds: float = 120) -> None:
        """Wait until ``stands(position)`` holds of the ring; a chart is drawn anew whenever it changes."""
        limit = time.monotonic() + seconds
        while not stands(self.ring(panel)):
            assert time.monotonic() < limit, "the ring did not move"
            self.page.wait_for_timeout(200)

    def screenshot(self, name: str, element: str | None = None, height: int = 1000) -> None:
        """Keep pictures of the page at each width and in the dark theme, scrolled to an element."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        before = self.page.viewport_size
        for width in WIDTHS:
            self.page.set_viewport_size({"width": width, "height": height})
            self._shoot(f"{name}-{width}", element)
        self._theme("JupyterLab Dark")
        self._shoot(f"{name}-{WIDTHS[-1]}-dark", element)
        self._theme("JupyterLab Light")
        self.page.set_viewport_size(before)

    def _shoot(self, name: str, element: str | None) -> None:
        if element:
            self.element(element).first.evaluate("element => element.scrollIntoView({block: 'start'})")
        self.page.wait_for_timeout(400)  # for the picture only
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")

    def _theme(self, theme: str) -> None:
        self.page.evaluate("t => window.jupyterapp.commands.execute('apputils:change-theme', {theme: t})", theme)


#: The middle of the last trace's only point, from the chart's upper left corner; null while there is none.
RING = """selector => {
  const chart = document.querySelector(selector), point = chart?.querySelector('.trace:last-child .point')
  if (!point) return null
  const box = point.getBoundingClientRect(), page = chart.getBoundingClientRect()
  return [box.x + box.width / 2 - page.x, box.y + box.height / 2 - page.y]
}"""
VALUE = """async expression => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel
  const asked = {code: '', silent: true, store_history: false, user_expressions: {value: expression}}
  return (await kernel.requestExecute(asked).done).content.user_expressions.value.data['text/plain']
}"""
SOME = """([selector, total]) => {
  const found = document.querySelectorAll(selector).length
  return 0 < found && found < total
}"""
#: True once no cell waits for the kernel or runs.
PROMPTS_DONE = """() => ![...document.querySelectorAll('.jp-Notebook .jp-InputPrompt')]
  .some(prompt => prompt.innerText.includes('*'))"""
