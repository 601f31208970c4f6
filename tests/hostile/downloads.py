"""Hostile servers: pages in place of files, lengths and checksums that are none, files that change, noise."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import random
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.outcomes import Case
from workbench.datasets import download

FILE = random.Random(7).randbytes(5000)
PAGE = b"<!DOCTYPE html><html><head><title>Log in</title></head><body>" + b"x" * 500 + b"</body></html>"
GOOD = base64.b64encode(hashlib.md5(FILE).digest()).decode()
HEADERS = {
    "Content-Length": [str(len(FILE)), "-1", "x", "", "9" * 30, "10", "1e3", str(2**62), "0"],
    "ETag": ['"one"', 'W/"one"', "", '"' + "a" * 9000 + '"'],
    "Content-Type": ["text/html", "application/octet-stream", "text/html; charset=utf-8", "\x00"],
    "Content-Encoding": ["gzip", "identity", "br"],
    "Content-Range": ["bytes 0-1/2", "bytes x", "bytes 100-4999/5000", "bytes 99999-1/5000", "bytes 0-4999/*"],
    "x-goog-hash": ["md5=", "md5=AAAA", f"crc32c=x,md5={GOOD}", "md5=%%%", "md5=" + "A" * 24, "crc32c=x"],
    "Transfer-Encoding": ["chunked", "x"],
    "Last-Modified": ["Mon, 01 Nov 2021 00:00:00 GMT", "never"],
    "Location": ["/elsewhere", "file:///etc/passwd", "http://[", "//"],
}
BODIES = [FILE, PAGE, b"", b"404 not found", b"{}", FILE[:1000], FILE + b"more", b"zz\r\n" * 9]
STATUSES = ["200 OK"] * 5 + [
    "206 Partial Content",
    "302 Found",
    "404 x",
    "416 x",
    "500 x",
    "204 x",
    "999 x",
    "x",
    "",
]


def _answer(rng: random.Random) -> bytes:
    headers = {name: rng.choice(values) for name, values in HEADERS.items() if rng.random() < 0.35}
    body = rng.choice([FILE, rng.choice(BODIES)])
    if rng.random() < 0.6:
        headers["Content-Length"] = str(len(body))
    lines = [f"HTTP/1.1 {rng.choice(STATUSES)}", *(f"{name}: {value}" for name, value in headers.items())]
    content = "\r\n".join(lines).encode("latin1") + b"\r\n\r\n" + body
    return rng.randbytes(300) if rng.random() < 0.03 else content


class _Handler(socketserver.BaseRequestHandler):
    def handle(self):
        with contextlib.suppress(OSError):
            self.request.recv(1 << 16)
            self.request.sendall(self.server.answers.pop(0) if self.server.answers else b"")


def files(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """A download of a file of 5,000 bytes from a server that sends anything, with and without its checksum."""
    server = socketserver.TCPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    pause, download.PAUSE_S, limit, download.TIMEOUT_S = download.PAUSE_S, 0, download.TIMEOUT_S, 1.0
    try:
        for number in range(count):
            answers, md5 = [_answer(rng) for _ in range(8)], rng.choice((None, hashlib.md5(FILE).hexdigest()))
            target, part = folder / f"{number}.npz", rng.choice((None, FILE[:100], PAGE, FILE + b"x"))
            if part is not None:
                target.with_name(f"{target.name}.part").write_bytes(part)
                note = rng.choice(
                    ('{"total": 5000, "validator": "\\"one\\"", "md5": null}', "[", "{}", '{"total": "x"}')
                )
                target.with_name(f"{target.name}.part.json").write_text(note)
            url = f"http://127.0.0.1:{server.server_address[1]}/file.npz"
            yield Case(
                f"{answers[0][:300]!r} {md5} {part and part[:20]!r}",
                lambda a=answers, u=url, t=target, m=md5: _get(server, a, u, t, m),
                lambda path, checked=md5 is not None: _is_right(path, checked),
            )
    finally:
        download.PAUSE_S, download.TIMEOUT_S = pause, limit
        server.shutdown()
        server.server_close()


def _get(server, answers, url, target, md5):
    server.answers = answers
    return download.download(url, target, md5)


def _is_right(path: Path, checked: bool) -> bool:
    """The file under its name is the published one; without a checksum at least no page, no text and not empty."""
    content = path.read_bytes()
    return content == FILE if checked else bool(content) and not content.startswith((b"<", b"{", b"404", b"zz"))
