"""PathSpace: equal to the slow twin, invariant under rescaling, and a well-behaved torch optimizer."""

from __future__ import annotations

import copy
import io
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import pathrnn
from pathrnn.graph import Edges
from tests.networks import AnyWidths, Case, case, cases, forward
from tests.slow_twin import SlowBasis, SlowPathSpace, flat

RULES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": 0.05}),
    "momentum": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {"lr": 0.01}),
}


def path_space(graph: pathrnn.ReductionGraph, rule: str, **options: Any) -> pathrnn.PathSpace:
    rule_class, settings_ = RULES[rule]
    return pathrnn.PathSpace(graph.parameters(), graph, rule_class, **settings_, **options)


def train(
    drawn: Case, optimizer: torch.optim.Optimizer, steps: int, graph: pathrnn.ReductionGraph | None = None
) -> Tensor:
    for _ in range(steps):
        drawn.backward(graph)
        optimizer.step()
    return forward((graph or drawn.graph).edges(), drawn.inputs).detach()


coordinate_systems = st.sampled_from(["relative", "normalised", "raw"])


@given(
    cases,
    st.sampled_from(["momentum", "adam"]),
    coordinate_systems,
    st.sampled_from(["index", "magnitude"]),
    st.sampled_from([None, 0.3]),
)
@settings(max_examples=20)
def test_agrees_with_the_slow_twin_for_fifty_steps(
    drawn: Case, rule: str, coordinates: str, skeleton: str, max_path_norm: float | None
) -> None:
    edges = drawn.graph.edges()
    rule_class, settings_ = RULES[rule]
    rate = settings_["lr"] if coordinates != "raw" or rule == "adam" else 1e-3
    options = {"coordinates": coordinates, "max_path_norm": max_path_norm, "max_step_ratio": 0.01}
    fast = pathrnn.PathSpace(
        drawn.graph.parameters(), drawn.graph, rule_class, **{**settings_, "lr": rate}, skeleton=skeleton, **options
    )
    slow = SlowPathSpace(SlowBasis(edges, skeleton), flat(edges), rule, rate, **options)
    for _ in range(50):
        drawn.backward()
        slow.step(flat(edges, gradients=True))
        fast.step()
    torch.testing.assert_close(drawn.graph.weights(), slow.weights, rtol=1e-6, atol=1e-7)
    for name, expected in slow.state.items():
        actual = owner_entries(fast, slow.basis, name)
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9 * (1 + float(expected.abs().max())))
    assert fast.guard_count == slow.guarded


def owner_entries(optimizer: pathrnn.PathSpace, basis: SlowBasis, name: str) -> Tensor:
    """State per basis path, in the order of the slow twin."""
    graph = optimizer.graph
    entries = torch.cat([optimizer.state[parameter][name].flatten() for parameter in graph.parameters()])
    return entries[basis.owners]


@given(
    cases,
    st.sampled_from(sorted(RULES)),
    coordinate_systems,
    st.sampled_from(["index", "magnitude"]),
    st.sampled_from([None, 1.0]),
)
@settings(max_examples=25)
def test_training_is_unmoved_by_rescaling(
    drawn: Case, rule: str, coordinates: str, skeleton: str, max_path_norm: float | None
) -> None:
    rule_class, settings_ = RULES[rule]
    if coordinates == "raw":
        settings_ = {**settings_, "lr": 1e-3}
    moved = copy.deepcopy(drawn.graph)
    moved.rescale_(drawn.scales)
    outputs = []
    for graph in (drawn.graph, moved):
        options = {"coordinates": coordinates, "skeleton": skeleton, "max_path_norm": max_path_norm}
        optimizer = pathrnn.PathSpace(graph.parameters(), graph, rule_class, **settings_, **options)
        outputs.append(train(drawn, optimizer, 100, graph))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", sorted(RULES))
@pytest.mark.parametrize("seed", range(3))
def test_training_in_weight_space_is_moved_by_rescaling(rule: str, seed: int) -> None:
    drawn = case((3, 6, 6, 2), bias=True, seed=seed)
    moved = copy.deepcopy(drawn.graph)
    moved.rescale_(drawn.scales)
    rule_class, settings_ = RULES[rule]
    outputs = [train(drawn, rule_class(graph.parameters(), **settings_), 100, graph) for graph in (drawn.graph, moved)]
    assert not (outputs[0] - outputs[1]).abs().max() < 1e-2  # a weight-space run may also diverge
    invariant = [train(drawn, path_space(graph, rule), 100, graph) for graph in pair(seed)]
    torch.testing.assert_close(invariant[1], invariant[0], rtol=1e-6, atol=1e-6)


