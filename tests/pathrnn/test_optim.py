"""Spaces times rules: equal to the slow twins, invariant under rescaling, at home with extreme input."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import pathrnn
from bench.networks import AnyWidths, Case, case, forward
from pathrnn import basis as skeletons
from tests.cases import cases
from tests.pathrnn.arms import ARMS, RULES, Model, same_weights, twins
from tests.slow_twin import SlowBasis, SlowGaugeFixed, SlowPathSpace, flat

SLOW_RULES: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "momentum": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {"lr": 0.01}),
}


def path_space(graph: pathrnn.ReductionGraph, rule: str, **options: Any) -> pathrnn.PathSpace:
    return pathrnn.PathSpace(graph.parameters(), graph, RULES[rule], **options)


def train(
    drawn: Case, optimizer: torch.optim.Optimizer, steps: int, graph: pathrnn.ReductionGraph | None = None
) -> Tensor:
    for _ in range(steps):
        drawn.backward(graph)
        optimizer.step()
    return forward((graph or drawn.graph), drawn.inputs).detach()


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
    rule_class, settings_ = SLOW_RULES[rule]
    rate = settings_["lr"] if coordinates != "raw" or rule == "adam" else 1e-3
    options = {"coordinates": coordinates, "max_path_norm": max_path_norm, "max_step_ratio": 0.01}
    fast = pathrnn.PathSpace(
        drawn.graph.parameters(), drawn.graph, rule_class, **{**settings_, "lr": rate}, skeleton=skeleton, **options
    )
    slow = SlowPathSpace(SlowBasis(drawn.graph, skeleton), flat(drawn.graph), rule, rate, **options)
    for _ in range(50):
        drawn.backward()
        slow.step(flat(drawn.graph, gradients=True))
        fast.step()
    torch.testing.assert_close(drawn.graph.weights(), slow.weights, rtol=1e-6, atol=1e-7)
    for name, expected in slow.state.items():
        actual = owner_entries(fast, slow.basis, name) * (1 if name == "exp_avg_sq" else slow.signs())
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9 * (1 + float(expected.abs().max())))
    assert fast.guard_count == slow.guarded


def owner_entries(optimizer: pathrnn.PathSpace, basis: SlowBasis, name: str) -> Tensor:
    """State per basis path, in the order of the slow twin."""
    graph = optimizer.graph
    entries = torch.cat([optimizer.state[parameter][name].flatten() for parameter in graph.parameters()])
    return entries[basis.owners]


@given(cases, st.sampled_from(["momentum", "adam"]), st.sampled_from([None, 0.3]))
@settings(max_examples=10)
def test_the_fixed_gauge_agrees_with_the_slow_twin_for_fifty_steps(
    drawn: Case, rule: str, max_path_norm: float | None
) -> None:
    (rule_class, settings_) = SLOW_RULES[rule]
    fast = pathrnn.GaugeFixed(
        drawn.graph.parameters(), drawn.graph, rule_class, **settings_, max_path_norm=max_path_norm, every=3
    )
    slow = SlowGaugeFixed(
        SlowBasis(drawn.graph, "index"), flat(drawn.graph), rule, settings_["lr"], max_path_norm, every=3
    )
    for _ in range(50):
        drawn.backward()
        slow.step(flat(drawn.graph, gradients=True))
        fast.step()
    torch.testing.assert_close(drawn.graph.weights(), slow.weights, rtol=1e-6, atol=1e-7)
    for name, expected in slow.state.items():
        actual = torch.cat([fast.state[parameter][name].flatten() for parameter in drawn.graph.parameters()])
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-9 * (1 + float(expected.abs().max())))


def options_of(arm: str, draw: st.DrawFn) -> dict[str, Any]:
    """Draw every option that an arm leaves open."""
    if arm.startswith(("path-sgd", "raw")):
        return {}
    options: dict[str, Any] = {"max_path_norm": draw(st.sampled_from([None, 1.0, 0.05]))}
    if arm.startswith("gauge"):
        return {**options, "every": draw(st.integers(1, 11))}
    if "index" not in arm:
        options["skeleton"] = draw(st.sampled_from(["index", "magnitude"]))
    return {**options, "max_step_ratio": draw(st.sampled_from([None, 0.5, 0.001]))}


@pytest.mark.parametrize("arm", sorted(ARMS))
@given(cases, st.data())
@settings(max_examples=3)
def test_training_is_unmoved_by_rescaling(arm: str, drawn: Case, data: st.DataObject) -> None:
    options = options_of(arm, data.draw)
    moved = copy.deepcopy(drawn.graph)
    moved.rescale_(drawn.scales)
    outputs = [
        train(drawn, ARMS[arm](graph.parameters(), graph, **options), 100, graph) for graph in (drawn.graph, moved)
    ]
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rule", sorted(set(RULES) - {"muon"}))
@pytest.mark.parametrize("seed", range(3))
def test_training_in_weight_space_is_moved_by_rescaling(rule: str, seed: int) -> None:
    drawn = case((3, 6, 6, 2), bias=True, seed=seed)
    moved = copy.deepcopy(drawn.graph)
    moved.rescale_(drawn.scales)
    outputs = [train(drawn, RULES[rule](graph.parameters()), 20, graph) for graph in (drawn.graph, moved)]
    assert not (outputs[0] - outputs[1]).abs().max() < 1e-2  # a weight-space run may also diverge


class PerStep(nn.Module):
    """An embedding, two layers with dropout between them, and a readout of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 4)
        self.rnn = nn.RNN(4, 6, 2, nonlinearity="relu", dropout=0.4)
        self.head = nn.Linear(6, 11)

    def train_on_text(self, optimizer: torch.optim.Optimizer, steps: int) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        torch.manual_seed(2)  # dropout masks
        for _ in range(steps):
            tokens = torch.randint(11, (7, 5), generator=generator)
            optimizer.zero_grad()
            logits = self.head(self.rnn(self.embedding(tokens))[0])
            nn.functional.cross_entropy(logits[:-1].flatten(0, 1), tokens[1:].flatten()).backward()
            optimizer.step()
        self.eval()
        return self.head(self.rnn(self.embedding(torch.arange(11)))[0]).detach()


