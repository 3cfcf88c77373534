"""Pokes simulated from flow: the rules of the paper and of the release, the authors' own picks, impulses."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reference_tools import Golden, needs_reference
from refusals import refuses
from stillmotion.data.flow import resize_flow
from stillmotion.systems.pokes.config import PokeConfig
from stillmotion.systems.pokes.poking import (
    SimulatedPoke,
    background_candidates,
    foreground_candidates,
    foreground_mask,
    motion_amount,
    motion_quantiles,
    near_quantile,
    normalise_flow,
    poke_map,
    simulate_pokes,
    vector_candidates,
)

PAPER = PokeConfig()
RELEASE = PokeConfig(rule="release", background=0.0)
BLACK = np.zeros((32, 32, 3), np.uint8)


def field(values: np.ndarray) -> np.ndarray:
    """A flow to the right of these lengths."""
    return np.stack([values, np.zeros_like(values)], -1).astype(np.float32)


def blob_flow(size: int = 32, length: float = 4.0) -> np.ndarray:
    """A square of 8 x 8 pixels that moves by (length, -length / 2) on a still background."""
    flow = np.zeros((size, size, 2), np.float32)
    flow[12:20, 10:18] = length, -length / 2
    return flow


def in_blob(place: tuple[int, int]) -> bool:
    return 10 <= place[0] < 18 and 12 <= place[1] < 20


# --- golden ---------------------------------------------------------------------------------------------------------
def golden_flow(size: int) -> np.ndarray:
    """The made flow of the golden, at the network's size, H x W x 2."""
    values = np.random.Generator(np.random.PCG64(zlib.crc32(b"pokes.flow"))).random((1, 2, 4, 4))
    rows, columns = np.mgrid[:256, :256]
    flow = np.full((256, 256, 2), 0.5)
    for channel in range(2):
        for fy, fx, phase, height in values[0, channel]:
            angle = (0.5 + 2.5 * fy) * rows / 256 + (0.5 + 2.5 * fx) * columns / 256 + phase
            flow[..., channel] += (0.05 + 0.07 * height) * np.sin(2 * np.pi * angle)
    bump = np.exp(-((rows - 120) ** 2 + (columns - 150) ** 2) / (2 * 45**2))
    return resize_flow((flow - 0.5) * 60 * bump[..., None], (size, size))


def picked(candidates: np.ndarray, share: float) -> tuple[int, int]:
    """Row and column of the golden's pick in place of a random one."""
    places = np.argwhere(candidates)
    row, column = places[int(share * (len(places) - 1))]
    return int(row), int(column)


