"""Downloads from a local server that breaks the connection, lies, or refuses."""

import base64
import hashlib
import socket

import numpy as np
import pytest

from tests.download_server import CONTENT
from workbench.datasets import download
from workbench.errors import Cancelled, WorkbenchError

MD5 = hashlib.md5(CONTENT).hexdigest()


def _get(server, tmp_path, **options):
    return download.download(server.url + "file.bin", tmp_path / "new" / "file.bin", **options)


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


def test_a_download_continues_where_the_connection_broke(server, tmp_path):
    server.breaks = [500_000, 100_000]
    assert _get(server, tmp_path).read_bytes() == CONTENT
    assert _ranges(server) == [None, "bytes=500000-", "bytes=600000-"]
    assert [condition for *_, condition in server.asked] == [None, '"one"', '"one"']


def test_a_cancelled_download_continues_in_the_next_call(server, tmp_path):
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
def test_a_download_continues_with_whatever_identifies_the_version(server, tmp_path, validators):
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
    server.breaks = [500_000] * download.ATTEMPTS * 2
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
    assert len(server.asked) == download.ATTEMPTS
    assert _files(tmp_path) == ["file.bin.part", "file.bin.part.json"]


def test_a_wrong_checksum_leaves_nothing(server, tmp_path):
    with pytest.raises(WorkbenchError, match=MD5) as refusal:
        _get(server, tmp_path, md5="0" * 32)
    assert "is not the published file" in str(refusal.value)
    assert _files(tmp_path) == []


def test_the_checksum_that_googles_storage_sends_is_checked(server, tmp_path):
    encoded = base64.b64encode(hashlib.md5(b"another file").digest()).decode()
    server.headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={encoded}"}
    with pytest.raises(WorkbenchError, match=hashlib.md5(b"another file").hexdigest()):
        _get(server, tmp_path)
    server.headers = {"x-goog-hash": f"crc32c=AAAAAA==,md5={base64.b64encode(bytes.fromhex(MD5)).decode()}"}
    server.breaks = [10_000]
    assert _get(server, tmp_path).read_bytes() == CONTENT


def test_a_refusal_ends_the_download_at_once_and_a_busy_server_is_asked_again(server, tmp_path):
    for status in (403, 404):
        server.statuses = [status]
        with pytest.raises(WorkbenchError, match=f"answered {status}"):
            _get(server, tmp_path)
        assert _files(tmp_path) == []
    assert len(server.asked) == 2
    server.statuses = [503, 429, 500]
    assert _get(server, tmp_path, md5=MD5).read_bytes() == CONTENT


def test_a_refused_connection_is_reported_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSE_S", 0)
    with socket.socket() as unused:  # bound and not listening: a connection is refused
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file.bin"
        with pytest.raises(WorkbenchError, match="network") as refusal:
            download.download(url, tmp_path / "file.bin")
    assert "refused" in refusal.value.why


def test_a_finished_file_is_downloaded_again_only_when_its_bytes_changed(server, tmp_path):
    path = _get(server, tmp_path, md5=MD5)
    _get(server, tmp_path, md5=MD5)
    assert len(server.asked) == 1
    path.write_bytes(b"spoiled")
    assert _get(server, tmp_path, md5=MD5).read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made_is_refused(server, tmp_path):
    (tmp_path / "new").write_text("a file, not a folder")
    with pytest.raises(WorkbenchError, match="not a file"):
        _get(server, tmp_path)


# ---- what is not the file ----------------------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html><html><title>Log in to this network</title>" + b"x" * 600
ELSE = {
    "a login page": ({"content": PAGE}, "is text"),
    "a page by its type": ({"headers": {"Content-Type": "text/html; charset=utf-8"}}, "a web page"),
    "a message": ({"content": b'{"error": "not found"}'}, "is text"),
    "nothing": ({"content": b""}, "sent nothing"),
    "packed bytes": ({"headers": {"Content-Encoding": "gzip"}}, "encoding 'gzip'"),
    "a checksum that is none": ({"headers": {"x-goog-hash": "md5=AAAA"}}, "checksum cannot be read"),
}


@pytest.mark.parametrize(("behaviour", "says"), ELSE.values(), ids=ELSE)
def test_what_is_not_the_file_is_never_saved_under_its_name(server, tmp_path, behaviour, says):
    vars(server).update(behaviour)
    with pytest.raises(WorkbenchError, match=says):
        _get(server, tmp_path)
    assert "file.bin" not in _files(tmp_path)


@pytest.mark.parametrize("md5", ["", "x" * 32, "AB" * 16, b"a" * 32, 5])
def test_a_checksum_that_is_none_is_refused_before_anything_is_asked(server, tmp_path, md5):
    with pytest.raises(WorkbenchError, match="checksum"):
        _get(server, tmp_path, md5=md5)
    assert server.asked == []


def test_a_part_that_nothing_identifies_is_not_continued_without_a_checksum(server, tmp_path):
    server.validators, server.breaks = {}, [500_000]
    assert _get(server, tmp_path).read_bytes() == CONTENT
    assert _ranges(server) == [None, None]
