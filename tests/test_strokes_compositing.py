"""Output at the still's own size: what changes, what stays, and what is enlarged; and pictures that explain it."""

import itertools

import numpy as np
import pytest
import torch

from stillmotion import Stroke, geometry
from stillmotion.systems.strokes import compositing
from stillmotion.systems.strokes.compositing import (
    Canvas,
    ChangeMask,
    changed,
    compose,
    distance_to_segment,
    from_network,
    to_network,
)
from stillmotion.systems.strokes.networks import Context, StrokesNetworks
from stillmotion.systems.strokes.object_frame import GeneratorOutput
from stillmotion.systems.strokes.visualization import draw_encoding, draw_stroke
from strokes_tools import spot, tiny_strokes

BLACK = torch.full((1, 3, 32, 32), -1.0)
NO_WAY = torch.zeros(2)


def plain(frame: torch.Tensor, still_share: torch.Tensor | None = None) -> GeneratorOutput:
    """A frame that is all generated, or blended as said."""
    return GeneratorOutput(frame, frame, frame, still_share)


def white(size: int, boxes: list[tuple[int, int, int, int]], blended: bool) -> GeneratorOutput:
    """White in the boxes (x0, y0, x1, y1, ends exclusive), black elsewhere; with a blend that keeps the rest."""
    frame, share = torch.full((1, 3, size, size), -1.0), torch.ones(1, 1, size, size)
    for x0, y0, x1, y1 in boxes:
        frame[..., y0:y1, x0:x1] = 1
        share[..., y0:y1, x0:x1] = 0
    return plain(frame, share if blended else None)


def update(mask: ChangeMask, output: GeneratorOutput, start: list[float], end: list[float]) -> torch.Tensor:
    return mask.update(output, torch.tensor(start), torch.tensor(end))


@pytest.mark.parametrize("blended", [True, False])
def test_what_is_not_connected_with_the_way_does_not_change(blended: bool) -> None:
    """A white block on the way, and another far away, which the networks made up."""
    output = white(32, [(8, 4, 12, 9), (24, 24, 28, 28)], blended)
    mask = update(ChangeMask(BLACK, BLACK), output, [6.0, 6.0], [10.0, 6.0])
    assert (mask[..., 4:9, 8:12] == 1).all()
    assert not mask[..., 18:, 18:].any()


def test_a_faint_veil_around_what_moved_does_not_show() -> None:
    """A blend with 3 % of generated RGB in every pixel would make the background flicker."""
    output = white(32, [(8, 4, 12, 9)], True)
    veiled = output._replace(still_share=output.still_share.clamp(max=0.97))
    mask = update(ChangeMask(BLACK, BLACK), veiled, [6.0, 6.0], [10.0, 6.0])
    assert int((mask > 0).sum()) == 4 * 5


def test_a_blend_that_keeps_half_of_everything_shows_only_what_changed() -> None:
    """No loss makes G keep the still where it can generate the same."""
    output = white(32, [(8, 4, 12, 9)], True)
    halves = output._replace(still_share=torch.full((1, 1, 32, 32), 0.5))
    mask = update(ChangeMask(BLACK, BLACK), halves, [6.0, 6.0], [10.0, 6.0])
    assert (mask[..., 4:9, 8:12] == 0.5).all()
    assert not mask[..., 14:].any()
    assert not mask[..., 14:, :].any()


def test_a_faint_trail_does_not_carry_the_change_to_the_other_side() -> None:
    """Below half of a change nothing is passed on; beside a clear one the faint shows."""
    frame = BLACK.clone()
    frame[..., 4:9, 8:12] = 1
    frame[..., 6, 12:] = BLACK[..., 0, 12:] + 2 * (compositing.CHANGE_FROM + 0.3 * 0.08)  # three tenths of a change
    mask = update(ChangeMask(BLACK, BLACK), plain(frame), [6.0, 6.0], [10.0, 6.0])
    assert (mask[..., 6, 8:14] > 0).all()
    assert not mask[..., 17:].any()


def test_what_was_moved_and_left_behind_stays_changed() -> None:
    """The arm pushes a thing at the start and goes on: the thing still touches the way."""
    points = [[4.0, 6.0], [10.0, 6.0], [28.0, 6.0], [28.0, 28.0]]
    change, output = ChangeMask(BLACK, BLACK), white(32, [(6, 8, 10, 11)], True)
    for start, end in itertools.pairwise(points):
        assert (update(change, output, start, end)[..., 8:11, 6:10] == 1).all()
    fresh = ChangeMask(BLACK, BLACK)
    update(fresh, output, points[2], points[3])
    assert not fresh.near[..., 8:11, 6:10].any()  # the last part of the way alone is far from it


def test_change_is_the_difference_from_the_still_however_the_networks_generate_it() -> None:
    """Neither the still nor what the networks make of it counts as changed, though they differ much."""
    unmoved = torch.zeros(1, 3, 32, 32)
    for same in (BLACK, unmoved, BLACK + 2 * compositing.CHANGE_FROM):
        assert not changed(same, BLACK, unmoved).any()
    assert (changed(torch.ones(1, 3, 32, 32), BLACK, unmoved) == 1).all()
    half = BLACK + compositing.CHANGE_FROM + compositing.CHANGE_FULL
    assert changed(half, BLACK, torch.ones(1, 3, 32, 32)).mean() == pytest.approx(0.5, abs=1e-5)


