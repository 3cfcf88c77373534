"""Output at the still's own size: what changes, what stays, and what is enlarged; and pictures that explain it."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from refusals import refuses
from stillmotion import Stroke, geometry, media
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import Renderer, hold
from stillmotion.rendering.fields import PAINT, STATIC
from stillmotion.systems.strokes import compositing
from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.compositing import (
    ChangeMask,
    as_fields,
    changed,
    distance_to_segment,
    from_network,
    to_network,
)
from stillmotion.systems.strokes.config import StrokesConfig
from stillmotion.systems.strokes.networks import Context, StrokesNetworks
from stillmotion.systems.strokes.object_frame import GeneratorOutput
from stillmotion.systems.strokes.visualization import draw_encoding, draw_stroke
from strokes_tools import TINY_FIELDS, TINY_OBJECT, block, fields_of, moves, predict_by_hand, spot, tiny_strokes

BLACK = torch.full((1, 3, 32, 32), -1.0)


def plain(frame: torch.Tensor) -> GeneratorOutput:
    """A frame of the paper's generator."""
    return GeneratorOutput(frame, frame)


def white(boxes: list[tuple[int, int, int, int]], fields: bool) -> GeneratorOutput:
    """White in the boxes (x0, y0, x1, y1, ends exclusive), black elsewhere; with fields, painted there."""
    mask = torch.stack([block(*box) for box in boxes]).amax(0)
    output = plain((2 * mask - 1).expand(1, 3, 32, 32))
    return output._replace(fields=moves(mask, PAINT)) if fields else output


def update(mask: ChangeMask, output: GeneratorOutput, start: list[float], end: list[float]) -> torch.Tensor:
    return mask.update(output, torch.tensor(start), torch.tensor(end))


def render(still: np.ndarray, output: GeneratorOutput, mask: torch.Tensor) -> np.ndarray:
    """A frame at the still's own size, as an animation without a plate makes it."""
    return Renderer(Canvas.prepare(still, 32, None, torch.device("cpu")), None).render(hold(as_fields(output), mask))


@pytest.mark.parametrize("fields", [True, False])
def test_what_is_not_connected_with_the_way_does_not_change(fields: bool) -> None:
    """A white block on the way, and another far away, which the networks made up."""
    output = white([(8, 4, 12, 9), (24, 24, 28, 28)], fields)
    mask = update(ChangeMask(BLACK, BLACK), output, [6.0, 6.0], [10.0, 6.0])
    assert (mask[..., 4:9, 8:12] == 1).all()
    assert not mask[..., 18:, 18:].any()


def test_fields_show_in_full_wherever_a_region_may_change_and_a_generated_frame_as_far_as_it_differs() -> None:
    """A block at the border that differs by half of what counts in full; fields say what of it is the still's."""
    half = (compositing.CHANGE_FROM + compositing.CHANGE_FULL) / 2 + 0.01
    frame = BLACK + 2 * half * block(0, 0, 8, 8)
    share = (half - compositing.CHANGE_FROM) / (compositing.CHANGE_FULL - compositing.CHANGE_FROM)
    for fields, wanted in ((fields_of((0.5, 0.5, 0.0, 0.0)), 1.0), (None, share)):
        mask = update(ChangeMask(BLACK, BLACK), GeneratorOutput(frame, frame, fields), [4.0, 4.0], [6.0, 4.0])
        assert mask[0, 0, 1:6, 1:6].unique().tolist() == pytest.approx([wanted], abs=1e-5)
        assert not mask[..., 13:].any()
        if fields is not None:
            assert (mask[..., :6, :6] == 1).all()  # at the picture's border as well
            assert 0 < mask[0, 0, 4, 10] < 1  # a soft edge


def test_a_faint_veil_around_what_moved_does_not_show() -> None:
    """Fields with 3 % of paint in every pixel would make the background flicker."""
    still = np.random.default_rng(0).integers(0, 200, (96, 96, 3), np.uint8)
    output = white([(8, 4, 12, 9)], True)
    shares = output.fields.shares.clone()  # type: ignore[union-attr]
    shares[:, STATIC], shares[:, PAINT] = shares[:, STATIC].clamp(max=0.97), shares[:, PAINT].clamp(min=0.03)
    made = render(still, output._replace(fields=output.fields._replace(shares=shares)), torch.ones(1, 1, 32, 32))  # type: ignore[union-attr]
    rows, columns = np.nonzero((made != still).any(2))
    # 3 pixels to one of the networks, and a ramp of less than 3 more beyond those.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (11, 27, 23, 36)


