"""From a still and a stroke to frames: the networks' own roll-out, lengths, layers, the object a stroke starts on."""

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from refusals import refuses
from stillmotion import Drive, Stroke
from stillmotion.data.clip import Clip
from stillmotion.data.object_detection import find_object
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.systems.strokes.animating import Strokes
from stillmotion.systems.strokes.compositing import from_network, to_network
from strokes_tools import spot, step, tiny_strokes
from strokes_training_tools import square_clip

STILL = spot()
STROKE = Stroke([[10, 12], [24, 20]])


@pytest.fixture(scope="module")
def strokes() -> Strokes:
    return tiny_strokes()


# --- frames --------------------------------------------------------------------------------------------------------
def test_the_first_frame_is_the_still_and_the_rest_are_the_networks_own(strokes: Strokes) -> None:
    """What `model` gives is the networks' roll-out from their own states, whole strokes in one tensor."""
    places = np.cumsum(np.random.default_rng(0).uniform(-2, 3, (12, 2)), axis=0) + 8
    frames = strokes.animate(STILL, Stroke(places), size="model").frames()
    assert np.array_equal(frames[0], STILL)
    networks, points = strokes.networks, torch.from_numpy(places.astype(np.float32))[None]
    with torch.no_grad():
        context = networks.begin(to_network(STILL[None]), points)
        state = context.initial
        for t in range(11):
            state, frame = step(networks, context, state, points, t)
            assert np.abs(from_network(frame)[0].astype(int) - frames[t + 1]).mean() < 0.01
    assert np.abs(frames[2].astype(int) - frames[1]).max() > 0


@pytest.mark.parametrize("count", [1, 2, 24])
def test_any_number_of_frames(strokes: Strokes, count: int) -> None:
    steps = list(strokes.animate(STILL, STROKE, frames=count, layers=True))
    assert len(steps) == count
    assert steps[-1].facts["point"] == pytest.approx([24, 20] if count > 1 else [10, 12])


def test_the_stroke_says_how_many_frames_if_nobody_does(strokes: Strokes) -> None:
    assert sum(1 for _ in strokes.animate(STILL, STROKE, size="model")) == strokes.config.clip.frames
    timed = Stroke([[10, 12], [24, 20]], times=[0, 1], fps=6)
    animation = strokes.animate(STILL, timed, size="model")
    assert animation.fps == 6
    assert sum(1 for _ in animation) == 7


def test_the_same_stroke_gives_the_same_frames_and_another_gives_others(strokes: Strokes) -> None:
    torch.manual_seed(3)
    first = strokes.animate(STILL, STROKE, seed=1).frames()
    torch.rand(7)
    assert np.array_equal(first, strokes.animate(STILL, STROKE, seed=2).frames())
    other = strokes.animate(STILL, Stroke([[10, 12], [24, 4]])).frames()
    assert not np.array_equal(first[-1], other[-1])
    animation = strokes.animate(STILL, STROKE)
    assert np.array_equal(animation.frames(), animation.frames())


def test_points_are_given_in_pixels_of_the_still(strokes: Strokes) -> None:
    """A still twice as large with its stroke twice as large (between the same pixels' edges) is the same question."""
    large = np.repeat(np.repeat(STILL, 2, 0), 2, 1)
    doubled = Stroke(2 * (np.asarray(STROKE.points) + 0.5) - 0.5)
    small, big = (
        strokes.animate(still, stroke, frames=3, size="model").frames()[-1].astype(int)
        for still, stroke in ((STILL, STROKE), (large, doubled))
    )
    # Shrinking is not quite the opposite of doubling.
    assert np.abs(small - big).mean() < 1.5


def test_the_networks_see_points_in_pixels_of_their_frames_inside_of_them(strokes: Strokes) -> None:
    """A still of 32 x 64 pixels has 16 rows above and below; two of its pixels are one of the networks'."""
    rollout: Any = strokes.open(spot((32, 64)))
    seen = rollout._seen(np.array([[0.5, 0.5], [20.5, 8.5], [90.0, -70.0]]))
    assert seen.tolist() == [[[0.0, 8.0], [10.0, 12.0], [31.0, 0.0]]]
    assert seen.dtype == torch.float32


