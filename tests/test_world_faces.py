"""The world `faces`: the morphable model, the rasterizer, and every track against the pixels."""

from dataclasses import replace

import numpy as np
import pytest

from stillmotion.worlds import faces, sample_clip
from stillmotion.worlds.faces import ACTION_UNITS, EMOTIONS, TRAITS, Face, normal_maps, render, retarget, sample
from stillmotion.worlds.faces.expression import BASIS as EXPRESSIONS
from stillmotion.worlds.faces.expression import coefficients
from stillmotion.worlds.faces.grid import (
    COLUMN_S,
    COLUMNS,
    EYES,
    MOUTH,
    MOUTH_HALF,
    ROW_T,
    ROWS,
    VERTICES,
    S,
    landmarks,
)
from stillmotion.worlds.faces.identity import BASIS as IDENTITIES
from stillmotion.worlds.faces.identity import MEAN
from stillmotion.worlds.faces.model import PIVOT, normals, project, rotation, shape
from stillmotion.worlds.faces.raster import rasterise
from stillmotion.worlds.textures import Surface
from test_worlds import assert_only_mask_changes

SEEDS = range(4)
STRAIGHT = np.array([[0.0, 0.0, 0.0, 0.5, 0.5, 0.35]])
REST = np.zeros((1, len(ACTION_UNITS)))
PLAIN = Surface("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0.2, 0.0, 0)


def face(seed: int, emotion: str | None = None) -> Face:
    return faces.sample_description(np.random.default_rng([5, seed]), emotion)


def without_motion(made: Face) -> Face:
    """The same face before a perfect lens, with a head that stands still and eyes that do not blink."""
    performance = replace(made.performance, sway=(0.0,) * 5, gesture=(0.0,) * 5, blinks=(1e6, 1e6))
    return replace(made, performance=performance, scene=replace(made.scene, noise=0.0, softness=0.0, wall=PLAIN))


def with_step_onset(made: Face) -> Face:
    """Neutral in frame 0, at the apex from frame 1 on."""
    return replace(made, performance=replace(made.performance, start=0.0, onset=1.0, apex=9.0))


def marks(identity: np.ndarray, weights: dict[str, float]) -> np.ndarray:
    """68 x 3 landmarks of the model, y up."""
    return landmarks(shape(identity, coefficients(weights)[None]))[0]


# --- the model -----------------------------------------------------------------------------------------------------
def test_mean_and_bases_are_symmetric() -> None:
    mirror = np.array([-1, 1, 1])
    assert np.allclose(MEAN[:, ::-1] * mirror, MEAN, atol=1e-12)
    assert np.allclose(IDENTITIES[:, :, ::-1] * mirror, IDENTITIES, atol=1e-12)
    assert np.allclose(EXPRESSIONS[:, :, ::-1] * mirror, EXPRESSIONS, atol=1e-12)


def test_shape_is_mean_plus_identity_plus_expression() -> None:
    rng = np.random.default_rng(0)
    identity, expression = rng.normal(size=len(TRAITS)), rng.random((2, len(ACTION_UNITS)))
    made = shape(identity, expression)
    by_hand = MEAN.copy()
    for value, field in zip(identity, IDENTITIES, strict=True):
        by_hand = by_hand + value * field
    for value, field in zip(expression[1], EXPRESSIONS, strict=True):
        by_hand = by_hand + value * field
    assert np.allclose(made[1], by_hand, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_expression_is_the_persons_own_face_with_closed_lips_and_open_eyes(seed: int) -> None:
    identity = np.array(face(seed).person.identity)
    own = shape(identity, REST)[0]
    assert np.allclose(own, MEAN + np.tensordot(identity, IDENTITIES, 1), atol=1e-5)
    upper, lower = own[MOUTH.first], own[MOUTH.last]
    assert np.allclose(upper[:, :2], lower[:, :2], atol=1e-5)
    beside = np.abs(S[0]) >= MOUTH_HALF - 1e-9
    assert np.allclose(upper[beside], lower[beside], atol=1e-5)
    assert (own[EYES.first] - own[EYES.last])[:, 1].max() > 0.05


def test_the_surface_hardly_folds() -> None:
    """Seen from the front, rows run down and columns to the right, for people and emotions at their strongest.

    Where a lowered brow meets the raised lid a crease of one hundredth of half a head is left.
    """
    front = np.abs(S[0]) < 0.7
    for seed in range(8):
        made = face(seed)
        strongest = np.array([1.08 * coefficients(weights) for weights in EMOTIONS.values()])
        found = shape(np.array(made.person.identity), strongest)[:, 3:-3, front]
        assert np.diff(found[..., 1], axis=1).max() < 0.01
        assert np.diff(found[..., 0], axis=2).min() > -1e-3


def test_rotation_turns_as_documented() -> None:
    yaw, pitch, roll = (np.eye(3)[[i]] * 0.3 for i in range(3))
    pad = np.zeros((1, 3))
    nose, crown = np.array([0, 0, 1]), np.array([0, 1, 0])
    assert (rotation(np.concatenate([yaw, pad], 1))[0] @ nose)[0] == pytest.approx(np.sin(0.3))
    assert (rotation(np.concatenate([pitch, pad], 1))[0] @ nose)[1] == pytest.approx(np.sin(0.3))
    assert (rotation(np.concatenate([roll, pad], 1))[0] @ crown)[0] == pytest.approx(np.sin(0.3))


def test_projection_by_hand() -> None:
    """Without rotation x and y scale about the origin; with a yaw of 90 degrees depth becomes width."""
    point = np.array([[[0.2, 0.4, 0.6]]])
    found = project(point, STRAIGHT, 100)[0, 0]
    assert np.allclose(found, [50 - 0.5 + 0.2 * 35, 50 - 0.5 - 0.4 * 35, (0.6 - PIVOT[2]) * 35])
    turned = project(point, np.array([[np.pi / 2, 0, 0, 0.5, 0.5, 0.35]]), 100)[0, 0]
    assert turned[0] == pytest.approx(49.5 + 35 * (PIVOT[0] + 0.6 - PIVOT[2]))


# --- expressions ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_emotions_move_the_named_landmarks_the_right_way(seed: int) -> None:
    identity = np.array(face(seed).person.identity)
    rest = marks(identity, {})
    moved = {emotion: marks(identity, weights) - rest for emotion, weights in EMOTIONS.items()}
    smile = moved["happiness"]
    assert smile[[48, 54], 1].min() > 0.05  # corners up
    assert smile[48, 0] < -0.05
    assert smile[54, 0] > 0.05  # and out
    surprise = moved["surprise"]
    assert surprise[8, 1] < -0.15  # chin down
    assert surprise[17:27, 1].min() > 0.03  # brows up
    assert (surprise[62] - surprise[66])[1] > 0.15  # mouth open
    anger = moved["anger"]
    assert anger[[21, 22], 1].max() < -0.05  # inner ends of the brows down
    assert anger[21, 0] > 0.01
    assert anger[22, 0] < -0.01  # and together
    sadness = moved["sadness"]
    assert sadness[[48, 54], 1].max() < -0.04
    assert sadness[[21, 22], 1].min() > sadness[[17, 26], 1].max() + 0.03  # brows slant
    disgust = moved["disgust"]
    assert disgust[[31, 35], 1].min() > 0.02  # nostrils up
    assert disgust[51, 1] > 0.04  # upper lip up
    fear = moved["fear"]
    assert fear[54, 0] - fear[48, 0] > 0.1  # mouth wide
    assert (fear[[37, 43], 1] - fear[[41, 47], 1]).min() > 0.03  # eyes wide


@pytest.mark.parametrize("seed", SEEDS)
def test_a_blink_closes_the_eyes(seed: int) -> None:
    found = shape(np.array(face(seed).person.identity), coefficients({"blink": 1.0})[None])[0]
    gap = (found[EYES.first] - found[EYES.last])[:, 1]
    assert gap.max() < 0.06
    assert gap.max() < 0.5 * (MEAN[EYES.first] - MEAN[EYES.last])[:, 1].max()


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_performance_rises_stays_and_falls_smoothly_and_symmetrically(emotion: str) -> None:
    made = face(1, emotion).performance
    top = made.start + made.onset
    assert made.intensity(np.array([0.0, made.start]))[1] == 0
    assert made.intensity(np.array([top, top + made.apex])) == pytest.approx(1.0)
    middle = top + 0.5 * made.apex
    away = np.linspace(0, 0.5 * made.apex + made.onset, 50)
    assert np.allclose(made.intensity(middle + away), made.intensity(middle - away), atol=1e-9)
    steps = np.diff(made.intensity(np.arange(0, 200, 0.01)))
    # The smoothest step is at most 15 / 8 as fast as a straight line.
    assert np.abs(steps).max() <= 0.01 * 1.875 / made.onset + 1e-9
    assert np.abs(np.diff(steps)).max() < 1e-3 * np.abs(steps).max() * 10


def test_emotions_differ_in_their_coefficients() -> None:
    found = {name: coefficients(weights) for name, weights in EMOTIONS.items()}
    for one in found:
        for other in found:
            if one != other:
                cosine = found[one] @ found[other] / np.linalg.norm(found[one]) / np.linalg.norm(found[other])
                assert cosine < 0.8, (one, other)


# --- the rasteriser ------------------------------------------------------------------------------------------------
def plane(size: int, depth: float, count: int = 5) -> np.ndarray:
    """A flat grid that covers the pixels 1 to size - 2."""
    x, y = np.meshgrid(np.linspace(0.6, size - 1.6, count), np.linspace(0.6, size - 1.6, count))
    return np.stack([x, y, np.full_like(x, depth)], -1)


def test_rasterizer_gives_the_exact_place_on_a_plane() -> None:
    size = 12
    found = rasterise(plane(size, 3.0), size)
    y, x = np.divmod(found.pixels, size)
    assert len(found.pixels) == (size - 2) ** 2
    step = (size - 2.2) / 4
    assert np.allclose(found.column, (x - 0.6) / step, atol=1e-4)
    assert np.allclose(found.row, (y - 0.6) / step, atol=1e-4)
    assert np.allclose(found.depth, 3.0)


def test_rasterizer_shows_the_nearest_surface_and_culls_back_faces() -> None:
    size = 12
    near, far = plane(size, 5.0), plane(size, 1.0)
    # One grid: the far sheet, a gap, the near sheet.
    both = np.concatenate([far, near], 0)
    quads = np.ones((9, 4), bool)
    quads[4] = False
    found = rasterise(both, size, quads)
    assert np.allclose(found.depth, 5.0)
    assert (found.row >= 5).all()
    assert len(rasterise(near[:, ::-1], size).pixels) == 0


# --- pictures and tracks -------------------------------------------------------------------------------------------
def test_meta_names_the_coefficients() -> None:
    clip = sample(np.random.default_rng(1), size=32, frames=4, action="fear")
    assert clip.meta["action"] == "fear"
    assert clip.meta["traits"] == list(TRAITS)
    assert clip.meta["actions"] == list(ACTION_UNITS)
    assert (clip.tracks["identity"] == clip.tracks["identity"][0]).all()


def test_normals_are_unit_on_the_face_zero_elsewhere_and_inside_the_person() -> None:
    for index in range(6):
        clip = sample_clip("faces", 8, index, 48, 3)
        maps, mask = clip.tracks["normals"].astype(float), clip.tracks["mask"] > 0
        length = np.linalg.norm(maps, axis=-1)
        on = length > 0
        assert np.allclose(length[on], 1, atol=2e-3)
        assert not (on & ~mask).any()
        assert 0.1 < on.mean() < 0.6
        # They point out of the head: towards the viewer in the middle, to the picture's right on its right.
        assert maps[..., 2][on].mean() > 0.5
        for t in range(3):
            y, x = np.nonzero(on[t])
            assert np.corrcoef(x, maps[t, y, x, 0])[0, 1] > 0.7
            assert clip.tracks["box"][t].tolist() == [x.min(), y.min(), x.max(), y.max()]


def test_normals_of_a_ball() -> None:
    """On a sphere the normal is the place itself."""
    a, e = np.meshgrid(np.linspace(-1.5, 1.5, COLUMNS), np.linspace(1.4, -1.4, ROWS))
    ball = np.stack([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], -1)
    assert np.abs(normals(ball) - ball)[1:-1, 1:-1].max() < 1e-2


def test_a_pose_moves_the_normal_map_and_keeps_its_vectors() -> None:
    identity = np.zeros(len(TRAITS))
    moved = STRAIGHT + np.array([0, 0, 0, 3 / 48, 2 / 48, 0])
    still, shifted = (normal_maps(identity, REST, pose, 48)[0] for pose in (STRAIGHT, moved))
    # Samples on the very edge of a triangle may fall to the other side.
    assert np.abs(shifted[2:, 3:].astype(float) - still[:-2, :-3]).max(-1).mean() < 1e-3
    # Turned by 17 degrees, the cheek is elsewhere and its vector points where it did.
    turned = STRAIGHT + np.array([0.3, 0, 0, 0, 0, 0])
    row, column = int(np.abs(ROW_T + 0.3).argmin()), int(np.abs(COLUMN_S - 0.36).argmin())
    before, after = (project(shape(identity, REST), pose, 96)[0, row, column] for pose in (STRAIGHT, turned))
    assert after[0] - before[0] > 4
    a, b = (
        normal_maps(identity, REST, pose, 96)[0, round(y), round(x)].astype(float)
        for pose, (x, y, _) in ((STRAIGHT, before.tolist()), (turned, after.tolist()))
    )
    assert a @ b > 0.97
    # Were the vectors turned too, they would be 17 degrees apart.
    assert a @ rotation(turned)[0] @ a < 0.96


def test_normal_maps_come_from_the_coefficients_alone() -> None:
    """Hair, shirt and light do not matter; the coefficients of the tracks, in single precision, are enough."""
    for index in range(5):
        tracks = sample_clip("faces", 9, index, 48, 2).tracks
        again = normal_maps(tracks["identity"][0], tracks["expression"], tracks["pose"], 48)
        off = np.abs(again.astype(float) - tracks["normals"]).max(-1)
        assert (off > 0.02).mean() < 2e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_landmarks_are_where_the_vertices_are(seed: int) -> None:
    tracks = render(face(seed), 48, 3)[1]
    placed = project(shape(tracks["identity"][0].astype(float), tracks["expression"]), tracks["pose"], 48)
    vertices = placed[:, VERTICES[:, 0], VERTICES[:, 1], :2]
    assert np.abs(tracks["landmarks"][..., :2] - vertices).max() < 0.02


def test_landmarks_have_ibugs_order() -> None:
    found = landmarks(MEAN[None])[0]
    x, y = found[:, 0], found[:, 1]
    assert (np.diff(x[:17]) > 0).all()
    assert (np.diff(x[17:27]) > 0).all()
    assert (np.diff(y[27:31]) < 0).all()
    assert (np.diff(x[31:36]) > 0).all()
    for outline in (x[36:40], x[42:46], x[48:55], x[60:65]):
        assert (np.diff(outline) > 0).all()
    assert (y[[37, 38, 43, 44]] > y[[41, 40, 47, 46]]).all()
    assert (y[49:54] > y[[59, 58, 57, 56, 55]]).all()
    assert y[8] == y[:17].min()
    # Nobody's left and right: mirrored, point k becomes its partner.
    partner = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46]
    partner += [39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]
    assert np.allclose(found[partner] * [-1, 1, 1], found, atol=1e-9)


def test_inner_landmarks_lie_on_the_face() -> None:
    hits, total = 0, 0
    for index in range(8):
        tracks = sample_clip("faces", 10, index, 64, 2).tracks
        inner = tracks["landmarks"][:, 17:]
        x, y = np.moveaxis(np.rint(inner[..., :2]).astype(int), -1, 0)
        t = np.arange(2)[:, None]
        assert (tracks["mask"][t, y, x] == 255).all()
        on = (tracks["normals"][t, y, x] != 0).any(-1)
        hits, total = hits + int(on.sum()), total + on.size
    assert hits / total > 0.98


def test_landmarks_behind_the_head_are_not_visible() -> None:
    made = without_motion(face(2))
    bald = replace(made, person=replace(made.person, appearance=replace(made.person.appearance, style="bald")))
    for yaw, hidden, seen in ((0.6, 16, 0), (-0.6, 0, 16)):
        turned = replace(bald, performance=replace(bald.performance, rest=(yaw, 0.0, 0.0)))
        visible = render(turned, 64, 1)[1]["landmarks"][0, :, 2]
        assert visible[seen] == 1
        assert visible[hidden] == 0
        assert visible[[27, 30, 33]].all()


def test_retargeting_keeps_the_expression_and_changes_the_person() -> None:
    performer, target = face(1, "happiness"), face(2, "anger")
    given, own, made = (render(one, 40, 12)[1] for one in (performer, target, retarget(performer, target)))
    assert np.array_equal(made["expression"], given["expression"])
    assert np.array_equal(made["pose"], given["pose"])
    assert np.array_equal(made["identity"], own["identity"])
    assert not np.array_equal(made["identity"], given["identity"])
    assert retarget(performer, target).person == target.person
    assert retarget(performer, target).scene == target.scene
    truth = normal_maps(own["identity"][0], given["expression"], given["pose"], 40)
    assert (np.abs(truth.astype(float) - made["normals"]).max(-1) > 0.02).mean() < 2e-3
    same = render(retarget(performer, performer), 40, 2)[0]
    assert np.array_equal(same, render(performer, 40, 2)[0])


def test_only_the_face_changes_pixels_when_the_head_stands_still() -> None:
    for seed, emotion in enumerate(EMOTIONS):
        video, tracks = render(with_step_onset(without_motion(face(seed, emotion))), 48, 2)
        assert_only_mask_changes(video, (tracks["mask"] > 0).any(0), by=1)
        # A neutral face stays as it is: nothing but the performance moves.
        made = without_motion(face(seed, emotion))
        waiting = replace(made, performance=replace(made.performance, start=1e6))
        still = render(waiting, 48, 2)[0]
        assert np.array_equal(still[0], still[1])


def test_mask_is_where_the_person_hides_the_wall() -> None:
    made = without_motion(face(3))
    shown = []
    for level in (0.0, 1.0):
        wall = Surface("plain", (level,) * 3, (level,) * 3, 0.2, 0.0, 0)
        scene = replace(made.scene, wall=wall, tint=(1.0, 1.0, 1.0))
        video, tracks = render(replace(made, scene=scene), 48, 2)
        shown.append(video.astype(float))
    seen = (shown[1] - shown[0]).max(-1) / 255  # how much of the wall is seen
    mask = tracks["mask"] > 0
    assert seen[mask].max() <= 0.52
    assert seen[~mask].min() >= 0.48


@pytest.mark.parametrize("seed", SEEDS)
def test_size_scales_landmarks_and_picture_alike(seed: int) -> None:
    made = without_motion(face(seed))
    (small_video, small), (large_video, large) = render(made, 48, 1), render(made, 96, 1)
    expected = (small["landmarks"][..., :2] + 0.5) * 2 - 0.5
    assert np.allclose(large["landmarks"][..., :2], expected, atol=1e-2)
    halved = large_video.reshape(1, 48, 2, 48, 2, 3).mean(axis=(2, 4))
    assert np.abs(halved - small_video).mean() < 4.0
