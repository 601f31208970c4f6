"""A small job on a host, and what must be right about its report."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.tiny import some_images
from workbench.records import Engine
from workbench.remote.host import Host
from workbench.workspace import Workspace

IMAGES = some_images(40)


def host(tmp_path, *command, **settings) -> Host:
    return Host("there", "onnxruntime", command or (sys.executable,), cache=str(tmp_path / "cache"), **settings)


def acting_host(tmp_path, act: str, **settings) -> Host:
    """A host whose Python runs this program in place of the worker."""
    script = tmp_path / "act.py"
    script.write_text(f"import sys, os, time, signal\n{act}")
    return host(tmp_path, sys.executable, str(script), **settings)


def customized_host(tmp_path, code: str) -> Host:
    """A host whose Python runs this code before the worker."""
    (tmp_path / "sitecustomize.py").write_text(code)
    return host(tmp_path, "env", f"PYTHONPATH={tmp_path}", sys.executable)


def marked_python(tmp_path) -> tuple[str, Path]:
    """A program that starts Python, and the file into which it writes the number of that process."""
    mark, wrapper = tmp_path / "alive", tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\necho $$ > {mark}\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    return str(wrapper), mark


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
