"""Which block and role does each GPU kernel belong to? Joined by the order and the shapes of the products.

A kernel carries no name of a node. But the products of a ViT are a chain: every one needs the result of the one
before, so kernels run in the order of the model. The products of a call are laid beside those that the model needs.
Where they match one to one, and no grid of thread blocks contradicts the size of its product, their places are
certain. Otherwise the nearest match is taken and said to be a guess. Kernels between two products stand where the
model has its other operators there; that is always a guess.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..backends.hardware.kernels import Kernel
from ..backends.tensorrt.layers import ATTENTION_KERNEL, Layer
from ..places import Place, block_name, place_of
from ..records import ModelSpec

#: What a skipped step or a skipped kernel costs in a match, and a grid that does not fit its product.
SKIPPED, MISFIT = 1.0, 0.25
#: The nodes of a whole attention.
ATTENTION_NODES = ("attention/scores", "attention/softmax", "attention/context")
#: Between the product of the first place and that of the second stand these nodes.
BETWEEN = {
    ("qkv", "scores"): ("attention/split",),
    ("scores", "context"): ("attention/softmax",),
    ("context", "proj"): ("attention/merge",),
    ("proj", "fc1"): ("residual1", "norm2"),
    ("fc1", "fc2"): ("mlp/gelu",),
}


class Product(NamedTuple):
    """One matrix product of the model: its node, and rows x columns of its result, so many times."""

    node: str
    rows: int
    columns: int
    copies: int = 1


class Step(NamedTuple):
    """A part of the model, and the alternative lists of kernels that can compute it.

    A kernel of an alternative is a ``Product``, or None for a whole attention. An empty list costs nothing.
    """

    node: str
    alternatives: tuple[tuple[Product | None, ...], ...]


class PlacedKernel(NamedTuple):
    """A kernel, the nodes that it computes, and whether that is a guess."""

    kernel: Kernel
    nodes: tuple[str, ...]
    guess: bool

    @property
    def place(self) -> Place:
        """The place of its first node."""
        return (place_of(self.nodes[0]) if self.nodes else None) or Place(None, "unnamed")

    @property
    def layer(self) -> Layer:
        """The kernel as a layer, so that tables of layers take it."""
        kernel = self.kernel
        if kernel.is_attention:
            kind = ATTENTION_KERNEL
        else:
            kind = "gemm" if kernel.is_product else "Reformat" if kernel.is_move else "kgen"
        return Layer(kernel.name, kind, self.nodes, (kernel.type,) if kernel.type else (), ())

    def row(self) -> dict:
        """``block``, ``role``, ``name``, ``seconds``, ``type``, ``attention`` and ``guess``."""
        facts = {name: value for name, value in self.kernel.row().items() if name != "grid"}
        return {"block": self.place.block, "role": self.place.role, **facts, "guess": self.guess}


def kernels_of_rows(rows: Sequence[Mapping]) -> list[Kernel]:
    """The rows of ``Session.kernels`` as ``Kernel``."""
    return [Kernel(row["name"], row["seconds"], tuple(row["grid"]) if row.get("grid") else None) for row in rows]


def place_kernels(kernels: Sequence[Kernel], spec: ModelSpec, batch: int) -> list[PlacedKernel]:
    """The kernels of one call with their places.

    Args:
        kernels: of one call, in the order of launch.
        spec: the model's shape.
        batch: images of the call.
    """
    heavy = [index for index, kernel in enumerate(kernels) if kernel.is_product or kernel.is_attention]
    chosen = [kernels[index] for index in heavy]
    cost, found = match(chosen, steps_of(spec, batch, 1))
    if cost >= SKIPPED:  # q, k and v are one product in all blocks, or three in all
        cost, found = min((cost, found), match(chosen, steps_of(spec, batch, 3)), key=lambda each: each[0])
    places = {
        index: PlacedKernel(kernel, place.nodes, guess=cost >= SKIPPED or not place.fits)
        for index, kernel, place in zip(heavy, chosen, found)
    }
    return _with_others(kernels, places)


# ---- the products that a model needs -----------------------------------------------------------------------------


def steps_of(spec: ModelSpec, batch: int, qkv_products: int) -> list[Step]:
    """The products of a ViT in the order of computation.

    Args:
        spec: the model's shape.
        batch: images of a call.
        qkv_products: 1 where one product computes q, k and v, 3 where each has its own.
    """
    patches = Product("embedding/patches", batch * spec.grid**2, spec.width)
    # a kernel whose name does not tell that it is a product may compute the patches
    steps = [Step("embedding", ((patches,), ()))]
    for index in range(spec.depth):
        steps += _block_steps(spec, batch, block_name(index), qkv_products)
    if spec.representation is not None:
        steps.append(_dense("pre_logits", batch, spec.representation))
    return [*steps, _dense("head", batch, spec.classes)]


def _dense(node: str, rows: int, columns: int, products: int = 1) -> Step:
    return Step(node, (products * (Product(node, rows, columns),),))


def _block_steps(spec: ModelSpec, batch: int, block: str, qkv_products: int) -> Iterator[Step]:
    rows, heads = batch * spec.tokens, batch * spec.heads
    apart = (
        Product(f"{block}/attention/scores", spec.tokens, spec.tokens, heads),
        Product(f"{block}/attention/context", spec.tokens, spec.head_size, heads),
    )
    yield _dense(f"{block}/attention/qkv", rows, 3 * spec.width // qkv_products, qkv_products)
    yield Step(f"{block}/attention/scores", ((None,), apart))
    yield _dense(f"{block}/attention/proj", rows, spec.width)
    yield _dense(f"{block}/mlp/fc1", rows, spec.mlp)
    yield _dense(f"{block}/mlp/fc2", rows, spec.width)


# ---- the match ---------------------------------------------------------------------------------------------------


class _Matched(NamedTuple):
    """The nodes of one kernel, and whether its grid fits them."""

    nodes: tuple[str, ...]
    fits: bool


#: A kernel that no step of the model takes.
_UNPLACED = _Matched((), False)


def match(kernels: Sequence[Kernel], steps: Sequence[Step]) -> tuple[float, list[_Matched]]:
    """The cheapest way to lay kernels beside the steps of a model, by Dijkstra's algorithm.

    A state is how many steps and how many kernels are done. Where all match, only states on the way are visited.

    Returns:
        Its cost, and the place of every kernel. A cost below ``SKIPPED`` leaves out no kernel and no step.
    """
    begin, end = (0, 0), (len(steps), len(kernels))
    waiting: list[tuple[float, int, tuple[int, int]]] = [(0.0, 0, begin)]  # of equal costs the furthest first
    best: dict[tuple[int, int], float] = {begin: 0.0}
    came: dict[tuple[int, int], tuple[tuple[int, int], tuple[_Matched, ...]]] = {}
    while waiting and waiting[0][2] != end:
        cost, _, state = heapq.heappop(waiting)
        if cost > best[state]:
            continue  # reached more cheaply meanwhile
        for taken, price, matched in _moves(kernels, steps, *state):
            after = state[0] + taken[0], state[1] + taken[1]
            if cost + price < best.get(after, math.inf):
                best[after], came[after] = cost + price, (state, matched)
                heapq.heappush(waiting, (cost + price, -sum(after), after))
    found: list[_Matched] = []
    state = end
    while state != begin:
        state, matched = came[state]
        found[:0] = matched
    return best[end], found


def _moves(
    kernels: Sequence[Kernel], steps: Sequence[Step], i: int, j: int
) -> Iterator[tuple[tuple[int, int], float, tuple[_Matched, ...]]]:
    """What can follow after ``i`` steps and ``j`` kernels: steps and kernels taken, the price, the places."""
    if j < len(kernels):
        yield (0, 1), SKIPPED, (_UNPLACED,)
    if i == len(steps):
        return
    yield (1, 0), SKIPPED, ()
    for alternative in steps[i].alternatives:
        found = kernels[j : j + len(alternative)]
        if len(found) == len(alternative) and all(map(_can_compute, found, alternative)):
            matched = tuple(map(_matched, found, alternative, len(found) * [steps[i]]))
            yield (1, len(found)), MISFIT * sum(not one.fits for one in matched), matched


def _can_compute(kernel: Kernel, product: Product | None) -> bool:
    if product is None or kernel.is_attention:
        return product is None and kernel.is_attention
    return not kernel.is_convolution or product.node.startswith("embedding")


def _matched(kernel: Kernel, product: Product | None, step: Step) -> _Matched:
    if product is None:
        block = step.node.split("/", 1)[0]
        return _Matched(tuple(f"{block}/{node}" for node in ATTENTION_NODES), True)
    return _Matched((product.node,), fits(kernel, product) is not False)


def fits(kernel: Kernel, product: Product) -> bool | None:
    """Whether a kernel's thread blocks are those of a product; None where they do not tell.

    Each thread block computes one tile of the result, or of its transpose. A product that is split along its inner
    dimension has several per tile. Fewer thread blocks than tiles belong to a persistent kernel, whose grid is the
    size of the GPU and tells nothing.
    """
    if kernel.grid is None or kernel.tile is None or kernel.is_convolution:
        return None
    blocks = math.prod(kernel.grid)
    needed = {product.copies * _tiles(kernel, *shape) for shape in (product[1:3], product[2:0:-1])}
    if any(blocks % tiles == 0 for tiles in needed):
        return True
    return None if blocks < min(needed) else False


def _tiles(kernel: Kernel, rows: int, columns: int) -> int:
    """Thread blocks for a result, along each side a multiple of the cluster's."""
    sides = zip((rows, columns), kernel.tile or (1, 1), kernel.cluster)
    return math.prod(cluster * math.ceil(math.ceil(length / tile) / cluster) for length, tile, cluster in sides)


