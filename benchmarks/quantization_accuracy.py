"""What each precision costs on 10,000 held-out ``shapes`` images with the shipped checkpoint.

*Pure* is the error of rounding alone, with ONNX Runtime's own optimizations off; *executed* is the error of its
kernels on this CPU. FP16, BF16 and FP8 are emulated with rounding after every operator. The lessons at the end use
fewer images and are not judged: wrong calibration sets, quantizing everything, and outliers put into the checkpoint
without changing its function (``graphs.quantization.outliers``), with and without SmoothQuant.

    python benchmarks/quantization_accuracy.py [--images 10000] [--lessons 2000]

It fails where INT8 in either layout or int8-dynamic loses more than 0.5 points or INT8 agrees with FP32 on fewer
than 98 % of the images, or FP16 loses more than 0.1 points. The TensorRT layout is measured as its file is written,
without the CPU's 8-bit kernels, which may saturate.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import workbench as wb
from workbench.datasets import ImageSet
from workbench.graphs.quantization.emulation import emulated
from workbench.graphs.quantization.outliers import with_norm_outliers

CHECKPOINT = Path(__file__).parents[1] / "data" / "checkpoints" / "shapes-vit.npz"
BATCH = 32
MINMAX = wb.Calibration(method="minmax")


@dataclass(frozen=True)
class Claim:
    """A recipe, how it is run, the points of accuracy that it may lose, and the least share of agreement."""

    recipe: wb.Recipe
    optimization: str
    most_lost: float | None = None
    least_agreement: float = 0.0


CLAIMS = (
    Claim(wb.Recipe("fp16"), "all", 0.1),
    Claim(wb.Recipe("bf16"), "all"),
    Claim(wb.Recipe("fp8"), "all"),
    Claim(wb.Recipe("int8"), "none", 0.5, 0.98),
    Claim(wb.Recipe("int8", scope="attention"), "none"),
    Claim(wb.Recipe("int8", layout="cpu"), "none", 0.5, 0.98),
    Claim(wb.Recipe("int8", layout="cpu"), "all", 0.5, 0.98),
    Claim(wb.Recipe("int8", high_precision="fp32"), "all", 0.5, 0.98),
    Claim(wb.Recipe("int8-dynamic"), "all", 0.5),
)
METHODS = tuple(wb.Recipe("int8", calibration=wb.Calibration(method=m)) for m in ("minmax", "percentile", "mse"))
CORRUPTIONS = tuple(
    wb.Recipe("int8", calibration=wb.Calibration(variant=v)) for v in ("dark", "noisy", "one-class", "random-noise")
)
EVERYTHING = wb.Recipe("int8", scope="everything", calibration=MINMAX)
TREATED = (
    wb.Recipe("int8", calibration=MINMAX),
    wb.Recipe("int8", calibration=MINMAX, smooth=0.5),
    EVERYTHING,
    wb.Recipe("fp16"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--lessons", type=int, default=2_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        graph = wb.load_graph(CHECKPOINT, folder)
        broken = judged(Evaluation.of(graph, asked.images, folder))
        print(f"\nLessons, {asked.lessons:,} images")
        evaluation = Evaluation.of(graph, asked.lessons, folder)
        for recipe in (*METHODS, *CORRUPTIONS, EVERYTHING):
            evaluation.measure(Claim(recipe, "none"))
        print("\nThe checkpoint with outliers in LayerNorm (function-preserving)")
        treated = Evaluation.of(with_norm_outliers(graph, folder), asked.lessons, folder)
        for recipe in TREATED:
            treated.measure(Claim(recipe, "none"))
    for claim in broken:
        print(f"BROKEN: {claim}")
    return len(broken)


def judged(evaluation: Evaluation) -> list[Claim]:
    """The claims that do not hold."""
    return [claim for claim in CLAIMS if not holds(claim, evaluation.measure(claim))]


def holds(claim: Claim, found: wb.Measurement) -> bool:
    lost = 100 * (found.reference_top1 - found.top1)
    return (claim.most_lost is None or lost <= claim.most_lost) and found.agreement >= claim.least_agreement


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A graph, the images that all its variants are judged by, and the classes that FP32 gives them."""

    graph: wb.Graph
    images: ImageSet
    reference: np.ndarray
    folder: str

    @classmethod
    def of(cls, graph: wb.Graph, count: int, folder: str) -> Evaluation:
        """An evaluation of so many images, after FP32 has classified them."""
        images = wb.images("shapes", count=count, seed=0)
        found = cls(graph, images, images.labels, folder).run(Claim(wb.Recipe(), "all"))
        print(f"{'fp32':36s} {found.execution:9s} top-1 {found.top1:7.2%}, {found.images:,} images", flush=True)
        return cls(graph, images, np.array(found.predictions), folder)

    def measure(self, claim: Claim) -> wb.Measurement:
        """Accuracy of one recipe against the FP32 graph; one line on the screen."""
        begin = time.perf_counter()
        found = self.run(claim)
        low, high = found.top1_interval
        how = "pure" if claim.optimization == "none" else found.execution
        print(
            f"{claim.recipe.label:36s} {how:9s} top-1 {found.top1:7.2%} ({low:.2%} to {high:.2%}), "
            f"lost {100 * (found.reference_top1 - found.top1):+.2f} points, agrees {found.agreement:7.2%}, "
            f"{found.images:,} images, {time.perf_counter() - begin:.0f} s",
            flush=True,
        )
        return found

    def run(self, claim: Claim) -> wb.Measurement:
        """The measurement of one recipe."""
        variant = emulated(wb.apply_recipe(self.graph, claim.recipe, self.folder), self.folder)
        engine = wb.build_engine(variant, "onnxruntime", self.folder, options={"optimization": claim.optimization})
        x, labels, reference = self.images.x, self.images.labels, self.reference
        return wb.measure(engine, x, labels, batch=BATCH, reference=reference, seconds=0)


if __name__ == "__main__":
    sys.exit(main())