def test_convention_networks_of_strokes_see_minus_one_to_one(
    strokes: Strokes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(Strokes, "for_inference", lambda system: system)
    first = strokes.networks.encoder.layers[0]
    handle = first.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    still = np.stack([np.zeros((8, 4), np.uint8), np.full((8, 4), 255, np.uint8), np.full((8, 4), 51, np.uint8)], -1)
    list(strokes.animate(still, Stroke([[0, 0], [3, 3]]), frames=2))
    handle.remove()
    (made,) = seen
    assert made.shape == (1, 3, 32, 32)
    assert made.amax((2, 3))[0].tolist() == pytest.approx([-1, 1, -0.6])
    assert made.amin((2, 3))[0].tolist() == pytest.approx([-1, 1, -0.6])


def test_a_still_that_is_not_square_is_padded(strokes: Strokes) -> None:
    assert strokes.animate(spot((20, 50)), Stroke([[10, 12], [24, 18]]), frames=2).frames().shape == (2, 20, 50, 3)


def test_bf16_changes_little() -> None:
    exact, rough = tiny_strokes(), tiny_strokes()
    rough.precision = "bf16"
    a, b = (system.animate(STILL, STROKE, size="model").frames().astype(int) for system in (exact, rough))
    assert 0 < np.abs(a - b).mean() < 3
    assert not torch.is_autocast_enabled("cpu")


def test_folding_the_spectral_norm_changes_nothing_but_rounding() -> None:
    system = tiny_strokes(generator__norm="spectral")
    with torch.no_grad():
        points = torch.tensor([[[10.0, 12.0], [24.0, 20.0]]])
        frames = []
        for networks in (system.networks, system.for_inference().networks):
            context = networks.begin(to_network(STILL[None]), points)
            frames.append(step(networks, context, context.initial, points, 0)[1])
    assert torch.allclose(frames[0], frames[1], atol=1e-4)


def test_layers_and_facts_explain_each_frame(strokes: Strokes) -> None:
    still = spot((40, 60))
    made = list(strokes.animate(still, STROKE, frames=3, layers=True))[1]
    assert set(made.layers) == {"stroke", "encoding", "change", "figure", "plate"} == set(Strokes.layer_captions)
    assert made.layers["stroke"].shape == still.shape
    assert made.facts["point"].tolist() == [17, 16]
    assert made.facts["change"].shape == (32, 32)
    assert not list(strokes.animate(still, STROKE, frames=3))[1].layers


@pytest.mark.parametrize(
    ("options", "word"), [({"frames": 0}, "frames"), ({"size": "huge"}, "size"), ({"frames": 100_001}, "100000")]
)
def test_an_option_that_cannot_be_is_refused(strokes: Strokes, options: dict[str, Any], word: str) -> None:
    refuses(word, lambda: list(strokes.animate(STILL, STROKE, **options)))


def test_the_control_of_another_system_is_refused(strokes: Strokes) -> None:
    refuses("directed by Stroke or StrokeFrom, not by Drive", strokes.animate, STILL, Drive("wave.mp4"))


def test_the_rate_is_that_of_the_training_clips() -> None:
    assert tiny_strokes().animate(STILL, STROKE).fps == 25
    assert tiny_strokes(card={"fps": 10.0}).animate(STILL, STROKE).fps == 10
    assert tiny_strokes(card={"fps": 10.0}, clip__frame_step=2).animate(STILL, STROKE).fps == 5
    assert tiny_strokes(card={"fps": 10.0}).animate(STILL, Stroke(STROKE.points, fps=30)).fps == 30


def test_animating_needs_nothing_of_the_extra_train() -> None:
    program = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('accelerate', 'tensorboard', 'webdataset')))\n"
        "import numpy, stillmotion\n"
        "animator = stillmotion.load('strokes-digits')\n"
        "animator(numpy.zeros((64, 64, 3), numpy.uint8), stillmotion.Stroke([[30, 30], [40, 30]]), 3).frames()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --- leaving the picture -------------------------------------------------------------------------------------------
def test_a_stroke_that_leaves_is_told_once_and_held_at_the_border(strokes: Strokes) -> None:
    leaving = Stroke([[10, 12], [42, 12]])  # 10, 26, 42
    with pytest.warns(StillmotionWarning, match=r"leaves the picture at frame 2 \(x 42, y 12 .* 32 x 32") as caught:
        steps = list(strokes.animate(STILL, leaving, frames=3))
    assert len(caught) == 1
    assert str(caught[0].message).endswith(".")
    assert steps[2].facts["point"].tolist() == [31, 12]


