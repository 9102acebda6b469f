"""The reduction graph of a ReLU network: its edges and its symmetry.

Unrolled over time, ``h^l_t = relu(W^l h^{l-1}_t + U^l h^l_{t-1} + b^l + c^l)`` and ``y_t = W^{L+1} h^L_t + b^{L+1}``.
With time removed this is one directed graph: a node per input feature, per hidden unit and per output, one bias node
that is constantly 1, and an edge per scalar weight from the unit it reads to the unit it feeds. Symbols of the package:

- ``L``: number of hidden layers; layers are ``l = 0`` (inputs), ``1..L`` (hidden), ``L + 1`` (outputs); ``n_l``: width;
- ``m``, ``H``: number of edges (weights and biases), number of hidden units;
- ``R``: replica axes, any leading axes shared by every tensor, none for an ordinary network;
- ``phi``: positive scale per hidden unit; ``w_(u->v)`` becomes ``phi_v / phi_u * w_(u->v)``;
- ``p``, ``q``: product of the skeleton edges that lead to a node (prefix), that lead on from it (suffix).
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

UnitValues = list[Tensor]  # a number per hidden unit: a tensor [*R, n_l] for each hidden layer, from the input on
BIAS = -1  # the bias node, as a tail
_ONE = torch.ones(())  # for every type and device: torch lets a scalar on the CPU take part in any product


class Wire(NamedTuple):
    """Between which layers the edges of a parameter lead: ``[*R, n_head, n_tail]``, or ``[*R, n_head]`` from BIAS."""

    tail: int
    head: int


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Lay tensors, one per parameter, out in one, ``[*R, m]``; the first is a matrix."""
    return torch.cat([tensor.flatten(tensors[0].dim() - 2) for tensor in tensors], dim=-1)


