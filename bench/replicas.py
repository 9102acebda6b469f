"""Replicas of one arm as one network: stacked parameters, and a rule for each replica at a learning rate of its own."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn

from bench.models import Network
from pathrnn.scan import relu_scan
from pathrnn.space import Rule, build_rule

ELEMENTWISE: list[Any] = [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop]
"""Rules that treat every entry of a parameter alone, so that replicas of one rate are one parameter to them."""


class Stack(Network):
    """Replicas of a ReLU network, trained at once: parameters have a leading axis for replicas.

    Args:
        models: networks of the same shapes; they are left as they are.
    """

    def __init__(self, models: Sequence[Network]) -> None:
        nn.Module.__init__(self)
        self.every_step, self.rnn, self.head = (
            models[0].every_step,
            copy.deepcopy(models[0].rnn),
            copy.deepcopy(models[0].head),
        )
        _replace(self, [torch.stack(own) for own in zip(*(list(each.parameters()) for each in models), strict=True)])

    def forward(self, inputs: Tensor) -> Tensor:
        """Read ``[R, batch, steps, inputs]``: a batch per replica; outputs are those of the network, per replica."""
        sequence = inputs.transpose(1, 2)  # [R, T, B, features]
        for into, recurrent, *biases in self.rnn.all_weights:
            sequence = relu_scan(_affine(sequence, into, biases), recurrent)
        sequence = sequence if self.every_step else sequence[:, -1:]
        outputs = _affine(sequence, self.head.weight, [] if self.head.bias is None else [self.head.bias])
        return outputs.transpose(1, 2) if self.every_step else outputs[:, 0]


def _affine(sequence: Tensor, weight: Tensor, biases: Sequence[Tensor]) -> Tensor:
    """Multiply ``[R, T, B, from]`` by weights ``[R, to, from]`` and add biases ``[R, to]``."""
    flat, bias = sequence.flatten(1, 2), reduce(torch.add, biases).unsqueeze(1) if biases else weight.new_zeros(())
    if 1 in weight.shape[1:]:  # products with vectors round otherwise for a single replica
        product = (flat.unsqueeze(2) * weight.unsqueeze(1)).sum(-1) + bias
    else:
        product = torch.baddbmm(bias, flat, weight.mT) if biases else flat @ weight.mT
    return product.reshape(*sequence.shape[:3], -1)


class Replicas(torch.optim.Optimizer):
    """A rule on every replica of stacked parameters, each at its own learning rate.

    It is the rule itself, on views of the stacked storage: one for neighbours of one rate, where the rule works entry
    by entry, else one for each replica, which sees a network without replica axis. What it keeps per weight can be
    read, and changed, in :attr:`state` per stacked parameter.

    Args:
        params: all parameters of the stack.
        rule: a torch optimizer class, or a function that makes an optimizer.
        stack: the network.
        rates: a learning rate per replica.
        capturable: as in :class:`torch.optim.Adam`, and given to rules that have it.
        **settings: arguments of the rule.
    """

    def __init__(
        self,
        params: Any,
        rule: Rule,
        stack: Stack,
        rates: Sequence[float],
        capturable: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(params, {"lr": rates[0]})
        (group,) = self.param_groups
        self.stacked: list[nn.Parameter] = group["params"]
        self.parts = [
            _Part(rule, stack, at, capturable, settings | {"lr": rates[at.start]}) for at in _parts(rule, rates)
        ]

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take a step of every rule."""
        for part in self.parts:
            for parameter, view in zip(self.stacked, part.views, strict=True):
                view.grad = None if parameter.grad is None else parameter.grad[part.at].view_as(view)
            part.optimizer.step()
        if not self.state:
            for place, parameter in enumerate(self.stacked):
                self.state[parameter] = self._gathered(place)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every rule."""
        return {**super().state_dict(), "state": {}, "parts": [part.optimizer.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the state of a stack of the same replicas; it is gathered anew with the next step."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "parts"})
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.optimizer.load_state_dict(state)

    def _gathered(self, place: int) -> dict[str, Any]:
        """Move what rules keep of a parameter to one storage for all replicas, of which they keep views."""
        parameter, views = self.stacked[place], [part.views[place] for part in self.parts]
        states = [part.optimizer.state[view] for part, view in zip(self.parts, views, strict=True)]
        result = dict(states[0])
        for name, value in result.items():
            if isinstance(value, Tensor) and value.shape == views[0].shape:
                result[name] = torch.empty_like(parameter)
                for part, view, state in zip(self.parts, views, states, strict=True):
                    own = result[name][part.at].view_as(view)
                    state[name] = own.copy_(state[name])
        return result


class _Part:
    """A rule on views of the replicas ``at``."""

    def __init__(self, rule: Rule, stack: Stack, at: slice, capturable: bool, settings: dict[str, Any]) -> None:
        self.at = at
        if rule in ELEMENTWISE:
            self.views, graph = [nn.Parameter(parameter.detach()[at]) for parameter in stack.parameters()], stack.graph
        else:
            own = one_of(stack, at.start)
            self.views, graph = list(own.parameters()), own.graph
        self.optimizer = build_rule(rule, self.views, graph, capturable, **settings)


def one_of(stack: Stack, replica: int) -> Network:
    """Return a replica as a network of its own, whose parameters are views of the stack."""
    own = Network(copy.deepcopy(stack.rnn), stack.head.out_features, stack.every_step)
    _replace(own, [parameter[replica] for parameter in stack.parameters()])
    return own


def _replace(model: Network, tensors: Sequence[Tensor]) -> None:
    """Put other parameters, in the same order, in place of those of a network."""
    for (name, _), tensor in zip(list(model.named_parameters()), tensors, strict=True):
        module, _, own = name.rpartition(".")
        setattr(model.get_submodule(module), own, nn.Parameter(tensor.detach()))


def _parts(rule: Rule, rates: Sequence[float]) -> list[slice]:
    """Cut the replicas into neighbours of one rate, or one by one."""
    keys = rates if rule in ELEMENTWISE else range(len(rates))
    ends = list(itertools.accumulate(len(list(group)) for _, group in itertools.groupby(keys)))
    return [slice(*both) for both in itertools.pairwise([0, *ends])]


def at_rates(rule: Rule, stack: Stack, rates: Sequence[float]) -> Rule:
    """Make a rule of the rules of all replicas."""
    return partial(Replicas, rule=rule, stack=stack, rates=rates)
