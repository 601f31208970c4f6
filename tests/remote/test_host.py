"""Hosts for real: another interpreter, ssh to an sshd of our own, and commands that do everything wrong."""

from __future__ import annotations

import errno
import functools
import getpass
import io
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tests.tiny import Tiny, some_images, variant_of
from workbench.errors import Cancelled, WorkbenchError
from workbench.records import Engine, encode
from workbench.remote import protocol, transport
from workbench.remote.host import Host, doctor, host_named, hosts
from workbench.remote.protocol import light_half
from workbench.workspace import Workspace

IMAGES = some_images(40)


@pytest.fixture
def tiny(tmp_path):
    tiny = Tiny.of()
    return tiny, variant_of(tiny.graph(tmp_path, external=True))


def host(tmp_path, *command, **settings) -> Host:
    return Host("there", "onnxruntime", command or (sys.executable,), cache=str(tmp_path / "cache"), **settings)


def measured(tmp_path, tiny, host: Host, **arguments):
    model, variant = tiny
    truth = model.logits(IMAGES).argmax(axis=1)
    return host.run(
        variant,
        tmp_path / "workspace",
        measure=(4,),
        images=IMAGES,
        labels=truth,
        reference=truth,
        seconds=0.05,
        **arguments,
    )


def assert_right(report, tmp_path):
    (measurement,) = report.measurements
    assert (measurement.top1, measurement.agreement, measurement.images) == (1, 1, 40)
    assert report.engine.path.is_relative_to(tmp_path / "workspace")
    assert report.engine.path.is_file()
    assert Workspace(tmp_path / "workspace").observations("engine", Engine) == [report.engine]


def test_onnx_runtime_runs_in_this_process_and_gpu_runtimes_in_a_fresh_one(tmp_path, tiny):
    here = Host("here", "onnxruntime")
    assert here.interpreter is None
    assert Host("gpu", "tensorrt").interpreter == (sys.executable,)
    assert_right(measured(tmp_path, tiny, here), tmp_path)


def test_a_fresh_process_measures_and_sends_the_engine_back(tmp_path, tiny):
    stages = []
    report = measured(tmp_path, tiny, host(tmp_path), progress=lambda *step: stages.append(step[0]))
    assert_right(report, tmp_path)
    assert {"build", "latency", "accuracy"} <= set(stages)
    assert report.engine.variant == tiny[1]


def test_images_and_weights_travel_once(tmp_path, tiny, monkeypatch):
    sizes = []

    def call(command, archive, *args, **kwargs):
        sizes.append(archive.stat().st_size)
        return transport.call(command, archive, *args, **kwargs)

    monkeypatch.setattr("workbench.remote.host.call", call)
    for _ in range(2):
        measured(tmp_path, tiny, host(tmp_path))
    asked, sent, again = sizes
    assert sent > asked + IMAGES.nbytes
    assert again == asked


def test_a_host_without_a_gpu_builds_for_rtx_and_says_why_nothing_ran(tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")
    from tests.backends.vits import Block, draw
    from workbench.backends.hardware.gpu import gpus
    from workbench.performance.fusion import fusion

    if gpus():
        pytest.skip("there is a GPU here; tests/gpu runs engines on it")
    rtx = Host("laptop", "tensorrt-rtx", card="SM86", cache=str(tmp_path / "cache"))
    report = rtx.run(draw(tmp_path, [Block()]), tmp_path / "workspace", measure=(1,), seconds=0.05)
    assert "GPU" in report.refusal.reason
    assert list(fusion(report.engine).attention_fused) == [True]


# ---- another interpreter -----------------------------------------------------------------------------------------


@functools.cache
def python310() -> str | None:
    """A CPython 3.10 with NumPy and ONNX Runtime: one that has them, or a venv that is made once per machine."""
    names = [shutil.which("python3.10"), *map(str, Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))]
    bare = [name for name in names if name and _runs(name, "import sys; assert sys.version_info[:2] == (3, 10)")]
    ready = [name for name in bare if _runs(name, "import numpy, onnxruntime")]
    if ready or not bare:
        return ready[0] if ready else None
    venv = Path(tempfile.gettempdir()) / f"workbench-python310-{getpass.getuser()}"
    python = venv / "bin" / "python"
    if not _runs(str(python), "import numpy, onnxruntime"):
        subprocess.run([bare[-1], "-m", "venv", "--clear", str(venv)], check=False, capture_output=True)
        install = [str(python), "-m", "pip", "install", "-q", "numpy", "onnxruntime"]
        subprocess.run(install, check=False, capture_output=True, timeout=300)
    return str(python) if _runs(str(python), "import numpy, onnxruntime") else None