def test_a_blend_that_keeps_half_of_everything_shows_only_what_changed() -> None:
    """No loss makes G keep the still where it can generate the same."""
    output = white([(8, 4, 12, 9)], True)._replace(fields=fields_of((0.0, 0.5, 0.0, 0.5), paint=1.0))
    mask = update(ChangeMask(BLACK, BLACK), output, [6.0, 6.0], [10.0, 6.0])
    assert (mask[..., 4:9, 8:12] == 1).all()
    assert not mask[..., 16:].any()
    assert not mask[..., 16:, :].any()
    made = render(np.zeros((32, 32, 3), np.uint8), output, mask)
    assert made[6, 10].tolist() == pytest.approx([127.5] * 3, abs=1)
    assert not made[:, 16:].any()


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
    change, output = ChangeMask(BLACK, BLACK), white([(6, 8, 10, 11)], True)
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


def test_what_the_papers_generator_makes_is_all_paint() -> None:
    frame = torch.rand(2, 3, 32, 32) * 2 - 1
    fields = as_fields(plain(frame))
    assert fields.shares.mean((0, 2, 3)).tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(fields.paint, (frame + 1) / 2)
    assert fields.displacement.shape == (2, 32, 32, 2)
    assert not fields.displacement.any()
    own = fields_of((1.0, 0.0, 0.0, 0.0))
    assert as_fields(GeneratorOutput(frame, frame, own)) is own


def test_where_nothing_shows_the_stills_own_pixels_come_out_at_any_size() -> None:
    rng, ones = np.random.default_rng(0), plain(torch.ones(1, 3, 32, 32))
    for shape in ((32, 32, 3), (90, 130, 3), (131, 70, 3), (20, 9, 3)):
        still = rng.integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(render(still, ones, torch.zeros(1, 1, 32, 32)), still)
        assert (render(still, ones, torch.ones(1, 1, 32, 32)) == 255).all()


def test_what_shows_is_the_frame_enlarged_and_the_rest_is_exact() -> None:
    """128 pixels are 32 of the networks': network pixel 8 covers 32 to 35, and its ramp ends with pixel 29 and 38."""
    still = np.random.default_rng(1).integers(0, 200, (128, 128, 3), dtype=np.uint8)
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8, 8] = 1
    made = render(still, plain(torch.ones(1, 3, 32, 32)), mask)
    different = (made != still).any(axis=2)
    rows, columns = np.nonzero(different)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 37, 30, 37)
    # Pixel 33 lies at 33.5 / 4 - 0.5 = 7.875 of the networks', so it takes 0.875 of the frame along each side.
    share = 0.875**2
    assert made[33, 33] == pytest.approx(255 * share + (1 - share) * still[33, 33], abs=0.51)


def test_a_still_of_the_networks_size_gets_the_frame_itself() -> None:
    frame = torch.rand(1, 3, 32, 32) * 2 - 1
    made = render(spot(), plain(frame), torch.ones(1, 1, 32, 32))
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


# --- the figure and the plate --------------------------------------------------------------------------------------
SQUARE = (slice(40, 64), slice(24, 48))
"""Rows and columns of a bright square on a still of 128 x 128 pixels, four to one of the networks."""

STROKE = Stroke(np.array([[36.0, 52.0], [56.0, 52.0], [96.0, 52.0]]))  # 60 pixels to the right


def textured(colour: int | None = 240) -> np.ndarray:
    """A wall of 60 to 120 grey levels with a bright square; without it for None."""
    wall = np.random.default_rng(0).integers(60, 121, (128, 128, 1), np.uint8).repeat(3, 2)
    if colour is not None:
        wall[SQUARE] = colour
    return wall


@pytest.fixture
def walker(monkeypatch: pytest.MonkeyPatch) -> Strokes:
    """A system whose G knows the square, in the object's frame, and moves it."""
    square = block(6, 10, 12, 16)
    predict_by_hand(monkeypatch, moves(square), square)
    return tiny_strokes(base=TINY_OBJECT)


def test_the_old_place_shows_the_plate_and_the_wall_outside_stays_as_it_is(walker: Strokes) -> None:
    still = textured()
    *_, last = walker.animate(still, STROKE, frames=3, layers=True)
    made, old = last.frame, last.frame[SQUARE]
    assert old.max() <= 130  # no grey level of the square
    behind = last.layers["plate"][SQUARE]
    assert np.abs(old.astype(int) - behind)[1:-1, 1:-1].max() <= 1  # alpha rounds the corners
    assert np.abs(made[SQUARE[0], 84:108][2:-2, 2:-2].astype(int) - 240).max() <= 1  # where the square is now
    # 24 pixels are six of the networks': what is changed around them ends three further, and with a ramp.
    outside = np.ones((128, 128), bool)
    for left in (24, 84):
        outside[40 - 16 : 64 + 16, left - 16 : left + 24 + 16] = False
    assert np.array_equal(made[outside], still[outside])
    assert (made != still).any(2)[~outside].any()


