"""facts/monkey-net.md section 12, items 14 and 15, and what happens at the still's own size."""

from __future__ import annotations

import warnings
import weakref

import numpy as np
import pytest
import torch
from stillmotion.controls import Drive
from stillmotion.systems.driving.aligning import transfer

from driving_tools import DRIVER, keypoints, moving_square, own_means, seeing, spot, system
from stillmotion import cli, media
from stillmotion.errors import StillmotionError, StillmotionWarning, warnings_told
from stillmotion.systems.driving.networks import Keypoints

# Untrained networks find bodies of any size; what fits is tested below with a detector that sees.
pytestmark = pytest.mark.filterwarnings("ignore:The body in the still")


VIDEO = moving_square("drive", frames=5).frames
STILL = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def means(animation) -> np.ndarray:
    return np.stack([step.facts["mean"] for step in animation])


def test_relative_transfer_of_a_standing_driver_keeps_the_stills_keypoints():
    driving = system()
    standing = np.repeat(VIDEO[:1], 4, axis=0)
    own = driving.networks.detector(torch.from_numpy(STILL.copy()).permute(2, 0, 1)[None].float() / 255).mean
    found = means(driving.animate(STILL, Drive(standing)))
    assert np.allclose(found, own.detach().numpy(), atol=1e-6)


def test_relative_transfer_onto_the_drivers_own_first_frame_is_a_reconstruction():
    driving = system()
    relative = driving.animate(VIDEO[0], Drive(VIDEO, transfer="relative"), size="model").frames()
    absolute = driving.animate(VIDEO[0], Drive(VIDEO, transfer="absolute"), size="model").frames()
    assert np.abs(relative.astype(int) - absolute).max() <= 1


def test_absolute_transfer_ignores_the_first_frame():
    driving = system()
    whole = driving.animate(STILL, Drive(VIDEO, transfer="absolute"), size="model").frames()
    rest = driving.animate(STILL, Drive(VIDEO[1:], transfer="absolute"), size="model").frames()
    assert np.abs(whole[1:].astype(int) - rest).max() <= 1
    moved = driving.animate(STILL, Drive(VIDEO, transfer="relative")), driving.animate(STILL, Drive(VIDEO[1:]))
    assert not np.allclose(means(moved[0])[1:], means(moved[1]), atol=1e-4)


def test_frames_fed_in_any_number_keep_the_first_driving_frame_as_reference(monkeypatch):
    """Pitfall of the sheet: a reference per batch would make a still video."""
    driving = system()
    whole = means(driving.animate(STILL, Drive(VIDEO)))
    monkeypatch.setattr("stillmotion.systems.driving.animating.BATCH", 1)
    assert np.allclose(means(driving.animate(STILL, Drive(VIDEO))), whole, atol=1e-5)
    assert np.abs(whole[-1] - whole[0]).max() > 1e-4


def test_transfer_options_by_hand():
    still = keypoints([[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]], variance=0.02)  # hull area 2.56
    first = keypoints([[-0.4, -0.4], [0.4, -0.4], [0.4, 0.4], [-0.4, 0.4]], variance=0.01)  # hull area 0.64
    moved = Keypoints(first.mean + torch.tensor([0.2, 0.0]), 4 * first.covariance)

    plain = transfer(still, first, moved, Drive(VIDEO))
    assert torch.allclose(plain.mean, still.mean + torch.tensor([0.2, 0.0]))
    assert torch.equal(plain.covariance, moved.covariance)
    scaled = transfer(still, first, moved, Drive(VIDEO, scale_motion=True))
    assert torch.allclose(scaled.mean, still.mean + torch.tensor([0.4, 0.0]))
    clipped = transfer(still, first, moved, Drive(VIDEO, clip=True))
    assert clipped.mean.max() <= 1
    assert torch.allclose(clipped.mean[..., 1], still.mean[..., 1])
    adapted = transfer(still, first, moved, Drive(VIDEO, adapt_covariance=True))
    assert torch.allclose(adapted.covariance, 4 * still.covariance, atol=1e-6)  # driver grew by 4: so does the still
    assert transfer(still, first, moved, Drive(VIDEO, transfer="absolute")) is moved


def test_one_driving_frame_is_enough_and_frames_limits_them():
    driving = system()
    assert driving.animate(STILL, Drive(VIDEO[:1]), size="model").frames().shape == (1, 64, 64, 3)
    assert len(list(driving.animate(STILL, Drive(VIDEO), frames=3))) == 3
    assert len(list(driving.animate(STILL, Drive(VIDEO), frames=99))) == 5
    with pytest.raises(StillmotionError, match="frames"):
        driving.animate(STILL, Drive(VIDEO), frames=0)
    with pytest.raises(StillmotionError, match="size"):
        driving.animate(STILL, Drive(VIDEO), size="huge")


