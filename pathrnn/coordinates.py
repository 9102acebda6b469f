"""Coordinates of path space: weights to coordinates, gradients along with them, and back.

A basis path ``prefix of u, e = (u -> v), suffix of v`` has the value ``v_e = p(u) w_e q(v)``; its coordinate is
``v_e / s_e`` with a positive constant ``s_e``, the product of a unit of measure per skeleton edge of the path. So every
map here multiplies each weight matrix by a number per column and a number per row: no loop over units.

All functions are pure and take replica axes ``R``. Source: the Skeleton Method and inverse chain rule of the
feed-forward predecessor (G-SGD, Meng et al., ICLR 2019, arXiv 1802.03713), derived anew for recurrent graphs; ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pathrnn import skeleton as skeletons
from pathrnn.gauge import balanced
from pathrnn.graph import Edges, UnitValues, factors, flatten, tensors_of
from pathrnn.skeleton import Skeleton

_CLIP_EPSILON = 1e-6
"""Keeps the clipping factor finite; the constant of ``torch.nn.utils.clip_grad_norm_``."""


class Scales(NamedTuple):
    """Units in which skeleton weights are measured; ``s_e`` is the product of those along the path of ``e``.

    Attributes:
        ins: positive tensors ``[*R, n_l]`` for the in-skeleton weights, one per hidden layer.
        outs: likewise for the out-skeleton weights.
    """

    ins: list[Tensor]
    outs: list[Tensor]

    def to(self, like: Tensor) -> Scales:
        """Move to the type and device of a tensor."""
        return Scales(*([unit.to(like) for unit in units] for units in self))


class Frame(NamedTuple):
    """Where a network stands: everything that the maps between weights and coordinates need.

    Attributes:
        skeleton: the chosen edges.
        tails: ``p(u)`` in its units, per node.
        heads: ``q(v)`` in its units, per node.
        factors: tails times heads per parameter: a coordinate is a weight times its factor.
        paths: coordinate of each unit's skeleton path, ``[*R, n_l]`` per hidden layer; moves only where free.
        ins: in-skeleton weights, likewise.
        outs: out-skeleton weights, likewise.
    """

    skeleton: Skeleton
    tails: UnitValues
    heads: UnitValues
    factors: list[Tensor]
    paths: list[Tensor]
    ins: list[Tensor]
    outs: list[Tensor]


def scales(edges: Sequence[Edges], skeleton: Skeleton, kind: str) -> Scales | None:
    """Choose units from the initial weights: none for raw path values, or invariants of the weights."""
    if kind == "raw":
        return None
    if kind != "normalised":
        raise ValueError(f"coordinates must be 'normalised' or 'raw', got {kind!r}")
    # In units of their magnitude in the balanced gauge, skeleton coordinates start at +1 or -1, so that their steps are
    # relative, and other coordinates start as the weights of the balanced gauge.
    weights = skeletons.read(tensors_of(balanced(edges)), skeleton)
    return Scales(*([weight.abs() for weight in side] for side in weights)).to(edges[0].forward)


def frame(edges: Sequence[Edges], tensors: Sequence[Tensor], skeleton: Skeleton, units: Scales | None) -> Frame:
    """Read off where the network stands; without units the coordinates are the path values."""
    ins, outs = skeletons.read(tensors, skeleton)
    tails = skeletons.prefixes(ins if units is None else list(map(torch.div, ins, units.ins)), skeleton)
    heads = skeletons.suffixes(outs if units is None else list(map(torch.div, outs, units.outs)), skeleton)
    paths = list(map(torch.mul, tails, heads))
    return Frame(skeleton, tails, heads, factors(edges, tails, heads), paths, ins, outs)


def gradients(grads: list[Tensor], at: Frame) -> list[Tensor]:
    """Gradients of the loss by the coordinates of non-skeleton edges, per parameter; zero at all skeleton entries."""
    scaled = [grad / factor for grad, factor in zip(grads, at.factors, strict=True)]
    skeletons.clear_(scaled, at.skeleton)
    return scaled


def skeleton_gradients(tensors: Sequence[Tensor], grads: Sequence[Tensor], at: Frame) -> list[Tensor]:
    """Gradients of the loss by the skeleton coordinates, ``[*R, n_l]`` per hidden layer; zero where not free."""
    # With the flow F_e = w_e dL/dw_e of an edge, the flow of the skeleton path of v is that of its in-skeleton edge,
    # less the flow of every other basis path whose prefix runs through it: all edges that leave v, or a unit that v
    # feeds by shared skeleton edges alone.
    ins, outs = skeletons.read(grads, at.skeleton)
    forward, recurrent = at.skeleton.forward, at.skeleton.recurrent
    result: list[Tensor] = []
    through: Tensor | None = None
    for index in reversed(range(len(ins))):
        after, own = forward[index + 1], recurrent[index]
        leaving = (tensors[after] * grads[after]).sum(-2)
        leaving = torch.addcmul(leaving, at.outs[index], outs[index], value=-1)
        if own is not None:
            leaving += (tensors[own] * grads[own]).sum(-2)
        if through is not None:
            leaving += through.gather(-1, at.skeleton.target[index]) * at.skeleton.shared[index]
        through = leaving
        slope = (at.ins[index] * ins[index] - leaving) / at.paths[index]
        result.append(slope * at.skeleton.free[index] if index else slope)  # of the first layer, all are free
    return result[::-1]


def allocate_(tensors: Sequence[Tensor], ratios: Sequence[Tensor], at: Frame) -> None:
    """Weight allocation, in place: what is left to do once coordinates are divided by the factors of the frame.

    Args:
        tensors: coordinates over the factors of the frame; what stands at skeleton entries is ignored.
        ratios: new over present skeleton path value, nonzero ``[*R, n_l]`` per hidden layer; ignored where not free.
        at: the frame before the step.
    """
    grown, ins = ratios[0], [at.ins[0] * ratios[0]]  # grown: new over present prefix product p
    for index, ratio in enumerate(ratios):
        if index:
            inherited = grown.gather(-1, at.skeleton.source[index])
            grown = torch.where(at.skeleton.free[index], ratio, inherited)
            ins.append(at.ins[index] * (grown / inherited))
        columns, own = grown.unsqueeze(-2), at.skeleton.recurrent[index]
        tensors[at.skeleton.forward[index + 1]].div_(columns)
        if own is not None:
            tensors[own].div_(columns)
    skeletons.put_in_(tensors, at.skeleton, ins)
    skeletons.put_out_(tensors, at.skeleton, at.outs)  # last: an edge that is both keeps its weight


def clip_(slopes: list[Tensor], replicas: int, largest: float) -> bool:
    """Bound the Euclidean norm over all entries of all slopes, in place; say whether the norm was finite."""
    if not replicas:  # the usual case, with few calls and in numbers rather than tensors: a tenth of the step
        flat: Tensor = torch._utils._flatten_dense_tensors(slopes)  # type: ignore[no-untyped-call]
        size = math.sqrt(flat.dot(flat))
        if largest < size < math.inf:
            torch._foreach_mul_(slopes, largest / (size + _CLIP_EPSILON))
        return size < math.inf
    norm = torch.linalg.vector_norm(flatten(slopes, replicas), dim=-1)
    factor = (largest / (norm + _CLIP_EPSILON)).clamp(max=1.0)
    if finite := bool(torch.isfinite(norm).all()):
        for slope in slopes:
            slope.mul_(factor.reshape(factor.shape + (1,) * (slope.dim() - replicas)))
    return finite
