"""Fixtures for tests in a real browser; without Chromium they skip and say how to get it."""

from __future__ import annotations

import json
import os

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from tests.browser.harness import (
    CHROMIUM_ARGUMENTS,
    CHROMIUM_REMEDY,
    ROOT,
    BrowserLog,
    LabPage,
    LabServer,
    chromium,
    notebook,
)

#: How long anything may take on a machine under load.
TIMEOUT_MS = 180_000


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium."""
    path = chromium()
    if path is None:
        need = f"No Chromium on this machine; get it with: {CHROMIUM_REMEDY}"
        (pytest.fail if os.environ.get("WORKBENCH_CI") else pytest.skip)(need)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory, shared_workspace):
    """A JupyterLab whose root looks like the project's: ``notebooks/`` for copies, ``data/`` and ``workspace/``."""
    folder = tmp_path_factory.mktemp("jupyter")
    root = folder / "root"
    (root / "notebooks").mkdir(parents=True)
    (root / "data").symlink_to(ROOT / "data")
    (root / "workspace").symlink_to(shared_workspace)
    server = LabServer(folder, root)
    yield server
    server.stop()


@pytest.fixture
def lab(browser, lab_server):
    """A fresh page on the server. At the end no request may have left the machine, and no error may be in a log."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(TIMEOUT_MS)
    browser_log, logged = BrowserLog(context), lab_server.log.stat().st_size
    lab = LabPage(context.new_page(), lab_server)
    yield lab
    lab.end_kernels()
    context.close()
    assert not browser_log.outside, "a page asked another machine"
    assert not browser_log.errors, "the browser complained"
    assert not lab_server.uncaught(logged), "the server's log holds an uncaught exception"


@pytest.fixture
def write_notebook(lab_server):
    """Write code cells as a notebook below the server's root; returns the path that ``lab.open`` takes."""

    def write(name: str, *cells: str) -> str:
        path = lab_server.root / f"{name}.ipynb"
        path.write_text(json.dumps(notebook(*cells)))
        return path.name

    return write


@pytest.fixture
def project_notebook(lab_server):
    """A fresh copy of one of ``notebooks/`` with other parameters; returns the path that ``lab.open`` takes."""

    def copy(name: str, /, **parameters) -> str:
        node = parameterize_notebook(load_notebook_node(str(ROOT / "notebooks" / f"{name}.ipynb")), parameters)
        nbformat.write(node, lab_server.root / "notebooks" / f"{name}.ipynb")
        return f"notebooks/{name}.ipynb"

    return copy