def test_layers_explain_each_frame():
    step = next(iter(system(composite=True).animate(STILL, Drive(VIDEO), layers=True)))
    assert set(step.layers) == {"driving", "keypoints", "flow", "masks", "warped"}
    assert {picture.shape for picture in step.layers.values()} == {(256, 256, 3)}
    assert step.facts["displacement"].shape == (64, 64, 2)
    assert step.facts["covariance"].shape == (3, 2, 2)


def test_paths_are_drawn_through_the_keypoints_places():
    from stillmotion.systems.driving.drawing import draw_paths, palette

    paths = np.array([[[-1.0, 0.0]], [[1.0, 0.0]]])  # one keypoint from the left rim to the right
    drawn = draw_paths(np.zeros((65, 65, 3), np.uint8), paths)
    assert (drawn[32] == palette(1)[0]).all()
    assert not drawn[40:].any()


def test_grey_drawing_means_no_flow_and_colours_follow_the_direction():
    from stillmotion.systems.driving.drawing import draw_flow

    flow = np.zeros((2, 2, 2), np.float32)
    flow[0, 0] = (0.25, 0)
    picture = draw_flow(flow)
    assert picture[1, 1].tolist() == [255, 255, 255]
    assert picture[0, 0].tolist() == [255, 0, 0]  # to the right: red


# --- the driver's reference frame ----------------------------------------------------------------------------------


def test_the_best_frame_is_the_reference_whatever_the_video_is_given_as(tmp_path, monkeypatch):
    monkeypatch.setattr("stillmotion.systems.driving.animating.BATCH", 4)  # so that it lies in the second batch
    driving = system()
    video = np.concatenate([VIDEO, STILL[None], VIDEO])  # frame 5 is the still itself
    media.write_video(tmp_path / "drive.png", iter(video), 25)
    for given in (video, tmp_path / "drive.png"):
        steps = list(driving.animate(STILL, Drive(given, align="best"), size="model"))
        assert {int(step.facts["reference"]) for step in steps} == {5}
        found = np.stack([step.facts["mean"] for step in steps])
        assert np.allclose(found[5], own_means(driving, STILL), atol=1e-5)
        assert np.abs(found[0] - found[5]).max() > 1e-3  # the output starts at driving frame 0, which is moved
    first = list(driving.animate(STILL, Drive(video), size="model"))
    assert {int(step.facts["reference"]) for step in first} == {0}
    assert not np.allclose(first[5].facts["mean"], found[5], atol=1e-3)


def test_the_best_frame_is_looked_for_among_the_frames_asked_for():
    driving = system()
    video = np.concatenate([VIDEO, STILL[None]])
    steps = list(driving.animate(STILL, Drive(video, align="best"), frames=3, size="model"))
    assert len(steps) == 3
    assert int(steps[0].facts["reference"]) < 3


def test_absolute_transfer_has_no_reference():
    driving = system()
    steps = [
        next(iter(driving.animate(STILL, Drive(VIDEO, transfer="absolute", align=a)))) for a in ("first", "best")
    ]
    assert "reference" not in steps[1].facts
    assert np.array_equal(steps[0].frame, steps[1].frame)


class CountedVideo:
    """A long video as `media.open_video` gives it, which counts how many of its frames are alive."""

    def __init__(self, frames: int):
        self.frames, self.alive, self.most, self.fps = frames, 0, 0, 25.0

    def count(self, thing: object) -> None:
        weakref.finalize(thing, self._gone)
        self.alive += 1
        self.most = max(self.most, self.alive)

    def _gone(self) -> None:
        self.alive -= 1

    def __call__(self, _: object) -> CountedVideo:
        return self

    def __enter__(self) -> CountedVideo:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __iter__(self):
        for t in range(self.frames):
            frame = np.roll(VIDEO[0], t, axis=1)
            self.count(frame)
            yield frame
            del frame