def pair(seed: int) -> list[AnyWidths]:
    drawn = case((3, 6, 6, 2), bias=True, seed=seed)
    moved = copy.deepcopy(drawn.graph)
    moved.rescale_(drawn.scales)
    return [drawn.graph, moved]


def test_replicas_train_as_they_would_alone() -> None:
    alone = [case((3, 4, 4, 2), bias=True, seed=seed) for seed in range(3)]
    layers = [case((3, 4, 4, 2), bias=True, seed=seed).graph.edges() for seed in range(3)]
    stacked = AnyWidths([
        same[0].like([
            nn.Parameter(torch.stack(tensors).detach()) for tensors in zip(*(e.tensors() for e in same), strict=True)
        ])
        for same in zip(*layers, strict=True)
    ])
    options = {"max_path_norm": 0.2, "max_step_ratio": 0.001, "coordinates": "normalised"}
    together, singles = (
        path_space(stacked, "momentum", **options),
        [path_space(c.graph, "momentum", **options) for c in alone],
    )
    for _ in range(20):
        for parameter in stacked.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for replica, (drawn, single) in enumerate(zip(alone, singles, strict=True)):
            drawn.backward()
            for whole, own in zip(stacked.parameters(), drawn.graph.parameters(), strict=True):
                whole.grad[replica] = own.grad
            single.step()
        together.step()
    for replica, drawn in enumerate(alone):
        for whole, own in zip(stacked.parameters(), drawn.graph.parameters(), strict=True):
            torch.testing.assert_close(whole[replica], own, rtol=1e-12, atol=1e-14)
    assert together.guard_count == sum(single.guard_count for single in singles) > 0


