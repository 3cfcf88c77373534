"""Frames of one still by its player: one of a batch, a share of a frame, the plate that later frames know more of."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stillmotion.keypoints.networks import GeneratorOutput, Motion
from stillmotion.keypoints.playing import Player, as_fields, held, pick
from stillmotion.keypoints.presets import FROZEN, JOINT_LOSSES, SMALL, SMALL_STAGES, TRUTH_LOSSES, joint, truth
from stillmotion.rendering import compositing
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import Scene
from stillmotion.rendering.fields import PLATE, STATIC, WARPED, Fields

SIDE = 8


def uniform(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def made(count: int = 3, fields: bool = True, masks: bool = True) -> GeneratorOutput:
    """Frames of which every number is another one."""
    motion = Motion(uniform(count, 4, 4, 2, seed=1) * 2 - 1, uniform(count, 3, 4, 4, seed=2) if masks else None)
    shares = torch.softmax(uniform(count, 4, SIDE, SIDE, seed=3), dim=1)
    own = Fields(uniform(count, SIDE, SIDE, 2, seed=4), shares, uniform(count, 3, SIDE, SIDE, seed=5))
    frame, warped = uniform(count, 3, SIDE, SIDE, seed=6), uniform(count, 3, SIDE, SIDE, seed=7)
    return GeneratorOutput(frame, motion, warped, own if fields else None)


@pytest.fixture
def canvas() -> Canvas:
    still = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    return Canvas.prepare(still, SIDE, None, torch.device("cpu"))


@pytest.mark.parametrize(("fields", "masks"), [(True, True), (False, True), (True, False)])
def test_a_picked_frame_is_a_batch_of_one_with_all_of_its_own(fields: bool, masks: bool) -> None:
    batch = made(fields=fields, masks=masks)
    one = pick(batch, 1)
    assert torch.equal(one.frame, batch.frame[1:2])
    assert torch.equal(one.warped, batch.warped[1:2])
    assert torch.equal(one.motion.displacement, batch.motion.displacement[1:2])
    for found, whole in ((one.motion.masks, batch.motion.masks), (one.fields, batch.fields)):
        assert (found is None) == (whole is None)
    if one.motion.masks is not None and batch.motion.masks is not None:
        assert torch.equal(one.motion.masks, batch.motion.masks[1:2])
    if one.fields is not None and batch.fields is not None:
        assert all(torch.equal(part, whole[1:2]) for part, whole in zip(one.fields, batch.fields, strict=True))


def test_a_held_frame_is_the_still_where_its_share_is_nothing(canvas: Canvas) -> None:
    one = pick(made(), 0)
    assert held(one, None, canvas) is one
    share = torch.zeros(1, 1, SIDE, SIDE)
    share[..., :4], share[..., 4] = 1.0, 0.25
    found = held(one, share, canvas)
    assert torch.equal(found.frame[..., :4], one.frame[..., :4])
    assert torch.equal(found.frame[..., 5:], canvas.small[..., 5:])
    torch.testing.assert_close(found.frame[..., 4], 0.25 * one.frame[..., 4] + 0.75 * canvas.small[..., 4])
    assert found.fields is one.fields
    assert torch.equal(found.warped, one.warped)


def test_a_generator_without_fields_paints_over_the_warped_still() -> None:
    """All of each pixel is the warped still; what is added makes the frame of it. Motion is at the frame's size."""
    one = pick(made(fields=False), 0)
    fields, residual = as_fields(one)
    assert residual is not None
    assert torch.equal(residual, one.frame - one.warped)
    assert fields.displacement.shape == (1, SIDE, SIDE, 2)
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        expected = one.motion.displacement[0][corner]
        torch.testing.assert_close(fields.displacement[0][corner], expected)
    assert (fields.shares[:, WARPED] == 1).all()
    assert fields.shares.sum() == SIDE * SIDE
    assert (fields.paint == 0).all()
    with_fields = pick(made(), 0)
    assert as_fields(with_fields) == (with_fields.fields, None)


class Shown:
    """A renderer that notes the backdrops it is given."""

    def __init__(self) -> None:
        self.backdrop: Any = "first"
        self.small_plate = torch.cat([torch.full((1, 3, SIDE, SIDE), 0.5), torch.ones(1, 1, SIDE, SIDE)], dim=1)

    def show(self, backdrop: Any) -> None:
        self.backdrop = backdrop
        self.small_plate = self.small_plate.clone()
        self.small_plate[:, :3] = 0.9


