"""facts/monkey-net.md section 12, items 14 and 15: a driving video followed; its reference frame; crops; options."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driving_tools import DRIVER, STILL, VIDEO, at, own_means, seeing, spot, system
from refusals import refuses
from stillmotion import cli, media
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionWarning
from stillmotion.systems.driving import Drive
from stillmotion.systems.driving.animating import Driving

# Untrained networks find bodies of any size; what fits is tested below with a detector that sees.
pytestmark = pytest.mark.filterwarnings("ignore:The body in the still")

BATCH = "stillmotion.systems.driving.transfer.BATCH"


def means(animation: Any) -> np.ndarray:
    return np.stack([step.facts["mean"] for step in animation])


def frames(driving: Driving, still: np.ndarray, control: Drive) -> np.ndarray:
    return driving.animate(still, control, size="model").frames().astype(int)


def test_relative_transfer_of_a_standing_driver_keeps_the_stills_keypoints() -> None:
    driving = system()
    standing = np.repeat(VIDEO[:1], 4, axis=0)
    assert np.allclose(means(driving.animate(STILL, Drive(standing))), own_means(driving, STILL), atol=1e-6)


def test_relative_transfer_onto_the_drivers_own_first_frame_is_a_reconstruction() -> None:
    driving = system()
    relative, absolute = (frames(driving, VIDEO[0], Drive(VIDEO, transfer=t)) for t in ("relative", "absolute"))
    assert np.abs(relative - absolute).max() <= 1


def test_absolute_transfer_ignores_the_first_frame() -> None:
    driving = system()
    whole, rest = (frames(driving, STILL, Drive(video, transfer="absolute")) for video in (VIDEO, VIDEO[1:]))
    assert np.abs(whole[1:] - rest).max() <= 1
    moved = [means(driving.animate(STILL, Drive(video))) for video in (VIDEO, VIDEO[1:])]
    assert not np.allclose(moved[0][1:], moved[1], atol=1e-4)


def test_a_video_that_does_not_say_is_transferred_as_the_model_is_configured() -> None:
    """The release's moving-gif takes keypoints as they are unless told otherwise (sheet, section 7)."""
    absolute, relative = system(transfer="absolute"), system()
    for driving, other in ((absolute, "relative"), (relative, "absolute")):
        plain = means(driving.animate(STILL, Drive(VIDEO)))
        assert np.array_equal(plain, means(driving.animate(STILL, Drive(VIDEO, transfer=driving.config.transfer))))
        assert not np.allclose(plain, means(driving.animate(STILL, Drive(VIDEO, transfer=other))), atol=1e-3)


