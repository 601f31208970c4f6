"""Every kind of bad input, by name: a function that makes so many cases of it in a folder of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.hostile import downloads, hosts, image_files, onnx_files, records_and_ledger, study_files
from tests.hostile.outcomes import Case

Make = Callable[[random.Random, int, Path], Iterator[Case]]

KINDS: Mapping[str, Make] = {
    "constructors": records_and_ledger.constructors,
    "stored records": records_and_ledger.stored_records,
    "ledger rows": records_and_ledger.ledger_rows,
    "answers of hosts": hosts.answers,
    "messages of hosts": hosts.messages,
    "study files": study_files.files,
    "ONNX files": onnx_files.files,
    "downloads": downloads.files,
    "pictures in folders": image_files.pictures,
    "checkpoints": image_files.checkpoints,
}