@pytest.mark.parametrize("arm", ["relative adam", "relative muon", "normalised momentum", "gauge adam", "gauge muon"])
def test_embedding_dropout_and_a_readout_of_every_step_train_alike_from_any_rescaling(arm: str) -> None:
    torch.set_default_dtype(torch.float64)
    model = PerStep()
    moved = copy.deepcopy(model)
    pathrnn.ReductionGraph(moved.rnn, moved.head).rescale_([torch.exp(torch.randn(6)) for _ in range(2)])
    outputs = []
    for each in (model, moved):
        graph = pathrnn.ReductionGraph(each.rnn, each.head)
        outputs.append(each.train_on_text(ARMS[arm](each.parameters(), graph), 50))
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-6, atol=1e-8)
    assert (outputs[0] - outputs[0].mean()).abs().max() > 0.1


REPLICATED = {
    "normalised momentum": {"max_path_norm": 0.2, "max_step_ratio": 0.001},
    "relative adam": {"max_path_norm": 0.2},
    "relative, index adamw": {},
    "gauge adam": {"max_path_norm": 0.2, "every": 3},
    "gauge rmsprop": {"every": 3},
    "path-sgd, second term": {},
}


@pytest.mark.parametrize("arm", sorted(REPLICATED))
def test_replicas_train_as_they_would_alone(arm: str) -> None:
    alone = [case((3, 4, 4, 2), bias=True, seed=seed) for seed in range(3)]
    copies = zip(*(drawn.graph.parameters() for drawn in alone), strict=True)
    stacked = AnyWidths([nn.Parameter(torch.stack(same).detach()) for same in copies], alone[0].graph.wiring())
    graphs = [stacked, *(drawn.graph for drawn in alone)]
    together, *singles = (ARMS[arm](graph.parameters(), graph, **REPLICATED[arm]) for graph in graphs)
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
            torch.testing.assert_close(whole[replica], own, rtol=1e-10, atol=1e-12)
    if arm.startswith("normalised"):
        assert together.guard_count == sum(single.guard_count for single in singles) > 0


