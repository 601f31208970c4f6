"""Hostile answers of a host: changed reports, and damaged tars."""

from __future__ import annotations

import functools
import io
import json
import os
import random
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.outcomes import Case
from tests.hostile.pools import changed, damaged
from tests.remote.jobs import IMAGES
from tests.tiny import Tiny, variant_of
from workbench.digests import file_digest
from workbench.records import Batches, Engine, encode
from workbench.remote.job import EvaluationSet, Job, run_job
from workbench.remote.protocol import keep_results, message_in
from workbench.remote.validation import Asked, validated_rows
from workbench.workspace import Workspace


def _honest(folder: Path):
    """What is asked of a host, its honest report as JSON, and the folder with the engine's files."""
    model = Tiny.of()
    folder.mkdir(parents=True)
    variant = variant_of(model.graph(folder, external=True))
    truth = model.logits(IMAGES).argmax(axis=1)
    job = Job(variant, "onnxruntime", Batches(1, 2, 4), measure=(1, 4), streams=(2,), layers=True, seconds=0.001)
    asked = Asked(job, EvaluationSet(IMAGES, truth, truth), "box", elsewhere=True)
    report = run_job(job, folder / "workspace", asked.evaluation)
    home = report.engine.path.parent
    return asked, encode(report, functools.partial(os.path.relpath, start=home)), home


def _tar(report, home: Path) -> bytes:
    out, content = io.BytesIO(), json.dumps(report).encode()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("report.json")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
        for path in sorted(home.iterdir()):
            tar.add(path, f"engine/{path.name}")
    return out.getvalue()


def answers(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """A changed report, or a damaged tar; what is kept must be about what was asked, and the ledger reads on."""
    asked, report, home = _honest(folder / "host")
    workspace = Workspace(folder / "kept")
    whole = _tar(report, home)
    for number in range(count):
        lies = changed(report, rng)
        content = _tar(lies, home) if number % 3 else damaged(whole, rng)
        yield Case(f"answer {number}", lambda c=content: _keep(c, asked, workspace, folder), _is_what_was_asked)


def _keep(content: bytes, asked: Asked, workspace: Workspace, folder: Path):
    (folder / "answer.tar").write_bytes(content)
    with tempfile.TemporaryDirectory() as unpacked:
        return keep_results(asked, folder / "answer.tar", workspace, Path(unpacked)), asked, workspace


def _is_what_was_asked(result) -> bool:
    report, asked, workspace = result
    engine, job = report.engine, asked.job
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored = workspace.observations("engine", Engine)[-1]
    measured = [
        (one.batch, one.recipe, one.variant, one.labels, len(one.predictions)) for one in report.measurements
    ]
    labels = tuple(asked.evaluation.labels.tolist())
    right = [(batch, job.variant.recipe, job.variant.digest, labels, len(labels)) for batch in job.measure]
    return (
        stored == engine
        and (engine.batches, engine.options, engine.backend) == (job.batches, {}, job.backend)
        and engine.checksums["model.onnx"] == file_digest(job.variant.path) == file_digest(engine.path)
        and (measured == right or report.refusal is not None)
        and all(second > 0 for one in report.measurements for second in one.latencies_s)
    )


def messages(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """Lines on a host's standard error, and the rows of its doctor."""
    lines = [{"stage": "x", "done": 1, "total": 2}, {"missing": ["a"]}, {"sent": {"sha256": "a", "bytes": 1}}]
    lines += [{"error": {"what": "a", "why": "b", "remedy": "c"}}]
    rows = [{"item": item, "found": "b", "status": "ok", "remedy": ""} for item in "ab"]
    for number in range(count):
        line = json.dumps(changed(rng.choice(lines), rng)).encode()
        line = damaged(line, rng) if number % 2 else line
        yield Case(f"line {line!r}"[:200], lambda line=line: message_in(line), _is_message)
        found = changed(rows, rng)
        yield Case(f"rows {found!r}"[:200], lambda found=found: validated_rows(found), lambda rows: len(rows) == 2)


def _is_message(found) -> bool:
    if found is None:  # a line that a library printed
        return True
    kind, message = found
    numbers = [message["done"], message["total"]] if kind == "stage" else []
    return all(type(number) is int and 0 <= number < 1 << 63 for number in numbers) and kind in message
