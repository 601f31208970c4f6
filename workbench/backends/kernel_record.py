"""The kernels of an engine's calls, kept in a file beside it, where a machine without the GPU reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from ..errors import WorkbenchError
from ..files import new_file
from ..records import Engine

#: The file beside an engine: images per call -> the rows of ``Session.kernels``.
KERNELS = "kernels.json"


def record_kernels(engine: Engine, batch: int, rows: Sequence[dict]) -> Path:
    """Keep the kernels of a call of so many images; those of other batches stay."""
    calls = {**recorded_kernels(engine), batch: list(rows)}
    path = engine.path.with_name(KERNELS)
    with new_file(path) as draft:
        draft.write_text(json.dumps({str(images): calls[images] for images in sorted(calls)}))
    return path


def recorded_kernels(engine: Engine) -> dict[int, list[dict]]:
    """Images per call -> the rows of ``Session.kernels``; empty where no call was traced.

    Raises:
        WorkbenchError: the file beside the engine was damaged.
    """
    path = engine.path.with_name(KERNELS)
    try:
        return {int(batch): list(rows) for batch, rows in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise WorkbenchError(
            f"{path} is no list of kernels", why=str(error), remedy="delete it, and trace the engine again"
        ) from error
