"""Downloads against a local server that breaks the line, lies, or refuses."""

import base64
import hashlib
import http.server
import socket
import threading
import urllib.parse
from dataclasses import dataclass, field

import numpy as np
import pytest

from workbench.datasets import fetch, transfer
from workbench.errors import Cancelled, WorkbenchError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


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
    monkeypatch.setattr(transfer, "PAUSE_S", 0)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    httpd.behaviour = Behaviour(url=f"http://127.0.0.1:{httpd.server_port}/")
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd.behaviour
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def _get(server, tmp_path, **options):
    return transfer.download(server.url + "file.bin", tmp_path / "new" / "file.bin", **options)


def _ranges(server):
    return [wanted for _, wanted, _ in server.asked]


def _files(tmp_path):
    return sorted(p.name for p in (tmp_path / "new").iterdir())


def test_a_file_arrives_whole_with_progress_in_bytes(server, tmp_path):
    calls = []
    path = _get(server, tmp_path, md5=MD5, progress=lambda *call: calls.append(call))
    assert path.read_bytes() == CONTENT
    assert _files(tmp_path) == ["file.bin"]
    assert calls[-1] == ("Downloading file.bin", 1_000_000, 1_000_000)
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)


def test_a_broken_connection_goes_on_where_it_stopped(server, tmp_path):
    server.breaks = [500_000, 100_000]
    assert _get(server, tmp_path).read_bytes() == CONTENT
    assert _ranges(server) == [None, "bytes=500000-", "bytes=600000-"]
    assert [condition for *_, condition in server.asked] == [None, '"one"', '"one"']


def test_a_cancelled_download_goes_on_in_the_next_call(server, tmp_path):
    def cancel(stage, done, total):
        if done > 400_000:
            raise Cancelled

    with pytest.raises(Cancelled):
        _get(server, tmp_path, progress=cancel)
    assert not (tmp_path / "new" / "file.bin").exists()
    have = (tmp_path / "new" / "file.bin.part").stat().st_size
    assert 400_000 < have < 1_000_000
    assert _get(server, tmp_path, md5=MD5).read_bytes() == CONTENT
    assert _ranges(server) == [None, f"bytes={have}-"]
    assert _files(tmp_path) == ["file.bin"]


@pytest.mark.parametrize(
    "validators", [{}, {"ETag": 'W/"weak"'}, {"Last-Modified": "Mon, 01 Nov 2021 00:00:00 GMT"}]
)
def test_going_on_works_with_whatever_identifies_the_file(server, tmp_path, validators):
    server.validators, server.breaks = validators, [500_000]
    assert _get(server, tmp_path, md5=MD5).read_bytes() == CONTENT
    assert server.asked[1][1:] == ("bytes=500000-", validators.get("Last-Modified"))


def test_a_server_without_ranges_is_asked_from_the_start(server, tmp_path):
    server.ranges, server.breaks = False, [900_000, 300_000]
    assert _get(server, tmp_path, md5=MD5).read_bytes() == CONTENT
    assert len(server.asked) == 3


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("length", [1_000_000, 1_200_000, 300_000])
def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(server, tmp_path, if_range, length):
    server.breaks = [500_000] * transfer.ATTEMPTS * 2
    server.ranges = False
    with pytest.raises(WorkbenchError, match="500000 of 1000000"):
        _get(server, tmp_path)
    changed = np.random.default_rng(1).bytes(length)
    server.breaks, server.ranges, server.if_range = [], True, if_range
    server.content, server.validators = changed, {"ETag": '"two"'}
    assert _get(server, tmp_path).read_bytes() == changed