def player(canvas: Canvas, figure: Tensor | None) -> Any:
    """A player without networks."""
    one = Player.__new__(Player)
    one.canvas, one.scene = canvas, Scene.__new__(Scene)
    one.scene.canvas, one.scene.figure, one.scene.left, one.scene.wanted = canvas, figure, None, None  # type: ignore
    one.renderer = one.scene.renderer = Shown()  # type: ignore[assignment]
    return one


def plated() -> GeneratorOutput:
    """A frame whose left half shows the plate, and whose other half the still."""
    one = pick(made(), 0)
    assert one.fields is not None
    shares = torch.zeros(1, 4, SIDE, SIDE)
    shares[:, PLATE, :, :4], shares[:, STATIC, :, 4:] = 1.0, 1.0
    return one._replace(fields=one.fields._replace(shares=shares))


def test_a_frame_with_new_gaps_gets_the_plate_found_again(canvas: Canvas, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    left = torch.ones(1, 1, SIDE, SIDE)

    def find_backdrop(*given: Any) -> str:
        calls.append(given)
        return "second"

    monkeypatch.setattr(compositing, "find_backdrop", find_backdrop)
    monkeypatch.setattr(compositing, "left_places", lambda shares, figure, before: left if before is None else None)
    one, figure = plated(), torch.zeros(1, 1, SIDE, SIDE)
    showing = player(canvas, figure)
    for _ in range(2):  # of the second frame nothing new is known, and the plate is the one found before
        frame = showing.reveal(one).frame
        torch.testing.assert_close(frame[..., :4], torch.full((1, 3, SIDE, 4), 0.9))
        torch.testing.assert_close(frame[..., 4:], canvas.small[..., 4:])
    assert len(calls) == 1
    assert calls[0] == (canvas, figure, None, left, "first")
    assert showing.scene.left is left
    assert showing.renderer.backdrop == "second"


def test_a_frame_is_as_it_was_where_nothing_can_be_found_again(
    canvas: Canvas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compositing, "left_places", lambda shares, figure, before: None)
    one, figure = plated(), torch.zeros(1, 1, SIDE, SIDE)
    assert player(canvas, figure).reveal(one) is one  # no gaps
    monkeypatch.setattr(compositing, "left_places", lambda *_: pytest.fail("nobody asks"))
    assert player(canvas, None).reveal(one) is one  # a mask of a person's own
    bare = player(canvas, figure)
    bare.renderer.backdrop = None
    assert bare.reveal(one) is one
    assert player(canvas, figure).reveal(one._replace(fields=None)).fields is None


def test_the_stages_of_small_in_order() -> None:
    """The detector is fixed first; truth alone has the losses of exact motion, and its rate falls to nothing."""
    assert [stage.name for stage in SMALL_STAGES] == ["frozen_detector", "joint", "joint2", "truth"]
    assert [stage.freeze_detector for stage in SMALL_STAGES] == [True, False, False, False]
    assert [stage.freeze_detector_bn for stage in SMALL_STAGES[1:]] == [True, True, True]
    assert [stage.losses.truth for stage in SMALL_STAGES] == [False, False, False, True]
    assert SMALL_STAGES[0] is FROZEN
    assert SMALL_STAGES[3].schedule.kind == "linear"
    assert (TRUTH_LOSSES.mask_mixture, JOINT_LOSSES.mask_mixture) == (0.0, 3.0)
    assert SMALL.generator.fields


def test_a_stage_takes_its_changes() -> None:
    assert joint("late", 7, 1e-4, "none", batch=3, clip_grad=2.0) == joint("late", 7, 1e-4, "none").__class__(
        **{**vars(joint("late", 7, 1e-4, "none")), "batch": 3, "clip_grad": 2.0}
    )
    stage = truth(9, augmentation="none")
    assert (stage.name, stage.steps, stage.augmentation, stage.losses) == ("truth", 9, "none", TRUTH_LOSSES)
    late = joint("late", 7, 1e-4)
    assert (late.learning_rate, late.augmentation, late.losses) == (1e-4, "varied", JOINT_LOSSES)