# ---- kernels between products ------------------------------------------------------------------------------------


def _with_others(kernels: Sequence[Kernel], placed: Mapping[int, PlacedKernel]) -> list[PlacedKernel]:
    """All kernels in their order; those without a place of their own stand between the places around them."""
    following: list[str] = []
    after = ""
    for index in reversed(range(len(kernels))):
        following.append(after)
        after = placed[index].nodes[0] if index in placed and placed[index].nodes else after
    before = ""
    found = []
    for index, after in zip(range(len(kernels)), reversed(following)):
        if index in placed:
            found.append(placed[index])
            before = placed[index].nodes[-1] if placed[index].nodes else before
        else:
            found.append(PlacedKernel(kernels[index], between(before, after, kernels[index].operations), True))
    return found


def between(before: str, after: str, operations: Sequence[str] = ()) -> tuple[str, ...]:
    """The nodes that stand between two products; none where the two do not follow each other in a model.

    Args:
        before: the node of the product before; empty at the beginning.
        after: the node of the product after; empty at the end.
        operations: of the kernel, to tell what prepares tokens from the first LayerNorm.
    """
    (block, ours), (next_block, theirs) = map(_split, (before, after))
    if block and block == next_block:
        return tuple(f"{block}/{node}" for node in BETWEEN.get((ours, theirs), ()))
    if theirs == "qkv" and not block:
        return (f"{next_block}/norm1",) if before and "Mean" in operations else ("embedding",)
    if ours == "fc2" and (theirs == "qkv" or not next_block):
        return f"{block}/residual2", f"{next_block}/norm1" if next_block else "norm"
    return (before,) if before and not block else (after,) if after and not next_block else ()


def _split(node: str) -> tuple[str | None, str]:
    """A node's block, or None outside the blocks, and the last part of its name."""
    place = place_of(node)
    return (place.block if place else None), node.rsplit("/", 1)[-1]
