"""The Skeleton Method: one in-skeleton and one out-skeleton edge for every hidden unit.

An edge that is not the out-skeleton edge of its tail owns one basis path: the in-skeleton edges that lead to its tail,
itself, and the out-skeleton edges that lead on from its head. Every hidden unit owns exactly one out-skeleton edge, so
there are ``m - H`` basis paths, whatever the widths.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from pathrnn.gauge import balanced
from pathrnn.graph import Edges, UnitValues

_TIE = 1e-6
"""Magnitudes this close (relatively) count as equal, so that rounding cannot break ties differently after rescaling."""


class Skeleton(NamedTuple):
    """The chosen edges, one tensor ``[*R, n_l]`` per hidden layer and field.

    Attributes:
        source: int64, tail of each unit's in-skeleton edge, a unit of the layer before.
        target: int64, head of each unit's out-skeleton edge, a unit of the layer after.
        free: bool, the in-skeleton edge is no unit's out-skeleton edge, so it owns a basis path.
        shared: bool, the out-skeleton edge is also the in-skeleton edge of its head.
        forward: place of ``W^1 .. W^{L+1}`` among the tensors of the graph.
        recurrent: place of ``U^1 .. U^L`` there.
    """

    source: list[Tensor]
    target: list[Tensor]
    free: list[Tensor]
    shared: list[Tensor]
    forward: list[int]
    recurrent: list[int | None]


def choose(edges: Sequence[Edges], kind: str) -> Skeleton:
    """Select a skeleton, whatever its weights: see :func:`require_nonzero`.

    Args:
        edges: weights of the network.
        kind: ``"index"`` joins unit ``v`` to unit ``v mod n`` of the neighbour layer (the rule of the feed-forward
            predecessor, G-SGD, arXiv 1802.03713); ``"magnitude"`` takes the largest forward weight into and out of the
            unit, compared in the balanced gauge, which makes the choice an invariant (ours).

    Returns:
        The skeleton.

    Raises:
        ValueError: another kind.
    """
    if kind not in _KINDS:
        raise ValueError(f"skeleton must be one of {sorted(_KINDS)}, got {kind!r}")
    return from_choice(edges, *_KINDS[kind](edges))


def from_choice(edges: Sequence[Edges], source: Sequence[Tensor], target: Sequence[Tensor]) -> Skeleton:
    """Complete a skeleton from any choice of one in-skeleton and one out-skeleton edge per hidden unit."""
    free = [torch.ones_like(source[0], dtype=torch.bool)]
    free += [before.gather(-1, own) != _units(own) for before, own in zip(target[:-1], source[1:], strict=True)]
    shared = [after.gather(-1, own) == _units(own) for own, after in zip(target[:-1], source[1:], strict=True)]
    shared += [torch.zeros_like(target[-1], dtype=torch.bool)]
    forward = [0, *accumulate(len(layer.tensors()) for layer in edges[:-1])]
    recurrent = [None if edges[layer].recurrent is None else place + 1 for layer, place in enumerate(forward[:-1])]
    return Skeleton(list(source), list(target), free, shared, forward, recurrent)


def read_in(tensors: Sequence[Tensor], skeleton: Skeleton) -> list[Tensor]:
    """Read the in-skeleton entry of every hidden unit, ``[*R, n_l]`` per layer."""
    pairs = zip(skeleton.forward, skeleton.source, strict=False)
    return [tensors[place].gather(-1, own.unsqueeze(-1)).squeeze(-1) for place, own in pairs]


def read_out(tensors: Sequence[Tensor], skeleton: Skeleton) -> list[Tensor]:
    """Read the out-skeleton entry of every hidden unit, ``[*R, n_l]`` per layer."""
    pairs = zip(skeleton.forward[1:], skeleton.target, strict=True)
    return [tensors[place].gather(-2, own.unsqueeze(-2)).squeeze(-2) for place, own in pairs]


def put_in_(tensors: Sequence[Tensor], skeleton: Skeleton, values: Sequence[Tensor]) -> None:
    """Write ``[*R, n_l]`` per layer to the in-skeleton entries, in place."""
    for place, own, value in zip(skeleton.forward, skeleton.source, values, strict=False):
        tensors[place].scatter_(-1, own.unsqueeze(-1), value.unsqueeze(-1))


def put_out_(tensors: Sequence[Tensor], skeleton: Skeleton, values: Sequence[Tensor]) -> None:
    """Write ``[*R, n_l]`` per layer to the out-skeleton entries, in place."""
    for place, own, value in zip(skeleton.forward[1:], skeleton.target, values, strict=True):
        tensors[place].scatter_(-2, own.unsqueeze(-2), value.unsqueeze(-2))


def prefixes(weights: Sequence[Tensor], skeleton: Skeleton) -> UnitValues:
    """Multiply in-skeleton weights along the way to every hidden unit: ``p``."""
    products = [weights[0]]
    for weight, source in zip(weights[1:], skeleton.source[1:], strict=True):
        products.append(weight * products[-1].gather(-1, source))
    return products


def suffixes(weights: Sequence[Tensor], skeleton: Skeleton) -> UnitValues:
    """Multiply out-skeleton weights along the way from every hidden unit: ``q``."""
    products = [weights[-1]]
    for weight, target in zip(weights[-2::-1], skeleton.target[-2::-1], strict=True):
        products.append(weight * products[-1].gather(-1, target))
    return products[::-1]


def require_nonzero(side: str, weights: Sequence[Tensor]) -> None:
    """Refuse in-skeleton or out-skeleton weights that are zero or not finite.

    Raises:
        ValueError: naming the layer, the unit and the value.
    """
    for layer, weight in enumerate(weights, start=1):
        bad = ~torch.isfinite(weight) | (weight == 0)
        if bool(bad.any()):
            *_, unit = bad.nonzero()[0].tolist()
            raise ValueError(
                f"the {side}-skeleton weight of unit {unit} in hidden layer {layer} must be nonzero and finite, "
                f"got {weight[bad][0].item()}; start from another init, or call pathrnn.init.skeleton_ones_"
            )


def _units(like: Tensor) -> Tensor:
    return torch.arange(like.shape[-1], device=like.device)


def _by_index(edges: Sequence[Edges]) -> tuple[list[Tensor], list[Tensor]]:
    source, target = [], []
    for layer, after in pairwise(edges):
        units = _units(layer.forward[..., 0]).expand(layer.forward.shape[:-1])
        source.append(units % layer.forward.shape[-1])
        target.append(units % after.forward.shape[-2])
    return source, target


def _by_magnitude(edges: Sequence[Edges]) -> tuple[list[Tensor], list[Tensor]]:
    matrices = [layer.forward.abs() for layer in balanced(edges)]
    return [_first_largest(matrix) for matrix in matrices[:-1]], [_first_largest(matrix.mT) for matrix in matrices[1:]]


def _first_largest(magnitudes: Tensor) -> Tensor:
    near = magnitudes >= (1 - _TIE) * magnitudes.amax(-1, keepdim=True)
    return near.to(torch.uint8).argmax(-1)


_KINDS: dict[str, Callable[[Sequence[Edges]], tuple[list[Tensor], list[Tensor]]]] = {
    "index": _by_index,
    "magnitude": _by_magnitude,
}