def test_frames_fed_in_any_number_keep_the_first_driving_frame_as_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pitfall of the sheet: a reference per batch would make a still video."""
    driving = system()
    whole = means(driving.animate(STILL, Drive(VIDEO)))
    monkeypatch.setattr(BATCH, 1)
    assert np.allclose(means(driving.animate(STILL, Drive(VIDEO))), whole, atol=1e-5)
    assert np.abs(whole[-1] - whole[0]).max() > 1e-4


def test_one_driving_frame_is_enough_and_frames_limits_them() -> None:
    driving = system()
    assert driving.animate(STILL, Drive(VIDEO[:1]), size="model").frames().shape == (1, 64, 64, 3)
    assert len(list(driving.animate(STILL, Drive(VIDEO), frames=3))) == 3
    assert len(list(driving.animate(STILL, Drive(VIDEO), frames=99))) == 5
    refuses("frames", driving.animate, STILL, Drive(VIDEO), frames=0)
    refuses("size", driving.animate, STILL, Drive(VIDEO), size="huge")


def test_layers_explain_each_frame(tmp_path: Path) -> None:
    """Those of the networks enlarged, those of the still in its own size."""
    still = np.kron(STILL, np.ones((2, 1, 1), np.uint8))
    media.write_picture(tmp_path / "mask.png", np.where(spot((128, 64), 20, 30, 24) > 100, 255, 0).astype(np.uint8))
    driving = system(**at("generator", fields=True))
    step = next(iter(driving.animate(still, Drive(VIDEO), layers=True, mask=tmp_path / "mask.png")))
    assert step.layers.keys() == driving.layer_captions.keys()
    own = {name: picture.shape for name, picture in step.layers.items() if name in ("figure", "plate")}
    assert own == dict.fromkeys(("figure", "plate"), (128, 64, 3))
    assert {step.layers[name].shape for name in step.layers.keys() - own} == {(256, 256, 3)}
    assert step.facts["shares"].shape == (4, 64, 64)
    assert np.allclose(step.facts["shares"].sum(0), 1, atol=1e-5)
    assert step.facts["displacement"].shape == (64, 64, 2)
    assert step.facts["covariance"].shape == (3, 2, 2)


def test_a_clip_drives_its_own_first_frame() -> None:
    drive = system().control_of(Clip("wave", VIDEO, 12.5))
    assert np.array_equal(drive.video, VIDEO)
    assert (drive.transfer, drive.fps) == ("absolute", 12.5)


# --- the driver's reference frame ----------------------------------------------------------------------------------
def test_the_best_frame_is_the_reference_whatever_the_video_is_given_as(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(BATCH, 4)  # so that it lies in the second batch
    driving = system()
    video = np.concatenate([VIDEO, STILL[None], VIDEO])  # frame 5 is the still itself
    media.write_video(tmp_path / "drive.png", iter(video), 25)
    for given in (video, tmp_path / "drive.png"):
        steps = list(driving.animate(STILL, Drive(given, align="best"), size="model"))
        assert {int(step.facts["reference"]) for step in steps} == {5}
        found = means(steps)
        assert np.allclose(found[5], own_means(driving, STILL), atol=1e-5)
        assert np.abs(found[0] - found[5]).max() > 1e-3  # the output starts at driving frame 0, which is moved
    first = list(driving.animate(STILL, Drive(video), size="model"))
    assert {int(step.facts["reference"]) for step in first} == {0}
    assert not np.allclose(first[5].facts["mean"], found[5], atol=1e-3)


def test_the_best_frame_is_looked_for_among_the_frames_asked_for() -> None:
    video = np.concatenate([VIDEO, STILL[None]])
    steps = list(system().animate(STILL, Drive(video, align="best"), frames=3, size="model"))
    assert len(steps) == 3
    assert int(steps[0].facts["reference"]) < 3


def test_absolute_transfer_has_no_reference() -> None:
    driving = system()
    first, best = (
        next(iter(driving.animate(STILL, Drive(VIDEO, transfer="absolute", align=align))))
        for align in ("first", "best")
    )
    assert "reference" not in best.facts
    assert np.array_equal(first.frame, best.frame)


# --- a still that does not fit -------------------------------------------------------------------------------------
def test_a_still_that_does_not_fit_brings_one_sentence_with_the_crop_and_auto_uses_it() -> None:
    driving = seeing()
    still = spot((120, 200), 110, 60, 18)  # a body of a fifth of what the driver's takes
    (step, _) = driving.animate(still, Drive(DRIVER, crop="auto"))
    x, y, w, h = (int(value) for value in step.facts["crop"])
    assert step.frame.shape == (h, w, 3)
    assert abs(w - 64 * 18 / 24) <= 2
    assert abs(x - (110 - 20 * 18 / 24)) <= 2
    assert abs(y - (60 - 16 * 18 / 24)) <= 2
    with pytest.warns(StillmotionWarning, match=f"--crop {x},{y},{w},{h} cuts out") as caught:
        list(driving.animate(still, Drive(DRIVER)))
    assert len(caught) == 1
    told = str(caught[0].message)
    assert told.endswith(".")
    ratio = float(told.partition("has ")[2].partition(" times")[0])
    assert ratio == pytest.approx(18 / 200 / (24 / 64), rel=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(driving.animate(still, Drive(DRIVER, transfer="absolute"), size="model"))
        list(driving.animate(still, Drive(DRIVER, crop="auto")))


def test_a_crop_is_the_part_animated_alone_and_a_region_stays_in_pixels_of_the_still_given() -> None:
    driving = seeing()
    still, crop = spot((120, 200), 110, 60, 18), (90, 50, 60, 50)
    cut = driving.animate(still[50:100, 90:150], Drive(DRIVER)).frames()
    assert np.array_equal(driving.animate(still, Drive(DRIVER, crop=crop)).frames(), cut)
    assert cut.shape == (2, 50, 60, 3)
    # Holds the first of the three keypoints in the still given, and none in the part's pixels.
    steps = list(driving.animate(still, Drive(DRIVER, crop=crop, region=(112, 62, 12, 12))))
    assert np.abs(steps[1].facts["mean"][0] - steps[0].facts["mean"][0]).max() > 0.05
    assert np.array_equal(steps[1].facts["mean"][1:], steps[0].facts["mean"][1:])
    assert steps[1].facts["crop"].tolist() == list(crop)
    refuses("The crop 190,0,11,10 reaches out", list, driving.animate(still, Drive(DRIVER, crop=(190, 0, 11, 10))))


def test_an_automatic_crop_at_the_border_says_that_it_had_to_stay_inside() -> None:
    with pytest.warns(StillmotionWarning, match="had to stay inside the still"):
        list(seeing().animate(spot((120, 200), 2, 100, 18), Drive(DRIVER, crop="auto")))


# --- how it is asked for -------------------------------------------------------------------------------------------
def test_the_command_line_knows_the_options_and_the_releases_names(tmp_path, capsys) -> None:
    driving = system(**at("generator", fields=True))
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
    control = Drive(
        VIDEO,
        scale_motion=True,
        clip_mean=True,
        adapt_covariance=True,
        align="best",
        keep_background=True,
        region=tuple(map(int, region.split(","))),
    )  # fmt: skip
    assert np.array_equal(found, driving.animate(STILL, control).frames())
    assert run("--crop", "3, 4, 20, 30") == 0
    assert media.read_video(tmp_path / "out.png", frame_width=20)[0].shape == (5, 30, 20, 3)
    capsys.readouterr()
    for wrong in (("--crop", "1,2,3"), ("--region", "a,b,c,d"), ("--region", "0,0,0,4")):
        assert run(*wrong) == 2
        said = capsys.readouterr().err
        assert wrong[0][2:] in said
        assert said.count("\n") == 1
