"""The slow, obvious twin of the package: basis paths one by one, gradients from the Jacobian, weights one by one.

Nothing here is taken from the fast code but the order of the weights. Weights are numbers in a list, paths are lists of
edge numbers, every formula is a loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pathrnn.graph import ReductionGraph


@dataclass(frozen=True)
class Edge:
    """An edge from unit ``tail`` to unit ``head``; a unit is (layer, number), the bias node (-1, 0)."""

    number: int
    tail: tuple[int, int]
    head: tuple[int, int]
    forward: bool


def list_edges(graph: ReductionGraph) -> list[Edge]:
    """Number all edges in the order of the package: parameter by parameter, row by row."""
    edges: list[Edge] = []
    for tensor, (tail, head) in zip(graph.parameters(), graph.wiring(), strict=True):
        for v in range(len(tensor)):
            for u in range(tensor.shape[1] if tensor.dim() == 2 else 1):
                edges.append(Edge(len(edges), (tail, u), (head, v), 0 <= tail < head))
    return edges


def flat(graph: ReductionGraph, gradients: bool = False) -> Tensor:
    parts = [tensor.grad if gradients else tensor.detach() for tensor in graph.parameters()]
    return torch.cat([part.flatten() for part in parts]).clone()


class SlowBasis:
    """Basis paths as lists of edge numbers."""

    def __init__(self, graph: ReductionGraph, kind: str) -> None:
        self.edges = list_edges(graph)
        self.widths = graph.widths
        self.depth = len(self.widths) - 1
        self.units = [(layer, v) for layer in range(1, self.depth) for v in range(self.widths[layer])]
        self.between = {(e.tail, e.head): e.number for e in self.edges if e.forward}
        weights = flat(graph)
        if kind == "magnitude":
            weights = self.balance(weights)
        self.into: dict[tuple[int, int], int] = {}
        self.out: dict[tuple[int, int], int] = {}
        for layer, v in self.units:
            into = [self.between[(layer - 1, u), (layer, v)] for u in range(self.widths[layer - 1])]
            out = [self.between[(layer, v), (layer + 1, x)] for x in range(self.widths[layer + 1])]
            if kind == "index":
                self.into[layer, v], self.out[layer, v] = into[v % len(into)], out[v % len(out)]
            else:
                self.into[layer, v] = max(into, key=lambda e: abs(weights[e].item()))
                self.out[layer, v] = max(out, key=lambda e: abs(weights[e].item()))
        owners = set(range(len(self.edges))) - set(self.out.values())
        self.paths = [[*self.prefix(e.tail), e.number, *self.suffix(e.head)] for e in self.edges if e.number in owners]
        self.owners = [e.number for e in self.edges if e.number in owners]

    def prefix(self, node: tuple[int, int]) -> list[int]:
        if node[0] < 1:
            return []
        edge = self.into[node]
        return [*self.prefix(self.edges[edge].tail), edge]

    def suffix(self, node: tuple[int, int]) -> list[int]:
        if node[0] == self.depth:
            return []
        edge = self.out[node]
        return [edge, *self.suffix(self.edges[edge].head)]

    def values(self, weights: Tensor) -> Tensor:
        return torch.stack([torch.stack([weights[e] for e in path]).prod() for path in self.paths])

    def gradients(self, weights: Tensor, gradient: Tensor) -> Tensor:
        """Solve ``J^T gamma = g`` with the Jacobian of the explicit products."""
        jacobian, values = torch.autograd.functional.jacobian(self.values, weights), self.values(weights)
        # In flows v gamma and w g the coefficients are small integers, and no flow gives exactly none: Adam would turn
        # the rounding noise of a zero gradient into steps. The rows of owners alone determine the solution.
        flows = jacobian.T * weights.unsqueeze(1) / values
        gamma = torch.linalg.solve(flows[self.owners], (weights * gradient)[self.owners]) / values
        torch.testing.assert_close(
            jacobian.T @ gamma, gradient, rtol=1e-9, atol=1e-9 * (1 + float(gradient.abs().max()))
        )
        return gamma

    def allocate(self, weights: Tensor, values: Tensor) -> Tensor:
        """Find, path by path from the input on, the one weight that is not known yet."""
        new, wanted = weights.clone(), dict(zip(self.owners, values, strict=True))
        skeleton = set(self.into.values())
        known = set(self.out.values())
        order = sorted(self.owners, key=lambda e: (e not in skeleton, self.edges[e].head[0]))
        paths = dict(zip(self.owners, self.paths, strict=True))
        for owner in order:
            others = list(paths[owner])
            others.remove(owner)
            assert known.issuperset(others)
            new[owner] = wanted[owner] / math.prod(new[e].item() for e in others)
            known.add(owner)
        return new

    def factors(self, phi: dict[tuple[int, int], float]) -> Tensor:
        return torch.tensor([phi.get(e.head, 1.0) / phi.get(e.tail, 1.0) for e in self.edges], dtype=torch.float64)

    def balance(self, weights: Tensor) -> Tensor:
        """Balance unit by unit in closed form until nothing changes."""
        new = weights.clone()
        touching = {
            unit: (
                [e.number for e in self.edges if e.head == unit and e.tail != unit],
                [e.number for e in self.edges if e.tail == unit and e.head != unit],
            )
            for unit in self.units
        }
        for _ in range(3000):
            largest = 0.0
            for into, out in touching.values():
                phi = (new[out].square().sum() / new[into].square().sum()) ** 0.25
                new[into] *= phi
                new[out] /= phi
                largest = max(largest, abs(math.log(phi)))
            if largest < 1e-14:
                break
        return new


@dataclass
class SlowRule:
    """SGD with momentum, or Adam, on a list of numbers."""

    basis: SlowBasis
    weights: Tensor
    rule: str
    lr: float
    max_path_norm: float | None
    count: int = field(default=0, init=False)
    state: dict[str, Tensor] = field(default_factory=dict, init=False)

    def clip(self, slope: Tensor) -> Tensor:
        size = slope.norm().item()
        return slope if self.max_path_norm is None or size <= self.max_path_norm else slope * self.max_path_norm / size

    def start(self, size: int) -> None:
        names = {"momentum": ["momentum_buffer"], "adam": ["exp_avg", "exp_avg_sq"]}
        self.state = {name: torch.zeros(size, dtype=torch.float64) for name in names[self.rule]}

    def change(self, slope: Tensor) -> Tensor:
        state = self.state
        self.count += 1
        if self.rule == "momentum":
            state["momentum_buffer"] = 0.9 * state["momentum_buffer"] + slope
            return -self.lr * state["momentum_buffer"]
        state["exp_avg"] = 0.9 * state["exp_avg"] + 0.1 * slope
        state["exp_avg_sq"] = 0.999 * state["exp_avg_sq"] + 0.001 * slope**2
        mean = state["exp_avg"] / (1 - 0.9**self.count)
        scale = (state["exp_avg_sq"] / (1 - 0.999**self.count)).sqrt()
        return -self.lr * mean / (scale + 1e-8)


@dataclass
class SlowGaugeFixed(SlowRule):
    """The balanced gauge, restored by one sweep over all units at once after every few steps."""

    every: int

    def energy(self, unit: tuple[int, int], side: str, inside: bool) -> float:
        """Sum the squares of edges that end at, or leave, a unit: those inside its layer or the others."""
        edges = [e for e in self.basis.edges if getattr(e, side) == unit and (e.head[0] == e.tail[0]) == inside]
        return sum(self.weights[e.number].item() ** 2 for e in edges)

    def __post_init__(self) -> None:
        self.start(len(self.weights))
        self.balanced = self.basis.balance(self.weights)
        self.factors = self.balanced / self.weights

    def step(self, gradient: Tensor) -> None:
        if not self.count:
            gradient, self.weights = gradient / self.factors, self.balanced
        self.weights = self.weights + self.change(self.clip(gradient))
        if (self.count - 1) % self.every:
            return
        phi = {}
        for layer in range(1, self.basis.depth):
            units = [unit for unit in self.basis.units if unit[0] == layer]
            into, out = ({unit: self.energy(unit, side, inside=False) for unit in units} for side in ("head", "tail"))
            common = math.sqrt(sum(out.values()) / sum(into.values()))
            for unit in units:
                incoming = into[unit] * common + self.energy(unit, "head", inside=True)
                outgoing = out[unit] / common + self.energy(unit, "tail", inside=True)
                phi[unit] = common**0.5 * (outgoing / incoming) ** 0.125
        factors = self.basis.factors(phi)
        self.weights = self.weights * factors
        degrees = {"momentum_buffer": 1, "exp_avg": 1, "exp_avg_sq": 2}
        self.state = {name: value / factors ** degrees[name] for name, value in self.state.items()}


@dataclass
class SlowPathSpace(SlowRule):
    """Path space, coordinate by coordinate."""

    coordinates: str
    max_step_ratio: float
    guarded: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.start(len(self.basis.owners))
        self.scales = torch.ones(len(self.basis.owners), dtype=torch.float64)
        start = self.basis.balance(self.weights)
        raw = self.coordinates == "raw"
        self.out_units = {unit: 1.0 if raw else abs(start[edge].item()) for unit, edge in self.basis.out.items()}
        if self.coordinates == "normalised":
            for place, (owner, path) in enumerate(zip(self.basis.owners, self.basis.paths, strict=True)):
                others = list(path)
                if owner not in self.basis.into.values():
                    others.remove(owner)
                self.scales[place] = abs(math.prod(start[e].item() for e in others))

    def signs(self) -> Tensor:
        """Sign of each path value over that of the coordinate: that of the skeleton edges that it shares."""
        values = self.basis.values(self.weights)
        if self.coordinates == "relative":
            return torch.ones_like(values)
        skeleton = torch.tensor([owner in self.basis.into.values() for owner in self.basis.owners])
        return torch.where(skeleton, values, values * self.weights[self.basis.owners]).sign()

    def gauge(self) -> Tensor:
        """Factors, unit by unit, to the gauge in which every out-skeleton weight has the size it shall keep."""
        phi: dict[tuple[int, int], float] = {}
        for unit in reversed(self.basis.units):
            edge = self.basis.out[unit]
            size = abs(self.weights[edge].item()) / self.out_units[unit]
            phi[unit] = size * phi.get(self.basis.edges[edge].head, 1.0)
        return self.basis.factors(phi)

    def step(self, gradient: Tensor) -> None:
        factors = self.gauge()
        self.weights, gradient = self.weights * factors, gradient / factors
        if self.coordinates == "relative":
            self.weights[self.basis.owners] += self.change(self.clip(gradient[self.basis.owners]))
            return
        values = self.basis.values(self.weights)
        slope = self.clip(self.basis.gradients(self.weights, gradient) * self.scales)
        new = (values / self.scales + self.change(slope)) * self.scales
        for place, owner in enumerate(self.basis.owners):
            if owner in self.basis.into.values():
                ratio = (new[place] / values[place]).item()
                held = min(max(ratio, 1 - self.max_step_ratio), 1 + self.max_step_ratio)
                if held != ratio:
                    self.guarded += 1
                    new[place] = held * values[place]
        self.weights = self.basis.allocate(self.weights, new)
