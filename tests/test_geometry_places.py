"""Bodies, polylines, hulls and the flood fill of `geometry`, worked out by hand."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stillmotion import geometry


def test_a_body_is_its_mean_and_root_mean_square_distance() -> None:
    """Two bodies: a 6 x 8 rectangle's corners, all 5 from its centre, and one whose distances are 1, 1, 7, 7."""
    rectangle = torch.tensor([[0.0, 0], [6, 0], [0, 8], [6, 8]])
    cross = torch.tensor([[9.0, 2], [11, 2], [10, 9], [10, -5]])
    found = geometry.place(torch.stack([rectangle, cross]))
    assert found.centre.tolist() == [[3, 4], [10, 2]]
    assert found.size.tolist() == pytest.approx([5, 5])  # of the cross: (1 + 1 + 49 + 49) / 4 = 25


def test_distances_from_a_polyline() -> None:
    """An L from (0, 0) by (4, 0) to (4, 2), whose corner stands twice: a segment of no length."""
    vertices = torch.tensor([[0.0, 0], [4, 0], [4, 0], [4, 2]])
    points = torch.tensor([[1.0, 3], [3, 1.5], [-3, 4], [4, 5], [2, 0], [4.5, 1]])
    wanted = [3.0, 1, 5, 3, 0, 0.5]
    assert geometry.distance_to_polyline(points, vertices).tolist() == pytest.approx(wanted, abs=1e-6)
    alone = geometry.distance_to_polyline(points[:3], torch.tensor([[0.0, -1]]))
    assert alone.tolist() == pytest.approx([math.hypot(1, 4), math.hypot(3, 2.5), math.hypot(3, 5)])


def picture(rows: str) -> Tensor:
    return torch.tensor([[mark == "#" for mark in row] for row in rows.split()])[None, None]


def test_a_flood_fill_takes_whole_components() -> None:
    """A snake that ends at the border, a neighbour across a corner, and one that only the row's end separates."""
    mask = picture("..###. ..#... ..#### .....# #...#. #.#...")
    only = picture("..###. ..#... ..#### .....# ....#. ......")  # not what begins the next row
    for seed in ("..#... ...... ...... ...... ...... ......", "...... ...... ...... ...... ....#. ......"):
        assert torch.equal(geometry.reachable(mask, picture(seed)), only)
    both = picture("..#... ...... ...... ...... #..... ......")
    assert torch.equal(geometry.reachable(mask, both), picture("..###. ..#... ..#### .....# #...#. #....."))
    beside = picture("...... ...#.. ...... ...... ...... ......")  # a seed off the mask fills nothing
    assert not geometry.reachable(mask, beside).any()


def test_a_run_ends_with_its_row() -> None:
    """The last pixel of a row and the first of the next follow each other in memory only."""
    mask, seed = picture("..## ##.. #..."), picture("...# .... ....")
    assert torch.equal(geometry.reachable(picture("..## .... ##.."), seed), picture("..## .... ...."))
    assert torch.equal(geometry.reachable(mask, seed), picture("..## ##.. #..."))  # joined across the corner


def test_runs_are_filled_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An arch, seeded at its foot: at most a round for each corner, and the last, which adds nothing."""
    rounds, pool = [], torch.nn.functional.max_pool2d
    monkeypatch.setattr(
        geometry.F, "max_pool2d", lambda *given, **options: rounds.append(1) or pool(*given, **options)
    )
    corridor = picture("######## #......# #......# ........ ######## ########")
    filled = geometry.reachable(corridor, picture("........ ........ #....... ........ ........ ........"))
    assert torch.equal(filled, picture("######## #......# #......# ........ ........ ........"))
    assert len(rounds) <= 3


@pytest.mark.parametrize(("side", "last"), [(1, 1.0), (2, 1.0), (3, 2.0)])
def test_places_of_pictures_of_one_to_three_pixels(side: int, last: float) -> None:
    """1 is the centre of the last pixel; the only pixel of a side counts as two. The points' type stays."""
    ends = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    assert geometry.to_pixels(ends, (5, side)).tolist() == [[0.0, 0.0], [last, 4.0]]
    assert geometry.to_pixels(ends, (side, 5)).tolist() == [[0.0, 0.0], [4.0, last]]
    assert geometry.displacement_to_pixels(ends, (side, 3)).tolist() == [[-1.0, -last / 2], [1.0, last / 2]]
    assert geometry.to_pixels(ends.half(), (side, side)).dtype == torch.float16


def test_maps_may_be_resized_without_aligned_corners() -> None:
    """Two pixels to four: the outer edges meet, so values stand still for half a pixel at each end."""
    line = torch.tensor([0.0, 4.0]).view(1, 1, 1, 2)
    assert geometry.resize_map(line, (1, 4), "unaligned").flatten().tolist() == [0, 1, 3, 4]
    assert geometry.resize_map(line, (1, 3)).flatten().tolist() == [0, 2, 4]  # aligned
    grid = torch.stack([line[0, 0], -line[0, 0]], dim=-1)[None]
    assert geometry.resize_grid(grid, (1, 4), "unaligned")[0, 0, :, 1].tolist() == [0, -1, -3, -4]


@pytest.mark.parametrize("size", [(1, 3), (3, 1), (1, 1)])
def test_maps_of_one_row_or_column(size: tuple[int, int]) -> None:
    """The only row or column lies at 0, in the type asked for; all mass in the last pixel."""
    grid = geometry.identity_grid(size, torch.zeros(1, dtype=torch.float64))
    assert grid.dtype == torch.float64
    assert grid[-1, -1].tolist() == [float(size[1] > 1), float(size[0] > 1)]
    heat = torch.zeros(1, 1, *size, dtype=torch.float64)
    heat[..., -1, -1] = 1
    mean, covariance = geometry.soft_argmax(heat)
    assert torch.equal(mean[0, 0], grid[-1, -1])
    assert not covariance.any()


# --- hull ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([(0, 0), (2, 0), (2, 2), (0, 2)], 4.0),
        ([(0, 0), (2, 0), (2, 2), (0, 2), (1, 1), (0.5, 1.5), (1, 0)], 4.0),  # inside and on an edge
        ([(2, 2), (0, 0), (0, 2), (2, 0), (2, 2)], 4.0),  # any order, one twice
        ([(0, 0), (3, 0), (0, 2)], 3.0),
        ([(0, 0), (1, 1), (2, 2), (-1, -1)], 0.0),  # on one line
        ([(1, 1), (1, 1), (1, 1)], 0.0),
        ([(0, 0), (5, 1)], 0.0),
        ([(3, 4)], 0.0),
    ],
)
def test_hull_area_by_hand(points: list[tuple[float, float]], area: float) -> None:
    found = geometry.hull_area(torch.tensor(points, dtype=torch.float32))
    assert found.shape == ()
    assert found.item() == area


def test_hull_area_of_a_regular_polygon() -> None:
    angles = torch.arange(12, dtype=torch.float64) * math.pi / 6
    ring = torch.stack([angles.cos(), angles.sin()], -1)
    corners = [tuple(p) for p in ring.tolist()]
    triangles = sum(abs(a[0] * b[1] - a[1] * b[0]) / 2 for a, b in pairwise([*corners, corners[0]]))
    assert geometry.hull_area(torch.cat([ring * 0.5, ring])).item() == pytest.approx(triangles)
    assert triangles == pytest.approx(3.0)  # 12 * sin(30 degrees) / 2