def unflatten(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Undo :func:`flatten`: ``[*R, m]`` back to tensors of the shapes of ``like``."""
    sizes = [tensor.shape[vector.dim() - 1 :].numel() for tensor in like]
    return [piece.reshape(tensor.shape) for piece, tensor in zip(vector.split(sizes, -1), like, strict=True)]  # type: ignore[no-untyped-call]


def incoming(values: Sequence[Tensor], wiring: Sequence[Wire], layer: int) -> Tensor:
    """Sum a number per edge over all edges into each unit of a layer, ``[*R, n_l]``."""
    into = [v if tail == BIAS else v.sum(-1) for v, (tail, head) in zip(values, wiring, strict=True) if head == layer]
    return reduce(torch.add, into)


def outgoing(values: Sequence[Tensor], wiring: Sequence[Wire], layer: int) -> Tensor:
    """Sum a number per edge over all edges out of each unit of a layer, ``[*R, n_l]``."""
    return reduce(torch.add, [v.sum(-2) for v, (tail, _) in zip(values, wiring, strict=True) if tail == layer])


def factors(wiring: Sequence[Wire], tails: UnitValues, heads: UnitValues) -> list[Tensor]:
    """Compute ``tails(u) * heads(v)`` per edge ``u -> v``, 1 at inputs, bias and outputs: broadcasts to parameters."""
    columns = {layer: tail.unsqueeze(-2) for layer, tail in enumerate(tails, 1)}
    rows = {layer: head.unsqueeze(-1) for layer, head in enumerate(heads, 1)}
    result = []
    for tail, head in wiring:
        if tail == BIAS:
            result.append(heads[head - 1] if head in rows else _ONE)
        else:
            result.append(reduce(torch.mul, [side[at] for side, at in ((rows, head), (columns, tail)) if at in side]))
    return result


def scale_factors(wiring: Sequence[Wire], phi: UnitValues) -> list[Tensor]:
    """Compute ``phi_v / phi_u`` per edge ``u -> v``: the action of the positive scaling group."""
    return factors(wiring, [1 / scale for scale in phi], phi)


class ReductionGraph:
    """The reduction graph of an ``nn.RNN`` and the ``nn.Linear`` that reads it, or of a feed-forward ``nn.Sequential``.

    Weights are read from the modules at each call. Any depth, biases or none, ``batch_first`` either way, dropout
    between layers, a readout of any steps; parameters may carry leading replica axes ``R``. Edge order, everywhere:
    layer by layer, ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh``, row by row; last those of ``head``.

    Args:
        rnn: recurrent network with ``nonlinearity="relu"``, one direction; or ``nn.Sequential`` of ``nn.Linear`` and
            ``nn.ReLU`` in turn, first and last Linear (Dropout and Identity may stand anywhere).
        head: readout of the recurrent network, ``in_features == rnn.hidden_size``; None for a feed-forward one.

    Raises:
        TypeError: a module of another kind, or parameters that are not plain and of one real floating-point type.
        ValueError: tanh units, two directions, shapes that do not chain, one parameter in two places.

    Source: named in the abstract of the seed paper (ICLR 2020 submission, see README); the construction is ours.

    Example:
        >>> rnn, head = nn.RNN(3, 5, nonlinearity="relu"), nn.Linear(5, 2)
        >>> graph = ReductionGraph(rnn, head)
        >>> graph.num_weights, graph.num_hidden
        (62, 5)
        >>> before = head(rnn(torch.ones(4, 1, 3))[0])
        >>> graph.rescale_([torch.tensor([0.1, 1.0, 2.0, 5.0, 9.0])])
        >>> torch.testing.assert_close(head(rnn(torch.ones(4, 1, 3))[0]), before)
    """

    def __init__(self, rnn: nn.RNN | nn.Sequential, head: nn.Linear | None = None) -> None:
        if isinstance(rnn, nn.Sequential):
            _require_feed_forward(rnn, head)
        else:
            _require_recurrent(rnn, head)
        self.rnn, self.head = rnn, head
        _require_chain(self)

    @property
    def widths(self) -> list[int]:
        """Widths ``n_0 .. n_{L+1}``, units per layer."""
        pairs = zip(self.parameters(), self.wiring(), strict=True)
        matrices = [tensor for tensor, (tail, head) in pairs if tail == head - 1 != BIAS]
        return [matrices[0].shape[-1], *(matrix.shape[-2] for matrix in matrices)]

    @property
    def num_weights(self) -> int:
        """Number of edges ``m``: all weights and biases of one replica."""
        return self.weights().shape[-1]

    @property
    def num_hidden(self) -> int:
        """Number of hidden units ``H``."""
        return sum(self.widths[1:-1])

    def parameters(self) -> list[Tensor]:
        """List the parameters in edge order."""
        hidden = [tensor for layer in getattr(self.rnn, "all_weights", ()) for tensor in layer]
        return hidden + [t for linear in self._linears() for t in (linear.weight, linear.bias) if t is not None]

    def wiring(self) -> list[Wire]:
        """Say where the edges of each parameter lead, in edge order."""
        recurrent = getattr(self.rnn, "all_weights", [])
        result: list[Wire] = []
        for layer, weights in enumerate(recurrent, 1):
            result += [Wire(layer - 1, layer), Wire(layer, layer), *[Wire(BIAS, layer)] * (len(weights) - 2)]
        for layer, linear in enumerate(self._linears(), len(recurrent) + 1):
            result += [Wire(layer - 1, layer), *[Wire(BIAS, layer)] * (linear.bias is not None)]
        return result

    def names(self) -> list[str]:
        """Name the parameters in edge order, as in ``rnn.weight_ih_l0``; ``net`` is an ``nn.Sequential``."""
        own = nn.ModuleDict({"net": self.rnn} if self.head is None else {"rnn": self.rnn, "head": self.head})
        known = {id(tensor): name for name, tensor in own.named_parameters()}
        return [known.get(id(tensor), "a weight") for tensor in self.parameters()]

    def weights(self) -> Tensor:
        """Return a copy of all weights, ``[*R, m]``, in edge order."""
        return flatten(self.parameters()).detach()

    def gradients(self) -> Tensor:
        """Return a copy of the ``.grad`` of all weights, ``[*R, m]``, in edge order; each must have one."""
        grads = []
        for name, tensor in zip(self.names(), self.parameters(), strict=True):
            if tensor.grad is None:
                raise ValueError(f"{name} must have a gradient, got None; call backward() on a loss first")
            grads.append(tensor.grad)
        return flatten(grads)

    @torch.no_grad()
    def rescale_(self, scales: Sequence[Tensor]) -> None:
        """Act with the positive scaling group, in place; the function of the network stays as it is.

        Raises:
            ValueError: ``scales`` (``phi``) is not a positive, finite ``[n_l]`` or ``[*R, n_l]`` per hidden layer.
        """
        widths = self.widths[1:-1]
        if [scale.shape[-1:] for scale in scales] != [(width,) for width in widths]:
            shapes = [tuple(scale.shape) for scale in scales]
            raise ValueError(f"scales must hold one tensor per hidden layer, of last size {widths}, got {shapes}")
        tensors = self.parameters()
        phi = [scale.to(tensors[0]) for scale in scales]
        for index, (scale, own) in enumerate(zip(scales, phi, strict=True)):
            if not bool((torch.isfinite(own) & torch.isfinite(1 / own) & (own > 0)).all()):
                raise ValueError(f"scales[{index}] must be positive and finite, got {scale.tolist()}")
        torch._foreach_mul_(tensors, scale_factors(self.wiring(), phi))

    def _linears(self) -> list[nn.Linear]:
        modules = self.rnn if isinstance(self.rnn, nn.Sequential) else [self.head]
        return [module for module in modules if isinstance(module, nn.Linear)]


class ReplicaError(ValueError):
    """What is wrong with one network; ``replica``, its index along the replica axes, is in the message if there are."""

    def __init__(self, text: str, replica: Sequence[int]) -> None:
        super().__init__(f"{text} (replica {', '.join(map(str, replica))})" if replica else text)
        self.replica = tuple(replica)


def require_nonzero(what: str, values: UnitValues) -> None:
    """Refuse a number per hidden unit that is zero or not finite, naming layer, unit, value and replica."""
    for layer, value in enumerate(values, start=1):
        bad = ~torch.isfinite(value) | (value == 0)
        if bool(bad.any()):
            *replica, unit = bad.nonzero()[0].tolist()
            rule = f"the {what} of unit {unit} in hidden layer {layer} must be nonzero and finite"
            raise ReplicaError(f"{rule}, got {value[bad][0].item()}; change it, or start from another init", replica)


def _require(holds: bool, error: type[Exception], rule: str, got: Any) -> None:
    if not holds:
        raise error(f"{rule}, got {got}")


def _require_recurrent(rnn: Any, head: Any) -> None:
    rule = "rnn must be a torch.nn.RNN or an nn.Sequential of Linear and ReLU: path space needs plain ReLU units"
    _require(isinstance(rnn, nn.RNN), TypeError, rule, type(rnn).__name__)
    _require(rnn.nonlinearity == "relu", ValueError, "rnn.nonlinearity must be 'relu'", repr(rnn.nonlinearity))
    _require(not rnn.bidirectional, ValueError, "rnn.bidirectional must be False: one readout, one direction", True)
    _require(isinstance(head, nn.Linear), TypeError, "head must be a torch.nn.Linear", type(head).__name__)


def _require_feed_forward(net: nn.Sequential, head: Any) -> None:
    _require(head is None, TypeError, "head must be None for an nn.Sequential, whose last Linear is the readout", head)
    kinds = [type(module) for module in net if not isinstance(module, nn.Dropout | nn.Identity)]
    turns = len(kinds) > 2 and kinds == [nn.Linear, *[nn.ReLU, nn.Linear] * (len(kinds) // 2)]
    rule = "rnn must hold Linear, ReLU, Linear and so on, with positive scaling a symmetry between them"
    _require(turns, TypeError, rule, [kind.__name__ for kind in kinds])


def _require_chain(graph: ReductionGraph) -> None:
    names, tensors, widths = graph.names(), graph.parameters(), graph.widths
    once = len({id(tensor) for tensor in tensors}) == len(tensors)
    _require(once, ValueError, "each parameter must stand in one place of the graph", names)
    dtype, replicas = tensors[0].dtype, tensors[0].shape[:-2]
    for name, tensor, (tail, head) in zip(names, tensors, graph.wiring(), strict=True):
        plain = f"{name} must be a plain Parameter, without parametrisation"
        _require(isinstance(tensor, nn.Parameter), TypeError, plain, type(tensor).__name__)
        alike = f"{name} must be of one real floating-point type with {names[0]} ({dtype})"
        _require(tensor.is_floating_point() and tensor.dtype == dtype, TypeError, alike, tensor.dtype)
        shape = (*replicas, widths[head]) if tail == BIAS else (*replicas, widths[head], widths[tail])
        _require(tensor.shape == shape, ValueError, f"{name} must have shape {shape}", tuple(tensor.shape))
