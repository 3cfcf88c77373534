"""Learning-rate schedules: values by hand, the formulas they replace, and checkpoints."""

import json
import math
import subprocess
import sys

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from stillmotion.training.schedules import EpochPlateau, Schedule, UpdateSchedule, factor, scheduler
from stillmotion.training.state import pack, unpack


def factors(schedule: Schedule, steps: int, at: list[int]) -> list[float]:
    return [factor(schedule, step, steps) for step in at]


def sgd(rate: float = 1.0) -> torch.optim.SGD:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], rate)


def rate_of(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def test_constant_with_warmup_by_hand() -> None:
    assert factors(Schedule(), 10, [0, 5, 99]) == [1.0, 1.0, 1.0]
    assert factors(Schedule(warmup=4), 10, [0, 1, 2, 3, 4, 9]) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_milestones_by_hand() -> None:
    one = Schedule(kind="milestone", milestones=(0.5,))
    assert factors(one, 10, [0, 4, 5, 9]) == [1.0, 1.0, 0.1, 0.1]
    # The pokes paper's code: times 0.3 after 1 %, 2.5 % and 5 %.
    three = Schedule(kind="milestone", milestones=(0.01, 0.025, 0.05), decay=0.3)
    assert factors(three, 1000, [9, 10, 24, 25, 49, 50]) == pytest.approx([1, 0.3, 0.3, 0.09, 0.09, 0.027])


def test_staircase_and_exponential_by_hand() -> None:
    stairs = Schedule(kind="staircase", decay=0.5, decay_every=4)
    assert factors(stairs, 99, [0, 3, 4, 7, 8]) == [1.0, 1.0, 0.5, 0.5, 0.25]
    smooth = Schedule(kind="exponential", decay=0.25, decay_every=4)
    assert factors(smooth, 99, [0, 2, 4, 6]) == pytest.approx([1.0, 0.5, 0.25, 0.125])


def test_linear_and_cosine_by_hand() -> None:
    assert factors(Schedule(kind="linear"), 4, [0, 1, 3, 4, 9]) == [1.0, 0.75, 0.25, 0.0, 0.0]
    assert factors(Schedule(kind="linear", floor=0.5), 4, [1, 2, 3, 9]) == [0.75, 0.5, 0.5, 0.5]
    cosine = factors(Schedule(kind="cosine", floor=0.02), 4, [0, 2, 4, 9])
    assert cosine == pytest.approx([1.0, 0.02 + 0.98 / 2, 0.02, 0.02])


def test_total_goes_before_the_steps_of_the_stage() -> None:
    assert factors(Schedule(kind="linear", total=2), 4, [0, 1, 2, 3]) == [1.0, 0.5, 0.0, 0.0]


@pytest.mark.parametrize("warmup", [0, 100])
@pytest.mark.parametrize("steps", [7, 1234, 60_000])
def test_the_formulas_that_were_there_before_to_the_last_bit(warmup: int, steps: int) -> None:
    """`driving` (milestone and cosine), its supervised stage, and `strokes` (early stages, staircase, cosine)."""
    milestone = Schedule(kind="milestone", milestones=(2 / 3,), warmup=warmup)
    cosine = Schedule(kind="cosine", floor=0.02, warmup=warmup)
    linear = Schedule(kind="linear", floor=0.02)
    early = Schedule(kind="linear", floor=0.02, warmup=50)
    stairs = Schedule(kind="staircase", decay=0.9, decay_every=20_000, warmup=warmup)
    for step in {*range(0, steps, max(1, steps // 200)), *range(60), steps - 1, steps, steps + 5}:
        rise = min(1.0, (step + 1) / warmup) if warmup else 1.0
        curve = rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))
        assert factor(milestone, step, steps) == rise * (0.1 if step >= 2 / 3 * steps else 1.0)
        assert factor(cosine, step, steps) == curve
        assert factor(linear, step, steps) == max(0.02, 1 - step / steps)
        assert factor(early, step, steps) == min(1.0, (step + 1) / 50) * max(0.02, 1 - step / steps)
        assert factor(stairs, step, steps) == rise * 0.9 ** (step // 20_000)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "sawtooth"},
        {"warmup": -1},
        {"kind": "linear", "floor": 1.5},
        {"kind": "milestone", "milestones": ()},
        {"kind": "milestone", "milestones": (1.5,)},
        {"milestone": 0.5},
        {"kind": "staircase", "decay_every": 0},
        {"decay": 0.0},
        {"total": 0},
        {"decay": math.nan},
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Schedule(**values)  # type: ignore[arg-type]


def test_a_schedule_survives_json() -> None:
    schedule = Schedule(kind="milestone", milestones=(0.5, 0.75), decay=0.3, warmup=10)
    adapter = TypeAdapter(Schedule)
    assert adapter.validate_python(json.loads(adapter.dump_json(schedule))) == schedule


def through_a_checkpoint(state: dict[str, object]) -> dict[str, object]:
    tensors: dict[str, torch.Tensor] = {}
    return unpack(json.loads(json.dumps(pack(state, tensors, "s"), allow_nan=False)), tensors)


def test_the_scheduler_sets_rates_and_continues_from_a_checkpoint() -> None:
    schedule = Schedule(kind="cosine", floor=0.02, warmup=3)
    optimizer, rates = sgd(0.5), []
    whole = scheduler(optimizer, schedule, 10)
    for step in range(10):
        rates.append(rate_of(optimizer))
        optimizer.step()
        whole.step()
        if step == 3:
            state = through_a_checkpoint(whole.state_dict())
            group = through_a_checkpoint(optimizer.state_dict())
    assert rates == [0.5 * factor(schedule, step, 10) for step in range(10)]
    again = sgd(0.5)
    resumed = scheduler(again, schedule, 10)
    again.load_state_dict(group)
    resumed.load_state_dict(state)
    for step in range(4, 10):
        assert rate_of(again) == rates[step]
        again.step()
        resumed.step()


def test_updates_are_counted_one_by_one_and_continue_from_a_checkpoint() -> None:
    schedule = Schedule(kind="staircase", decay=0.5, decay_every=3)
    optimizers = {"generator": sgd(1.0), "discriminator": sgd(4.0)}
    updates = UpdateSchedule(optimizers, schedule, steps=8)
    seen = []
    for _ in range(4):  # steps of the loop, of two updates each
        for _ in range(2):
            updates.advance()
            seen.append(tuple(rate_of(o) for o in optimizers.values()))
        updates.step()
    assert seen == [(1.0, 4.0)] * 3 + [(0.5, 2.0)] * 3 + [(0.25, 1.0)] * 2
    # The loop gives the optimiser its state first, and with it new groups.
    stored = optimizers["generator"].state_dict()
    again = UpdateSchedule(optimizers := {"generator": sgd(1.0)}, schedule, steps=8)
    optimizers["generator"].load_state_dict(through_a_checkpoint(stored))
    again.load_state_dict(through_a_checkpoint({"count": 5}))
    assert again.state_dict() == {"count": 5}
    again.advance()
    assert rate_of(optimizers["generator"]) == 0.5
    again.advance()
    assert rate_of(optimizers["generator"]) == 0.25


def test_a_plateau_of_epoch_means_lowers_the_rate_and_survives_a_checkpoint() -> None:
    """Epochs of two steps. Means 2, 2, 2: with patience 1 the third lowers the rate; single losses do not count."""
    optimizer = sgd(1.0)
    plateau = EpochPlateau(optimizer, steps_per_epoch=2, patience=1)
    rates = []
    for number, loss in enumerate([1.0, 3.0, 3.0, 1.0, 0.5, 3.5]):
        if number == 3:  # in the middle of an epoch
            state = through_a_checkpoint(plateau.state_dict())
            plateau = EpochPlateau(optimizer, steps_per_epoch=2, patience=1)
            plateau.load_state_dict(state)
        plateau.observe(torch.tensor(loss))
        plateau.step()
        rates.append(rate_of(optimizer))
    assert rates == pytest.approx([1.0] * 5 + [0.1])


def test_schedules_do_not_import_the_rest_of_training() -> None:
    probe = (
        "import stillmotion.training.schedules, sys; "
        "print([m for m in sys.modules if m.split('.')[0] == 'accelerate' or m.startswith('stillmotion.training.')])"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['stillmotion.training.schedules']"
