"""facts/monkey-net.md section 12, items 12 and 13, and our own losses: values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from driving_tools import LOSSES, NOT_ADVERSARIAL, TINY, at, batch_of, output, training_of
from stillmotion.data.motion_truth import PAINT, PLATE, STATIC, UNKNOWN, WARPED
from stillmotion.keypoints import losses
from stillmotion.keypoints.networks import GeneratorOutput, Keypoints, gather_inputs
from stillmotion.systems.driving import losses as paper
from stillmotion.systems.driving.config import PRESETS, LossConfig
from stillmotion.systems.driving.training import MotionTraining


def generated(stage: MotionTraining) -> tuple[dict[str, Tensor], GeneratorOutput, dict[str, Tensor]]:
    """A batch, what is generated of it, and the photometric terms."""
    batch = batch_of(stage)
    made = stage.model(gather_inputs(stage.model, batch["source"], batch["driving"]))
    terms = losses.reconstruction_losses(made, batch["source"], batch["driving"], stage.stage.losses, stage.config)
    return batch, made, terms


# --- the paper's ---------------------------------------------------------------------------------------------------
class Maps(nn.Module):
    """A discriminator whose maps are zero, except that one of them is one for generated (bright) frames."""

    def __init__(self, index: int):
        super().__init__()
        self.index = index

    def forward(self, frame: Tensor, driving: Keypoints) -> list[Tensor]:
        generated = float(frame.mean() > 0.5)
        return [torch.full((1, 1, 2, 2), generated * (i == self.index)) for i in range(6)]


BLACK, WHITE = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
POINTS = Keypoints(torch.zeros(1, 3, 2), torch.eye(2).expand(1, 3, 2, 2))


@pytest.mark.parametrize(
    ("preset", "costs"), [("release", [10, 10, 10, 10, 1, 0]), ("paper", [10, 10, 10, 10, 10, 0])]
)
def test_a_changed_map_of_the_discriminator_costs_its_weight(preset: str, costs: list[float]) -> None:
    """The last of the six is the score: it belongs to the adversarial loss."""
    weights = PRESETS[preset].motion_stages[0].losses
    terms = [paper.adversarial_losses(Maps(i), WHITE, BLACK, POINTS, weights) for i in range(6)]  # type: ignore[arg-type]
    assert [term["feature_matching"].item() for term in terms] == costs
    assert [term["gan"].item() for term in terms] == [1, 1, 1, 1, 1, 0]  # (1 - D(fake))^2: only the score counts


def test_the_discriminator_loses_by_both_its_errors() -> None:
    """(D(real) - 1)^2 + D(fake)^2; the score is one for bright frames."""
    told = [paper.discriminator_loss(Maps(5), fake, real, POINTS) for fake, real in ((BLACK, WHITE), (WHITE, BLACK))]  # type: ignore[arg-type]
    assert [value.item() for value in told] == [0, 2]


@pytest.mark.parametrize(("detached", "flows"), [(True, False), (False, True)])
def test_the_switch_stops_the_gradient_through_the_driving_heatmap(detached: bool, flows: bool) -> None:
    """Item 13: paper mode gives D heatmaps without gradient; only the adversarial term is looked at."""
    stage = training_of(**at(LOSSES, detach_heatmaps=detached, feature_matching=(0.0,) * 5))
    batch, made, _ = generated(stage)
    found = stage.model.detector(batch["driving"])
    given = Keypoints(*(part.detach().requires_grad_() for part in found))
    assert stage.discriminator is not None
    terms = paper.adversarial_losses(
        stage.discriminator, made.frame.detach(), batch["driving"], given, stage.stage.losses
    )
    terms["gan"].requires_grad_().backward()
    norm = sum(float(part.grad.norm()) for part in given if part.grad is not None)
    assert (norm > 0) is flows


class RealMaps(nn.Module):
    """A discriminator whose maps are the keypoints for the real (dark) frame, and ones for the generated one."""

    def forward(self, frame: Tensor, driving: Keypoints) -> list[Tensor]:
        real = driving.mean.mean() * torch.ones(1, 1, 2, 2)
        return [real if frame.mean() < 0.5 else torch.ones(1, 1, 2, 2)] * 6


@pytest.mark.parametrize(("preset", "expected"), [("release", -41.0), ("paper", None)])
def test_features_of_the_real_frame_send_the_detector_their_gradient_in_the_release(
    preset: str, expected: float | None
) -> None:
    """Each map costs its weight times |1 - mean|; in the paper no gradient passes the heatmaps."""
    mean = torch.zeros(1, 3, 2, requires_grad=True)
    weights = PRESETS[preset].motion_stages[0].losses
    terms = paper.adversarial_losses(RealMaps(), WHITE, BLACK, POINTS._replace(mean=mean), weights)  # type: ignore[arg-type]
    assert terms["feature_matching"].item() == sum(weights.feature_matching)
    if expected is None:
        assert not terms["feature_matching"].requires_grad
    else:
        terms["feature_matching"].backward()
        assert mean.grad is not None
        assert mean.grad.sum().item() == pytest.approx(expected)


# --- photometric ---------------------------------------------------------------------------------------------------
def test_losses_without_a_weight_are_not_there() -> None:
    assert generated(training_of(**at("generator", fields=True)))[2] == {}


def test_warped_still_loss_is_weighted_l1() -> None:
    batch, made, terms = generated(training_of(**NOT_ADVERSARIAL, **at(LOSSES, warp=10.0)))
    assert terms["warp"].item() == pytest.approx(10 * (made.warped - batch["driving"]).abs().mean().item())


def test_mask_mixture_is_l1_between_mixed_stills_and_target_and_reaches_the_masks() -> None:
    stage = training_of(**NOT_ADVERSARIAL, **at(LOSSES, mask_mixture=10.0))
    batch, made, terms = generated(stage)
    assert made.motion.mixture is not None
    expected = 10 * (made.motion.mixture - batch["driving"]).abs().mean().item()
    assert terms["mask_mixture"].item() == pytest.approx(expected, rel=1e-5)
    terms["mask_mixture"].backward()
    motion = stage.model.generator.dense_motion
    assert motion is not None
    assert motion.head.weight.grad is not None
    assert motion.head.weight.grad[: TINY.keypoints.count + 1].abs().sum() > 0
    assert motion.head.weight.grad[-2:].abs().sum() == 0  # the residual flow has no part in it


def test_paint_loss_reaches_the_paint_behind_a_closed_blend() -> None:
    stage = training_of(**NOT_ADVERSARIAL, **at(LOSSES, paint=5.0), **at("generator", fields=True))
    head = stage.model.generator.fields
    with torch.no_grad():
        head.shares.bias[PAINT] = -200.0  # the other sources have exactly all of the blend: paint is not seen
    batch, made, terms = generated(stage)
    assert made.fields is not None
    assert made.fields.shares[:, PAINT].max() < 1e-6
    expected = 5 * (made.fields.paint - batch["driving"]).abs().mean().item()
    assert terms["paint"].item() == pytest.approx(expected, rel=1e-5)
    terms["paint"].backward()
    assert head.paint.weight.grad is not None
    assert head.paint.weight.grad.abs().sum() > 0


def test_motion_weighting_counts_changed_pixels_more_in_every_photometric_loss() -> None:
    """Half of the picture changes; there, and only there, everything is off by a half: 1/4, and 4/5 of 1/2."""
    source, driving = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    driving[..., 32:] = 1.0
    half = driving / 2
    made = output(half, torch.zeros(1, 64, 64, 2), shares=(1.0, 0.0, 0.0, 0.0), paint=half)
    made = made._replace(motion=made.motion._replace(mixture=half))
    for gain, expected in ((0.0, 0.25), (3.0, 0.4)):
        weights = LossConfig(warp=1.0, paint=1.0, mask_mixture=1.0, pyramid=1.0, motion_weighting=gain)
        terms = losses.reconstruction_losses(made, source, driving, weights, TINY)
        assert {name: value.item() for name, value in terms.items()} == {
            name: pytest.approx(expected, rel=0.05 if name == "pyramid" else 1e-5)
            for name in ("warp", "paint", "mask_mixture", "pyramid")
        }


# --- known motion --------------------------------------------------------------------------------------------------
KINDS = torch.tensor([WARPED, STATIC, PLATE, PAINT, UNKNOWN]).expand(1, 5, 5)
"""A picture of 5 x 5 pixels, a column of each kind."""


def column_values(values: list[float]) -> Tensor:
    """1 x 3 x 5 x 5, a number for each column."""
    return torch.tensor(values).expand(1, 3, 5, 5)


def test_the_warped_still_and_the_paint_are_compared_where_they_can_show_what_is_there() -> None:
    """Everything is off by its column's number; where nothing is known both of them count, the frame always does."""
    made = output(column_values([1, 2, 4, 8, 16]), torch.zeros(1, 5, 5, 2), shares=(0.25,) * 4)
    assert made.fields is not None
    made = made._replace(fields=made.fields._replace(paint=made.frame))
    black, weights = torch.zeros(1, 3, 5, 5), LossConfig(warp=1.0, paint=10.0)
    terms = losses.reconstruction_losses(made, black, black, weights, TINY, KINDS)
    assert {name: value.item() for name, value in terms.items()} == {
        "warp": pytest.approx((1 + 2 + 16) / 5),
        "paint": pytest.approx(10 * (4 + 8 + 16) / 5),
    }
    more = LossConfig(warp=1.0, paint=10.0, paint_weighting=3.0)  # what needs paint, four times
    assert losses.reconstruction_losses(made, black, black, more, TINY, KINDS)["paint"] == 10 * (4 + 4 * 8 + 16) / 5
    everywhere = losses.reconstruction_losses(made, black, black, weights, TINY)
    assert [everywhere[name].item() for name in ("warp", "paint")] == pytest.approx([31 / 5, 310 / 5])