def test_a_stroke_up_to_the_border_pixels_edge_is_inside(strokes: Strokes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(strokes.animate(STILL, Stroke([[0, 0], [31, 31]]), frames=2))


# --- the object ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("scale", [1, 4])
def test_the_object_is_boxed(scale: int) -> None:
    still = spot((48 * scale, 64 * scale), 20 * scale, 8 * scale, 10 * scale)
    found = find_object(still, (0.0, 0.0))
    expected = (20 * scale, 8 * scale, 30 * scale - 1, 18 * scale - 1)
    # A picture made smaller to look at has soft edges, but evenly: the centre is exact.
    assert found == pytest.approx(expected, abs=scale if scale > 1 else 0)
    assert (found[0] + found[2], found[1] + found[3]) == (50 * scale - 1, 26 * scale - 1)


def test_the_object_is_found_before_a_wall_and_a_floor_with_noise() -> None:
    rng = np.random.default_rng(0)
    still = np.full((64, 64, 3), 180.0)
    still[44:] = (90, 70, 50)
    still[20:50, 30:38] = (30, 40, 160)
    still = (still + rng.normal(0, 3, still.shape)).clip(0, 255).astype(np.uint8)
    assert find_object(still, (5.0, 5.0)) == pytest.approx((30, 20, 37, 49), abs=1)


def test_of_two_objects_the_one_nearest_to_the_start_is_meant_and_specks_are_not() -> None:
    still = spot((64, 64), 6, 6, 12)
    still[40:50, 44:54] = (20, 220, 60)
    still[30:32, 30:32] = 255  # nearer still, but a speck
    assert find_object(still, (20.0, 20.0)) == pytest.approx((6, 6, 17, 17))
    assert find_object(still, (36.0, 36.0)) == pytest.approx((44, 40, 53, 49))


def test_an_empty_still_has_no_object() -> None:
    assert find_object(np.full((40, 40, 3), 90, np.uint8), (3.0, 3.0)) is None


def test_attach_shifts_the_whole_stroke_to_the_objects_centre(strokes: Strokes) -> None:
    """The square's pixels 8 to 13 and 10 to 15 have their centre at (10.5, 12.5)."""
    stroke = Stroke([[2, 2], [8, 4]], attach=True)
    steps = list(strokes.animate(STILL, stroke, frames=3))
    assert [step.facts["point"].tolist() for step in steps] == [[10.5, 12.5], [13.5, 13.5], [16.5, 14.5]]
    assert steps[0].facts["shift"].tolist() == [8.5, 10.5]
    loose = list(strokes.animate(STILL, Stroke(stroke.points), frames=3))
    assert loose[0].facts["shift"].tolist() == [0, 0]


def test_attach_without_an_object_says_what_to_do(strokes: Strokes) -> None:
    empty = np.full((32, 32, 3), 90, np.uint8)
    with pytest.raises(StillmotionError, match=r"No object stands out .* leave attach out\."):
        list(strokes.animate(empty, Stroke([[2, 2], [8, 4]], attach=True)))


def test_a_detector_of_ones_own_takes_the_place() -> None:
    system = tiny_strokes()
    asked = []

    def detect(still: np.ndarray, near: tuple[float, float]) -> tuple[float, float, float, float]:
        asked.append((still.shape, near))
        return (0.0, 0.0, 4.0, 8.0)

    system.object_detector = detect
    (made,) = system.animate(STILL, Stroke([[5, 6], [8, 4]], attach=True), frames=1)
    assert made.facts["point"].tolist() == [2, 4]
    assert asked == [((32, 32, 3), (5.0, 6.0))]


# --- clips as controls ---------------------------------------------------------------------------------------------
def test_a_clips_control_is_its_own_points_at_its_own_rate(strokes: Strokes) -> None:
    clip = square_clip(frames=7)
    control = strokes.control_of(clip)
    assert np.array_equal(control.points, clip.tracks["points"])
    assert control.fps == 10
    assert strokes.animate(clip.frames[0], control, 7).frames().shape == (7, 32, 32, 3)
    clip.tracks["points"][3] = np.nan
    for unusable in (clip, Clip("no", clip.frames, 10.0)):
        refuses(r"does not have a point in every frame.*--tracks points", strokes.control_of, unusable)


def test_a_model_of_grey_strokes_says_how_many_points_it_takes() -> None:
    assert tiny_strokes().most_points is None
    grey = tiny_strokes(stroke__encoding="grey", stroke__lookahead=0)
    assert grey.most_points == 32
    refuses("33 points cannot be drawn in grey", list, grey.animate(STILL, STROKE, 33))