@pytest.mark.parametrize("space", ["relative", "normalised", "gauge"])
@pytest.mark.parametrize("rule", sorted(RULES))
def test_parameters_outside_the_graph_get_the_rule_as_it_is(space: str, rule: str) -> None:
    model = Model()
    optimizer, twin = model.optimizer(f"{space} {rule}"), copy.deepcopy(model.embedding.weight)
    reference = torch.optim.AdamW([twin], lr=0.01, weight_decay=0.1) if rule == "muon" else RULES[rule]([twin])
    for _ in range(5):
        model.backward()
        twin.grad = model.embedding.weight.grad.clone()
        optimizer.step()
        reference.step()
    assert torch.equal(model.embedding.weight, twin)


def test_muon_gets_the_matrices_into_hidden_units_in_every_space() -> None:
    model = Model()
    rule = pathrnn.muon(0.005, 0.002, weight_decay=0.1)
    for optimizer in (
        rule(model.parameters(), graph=model.graph),
        pathrnn.PathSpace(model.parameters(), model.graph, rule),
        pathrnn.GaugeFixed(model.parameters(), model.graph, rule),
    ):
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        groups = {group["rule"]: group for group in optimizer.param_groups}
        matrices = {"rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.weight_ih_l1", "rnn.weight_hh_l1"}
        assert {names[id(parameter)] for parameter in groups["muon"]["params"]} == matrices
        assert {names[id(parameter)] for parameter in groups["adam"]["params"]} == set(names.values()) - matrices
        assert [groups[name]["lr"] for name in ("muon", "adam")] == [0.005, 0.002]
        assert groups["muon"]["momentum"] == 0.95
        assert groups["muon"]["nesterov"]


def test_muon_in_weight_space_is_that_of_torch() -> None:
    model, reference = twins()
    optimizer = pathrnn.muon(0.01, 0.002)(model.parameters(), graph=model.graph)
    matrices = [parameter for name, parameter in reference.rnn.named_parameters() if "weight" in name]
    rest = [parameter for parameter in reference.parameters() if all(parameter is not matrix for matrix in matrices)]
    whole = [torch.optim.Muon(matrices, lr=0.01, weight_decay=0.0), torch.optim.Adam(rest, lr=0.002)]
    for _ in range(5):
        model.step(optimizer, 1)
        reference.backward()
        for each in whole:
            each.step()
    assert same_weights(model, reference)