@needs_reference
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
def test_the_authors_pokes(size: int, masked: bool) -> None:
    golden, flow = Golden("pokes/poke_sampling"), golden_flow(size)
    config = replace(RELEASE, patch=golden.facts["settings"]["poke_size"][str(size)])
    mask = np.zeros((size, size), bool)
    mask[size // 4 : 3 * size // 4, size // 3 : 2 * size // 3] = True
    given_mask = mask if masked else None
    stride = golden.facts["outputs"][f"flow{size}"]["stride"]
    sample = flow.transpose(2, 0, 1).reshape(-1)[::stride]
    assert np.abs(sample - golden.values[f"flow{size}"]).max() < 1e-5
    front = foreground_candidates(flow, config, given_mask)
    vectors = vector_candidates(flow, config, given_mask)
    back = background_candidates(flow, config, given_mask)
    for name, counts, places, sources in (
        (f"masked{size}" if masked else f"plain{size}", [front.sum()], front, front),
        (f"background_masked{size}" if masked else f"background{size}", [vectors.sum(), back.sum()], back, vectors),
    ):
        assert golden.values[f"{name}.candidates"].tolist() == counts
        expected = golden.values[f"{name}.pick_first_middle_last"].reshape(3, 8)
        for share, (row, column, dx, dy, *area) in zip((0, 0.5, 1), expected, strict=True):
            y, x = picked(places, share)
            assert (y, x) == (row, column)
            vector = flow[picked(sources, share)]
            assert np.abs(vector - [dx, dy]).max() < 1e-5
            drawn = poke_map([SimulatedPoke((x, y), (vector[0], vector[1]))], (size, size), config.patch)
            rows, columns = np.nonzero(drawn.any(0))
            assert [rows.min(), rows.max(), columns.min(), columns.max()] == area


# --- the checklist's items 6 to 9 -----------------------------------------------------------------------------------
@given(
    x=st.integers(3, 28),
    y=st.integers(3, 28),
    patch=st.sampled_from([1, 3, 5]),
    dx=st.floats(0.125, 8, width=32),
    dy=st.floats(-8, -0.125, width=32),
)
def test_a_map_is_a_square_of_one_vector(x: int, y: int, patch: int, dx: float, dy: float) -> None:
    drawn = poke_map([SimulatedPoke((x, y), (dx, dy))], (32, 32), patch)
    assert drawn.dtype == np.float32
    assert np.count_nonzero(drawn, axis=(1, 2)).tolist() == [patch**2, patch**2]
    half = patch // 2
    square = drawn[:, y - half : y + half + 1, x - half : x + half + 1]
    assert (square == np.reshape([dx, dy], (2, 1, 1))).all()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**31),
    patch=st.sampled_from([1, 3, 5]),
    rule=st.sampled_from(["paper", "release"]),
    background=st.sampled_from([0.0, 1.0]),
)
def test_pokes_keep_their_distance_from_the_border(seed: int, patch: int, rule: str, background: float) -> None:
    rng = np.random.default_rng(seed)
    flow = rng.normal(size=(24, 32, 2)).astype(np.float32)
    config = PokeConfig(rule=rule, patch=patch, background=background, most=3)  # type: ignore[arg-type]
    found = simulate_pokes(flow, np.zeros((24, 32, 3), np.uint8), config, rng)
    assert found is not None
    for (x, y), _ in found.pokes:
        assert patch <= x < 32 - patch
        assert patch <= y < 24 - patch
    assert len({poke.place for poke in found.pokes}) == len(found.pokes) <= 3
    if not background:
        assert all(np.array_equal(flow[y, x], np.float32(vector)) for (x, y), vector in found.pokes)


def test_a_translation_at_256_is_scaled_to_the_network() -> None:
    flow = np.zeros((256, 256, 2), np.float32) + np.float32([8, -20])
    for size in (64, 128):
        assert np.allclose(resize_flow(flow, (size, size)), [8 * size / 256, -20 * size / 256])
    assert np.allclose(resize_flow(flow, (64, 128)), [4, -5])


@pytest.mark.parametrize("config", [replace(PAPER, background=0.0), RELEASE], ids=["paper", "release"])
def test_pokes_lie_in_the_moving_blob(config: PokeConfig) -> None:
    for seed in range(20):
        found = simulate_pokes(blob_flow(), BLACK, replace(config, most=4), np.random.default_rng(seed))
        assert found is not None
        assert not found.background
        assert all(in_blob(poke.place) and poke.vector == (4.0, -2.0) for poke in found.pokes)


def test_the_rule_of_the_paper_is_above_the_mean_of_the_whole_map() -> None:
    values = np.zeros((9, 9))
    values[0] = 9.0  # the border counts in the mean, which is 9 * 9 / 81 + (1.5 + 0.5) / 81 = 1.02
    values[4, 4], values[4, 5] = 1.5, 0.5
    assert np.argwhere(foreground_candidates(field(values), PAPER)).tolist() == [[4, 4]]
    mask = np.zeros((9, 9), bool)
    assert not foreground_candidates(field(values), PAPER, mask).any()


