"""Workers that do everything wrong: each misdeed becomes an error with a remedy, and leaves the workspace whole."""

from __future__ import annotations

import fcntl
import functools
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.remote.jobs import acting_host, assert_right, customized_host, host, marked_python, measured
from workbench.errors import Cancelled, WorkbenchError
from workbench.records import Engine
from workbench.remote import transport
from workbench.remote.protocol import JOB_ZIP
from workbench.workspace import Workspace

#: What the program on the host does -> what the error must say.
MISDEEDS = {
    "crashes": ("raise RuntimeError('boom')", "ended with status 1", "boom"),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL", ""),
    "is killed behind a shell": ("sys.exit(137)", "killed by SIGKILL", ""),
    "writes rubbish": ("print('Welcome to the cluster!')", "something else than results", "Welcome"),
    "writes nothing": ("pass", "something else than results", "0 bytes"),
    "announces what it does not send": (
        'print(\'{"sent": {"sha256": "00", "bytes": 9}}\', file=sys.stderr)',
        "something else than results",
        "announced 9",
    ),
    "reports a full disk": (
        "print('OSError: [Errno 28] No space left on device', file=sys.stderr); sys.exit(1)",
        "ended with status 1",
        "No space left",
    ),
    "says what no worker says": (
        """for line in ('{"sent": {}}', '{"error": {}}', '{"stage": "x", "done": null}', '[' * 9999):
            print(line, file=sys.stderr)""",
        "something else than results",
        "no checksum",
    ),
    "is too old": ("print('SyntaxError: invalid syntax', file=sys.stderr); sys.exit(1)", "ended with status 1", ""),
}


@pytest.mark.parametrize("misdeed", MISDEEDS)
def test_a_worker_that(tmp_path, tiny, misdeed):
    act, message, quoted = MISDEEDS[misdeed]
    with pytest.raises(WorkbenchError, match=message) as error:
        measured(tmp_path, tiny, acting_host(tmp_path, act))
    assert quoted in error.value.why
    assert error.value.remedy
    assert not list((tmp_path / "workspace").glob("engines/*"))
    assert Workspace(tmp_path / "workspace").observations("engine", Engine) == []


def test_a_worker_that_hangs_is_stopped_at_the_time_limit(tmp_path, tiny):
    begin, act = time.monotonic(), "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"
    with pytest.raises(WorkbenchError, match=r"took longer than 0\.5 s"):
        measured(tmp_path, tiny, acting_host(tmp_path, act, limit_s=0.5))
    assert time.monotonic() - begin < 30


def test_a_worker_that_writes_without_end_is_stopped(tmp_path, monkeypatch, tiny):
    call = functools.partial(transport.call, limit_bytes=1 << 24)
    monkeypatch.setattr("workbench.remote.host.call", call)
    with pytest.raises(WorkbenchError, match="sends too much"):
        measured(tmp_path, tiny, acting_host(tmp_path, "while True: os.write(1, bytes(1 << 20))"))


def test_a_command_that_does_not_exist_is_refused(tmp_path, tiny):
    with pytest.raises(WorkbenchError, match="cannot be started") as error:
        measured(tmp_path, tiny, host(tmp_path, "no-such-program-at-all"))
    assert "No such file" in error.value.why


def test_a_worker_killed_in_the_middle_leaves_the_ledger_whole(tmp_path, tiny):
    python, mark = marked_python(tmp_path)

    def kill(stage, done, total):
        if stage == "latency":
            os.kill(int(mark.read_text()), signal.SIGKILL)

    with pytest.raises(WorkbenchError, match="killed by SIGKILL"):
        host(tmp_path, python).run(tiny[1], tmp_path / "workspace", measure=(4,), seconds=60, progress=kill)
    assert_right(measured(tmp_path, tiny, host(tmp_path)), tmp_path)


def test_the_next_job_sweeps_the_zip_of_a_killed_one_and_leaves_that_of_a_running_one(tmp_path, tiny):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    env = ("env", f"TMPDIR={scratch}")
    python, mark = marked_python(tmp_path)
    zips: list[int] = []

    def zips_there() -> list[Path]:
        return sorted(scratch.glob(f"{JOB_ZIP}*.zip"))

    def kill(stage, done, total):
        if stage == "latency" and not zips:
            zips.append(len(zips_there()))
            os.kill(int(mark.read_text()), signal.SIGKILL)

    with pytest.raises(WorkbenchError, match="killed by SIGKILL"):
        host(tmp_path, *env, python).run(tiny[1], tmp_path / "workspace", measure=(4,), seconds=60, progress=kill)
    (left,) = zips_there()
    running = scratch / f"{JOB_ZIP}another.zip"
    running.touch()
    with open(running) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert_right(measured(tmp_path, tiny, host(tmp_path, *env, sys.executable)), tmp_path)
    assert zips == [1]
    assert not left.exists()
    assert zips_there() == [running]
    assert list(scratch.glob("vit-workbench-*")) == [running]


def test_a_full_disk_on_the_host_is_reported_in_its_words(tmp_path, tiny):
    # the disk of the host's cache is full: every copy into it ends in ENOSPC
    full = customized_host(
        tmp_path,
        "import shutil, errno, os\n"
        "def full(*a, **k): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "shutil.copyfileobj = full\n",
    )
    with pytest.raises(WorkbenchError, match="cannot be written") as error:
        measured(tmp_path, tiny, full)
    assert "No space left" in error.value.why


def test_a_job_can_be_cancelled_while_the_host_is_silent(tmp_path, tiny):
    stop = time.monotonic() + 0.5

    def progress(stage, done, total):
        if time.monotonic() > stop:
            raise Cancelled()

    with pytest.raises(Cancelled):
        measured(tmp_path, tiny, acting_host(tmp_path, "time.sleep(600)"), progress=progress)


def test_what_a_library_prints_does_not_disturb_the_results(tmp_path, tiny):
    noisy = customized_host(tmp_path, "import atexit\natexit.register(lambda: print('a library says goodbye'))\n")
    assert_right(measured(tmp_path, tiny, noisy), tmp_path)