def test_without_a_plate_the_still_shows_through(walker: Strokes) -> None:
    still = textured()
    steps = list(walker.animate(still, STROKE, frames=3, layers=True, plate="none"))
    assert np.array_equal(steps[-1].frame[SQUARE], still[SQUARE])  # the square is there twice
    assert np.abs(steps[-1].frame[46:58, 90:102].astype(int) - 240).max() <= 1
    for step in steps:
        assert np.array_equal(step.layers["figure"], still)
        assert np.array_equal(step.layers["plate"], still)


def test_a_plate_of_ones_own_shows_where_the_object_was(walker: Strokes, tmp_path: Path) -> None:
    still, own = textured(), textured(None)
    own[SQUARE] = (20, 160, 40)
    media.write_picture(tmp_path / "own.png", own)
    *_, last = walker.animate(still, STROKE, frames=3, layers=True, plate=tmp_path / "own.png")
    assert np.abs(last.frame[SQUARE].astype(int) - own[SQUARE]).max() <= 1
    assert np.array_equal(last.layers["plate"], own)
    media.write_picture(tmp_path / "small.png", own[:64])
    wrong = walker.animate(still, STROKE, frames=3, plate=tmp_path / "small.png")
    refuses("The plate .*small.png is 128 x 64 pixels, and the still 128 x 128", wrong.frames)


def test_a_mask_of_ones_own_is_the_figure(walker: Strokes, tmp_path: Path) -> None:
    """It has the upper half of the square alone: that half has a plate behind it, and its lower half stays."""
    still, mask = textured(), np.zeros((128, 128, 3), np.uint8)
    mask[40:52, 24:48] = 255
    media.write_picture(tmp_path / "mask.png", mask)
    *_, last = walker.animate(still, STROKE, frames=3, layers=True, mask=tmp_path / "mask.png")
    wanted = np.where(mask > 0, still, np.rint(still * 0.25)).astype(np.uint8)
    assert np.abs(last.layers["figure"].astype(int) - wanted).max() <= 1
    plate = last.layers["plate"]
    assert np.array_equal(plate[58:], still[58:])  # widened by a 32nd of the side
    assert not np.array_equal(plate[40:52, 24:48], still[40:52, 24:48])
    assert np.array_equal(last.frame[60:64, 24:48], still[60:64, 24:48])


@pytest.mark.parametrize("share", [0.0, 1.0], ids=["nothing", "everything"])
def test_a_still_in_which_no_figure_is_found_is_animated_all_the_same(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_by_hand(monkeypatch, moves(block(6, 10, 12, 16)), torch.full((32, 32), share))
    if not share:  # what moves at the start would be a figure as well
        monkeypatch.setattr(StrokesNetworks, "figure", lambda *_: torch.zeros(1, 1, 32, 32))
    still = textured()
    steps = list(tiny_strokes(base=TINY_OBJECT).animate(still, STROKE, frames=3, layers=True))
    assert all(set(step.layers) == set(Strokes.layer_captions) for step in steps)
    assert all(np.array_equal(step.layers[name], still) for step in steps for name in ("figure", "plate"))
    assert np.abs(steps[-1].frame[46:58, 90:102].astype(int) - 240).max() <= 1


@pytest.mark.parametrize("options", [{}, {"generator__fields": True}, {"base": TINY_OBJECT}], ids=str)
def test_layers_of_the_figure_and_the_plate_are_as_long_as_the_frames(
    options: dict[str, Any], tmp_path: Path
) -> None:
    animation = tiny_strokes(**options).animate(spot((40, 60)), Stroke([[10, 12], [24, 20]]), frames=3, layers=True)
    assert animation.save(tmp_path / "out.png", layers=tmp_path / "layers") == 3
    for name in Strokes.layer_captions:
        (width,) = {len(step.layers[name][0]) for step in animation}
        frames, _ = media.read_video(tmp_path / "layers" / f"{name}.png", frame_width=width)
        assert len(frames) == 3, name
    first, second, _ = animation
    assert first.layers["figure"].shape == second.layers["plate"].shape == (40, 60, 3)


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


@pytest.mark.parametrize("config", [TINY_FIELDS, TINY_OBJECT])
def test_what_is_warped_is_the_large_still_itself(config: StrokesConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four pixels of the square to one of the networks: 2 to the right and 1 up, from 1 further to the right."""
    large = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    bent = geometry.displacement_to_normalised(torch.tensor([[1.0, 0.0]]), (32, 32)).expand(1, 32, 32, 2)
    predict_by_hand(monkeypatch, fields_of((1.0, 0.0, 0.0, 0.0))._replace(displacement=bent))
    monkeypatch.setattr("stillmotion.systems.strokes.compositing.REACH", 9.0)
    stroke = Stroke(np.array([[60.0, 50.0], [64.0, 48.0], [68.0, 46.0]]))
    *_, made = tiny_strokes(base=config).animate(large, stroke, frames=3, plate="none").frames()
    assert np.abs(made[8:-8, 16:-16].astype(int) - large[12:-4, 12:-20]).max() <= 1