def test_thresholds_of_the_release_fall_back_in_order() -> None:
    """Inside a border of 1: 10 x 10 amplitudes of which some are high, by hand."""
    config = replace(RELEASE, patch=1)

    def count(high: int, middle: int = 0, mask: np.ndarray | None = None) -> int:
        values = np.zeros(100)
        values[:high], values[high : high + middle] = 1.0, 0.5
        flow = np.zeros((12, 12))
        flow[1:-1, 1:-1] = values.reshape(10, 10)
        flow[0] = 50.0  # outside: it must not count
        return int(foreground_candidates(field(flow), config, mask).sum())

    assert count(10) == 10  # 0.1 + 2 * 0.302 = 0.70
    assert count(10, 10) == 10  # the middle ones are below 0.15 + 2 * 0.32
    assert count(30) == 30  # 0.3 + 2 * 0.46 = 1.22 leaves none; 0.3 + 0.46 = 0.76
    assert count(60) == 60  # 0.6 + 0.49 = 1.09 leaves none; 0.6
    empty = np.zeros((12, 12), bool)
    # With an empty mask the first threshold leaves none, and the second one sees no mask.
    assert count(10, 0, empty) == 10
    half = np.zeros((12, 12), bool)
    half[1, 1:6] = True
    assert count(10, 0, half) == 5
    assert not foreground_candidates(field(np.zeros((12, 12))), config).any()


def test_the_border_of_the_release_counts_in_no_minimum() -> None:
    """Inside all moves by 1, and ten pixels, half of them in the mask, by 1.2: amplitudes are 0 and 1."""
    values, mask = np.zeros((12, 12)), np.zeros((12, 12), bool)
    values[1:-1, 1:-1], mask[1:6] = 1.0, True
    values[2, 1:6] = values[8, 1:6] = 1.2
    found = foreground_candidates(field(values), replace(RELEASE, patch=1), mask)
    assert np.argwhere(found).tolist() == [[2, x] for x in range(1, 6)]


def test_deviations_of_the_release_are_unbiased() -> None:
    """Five amplitudes of mean 0.38 and deviation 0.522 (biased 0.467): two deviations leave none, one is at 0.902."""
    values = np.zeros((3, 7))
    values[1, 3:5] = 1.0, 0.9
    found = foreground_candidates(field(values), replace(RELEASE, patch=1))
    assert np.argwhere(found).tolist() == [[1, 3]]


@pytest.mark.parametrize("background", [0.0, 1.0])
@pytest.mark.parametrize("vector", [(0.0, 0.0), (0.1, 0.3), (7.7, -3.1)])
@pytest.mark.parametrize("rule", ["paper", "release"])
def test_constant_flow_gives_no_poke(rule: str, vector: tuple[float, float], background: float) -> None:
    flow = np.zeros((32, 32, 2), np.float32) + np.float32(vector)
    config = PokeConfig(rule=rule, background=background)  # type: ignore[arg-type]
    with np.errstate(all="raise"):
        assert simulate_pokes(flow, BLACK, config, np.random.default_rng(0)) is None


@pytest.mark.parametrize("rule", ["paper", "release"])
def test_a_tenth_of_the_pokes_are_on_the_background(rule: str) -> None:
    """Of 1000 draws 100 are expected, with a standard deviation of 9.5."""
    rng, config = np.random.default_rng(0), PokeConfig(rule=rule, background=0.1)  # type: ignore[arg-type]
    drawn = [simulate_pokes(blob_flow(), BLACK, config, rng) for _ in range(1000)]
    back = [found for found in drawn if found is not None and found.background]
    assert None not in drawn
    assert 60 < len(back) < 140
    for found in back:
        assert not any(in_blob(poke.place) for poke in found.pokes)
        assert all(poke.vector == (4.0, -2.0) for poke in found.pokes)
    off = replace(config, background=0.0)
    assert not any(simulate_pokes(blob_flow(), BLACK, off, rng).background for _ in range(200))  # type: ignore[union-attr]


