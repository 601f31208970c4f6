"""Downloads that continue after a broken connection, with the standard library alone.

The bytes are written to NAME.part, which is renamed to NAME when it is complete and its checksum is right. An
interrupted download continues where it stopped (range requests, RFC 9110 section 14), unless the file on the server
has changed in the meantime (If-Range, section 13.1.5).
"""

from __future__ import annotations

import base64
import binascii
import http.client
import json
import os
import re
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

from ..digests import file_digest
from ..errors import WorkbenchError, refuse_unless, shown
from ..files import disk_errors
from ..progress import Progress, silent

#: The download fails after this many attempts in a row that bring no new byte.
ATTEMPTS = 5
#: Seconds before the second attempt; each further pause is twice as long.
PAUSE_S = 0.5
#: Seconds without a byte after which an attempt ends.
TIMEOUT_S = 30.0
BLOCK = 1 << 16
#: Bytes from the beginning of a file that show whether it is text: a page or a message in place of the file.
SNIFFED = 512

#: Exceptions of a bad connection, while connecting or while reading.
_CONNECTION_ERRORS = (
    *(urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError),
    ValueError,  # of urllib, for a redirection to what is no address
)
#: Status codes below 500 after which another attempt can succeed: Request Timeout, Range Not Satisfiable (the part
#: was deleted), Too Many Requests.
_RETRIED_STATUSES = (408, 416, 429)


def download(url: str, target: Path, md5: str | None = None, progress: Progress = silent) -> Path:
    """Download a file, or the rest of it when an earlier call was interrupted.

    Args:
        url: http or https.
        target: the file to write. Nothing is done when it exists and has the checksum (if one is given).
        md5: 32 hexadecimal digits. When it is None and the server is Google's storage, the MD5 in its header
            ``x-goog-hash`` is checked. Without either, a file of text is refused: everything published is binary.
        progress: counts bytes. When it raises, the .part file stays and the next call continues from it.

    Returns:
        ``target``.

    Raises:
        WorkbenchError: there is no network, the server refuses or sends something else, such as the page of a
            network that wants a login; the checksum is wrong, the disk is full or read-only.
    """
    refuse_unless(
        md5 is None or (isinstance(md5, str) and re.fullmatch("[0-9a-f]{32}", md5) is not None),
        f"The checksum of {target.name} is none",
        why=f"it is {shown(md5)}",
        remedy="give an MD5 as 32 hexadecimal digits in small letters, or None",
    )
    if target.exists() and md5 in (None, file_digest(target, "md5")):
        return target
    with disk_errors(f"{target} cannot be written"):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _Part(target)
        version = _complete(url, part, progress, md5 is not None)
        _check(url, part, md5 or version.md5)
        os.replace(part.path, target)
        part.note.unlink(missing_ok=True)
    return target


class _Version(NamedTuple):
    """One version of a file on a server: its length in bytes, its ETag or date, and its MD5; None if not sent."""

    total: int | None
    validator: str | None
    md5: str | None

    @classmethod
    def of(cls, headers: http.client.HTTPMessage, total: int | None) -> _Version:
        etag = headers.get("ETag", "")
        strong = etag if etag and not etag.startswith("W/") else None  # weak ETags may not be used with ranges
        return cls(total, strong or headers.get("Last-Modified"), _google_md5(headers.get("x-goog-hash", "")))