def test_groups_of_muon_have_rates_of_their_own() -> None:
    model = Model()
    groups = [
        {"params": model.rnn.named_parameters(), "lr": 0.1, "adam_lr": 0.2},
        {"params": model.head.named_parameters(), "lr": 0.3},
        {"params": [("embedding", model.embedding.weight)], "weight_decay": 0.4},
    ]
    optimizer = pathrnn.PathSpace(groups, model.graph, pathrnn.muon(0.01, 0.02))
    assert [(group["rule"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [
        ("muon", 0.1, 0.0),
        ("adam", 0.2, 0.0),
        ("adam", 0.3, 0.0),
        ("adam", 0.02, 0.4),
    ]
    assert optimizer.param_groups[2]["param_names"] == ["weight", "bias"]
    with pytest.raises(
        ValueError, match=refused("a group of muon may set lr, adam_lr and weight_decay, got ['betas']")
    ):
        optimizer.add_param_group({"params": nn.Parameter(torch.ones(2)), "betas": (0.5, 0.5)})


@pytest.mark.parametrize(("name", "rates"), [("lr", (0.0, 0.1)), ("adam_lr", (0.1, -1.0))])
def test_muon_refuses_bad_rates(name: str, rates: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=refused(f"{name} must be positive, got {min(rates)}")):
        pathrnn.muon(*rates)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_the_gauge_stays_balanced_while_training(rule: str) -> None:
    drawn = case((4, 8, 8, 3), bias=True, seed=3)
    train(drawn, ARMS[f"gauge {rule}"](drawn.graph.parameters(), drawn.graph), 100)
    for phi in pathrnn.gauge.balancing(drawn.graph):
        assert (phi.log().abs() < 0.05).all()


def test_the_gauge_refuses_state_it_does_not_know_and_leaves_the_step_whole() -> None:
    model, reference = twins()
    optimizer = pathrnn.GaugeFixed(model.parameters(), model.graph, torch.optim.Rprop, lr=0.01)
    pathrnn.balance_(reference.graph)
    model.backward()
    message = "GaugeFixed must know how the state of its rule scales, got 'prev': use PathSpace"
    with pytest.raises(ValueError, match=refused(message)):
        optimizer.step()
    reference.backward()
    torch.optim.Rprop(reference.parameters(), lr=0.01).step()
    for own, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def tensors_in(found: Any, seen: set[int]) -> Iterator[Tensor]:
    if id(found) in seen or isinstance(found, nn.Parameter | nn.Module):
        return
    seen.add(id(found))
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, dict):
        for value in found.values():
            yield from tensors_in(value, seen)
    elif isinstance(found, list | tuple | set):
        for value in found:
            yield from tensors_in(value, seen)
    elif hasattr(found, "__dict__"):
        yield from tensors_in(vars(found), seen)


@pytest.mark.parametrize("arm", sorted(ARMS))
def test_memory_is_that_of_the_rule_and_one_number_per_weight_at_most(arm: str) -> None:
    drawn = case((3, 6, 6, 2), bias=True, seed=0)
    rule = RULES.get(arm.split()[-1], RULES["sgd"])
    needs_graph = {"graph": drawn.graph} if arm.endswith("muon") else {}
    sizes = []
    for optimizer in (rule(drawn.graph.parameters(), **needs_graph), ARMS[arm](drawn.graph.parameters(), drawn.graph)):
        train(drawn, optimizer, 3)
        sizes.append(sum(tensor.numel() for tensor in tensors_in(optimizer, set())))
    assert sizes[1] <= sizes[0] + drawn.graph.num_weights


EXTREME = ["relative sgd", "relative adam", "relative muon", "relative, index adam", "normalised sgd"]
EXTREME += ["normalised adam", "normalised muon", "gauge sgd", "gauge adam", "gauge muon", "path-sgd"]
every_extreme_arm = pytest.mark.parametrize("arm", EXTREME)


def weights_are_finite(graph: pathrnn.ReductionGraph) -> bool:
    return bool(torch.isfinite(graph.weights()).all())


@every_extreme_arm
@pytest.mark.parametrize("widths", [(3, 5, 5, 2), (1, 1, 1), (1, 4, 1), (2, 1, 3, 1, 2)])
def test_tiny_skeleton_weights_neither_explode_nor_freeze(arm: str, widths: tuple[int, ...]) -> None:
    drawn = case(widths, bias=True, seed=2)
    chosen = skeletons.choose(drawn.graph, "index")
    with torch.no_grad():
        tiny = [torch.full(own.shape, 1e-12, dtype=torch.float64) for own in chosen.free]
        skeletons.put_(drawn.graph.parameters(), chosen.ins, tiny)
        skeletons.put_(drawn.graph.parameters(), chosen.outs, tiny)
    before = drawn.loss().item()
    train(drawn, ARMS[arm](drawn.graph.parameters(), drawn.graph), 50)
    assert weights_are_finite(drawn.graph)
    if arm == "path-sgd":  # divides by squared path values and does not clip: its own theory, its own steps
        assert drawn.loss().item() != before
    else:
        assert drawn.loss().item() < before


@every_extreme_arm
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_rescaling_by_twenty_powers_of_e_is_harmless(arm: str, dtype: torch.dtype) -> None:
    model = Model().to(dtype)
    twin = copy.deepcopy(model)
    model.graph.rescale_([torch.exp(torch.tensor([-20.0, 20.0, 5.0, -10.0, 0.0]))] * 2)
    for each in (model, twin):
        each.step(each.optimizer(arm), 50)
    assert weights_are_finite(model.graph)
    loss, other = model.backward().item(), twin.backward().item()
    assert loss == pytest.approx(other, rel=1e-2 if dtype == torch.float32 else 1e-4, abs=1e-4)


@every_extreme_arm
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_huge_gradients_leave_finite_weights_and_training_goes_on(arm: str, dtype: torch.dtype) -> None:
    model = Model().to(dtype)
    optimizer = model.optimizer(arm)
    model.backward()
    for parameter in model.graph.parameters():
        parameter.grad.fill_(1e30)
    optimizer.step()
    assert weights_are_finite(model.graph)
    if arm != "path-sgd":  # which does not clip: the network itself is huge now
        before = model.graph.weights()
        model.step(optimizer, 30)
        assert weights_are_finite(model.graph)
        assert (model.graph.weights() - before).abs().max() > 1e-4


@every_extreme_arm
@pytest.mark.parametrize("dead", [2, 5])
def test_dead_units_are_harmless(arm: str, dead: int) -> None:
    model = Model()
    with torch.no_grad():
        model.rnn.bias_ih_l1[:dead] = -1e3
    optimizer, bias = model.optimizer(arm), model.head.bias.clone()
    before = model.backward().item()
    model.step(optimizer, 30)
    assert weights_are_finite(model.graph)
    assert model.backward().item() < before
    assert not torch.equal(model.head.bias, bias)


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
    optimizer, before = model.optimizer("relative sgd"), copy.deepcopy(model)
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
    twin = SlowBasis(drawn.graph, "magnitude")
    skeleton = [twin.owners.index(edge) for edge in twin.into.values()]
    before = basis.values()[skeleton]
    optimizer = path_space(drawn.graph, "sgd", max_path_norm=None, coordinates="normalised")
    for parameter in drawn.graph.parameters():
        parameter.grad = torch.full_like(parameter, size)
    optimizer.step()
    ratios = basis.values()[skeleton] / before
    torch.testing.assert_close((ratios - 1).abs(), torch.full((4,), 0.5, dtype=torch.float64))
    assert optimizer.guard_count == 4
    assert torch.isfinite(drawn.graph.weights()).all()


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
    model = Model()
    with pytest.raises(ValueError, match=refused(message)):
        pathrnn.PathSpace(model.parameters(), model.graph, torch.optim.SGD, **{"lr": 0.1, **options})


def test_a_gauge_that_is_never_restored_is_refused() -> None:
    model = Model()
    with pytest.raises(ValueError, match=refused("every must be at least 1, got 0")):
        pathrnn.GaugeFixed(model.parameters(), model.graph, torch.optim.SGD, lr=0.1, every=0)


def test_a_model_is_no_graph() -> None:
    model = Model()
    with pytest.raises(TypeError, match=refused("graph must be a ReductionGraph, got RNN")):
        pathrnn.PathSpace(model.parameters(), model.rnn, torch.optim.SGD, lr=0.1)


def test_an_optimizer_is_no_rule() -> None:
    model = Model()
    message = "rule must be an optimizer class, or a function that returns one, got SGD"
    with pytest.raises(TypeError, match=refused(message)):
        pathrnn.PathSpace(model.parameters(), model.graph, torch.optim.SGD(model.parameters(), lr=0.1))


def test_weights_of_the_graph_must_all_be_given() -> None:
    model = Model()
    graph = pathrnn.ReductionGraph(model.rnn, model.head)
    with pytest.raises(
        ValueError, match=refused("params must hold every weight of the graph, got none for head.weight")
    ):
        pathrnn.PathSpace(model.rnn.parameters(), graph, torch.optim.SGD, lr=0.1)


def test_a_bad_rate_in_a_group_is_refused() -> None:
    model = Model()
    groups = [{"params": list(model.rnn.parameters())}, {"params": list(model.head.parameters()), "lr": 0.0}]
    with pytest.raises(ValueError, match=refused("lr must be positive, got 0.0")):
        pathrnn.PathSpace(groups, model.graph, torch.optim.SGD, lr=0.1)


@pytest.mark.parametrize("arm", ["relative sgd", "relative, index sgd", "normalised sgd", "gauge sgd", "path-sgd"])
def test_no_entry_of_a_gradient_may_be_not_finite(arm: str) -> None:
    for entry in range(10):
        model = Model()
        optimizer = model.optimizer(arm)
        model.backward()
        model.head.weight.grad.view(-1)[entry] = float("nan")
        with pytest.raises(
            ValueError, match=refused("the gradient of head.weight must be finite, got nan; lower lr or max_path_norm")
        ):
            optimizer.step()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("max_path_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_is_refused_before_anything_changes(
    value: float, max_path_norm: float | None
) -> None:
    model, reference = Model(), Model()
    reference.load_state_dict(model.state_dict())
    optimizer = model.optimizer("relative momentum", max_path_norm=max_path_norm)
    model.backward()
    model.rnn.bias_ih_l1.grad[2] = value
    message = f"the gradient of rnn.bias_ih_l1 must be finite, got {value}; lower lr or max_path_norm"
    with pytest.raises(ValueError, match=refused(message)):
        optimizer.step()
    assert same_weights(model, reference)
    assert not optimizer.state


def test_a_skeleton_weight_that_became_zero_is_refused() -> None:
    model = Model()
    optimizer = model.optimizer("relative, index momentum")
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
    optimizer = model.optimizer("relative sgd")
    others = {
        "a torch optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "GaugeFixed": model.optimizer("gauge sgd"),
        "PathSpace with raw coordinates": model.optimizer("raw sgd"),
    }
    for name, other in others.items():
        message = f"state_dict must come from PathSpace with relative coordinates, got that of {name}"
        with pytest.raises(ValueError, match=refused(message)):
            optimizer.load_state_dict(other.state_dict())


@pytest.mark.parametrize("arm", ["relative momentum", "relative, index adam", "normalised adam", "gauge adam"])
@pytest.mark.parametrize("when", ["before the first step", "later"])
def test_weights_that_are_loaded_decide_whatever_was_there_before(arm: str, when: str) -> None:
    """Build, or train, on other weights, then load these or rescaled ones: the same training."""
    torch.set_default_dtype(torch.float64)
    best = Model()
    rescaled = copy.deepcopy(best)
    rescaled.graph.rescale_([torch.exp(torch.randn(5)) for _ in range(2)])
    start, outputs = Model(), []
    for weights in (best, rescaled):
        model = copy.deepcopy(start)
        optimizer = model.optimizer(arm)
        model.step(optimizer, 0 if when == "before the first step" else 13)
        model.load_state_dict(weights.state_dict())
        model.step(optimizer, 25)
        outputs.append(model(torch.arange(20).reshape(4, 5) % 7).detach())
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-7, atol=1e-9)
    if when == "before the first step":
        model = copy.deepcopy(best)
        model.step(model.optimizer(arm), 25)
        torch.testing.assert_close(
            model(torch.arange(20).reshape(4, 5) % 7).detach(), outputs[0], rtol=1e-9, atol=1e-11
        )


def test_state_can_be_forgotten() -> None:
    model, reference = twins()
    optimizer = model.optimizer("relative momentum")
    model.step(optimizer)
    reference.load_state_dict(model.state_dict())
    other = reference.optimizer("relative momentum")
    other.load_state_dict({**optimizer.state_dict(), "state": {}})
    optimizer.state = defaultdict(dict)
    model.step(optimizer)
    reference.step(other)
    assert same_weights(model, reference)


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
