import io
import json
import subprocess
import sys

import pytest

from workbench import __version__
from workbench.cli.commands import REFUSED, UNREAD, app, main, parsed
from workbench.cli.progress_line import ProgressLine
from workbench.errors import WorkbenchError
from workbench.remote import host

COMMANDS = sorted(name for name in app if not name.startswith("-"))


ERROR = WorkbenchError("It cannot be", why="it is Monday", remedy="wait a day")


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (ERROR, 2, "error: It cannot be.\n  why: it is Monday\n  remedy: wait a day\n"),
        (KeyboardInterrupt(), 130, "interrupted; what was finished is kept\n"),
    ],
)
def test_an_error_or_control_c_ends_with_a_code_and_no_traceback(error, status, printed, monkeypatch, capsys):
    def doctor(*arguments):
        raise error

    monkeypatch.setattr(host, "doctor", doctor)
    assert main(["doctor"]) == status
    assert capsys.readouterr().err == printed


def test_a_reader_that_leaves_early_is_no_error():
    """As in ``workbench doctor | head``."""
    script = """import sys
from workbench.cli.commands import main
from workbench.remote import host
host.doctor = lambda *_: [dict(item="GPU", found="", status="ok", remedy="")]
sys.exit(main(["doctor"]))"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == UNREAD == 141


@pytest.mark.parametrize(
    ("words", "near"),
    [(["studdy"], '"study"'), (["doctor", "--hosts", "a"], "--host"), (["report"], "--study requires"),
     (["profile", "S/16", "--batch", "two"], '"two" into int'), (["inspect"], "MODEL requires")],
)  # fmt: skip
def test_words_that_are_no_command_or_option_are_refused_with_a_near_one(words, near, capsys):
    assert main(words) == REFUSED
    assert near in " ".join(capsys.readouterr().err.replace("│", "").split())


def test_help_names_every_command_and_each_explains_its_options(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        assert f"Usage: workbench {name}" in capsys.readouterr().out


def test_python_m_workbench_is_the_command_and_help_comes_without_importing_what_commands_need():
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, f"workbench {__version__}\n")
    slow = ("jax", "pandas", "plotly", "onnx", "onnxruntime", "papermill", "numpy")
    code = "import sys, workbench.cli.commands as c; c.main(['profile', '--help']); "
    code += f"print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_doctor_prints_a_table_or_json(capsys, tmp_path):
    assert main(["doctor", "--workspace", str(tmp_path)]) in (0, 1)
    assert "onnxruntime" in capsys.readouterr().out
    main(["doctor", "--json", "--workspace", str(tmp_path)])
    rows = json.loads(capsys.readouterr().out)
    assert {"item", "found", "status", "remedy"} <= set(rows[0])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("doctor --host gpu-box", "gpu-box"),
        ("fetch-checkpoint B/17 --out {}", "did you mean 'B/1"),  # before anything is downloaded
        ("study {}/none.toml", "data/study.toml is an example"),
        ("report --study laptop --workspace {}", "no study ran there yet"),
        ("run-notebooks", "no notebook to run"),
    ],
)
def test_what_is_not_there_is_refused_with_the_remedy(words, reason, capsys, tmp_path):
    assert main(words.format(tmp_path).split()) == REFUSED
    assert reason in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_parameters_for_notebooks_are_numbers_where_they_look_like_numbers():
    words = {"8": 8, "0.5": 0.5, "true": True, "null": None, "[1, 2]": [1, 2], "int8": "int8", "a/b": "a/b"}
    assert parsed([(word, word) for word in words]) == words


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_rewrites_one_line_on_a_terminal_and_writes_one_for_each_stage_in_a_log(terminal):
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    with ProgressLine(stream) as progress:
        for done in range(100):
            progress("accuracy of int8", done, 100)
        progress("latency", 50, 100)
    text = stream.getvalue()
    assert text.count("\n") == (1 if terminal else 2)
    if terminal:
        lines = text.split("\r")
        assert "0 %" in lines[1]
        assert "50 %" in lines[-1]
        assert len(lines[-1].rstrip("\n")) >= len(lines[-2])  # the longer line before it is covered
