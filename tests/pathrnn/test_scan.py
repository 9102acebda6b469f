"""The recurrence: gradients by definition, nn.RNN as the twin, neighbours that do not touch, kernels and what else."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pathrnn import kernels, relu_scan, scan
from pathrnn.scan import Scan

SIZES = [(1, 1, 1, 1), (2, 3, 5, 4), (1, 4, 16, 16), (3, 2, 17, 33), (1, 2, 3, 128), (2, 3, 20, 130), (1, 2, 4, 256)]
"""Replicas, steps, batch and units: single ones, ragged tiles, whole weights and weights in parts."""


def draw(*sizes: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Preactivations, weight and first state of replicas."""
    *replicas, steps, batch, units = sizes
    generator = torch.Generator().manual_seed(sum(sizes))
    shapes = (*replicas, steps, batch, units), (*replicas, units, units), (*replicas, batch, units)
    z, weight, h0 = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return z.requires_grad_(), (weight / units**0.5).requires_grad_(), h0.abs().requires_grad_()


def slopes(states: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Gradients of a sum that weighs every state otherwise."""
    weights = torch.linspace(-1, 1, states.numel(), dtype=states.dtype).reshape(states.shape)
    return torch.autograd.grad((weights * states).sum(), inputs, retain_graph=True)


@given(
    replicas=st.lists(st.integers(1, 3), max_size=2),
    steps=st.integers(1, 5),
    batch=st.integers(1, 3),
    units=st.integers(1, 4),
)
def test_gradients_are_those_of_the_definition(replicas: list[int], steps: int, batch: int, units: int) -> None:
    z, weight, h0 = draw(*replicas, steps, batch, units, dtype=torch.float64)
    assert torch.autograd.gradcheck(relu_scan, (z, weight, h0))
    assert torch.autograd.gradcheck(relu_scan, (z, weight))
    state, states = h0, []
    for step in range(steps):
        state = torch.relu(z[..., step, :, :] + state @ weight.mT)
        states.append(state)
    torch.testing.assert_close(relu_scan(z, weight, h0), torch.stack(states, -3), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("steps", "batch", "units"), [(28, 128, 128), (64, 32, 64), (784, 4, 16)])
def test_states_and_gradients_are_those_of_torch(steps: int, batch: int, units: int) -> None:
    rnn, inputs = nn.RNN(3, units, nonlinearity="relu"), torch.randn(steps, batch, 3)
    start = torch.rand(1, batch, units)
    ours = relu_scan(inputs @ rnn.weight_ih_l0.mT + rnn.bias_ih_l0 + rnn.bias_hh_l0, rnn.weight_hh_l0, start[0])
    theirs = rnn(inputs, start)[0]
    pairs = [(ours, theirs), *zip(slopes(ours, *rnn.parameters()), slopes(theirs, *rnn.parameters()), strict=True)]
    for own, other in pairs:
        assert (own - other).norm() < 1e-4 * other.norm()


@pytest.mark.parametrize(("steps", "batch", "units"), [(20, 32, 64), (7, 33, 65), (28, 128, 128), (3, 5, 3)])
def test_a_replica_is_the_same_bit_for_bit_whatever_its_neighbours_are(steps: int, batch: int, units: int) -> None:
    z, weight, h0 = draw(5, steps, batch, units)
    states = relu_scan(z, weight, h0)
    gradients = slopes(states[2], z, weight, h0)
    for some in (slice(2, 3), slice(1, 4)):
        own = [tensor.detach()[some].clone().requires_grad_() for tensor in (z, weight, h0)]
        alone = relu_scan(*own)
        assert torch.equal(alone, states[some])
        for one, all_ in zip(slopes(alone[2 - some.start], *own), gradients, strict=True):
            assert torch.equal(one, all_[some])
    with torch.no_grad():
        z[0] = torch.nan
    assert torch.equal(relu_scan(z, weight, h0)[1:], states[1:])
    assert relu_scan(z, weight, h0)[0].isnan().all()


def test_no_steps_leave_gradients_of_zero() -> None:
    z, weight, h0 = draw(2, 0, 3, 4)
    relu_scan(z, weight, h0).sum().backward()
    assert not weight.grad.any()
    assert not h0.grad.any()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(3, 4), (4, 4)], "preactivations must have axes for time, batch and units at least, got shape (3, 4)"),
        ([(5, 3, 4), (4, 3)], "recurrent_weight must have shape (4, 4), got (4, 3)"),
        ([(2, 5, 3, 4), (4, 4)], "recurrent_weight must have shape (2, 4, 4), got (4, 4)"),
        ([(5, 3, 4), (4, 4), (4, 3)], "h0 must have shape (3, 4), got (4, 3)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: list[tuple[int, ...]], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        relu_scan(*map(torch.zeros, shapes))


def test_mixed_types_are_refused() -> None:
    with pytest.raises(TypeError, match="recurrent_weight must be of the type of preactivations"):
        relu_scan(torch.zeros(5, 3, 4), torch.zeros(4, 4, dtype=torch.float64))


@pytest.mark.parametrize("sizes", SIZES)
def test_the_kernel_computes_what_the_loop_does(sizes: tuple[int, int, int, int]) -> None:
    """In Triton's interpreter, on tensors of any strides: time first, batch first, units first."""
    z, weight, h0 = draw(*sizes)
    for order in ((0, 1, 2, 3), (0, 2, 1, 3), (3, 2, 1, 0)):
        turned = z.detach().permute(order).contiguous().permute([order.index(axis) for axis in range(4)])
        turned.requires_grad_()
        ours, theirs = (Scan.apply(turned, weight, h0, each) for each in (kernels, None))
        pairs = [(ours, theirs), *zip(*(slopes(states, turned, weight, h0) for states in (ours, theirs)), strict=True)]
        expanded = [torch.autograd.grad(states.sum(), turned)[0] for states in (ours, theirs)]
        for own, other in [*pairs, expanded]:
            assert (own - other).norm() <= 1e-6 * other.norm()


def test_the_kernel_lets_through_what_is_no_number() -> None:
    z, weight, h0 = draw(2, 3, 4, 5)
    with torch.no_grad():
        z[1, 1] = torch.nan
    states = Scan.apply(z, weight, h0, kernels)
    assert states[1, 1:].isnan().all()
    assert torch.isfinite(states[0]).all()
    assert states.grad_fn is not None


COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from pathrnn.kernels import _recurrence, constants
names = [parameter.name for parameter in _recurrence.params]
for units in (64, 128, 256):
    for backward in (False, True):
        for precision in ("ieee", "tf32"):
            fixed, options = constants(units, backward, precision)
            pointers = ("added", "matrix", "gates", "out", "start")
            kinds = {name: "constexpr" if name in fixed else "*fp32" if name in pointers else "i32" for name in names}
            source = ASTSource(_recurrence, kinds, {(names.index(name),): value for name, value in fixed.items()})
            made = compile(source, target=GPUTarget("cuda", 90, 32), options=options)
            print(units, backward, precision, made.metadata.shared, len(made.asm["cubin"]) > 0)
"""


def test_the_kernel_compiles_for_a_gpu_and_fits_on_its_chip() -> None:
    """For one of compute capability 9.0, with 227 KiB of shared memory; no GPU is needed for that."""
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-c", COMPILE]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert len(rows) == 12
    for units, _, _, shared, made in rows:
        assert made == "True"
        assert int(shared) < 227 * 1024
        if units == "128":
            assert int(shared) > 4 * 128 * 128  # the whole weight is there


def test_a_kernel_that_fails_gives_way_to_torch_after_one_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real failure of Triton: the interpreter is handed tiles that it cannot multiply."""
    monkeypatch.setattr(scan, "_FAILED", set())
    monkeypatch.setattr(kernels, "_TILE", 3)  # no power of two
    z, weight, h0 = draw(2, 3, 4, 5)
    with pytest.warns(RuntimeWarning, match="^the forward kernel for 5 units failed, using torch: "):
        states = Scan.apply(z, weight, h0, kernels)
    with pytest.warns(RuntimeWarning, match="^the backward kernel for 5 units failed, using torch: "):
        gradients = slopes(states, z, weight, h0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Scan.apply(z, weight, h0, kernels)
        slopes(again, z, weight, h0)
    assert torch.equal(again, relu_scan(z, weight, h0))
    assert torch.equal(gradients[1], slopes(relu_scan(z, weight, h0), weight)[0])


def test_wide_layers_and_a_missing_triton_are_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The decision alone, on a tensor that says it is on a GPU: there is none here."""

    class OnGpu(torch.Tensor):
        is_cuda = True

    scan._say.cache_clear()
    with caplog.at_level(logging.WARNING, logger="pathrnn.scan"):
        for _ in range(2):
            assert scan._kernels(torch.zeros(1, 1, 1, 257).as_subclass(OnGpu)) is None
        assert scan._kernels(torch.zeros(1, 1, 1, 256).as_subclass(OnGpu)) is kernels
        monkeypatch.setitem(sys.modules, "pathrnn.kernels", None)
        assert scan._kernels(torch.zeros(1, 1, 1, 256).as_subclass(OnGpu)) is None
    assert len(caplog.messages) == 2
    assert caplog.messages[0] == "257 units are more than the kernels take, 256; using torch"
    assert "pip install triton" in caplog.messages[1]
    assert scan._kernels(torch.zeros(1, 1, 1, 4)) is None
