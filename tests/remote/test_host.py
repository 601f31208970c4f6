"""Hosts for real: another interpreter, and ssh to an sshd of our own; the hosts that a workspace lists."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import python310
from tests.remote.jobs import IMAGES, assert_right, host, marked_python, measured
from workbench.errors import Cancelled, WorkbenchError
from workbench.remote import transport
from workbench.remote.host import Host, doctor, host_named, hosts


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


def test_a_host_needs_python_310_and_nothing_of_ours(tmp_path, tiny):
    if python310.equipped() is None:
        pytest.skip("there is no Python 3.10 with NumPy and ONNX Runtime: install it, or let pip reach an index")
    report = measured(tmp_path, tiny, host(tmp_path, python310.equipped(), "-I"))
    assert_right(report, tmp_path)
    assert report.engine.environment["python"].startswith("3.10")


def test_a_host_without_numpy_is_refused_with_the_remedy(tmp_path, tiny):
    with pytest.raises(WorkbenchError, match="ended with status 1") as error:
        measured(tmp_path, tiny, host(tmp_path, sys.executable, "-S", "-I"))
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
    python, mark = marked_python(tmp_path)

    def cancel(stage, done, total):
        if stage == "latency":
            raise Cancelled()

    there = host(tmp_path, *sshd, python)
    with pytest.raises(Cancelled):
        there.run(tiny[1], tmp_path / "workspace", measure=(4,), seconds=60, progress=cancel)
    assert _ends(int(mark.read_text()), seconds=15)
    assert not list((tmp_path / "workspace").glob("engines/*"))


def _ends(process: int, seconds: float) -> bool:
    for _ in range(int(10 * seconds)):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_an_ssh_server_that_is_not_there_is_refused_with_the_remedy(tmp_path, tiny):
    if not shutil.which("ssh"):
        pytest.skip("there is no ssh: apt-get install openssh-client")
    nowhere = host(tmp_path, "ssh", "-F", "none", "-o", "BatchMode=yes", "-p", "1", "127.0.0.1", sys.executable)
    with pytest.raises(WorkbenchError, match="ended with status 255") as error:
        measured(tmp_path, tiny, nowhere)
    assert "log in without a question" in error.value.remedy


# ---- hosts.toml --------------------------------------------------------------------------------------------------


def test_hosts_are_read_from_the_workspace(tmp_path):
    assert hosts(tmp_path) == {}
    (tmp_path / "hosts.toml").write_text(
        '[gpu-box]\nbackend = "tensorrt"\ncommand = ["ssh", "gpu-box", "python3"]\ncard = "T4"\nlimit_s = 60\n'
    )
    found = host_named(tmp_path, "gpu-box")
    assert found == Host("gpu-box", "tensorrt", ("ssh", "gpu-box", "python3"), card="T4", limit_s=60)
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(WorkbenchError, match="Unknown host 'box'"):
        doctor("box", tmp_path)


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
