"""A training in a time budget, by a clock that each step moves: whole at any speed, shared, resumed."""

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from refusals import refuses
from stillmotion import cli
from stillmotion.training import reporting, stage_weights
from stillmotion.training.schedules import EpochPlateau, Schedule, StepSchedule, UpdateSchedule, scheduler
from test_training_gan import Gan, at_step, everything, same, train


class Clock:
    """Stands still until a step moves it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reporting, "perf_counter", clock)
    return clock


def timed(clock: Clock, seconds: float, name: str = "gan", steps: int = 1000) -> tuple[Gan, list[float]]:
    """A stage of rate 0.01 whose steps take so long, and the rates of its generator's updates as they are made."""
    stage, rates = Gan(name, steps), list[float]()
    stage.schedulers = {}
    stage.before_step.append(lambda _: clock.move(seconds))
    stage.optimizers["generator"].register_step_pre_hook(lambda o, *_: rates.append(o.param_groups[0]["lr"]))
    return stage, rates


def state_of(run: Path, name: str) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((run / "checkpoints" / name / "state.json").read_text())
    return state


def ctrl_c_at(step: int) -> Any:
    return at_step(step, lambda _: os.kill(os.getpid(), signal.SIGINT))


@pytest.mark.parametrize(("seconds", "steps"), [(0.05, 200), (1.0, 10), (3.0, 4)])
def test_at_any_speed_the_rate_falls_evenly_to_zero_and_the_run_is_finished(
    clock: Clock, tmp_path: Path, seconds: float, steps: int
) -> None:
    """Ten seconds: the share that is over before step k is k seconds / 10."""
    stage, rates = timed(clock, seconds)
    outcome = train(tmp_path, [stage], time_budget_s=10.0)
    assert (outcome.finished, outcome.step, outcome.stopped_by) == (True, steps, "")
    assert rates == pytest.approx([0.01 * (1 - k * seconds / 10) for k in range(steps)])
    assert rates[-1] <= 0.01 * seconds / 10 + 1e-9
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["lr"]["generator"]) == (steps, rates[-1])
    # The networks have their averaged weights, as after any last step.
    final = stage_weights(tmp_path, "gan")["generator"]
    assert same(final, dict(stage.generator.state_dict()))
    assert not torch.equal(final["0.weight"], everything(tmp_path, f"gan-{steps:06d}")["model/generator.0.weight"])


def test_a_fast_machine_makes_all_steps_and_the_rate_falls_with_them(clock: Clock, tmp_path: Path) -> None:
    stage, rates = timed(clock, 1.0, steps=5)
    assert train(tmp_path, [stage], time_budget_s=100.0).step == 5
    assert rates == pytest.approx([0.01, 0.008, 0.006, 0.004, 0.002])


def test_without_a_budget_time_changes_nothing(clock: Clock, tmp_path: Path) -> None:
    stage, rates = timed(clock, 1e6, steps=5)
    assert train(tmp_path, [stage]).step == 5
    assert rates == [0.01] * 5


def test_a_stage_makes_one_step_even_when_its_time_is_over(clock: Clock, tmp_path: Path) -> None:
    """The first stage's step takes more than both stages may; the second one's changes nothing."""
    (first, _), (second, rates) = timed(clock, 50.0), timed(clock, 1.0, "second")
    outcome = train(tmp_path, [first, second], time_budget_s=10.0)
    assert (outcome.finished, outcome.stage, outcome.step) == (True, "second", 1)
    assert state_of(tmp_path, "gan-000001")["finished"]
    assert rates == [0.0]


def test_stages_share_the_budget_by_their_steps(clock: Clock, tmp_path: Path) -> None:
    """30 s for 200 and 100 steps: 20 s and 10 s, which are 10 and 5 steps of 2 s; both rates fall to zero."""
    (first, early), (second, late) = timed(clock, 2.0, steps=200), timed(clock, 2.0, "second", 100)
    assert train(tmp_path, [first, second], time_budget_s=30.0).finished
    assert early == pytest.approx([0.01 * (1 - k / 10) for k in range(10)])
    assert late == pytest.approx([0.01 * (1 - k / 5) for k in range(5)])


def test_what_a_stage_leaves_goes_to_those_behind_it(clock: Clock, tmp_path: Path) -> None:
    """60 s for 4, 4 and 4 steps: the first takes 4 of its 20 s, and the others have 28 s each, 4 and 2 steps."""
    stages = [timed(clock, 1.0, steps=4), timed(clock, 7.0, "second", 4), timed(clock, 14.0, "third", 4)]
    assert train(tmp_path, [stage for stage, _ in stages], time_budget_s=60.0).finished
    assert [len(rates) for _, rates in stages] == [4, 4, 2]