def most_alive(length: int, align: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many frames, batches and keypoints are alive at most while a driver of this length is followed."""
    driving, video = system(), CountedVideo(length)
    monkeypatch.setattr(media, "open_video", video)

    def count(_: object, seen: tuple, found: Keypoints) -> None:
        for thing in (*seen, *found):
            video.count(thing)

    driving.networks.detector.register_forward_hook(count)
    assert sum(1 for _ in driving.animate(STILL, Drive("long.mp4", align=align), size="model")) == length
    return video.most


@pytest.mark.parametrize("align", ["first", "best"])
def test_memory_does_not_grow_with_the_drivers_length(align, monkeypatch):
    monkeypatch.setattr("stillmotion.systems.driving.animating.BATCH", 2)
    assert most_alive(6, align, monkeypatch) == most_alive(24, align, monkeypatch)


# --- a still that does not fit -------------------------------------------------------------------------------------


def test_a_still_that_does_not_fit_brings_one_sentence_with_the_crop_and_auto_uses_it():
    driving = seeing()
    still = spot((120, 200), 110, 60, 18)  # a body of a fifth of what the driver's takes
    fit = driving.fit(still, Drive(DRIVER))
    assert fit is not None
    assert fit.size_ratio == pytest.approx(18 / 200 / (24 / 64), rel=0.1)
    x, y, w, h = fit.crop
    assert fit.whole
    assert abs(w - 64 * 18 / 24) <= 2
    assert abs(x - (110 - 20 * 18 / 24)) <= 2
    assert abs(y - (60 - 16 * 18 / 24)) <= 2

    with pytest.warns(StillmotionWarning, match=f"--crop {x},{y},{w},{h} cuts out") as caught:
        list(driving.animate(still, Drive(DRIVER)))
    assert len(caught) == 1
    assert str(caught[0].message).endswith(".")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(driving.animate(still, Drive(DRIVER, transfer="absolute"), size="model"))
        (step, _) = driving.animate(still, Drive(DRIVER, crop="auto"))
    assert step.frame.shape == (h, w, 3)
    assert step.facts["crop"].tolist() == [x, y, w, h]


def test_a_crop_is_the_part_animated_alone_and_a_region_stays_in_pixels_of_the_still_given():
    driving = seeing()
    still = spot((120, 200), 110, 60, 18)
    cut = driving.animate(still[50:100, 90:150], Drive(DRIVER)).frames()
    assert np.array_equal(driving.animate(still, Drive(DRIVER, crop=(90, 50, 60, 50))).frames(), cut)
    assert cut.shape == (2, 50, 60, 3)
    centre = (
        112,
        62,
        12,
        12,
    )  # holds the first of the three keypoints in the still given, and none in the part's pixels
    steps = list(driving.animate(still, Drive(DRIVER, crop=(90, 50, 60, 50), region=centre)))
    assert np.abs(steps[1].facts["mean"][0] - steps[0].facts["mean"][0]).max() > 0.05
    assert np.array_equal(steps[1].facts["mean"][1:], steps[0].facts["mean"][1:])
    with pytest.raises(StillmotionError, match="The crop 190,0,11,10 reaches out"):
        list(driving.animate(still, Drive(DRIVER, crop=(190, 0, 11, 10))))


def test_an_automatic_crop_at_the_border_says_that_it_had_to_stay_inside():
    with pytest.warns(StillmotionWarning, match="had to stay inside the still"):
        list(seeing().animate(spot((120, 200), 2, 100, 18), Drive(DRIVER, crop="auto")))


# --- how it is asked for -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ({"align": "middle"}, "first or best"),
        ({"region": (0, 0, 0, 5)}, "region"),
        ({"region": (-1, 0, 5, 5)}, "region"),
        ({"region": (0, 0, 5)}, "region"),
        ({"region": (0, 0, 5.5, 5)}, "region"),
        ({"region": "auto"}, "region"),
        ({"crop": (0, 0, 5, 0)}, "crop"),
        ({"crop": "middle"}, "crop"),
    ],
)
def test_a_drive_refuses_options_without_sense(option, word):
    with pytest.raises(StillmotionError, match=word) as caught:
        Drive(VIDEO, **option)
    assert "\n" not in str(caught.value)


def test_the_command_line_knows_the_options_and_the_releases_names(tmp_path, capsys):
    driving = system(composite=True)
    driving.save_pretrained(tmp_path / "model")
    media.write_picture(tmp_path / "me.png", STILL)
    media.write_video(tmp_path / "drive.png", iter(VIDEO), 25)

    def run(*more: str) -> int:
        paths = ["--model", str(tmp_path / "model"), "--drive", str(tmp_path / "drive.png")]
        return cli.main(["animate", str(tmp_path / "me.png"), *paths, "-y", "-o", str(tmp_path / "out.png"), *more])

    x, y = own_means(driving, STILL)[0] * 31.5 + 31.5
    region = f"{int(x) - 6},{int(y) - 6},13,13"
    asked = ("--movement-mult", "--clip-mean", "--adapt-variance", "--align", "best", "--keep-background")
    assert run(*asked, "--region", region) == 0
    found = media.read_video(tmp_path / "out.png")[0]
    aim = Drive(
        VIDEO,
        scale_motion=True,
        clip=True,
        adapt_covariance=True,
        align="best",
        keep_background=True,
        region=tuple(map(int, region.split(","))),
    )
    assert np.array_equal(found, driving.animate(STILL, aim).frames())
    assert run("--crop", "3, 4, 20, 30") == 0
    assert media.read_video(tmp_path / "out.png", frame_width=20)[0].shape == (5, 30, 20, 3)
    capsys.readouterr()
    for wrong in (("--crop", "1,2,3"), ("--region", "a,b,c,d"), ("--region", "0,0,0,4")):
        assert run(*wrong) == 2
        said = capsys.readouterr().err
        assert wrong[0][2:] in said
        assert said.count("\n") == 1


def test_warnings_are_told_as_sentences(capsys):
    with warnings_told():
        warnings.warn("It will not fit.", StillmotionWarning, stacklevel=1)
        warnings.warn("It will not fit.", StillmotionWarning, stacklevel=1)
    assert capsys.readouterr().err == "stillmotion: It will not fit.\n" * 2
    with pytest.warns(RuntimeWarning, match="other"), warnings_told():
        warnings.warn("other", RuntimeWarning, stacklevel=1)
