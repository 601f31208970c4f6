"""A real JupyterLab and a real Chromium: start a server, open a notebook, click, look, and miss no complaint.

Everything that goes wrong without failing a click is collected: requests to other machines, errors in the
browser's console, uncaught exceptions in the page and in the server's log.
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
    """A JupyterLab on 127.0.0.1 with a token and folders of its own, which sees nothing of the user's settings."""

    def __init__(self, folder: Path, root: Path):
        self.root, self.token, self.log = root, secrets.token_hex(16), folder / "server.log"
        self._settings(folder)
        self._runtime = folder / "runtime"
        names = {"CONFIG": "config", "DATA": "data", "RUNTIME": "runtime"}
        own = {f"JUPYTER_{name}_DIR": str(folder / place) for name, place in names.items()}
        own |= {"JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "IPYTHONDIR": str(folder / "ipython")}
        own |= {"JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"), "JUPYTER_PLATFORM_DIRS": "1"}
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
        command += ["--ServerApp.port=0", f"--IdentityProvider.token={self.token}", f"--ServerApp.root_dir={root}"]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log)
        self.url = self._wait_until_up()

    @staticmethod
    def _settings(folder: Path) -> None:
        for name, values in SETTINGS.items():
            file = folder / "settings" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(values))

    def _wait_until_up(self, seconds: float = 60) -> str:
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

    def call(self, method: str, path: str):
        """One call of the server's REST API."""
        request = urllib.request.Request(
            f"{self.url}api/{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def end_sessions(self) -> None:
        """Shut down every kernel, so that tests do not slow each other down."""
        for session in self.call("GET", "sessions"):
            self.call("DELETE", f"sessions/{session['id']}")

    def complaints(self, offset: int = 0) -> list[str]:
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


class Witness:
    """Everything a browser context asked of other machines and complained about."""

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
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=60_000)
        self.wait_idle()
        return self

    def wait_idle(self, seconds: float = 60) -> None:
        """Wait until the status bar says that the kernel is idle."""
        bar = self.page.locator("#jp-main-statusbar", has_text="| Idle")
        bar.wait_for(timeout=1000 * seconds)

    def run_all(self, seconds: float = 120) -> None:
        """Run all cells and wait for the last; what they raised is in ``cell_errors``."""
        self.start_all()
        self.wait_run(seconds)

    def start_all(self) -> None:
        """Run > Run All Cells, not waited for."""
        self.page.locator("#jp-MainMenu").get_by_text("Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    def run_cell(self, index: int, seconds: float = 60) -> None:
        """Run one code cell, counted from zero, and wait for it."""
        cell = self.code_cell(index)
        before = cell.locator(".jp-InputPrompt").inner_text()
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+Enter")
        self._wait_prompt(index, before, seconds)

    def code_cell(self, index: int):
        """A code cell, counted from zero."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(index)

    def _wait_prompt(self, index: int, before: str, seconds: float) -> None:
        prompt = self.code_cell(index).locator(".jp-InputPrompt")
        limit = time.monotonic() + seconds
        while (now := prompt.inner_text()) == before or "*" in now:
            assert time.monotonic() < limit, f"cell {index} did not end in {seconds:g} s; its prompt is {now!r}"
            self.page.wait_for_timeout(100)

    def wait_run(self, seconds: float) -> None:
        """Wait until every code cell that has code carries a number, or one has failed."""
        self.page.wait_for_function(PROMPTS_DONE, timeout=1000 * seconds)

    def cell_errors(self) -> list[str]:
        """The error outputs of all cells."""
        return self.page.locator(
            '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]'
        ).all_inner_texts()

    def output(self, index: int) -> str:
        """What stands below a code cell."""
        return self.code_cell(index).locator(".jp-Cell-outputArea").inner_text()

    def hook(self, *names: str):
        """The element with the CSS class ``wb-<name>``, inside those named before it."""
        return self.page.locator(" ".join(f".wb-{name}" for name in names))

    def button(self, *names: str):
        """The button that carries a hook."""
        return self.hook(*names)

    def wait_text(self, locator, text: str, seconds: float = 30) -> None:
        """Wait until an element's text contains ``text``."""
        locator.filter(has_text=text).first.wait_for(timeout=1000 * seconds)

    def screenshot(self, name: str, widths=WIDTHS) -> None:
        """Keep how the page looks at each width, and how its first panel or figure lies in it."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        before = self.page.viewport_size
        for width in widths:
            self.page.set_viewport_size({"width": width, "height": 900})
            self.page.wait_for_timeout(400)
            self.page.screenshot(path=SCREENSHOTS / f"{name}-{width}.png")
        self.page.set_viewport_size(before)


#: True once no cell waits or runs, and every cell that has code was run up to the first that failed.
PROMPTS_DONE = """() => {
  const cells = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell')];
  const prompt = cell => cell.querySelector('.jp-InputPrompt').innerText;
  const failed = cells.some(cell => cell.querySelector('[data-mime-type="application/vnd.jupyter.error"]'));
  const filled = cells.filter(cell => cell.querySelector('.cm-content').innerText.trim());
  return !cells.some(cell => prompt(cell).includes('*'))
      && (failed || filled.every(cell => /\\d/.test(prompt(cell))));
}"""
