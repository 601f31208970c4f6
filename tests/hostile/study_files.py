"""Hostile study files: changed values of every key, and damaged text."""

from __future__ import annotations

import datetime
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path

import tomllib

from tests.hostile.outcomes import Case
from tests.hostile.pools import PLAIN, changed, damaged
from workbench.studies.study_file import StudyFile

DATES = [datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1, 12), datetime.time(12)]
POOL = [value for value in PLAIN if value is not None and value != "\ud800"] + DATES


def _right() -> dict:
    """The example file with every line that is commented out."""
    body = Path("data/study.toml").read_text().split("\n\n", 1)[1]
    return tomllib.loads("\n".join(line.removeprefix("# ") for line in body.splitlines()))


def _toml(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, list) and value and isinstance(value[0], list):
        return repr(value)  # it may be nested deeply
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {_toml(each)}' for key, each in value.items())} }}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def files(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """A changed or damaged file. What is read must say what the file says, with values that can be run."""
    right = _right()
    for number in range(count):
        path = folder / f"{number}.toml"
        values = changed(right, rng, POOL)
        text = "\n".join(f"{json.dumps(key)} = {_toml(value)}" for key, value in values.items()).encode()
        if number % 4 == 0:
            text = damaged(text, rng)
        if number % 97 == 0:
            text = b"a = " + b"[" * 10_000
        path.write_bytes(text)
        yield Case(f"{text!r}"[:400], lambda path=path: StudyFile.read(path), _can_be_run)


def _can_be_run(file: StudyFile) -> bool:
    keys = file.keys
    json.dumps([file.limits, dict(keys.options), dict(keys.cards)], allow_nan=False)
    sizes = [*keys.batches, keys.images.count, 1 if keys.image_size is None else keys.image_size]
    threads = [options.get("threads", 1) for name, options in keys.options.items() if name == "onnxruntime"]
    return (
        all(type(size) is int and size >= 1 for size in sizes)
        and all(type(number) is int and 1 <= number <= 1024 for number in threads)
        and 0 < keys.seconds <= 86_400
        and len(file.recipes()) == len(file.values["recipes"])
        and all(isinstance(recipe.label, str) for recipe in file.recipes())
        and file.report.parent is not None
    )
