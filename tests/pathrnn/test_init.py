"""Initialisations, on every depth; and the public names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import pathrnn


def test_public_names() -> None:
    names = ["BasisPaths", "GaugeFixed", "PathSGD", "PathSpace", "ReductionGraph", "__version__"]
    assert pathrnn.__all__ == [*names, "balance_", "init", "muon", "path_condition_"]


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