class _Part:
    """The incomplete file NAME.part, and NAME.part.json, which names the version that it is a part of."""

    def __init__(self, target: Path):
        self.name = target.name
        self.path = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")

    def length(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def version(self) -> _Version | None:
        """The version that the part belongs to, or None when there is no part to continue from."""
        try:
            version = _Version(**json.loads(self.note.read_text()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        total, *texts = version
        whole = total is None or (type(total) is int and self.length() <= total)
        valid = whole and all(text is None or isinstance(text, str) for text in texts)
        return version if valid and self.length() else None

    def begin(self, version: _Version) -> None:
        """Start an empty part of this version."""
        self.delete()
        self.note.write_text(json.dumps(version._asdict()))

    def delete(self) -> None:
        """Delete both files. The bytes go first: a killed process must not leave them beside another note."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def _complete(url: str, part: _Part, progress: Progress, checked: bool) -> _Version:
    """Make attempt after attempt until the part is complete; ``checked`` where the caller knows its checksum."""
    fruitless, longest = 0, part.length()
    while True:
        try:
            return _attempt(url, part, progress, checked)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in _RETRIED_STATUSES:
                raise _refusal(url, error) from error
            problem = error
        except _CONNECTION_ERRORS as error:
            problem = error
        fruitless = 1 if part.length() > longest else fruitless + 1
        longest = max(longest, part.length())
        if fruitless >= ATTEMPTS:
            raise WorkbenchError(
                f"{url} could not be downloaded",
                why=f"{ATTEMPTS} attempts in a row failed, the last with: {problem}",
                remedy="check the network and HTTPS_PROXY and start again, the download goes on where it stopped; "
                f"or download the file elsewhere and put it at {part.path.with_suffix('')}",
            ) from problem
        time.sleep(PAUSE_S * 2 ** (fruitless - 1))


def _attempt(url: str, part: _Part, progress: Progress, checked: bool) -> _Version:
    """Request the missing bytes once and write what arrives.

    Raises:
        ConnectionError: fewer bytes arrived than the server announced.
    """
    seen, have = part.version(), part.length()
    if seen and seen.total == have:
        return seen
    if seen and not (
        checked or seen.validator or seen.md5
    ):  # nothing would show that the file has changed in the meantime
        part.delete()
        seen = None
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if seen:
        request.add_header("Range", f"bytes={have}-")
        if seen.validator:
            request.add_header("If-Range", seen.validator)
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is longer than the file
            part.delete()
        raise
    with answer:
        _check_answer(url, answer)
        if seen and answer.status == 206:
            found = _version_of_rest(answer, part, have, seen)
        else:
            found = _Version.of(answer.headers, _length(url, answer.headers))
            part.begin(found)
        _append(answer, part, found.total, progress)
    return found


def _length(url: str, headers: http.client.HTTPMessage) -> int | None:
    """The length that the server announces, in bytes; None where it announces none."""
    text = headers.get("Content-Length")
    if text is None:
        return None
    refuse_unless(
        text.isascii() and text.isdigit() and len(text) < 19,
        f"{url} has no length",
        why=f"the server announces {shown(text)} bytes",
        remedy="try another network: the server or a proxy is not one of HTTP",
    )
    return int(text)


def _check_answer(url: str, answer: http.client.HTTPResponse) -> None:
    """Refuse what is not the file: a page in its place, or bytes that a proxy packed."""
    kind, packed = answer.headers.get("Content-Type", ""), answer.headers.get("Content-Encoding", "identity")
    page = kind.split(";")[0].strip().lower() in ("text/html", "application/xhtml+xml")
    refuse_unless(
        not page and packed.lower() == "identity",
        f"{url} is not the published file",
        why=f"the server sent {'a web page' if page else f'bytes in the encoding {shown(packed)}'}",
        remedy="open the address in a browser: this network may want a login, or the file has moved",
    )


def _version_of_rest(answer: http.client.HTTPResponse, part: _Part, have: int, seen: _Version) -> _Version:
    """The version of the file that the server sends the rest of; it must be the version of the part."""
    content = answer.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", content)
    if not match or int(match[1]) != have:
        raise ConnectionError(f"the server sent another part than was asked for: {content}")
    found = _Version.of(answer.headers, int(match[2]))
    if seen.total not in (None, found.total) or found.validator not in (None, seen.validator):
        part.delete()  # this server ignores If-Range
        raise ConnectionError("the file on the server has changed")
    return found._replace(validator=seen.validator, md5=found.md5 or seen.md5)


def _append(answer: http.client.HTTPResponse, part: _Part, total: int | None, progress: Progress) -> None:
    with open(part.path, "ab") as file:
        while block := answer.read(BLOCK):
            file.write(block)
            progress(f"Downloading {part.name}", file.tell(), total or 0)
    done = part.length()  # of the file by its name: another process may have started the same download again
    if total not in (None, done):
        raise ConnectionError(f"the connection broke after {done} of {total} bytes")


def _check(url: str, part: _Part, md5: str | None) -> None:
    with open(part.path, "rb") as file:
        begin = file.read(SNIFFED)
    if not begin or (md5 is None and _is_text(begin)):
        part.delete()
        raise WorkbenchError(
            f"{url} is not the published file",
            why=f"it is text: {shown(begin[:60])}" if begin else "the server sent nothing",
            remedy="open the address in a browser: this network may want a login, or the file has moved",
        )
    found = file_digest(part.path, "md5") if md5 else None  # publishers give MD5: it finds accidents
    if found != md5:
        part.delete()
        raise WorkbenchError(
            f"{url} is not the published file",
            why=f"its MD5 is {found} and should be {md5}",
            remedy="start again; the bytes were deleted here. If this happens twice, the server or a proxy changes "
            "the file",
        )


def _is_text(begin: bytes) -> bool:
    """Whether bytes can be text in UTF-8 or an older encoding of it: binary files have control characters."""
    return not any(byte < 9 or 13 < byte < 32 or byte == 127 for byte in begin)


def _google_md5(header: str) -> str | None:
    """The MD5 in ``crc32c=...,md5=BASE64`` (cloud.google.com/storage/docs/xml-api/reference-headers).

    Raises:
        WorkbenchError: there is one that is none.
    """
    found = re.search(r"md5=([^,]*)", header)
    try:
        digest = base64.b64decode(found[1].strip(), validate=True) if found else None
    except (binascii.Error, ValueError):
        digest = b""
    refuse_unless(
        digest is None or len(digest) == 16,
        "The server's checksum cannot be read",
        why=f"x-goog-hash is {shown(header)}",
        remedy="try another network: a proxy may change what the server sends",
    )
    return None if digest is None else digest.hex()


def _refusal(url: str, error: urllib.error.HTTPError) -> WorkbenchError:
    return WorkbenchError(
        f"{url} could not be downloaded",
        why=f"the server answered {error.code} {error.reason}",
        remedy="check the name and the address; the published files may have moved",
    )
