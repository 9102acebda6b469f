"""The recurrence of a ReLU layer over time, for many replicas at once."""

import importlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MOST_UNITS = 256  # of a layer that the kernels take
_LARGE = 2048  # entries of a state, batch times units, from which a CPU multiplies replica by replica
_TINY = 400  # multiplications of a product for which torch has a loop of its own
_LOG = logging.getLogger(__name__)
_FAILED: set[tuple[Callable[..., None], int]] = set()  # kernels, and for how many units, that could not be compiled
_threshold_backward = torch.ops.aten.threshold_backward.grad_input  # zero where a state is zero, into a given tensor


def relu_scan(preactivations: Tensor, recurrent_weight: Tensor, h0: Tensor | None = None) -> Tensor:
    r"""Run the recurrence :math:`h_t = \mathrm{relu}(z_t + W h_{t-1})` of a layer over time, for all replicas at once.

    States are kept once for the way back, and the gradient of the weight is one product over all steps. On CUDA, in
    float32 and up to 256 units, two Triton kernels hold weight and state on chip for all steps (above 128 units, the
    state alone). Elsewhere it is a loop of torch, and so it is, after a warning, where a kernel cannot be compiled.
    Products are exact float32, or TF32 where :func:`torch.set_float32_matmul_precision` allows it.

    Args:
        preactivations: ``z [..., T, B, n]``: inputs times input weights, plus biases; of a floating-point type.
        recurrent_weight: ``W [..., n, n]``, as in ``nn.RNN.weight_hh_l0``, with the same replica axes.
        h0: state before the first step, ``[..., B, n]``; zeros, if it is not given.

    Returns:
        The states ``h [..., T, B, n]``.

    Raises:
        ValueError: shapes that do not fit each other.
        TypeError: tensors of different types.

    Source: ours. Deviations from ``nn.RNN``: time before batch, one layer, and no second derivatives.

    Example:
        >>> rnn = torch.nn.RNN(3, 5, nonlinearity="relu", bias=False)
        >>> inputs = torch.randn(7, 4, 3)
        >>> states = relu_scan(inputs @ rnn.weight_ih_l0.mT, rnn.weight_hh_l0)
        >>> torch.testing.assert_close(states, rnn(inputs)[0])
    """
    if preactivations.dim() < 3:
        shape = tuple(preactivations.shape)
        raise ValueError(f"preactivations must have axes for time, batch and units at least, got shape {shape}")
    *replicas, steps, batch, units = preactivations.shape
    h0 = preactivations.new_zeros(*replicas, batch, units) if h0 is None else h0
    for name, tensor, own in (("recurrent_weight", recurrent_weight, (units, units)), ("h0", h0, (batch, units))):
        if tensor.shape != (*replicas, *own):
            raise ValueError(f"{name} must have shape {(*replicas, *own)}, got {tuple(tensor.shape)}")
        if tensor.dtype != preactivations.dtype:
            raise TypeError(f"{name} must be of the type of preactivations, {preactivations.dtype}, got {tensor.dtype}")
    count = math.prod(replicas)
    z, weight = preactivations.reshape(count, steps, batch, units), recurrent_weight.reshape(count, units, units)
    states: Tensor = Scan.apply(z, weight, h0.reshape(count, batch, units), _kernels(z))  # type: ignore[no-untyped-call]
    return states.reshape(preactivations.shape)


class Scan(torch.autograd.Function):
    """The recurrence of replicas ``z [R, T, B, n]``, ``W [R, n, n]``, ``h_0 [R, B, n]``, by kernels or by torch."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, h0: Tensor, kernels: ModuleType | None) -> Tensor:
        """Keep ``h_0 .. h_T`` in one tensor: products of the way back take all steps of it without a copy."""
        replicas, steps, *rest = z.shape
        states = z.new_empty(replicas, steps + 1, *rest)
        states[:, 0] = h0
        if not (kernels and _done(kernels.forward, z, weight, states)):
            _forward(z, weight, states)
        ctx.save_for_backward(states, weight)
        ctx.kernels = kernels
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Return the gradients of ``z``, ``W`` and ``h_0``."""
        states, weight = ctx.saved_tensors
        slopes = torch.empty_like(grad, memory_format=torch.contiguous_format)
        if not (ctx.kernels and _done(ctx.kernels.backward, grad, weight, states, slopes)):
            _backward(grad, weight, states, slopes)
        by_weight = slopes.flatten(1, 2).mT @ states[:, :-1].flatten(1, 2)
        by_start = slopes[:, 0] @ weight if slopes.shape[1] else torch.zeros_like(states[:, 0])
        return slopes, by_weight, by_start, None


def _forward(z: Tensor, weight: Tensor, states: Tensor) -> None:
    """Fill ``h_1 .. h_T`` of ``states [R, T + 1, B, n]``."""
    for product, added, matrix, (state, *outs) in _parts(z, weight.mT, states):
        for own, out in zip(added, outs, strict=True):
            state = product(own, state, matrix, out=out).relu_()


def _backward(grad: Tensor, weight: Tensor, states: Tensor, slopes: Tensor) -> None:
    """Fill the gradients by the preactivations, ``[R, T, B, n]``."""
    for product, added, matrix, own_states, outs in _parts(grad, weight, states[:, 1:], slopes):
        later = None
        for own, state, out in reversed(list(zip(added, own_states, outs, strict=True))):
            above = own if later is None else product(own, later, matrix, out=out)
            later = _threshold_backward(above, state, 0, grad_input=out)


def _parts(added: Tensor, matrix: Tensor, *others: Tensor) -> Iterator[tuple[Any, ...]]:
    """Yield what to loop over steps with: products, what they add to, the factor of all steps, other tensors."""
    # A CPU takes large products one by one in no more time, and a single one faster without the axis. Both round alike,
    # but for tiny products, so that a replica does not depend on its neighbours.
    units = added.shape[-1]
    state = added.shape[-2] * units
    if not added.is_cuda and (state > _LARGE or (len(added) == 1 and state * units > _TINY)):
        for replica, own in enumerate(matrix):
            yield torch.addmm, added[replica].unbind(), own, *(other[replica].unbind() for other in others)
    else:
        yield torch.baddbmm, added.unbind(1), matrix, *(other.unbind(1) for other in others)


def _kernels(z: Tensor) -> ModuleType | None:
    """Return the kernels where they can run."""
    if not z.is_cuda or z.dtype != torch.float32:
        return None
    if z.shape[-1] > MOST_UNITS:
        return _say(f"{z.shape[-1]} units are more than the kernels take, {MOST_UNITS}; using torch")
    try:
        return importlib.import_module("pathrnn.kernels")
    except ImportError as error:
        return _say(f"no kernels, using torch: {error}; pip install triton")


@cache
def _say(message: str) -> None:
    """Log a line once."""
    _LOG.warning(message)


def _done(kernel: Callable[..., None], *tensors: Tensor) -> bool:
    """Run a kernel; after a warning, never again for so many units where it cannot be compiled."""
    if (key := (kernel, tensors[0].shape[-1])) in _FAILED:
        return False
    try:
        kernel(*tensors)
    except Exception as error:  # of many types, from Triton, its compilers and its driver
        _FAILED.add(key)
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        text = f"the {kernel.__name__} kernel for {key[1]} units failed, using torch: {reason}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return False
    return True
