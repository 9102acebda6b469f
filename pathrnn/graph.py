"""The reduction graph of a ReLU recurrent network: its edges and its symmetry.

Unrolled over time, ``h^l_t = relu(W^l h^{l-1}_t + U^l h^l_{t-1} + b^l + c^l)`` and ``y_t = W^{L+1} h^L_t + b^{L+1}``.
With time removed this is one directed graph: a node per input feature, per hidden unit and per output, one bias node
that is constantly 1, and an edge per scalar weight from the unit it reads to the unit it feeds.

Symbols, used in the whole package:

==========  ==========================================================================================
``L``       number of hidden layers; layers are ``l = 0`` (inputs), ``1..L`` (hidden), ``L + 1`` (outputs)
``n_l``     width of layer ``l``
``m, H``    number of edges (weights and biases), number of hidden units
``R``       replica axes: any leading axes shared by every tensor, none for an ordinary network
``phi``     positive scale per hidden unit; ``w_(u->v)`` becomes ``phi_v / phi_u * w_(u->v)``
``p, q``    prefix product of a node (skeleton edges that lead to it), suffix product (that lead on)
==========  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

UnitValues = list[Tensor]
"""A number per hidden unit: a tensor ``[*R, n_l]`` for each hidden layer."""

_ONE = torch.ones(())
"""A factor of one for every type and device: torch lets a scalar on the CPU take part in any product."""


class Edges(NamedTuple):
    """A number per edge into one layer ``l`` (weights, gradients or coordinates), one tensor per parameter.

    Attributes:
        forward: ``[*R, n_l, n_{l-1}]``, the edges from the layer before.
        recurrent: ``[*R, n_l, n_l]``, the edges inside the layer; None for the readout.
        biases: tensors ``[*R, n_l]``, the edges from the bias node, which may be parallel.
    """

    forward: Tensor
    recurrent: Tensor | None
    biases: tuple[Tensor, ...]

    def tensors(self) -> tuple[Tensor, ...]:
        """List the tensors in parameter order: forward, recurrent, biases."""
        return (self.forward, *self.biases) if self.recurrent is None else (self.forward, self.recurrent, *self.biases)

    def map(self, function: Callable[[Tensor], Tensor]) -> Edges:
        """Apply a function to every tensor."""
        return self.like([function(tensor) for tensor in self.tensors()])

    def like(self, tensors: Sequence[Tensor]) -> Edges:
        """Put other tensors, in parameter order, in the places of these."""
        if self.recurrent is None:
            return Edges(tensors[0], None, tuple(tensors[1:]))
        return Edges(tensors[0], tensors[1], tuple(tensors[2:]))


def tensors_of(edges: Iterable[Edges]) -> list[Tensor]:
    """List all tensors of all layers, in the edge order of the graph."""
    return [tensor for layer in edges for tensor in layer.tensors()]


def layers_of(tensors: Sequence[Tensor], like: Iterable[Edges]) -> list[Edges]:
    """Undo :func:`tensors_of`, with the structure of ``like``."""
    result, start = [], 0
    for layer in like:
        stop = start + len(layer.biases) + (1 if layer.recurrent is None else 2)
        result.append(layer.like(tensors[start:stop]))
        start = stop
    return result


def flatten(tensors: Iterable[Tensor], replicas: int) -> Tensor:
    """Lay tensors with so many replica axes out in one, ``[*R, m]``."""
    return torch.cat([tensor.flatten(replicas) for tensor in tensors], dim=-1)


def unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Undo :func:`flatten`: ``[*R, m]`` back to tensors of the shapes of ``like``."""
    sizes = [tensor.shape[vector.dim() - 1 :].numel() for tensor in like]
    return [piece.reshape(tensor.shape) for piece, tensor in zip(vector.split(sizes, -1), like, strict=True)]  # type: ignore[no-untyped-call]


def apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """Multiply a matrix ``[*R, rows, columns]`` with a vector ``[*R, columns]``."""
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def factors(edges: Sequence[Edges], tails: UnitValues, heads: UnitValues) -> list[Tensor]:
    """Compute ``tails(u) * heads(v)`` for every edge ``u -> v``: tensors that broadcast to the parameters."""
    # Numbers of inputs and of the bias node as tails, and of outputs as heads, are 1; edges give the structure alone.
    result: list[Tensor] = []
    columns: Tensor | None = None
    for index, head in enumerate(heads):
        rows = head.unsqueeze(-1)
        result.append(rows if columns is None else rows * columns)
        columns = tails[index].unsqueeze(-2)
        if edges[index].recurrent is not None:
            result.append(rows * columns)
        result += [head] * len(edges[index].biases)
    return [*result, _ONE if columns is None else columns, *[_ONE] * len(edges[-1].biases)]