class Model(nn.Module):
    """An embedding outside the graph, a ReLU RNN and a readout."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)
        self.rnn = nn.RNN(3, 5, 2, nonlinearity="relu", batch_first=True, **options)
        self.head = nn.Linear(5, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.rnn(self.embedding(tokens))[0][:, -1])

    def backward(self) -> Tensor:
        self.zero_grad()
        tokens = torch.arange(40).reshape(8, 5) % 7
        loss = (self(tokens) - 1).square().mean()
        loss.backward()
        return loss

    def optimizer(self, rule: str = "momentum", **options: Any) -> pathrnn.PathSpace:
        rule_class, settings_ = RULES[rule]
        graph = pathrnn.ReductionGraph(self.rnn, self.head)
        return pathrnn.PathSpace(self.parameters(), graph, rule_class, **{**settings_, **options})

    def step(self, optimizer: torch.optim.Optimizer, times: int = 5) -> None:
        for _ in range(times):
            self.backward()
            optimizer.step()


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_parameters_outside_the_graph_get_the_rule_as_it_is() -> None:
    model = Model()
    optimizer, twin = model.optimizer(), copy.deepcopy(model.embedding.weight)
    reference = torch.optim.SGD([twin], lr=0.02, momentum=0.9)
    for _ in range(5):
        model.backward()
        twin.grad = model.embedding.weight.grad.clone()
        optimizer.step()
        reference.step()
    assert torch.equal(model.embedding.weight, twin)


def test_a_step_leaves_gradients_mode_and_random_state_alone() -> None:
    model = Model(dropout=0.5)
    optimizer = model.optimizer(weight_decay=0.1, max_path_norm=1e-3)
    model.backward()
    kept = [(parameter.grad, parameter.grad.clone()) for parameter in model.parameters()]
    random_state = torch.get_rng_state()
    optimizer.step()
    assert all(
        p.grad is grad and torch.equal(grad, copied) for p, (grad, copied) in zip(model.parameters(), kept, strict=True)
    )
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.training


@pytest.mark.parametrize("frozen", ["rnn.weight_ih_l0", "rnn.weight_hh_l1", "rnn.bias_ih_l0", "head.weight"])
def test_a_parameter_without_gradient_does_not_move_and_the_others_do(frozen: str) -> None:
    model = Model()
    optimizer = model.optimizer("adam", weight_decay=0.1)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    for _ in range(3):
        model.backward()
        model.get_parameter(frozen).grad = None
        optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == set(before) - {frozen}


def test_no_gradient_at_all_moves_nothing() -> None:
    model, reference = Model(), Model()
    reference.load_state_dict(model.state_dict())
    model.optimizer().step()
    assert same_weights(model, reference)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_state_dict_continues_bit_by_bit(rule: str) -> None:
    model = Model()
    optimizer = model.optimizer(rule, max_step_ratio=0.001, coordinates="normalised")
    model.step(optimizer)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    other = Model()
    continued = other.optimizer(rule, max_step_ratio=0.001, coordinates="normalised")
    other.load_state_dict(weights)
    continued.load_state_dict(state)
    model.step(optimizer)
    other.step(continued)
    assert same_weights(model, other)
    assert continued.guard_count == optimizer.guard_count > 0


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_continues_bit_by_bit_and_apart(duplicate: Callable[[Any], tuple[Model, pathrnn.PathSpace]]) -> None:
    model = Model()
    optimizer = model.optimizer("adam")
    model.step(optimizer)
    other, continued = duplicate((model, optimizer))
    model.step(optimizer)
    assert not same_weights(model, other)
    other.step(continued)
    assert same_weights(model, other)


def test_closure_is_called_once_and_its_loss_returned() -> None:
    model, reference = Model(), Model()
    reference.load_state_dict(model.state_dict())
    losses = []
    result = model.optimizer().step(lambda: losses.append(model.backward()) or losses[-1])
    assert [result] == losses
    reference.step(reference.optimizer(), 1)
    assert same_weights(model, reference)


def test_a_scheduler_reaches_every_coordinate() -> None:
    model, reference = Model(), Model()
    reference.load_state_dict(model.state_dict())
    optimizer, fixed = model.optimizer("sgd", lr=0.1), reference.optimizer("sgd", lr=0.05)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.5)
    model.step(optimizer, 1)
    reference.step(fixed, 1)
    assert same_weights(model, reference)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.05]


def test_groups_can_be_given_and_added() -> None:
    model = Model()
    graph = pathrnn.ReductionGraph(model.rnn, model.head)
    groups = [{"params": model.rnn.parameters(), "lr": 0.01}, {"params": model.head.parameters()}]
    optimizer = pathrnn.PathSpace(groups, graph, torch.optim.SGD, lr=0.1)
    optimizer.add_param_group({"params": model.embedding.parameters(), "lr": 0.5})
    before = model.embedding.weight.clone()
    model.step(optimizer, 1)
    torch.testing.assert_close(model.embedding.weight, before - 0.5 * model.embedding.weight.grad)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.1, 0.5]


def test_named_parameters_are_accepted() -> None:
    model, reference = Model(), Model()
    reference.load_state_dict(model.state_dict())
    graph = pathrnn.ReductionGraph(model.rnn, model.head)
    model.step(pathrnn.PathSpace(model.named_parameters(), graph, torch.optim.SGD, lr=0.02, momentum=0.9))
    reference.step(reference.optimizer())
    assert same_weights(model, reference)


def test_weight_decay_acts_on_coordinates_but_not_on_skeleton_coordinates() -> None:
    graph = case((2, 3, 2), bias=True, seed=0).graph
    basis = pathrnn.BasisPaths(graph)
    before = basis.values()
    for parameter in graph.parameters():
        parameter.grad = torch.zeros_like(parameter)
    decay = {"lr": 0.5, "weight_decay": 0.2, "coordinates": "raw", "skeleton": "index"}
    pathrnn.PathSpace(graph.parameters(), graph, torch.optim.SGD, **decay).step()
    ratios = (basis.values() / before).sort().values
    expected = torch.tensor([0.9] * (basis.count - 3) + [1.0] * 3, dtype=torch.float64)
    torch.testing.assert_close(ratios, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("frozen", [None, 0, 6])
def test_clipping_bounds_the_step_in_path_space(frozen: int | None) -> None:
    drawn = case((2, 4, 4, 2), bias=True, seed=1)
    basis = pathrnn.BasisPaths(drawn.graph)
    before = basis.values()
    drawn.backward()
    if frozen is not None:
        drawn.graph.parameters()[frozen].grad = None
    options = {"lr": 1.0, "max_path_norm": 0.01, "coordinates": "raw", "skeleton": "index"}
    pathrnn.PathSpace(drawn.graph.parameters(), drawn.graph, torch.optim.SGD, **options).step()
    assert float((basis.values() - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_clipping_survives_a_norm_that_overflows() -> None:
    model = Model()
    optimizer, before = model.optimizer("sgd"), copy.deepcopy(model)
    model.backward()
    for parameter in model.parameters():
        parameter.grad.fill_(1e30)
    optimizer.step()
    moved = [(a - b).abs().max() for a, b in zip(model.rnn.parameters(), before.rnn.parameters(), strict=True)]
    assert 1e-4 < max(moved) < 1.0


@pytest.mark.parametrize("size", [1e30, -1e30])
def test_the_guard_keeps_signs_and_counts(size: float) -> None:
    drawn = case((2, 4, 2), bias=True, seed=1)
    basis = pathrnn.BasisPaths(drawn.graph, "magnitude")
    paths = [path.clone() for path in basis._frame().paths]
    optimizer = path_space(drawn.graph, "sgd", max_path_norm=None, coordinates="normalised")
    for parameter in drawn.graph.parameters():
        parameter.grad = torch.full_like(parameter, size)
    optimizer.step()
    ratios = basis._frame().paths[0] / paths[0]
    torch.testing.assert_close((ratios - 1).abs(), torch.full((4,), 0.5, dtype=torch.float64))
    assert optimizer.guard_count == 4
    assert torch.isfinite(drawn.graph.weights()).all()


def test_moves_with_the_model_to_another_type() -> None:
    model = Model()
    optimizer = model.optimizer("sgd")
    model.double()
    model.step(optimizer)
    assert all(parameter.dtype == torch.float64 and torch.isfinite(parameter).all() for parameter in model.parameters())


def refused(message: str) -> str:
    return "^" + re.escape(message) + "$"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "lr must be positive, got 0.0"),
        ({"lr": -1.0}, "lr must be positive, got -1.0"),
        ({"lr": float("nan")}, "lr must be positive, got nan"),
        ({"coordinates": "polar"}, "coordinates must be one of ['relative', 'normalised', 'raw'], got 'polar'"),
        ({"skeleton": "widest"}, "skeleton must be one of ['index', 'magnitude'], got 'widest'"),
        ({"max_path_norm": 0.0}, "max_path_norm must be positive or None, got 0.0"),
        ({"max_step_ratio": 1.0}, "max_step_ratio must lie between 0 and 1, or be None, got 1.0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=refused(message)):
        Model().optimizer("sgd", **options)


def test_a_model_is_no_graph() -> None:
    model = Model()
    with pytest.raises(TypeError, match=refused("graph must be a ReductionGraph, got RNN")):
        pathrnn.PathSpace(model.parameters(), model.rnn, torch.optim.SGD, lr=0.1)


def test_weights_of_the_graph_must_all_be_given() -> None:
    model = Model()
    graph = pathrnn.ReductionGraph(model.rnn, model.head)
    with pytest.raises(
        ValueError, match=refused("params must hold every weight of the graph, got none for head.weight")
    ):
        pathrnn.PathSpace(model.rnn.parameters(), graph, torch.optim.SGD, lr=0.1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("max_path_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_is_refused_before_anything_changes(
    value: float, max_path_norm: float | None
) -> None:
    model, reference = Model(), Model()
    reference.load_state_dict(model.state_dict())
    optimizer = model.optimizer(max_path_norm=max_path_norm)
    model.backward()
    model.rnn.bias_ih_l1.grad[2] = value
    message = f"the gradient of rnn.bias_ih_l1 must be finite, got {value}; lower lr or max_path_norm"
    with pytest.raises(ValueError, match=refused(message)):
        optimizer.step()
    assert same_weights(model, reference)
    assert not optimizer.state


def test_a_skeleton_weight_that_became_zero_is_refused() -> None:
    model = Model()
    optimizer = model.optimizer(skeleton="index")
    with torch.no_grad():
        model.head.weight[1, 3] = 0.0
    model.backward()
    with pytest.raises(
        ValueError,
        match=re.escape("the out-skeleton weight of unit 3 in hidden layer 2 must be nonzero and finite, got 0.0"),
    ):
        optimizer.step()


def test_the_state_of_another_optimizer_is_refused() -> None:
    model = Model()
    state = torch.optim.SGD(model.parameters(), lr=0.1).state_dict()
    message = "state_dict must come from PathSpace, got that of a torch optimizer"
    with pytest.raises(ValueError, match=refused(message)):
        model.optimizer().load_state_dict(state)


def test_weights_are_given_back_when_the_rule_fails() -> None:
    class Failing(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:
            raise RuntimeError("planted")

    drawn = case((2, 4, 2), bias=True, seed=1)
    before = pathrnn.BasisPaths(drawn.graph).values()
    optimizer = pathrnn.PathSpace(drawn.graph.parameters(), drawn.graph, Failing, lr=0.1)
    drawn.backward()
    kept = [parameter.grad for parameter in drawn.graph.parameters()]
    with pytest.raises(RuntimeError, match="planted"):
        optimizer.step()
    basis = pathrnn.BasisPaths(drawn.graph)
    torch.testing.assert_close(basis.values(), before, rtol=1e-14, atol=0)
    assert all(parameter.grad is grad for parameter, grad in zip(drawn.graph.parameters(), kept, strict=True))


def test_edges_keep_their_order() -> None:
    layer = Edges(torch.tensor(0), torch.tensor(1), (torch.tensor(2), torch.tensor(3)))
    assert [int(tensor) for tensor in layer.map(lambda tensor: tensor + 10).tensors()] == [10, 11, 12, 13]
