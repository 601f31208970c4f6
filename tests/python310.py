"""Interpreters of Python 3.10, which GPU hosts may have: as they are, or with NumPy and ONNX Runtime."""

from __future__ import annotations

import functools
import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


@functools.cache
def bare() -> str | None:
    """Any CPython 3.10: on the path, or where pyenv and uv keep theirs."""
    script = "import sys, ctypes, sqlite3; assert sys.version_info[:2] == (3, 10)"
    return next((name for name in _candidates() if _runs(name, script)), None)


def _candidates() -> Iterator[str]:
    yield from filter(None, [shutil.which("python3.10")])
    homes = {
        Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions": "3.10.*/bin/python",
        Path.home() / ".local/share/uv/python": "cpython-3.10*/bin/python3.10",
    }
    for folder, pattern in homes.items():
        yield from map(str, sorted(folder.glob(pattern)))


@functools.cache
def equipped(*more: str) -> str | None:
    """A CPython 3.10 with NumPy, ONNX Runtime and more packages: the bare one, or a venv made once per machine."""
    packages = ("numpy", "onnxruntime", *more)
    script, python = "import " + ", ".join(packages), bare()
    if python is None or _runs(python, script):
        return python
    venv = Path(tempfile.gettempdir()) / "-".join(("workbench-python310", getpass.getuser(), *more))
    inside = str(venv / "bin" / "python")
    if not _runs(inside, script):
        subprocess.run([python, "-m", "venv", "--clear", str(venv)], check=False, capture_output=True)
        install = [inside, "-m", "pip", "install", "-q", *packages]
        subprocess.run(install, check=False, capture_output=True, timeout=300)
    return inside if _runs(inside, script) else None


def _runs(python: str, program: str) -> bool:
    try:
        return subprocess.run([python, "-I", "-c", program], capture_output=True, timeout=60).returncode == 0
    except OSError:
        return False
