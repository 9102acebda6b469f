"""Coordinates of path space: where a network stands, gradients by its coordinates, and back to weights.

A basis path has the value ``v_e = p(u) w_e q(v)``. Three systems of coordinates are built from these values and from
constants that are invariants of the initial weights. With ``P`` and ``Q`` for ``p`` and ``q`` in units of the magnitude
that skeleton weights have in the balanced gauge,

- raw: ``c_e = v_e``;
- normalised: ``c_e = P(u) w_e Q(v)``, and a skeleton path, whose step moves all that leaves its unit, starts at 1 or -1;
- relative: ``c_e = w_e |Q(v) / Q(u)|``, a path value over that of the skeleton path to its tail: a weight in the gauge
  where every out-skeleton weight keeps the magnitude it has in the balanced gauge.

Raw and normalised coordinates cost a sum per unit over all that leaves it, relative ones next to nothing. All functions
take replica axes ``R``. Source: the Skeleton Method and inverse chain rule of the feed-forward predecessor (G-SGD, Meng
et al., ICLR 2019, arXiv 1802.03713), derived anew for recurrent graphs; relative coordinates are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pathrnn import skeleton as skeletons
from pathrnn.gauge import balanced
from pathrnn.graph import Edges, factors, flatten, tensors_of

KINDS = ("relative", "normalised", "raw")

_CLIP_EPSILON = 1e-6
"""Keeps the clipping factor finite; the constant of ``torch.nn.utils.clip_grad_norm_``."""


class Frame(NamedTuple):
    """Where a network stands: everything that the maps between weights and coordinates need.

    Attributes:
        factors: a coordinate is a weight times its factor; one tensor per parameter, None where all are 1.
        paths: coordinate of each unit's skeleton path, ``[*R, n_l]`` per hidden layer; moves only where free.
        ins: in-skeleton weights, likewise.
        outs: out-skeleton weights, likewise.
    """

    factors: list[Tensor] | None
    paths: list[Tensor]
    ins: list[Tensor]
    outs: list[Tensor]


class Coordinates:
    """A system of coordinates: a skeleton, and the units in which its weights are measured."""

    def __init__(self, edges: Sequence[Edges], kind: str, skeleton: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"coordinates must be one of {list(KINDS)}, got {kind!r}")
        self.kind = kind
        self.skeleton = skeletons.choose(edges, skeleton)
        self.require_nonzero(tensors_of(edges))
        weights = tensors_of(balanced(edges)) if kind != "raw" else [torch.ones_like(t) for t in tensors_of(edges)]
        ins, outs = skeletons.read_in(weights, self.skeleton), skeletons.read_out(weights, self.skeleton)
        self.units = [[weight.abs().to(edges[0].forward.dtype) for weight in side] for side in (ins, outs)]

    def require_nonzero(self, tensors: Sequence[Tensor]) -> None:
        """Refuse skeleton weights that these coordinates would divide by, if they are zero or not finite."""
        if self.kind != "relative":
            skeletons.require_nonzero("in", skeletons.read_in(tensors, self.skeleton))
        skeletons.require_nonzero("out", skeletons.read_out(tensors, self.skeleton))

    def state(self) -> dict[str, Any]:
        """Return the constants, for a checkpoint."""
        return {"source": self.skeleton.source, "target": self.skeleton.target, "units": self.units}

    def load(self, edges: Sequence[Edges], state: dict[str, Any]) -> None:
        """Take over constants, in the type and on the device of the weights."""
        like = edges[0].forward
        source, target = ([index.to(like.device) for index in state[side]] for side in ("source", "target"))
        self.skeleton = skeletons.from_choice(edges, source, target)
        self.units = [[unit.to(like) for unit in side] for side in state["units"]]

    def frame(self, edges: Sequence[Edges], tensors: Sequence[Tensor]) -> Frame:
        """Read off where the network stands."""
        if self.units[0][0].dtype != tensors[0].dtype or self.units[0][0].device != tensors[0].device:
            self.load(edges, self.state())
        outs = skeletons.read_out(tensors, self.skeleton)
        if self.kind == "relative":
            if all(map(torch.equal, map(torch.abs, outs), self.units[1])):
                return Frame(None, [], [], outs)
            heads = skeletons.suffixes(
                [(out / unit).abs() for out, unit in zip(outs, self.units[1], strict=True)], self.skeleton
            )
            return Frame(factors(edges, [1 / head for head in heads], heads), [], [], outs)
        ins = skeletons.read_in(tensors, self.skeleton)
        tails = skeletons.prefixes(list(map(torch.div, ins, self.units[0])), self.skeleton)
        heads = skeletons.suffixes(list(map(torch.div, outs, self.units[1])), self.skeleton)
        return Frame(factors(edges, tails, heads), list(map(torch.mul, tails, heads)), ins, outs)

    def gradients(self, tensors: Sequence[Tensor], grads: Sequence[Tensor], at: Frame, free: bool) -> list[Tensor]:
        """Gradients of the loss by the coordinates, per parameter; zero at entries that own none.

        Args:
            tensors: the weights.
            grads: their gradients.
            at: where they stand.
            free: give the skeleton paths their gradients; else these are zero too.

        Returns:
            New tensors, but where a gradient stays as it is.
        """
        slopes = list(grads if at.factors is None else torch._foreach_div(grads, at.factors))
        for place, target in zip(self.skeleton.forward[1:], self.skeleton.target, strict=True):
            slopes[place] = slopes[place].scatter(-2, target.unsqueeze(-2), 0)
        if self.kind != "relative":
            paths = self.skeleton_gradients(tensors, grads, at) if free else map(torch.zeros_like, at.paths)
            skeletons.put_in_(slopes, self.skeleton, list(paths))
        return slopes

    def skeleton_gradients(self, tensors: Sequence[Tensor], grads: Sequence[Tensor], at: Frame) -> list[Tensor]:
        """Gradients of the loss by the skeleton coordinates, ``[*R, n_l]`` per hidden layer; zero where not free."""
        # With the flow F_e = w_e dL/dw_e of an edge, the flow of the skeleton path of v is that of its in-skeleton edge,
        # less the flow of every other basis path whose prefix runs through it: all edges that leave v, or a unit that v
        # feeds by shared skeleton edges alone.
        chosen = self.skeleton
        ins, outs = skeletons.read_in(grads, chosen), skeletons.read_out(grads, chosen)
        result: list[Tensor] = []
        through: Tensor | None = None
        for index in reversed(range(len(ins))):
            after, own = chosen.forward[index + 1], chosen.recurrent[index]
            leaving = (tensors[after] * grads[after]).sum(-2)
            leaving = torch.addcmul(leaving, at.outs[index], outs[index], value=-1)
            if own is not None:
                leaving += (tensors[own] * grads[own]).sum(-2)
            if through is not None:
                leaving += through.gather(-1, chosen.target[index]) * chosen.shared[index]
            through = leaving
            result.append((at.ins[index] * ins[index] - leaving) / at.paths[index] * chosen.free[index])
        return result[::-1]

    def allocate_(self, tensors: Sequence[Tensor], ratios: Sequence[Tensor], at: Frame) -> None:
        """Weight allocation, in place: what is left to do once raw or normalised coordinates are over their factors.

        Args:
            tensors: coordinates over the factors of the frame; what stands at skeleton entries is ignored.
            ratios: new over present skeleton path value, nonzero ``[*R, n_l]`` per hidden layer; ignored where not free.
            at: the frame before the step.
        """
        grown, ins = ratios[0], [at.ins[0] * ratios[0]]  # grown: new over present prefix product p
        for index, ratio in enumerate(ratios):
            if index:
                inherited = grown.gather(-1, self.skeleton.source[index])
                grown = torch.where(self.skeleton.free[index], ratio, inherited)
                ins.append(at.ins[index] * (grown / inherited))
            columns, own = grown.unsqueeze(-2), self.skeleton.recurrent[index]
            tensors[self.skeleton.forward[index + 1]].div_(columns)
            if own is not None:
                tensors[own].div_(columns)
        skeletons.put_in_(tensors, self.skeleton, ins)
        skeletons.put_out_(tensors, self.skeleton, at.outs)  # last: an edge that is both keeps its weight


def clip(slopes: list[Tensor], replicas: int, largest: float) -> list[Tensor] | None:
    """Bound the Euclidean norm over all entries of all slopes, per replica; None if the norm is not finite."""
    if not replicas:  # the usual case, with few calls and in numbers rather than tensors
        size = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(slopes))))
        if largest < size < math.inf:
            return list(torch._foreach_mul(slopes, largest / (size + _CLIP_EPSILON)))
        return slopes if size < math.inf else None
    norm = torch.linalg.vector_norm(flatten(slopes, replicas), dim=-1)
    factor = (largest / (norm + _CLIP_EPSILON)).clamp(max=1.0)
    if not bool(torch.isfinite(norm).all()):
        return None
    return [slope * factor.reshape(factor.shape + (1,) * (slope.dim() - replicas)) for slope in slopes]