def test_the_background_by_hand() -> None:
    values = np.arange(144.0).reshape(12, 12)
    flow, mask = field(values), np.zeros((12, 12), bool)
    mask[:, :6] = True
    config = replace(RELEASE, patch=1)
    # 100 amplitudes: those at most the 5th percentile, between the fifth and the sixth, are the first five.
    assert np.argwhere(background_candidates(flow, config)).tolist() == [[1, x] for x in range(1, 6)]
    paper = replace(PAPER, patch=1)
    assert background_candidates(flow, paper).sum() == 50  # below 71.5: rows 1 to 5
    for each in (config, paper):
        assert np.argwhere(background_candidates(flow, each, mask))[:, 1].min() == 6
        assert background_candidates(flow, each, mask).sum() == 50


# --- several pokes, the mask, refusals ------------------------------------------------------------------------------
def test_from_one_to_most_pokes_at_places_of_their_own() -> None:
    rng, config = np.random.default_rng(0), replace(PAPER, most=3, background=0.5)
    found = [simulate_pokes(blob_flow(), BLACK, config, rng) for _ in range(60)]
    counts = [len({poke.place for poke in each.pokes}) for each in found if each is not None]
    assert set(counts) == {1, 2, 3}
    few = np.zeros((32, 32, 2), np.float32)
    few[9, 9], few[9, 10] = 3, 3
    numbers = set()
    for _ in range(20):
        each = simulate_pokes(few, BLACK, replace(config, background=0.0), rng)
        assert each is not None
        numbers.add(len(each.pokes))
        assert len({poke.place for poke in each.pokes}) == len(each.pokes)
    assert numbers == {1, 2}  # there are no more places


def test_the_same_seed_gives_the_same_pokes() -> None:
    flow = np.random.default_rng(5).normal(size=(32, 32, 2)).astype(np.float32)
    config = replace(PAPER, most=3, background=0.3)
    drawn = [[simulate_pokes(flow, BLACK, config, np.random.default_rng(s)) for s in range(9)] for _ in range(2)]
    assert drawn[0] == drawn[1]


def test_squares_at_the_border_are_clipped_and_the_later_poke_is_on_top() -> None:
    corner = poke_map([SimulatedPoke((0, 7), (1.0, 2.0))], (8, 8), 3)
    assert np.argwhere(corner[0]).tolist() == [[6, 0], [6, 1], [7, 0], [7, 1]]
    assert corner[1].sum() == 8
    top = poke_map([SimulatedPoke((7, 0), (1.0, 2.0))], (8, 8), 3)
    assert np.argwhere(top[0]).tolist() == [[0, 6], [0, 7], [1, 6], [1, 7]]
    both = poke_map([SimulatedPoke((3, 3), (1.0, 0.0)), SimulatedPoke((4, 3), (5.0, 0.0))], (8, 8), 3)
    assert both[0, 3].tolist() == [0, 0, 1, 5, 5, 5, 0, 0]
    assert poke_map([], (8, 8), 3).sum() == 0
    for place in ((8, 0), (0, 8), (-1, 0)):
        refuses("lies outside of the 8 x 8 pixels", poke_map, [SimulatedPoke(place, (1.0, 0.0))], (8, 8), 3)


def test_grabcut_finds_a_bright_figure() -> None:
    rng = np.random.default_rng(0)
    still = rng.integers(20, 60, (40, 40, 3)).astype(np.uint8)
    still[10:30, 14:26] = rng.integers(180, 250, (20, 12, 3))
    mask = foreground_mask(still, 3)
    truth = np.zeros((40, 40), bool)
    truth[10:30, 14:26] = True
    assert (mask == truth).mean() > 0.99
    assert (foreground_mask(still, 3) == mask).all()
    # All of the picture moves, the left half faster; pokes lie in the figure all the same.
    flow = field(np.linspace(9, 0, 40)[None].repeat(40, 0))
    config = PokeConfig(mask="grabcut", background=0.0)
    for seed in range(10):
        found = simulate_pokes(flow, still, config, np.random.default_rng(seed))
        assert found is not None
        assert all(truth[y, x] for poke in found.pokes for x, y in [poke.place])
    refuses("too small for a mask", foreground_mask, still[:6], 3)