def _runs(python: str, program: str) -> bool:
    try:
        return subprocess.run([python, "-c", program], capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False


def test_the_light_half_runs_under_python_310_with_nothing_of_ours_installed(tmp_path, tiny):
    if python310() is None:
        pytest.skip("there is no Python 3.10 with NumPy and ONNX Runtime: install it, or let pip reach an index")
    report = measured(tmp_path, tiny, host(tmp_path, python310(), "-I"))
    assert_right(report, tmp_path)
    assert report.engine.environment["python"].startswith("3.10")


def test_an_interpreter_without_numpy_is_told_with_the_remedy(tmp_path, tiny):
    bare = host(tmp_path, sys.executable, "-S", "-I")
    with pytest.raises(WorkbenchError, match="ended with status 1") as error:
        measured(tmp_path, tiny, bare)
    assert "No module named 'numpy'" in error.value.why
    assert "pip install numpy" in error.value.remedy


# ---- ssh ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    """An sshd on a free port of 127.0.0.1 that lets this user in by a key of its own; gives the ssh command."""
    program = shutil.which("sshd") or "/usr/sbin/sshd"
    if not Path(program).exists() or not shutil.which("ssh"):
        need = "there is no ssh server: apt-get install openssh-server openssh-client"
        (pytest.fail if os.environ.get("WORKBENCH_CI") else pytest.skip)(need)
    folder = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "authorized_keys",
        "PidFile": folder / "pid",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
    }
    (folder / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd as root insists on its folder for privilege separation
    server = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.PIPE)
    try:
        _wait_for_port(port, server)
        options = ["BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        flags = [word for option in options for word in ("-o", option)]
        yield ("ssh", "-F", "none", "-p", str(port), "-i", str(folder / "user"), *flags, "127.0.0.1")
    finally:
        server.terminate()
        server.wait()
        server.stderr.close()


def _wait_for_port(port: int, server: subprocess.Popen) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if server.poll() is not None:
            pytest.fail(f"sshd ended: {server.stderr.read().decode()}")
        time.sleep(0.1)
    pytest.fail("sshd opened no port in ten seconds")


def test_a_job_runs_behind_ssh(tmp_path, tiny, sshd):
    assert_right(measured(tmp_path, tiny, host(tmp_path, *sshd, sys.executable)), tmp_path)


def test_the_doctor_looks_at_a_host_of_the_workspace(tmp_path, sshd):
    words = json.dumps([*sshd, sys.executable])
    (tmp_path / "hosts.toml").write_text(f'[box]\nbackend = "onnxruntime"\ncommand = {words}\n')
    found = {row["item"]: row for row in doctor("box", tmp_path)}
    assert sys.executable in found["Python"]["found"]
    assert found["backend onnxruntime"]["status"] == "ok"


def test_a_cancelled_job_ends_behind_ssh_as_well(tmp_path, tiny, sshd):
    mark = tmp_path / "alive"
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\necho $$ > {mark}\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)

    def cancel(stage, done, total):
        if stage == "latency":
            raise Cancelled()

    with pytest.raises(Cancelled):
        host(tmp_path, *sshd, str(wrapper)).run(
            tiny[1], tmp_path / "workspace", measure=(4,), seconds=60, progress=cancel
        )
    process = int(mark.read_text())
    assert _ends(process, seconds=15)
    assert not list((tmp_path / "workspace").glob("engines/*"))


