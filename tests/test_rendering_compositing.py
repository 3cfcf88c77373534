"""Frames at the still's own size: what stays untouched, what moves, and what alpha cuts, by hand."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from refusals import refuses
from stillmotion import geometry, media
from stillmotion.rendering import compositing
from stillmotion.rendering.backdrop import Backdrop
from stillmotion.rendering.canvas import Canvas, to_network
from stillmotion.rendering.compositing import LAYERS, Renderer, cut, hold, settled, suppress_slow
from stillmotion.rendering.fields import PAINT, PLATE, STATIC, WARPED, Fields

CPU = torch.device("cpu")
S = 64
SIZES = [(64, 64), (200, 200), (37, 90), (300, 101), (1, 1), (2, 300), (5, 1)]


def noise(height: int, width: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def canvas_of(picture: np.ndarray) -> Canvas:
    return Canvas.prepare(picture, S, None, CPU)


def fields(shares: tuple[float, ...], move: tuple[float, float] = (0.0, 0.0), paint: float = 0.0) -> Fields:
    """The same everywhere; `move` in pixels of the network, where the still is sampled."""
    displacement = torch.tensor(move).mul(2 / (S - 1)).expand(1, S, S, 2)
    return Fields(
        displacement, torch.tensor(shares).view(1, 4, 1, 1).expand(1, 4, S, S), torch.full((1, 3, S, S), paint)
    )


def backdrop_of(
    picture: np.ndarray, alpha: np.ndarray, plate: np.ndarray, unsure: np.ndarray | None = None
) -> tuple[Canvas, Backdrop]:
    """A canvas, and a backdrop whose alpha is right everywhere, if nothing else is said."""
    small = to_network(plate, S, CPU)
    unsure = np.zeros(alpha.shape, bool) if unsure is None else unsure
    known = torch.cat([small, torch.ones_like(small[:, :1])], dim=1)
    return canvas_of(picture), Backdrop(alpha.astype(np.float32), unsure, plate, known)


def square_alpha(height: int, width: int) -> np.ndarray:
    alpha = np.zeros((height, width), np.float32)
    alpha[height // 4 : height // 2 + 1, width // 4 : width // 2 + 1] = 1
    return alpha


def random_fields(seed: int, moving: float) -> Fields:
    """In blocks of cells, some of which are unmoved."""
    generator = torch.Generator().manual_seed(seed)
    shares = (3 * torch.randn(1, 4, S, S, generator=generator)).softmax(1)
    unmoved = F.interpolate((torch.rand(1, 1, 8, 8, generator=generator) > moving).float(), (S, S), mode="nearest")
    one = torch.zeros_like(shares)
    one[:, STATIC] = 1
    displacement = 0.2 * torch.randn(1, 8, 8, 2, generator=generator)
    return Fields(
        geometry.resize_grid(displacement, (S, S)),
        unmoved * one + (1 - unmoved) * shares,
        torch.rand(1, 3, S, S, generator=generator),
    )


def cut_four(shares: np.ndarray, moved: np.ndarray, here: np.ndarray) -> np.ndarray:
    """`cut` of four shares that sum to one, 4 x h x w, and four again."""
    scaled = np.stack([2 * shares[WARPED], shares[STATIC], 2 * shares[PLATE], shares[PAINT], 1.001 - shares[WARPED]])
    front, kept, paint = cut(scaled, moved, here)
    return np.stack([front, *((1 - front) * share for share in (kept, 1 - kept - paint, paint))])


# --- the renderer --------------------------------------------------------------------------------------------------
def naive(renderer: Renderer, made: Fields, residual: Tensor | None) -> np.ndarray:
    """The whole frame at once, in the plainest way."""
    canvas = renderer.canvas
    rows, columns = canvas.enlarger()
    height, width = canvas.picture.shape[:2]
    shares = settled(made.shares)
    pixels = suppress_slow(made.displacement)[0].permute(2, 0, 1) * (S - 1) / 2 * canvas.scale
    offsets, shares, paint = (rows @ maps @ columns.T for maps in (pixels, shares[0], made.paint[0]))
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    grid = geometry.to_normalised(torch.stack([x + offsets[0], y + offsets[1]], -1), (height, width))[None]
    still = media.to_tensor(canvas.picture[None])
    moved = geometry.warp(still, grid, "border")[0]
    parts = list(shares.numpy())
    plate = torch.zeros_like(still)
    if renderer.backdrop is not None:
        here = torch.from_numpy(renderer.backdrop.alpha)
        near = (compositing.widened(renderer.backdrop.alpha > 0.05) > 0) & ~renderer.backdrop.unsure
        there = geometry.warp(torch.where(torch.from_numpy(near), here, 1.0)[None, None], grid, "border")[0, 0]
        parts = cut_four(np.stack(parts), there.numpy(), here.numpy())
        plate = media.to_tensor(renderer.backdrop.plate[None])
    sources = {WARPED: moved, STATIC: still[0], PLATE: plate[0], PAINT: paint}
    frame = sum(torch.from_numpy(parts[source]) * colours for source, colours in sources.items())
    if residual is not None:
        frame = frame + rows @ residual[0] @ columns.T
    return media.to_pictures(frame[None])[0]


@pytest.mark.parametrize("with_backdrop", [False, True])
@pytest.mark.parametrize("part_pixels", [1, 3000, compositing.PART_PIXELS])
@pytest.mark.parametrize("size", [*SIZES, (130, 61)])
def test_a_frame_in_parts_is_the_whole_frame(
    size: tuple[int, int], part_pixels: int, with_backdrop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compositing, "PART_PIXELS", part_pixels)
    unsure = np.random.default_rng(0).random(size) < 0.2
    canvas, backdrop = backdrop_of(noise(*size), square_alpha(*size), noise(*size, seed=3), unsure)
    renderer = Renderer(canvas, backdrop if with_backdrop else None)
    for seed, moving in enumerate((0.02, 0.3, 1.0)):
        made = random_fields(seed, moving)
        if not with_backdrop:  # a plate that is not there has no share, see below
            shares = made.shares.clone()
            shares[:, WARPED] += shares[:, PLATE]
            shares[:, PLATE] = 0
            made = made._replace(shares=shares)
        difference = renderer.render(made).astype(int) - naive(renderer, made, None)
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("size", [(37, 90), (200, 200), (1, 1)])
def test_a_residual_is_enlarged_and_added(size: tuple[int, int]) -> None:
    renderer, made = Renderer(canvas_of(noise(*size)), None), fields((0.5, 0.2, 0.0, 0.3), (1.0, 0.0), paint=0.4)
    residual = 0.3 * torch.randn(1, 3, S, S, generator=torch.Generator().manual_seed(0))
    difference = renderer.render(made, residual).astype(int) - naive(renderer, made, residual)
    assert np.abs(difference).max() <= 1


def test_a_residual_by_hand() -> None:
    renderer = Renderer(canvas_of(np.full((100, 100, 3), 100, np.uint8)), None)
    residual = torch.full((1, 3, S, S), 25 / 255)
    assert (renderer.render(fields((1.0, 0.0, 0.0, 0.0)), residual) == 125).all()
    assert (renderer.render(fields((0.0, 1.0, 0.0, 0.0)), residual) == 100).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("with_backdrop", [False, True])
def test_where_nothing_moves_the_still_keeps_its_own_bytes(size: tuple[int, int], with_backdrop: bool) -> None:
    picture = noise(*size)
    canvas, backdrop = backdrop_of(picture, square_alpha(*size), picture)
    renderer = Renderer(canvas, backdrop if with_backdrop else None)
    unmoved = fields((0.0, 1.0, 0.0, 0.0), (30.0, -30.0), paint=1.0)
    nearly = fields((0.01, 0.97, 0.01, 0.01), (30.0, -30.0), paint=1.0)
    drifting = fields((1.0, 0.0, 0.0, 0.0), (0.2, 0.2))  # less than what counts as motion
    for made in (unmoved, nearly):
        frame = renderer.render(made)
        assert np.array_equal(frame, picture)
        assert frame is not canvas.picture
    if not with_backdrop:
        assert np.array_equal(renderer.render(drifting), picture)


@pytest.mark.parametrize(("size", "scale"), [((256, 256), 4), ((128, 80), 2), ((100, 192), 3), ((64, 64), 1)])
def test_a_still_moved_by_pixels_of_the_network_moves_by_as_many_of_its_own(
    size: tuple[int, int], scale: int
) -> None:
    """Looking three pixels to the left and two down moves the content to the right and up."""
    picture = noise(*size)
    x, y = 3 * scale, 2 * scale
    frame = Renderer(canvas_of(picture), None).render(fields((1.0, 0.0, 0.0, 0.0), (-3.0, 2.0)))
    assert np.array_equal(frame[:-y, x:], picture[y:, :-x])
    assert np.array_equal(frame[-y:, x:], np.repeat(picture[-1:, :-x], y, 0))  # the border is replicated


def test_an_extreme_displacement_shows_the_border() -> None:
    picture = noise(37, 90)
    frame = Renderer(canvas_of(picture), None).render(fields((1.0, 0.0, 0.0, 0.0), (5 * 31.5, 0.0)))
    assert np.array_equal(frame, np.repeat(picture[:, -1:], 90, 1))


def test_only_the_part_that_changes_is_touched() -> None:
    """Cells 8 to 11 and 40 of 64, at four pixels each: bilinearly they reach to the centres of their neighbours."""
    picture = noise(256, 256)
    made = fields((0.0, 1.0, 0.0, 0.0), paint=1.0)
    shares = made.shares.clone()
    for rows, columns in ((slice(8, 12), slice(20, 22)), (slice(40, 41), slice(60, 61))):
        shares[0, STATIC, rows, columns], shares[0, PAINT, rows, columns] = 0, 1
    frame = Renderer(canvas_of(picture), None).render(made._replace(shares=shares))
    touched = np.zeros((256, 256), bool)
    touched[30:50, 78:90] = True
    touched[158:166, 238:246] = True
    assert np.array_equal(frame[~touched], picture[~touched])
    assert (frame[34:46, 82:86] == 255).all()
    assert (frame[30, 78:90] != picture[30, 78:90]).any()
    assert (frame[49, 78:90] != picture[49, 78:90]).any()
    assert (frame[162, 238:246] != picture[162, 238:246]).any()


def test_no_work_where_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts are as wide as what changes in their rows, and there are none between."""
    monkeypatch.setattr(compositing, "PART_PIXELS", 8 * 256)
    renderer = Renderer(canvas_of(noise(256, 256)), None)
    changes = np.zeros((S, S), bool)
    changes[2:6, 3], changes[50:52, 60:62] = True, True
    parts = list(renderer._parts(changes))
    sides = [[pixels.stop - pixels.start for pixels in part.place] for part in parts]
    assert sum(height * width for height, width in sides) < 800
    assert all(height <= 8 * 256 // (62 - 3) / 4 + 1 for height, _ in sides)
    assert list(renderer._parts(np.zeros((S, S), bool))) == []


def test_a_plate_without_a_backdrop_is_not_black() -> None:
    """Its share goes to the others."""
    picture = noise(70, 50)
    frame = Renderer(canvas_of(picture), None).render(fields((0.3, 0.0, 0.7, 0.0)))
    assert np.array_equal(frame, picture)
    flat = Renderer(canvas_of(np.full((70, 50, 3), 120, np.uint8)), None)
    assert (flat.render(fields((0.0, 0.0, 1.0, 0.0), paint=180 / 255)) == 140).all()  # a third of each


@pytest.mark.parametrize("shape", [(2, 64, 64), (1, 32, 32), (1, 64, 32)])
def test_fields_of_another_size_and_of_several_frames_are_refused(shape: tuple[int, int, int]) -> None:
    count, height, width = shape
    made = Fields(torch.zeros(*shape, 2), torch.zeros(count, 4, height, width), torch.zeros(count, 3, height, width))
    refuses(
        "The shares must be 1 x 4 x 64 x 64, not",
        Renderer(canvas_of(noise(9, 9)), None).render,
        made,
        error=ValueError,
    )


# --- the figure's edges --------------------------------------------------------------------------------------------
def moved_square(wider: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Fields]:
    """A square of 40 pixels that moves by 48 to the right before a wall: still, alpha, wanted frame, soft fields.

    Args:
        wider: by how many cells the sources reach over the figure.
    """
    wall = np.full((128, 128, 3), (60, 130, 200), np.uint8)
    still, wanted, alpha = wall.copy(), wall.copy(), np.zeros((128, 128), np.float32)
    still[40:80, 20:60], wanted[40:80, 68:108], alpha[40:80, 20:60] = (220, 40, 90), (220, 40, 90), 1
    shares = torch.zeros(1, 4, S, S)
    shares[:, STATIC] = 1
    for source, left in ((PLATE, 10), (WARPED, 34)):
        there = np.s_[20 - wider : 40 + wider, left - wider : left + 20 + wider]
        shares[0, STATIC][there], shares[0, source][there] = 0, 1
    made = fields((0.0, 0.0, 0.0, 0.0), (-24.0, 0.0))
    return (
        still,
        alpha,
        wanted,
        made._replace(shares=F.avg_pool2d(F.pad(shares, (1, 1, 1, 1), mode="replicate"), 3, 1)),
    )


@pytest.mark.parametrize("wider", [0, 1])
def test_alpha_ends_the_moved_figure_and_the_plate_covers_the_rim_of_its_old_outline(wider: int) -> None:
    still, alpha, wanted, made = moved_square(wider)
    plate = np.full_like(still, (60, 130, 200))
    canvas, backdrop = backdrop_of(still, alpha, plate)
    wrong = np.abs(Renderer(canvas, backdrop).render(made).astype(int) - wanted).max(-1) > 2
    if not wider:  # soft shares are below a half at a corner's outermost pixels
        assert wrong.sum() <= 24
        for top, left in ((40, 20), (40, 68), (78, 20), (78, 68)):
            wrong[top : top + 2, [left, left + 1, left + 38, left + 39]] = False
    assert not wrong.any()
    # A blend by the soft shares alone, of the same sources.
    rows, columns = canvas.enlarger()
    warped, kept, hidden, _ = (rows @ share @ columns.T for share in made.shares[0])
    front = np.roll(still, 48, axis=1)
    soft = sum(share.numpy()[..., None] * one for share, one in ((warped, front), (kept, still), (hidden, plate)))
    assert np.abs(soft - wanted).max() > 20


def test_far_from_the_figure_the_still_moves_as_it_is() -> None:
    """A camera's pan moves the wall too, whose alpha is zero."""
    picture = noise(128, 128)
    alpha = np.zeros((128, 128), np.float32)
    alpha[100:120, 100:120] = 1
    canvas, backdrop = backdrop_of(picture, alpha, np.zeros_like(picture))
    frame = Renderer(canvas, backdrop).render(fields((1.0, 0.0, 0.0, 0.0), (-4.0, 0.0)))
    assert np.array_equal(frame[:90, 8:], picture[:90, :-8])
    assert (frame[98:100, 110:125] == 0).all()  # near the figure it is the plate that shows


def test_where_alpha_may_be_wrong_the_still_moves_as_it_is() -> None:
    """The alpha has only the left half of a square, beside which frames have shown figure too."""
    picture = noise(128, 128)
    alpha, unsure = np.zeros((128, 128), np.float32), np.zeros((128, 128), bool)
    alpha[40:80, 40:60], unsure[40:80, 60:62] = 1, True
    moved = fields((1.0, 0.0, 0.0, 0.0), (-10.0, 0.0))
    shown = []
    for doubtful in (np.zeros_like(unsure), unsure):
        canvas, backdrop = backdrop_of(picture, alpha, np.zeros_like(picture), doubtful)
        shown.append(Renderer(canvas, backdrop).render(moved)[50, 60:84])
    assert np.array_equal(shown[0][:20], picture[50, 40:60])
    assert (shown[0][20:] == 0).all()  # the plate
    assert np.array_equal(shown[1][:22], picture[50, 40:62])
    assert (shown[1][22:] == 0).all()


def test_another_backdrop_is_shown_from_the_next_frame_on() -> None:
    picture = noise(90, 60)
    moved = random_fields(3, 1.0)
    canvas, first = backdrop_of(picture, square_alpha(90, 60), noise(90, 60, seed=3))
    second = backdrop_of(picture, square_alpha(90, 60)[::-1].copy(), noise(90, 60, seed=4))[1]
    renderer = Renderer(canvas, first)
    renderer.render(moved)
    for backdrop in (second, None, first):
        renderer.show(backdrop)
        assert renderer.backdrop is backdrop
        assert np.array_equal(renderer.render(moved), Renderer(canvas, backdrop).render(moved))


@pytest.mark.parametrize(
    ("shares", "moved", "here", "expected"),
    [
        # Nothing moved: the still's own; a thousandth is the plate's.
        ((0, 1, 0, 0), 0, 0, (0, 1 / 1.001, 0.001 / 1.001, 0)),
        # Half of the moved still is enough where its figure is, and alpha its share of it.
        ((0.55, 0.45, 0, 0), 1, 0, (1, 0, 0, 0)),
        ((0.5, 0.5, 0, 0), 0.7, 0, (0.7, 0.3 * 0.5 / 0.501, 0.3 * 0.001 / 0.501, 0)),
        ((0.2, 0.6, 0.1, 0.1), 1, 0, (0.4, 0.6 * 0.6 / 0.801, 0.6 * 0.101 / 0.801, 0.6 * 0.1 / 0.801)),
        # Where no figure comes from, the others have everything, in their relation; if they are nothing, the plate.
        ((0.5, 0.1, 0.1, 0.3), 0, 0, (0, 0.1 / 0.501, 0.101 / 0.501, 0.3 / 0.501)),
        ((1, 0, 0, 0), 0, 0, (0, 0, 1, 0)),
        # The rim of the old outline: half of plate is enough to cover what the still's figure left.
        ((0, 0.45, 0.55, 0), 0, 1, (0, 0, 1, 0)),
        ((0, 0.9, 0.1, 0), 0, 1, (0, 0.9 * 0.8 / 1.001, (0.9 * 0.2 + 0.101) / 1.001, 0)),
        ((0, 0.9, 0.1, 0), 0, 0.5, (0, 0.9 * 0.9 / 1.001, (0.9 * 0.1 + 0.101) / 1.001, 0)),
        ((0, 0.6, 0.4, 0), 0, 0, (0, 0.6 / 1.001, 0.401 / 1.001, 0)),
    ],
)
def test_cut_shares_by_hand(
    shares: tuple[float, ...], moved: float, here: float, expected: tuple[float, ...]
) -> None:
    found = cut_four(np.array(shares)[:, None, None], np.array([[moved]]), np.array([[here]]))
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.1, 30))
@example(0, 1e4)
def test_cut_shares_sum_to_one_and_are_not_negative(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    shares = (scale * torch.randn(4, 5, 5, generator=generator)).softmax(0).numpy()
    found = cut_four(shares, *torch.rand(2, 5, 5, generator=generator).numpy())
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert found.min() > -1e-3


# --- shares and motion ---------------------------------------------------------------------------------------------
def test_what_is_all_but_unmoved_is_settled() -> None:
    shares = torch.tensor([[0.02, 0.97, 0.005, 0.005], [0.02, 0.95, 0.02, 0.01], [0.97, 0.03, 0.0, 0.0]])
    found = settled(shares.T[None, :, None])[0, :, 0].T
    assert found[0].tolist() == [0, 1, 0, 0]
    assert torch.equal(found[1:], shares[1:])


def test_slow_motion_is_suppressed_and_fast_motion_is_left() -> None:
    step = torch.tensor([2 / 63, 2 / 31])
    displacement = torch.zeros(1, 32, 64, 2)
    displacement[0, 0, :5] = torch.tensor([[0.2, 0.0], [0.65, 0.0], [1.0, 0.0], [0.0, -0.65], [3.0, -4.0]]) * step
    found = suppress_slow(displacement)[0, 0, :5] / step
    expected = torch.tensor([[0.0, 0.0], [0.325, 0.0], [1.0, 0.0], [0.0, -0.325], [3.0, -4.0]])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_held_fields_show_a_share_of_themselves() -> None:
    made = fields((0.4, 0.2, 0.0, 0.4), (3.0, 1.0), paint=0.7)
    weight = torch.full((1, 1, S, S), 0.25)
    weight[..., 0] = 0
    found = hold(made, weight)
    torch.testing.assert_close(found.shares[0, :, 5, 5], torch.tensor([0.1, 0.8, 0.0, 0.1]))
    assert found.shares[0, :, 5, 0].tolist() == [0, 1, 0, 0]
    assert found.displacement is made.displacement
    assert found.paint is made.paint


# --- what is known of the still ------------------------------------------------------------------------------------
def test_layers_show_the_figure_and_the_plate() -> None:
    picture, plate = np.full((4, 6, 3), 200, np.uint8), noise(4, 6)
    alpha = np.zeros((4, 6))
    alpha[1, 2], alpha[1, 3] = 1, 0.5
    canvas, backdrop = backdrop_of(picture, alpha, plate)
    renderer = Renderer(canvas, backdrop)
    layers = renderer.layers()
    assert set(layers) == set(LAYERS)
    assert layers["figure"][1, 1:5, 0].tolist() == [50, 200, 125, 50]
    assert layers["figure"].dtype == np.uint8
    assert np.array_equal(layers["plate"], plate)
    assert renderer.small_plate is backdrop.small
    without = Renderer(canvas, None)
    assert without.layers() == {}
    assert without.small_plate is None