def test_what_counts_keeps_the_weights_of_motion() -> None:
    pixels = torch.arange(25.0).view(1, 1, 5, 5)
    seen, hidden = losses.counted(pixels, KINDS)
    assert torch.equal(seen, pixels * torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0]))
    assert torch.equal(hidden, pixels * torch.tensor([0.0, 0.0, 1.0, 1.0, 1.0]))
    assert losses.counted(pixels, None) == (pixels, pixels)
    assert losses.counted(None, None) == (None, None)
    assert torch.equal(losses.counted(None, KINDS)[0][0, 0, 0], torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0]))  # type: ignore[index]


def truth_of_columns() -> dict[str, Tensor]:
    """The figure moves in the columns of what is warped and of what is painted; in the still it is the first."""
    moving = (KINDS == WARPED) | (KINDS == PAINT)
    figure = torch.tensor([1.0, 0.0, 0.0, 0.0, -1.0]).expand(1, 1, 5, 5)
    displacement = torch.zeros(1, 5, 5, 2)
    return {"displacement": displacement, "moving": moving.float(), "visibility": KINDS, "figure": figure}


def test_known_motion_by_hand() -> None:
    """The flow is off by 0.3 and 0.5 where the figure moves; by 7 elsewhere, which is nobody's business."""
    flow = torch.tensor([0.3, 7.0, 7.0, 0.5, 7.0])[:, None] * torch.tensor([0.0, 1.0])
    shares = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 8])
    made = output(torch.zeros(1, 3, 5, 5), flow.expand(1, 5, 5, 2), shares=shares.tolist())
    logits = torch.tensor([0.75, 0.2, 0.2, 0.2, 0.9]).logit().expand(1, 1, 5, 5)
    weights = LossConfig(displacement=2.0, visibility=3.0, figure=5.0)
    terms = losses.truth_losses(made, logits, truth_of_columns(), weights)
    assert terms["displacement"].item() == pytest.approx(2 * 0.4, rel=1e-3)
    of = torch.tensor(losses.SHARE_WEIGHTS)
    logs = (of * torch.tensor([1.0, 2.0, 3.0, 3.0])).sum() / of.sum() * math.log(2)
    assert terms["visibility"].item() == pytest.approx(3 * float(logs), rel=1e-5)
    assert terms["figure"].item() == pytest.approx(-5 * (math.log(0.75) + 3 * math.log(0.8)) / 4, rel=1e-5)