def _ends(process: int, seconds: float) -> bool:
    for _ in range(int(10 * seconds)):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_an_ssh_server_that_is_not_there_is_told_with_the_remedy(tmp_path, tiny):
    if not shutil.which("ssh"):
        pytest.skip("there is no ssh: apt-get install openssh-client")
    nowhere = host(tmp_path, "ssh", "-F", "none", "-o", "BatchMode=yes", "-p", "1", "127.0.0.1", sys.executable)
    with pytest.raises(WorkbenchError, match="ended with status 255") as error:
        measured(tmp_path, tiny, nowhere)
    assert "log in without a question" in error.value.remedy


# ---- workers that do everything wrong ----------------------------------------------------------------------------

ACT = "import sys,os,time,signal\n"
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
    act, told, quoted = MISDEEDS[misdeed]
    script = tmp_path / "act.py"
    script.write_text(ACT + act)
    with pytest.raises(WorkbenchError, match=told) as error:
        measured(tmp_path, tiny, host(tmp_path, sys.executable, str(script)))
    assert quoted in error.value.why
    assert error.value.remedy
    assert not list((tmp_path / "workspace").glob("engines/*"))
    assert Workspace(tmp_path / "workspace").observations("engine", Engine) == []


def test_a_worker_that_hangs_is_stopped_at_the_time_limit(tmp_path, tiny):
    script = tmp_path / "hang.py"
    script.write_text("import time, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)")
    begin = time.monotonic()
    with pytest.raises(WorkbenchError, match=r"took longer than 0\.5 s"):
        measured(tmp_path, tiny, host(tmp_path, sys.executable, str(script), limit_s=0.5))
    assert time.monotonic() - begin < 30


def test_a_worker_that_writes_without_end_is_stopped(tmp_path, monkeypatch, tiny):
    script = tmp_path / "flood.py"
    script.write_text("import os\nwhile True: os.write(1, bytes(1 << 20))")
    call = functools.partial(transport.call, limit_bytes=1 << 24)
    monkeypatch.setattr("workbench.remote.host.call", call)
    with pytest.raises(WorkbenchError, match="sends too much"):
        measured(tmp_path, tiny, host(tmp_path, sys.executable, str(script)))


def test_a_command_that_does_not_exist_is_told(tmp_path, tiny):
    with pytest.raises(WorkbenchError, match="cannot be started") as error:
        measured(tmp_path, tiny, host(tmp_path, "no-such-program-at-all"))
    assert "No such file" in error.value.why


def test_a_worker_killed_in_the_middle_leaves_the_ledger_whole(tmp_path, tiny):
    mark = tmp_path / "alive"
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\necho $$ > {mark}\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)

    def kill(stage, done, total):
        if stage == "latency":
            os.kill(int(mark.read_text()), signal.SIGKILL)

    with pytest.raises(WorkbenchError, match="killed by SIGKILL"):
        host(tmp_path, str(wrapper)).run(tiny[1], tmp_path / "workspace", measure=(4,), seconds=60, progress=kill)
    assert_right(measured(tmp_path, tiny, host(tmp_path)), tmp_path)


def test_a_full_disk_on_the_host_is_told_in_its_words(tmp_path, tiny):
    if not Path("/dev/full").exists():
        pytest.skip("only Linux has /dev/full")
    script = tmp_path / "sitecustomize.py"
    # the disk of the host's cache is full: every copy into it ends in ENOSPC
    script.write_text(
        "import shutil, errno, os\n"
        "def full(*a, **k): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "shutil.copyfileobj = full\n"
    )
    with pytest.raises(WorkbenchError, match="cannot be written") as error:
        measured(tmp_path, tiny, host(tmp_path, "env", f"PYTHONPATH={tmp_path}", sys.executable))
    assert "No space left" in error.value.why


