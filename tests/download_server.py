"""A local server that breaks the connection, lies, or refuses."""

import http.server
import threading
import urllib.parse
from dataclasses import dataclass, field

import numpy as np
import pytest

from workbench.datasets import download

CONTENT = np.random.default_rng(0).bytes(1_000_000)


@dataclass
class Behaviour:
    """What the server does; ``breaks`` are the bytes after which it hangs up, one for each request."""

    content: bytes = CONTENT
    ranges: bool = True
    if_range: bool = True
    validators: dict = field(
        default_factory=lambda: {"ETag": '"one"', "Last-Modified": "Mon, 01 Nov 2021 00:00:00 GMT"}
    )
    headers: dict = field(default_factory=dict)
    breaks: list = field(default_factory=list)
    statuses: list = field(default_factory=list)
    asked: list = field(default_factory=list)
    url: str = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        does = self.server.behaviour
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range")
        does.asked.append((urllib.parse.unquote(self.path), wanted, condition))
        status = does.statuses.pop(0) if does.statuses else 200
        if status != 200:
            self.send_error(status)
            return
        start = int(wanted[len("bytes=") : -1]) if wanted and does.ranges else 0
        if does.if_range and condition and condition not in does.validators.values():
            start = 0
        if start > len(does.content):
            self.send_error(416)
            return
        body = does.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(does.content) - 1}/{len(does.content)}")
        for name, value in {**does.validators, **does.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: does.breaks.pop(0)] if does.breaks else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE_S", 0)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.behaviour = Behaviour(url=f"http://127.0.0.1:{httpd.server_port}/")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd.behaviour
    httpd.shutdown()
    thread.join()
    httpd.server_close()