def test_unknown_motion_costs_nothing_and_terms_without_a_weight_are_not_there() -> None:
    batch = {
        "displacement": torch.zeros(1, 5, 5, 2),
        "moving": torch.zeros(1, 5, 5),
        "visibility": torch.full((1, 5, 5), UNKNOWN),
        "figure": torch.full((1, 1, 5, 5), -1.0),
    }
    made, logits = output(torch.zeros(1, 3, 5, 5), torch.ones(1, 5, 5, 2), shares=(0.25,) * 4), torch.ones(1, 1, 5, 5)
    terms = losses.truth_losses(made, logits, batch, LossConfig(displacement=2.0, visibility=3.0, figure=1.0))
    assert {name: value.item() for name, value in terms.items()} == dict.fromkeys(terms, 0)
    assert set(terms) == {"displacement", "visibility", "figure"}
    assert losses.truth_losses(made, logits, batch, LossConfig()) == {}


# --- keypoints -----------------------------------------------------------------------------------------------------
def test_separation_is_one_when_keypoints_coincide_and_falls_with_distance() -> None:
    assert losses.separation(torch.zeros(2, 4, 2)).item() == pytest.approx(1.0)
    apart = torch.tensor([[[0.0, 0.0], [0.2, 0.0]]])
    assert losses.separation(apart, reach=0.1).item() == pytest.approx(np.exp(-2))
    assert losses.separation(torch.zeros(1, 1, 2)).item() == 0