def test_flow_and_mask_of_another_size_are_refused() -> None:
    rng = np.random.default_rng(0)
    refuses("flow is 32 x 31 x 2 where frames of 32 x 32", simulate_pokes, blob_flow()[:, 1:], BLACK, PAPER, rng)
    refuses("NaN or infinity", simulate_pokes, blob_flow() * np.float32(np.nan), BLACK, PAPER, rng)
    refuses("mask must be 32 x 32", foreground_candidates, blob_flow(), PAPER, np.ones((31, 32), bool))
    refuses("no place for a poke", foreground_candidates, blob_flow()[:6, :6], PAPER)


# --- impulses -------------------------------------------------------------------------------------------------------
def test_impulses_are_at_most_one_long() -> None:
    flows = [blob_flow(length=length) for length in (2.0, 4.0, 1.0)]
    largest = float(np.hypot(4, 2))
    config = PokeConfig(interpretation="impulse", background=0.2)
    rng = np.random.default_rng(0)
    for flow, length in zip(flows, (0.5, 1.0, 0.25), strict=True):
        found = simulate_pokes(normalise_flow(flow, largest), BLACK, config, rng, motion_quantile=0.5)
        assert found is not None
        assert np.hypot(*found.pokes[0].vector) == pytest.approx(length)
    longer = normalise_flow(blob_flow(length=40.0), largest)  # of a clip that was not in the data set
    assert np.linalg.norm(longer, axis=-1).max() == pytest.approx(1.0)
    refuses("No clip of the data set moves", normalise_flow, flows[0], 0.0)


def test_the_amount_of_motion_by_hand() -> None:
    """Two fields of 2 x 2 with lengths (5, 0, 0, 0) and (1, 1, 1, 1): the mean of 1.25 and 1."""
    first, second = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    first[0, 0] = 3, 4
    second[..., 1] = -1
    assert motion_amount([first, second]) == pytest.approx(1.125)
    assert motion_amount(np.stack([first, second])) == pytest.approx(1.125)
    assert motion_quantiles([3.0, 1.0, 2.0, 2.0, 9.0]).tolist() == [0.75, 0.0, 0.375, 0.375, 1.0]
    assert motion_quantiles([3.0]).tolist() == [0.0]


def test_much_motion_gives_large_impulses() -> None:
    flow = field(np.arange(1024.0).reshape(32, 32))
    candidates = foreground_candidates(flow, PAPER)
    lengths = np.sort(flow[..., 0][candidates])
    for quantile in (0.0, 0.3, 1.0):
        near = flow[..., 0][near_quantile(flow, candidates, quantile)]
        ranks = np.searchsorted(lengths, near) / (len(lengths) - 1)
        assert np.abs(ranks - quantile).max() < 0.05 + 1 / len(lengths)
    config, rng = replace(PAPER, background=0.0), np.random.default_rng(0)
    drawn = []
    for quantile in (0.0, 0.5, 1.0):
        found = simulate_pokes(flow, BLACK, config, rng, quantile)
        assert found is not None
        drawn.append(found.pokes[0].vector[0])
    assert drawn == sorted(drawn)


@given(count=st.integers(1, 9), quantile=st.floats(0, 1))
def test_some_candidate_is_always_near(count: int, quantile: float) -> None:
    candidates = np.zeros((4, 4), bool)
    candidates.reshape(-1)[:count] = True
    near = near_quantile(field(np.arange(16.0).reshape(4, 4)), candidates, quantile)
    assert near.any()
    assert not (near & ~candidates).any()
