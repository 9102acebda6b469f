"""What every torch optimizer promises, for every optimizer of the package: space times rule."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from tests.pathrnn.arms import ARMS, Model, same_weights, twins

every_arm = pytest.mark.parametrize("arm", sorted(ARMS))


@every_arm
@pytest.mark.parametrize("weights_first", [True, False])
def test_state_dict_continues_bit_by_bit(arm: str, weights_first: bool) -> None:
    model = Model()
    optimizer = model.optimizer(arm)
    model.step(optimizer)
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    other = Model()
    if weights_first:
        other.load_state_dict(weights)
        continued = other.optimizer(arm)
    else:
        continued = other.optimizer(arm)
        other.load_state_dict(weights)
    continued.load_state_dict(state)
    assert same_weights(model, other)
    model.step(optimizer)
    other.step(continued)
    assert same_weights(model, other)


@pytest.mark.parametrize("arm", sorted(arm for arm in ARMS if "lion" not in arm))  # Lion itself cannot be copied
@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_copy_continues_bit_by_bit_and_apart(arm: str, how: str) -> None:
    model = Model()
    optimizer = model.optimizer(arm)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)  # wraps the step of the instance
    model.step(optimizer)
    pair = (model, optimizer)
    other, continued = copy.deepcopy(pair) if how == "deepcopy" else pickle.loads(pickle.dumps(pair))
    model.step(optimizer)
    assert not same_weights(model, other)
    other.step(continued)
    assert same_weights(model, other)


@every_arm
def test_closure_is_called_once_with_gradients_on_and_its_loss_returned(arm: str) -> None:
    model, reference = twins()
    losses = []
    result = model.optimizer(arm).step(lambda: losses.append(model.backward()) or losses[-1])
    assert [result] == losses
    reference.step(reference.optimizer(arm), 1)
    assert same_weights(model, reference)


@every_arm
def test_groups_can_be_added_later_and_have_their_own_rate(arm: str) -> None:
    model, reference = twins()
    optimizer = ARMS[arm]([*model.rnn.parameters(), *model.head.parameters()], model.graph)
    optimizer.add_param_group({"params": model.embedding.parameters(), "lr": 1e-5, "adam_lr": 1e-5})
    whole = reference.optimizer(arm)
    before = model.embedding.weight.clone()
    model.step(optimizer, 1)
    reference.step(whole, 1)
    moved, usual = (m.embedding.weight - before for m in (model, reference))
    assert 0 < moved.abs().max() < 0.1 * usual.abs().max()
    assert same_weights(model.rnn, reference.rnn)


@every_arm
def test_groups_can_be_given(arm: str) -> None:
    model, reference = twins()
    groups = [{"params": list(model.rnn.parameters())}, {"params": list(model.head.parameters())}]
    groups += [{"params": [model.embedding.weight]}]
    model.step(ARMS[arm](groups, model.graph))
    reference.step(ARMS[arm](reference.named_parameters(), reference.graph))
    assert same_weights(model, reference)


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@every_arm
def test_one_cycle_reaches_the_rule(arm: str) -> None:
    model, reference = twins()
    optimizer, flat = model.optimizer(arm), reference.optimizer(arm)
    cycled = "betas" in optimizer.defaults or "momentum" in optimizer.defaults
    top = [2 * rate for rate in rates(optimizer)]
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, top, total_steps=20, cycle_momentum=cycled)
    seen = []
    for _ in range(20):
        seen.append(rates(optimizer))
        model.step(optimizer, 1)
        reference.step(flat, 1)
        scheduler.step() if len(seen) < 20 else None
    assert seen[0] == pytest.approx([rate / 25 for rate in top])
    assert max(seen) == pytest.approx(top)
    assert not same_weights(model, reference)


@every_arm
def test_reduce_on_plateau_reaches_the_rule(arm: str) -> None:
    model, reference = twins()
    optimizer, other = model.optimizer(arm), reference.optimizer(arm)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
    before = rates(optimizer)
    for loss in (1.0, 2.0):
        scheduler.step(loss)
    assert rates(optimizer) == [rate / 2 for rate in before]
    for group in other.param_groups:
        group["lr"] /= 2
    model.step(optimizer)
    reference.step(other)
    assert same_weights(model, reference)


@every_arm
def test_the_rate_may_be_a_tensor(arm: str) -> None:
    model, reference = twins()
    optimizer, plain = model.optimizer(arm), reference.optimizer(arm)
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"], dtype=torch.float64)
    model.step(optimizer)
    reference.step(plain)
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@every_arm
def test_zero_grad_sets_to_none_or_zero(arm: str) -> None:
    model, reference = twins()
    optimizer, other = model.optimizer(arm), reference.optimizer(arm)
    for _ in range(3):
        for each, using, to_none in ((model, optimizer, True), (reference, other, False)):
            using.zero_grad(set_to_none=to_none)
            assert all((p.grad is None) if to_none else (p.grad is None or not p.grad.any()) for p in each.parameters())
            each.loss().backward()
            using.step()
    assert same_weights(model, reference)


@every_arm
@pytest.mark.parametrize(
    "frozen", ["embedding.weight", "rnn.weight_ih_l0", "rnn.weight_hh_l1", "rnn.weight_ih_l1", "head.weight"]
)
def test_a_parameter_without_gradient_does_not_move_and_the_others_do(arm: str, frozen: str) -> None:
    model = Model()
    optimizer = model.optimizer(arm)
    before = {}
    for steps in range(4):
        model.backward()
        if steps:  # the first step may choose another representative of the network
            model.get_parameter(frozen).grad = None
        else:
            optimizer.step()
            before = {name: parameter.clone() for name, parameter in model.named_parameters()}
            continue
        optimizer.step()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == set(before) - {frozen}


@every_arm
def test_no_gradient_from_the_first_step_on_moves_nothing_of_a_parameter(arm: str) -> None:
    model = Model()
    optimizer = model.optimizer(arm)
    model.rnn.weight_hh_l0.requires_grad_(False)
    before = model.rnn.weight_hh_l0.clone()
    model.step(optimizer)
    assert torch.equal(model.rnn.weight_hh_l0, before)


@every_arm
def test_no_gradient_at_all_moves_nothing(arm: str) -> None:
    model, reference = twins()
    model.optimizer(arm).step()
    assert same_weights(model, reference)


@every_arm
def test_a_step_leaves_gradients_mode_and_random_state_alone(arm: str) -> None:
    model = Model(dropout=0.5)
    optimizer = model.optimizer(arm)
    for training in (True, False):
        model.train(training)
        model.backward()
        kept = [(parameter.grad, parameter.grad.clone()) for parameter in model.parameters()]
        random_state = torch.get_rng_state()
        optimizer.step()
        assert all(p.grad is grad for p, (grad, _) in zip(model.parameters(), kept, strict=True))
        assert all(torch.equal(grad, copied) for grad, copied in kept)
        assert torch.equal(torch.get_rng_state(), random_state)
        assert all(module.training == training for module in model.modules())
        assert torch.is_grad_enabled()


@every_arm
def test_a_compiled_model_trains_alike(arm: str) -> None:
    model, reference = twins()
    compiled = torch.compile(model, backend="eager")
    optimizer, other = model.optimizer(arm), reference.optimizer(arm)
    for _ in range(3):
        optimizer.zero_grad()
        (compiled(torch.arange(40).reshape(8, 5) % 7) - 1).square().mean().backward()
        optimizer.step()
    reference.step(other, 3)
    assert same_weights(model, reference)


@every_arm
def test_a_grad_scaler_skips_what_overflows_and_unscales_the_rest(arm: str) -> None:
    model, reference = twins()
    optimizer, other = model.optimizer(arm), reference.optimizer(arm)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=1000)
    for overflow in (False, True, False):
        optimizer.zero_grad()
        scaler.scale(model.loss() * (float("inf") if overflow else 1.0)).backward()
        scaler.step(optimizer)
        scaler.update()
        if not overflow:
            reference.step(other, 1)
    assert scaler.get_scale() == 2.0**9
    assert same_weights(model, reference)


@every_arm
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_real_floating_point_types_train_and_stay(arm: str, dtype: torch.dtype) -> None:
    model = Model().to(dtype)
    optimizer = model.optimizer(arm)
    before = model.backward().item()
    model.step(optimizer, 50)
    assert all(p.dtype == dtype and torch.isfinite(p).all() for p in model.parameters())
    assert model.backward().item() < before


@every_arm
def test_moves_with_the_model_to_another_type(arm: str) -> None:
    model = Model()
    optimizer = model.optimizer(arm)
    model.double()
    model.step(optimizer)
    assert all(p.dtype == torch.float64 and torch.isfinite(p).all() for p in model.parameters())


def distributed(rank: int, file: str, arms: list[str], weights: dict[str, Any], results: Any) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=file, rank=rank, world_size=2)
    for arm in arms:
        model = Model().double()
        model.load_state_dict(weights)
        parallel = DistributedDataParallel(model)
        optimizer = model.optimizer(arm)
        for _ in range(3):
            optimizer.zero_grad()
            tokens = (torch.arange(40).reshape(8, 5) % 7)[rank * 4 : rank * 4 + 4]
            (parallel(tokens).float() - 1).square().mean().backward()
            optimizer.step()
        if rank == 0:
            results[arm] = nn.utils.parameters_to_vector(model.parameters()).detach().numpy()
    torch.distributed.destroy_process_group()


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    model = Model().double()
    arms = sorted(ARMS)
    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(distributed, ((tmp_path / "store").as_uri(), arms, model.state_dict(), results), nprocs=2)
        trained = {arm: torch.from_numpy(vector) for arm, vector in results.items()}
    for arm in arms:
        alone = Model().double()
        alone.load_state_dict(model.state_dict())
        alone.step(alone.optimizer(arm), 3)
        vector = nn.utils.parameters_to_vector(alone.parameters()).detach()
        torch.testing.assert_close(trained[arm], vector, rtol=1e-6, atol=1e-7, msg=lambda m, arm=arm: f"{arm}: {m}")