def test_equivariance_is_zero_for_a_detector_that_follows_the_picture() -> None:
    """A stand-in detector that reads its point out of the picture commutes with any transform."""
    ramp = torch.linspace(-1, 1, 64)
    blob = torch.exp(-((ramp[None, :] - 0.1) ** 2 + (ramp[:, None] + 0.2) ** 2) / 0.02).expand(2, 3, 64, 64)

    class Centre(nn.Module):
        def forward(self, frames: Tensor) -> Keypoints:
            heat = frames[:, :1] / frames[:, :1].sum(dim=(2, 3), keepdim=True)
            x, y = (heat.sum(2) * ramp).sum(-1), (heat.sum(3) * ramp).sum(-1)
            return Keypoints(torch.stack([x, y], -1), torch.eye(2).expand(len(frames), 1, 2, 2))

    right, wrong = Centre()(blob), Keypoints(torch.zeros(2, 1, 2), torch.eye(2).expand(2, 1, 2, 2))
    told = [
        losses.equivariance(Centre(), blob, found, torch.Generator().manual_seed(0)).item()
        for found in (right, wrong)
    ]
    assert told[0] < 0.01 < told[1]


def test_random_transforms_turn_scale_and_shift() -> None:
    """Turns by at most 25 degrees, scales between 0.8 and 1.2, shifts of at most 0.2; similarities, not shears."""
    matrix, offset = losses.random_affine(200, torch.Generator().manual_seed(0), torch.device("cpu"))
    scale = matrix.det().sqrt()
    torch.testing.assert_close(matrix @ matrix.mT, scale[:, None, None] ** 2 * torch.eye(2).expand(200, 2, 2))
    assert 0.8 <= scale.min() < 0.85
    assert 1.15 < scale.max() <= 1.2
    turn = torch.atan2(matrix[:, 1, 0], matrix[:, 0, 0]).rad2deg()
    assert -25.001 <= turn.min() < -23
    assert 23 < turn.max() <= 25.001
    assert -0.2 <= offset.min() < -0.19
    assert 0.19 < offset.max() <= 0.2