def rescale(edges: Sequence[Edges], phi: UnitValues) -> list[Edges]:
    """Act with the positive scaling group: multiply every edge ``u -> v`` by ``phi_v / phi_u``; returns copies."""
    factor = factors(edges, [1 / scales for scales in phi], phi)
    return layers_of(torch._foreach_mul(tensors_of(edges), factor), edges)


class ReductionGraph:
    """The reduction graph of a ReLU network: an ``nn.RNN`` with the ``nn.Linear`` that reads it, or an ``nn.Sequential``.

    Weights are read from the modules at each call and never cached, so ``load_state_dict``, ``.to()`` and in-place
    edits are seen. Any depth, ``bias`` on or off, ``batch_first`` either way, dropout between layers; a readout of the
    last step or of every step is the same graph. Parameters may carry leading replica axes ``R``, all the same.

    Edge order, everywhere in the package: layer by layer from the input, in each layer the row-major
    ``weight_ih``, ``weight_hh``, then ``bias_ih``, ``bias_hh``; last ``head.weight``, ``head.bias``.

    Args:
        rnn: recurrent network with ``nonlinearity="relu"``, one direction; or a feed-forward network, ``nn.Sequential``
            of ``nn.Linear`` and ``nn.ReLU`` in turn, first and last Linear (Dropout and Identity may stand anywhere).
        head: readout of the recurrent network, ``in_features == rnn.hidden_size``; None for a feed-forward one.

    Raises:
        TypeError: a module of another kind, or parameters that are not plain and of one real floating-point type.
        ValueError: tanh units, two directions, projections, shapes that do not chain, one parameter in two places.

    Source: reduction graph as described in the abstract of "Path Space for Recurrent Neural Networks with ReLU
    Activations" (ICLR 2020 submission); the construction is ours.

    Example:
        >>> rnn, head = nn.RNN(3, 5, nonlinearity="relu"), nn.Linear(5, 2)
        >>> graph = ReductionGraph(rnn, head)
        >>> graph.num_weights, graph.num_hidden
        (62, 5)
        >>> x = torch.ones(4, 1, 3)
        >>> before = head(rnn(x)[0])
        >>> graph.rescale_([torch.tensor([0.1, 1.0, 2.0, 5.0, 9.0])])
        >>> torch.testing.assert_close(head(rnn(x)[0]), before)
        >>> ReductionGraph(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))).widths
        [3, 5, 2]
    """

    def __init__(self, rnn: nn.RNN | nn.Sequential, head: nn.Linear | None = None) -> None:
        if isinstance(rnn, nn.Sequential):
            _require_feed_forward(rnn, head)
        else:
            _require_recurrent(rnn, head)
        self.rnn = rnn
        self.head = head
        _require_chain(self)

    @property
    def widths(self) -> list[int]:
        """Widths ``n_0 .. n_{L+1}``, units per layer."""
        edges = self.edges()
        return [edges[0].forward.shape[-1], *(layer.forward.shape[-2] for layer in edges)]

    @property
    def num_weights(self) -> int:
        """Number of edges ``m``: all weights and biases of one replica."""
        return self.weights().shape[-1]

    @property
    def num_hidden(self) -> int:
        """Number of hidden units ``H``."""
        return sum(self.widths[1:-1])

    def edges(self) -> list[Edges]:
        """Return the parameters themselves, as L + 1 layers of edges."""
        forward = self.rnn if isinstance(self.rnn, nn.Sequential) else [self.head]
        linears = [module for module in forward if isinstance(module, nn.Linear)]
        hidden = [Edges(layer[0], layer[1], tuple(layer[2:])) for layer in getattr(self.rnn, "all_weights", ())]
        return hidden + [Edges(own.weight, None, () if own.bias is None else (own.bias,)) for own in linears]

    def parameters(self) -> list[Tensor]:
        """List the parameters in edge order."""
        return tensors_of(self.edges())

    def names(self) -> list[str]:
        """Name the parameters in edge order, as in ``rnn.weight_ih_l0``; ``net`` is an ``nn.Sequential``."""
        own = "rnn" if self.head is not None else "net"
        modules = nn.ModuleDict({own: self.rnn} | ({} if self.head is None else {"head": self.head}))
        known = {id(tensor): name for name, tensor in modules.named_parameters()}
        return [known.get(id(tensor), "a weight") for tensor in self.parameters()]

    def weights(self) -> Tensor:
        """Return a copy of all weights, ``[*R, m]``, in edge order."""
        tensors = self.parameters()
        return flatten(tensors, tensors[0].dim() - 2).detach()

    def gradients(self) -> Tensor:
        """Return a copy of the ``.grad`` of all weights, ``[*R, m]``, in edge order; each must have one."""
        grads = self.grads()
        return flatten(grads, grads[0].dim() - 2)

    def grads(self) -> list[Tensor]:
        """List the ``.grad`` tensors themselves in edge order; each weight must have one."""
        grads = []
        for name, tensor in zip(self.names(), self.parameters(), strict=True):
            if tensor.grad is None:
                raise ValueError(f"{name} must have a gradient, got None; call backward() on a loss first")
            grads.append(tensor.grad)
        return grads

    @torch.no_grad()
    def rescale_(self, scales: Sequence[Tensor]) -> None:
        """Act with the positive scaling group, in place; the function of the network stays as it is.

        Args:
            scales: ``phi``, one positive tensor ``[n_l]`` or ``[*R, n_l]`` per hidden layer.

        Raises:
            ValueError: a wrong number or shape, or a scale that is not positive and finite.
        """
        widths = self.widths[1:-1]
        if [scale.shape[-1:] for scale in scales] != [(width,) for width in widths]:
            shapes = [tuple(scale.shape) for scale in scales]
            raise ValueError(f"scales must hold one tensor per hidden layer, of last size {widths}, got {shapes}")
        for index, scale in enumerate(scales):
            if not bool((torch.isfinite(scale) & (scale > 0)).all()):
                raise ValueError(f"scales[{index}] must be positive and finite, got {scale.tolist()}")
        edges = self.edges()
        self.write_(tensors_of(rescale(edges, [scale.to(edges[0].forward) for scale in scales])))

    @torch.no_grad()
    def write_(self, values: Sequence[Tensor]) -> None:
        """Copy new values, one tensor per parameter, into the parameters, in place."""
        for parameter, value in zip(self.parameters(), values, strict=True):
            parameter.copy_(value)