def test_a_job_can_be_cancelled_while_the_host_is_silent(tmp_path, tiny):
    stop = threading.Event()
    script = tmp_path / "silent.py"
    script.write_text("import time\ntime.sleep(600)")

    def progress(stage, done, total):
        if stop.is_set():
            raise Cancelled()

    threading.Timer(0.5, stop.set).start()
    with pytest.raises(Cancelled):
        measured(tmp_path, tiny, host(tmp_path, sys.executable, str(script)), progress=progress)


def test_what_a_library_prints_does_not_disturb_the_results(tmp_path, tiny):
    script = tmp_path / "sitecustomize.py"
    script.write_text("import atexit, sys\natexit.register(lambda: print('a library says goodbye'))\n")
    noisy = host(tmp_path, "env", f"PYTHONPATH={tmp_path}", sys.executable)
    assert_right(measured(tmp_path, tiny, noisy), tmp_path)


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "engine/../../escaped"])
def test_an_answer_that_would_be_written_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(WorkbenchError, match="of the name"):
        protocol.unpack(_tar(tmp_path, name, b"x"), tmp_path / "answer")
    assert not (tmp_path / "escaped").exists()


def test_an_answer_with_links_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="not a list of results"):
        protocol.unpack(_tar(tmp_path, "link", None), tmp_path / "answer")


def test_an_answer_that_unpacks_to_more_than_was_sent_is_refused(tmp_path):
    """A sparse file is a few bytes that say how many zeros to write; a compressed tar is the same trick."""
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 40)
    done = subprocess.run(["tar", "-cSf", "sparse.tar", "hole"], cwd=tmp_path, check=False, capture_output=True)
    if done.returncode:
        pytest.skip("this tar packs no sparse files: install GNU tar")
    with pytest.raises(WorkbenchError, match="not a list of results"):
        protocol.unpack(tmp_path / "sparse.tar", tmp_path / "answer")
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("zeros")
        info.size = 1 << 20
        tar.addfile(info, io.BytesIO(bytes(1 << 20)))
    with pytest.raises(WorkbenchError, match="cannot be unpacked"):
        protocol.unpack(tmp_path / "small.tar.gz", tmp_path / "again")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b")])
def test_an_answer_that_holds_a_name_twice_is_refused(tmp_path, names):
    with tarfile.open(tmp_path / "answer.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(WorkbenchError, match="cannot be unpacked"):
        protocol.unpack(tmp_path / "answer.tar", tmp_path / "answer")


def _tar(folder: Path, name: str, content: bytes | None) -> Path:
    info = tarfile.TarInfo(name)
    if content is None:
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    else:
        info.size = len(content)
    with tarfile.open(folder / "answer.tar", "w") as tar:
        tar.addfile(info, io.BytesIO(content or b""))
    return folder / "answer.tar"


@pytest.fixture
def answered(tmp_path, tiny):
    """Packs an honest worker's answer with changes to its report, and gives it to the workspace."""
    honest = measured(tmp_path, tiny, Host("here", "onnxruntime")).engine
    home = honest.path.parent

    def answer(change, names=("model.onnx", "nodes.json", "tiny.onnx.data")):
        report = {"engine": encode(honest, lambda path: os.path.relpath(path, home))}
        change(report)
        with tarfile.open(tmp_path / "answer.tar", "w") as tar:
            content = json.dumps(report).encode()
            info = tarfile.TarInfo("report.json")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            for name in names:
                tar.add(home / name, f"engine/{name}")
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        return protocol.keep_results(tiny[1], tmp_path / "answer.tar", Workspace(tmp_path / "kept"), folder)

    yield answer
    assert len(list((tmp_path / "kept" / "engines").iterdir())) == len(
        Workspace(tmp_path / "kept").observations("engine", Engine)
    )


def test_a_full_disk_here_is_told_and_leaves_the_workspace_as_it_was(answered, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("workbench.remote.protocol.shutil.copyfile", full)
    with pytest.raises(WorkbenchError, match="cannot be written") as error:
        answered(lambda report: None)
    assert "No space left" in error.value.why


def test_an_honest_report_is_kept(answered):
    assert answered(lambda report: None).engine.path.is_file()


@pytest.mark.parametrize("path", ["../../../outside", "/etc/passwd", "gone.onnx"])
def test_a_report_that_names_a_file_elsewhere_is_refused(tmp_path, answered, path):
    (tmp_path / "outside").write_bytes(b"somebody's file")
    with pytest.raises(WorkbenchError, match="sent no engine"):
        answered(lambda report: report["engine"].update(path=path))


def test_an_engine_that_did_not_come_or_came_with_other_bytes_is_refused(answered):
    with pytest.raises(WorkbenchError, match="sent no engine"):
        answered(lambda report: None, names=())
    with pytest.raises(WorkbenchError, match="damaged engine"):
        answered(lambda report: report["engine"].update(checksums={"model.onnx": "0" * 64}))


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.clear(),
        lambda report: report.update(engine=None),
        lambda report: report.update(engine=[1]),
        lambda report: report["engine"].pop("path"),
        lambda report: report["engine"].update(path=5),
        lambda report: report["engine"].update(checksums={"../up": "0"}),
        lambda report: report.update(measurements=[{"backend": 1}]),
    ],
)
def test_a_report_that_is_none_is_refused(answered, change):
    with pytest.raises(WorkbenchError, match="cannot be read"):
        answered(change)