def test_the_console_counts_the_steps_that_fit(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, [timed(clock, 1.0)[0]], time_budget_s=10.0)
    assert [line.partition("  ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "gan 3/10", "gan 6/10", "gan 9/10", "gan 10/10"
    ]  # fmt: skip


def test_the_time_left_is_that_of_the_steps_or_of_the_budget(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps become twice as slow: five of one second, then of two, and lines after 3, 6, 9 and so on."""

    def left(steps: int, budget: float | None) -> list[str]:
        stage, made = timed(clock, 1.0, steps=steps)
        stage.before_step.append(lambda _: clock.move(1.0 if len(made) >= 5 else 0.0))
        train(tmp_path / f"{steps}-{budget}", [stage], time_budget_s=budget)
        return [line.split()[-2] for line in capsys.readouterr().err.splitlines()]

    assert left(12, None) == ["00:09", "00:08", "00:06", "00:00"]
    assert left(1000, 17.0) == ["00:14", "00:10", "00:04", "00:00"]  # after 3, 7, 13 and 17 seconds
    assert left(11, 1000.0)[0] == "00:08"  # the steps end before the budget


# --- stopping and resuming -----------------------------------------------------------------------------------------
def test_ctrl_c_stops_and_resuming_goes_on_with_what_is_left(clock: Clock, tmp_path: Path) -> None:
    stage, before = timed(clock, 1.0)
    stage.before_step.append(ctrl_c_at(4))
    outcome = train(tmp_path, [stage], time_budget_s=10.0)
    assert (outcome.finished, outcome.step, outcome.stopped_by) == (False, 4, "Ctrl-C")
    assert not state_of(tmp_path, "gan-000004")["finished"]
    clock.move(1000)  # of sleep, which does not count
    stage, after = timed(clock, 1.0)
    assert train(tmp_path, [stage], resume=True, time_budget_s=10.0).finished
    assert before + after == pytest.approx([0.01 * (1 - k / 10) for k in range(10)])


def test_a_later_stage_is_resumed_in_its_own_share(clock: Clock, tmp_path: Path) -> None:
    """20 s for two stages of as many steps, stopped in the second: it had 10 s, of which 3 are over."""
    (first, _), (second, _) = timed(clock, 1.0), timed(clock, 1.0, "second")
    second.before_step.append(ctrl_c_at(3))
    outcome = train(tmp_path, [first, second], time_budget_s=20.0)
    assert (outcome.finished, outcome.stage, outcome.step) == (False, "second", 3)
    (again, none), (second, rates) = timed(clock, 1.0), timed(clock, 1.0, "second")
    assert train(tmp_path, [again, second], resume=True, time_budget_s=20.0).step == 10
    assert none == []
    assert same(dict(again.generator.state_dict()), stage_weights(tmp_path, "gan")["generator"])
    assert rates == pytest.approx([0.01 * (1 - k / 10) for k in range(3, 10)])


def test_ctrl_c_in_the_last_step_of_a_stage_leaves_it_finished(clock: Clock, tmp_path: Path) -> None:
    stages = [timed(clock, 1.0)[0], timed(clock, 1.0, "second")[0]]
    stages[0].before_step.append(ctrl_c_at(10))
    assert train(tmp_path, stages, time_budget_s=20.0).stage == "gan"
    (first, none), (second, rates) = timed(clock, 1.0), timed(clock, 1.0, "second")
    assert train(tmp_path, [first, second], resume=True, time_budget_s=20.0).finished
    assert (len(none), len(rates)) == (0, 10)


def test_ctrl_c_in_the_last_step_of_a_run_is_no_stop(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, _ = timed(clock, 1.0)
    stage.before_step.append(ctrl_c_at(10))
    outcome = train(tmp_path, [stage], time_budget_s=10.0)
    assert (outcome.finished, outcome.stopped_by) == (True, "")
    assert "Stopped" not in capsys.readouterr().err


def test_a_finished_run_stays_as_it_is(clock: Clock, tmp_path: Path) -> None:
    train(tmp_path, [timed(clock, 1.0)[0]], time_budget_s=10.0)
    before = everything(tmp_path, "gan-000010")
    for budget in (None, 10.0, 100.0):
        stage, rates = timed(clock, 1.0)
        outcome = train(tmp_path, [stage], resume=True, time_budget_s=budget)
        assert (outcome.finished, outcome.step, rates) == (True, 10, [])
        assert same(dict(stage.generator.state_dict()), stage_weights(tmp_path, "gan")["generator"])
    assert same(everything(tmp_path, "gan-000010"), before)


def test_a_budget_that_is_spent_is_refused(clock: Clock, tmp_path: Path) -> None:
    """Else a run of two minutes without a budget would end at once, its rate as high as ever."""
    stage, _ = timed(clock, 60.0)
    stage.before_step.append(ctrl_c_at(2))
    train(tmp_path, [stage])
    words = "trained for 2.0 minutes, which a time budget counts: give a larger one"
    refuses(words, train, tmp_path, [timed(clock, 1.0)[0]], resume=True, time_budget_s=120.0)
    assert train(tmp_path, [timed(clock, 60.0)[0]], resume=True, time_budget_s=180.0).step == 3


# --- schedules -----------------------------------------------------------------------------------------------------
def test_a_schedule_is_that_of_the_share_and_falls_to_zero_at_the_end(clock: Clock, tmp_path: Path) -> None:
    """A tenth of the rate from a half of the stage on; 1000 steps of which 10 are made."""
    stage, rates = timed(clock, 1.0)
    own = scheduler(stage.optimizers["generator"], Schedule(kind="milestone", milestones=(0.5,)), 1000)
    stage.schedulers = {"generator": own}
    places = []
    stage.before_step.append(lambda _: places.append(own.last_epoch))
    train(tmp_path, [stage], time_budget_s=10.0)
    shares = [k / 10 for k in range(10)]
    assert places == pytest.approx([1000 * share for share in shares])  # what a stage takes its own course from
    assert rates == pytest.approx([0.01 * min(1.0 if share < 0.5 else 0.1, 1 - share) for share in shares], abs=1e-9)


@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_a_linear_schedule_falls_as_the_budget_does_and_not_twice(clock: Clock, tmp_path: Path, floor: float) -> None:
    """Also after a resume, whose optimiser has groups of its own."""
    rates = list[float]()
    for resume in (False, True):
        stage, made = timed(clock, 1.0)
        own = scheduler(stage.optimizers["generator"], Schedule(kind="linear", floor=floor), 1000)
        stage.schedulers = {"generator": own}
        if not resume:
            stage.before_step.append(ctrl_c_at(4))
        train(tmp_path, [stage], time_budget_s=10.0, resume=resume)
        rates += made
    assert rates == pytest.approx([0.01 * (1 - k / 10) for k in range(10)], abs=1e-9)


def test_several_updates_per_step_have_the_rates_of_the_share(clock: Clock, tmp_path: Path) -> None:
    """Two updates per step; the schedule falls evenly over 2 x 1000 updates, of which 2 x 5 are made."""
    stage, rates = timed(clock, 2.0)
    updates = UpdateSchedule({"generator": stage.optimizers["generator"]}, Schedule(kind="linear"), 2000)
    stage.schedulers = {"updates": updates}
    step = stage.step

    def twice(batch: Any, update: Any) -> Any:
        updates.advance()
        step(batch, update)
        updates.advance()
        update("generator", sum(p.sum() for p in stage.generator.parameters()))
        return {}

    stage.step = twice  # type: ignore[method-assign]
    train(tmp_path, [stage], time_budget_s=10.0)
    shares = [k / 5 for k in range(5) for _ in range(2)]
    # The second update of the first step is one further in the schedule; later steps are far beyond their number.
    assert rates == pytest.approx([0.01 * (1 - share) for share in shares], abs=1e-5)
    assert updates.count == 10


def test_a_plateau_lowers_the_rate_below_the_fall_to_zero(clock: Clock, tmp_path: Path) -> None:
    """Epochs of two steps and patience 0: the second epoch is no better, and the rate is a tenth from step 4 on."""
    stage, rates = timed(clock, 1.0)
    plateau = EpochPlateau(stage.optimizers["generator"], steps_per_epoch=2, patience=0)
    stage.schedulers = {"generator": plateau}
    stage.before_step.append(lambda _: plateau.observe(torch.tensor(1.0)))
    train(tmp_path, [stage], time_budget_s=6.0)
    own = [1.0] * 4 + [0.1] * 2
    assert rates == pytest.approx([0.01 * min(o, 1 - k / 6) for k, o in enumerate(own)])


def test_a_followed_schedule_warms_up_by_steps() -> None:
    """Ten steps, warm-up over four: at half of the stage, but in step 2, the rate is 2 / 4 of 1 - 0.5."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    schedule = StepSchedule({"net": optimizer}, Schedule(kind="linear", warmup=4), 10)

    def rate() -> float:
        return float(optimizer.param_groups[0]["lr"])

    assert rate() == 0.25
    schedule.step()
    schedule.follow(0.5)
    assert (rate(), schedule.last_epoch) == (0.25, 5.0)
    for _ in range(6):
        schedule.step()
    assert (rate(), schedule.last_epoch, schedule.count) == (pytest.approx(0.3), 7, 7)  # more steps than time


# --- the command line ----------------------------------------------------------------------------------------------
def test_minutes_are_the_budget(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seen = SimpleNamespace(budgets=[])
    monkeypatch.setattr("stillmotion.train.train", lambda request, loop: seen.budgets.append(loop.time_budget_s))
    for words in (["--minutes", "0.5"], []):
        assert cli.main(["train", "driving", "data", "-o", "run", *words]) == 0
    assert seen.budgets == [30.0, None]
    capsys.readouterr()
