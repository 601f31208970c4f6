"""Netron inside a notebook: several models at once, without a network, until the kernel ends.

``netron.serve`` has one model for all its servers, and its page sends telemetry, asks for cookies and refuses to
run once its build is half a year old. So this module serves Netron's own page from the installed package with
another head: version 0.0.0 (which Netron takes for an unpackaged build and sends no telemetry), today's date, the
consent already given, and a content security policy that forbids requests to other hosts.

One server per kernel listens on 127.0.0.1; every model has a path of its own that nobody can guess.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import html
import http.server
import importlib.util
import json
import mimetypes
import os
import re
import secrets
import shutil
import threading
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from ..errors import WorkbenchError, refuse_unless
from ..records import Graph, Variant

#: Scripts and data may come from the page's own origin only; styles are written inline by Netron.
POLICY = (
    "default-src 'self'; script-src 'self'; connect-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data: blob:; worker-src 'self' blob:; frame-src 'none'"
)
#: Netron reads its consent from a cookie, which browsers withhold from a frame of another origin. This script makes
#: the frame's own document return the consent; no cookie is stored.
CONSENT = b"""Object.defineProperty(document, 'cookie', { get: () => 'consent=1', set: () => {} });\n"""


def view(*models, height: int = 600):
    """Show a model, or several side by side, in Netron.

    Args:
        models: graphs, variants, or paths of ONNX files.
        height: of the frame, in pixels.

    Returns:
        A displayable object for the end of a cell.

    Raises:
        WorkbenchError: no model is given, or one has no file.
    """
    from IPython.display import HTML

    refuse_unless(bool(models), "There is nothing to show", why="no model is given", remedy="view(graph)")
    frames = "".join(_frame(model, height) for model in models)
    return HTML(
        f'<div class="wb-netron" style="display: flex; flex-wrap: wrap; align-items: end; gap: 8px">{frames}</div>'
    )


def _title(model) -> str:
    """A variant's graph and recipe, a graph's name, or a file's name."""
    if isinstance(model, Variant):
        return f"{_title(model.graph)}, {model.recipe.label}"
    if isinstance(model, Graph) and model.spec and model.traced and model.parity is None:
        return f"{model.spec.name}, as traced"
    return model.spec.name if isinstance(model, Graph) and model.spec else Path(getattr(model, "path", model)).name


def _frame(model, height: int) -> str:
    """One model. Where the reader's browser does not reach 127.0.0.1 of the kernel's machine (a container, ssh -L),
    the script turns frame and link to the path through the notebook server.
    """
    name, url = html.escape(_title(model)), address(getattr(model, "path", model))
    port, key = _server().server_port, url.rstrip("/").rsplit("/", 1)[1]
    through = f"{_base_url()}proxy/{port}/{key}/"
    script = (
        f"<script>fetch('{url}', {{mode: 'no-cors'}}).catch(() => {{"
        f" document.getElementById('netron-{key}').src = '{through}'; }});</script>"
    )
    return (
        f'<figure style="flex: 1 1 240px; min-width: 0; margin: 0"><figcaption>{name} '
        f'(in a tab of its own: <a href="{url}" target="_blank" rel="noopener">of this machine</a>, '
        f'<a href="{through}" target="_blank" rel="noopener">through the notebook server</a>)</figcaption>'
        f'<iframe id="netron-{key}" src="{url}" title="The graph of {name}" style="width: 100%; height: {height}px;'
        f' border: 1px solid var(--jp-border-color2, #bbb)"></iframe>{"" if url == through else script}</figure>'
    )


def address(path) -> str:
    """The URL of Netron with this model: on this machine, or through the proxy of a JupyterHub.

    Raises:
        WorkbenchError: there is no such file.
    """
    path = Path(path).absolute()
    refuse_unless(
        path.is_file(),
        f"There is no model at {path}",
        why="no such file",
        remedy="give a Graph, a Variant or the path of an ONNX file",
    )
    server = _server()
    return f"{_origin(server.server_port)}{server.publish(path)}/"