def test_affine_is_matrix_times_point_plus_offset() -> None:
    matrix, offset = losses.random_affine(3, torch.Generator().manual_seed(0), torch.device("cpu"))
    points = torch.rand(3, 5, 2)
    expected = (matrix @ points.mT).mT + offset
    assert torch.allclose(losses.apply_affine(matrix, offset, points), expected, atol=1e-6)


def test_joint_distance_is_a_weighted_mean_and_nothing_where_no_joint_is_known() -> None:
    found = torch.tensor([[[0.0, 0.0], [0.4, 0.2]]])
    points = torch.tensor([[[0.1, 0.3], [0.0, 0.0]]])  # away by 0.2 and by 0.3, in the mean of both axes
    distance = losses.joint_distance(found, points, torch.tensor([[1.0, 0.5]]))
    assert distance.item() == pytest.approx((0.2 + 0.5 * 0.3) / 1.5)
    assert losses.joint_distance(found, points, torch.zeros(1, 2)).item() == 0.0


@pytest.mark.parametrize(("variance", "expected"), [(0.005, 0.0), (1.0, 0.0), (0.002, 0.003)])
def test_only_maps_that_are_too_narrow_cost(variance: float, expected: float) -> None:
    found = Keypoints(torch.zeros(1, 1, 2), (variance * torch.eye(2))[None, None])
    assert losses.narrowness(found).item() == pytest.approx(expected)


@pytest.mark.parametrize("covariance", [True, False])
def test_prediction_is_measured_over_all_frames_but_the_first(covariance: bool) -> None:
    truth = Keypoints(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2, 2))
    predicted = Keypoints(truth.mean.clone(), truth.covariance.clone())
    predicted.mean[:, 0], predicted.covariance[:, 0] = 9.0, 9.0  # frame 0 does not count
    predicted.mean[:, 1], predicted.covariance[:, 2] = 0.5, -1.0
    terms = paper.prediction_losses(predicted, truth, covariance)
    assert {name: value.item() for name, value in terms.items()} == (
        {"mean": 0.25, "covariance": 0.5} if covariance else {"mean": 0.25}
    )


def test_the_discriminator_compares_the_generated_frame_with_the_driving_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with the source, and not with the warped still: frame, real frame and keypoints of both losses."""
    stage, seen = training_of(), []
    batch = batch_of(stage)
    for name in ("adversarial_losses", "discriminator_loss"):
        told = getattr(paper, name)
        monkeypatch.setattr(paper, name, lambda *given, told=told: seen.append(given[1:4]) or told(*given))
    stage.model.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    stage.step(batch, lambda *_, **__: None)
    (inputs, output), *compared = seen
    assert len(compared) == 2
    for frame, driving, found in compared:
        assert frame is output.frame
        assert torch.equal(driving, batch["driving"])
        assert found is inputs.target


def test_keypoints_are_held_to_the_driving_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equivariance: half of the driving frames and what was found in them. Separation: what was found in all."""
    stage, told = training_of(**at(LOSSES, equivariance=2.0, separation=3.0)), {}

    def equivariance(detector: nn.Module, frames: Tensor, found: Keypoints, _: torch.Generator) -> Tensor:
        told["frames"], told["found"] = frames, found.mean
        return torch.tensor(5.0)

    def separation(mean: Tensor) -> Tensor:
        told["all"] = mean
        return torch.tensor(7.0)

    monkeypatch.setattr(losses, "equivariance", equivariance)
    monkeypatch.setattr(losses, "separation", separation)
    batch = batch_of(stage)
    made = stage.make(batch)
    half = (len(batch["driving"]) + 1) // 2
    assert torch.equal(told["frames"], batch["driving"][:half])
    assert torch.equal(told["found"], made.inputs.target.mean[:half])
    assert torch.equal(told["all"], made.inputs.target.mean)
    assert not torch.equal(made.inputs.source.mean, made.inputs.target.mean)
    assert (made.terms["equivariance"], made.terms["separation"]) == (10.0, 21.0)