def test_attempts_that_bring_nothing_end_in_an_error_that_keeps_the_part(server, tmp_path):
    server.breaks = [400_000] + [0] * 20
    with pytest.raises(WorkbenchError, match="400000 of 1000000") as refusal:
        _get(server, tmp_path)
    assert "goes on where it stopped" in refusal.value.remedy
    assert len(server.asked) == transfer.ATTEMPTS
    assert _files(tmp_path) == ["file.bin.part", "file.bin.part.json"]


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(WorkbenchError, match=MD5) as refusal:
        _get(server, tmp_path, md5="0" * 32)
    assert "is not the published file" in str(refusal.value)
    assert _files(tmp_path) == []


def test_googles_own_checksum_is_believed(server, tmp_path):
    encoded = base64.b64encode(hashlib.md5(b"another file").digest()).decode()
    server.headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={encoded}"}
    with pytest.raises(WorkbenchError, match=hashlib.md5(b"another file").hexdigest()):
        _get(server, tmp_path)
    server.headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(bytes.fromhex(MD5)).decode()}"}
    server.breaks = [10_000]
    assert _get(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_refusal_is_told_at_once(server, tmp_path, status):
    server.statuses = [status]
    with pytest.raises(WorkbenchError, match=f"answered {status}"):
        _get(server, tmp_path)
    assert len(server.asked) == 1
    assert _files(tmp_path) == []


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.statuses = [503, 429, 500]
    assert _get(server, tmp_path, md5=MD5).read_bytes() == CONTENT


def test_without_a_network_the_error_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "PAUSE_S", 0)
    with socket.socket() as unused:  # bound and not listening: a connection is refused
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
        with pytest.raises(WorkbenchError, match="network") as refusal:
            transfer.download(url, tmp_path / "file.bin")
    assert "refused" in refusal.value.why


def test_a_finished_file_is_not_asked_for_again_unless_its_bytes_changed(server, tmp_path):
    path = _get(server, tmp_path, md5=MD5)
    _get(server, tmp_path, md5=MD5)
    assert len(server.asked) == 1
    path.write_bytes(b"spoiled")
    assert _get(server, tmp_path, md5=MD5).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made_is_refused(server, tmp_path):
    (tmp_path / "new").write_text("a file, not a folder")
    with pytest.raises(WorkbenchError, match="not a file"):
        _get(server, tmp_path)


def test_checkpoints_are_found_by_name_or_by_path(server, tmp_path):
    path = fetch.fetch_checkpoint("S/16", tmp_path, base_url=server.url)
    assert path.read_bytes() == CONTENT
    fetch.fetch_checkpoint("L/32", tmp_path, base_url=server.url.rstrip("/"))
    fetch.fetch_checkpoint("sam/ViT-B_16.npz", tmp_path, base_url=server.url)
    asked = [path for path, *_ in server.asked]
    assert asked[0].startswith("/augreg/S_16-i21k-300ep-")
    assert asked[1:] == ["/imagenet21k+imagenet2012/ViT-L_32.npz", "/sam/ViT-B_16.npz"]


@pytest.mark.parametrize("name", ["S/15", "../secret.npz", "/etc/secret.npz"])
def test_names_that_are_no_checkpoints_are_refused(tmp_path, name):
    with pytest.raises(WorkbenchError, match=name):
        fetch.fetch_checkpoint(name, tmp_path)


def test_cifar10_is_checked_against_its_published_checksum(server, tmp_path, monkeypatch):
    with pytest.raises(WorkbenchError, match="c32a1d4ab5d03f1284b67883e8d87530"):
        fetch.fetch_images("cifar10", tmp_path, base_url=server.url)
    assert server.asked[0][0] == "/cifar-10-binary.tar.gz"
    monkeypatch.setitem(fetch.IMAGES, "cifar10", (fetch.IMAGES["cifar10"][0], MD5))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = fetch.fetch_images("cifar10", base_url=server.url)
    assert path == tmp_path / "cache" / "vit-workbench" / "cifar-10-binary.tar.gz"
    with pytest.raises(WorkbenchError, match="cifar10"):
        fetch.fetch_images("cifar11", tmp_path)