# ---- hosts.toml --------------------------------------------------------------------------------------------------


def test_hosts_are_read_from_the_workspace(tmp_path):
    assert hosts(tmp_path) == {}
    (tmp_path / "hosts.toml").write_text(
        '[gpu-box]\nbackend = "tensorrt"\ncommand = ["ssh", "gpu-box", "python3"]\ncard = "T4"\nlimit_s = 60\n'
    )
    found = host_named(tmp_path, "gpu-box")
    assert found == Host("gpu-box", "tensorrt", ("ssh", "gpu-box", "python3"), card="T4", limit_s=60)
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[box", "cannot be read"),
        ('box = "tensorrt"', "does not describe the host 'box'"),
        ('[box]\nbackend = "cuda"', "Unknown backend 'cuda'"),
        ('[box]\nbackend = "tensorrt"\ncomand = []', "Unknown setting of host 'box' 'comand'"),
        ('[box]\nbackend = "tensorrt"\ncommand = "ssh box python3"', "must be a list of words"),
        ('[box]\nbackend = "tensorrt"\nlimit_s = 0', "must be above zero"),
        ('[box]\nbackend = "tensorrt"\nlimit_s = "60"', "must be above zero"),
        ('[box]\nbackend = "tensorrt"\ncommand = []', "starts nothing"),
        ('[box]\nbackend = "tensorrt"\ncommand = ["nice", 5]', "starts nothing"),
        ('[box]\nbackend = "tensorrt"\ncard = 86', "card of host 'box' must be text"),
        ('[box]\nbackend = "tensorrt"\nshell = "yes"', "shell of host 'box'"),
        ("[box]\nbackend = 5", "Unknown backend 5"),
    ],
)
def test_a_wrong_hosts_file_is_explained(tmp_path, text, complaint):
    (tmp_path / "hosts.toml").write_text(text)
    with pytest.raises(WorkbenchError, match=complaint):
        hosts(tmp_path)


def test_an_unknown_host_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="Unknown host 'box'"):
        doctor("box", tmp_path)


def test_the_light_half_holds_no_heavy_module():
    names = set(light_half())
    assert {"workbench/remote/worker.py", "workbench/backends/hardware/cards.json"} <= names
    assert not any(name.startswith(("workbench/models", "workbench/graphs", "workbench/ui")) for name in names)
