"""Hostile values for the constructors of records, and hostile rows in a ledger."""

from __future__ import annotations

import json
import random
import sqlite3
import warnings
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from tests.hostile.outcomes import Case
from tests.hostile.pools import OBJECTS, PLAIN, changed, damaged
from tests.records.test_encoding import every_record
from workbench.ledger import LEDGER
from workbench.records import decode, encode
from workbench.remote.host import Host
from workbench.workspace import SetAsideWarning, Workspace

RECORDS = [*every_record(), every_record()[1].preprocessing, every_record()[6].calibration]


def _is_whole(record) -> bool:
    """Whether a record that was taken is one that every store gives back, and that can be named and compared."""
    if isinstance(record, Host):
        return json.loads(json.dumps(encode(record), allow_nan=False))["name"] == record.name
    stored = json.dumps(encode(record), allow_nan=False)
    return decode(type(record), json.loads(stored)) == record and bool(repr(record))


def constructors(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """One field of a right record replaced by a hostile value."""
    every = [*RECORDS, Host("box", "tensorrt", ("ssh", "box", "python3"), card="T4")]
    pairs = [(record, field.name, value) for record in every for field in fields(record) for value in OBJECTS]
    for record, name, value in rng.sample(pairs, min(count, len(pairs))):
        label = f"{type(record).__name__}({name}={_name(value)})"
        yield Case(label, lambda r=record, n=name, v=value: replace(r, **{n: v}), _is_whole)


def _name(value) -> str:
    try:
        return repr(value)[:60]
    except Exception:
        return type(value).__name__


def stored_records(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """The JSON of a right record with values replaced, removed or added, and decoded."""
    for _ in range(count):
        record = rng.choice(RECORDS)
        data = changed(encode(record), rng)
        name = f"{type(record).__name__}: {data!r}"[:300]
        yield Case(name, lambda r=record, d=data: decode(type(r), d), _is_whole)


def ledger_rows(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """A row of a ledger that is no record, between two that are: the two are read, the bad one is named."""
    for number in range(count):
        workspace = Workspace(folder / str(number))
        record = rng.choice(RECORDS)
        body = json.dumps(changed(encode(record), rng) if rng.random() < 0.5 else rng.choice(PLAIN))
        row = [body, damaged(body.encode(), rng), rng.choice([None, 5, 0.5, b"\xff\xfe", "", "[" * 100_000, "{}"])]
        stored = rng.choice(row)
        name = f"{type(record).__name__}: {stored!r}"[:300]
        yield Case(name, lambda w=workspace, r=record, s=stored: _read(w, r, s), _rows_read_on)


def _read(workspace: Workspace, record, stored):
    run = [workspace.append("kind", "key", record) for _ in range(3)][1]
    with sqlite3.connect(workspace.path / LEDGER) as ledger:
        ledger.execute("UPDATE observations SET body = ? WHERE run_id = ?", ("" if stored is None else stored, run))
    ledger.close()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = workspace.observations("kind", type(record))
    named = [w for w in caught if w.category is SetAsideWarning and run in str(w.message)]
    return found, len(named), record


def _rows_read_on(result) -> bool:
    """The two good rows came back; the bad one was set aside by name, or is a record after all."""
    found, named, record = result
    there = [each for each in found if encode(each) == encode(record)]
    return len(there) >= 2 and len(found) + named == 3 and all(map(_is_whole, found))
