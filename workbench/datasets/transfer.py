"""A download that survives a broken line, with nothing but the standard library.

A file grows as NAME.part and gets its name when it is complete and its checksum is right. Interrupted, it goes on
where it stopped (range requests, RFC 9110 section 14) unless the file on the server has changed (If-Range, 13.1.5).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..errors import WorkbenchError
from ..files import disk_errors
from ..progress import Progress, silent

ATTEMPTS = 5  # in a row that bring nothing
PAUSE_S = 0.5  # before the second attempt; it doubles
TIMEOUT_S = 30.0  # without a byte
BLOCK = 1 << 16

#: What a bad line raises, while connecting or while reading.
_TROUBLE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
#: Request Timeout, Range Not Satisfiable (the part was dropped), Too Many Requests.
_WORTH_ANOTHER = (408, 416, 429)


def download(url: str, target: Path, md5: str | None = None, progress: Progress = silent) -> Path:
    """Download a file, going on with what an earlier attempt left.

    Args:
        url: http or https.
        target: the file to write; when it exists and has the checksum (if one is known) nothing is done.
        md5: 32 hexadecimal digits; None is what Google's storage says in ``x-goog-hash``, if it does.
        progress: called with bytes; an exception from it leaves the .part file to go on with.

    Raises:
        WorkbenchError: no network, an answer that is no file, a wrong checksum, a full or read-only disk.
    """
    if target.exists() and md5 in (None, _md5(target)):
        return target
    with disk_errors(f"{target} cannot be written"):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _Part(target)
        seen = _complete(url, part, progress)
        _check(url, part, md5 or seen.md5)
        os.replace(part.path, target)
        part.note.unlink(missing_ok=True)
    return target


class _Seen(NamedTuple):
    """What a server said about a file: its length, what identifies this version of it, and its MD5."""

    total: int | None
    validator: str | None
    md5: str | None

    @classmethod
    def of(cls, headers: Mapping[str, str], total: int | None) -> _Seen:
        etag = headers.get("ETag", "")
        strong = etag if etag and not etag.startswith("W/") else None  # a weak one is not for ranges
        return cls(total, strong or headers.get("Last-Modified"), _google_md5(headers.get("x-goog-hash", "")))


class _Part:
    """The file while it grows, and a note beside it of which version it is a part of."""

    def __init__(self, target: Path):
        self.name = target.name
        self.path = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")

    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def seen(self) -> _Seen | None:
        """What the note says, or None where nothing can be gone on with."""
        try:
            seen = _Seen(**json.loads(self.note.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        return seen if self.length() else None

    def begin(self, seen: _Seen) -> None:
        """Begin anew. The bytes go before the note, lest a killed process leave them beside another file's note."""
        self.drop()
        self.note.write_text(json.dumps(seen._asdict()))

    def drop(self) -> None:
        """Forget both files."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _complete(url: str, part: _Part, progress: Progress) -> _Seen:
    """Fill the part, attempt after attempt, until it is whole."""
    fruitless, longest = 0, part.length()
    while True:
        try:
            return _attempt(url, part, progress)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in _WORTH_ANOTHER:
                raise _refused(url, error) from error
            problem = error
        except _TROUBLE as error:
            problem = error
        fruitless = 1 if part.length() > longest else fruitless + 1
        longest = max(longest, part.length())
        if fruitless >= ATTEMPTS:
            raise WorkbenchError(
                f"{url} could not be downloaded",
                why=f"{ATTEMPTS} attempts in a row failed, the last with: {problem}",
                remedy="check the network and HTTPS_PROXY and start again, it goes on where it stopped; "
                f"or download the file elsewhere and put it at {part.path.with_suffix('')}",
            ) from problem
        time.sleep(PAUSE_S * 2 ** (fruitless - 1))


def _attempt(url: str, part: _Part, progress: Progress) -> _Seen:
    """Ask once for what is missing and write what comes.

    Raises:
        ConnectionError: less came than was announced.
    """
    seen, have = part.seen(), part.length()
    if seen and seen.total == have:
        return seen
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if seen:
        request.add_header("Range", f"bytes={have}-")
        if seen.validator:
            request.add_header("If-Range", seen.validator)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # our part is longer than the file
            part.drop()
        raise
    with answer:
        if seen and answer.status == 206:
            found = _rest(answer, part, have, seen)
        else:
            length = answer.headers.get("Content-Length")
            found = _Seen.of(answer.headers, int(length) if length else None)
            part.begin(found)
        _append(answer, part, found.total, progress)
    return found


def _rest(answer, part: _Part, have: int, seen: _Seen) -> _Seen:
    """What the server says about a file of which it sends the rest; it must be the file that was seen before."""
    content = answer.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content)
    if not match or int(match[1]) != have:
        raise ConnectionError(f"the server sent another part than was asked for: {content}")
    found = _Seen.of(answer.headers, int(match[2]))
    if seen.total not in (None, found.total) or found.validator not in (None, seen.validator):
        part.drop()  # a server that ignores If-Range
        raise ConnectionError("the file on the server has changed")
    return found._replace(validator=seen.validator, md5=found.md5 or seen.md5)


def _append(answer, part: _Part, total: int | None, progress: Progress) -> None:
    with open(part.path, "ab") as file:
        while block := answer.read(BLOCK):
            file.write(block)
            progress(f"Downloading {part.name}", file.tell(), total or 0)
    done = part.length()  # of what has the name now: another process may have begun the same download anew
    if total not in (None, done):
        raise ConnectionError(f"the connection broke after {done} of {total} bytes")


def _check(url: str, part: _Part, md5: str | None) -> None:
    found = _md5(part.path) if md5 else None
    if found != md5:
        part.drop()
        raise WorkbenchError(
            f"{url} is not the published file",
            why=f"its MD5 is {found} and should be {md5}",
            remedy="start again; it was deleted here. If it happens twice, the server or a proxy changes the file",
        )


def _md5(path: Path) -> str:
    total = hashlib.md5(usedforsecurity=False)  # a checksum against accidents: it is what the publishers give
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _google_md5(header: str) -> str | None:
    """The MD5 in ``crc32c=...,md5=BASE64`` (cloud.google.com/storage/docs/xml-api/reference-headers)."""
    found = re.search(r"md5=([A-Za-z0-9+/=]+)", header)
    try:
        return base64.b64decode(found[1]).hex() if found else None
    except binascii.Error:
        return None


def _refused(url: str, error: urllib.error.HTTPError) -> WorkbenchError:
    return WorkbenchError(
        f"{url} could not be downloaded",
        why=f"the server answered {error.code} {error.reason}",
        remedy="check the name and the address; the published files may have moved",
    )