def test_distances_to_a_segment_by_hand() -> None:
    found = distance_to_segment(torch.tensor([2.0, 3.0]), torch.tensor([6.0, 3.0]), (8, 10))[0, 0]
    assert [float(found[y, x]) for y, x in ((3, 2), (3, 5), (0, 4), (7, 9), (3, 0))] == [0, 0, 3, 5, 2]
    point = distance_to_segment(torch.tensor([2.0, 3.0]), torch.tensor([2.0, 3.0]), (8, 10))[0, 0]
    assert float(point[7, 5]) == 5


def test_a_region_is_followed_round_corners_and_others_are_not_reached() -> None:
    mask = torch.zeros(1, 1, 6, 6, dtype=torch.bool)
    mask[0, 0, 0, :5] = mask[0, 0, 1:5, 5] = True  # round a corner, over a diagonal
    mask[0, 0, 4, 0] = True
    seed = torch.zeros_like(mask)
    seed[0, 0, 0, 0] = seed[0, 0, 2, 2] = True
    found = geometry.reachable(mask, seed)[0, 0]
    assert found.sum() == 9
    assert not found[4, 0]


def test_where_nothing_shows_the_stills_own_pixels_come_out_at_any_size() -> None:
    rng = np.random.default_rng(0)
    for shape in ((32, 32, 3), (90, 130, 3), (131, 70, 3), (20, 9, 3)):
        still = rng.integers(0, 256, shape, dtype=np.uint8)
        canvas = Canvas.prepare(still, 32)
        assert np.array_equal(
            compose(canvas, plain(torch.ones(1, 3, 32, 32)), torch.zeros(1, 1, 32, 32), NO_WAY), still
        )
        assert (compose(canvas, plain(torch.ones(1, 3, 32, 32)), torch.ones(1, 1, 32, 32), NO_WAY) == 255).all()


def test_what_shows_is_the_frame_enlarged_and_the_rest_is_exact() -> None:
    """128 pixels are 32 of the networks': network pixel 8 covers 32 to 35, and its ramp ends with pixel 29 and 38."""
    still = np.random.default_rng(1).integers(0, 200, (128, 128, 3), dtype=np.uint8)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8, 8] = 1
    made = compose(Canvas.prepare(still, 32), plain(torch.ones(1, 3, 32, 32)), mask, NO_WAY)
    different = (made != still).any(axis=2)
    rows, columns = np.nonzero(different)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 37, 30, 37)
    # Pixel 33 lies at 33.5 / 4 - 0.5 = 7.875 of the networks', so it takes 0.875 of the frame along each side.
    share = 0.875**2
    assert made[33, 33] == pytest.approx(255 * share + (1 - share) * still[33, 33], abs=0.51)


def test_a_still_of_the_networks_size_gets_the_frame_itself() -> None:
    frame = torch.rand(1, 3, 32, 32) * 2 - 1
    made = compose(Canvas.prepare(spot(), 32), plain(frame), torch.ones(1, 1, 32, 32), NO_WAY)
    assert np.abs(made.astype(int) - from_network(frame)[0]).max() <= 1


def test_pictures_go_to_the_networks_range_and_back() -> None:
    assert to_network(np.array([[[[0, 51, 255]]]], np.uint8)).flatten().tolist() == pytest.approx([-1, -0.6, 1])
    pictures = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    assert np.array_equal(from_network(to_network(pictures)), pictures)


def test_noise_far_away_never_reaches_the_background_in_two_hundred_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Untrained networks change everything everywhere; only what is connected with the way may show."""

    def flickering(_: object, context: Context, state: torch.Tensor, frame: object) -> GeneratorOutput:
        picture = context.still.clone()
        picture[..., 26:31, 26:31] = state.mean().sin()  # drifts
        picture[..., 10:16, 8:14] = 0.9  # the object's place
        return plain(picture)

    monkeypatch.setattr(StrokesNetworks, "generate", flickering)
    still = spot((96, 96), 24, 30, 18)
    for step in tiny_strokes().animate(still, Stroke([[32, 38], [40, 38]]), frames=200):
        assert np.array_equal(step.frame[70:], still[70:])
        assert np.array_equal(step.frame[:, 60:], still[:, 60:])


# --- pictures ------------------------------------------------------------------------------------------------------
def test_a_drawn_stroke_goes_from_blue_to_red() -> None:
    drawn = draw_stroke(np.zeros((120, 120, 3), np.uint8), np.array([[20.0, 60.0], [60.0, 60.0], [100.0, 60.0]]))
    assert drawn[60, 20].argmax() == 2
    assert drawn[60, 60].argmax() == 1
    assert drawn[60, 100].argmax() == 0
    assert not drawn[80:].any()


def test_the_drawn_encoding_has_the_whole_above_the_step() -> None:
    whole, step = torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8)
    whole[0, 1, 4, 4] = 1
    sheet = draw_encoding(whole, step)
    factor = sheet.shape[0] // 20
    assert sheet.shape[:2] == (20 * factor, 20 * factor)
    assert (sheet[factor * 5, factor * 15] == 255).all()  # after a line of one pixel around each of 8 + 2
    assert not sheet[factor * 15, factor * 15].any()
