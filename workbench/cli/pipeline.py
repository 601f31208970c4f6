"""The pipeline one step a command: import a model, apply a recipe, build an engine, search what to exclude.

Each takes the model itself and finds the steps before it in the workspace, as a notebook does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..records import Batches, Calibration, Recipe
from .progress_line import ProgressLine

WORKSPACE = Path("workspace")
Several = Parameter(consume_multiple=True)


def import_model(model: Path, /, *, preprocessing: str | None = None, workspace: Path = WORKSPACE) -> None:
    """Make a clean float32 graph of a checkpoint or an ONNX file, compare it with the original, and print its path.

    Args:
        model: a checkpoint (.npz) or an .onnx file.
        preprocessing: a preset such as deit, the model's config file, or a table as JSON; vit_jax's when left out.
        workspace: where graphs are kept and found again.
    """
    with ProgressLine() as progress:
        graph = _graph(model, preprocessing, workspace, progress)
    used = graph.preprocessing
    print(f"classes        {graph.classes}")
    print(f"shape          {graph.spec or 'no plain ViT'}")
    print(f"preprocessing  {used}")
    if graph.parity:
        error, images = graph.parity.max_abs_error, graph.parity.images
        print(f"parity         logits within {error:.2g} of the original's on {images} images")
    _print_path(graph.path, graph.notes)


def recipe(
    model: Path,
    /,
    *,
    precision: str,
    scope: str = "linear",
    layout: str = "tensorrt",
    high_precision: str | None = None,
    exclude: Annotated[tuple[str, ...], Several] = (),
    smooth: float | None = None,
    dataset: str = "",
    method: str = "entropy",
    samples: int = 128,
    preprocessing: str | None = None,
    workspace: Path = WORKSPACE,
) -> None:
    """Write a precision into a model's graph and print the path of the variant.

    Args:
        model: a checkpoint (.npz) or an .onnx file.
        precision: fp32, fp16, bf16, int8, int8-dynamic, fp8, mxfp8, nvfp4, w8, w4 or wfp4.
        scope: linear, attention or everything.
        layout: where Q/DQ go: tensorrt, or cpu for ONNX Runtime.
        high_precision: the type beside a low precision.
        exclude: blocks or places that stay in it, such as block03/fc2.
        smooth: SmoothQuant's alpha, 0 to 1.
        dataset: whose images calibrate: shapes, cifar10, a folder with a folder per class, an .npz.
        method: how ranges are set: minmax, percentile, entropy or mse.
        samples: how many calibration images.
        preprocessing: a preset such as deit, the model's config file, or a table as JSON; vit_jax's when left out.
        workspace: where graphs and variants are kept and found again.
    """
    calibration = Calibration(dataset=dataset, method=method, samples=samples)
    asked = Recipe(precision, scope, layout, high_precision, calibration, smooth, exclude)
    with ProgressLine() as progress:
        variant = _variant(_graph(model, preprocessing, workspace, progress), asked, workspace, progress)
    print(f"recipe         {variant.recipe.label}")
    _print_path(variant.path, variant.notes)


def build(
    model: Path,
    /,
    *,
    precision: str = "fp32",
    layout: str | None = None,
    exclude: Annotated[tuple[str, ...], Several] = (),
    dataset: str = "",
    samples: int = 128,
    backend: str = "onnxruntime",
    card: str | None = None,
    batches: Annotated[tuple[int, int, int] | None, Parameter(consume_multiple=True)] = None,
    preprocessing: str | None = None,
    workspace: Path = WORKSPACE,
) -> None:
    """Build an engine of a model in a precision, and print its path.

    Args:
        model: a checkpoint (.npz) or an .onnx file.
        precision: of the recipe.
        layout: where Q/DQ go; that of the backend when left out.
        exclude: blocks or places that stay in high precision.
        dataset: whose images calibrate.
        samples: how many calibration images.
        backend: onnxruntime, tensorrt or tensorrt-rtx.
        card: the GPU to build for, such as T4; the one here when left out.
        batches: the smallest batch, the one to tune for, the largest.
        preprocessing: a preset such as deit, the model's config file, or a table as JSON; vit_jax's when left out.
        workspace: where everything is kept and found again.
    """
    from ..backends import build_engine

    layout = layout or ("cpu" if backend == "onnxruntime" else "tensorrt")
    calibration = Calibration(dataset=dataset, samples=samples)
    asked = Recipe(precision, layout=layout, calibration=calibration, exclude=exclude)
    sizes = Batches(*batches) if batches else None
    with ProgressLine() as progress:
        variant = _variant(_graph(model, preprocessing, workspace, progress), asked, workspace, progress)
        engine = build_engine(variant, backend, workspace, batches=sizes, card=card, progress=progress)
    print(f"engine         {engine.label}, built in {engine.build_seconds:.1f} s")
    _print_path(engine.path, variant.notes)


def search(
    model: Path,
    /,
    *,
    precision: str = "int8",
    layout: str = "tensorrt",
    scope: str = "linear",
    max_drop: float = 0.5,
    dataset: str = "shapes",
    images: int = 256,
    split: str = "evaluation",
    samples: int = 128,
    preprocessing: str | None = None,
    workspace: Path = WORKSPACE,
) -> None:
    """Find the fewest places to leave out of a low precision so that top-1 falls by at most a limit.

    Args:
        model: a checkpoint (.npz) or an .onnx file.
        precision: int8, fp8, mxfp8, nvfp4, w8, w4 or wfp4.
        layout: where Q/DQ go: tensorrt, or cpu for ONNX Runtime.
        scope: linear, attention or everything.
        max_drop: percentage points of top-1 that may be lost.
        dataset: whose images calibrate and judge: shapes, cifar10, a folder with a folder per class, an .npz.
        images: how many judge.
        split: of the data set that judges: training, calibration, evaluation or all.
        samples: how many calibration images.
        preprocessing: a preset such as deit, the model's config file, or a table as JSON; vit_jax's when left out.
        workspace: where everything is kept and found again.
    """
    from ..graphs.analysis.search import search_recipe
    from ..graphs.evaluation_images import evaluation_images

    asked = Recipe(precision, scope, layout, calibration=Calibration(dataset=dataset, samples=samples))
    with ProgressLine() as progress:
        graph = _graph(model, preprocessing, workspace, progress)
        judged = evaluation_images(graph, dataset, images, split=split, progress=progress)
        found = search_recipe(graph, asked, workspace, max_drop=max_drop, images=judged, progress=progress)
    print(f"{len(judged)} images of {judged.name}")
    print(found)
    print("\n".join(f"exclude        {place}" for place in found.recipe.exclude) or "exclude        nothing")


def _graph(model: Path, preprocessing: str | None, workspace: Path, progress):
    from ..datasets.published_preprocessing import from_text
    from ..graphs.any_model import load_graph

    return load_graph(model, workspace, from_text(preprocessing or ""), progress=progress)


def _variant(graph, asked: Recipe, workspace: Path, progress):
    from ..graphs.quantization.recipe import apply_recipe

    return apply_recipe(graph, asked, workspace, progress=progress)


def _print_path(path: Path, notes) -> None:
    print(*(f"note           {note}" for note in notes), sep="\n", end="\n" if notes else "")
    print(path)
