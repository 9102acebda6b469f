"""Initialisations, on every depth; and the public names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pathrnn


def test_public_names() -> None:
    names = ["BasisPaths", "GaugeFixed", "PathSGD", "PathSpace", "ReductionGraph", "__version__"]
    assert pathrnn.__all__ == [*names, "balance_", "init", "muon", "path_condition_", "relu_scan"]


@pytest.mark.parametrize("kind", ["index", "magnitude"])
def test_skeleton_ones_makes_every_skeleton_path_one(kind: str) -> None:
    graph = pathrnn.ReductionGraph(nn.RNN(3, 6, 3, nonlinearity="relu"), nn.Linear(6, 4))
    chosen = pathrnn.basis.choose(graph, kind)
    pathrnn.init.skeleton_ones_(graph, kind)
    for side in (chosen.ins, chosen.outs):
        assert all(torch.equal(weight, torch.ones(6)) for weight in pathrnn.basis.read(graph.parameters(), side))


def test_identity_keeps_the_other_weights() -> None:
    rnn, head = nn.RNN(3, 6, 2, nonlinearity="relu"), nn.Linear(6, 4)
    kept = [rnn.weight_ih_l0.clone(), rnn.weight_ih_l1.clone(), head.weight.clone(), head.bias.clone()]
    pathrnn.init.identity_(pathrnn.ReductionGraph(rnn, head))
    assert torch.equal(rnn.weight_hh_l1, torch.eye(6))
    assert not rnn.bias_hh_l0.any()
    assert not rnn.bias_ih_l1.any()
    for before, after in zip(kept, [rnn.weight_ih_l0, rnn.weight_ih_l1, head.weight, head.bias], strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("layers", [1, 3])
def test_np_rnn_is_as_published(layers: int) -> None:
    rnn, head = nn.RNN(50, 200, layers, nonlinearity="relu"), nn.Linear(200, 10)
    graph = pathrnn.ReductionGraph(rnn, head)
    pathrnn.init.np_rnn_(graph, torch.Generator().manual_seed(1))
    gain = np.sqrt(2) * np.exp(1.2 / (200 - 2.4))
    for layer in range(layers):
        recurrent = getattr(rnn, f"weight_hh_l{layer}").detach().double().numpy()
        np.testing.assert_allclose(recurrent, recurrent.T, atol=1e-6)
        eigenvalues = np.linalg.eigvalsh(recurrent)
        assert eigenvalues[-1] == pytest.approx(1, rel=1e-5)
        # A + I over its largest eigenvalue, with A a Wishart matrix of n samples: eigenvalues of A from 0 to 4
        assert 1 / eigenvalues[0] == pytest.approx(5, rel=0.1)
        assert eigenvalues.mean() * 5 == pytest.approx(2, rel=0.1)
        into = getattr(rnn, f"weight_ih_l{layer}").detach()
        assert float(into.std()) == pytest.approx(gain / np.sqrt(200), rel=0.03)
    assert float(head.weight.detach().std()) == pytest.approx(np.sqrt(2 / 210), rel=0.05)
    assert not any(p.any() for name, p in [*rnn.named_parameters(), *head.named_parameters()] if "bias" in name)
    before = graph.weights()
    torch.manual_seed(9)  # the generator alone decides
    pathrnn.init.np_rnn_(graph, torch.Generator().manual_seed(1))
    assert torch.equal(graph.weights(), before)