def _require_recurrent(rnn: nn.Module, head: nn.Module | None) -> None:
    if not isinstance(rnn, nn.RNN):
        raise TypeError(
            "rnn must be a torch.nn.RNN or an nn.Sequential of Linear and ReLU: path space needs plain ReLU units, "
            f"got {type(rnn).__name__}"
        )
    if rnn.nonlinearity != "relu":
        raise ValueError(
            f"rnn.nonlinearity must be 'relu', which positive scaling leaves alone, got {rnn.nonlinearity!r}"
        )
    if rnn.bidirectional:
        raise ValueError("rnn.bidirectional must be False: both directions would share one readout, got True")
    if not isinstance(head, nn.Linear):
        raise TypeError(f"head must be a torch.nn.Linear, got {type(head).__name__}")
    if head.in_features != rnn.hidden_size:
        raise ValueError(
            f"head.in_features must equal rnn.hidden_size, got {head.in_features} and {rnn.hidden_size}: "
            "give the Linear that reads the last layer of this RNN"
        )


def _require_feed_forward(net: nn.Sequential, head: nn.Module | None) -> None:
    if head is not None:
        raise TypeError(f"head must be None for an nn.Sequential, whose last Linear is the readout, got {head}")
    kinds = [type(module) for module in net if not isinstance(module, nn.Dropout | nn.Identity)]
    if len(kinds) < 3 or kinds != [nn.Linear, *[nn.ReLU, nn.Linear] * (len(kinds) // 2)]:
        raise TypeError(
            "rnn must hold Linear, ReLU, Linear and so on, with positive scaling a symmetry between them, "
            f"got {[kind.__name__ for kind in kinds]}"
        )


def _require_chain(graph: ReductionGraph) -> None:
    names, edges, tensors = graph.names(), graph.edges(), graph.parameters()
    if len({id(tensor) for tensor in tensors}) < len(tensors):
        raise ValueError(f"each parameter must stand in one place of the graph, got {names}")
    expected: list[tuple[int, ...]] = []
    width = edges[0].forward.shape[-1]
    for layer in edges:
        before, width = width, layer.forward.shape[-2]
        expected += [
            (width, before),
            *[(width, width)] * (layer.recurrent is not None),
            *[(width,)] * len(layer.biases),
        ]
    readout = names[-1 - len(edges[-1].biases)]
    replicas, dtype = edges[-1].forward.shape[:-2], edges[-1].forward.dtype
    for name, tensor, shape in zip(names, tensors, expected, strict=True):
        if not isinstance(tensor, nn.Parameter):
            raise TypeError(f"{name} must be a plain Parameter, without parametrisation, got {type(tensor).__name__}")
        if not tensor.is_floating_point() or tensor.dtype != dtype:
            raise TypeError(
                f"{name} must be of one real floating-point type with {readout} ({dtype}), got {tensor.dtype}"
            )
        if tensor.shape != (*replicas, *shape):
            raise ValueError(f"{name} must have shape {(*replicas, *shape)}, got {tuple(tensor.shape)}")
