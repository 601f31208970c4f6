import io
import json
import subprocess
import sys

import pytest

from workbench.cli import commands
from workbench.errors import WorkbenchError


@pytest.fixture
def command(monkeypatch):
    """Puts a subcommand of its own in place of one, so that what surrounds subcommands can be looked at."""

    def make(run):
        monkeypatch.setitem(commands.COMMANDS, "doctor", commands.COMMANDS["doctor"]._replace(run=run))

    return make


def test_an_error_is_told_with_why_and_remedy_and_without_a_traceback(command, capsys):
    def refuse(asked):
        raise WorkbenchError("It cannot be", why="it is Monday", remedy="wait a day")

    command(refuse)
    assert commands.main(["doctor"]) == 2
    told = capsys.readouterr().err
    assert told == "error: It cannot be.\n  why: it is Monday\n  remedy: wait a day\n"


def test_a_reader_that_leaves_early_is_no_error():
    """As in ``workbench doctor | head``."""
    script = "import sys; from workbench.cli import commands; "
    script += "commands.COMMANDS['doctor'] = commands.COMMANDS['doctor']._replace(run=print)"
    script += "; sys.exit(commands.main(['doctor']))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.close()
        assert child.stderr.read() == b""
    assert child.returncode == commands.UNREAD


def test_control_c_ends_with_130_and_one_line(command, capsys):
    def interrupt(asked):
        raise KeyboardInterrupt

    command(interrupt)
    assert commands.main(["doctor"]) == 130
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_command_is_refused_by_argparse(capsys):
    with pytest.raises(SystemExit) as ended:
        commands.main(["tune"])
    assert ended.value.code == 2
    assert "invalid choice: 'tune'" in capsys.readouterr().err


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        commands.main([name, "--help"])
    assert ended.value.code == 0
    assert f"usage: workbench {name}" in capsys.readouterr().out


def python(*arguments):
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout


def test_help_comes_without_importing_what_commands_need():
    slow = ("jax", "pandas", "plotly", "onnx", "onnxruntime", "papermill", "numpy")
    code = "import sys, workbench.cli.commands as c; c.parser().format_help(); "
    code += f"print([m for m in {slow} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_python_m_workbench_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "--version"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "workbench 0.1.0\n")


def test_doctor_prints_a_table_or_json(capsys, tmp_path):
    assert commands.main(["doctor", "--workspace", str(tmp_path)]) in (0, 1)
    assert "onnxruntime" in capsys.readouterr().out
    commands.main(["doctor", "--json", "--workspace", str(tmp_path)])
    rows = json.loads(capsys.readouterr().out)
    assert {"item", "found", "status", "remedy"} <= set(rows[0])


def test_doctor_for_an_unknown_host_is_an_error(capsys, tmp_path):
    assert commands.main(["doctor", "--host", "gpu-box", "--workspace", str(tmp_path)]) == 2
    assert "gpu-box" in capsys.readouterr().err


def test_an_unknown_checkpoint_is_refused_before_anything_is_downloaded(capsys, tmp_path):
    assert commands.main(["fetch-checkpoint", "B/17", "--out", str(tmp_path)]) == 2
    assert "did you mean 'B/1" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_study_file_that_is_not_there_is_an_error(capsys, tmp_path):
    assert commands.main(["study", str(tmp_path / "none.toml")]) == 2
    assert "data/study.toml is an example" in capsys.readouterr().err


def test_the_report_of_a_study_that_never_ran_is_an_error(capsys, tmp_path):
    assert commands.main(["report", "--study", "laptop", "--workspace", str(tmp_path)]) == 2
    assert "no study ran there yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"), [("8", 8), ("0.5", 0.5), ("true", True), ("null", None), ("int8", "int8"), ("a/b", "a/b")]
)
def test_parameters_for_notebooks_are_numbers_where_they_look_like_numbers(text, value):
    assert commands._parameter(("name", text)) == ("name", value)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_on_a_terminal_rewrites_one_line():
    terminal = Terminal()
    screen = commands.Screen(terminal)
    screen("accuracy of int8", 0, 4)
    screen("latency", 2, 4)
    screen.close()
    lines = terminal.getvalue().split("\r")
    assert "0 %" in lines[1]
    assert "50 %" in lines[2]
    assert len(lines[2].rstrip("\n")) >= len(lines[1])  # the longer line before it is covered
    assert terminal.getvalue().count("\n") == 1


def test_progress_in_a_log_is_one_line_per_stage():
    log = io.StringIO()
    screen = commands.Screen(log)
    for done in range(100):
        screen("accuracy", done, 100)
    screen("latency", 0, 100)
    assert log.getvalue().count("\n") == 2