def _origin(port: int) -> str:
    """The beginning of the address; behind a hub the single-user server passes requests on to the kernel's port."""
    behind_hub = "JUPYTERHUB_SERVICE_PREFIX" in os.environ
    return f"{_base_url()}proxy/{port}/" if behind_hub else f"http://127.0.0.1:{port}/"


def _base_url() -> str:
    """Where the notebook server begins: its own note of that, found by the process that started this kernel."""
    if prefix := os.environ.get("JUPYTERHUB_SERVICE_PREFIX"):
        return f"{prefix.rstrip('/')}/"
    with contextlib.suppress(ImportError, OSError, ValueError, KeyError, TypeError, AttributeError):
        from jupyter_core.paths import jupyter_runtime_dir

        note = Path(jupyter_runtime_dir()) / f"jpserver-{int(os.environ['JPY_PARENT_PID'])}.json"
        return quote(f"/{json.loads(note.read_text())['base_url'].strip('/')}/".replace("//", "/"))
    return "/"


@functools.cache
def _server() -> _Server:
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, name="netron", daemon=True).start()
    return server


def _package() -> Path:
    """The folder of the installed Netron."""
    spec = importlib.util.find_spec("netron")
    if spec is None or spec.origin is None:
        raise WorkbenchError("Netron cannot be shown", why="it is not installed", remedy="pip install netron")
    return Path(spec.origin).parent


class _Server(http.server.ThreadingHTTPServer):
    """Netron's files, and beside them each published model under a key of its own."""

    daemon_threads = True

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.models: dict[str, Path] = {}
        self.package = _package()

    def publish(self, path: Path) -> str:
        """The key of a model; the same file keeps its key."""
        known = next((key for key, model in self.models.items() if model == path), None)
        key = known or secrets.token_urlsafe(16)
        self.models[key] = path
        return key


class _Handler(http.server.BaseHTTPRequestHandler):
    """``/KEY/`` is Netron's page, ``/KEY/NAME`` one of its files, ``/KEY/data/FILE`` the model or its weights."""

    def do_GET(self):
        """Send what a path names, or 404."""
        server = _server()
        key, _, name = unquote(urlsplit(self.path).path).removeprefix("/").partition("/")
        model = server.models.get(key)
        if model is None:
            self.send_error(404, "No model is published here")
        elif name in ("", "index.html"):
            self._send(_page(server.package, model), "text/html; charset=utf-8")
        elif name == "consent.js":
            self._send(CONSENT, "text/javascript")
        elif name.startswith("data/"):
            self._send_file(model.parent, name.removeprefix("data/"))
        else:
            self._send_file(server.package, name)

    do_HEAD = do_GET

    def _send_file(self, folder: Path, name: str) -> None:
        file = folder / name
        if "/" in name or not file.is_file():
            self.send_error(404)
            return
        self._head(file.stat().st_size, mimetypes.guess_type(name)[0] or "application/octet-stream")
        if self.command == "GET":
            with open(file, "rb") as source:
                shutil.copyfileobj(source, self.wfile)

    def _send(self, body: bytes, kind: str) -> None:
        self._head(len(body), kind)
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, length: int, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()

    def log_message(self, format, *args):
        """Log nothing: the kernel's log needs no line for each file."""


def _page(package: Path, model: Path) -> bytes:
    """Netron's page with a changed head; the module's docstring says why."""
    name = html.escape(model.name)
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    head = (
        '<meta name="type" content="Python">\n<meta name="version" content="0.0.0">\n'
        f'<meta name="date" content="{now}">\n<meta name="file" content="data/{quote(model.name)}">\n'
        f'<meta name="name" content="{name}">\n<meta name="identifier" content="{name}">\n'
        '<script type="text/javascript" src="consent.js"></script>'
    )
    page = (package / "index.html").read_text("utf-8")
    page, version = re.subn(r'<meta name="version" content="[^"]*">', lambda _: head, page)
    page, date = re.subn(r'<meta name="date" content="(?!' + re.escape(now) + r')[^"]*">\n', "", page)
    refuse_unless(
        version == 1 and date == 1,
        "This release of Netron cannot be shown",
        why="its page has another head than the one that is known",
        remedy="install the release of netron that requirements.lock pins",
    )
    return page.encode()
