"""The command ``python -m workbench.models.training``: trains, evaluates, writes the checkpoint and its card."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
import time
from pathlib import Path

import jax
import numpy as np

from ...code_version import tool_versions
from ...datasets import normalise
from ...progress import Progress, silent
from ...records import encode, wilson
from .. import vit
from ..checkpoint import load_checkpoint, save_checkpoint
from .images import draw, labelled
from .loop import train, within
from .plan import RECIPES, Plan


def evaluate(
    path, *, data: str = "shapes", images: int = 10_000, seed: int = 0, progress: Progress = silent
) -> tuple[int, int]:
    """How many of the first images of a data set's evaluation split a checkpoint classifies correctly, in float32.

    Returns:
        The images classified correctly, and all images.
    """
    spec, params = load_checkpoint(path)
    if data == "shapes":
        pixels = np.empty((images, spec.image_size, spec.image_size, 3), np.uint8)
        labels = draw("evaluation", seed, pixels, progress)
    else:
        found = labelled(data, "evaluation", images, seed, spec, progress)
        pixels, labels = found.pixels, found.labels
    hits = 0
    for start in range(0, images, 512):
        x = normalise(pixels[start : start + 512])
        hits += int((vit.logits(spec, params, x).argmax(-1) == labels[start : start + 512]).sum())
        progress("evaluating", min(start + 512, images), images)
    return hits, images


def main(arguments: list[str] | None = None) -> None:
    """Train, write the checkpoint and a card beside it, and print its accuracy on images that it has not seen."""
    started, options = time.monotonic(), _options(arguments)
    spec = dataclasses.replace(RECIPES[options.recipe].spec, name=options.out.stem)
    chosen = {f.name: getattr(options, f.name, None) for f in dataclasses.fields(Plan)}
    changed = {name: value for name, value in chosen.items() if value is not None}
    plan = dataclasses.replace(RECIPES[options.recipe], spec=spec, **changed)
    if options.minutes:
        plan = within(plan, options.folder, 60 * options.minutes, progress=_printing())
        print(f"{plan.epochs} epochs, {plan.steps:,} steps fit in {options.minutes} minutes", flush=True)
    params = train(plan, options.folder, progress=_printing())
    save_checkpoint(options.out, spec, params, dtype="float16")
    minutes = (time.monotonic() - started) / 60
    hits, images = evaluate(
        options.out, data=plan.data, images=options.evaluation_images, seed=plan.seed, progress=_printing()
    )
    low, high = wilson(hits, images)
    card = {
        "plan": encode(plan),
        "command": shlex.join(
            ["python", "-m", "workbench.models.training", *(sys.argv[1:] if arguments is None else arguments)]
        ),
        "evaluation": {
            "split": "evaluation",
            "images": images,
            "top1": hits / images,
            "top1_interval": [low, high],
        },
        "minutes_of_this_call": round(minutes, 1),
        "device": jax.devices()[0].device_kind,
        "versions": tool_versions(("jax", "flax", "optax", "numpy")),
        "bytes": options.out.stat().st_size,
    }
    options.out.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n")
    print(
        f"\n{options.out}: top-1 {hits / images:.2%} on {images:,} evaluation images "
        f"(95 % interval {low:.2%} to {high:.2%}); {minutes:.1f} minutes on {card['device']}"
    )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workbench.models.training", description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="the checkpoint to write (.npz)")
    parser.add_argument("--folder", type=Path, default=Path("runs/training"), help="for drawn images and the state")
    parser.add_argument("--evaluation-images", type=int, default=10_000)
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="shapes", help="the plan that others change")
    parser.add_argument(
        "--minutes",
        type=float,
        help="take as many epochs as fit in this time, compilation included",
    )
    for field in dataclasses.fields(Plan):
        if field.name == "spec":
            continue
        default = "bfloat16" if field.name == "compute" and jax.default_backend() != "cpu" else None
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=default)
    return parser.parse_args(arguments)


def _printing() -> Progress:
    """Prints a line every five seconds and at the end of each stage."""
    began, last = time.monotonic(), 0.0

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if done == total or now - last > 5:
            last = now
            print(f"{now - began:7.1f} s  {stage}  {done:,}/{total:,}", flush=True)

    return progress


if __name__ == "__main__":
    main()
