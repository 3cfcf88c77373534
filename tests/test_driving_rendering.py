"""What driving hands to the renderer: stills, fields, the figure and the plate; and what comes out at full size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from driving_tools import STILL, VIDEO, at, handmade, keypoints, output, prepare, spot, system
from refusals import refuses
from stillmotion import cli, media
from stillmotion.errors import StillmotionError
from stillmotion.keypoints.networks import GeneratorOutput
from stillmotion.keypoints.playing import as_fields, pick
from stillmotion.rendering.canvas import Canvas, to_network
from stillmotion.rendering.compositing import Renderer
from stillmotion.rendering.fields import PLATE
from stillmotion.systems.driving import Drive

# Untrained networks find bodies of any size.
pytestmark = pytest.mark.filterwarnings("ignore:The body in the still")

CPU = torch.device("cpu")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (*shape, 3), dtype=np.uint8)


# --- stills and places ---------------------------------------------------------------------------------------------
def test_convention_networks_of_driving_see_zero_to_one() -> None:
    black, white = np.zeros((4, 8), np.uint8), np.full((4, 8), 255, np.uint8)
    seen = to_network(np.stack([black, white, black], -1), 16, CPU)
    assert seen.shape == (1, 3, 16, 16)
    assert (seen[:, 0].max(), seen[:, 1].min(), seen[:, 2].max()) == (0, 1, 0)
    assert torch.equal(prepare(system(), np.full((50, 70, 3), 255, np.uint8)).small, torch.ones(1, 3, 64, 64))


def test_convention_full_size_pictures_align_outer_edges() -> None:
    """A network pixel stands for 4 x 4 pixels of the picture: those that `media.resize` makes it of."""
    slope = np.broadcast_to(4 * np.arange(64, dtype=np.uint8)[:, None], (64, 64, 3))
    canvas = Canvas.prepare(slope, 16, None, CPU)
    assert canvas.scale == 4
    middle = media.to_pictures(canvas.small)[0, 8, 3:13, 0]
    assert middle.tolist() == [4 * (4 * x + 1.5) for x in range(3, 13)]  # the slope's value at the pixels' centre
    centres = torch.tensor([[1.5, 1.5], [5.5, 61.5]])  # of the blocks 0, 0 and 1, 15
    assert torch.equal(canvas.to_small(centres), torch.tensor([[0.0, 0.0], [1.0, 15.0]]))
    edges = torch.tensor([[-0.5, 63.5]])  # the picture's outer edges are the network's
    assert torch.equal(canvas.to_small(edges), torch.tensor([[-0.5, 15.5]]))
    rows, columns = canvas.enlarger()
    ramp = torch.arange(16.0).expand(16, 16)
    expected = ((torch.arange(64) + 0.5) / 4 - 0.5).clamp(0, 15)
    assert torch.allclose(rows @ ramp @ columns.T, expected.expand(64, 64), atol=1e-5)


def test_points_of_the_picture_and_of_the_padded_part_belong_together() -> None:
    """A part 40 wide and 20 high lies 10 rows below the top of its square; its corner is at (5, 7) of the picture."""
    canvas = Canvas.prepare(noise(60, 80), 64, (5, 7, 40, 20), CPU)
    assert (canvas.box, canvas.side, canvas.given) == ((0, 10, 40, 30), 40, (60, 80))
    points = torch.tensor([[5.0, 7.0], [44.0, 26.0]])  # the part's first and last pixel
    expected = torch.tensor([[0.5, 10.5], [39.5, 29.5]]) * 64 / 40 - 0.5
    assert torch.allclose(canvas.to_small(points), expected, atol=1e-5)
    assert torch.allclose(canvas.to_given(canvas.to_small(points)), points, atol=1e-5)
    assert canvas.picture.shape == (20, 40, 3)
    with pytest.raises(StillmotionError, match="The crop 5,7,76,20 reaches out of the still, which is 80 x 60"):
        Canvas.prepare(noise(60, 80), 64, (5, 7, 76, 20), CPU)


# --- the paper's generator at full size ----------------------------------------------------------------------------
def rendered(picture: np.ndarray, made: GeneratorOutput) -> np.ndarray:
    """A frame at full size, without a backdrop."""
    return Renderer(prepare(system(), picture), None).render(*as_fields(made))


GREY = torch.full((1, 3, 64, 64), 0.5)


@pytest.mark.parametrize("shape", [(200, 200), (47, 83), (300, 101)])
def test_the_papers_generator_keeps_what_does_not_move_at_any_size(shape: tuple[int, int]) -> None:
    picture, drifting = noise(*shape), torch.full((1, 64, 64, 2), 0.1 * 2 / 63)  # a tenth of a network pixel
    assert np.array_equal(rendered(picture, output(GREY, drifting)), picture)


@pytest.mark.parametrize("size", [64, 32])
def test_the_papers_generator_moves_the_large_still_by_its_enlarged_flow(size: int) -> None:
    """Looking four of 64 network pixels to the left, or two of a flow of 32: eight of the picture's 128."""
    picture, displacement = noise(128, 128), torch.zeros(1, size, size, 2)
    displacement[..., 0] = -4 * 2 / 63
    moved = rendered(picture, output(GREY, displacement))
    assert np.array_equal(moved[:, 8:], picture[:, :-8])


def test_what_the_papers_generator_adds_to_the_warped_still_is_enlarged_and_added() -> None:
    picture = np.full((96, 128, 3), 100, np.uint8)
    made = output(GREY, torch.zeros(1, 64, 64, 2))
    frame = made.frame.clone()
    frame[:, 0, :, 32:] += 51 / 255  # the right half becomes redder
    found = rendered(picture, made._replace(frame=frame)).astype(int)
    assert (found[:, :63] == 100).all()
    assert (found[:, 65:] == [151, 100, 100]).all()
    assert (found[:, 63:65, 0] > 100).all()  # enlarged: half a network pixel on each side of the edge


def test_a_generator_with_fields_is_taken_at_its_word() -> None:
    made = output(GREY, torch.rand(1, 64, 64, 2), shares=(0.1, 0.2, 0.3, 0.4))
    fields, residual = as_fields(made)
    assert fields is made.fields
    assert residual is None


def test_one_frame_of_a_batch_is_picked_with_all_that_belongs_to_it() -> None:
    networks = system(**at("generator", fields=True)).networks
    still, points = torch.rand(3, 3, 64, 64), keypoints([[0.0, 0.0]] * 3)
    many = type(points)(*(part.expand(3, *part.shape[1:]) for part in points))
    batch = networks.generator(networks.generator.encode(still), many, many)
    one = pick(batch, 2)
    assert torch.equal(one.frame, batch.frame[2:])
    assert torch.equal(one.warped, batch.warped[2:])
    assert torch.equal(one.motion.displacement, batch.motion.displacement[2:])
    assert one.motion.masks is not None
    assert torch.equal(one.motion.masks, batch.motion.masks[2:])
    assert one.fields is not None
    assert all(torch.equal(part, whole[2:]) for part, whole in zip(one.fields, batch.fields, strict=True))


# --- the figure and the plate --------------------------------------------------------------------------------------
PLAIN = np.full((64, 64, 3), 30, np.uint8)
PLAIN[16:32, 16:32] = 220  # the figure of `HandmadeFields`
WALL = np.random.default_rng(7).integers(60, 200, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A still of 96 x 80 pixels, a mask of its lower right part, and what lies behind that."""
    mask = np.zeros((80, 96, 3), np.uint8)
    mask[40:72, 60:84] = 255
    pictures = {"still": noise(80, 96), "mask": mask, "plate": 255 - noise(80, 96), "small": noise(80, 95)}
    for name, picture in pictures.items():
        media.write_picture(tmp_path / f"{name}.png", picture)
    return {name: tmp_path / f"{name}.png" for name in pictures}


def plates_seen(driving: Any, *given: Any, **options: Any) -> Tensor | None:
    """The plate that the networks are given with the first frames."""
    seen = []
    hook = driving.networks.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].plate))
    next(driving.open(*given, **options))
    hook.remove()
    plate: Tensor | None = seen[0]
    return plate


def test_the_stills_plate_reaches_the_generator() -> None:
    """Inpainted behind the figure that the mask head finds: dark everywhere, and known."""
    plate = plates_seen(handmade(), PLAIN, Drive(VIDEO))
    assert plate is not None
    assert plate.shape == (1, 4, 64, 64)
    assert (plate[:, 3] == 1).all()
    assert (plate[:, :3] - 30 / 255).abs().max() < 5 / 255
    step = next(iter(handmade().animate(PLAIN, Drive(VIDEO))))
    assert step.facts["shares"][PLATE].max() == 1


def test_without_a_figure_or_with_none_the_networks_have_no_plate() -> None:
    driving = handmade()
    assert plates_seen(driving, PLAIN, Drive(VIDEO), plate="none") is None
    step = next(iter(driving.animate(PLAIN, Drive(VIDEO), plate="none", layers=True)))
    assert step.facts["shares"][PLATE].max() == 0
    assert not {"figure", "plate"} & step.layers.keys()
    driving.networks.generator.figure_at = (slice(0, 0), slice(0, 0))
    assert plates_seen(driving, PLAIN, Drive(VIDEO)) is None
    assert plates_seen(system(), STILL, Drive(VIDEO)) is None  # the paper's generator knows none


def test_a_mask_and_a_plate_of_ones_own_are_taken(files: dict[str, Path]) -> None:
    """As layers at the still's own size, and the plate shrunk for the networks."""
    driving, still, control = handmade(), media.read_picture(files["still"]), Drive(VIDEO)
    plate, mask = (media.read_picture(files[name]) for name in ("plate", "mask"))
    asked = {"mask": files["mask"], "plate": str(files["plate"])}
    seen = plates_seen(driving, still, control, **asked)
    assert seen is not None
    assert torch.equal(seen[:, :3], to_network(plate, 64, CPU))
    layers = next(iter(driving.animate(still, control, layers=True, **asked))).layers
    assert np.array_equal(layers["plate"], plate)
    darkened = np.where(mask > 0, still, np.rint(still * 0.25)).astype(np.uint8)
    assert np.array_equal(layers["figure"], darkened)


def test_a_mask_of_ones_own_is_cut_with_the_still(files: dict[str, Path]) -> None:
    still, crop = media.read_picture(files["still"]), (50, 30, 40, 44)
    options = {"mask": files["mask"], "plate": files["plate"], "layers": True}
    layers = next(iter(handmade().animate(still, Drive(VIDEO, crop=crop), **options))).layers
    assert np.array_equal(layers["plate"], media.read_picture(files["plate"])[30:74, 50:90])
    assert np.array_equal(layers["figure"][10:42, 10:34], still[40:72, 60:84])


@pytest.mark.parametrize("name", ["mask", "plate"])
def test_a_mask_or_a_plate_of_another_size_is_refused(files: dict[str, Path], name: str) -> None:
    given = {"mask": files["mask"]}
    message = rf"The {name} .*small.png is 95 x 80 pixels, and the still 96 x 80: they must be equally large\."
    for path, words in ((files["small"], message), ("nothing.png", "nothing.png")):
        frames = handmade().animate(media.read_picture(files["still"]), Drive(VIDEO), **{**given, name: path})
        refuses(words, list, frames)


@pytest.mark.parametrize("option", [{"mask": "mask"}, {"plate": "plate"}, {"plate": "none"}])
def test_a_generator_without_fields_takes_neither(files: dict[str, Path], option: dict[str, str]) -> None:
    given = {name: files.get(value, value) for name, value in option.items()}
    for way in (system().animate, system().open):
        refuses("has no fields, which a mask and a plate are for: leave --mask", way, STILL, Drive(VIDEO), **given)


def test_the_command_line_takes_both_and_refuses_another_size(
    files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    driving = system(**at("generator", fields=True))
    driving.save_pretrained(tmp_path / "model")
    media.write_video(tmp_path / "drive.png", iter(VIDEO), 25)

    def run(*more: str) -> int:
        paths = ["--model", str(tmp_path / "model"), "--drive", str(tmp_path / "drive.png")]
        out = ["--layers", str(tmp_path / "layers"), "-y", "-o", str(tmp_path / "out.png")]
        return cli.main(["animate", str(files["still"]), *paths, *out, "--transfer", "absolute", *more])

    asked = {name: str(files[name]) for name in ("mask", "plate")}
    assert run("--mask", asked["mask"], "--plate", asked["plate"]) == 0
    expected = driving.animate(
        media.read_picture(files["still"]), Drive(VIDEO, transfer="absolute"), **asked
    ).frames()
    assert np.array_equal(media.read_video(tmp_path / "out.png", frame_width=96)[0], expected)
    shown = media.read_video(tmp_path / "layers" / "plate.png", frame_width=96)[0]
    assert np.array_equal(shown[0], media.read_picture(files["plate"]))
    capsys.readouterr()
    assert run("--mask", str(files["small"])) == 2
    said = capsys.readouterr().err
    assert "is 95 x 80 pixels, and the still 96 x 80" in said
    assert said.count("\n") == 1


# --- what the frames show ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("size", "scale"), [("model", 1), ("native", 2)])
def test_frames_show_the_plate_where_the_fields_say_so(size: str, scale: int, tmp_path: Path) -> None:
    """The figure's place, left: its plate there, the still's own pixels elsewhere."""
    large = PLAIN.repeat(scale, 0).repeat(scale, 1)
    wall, mask = WALL.repeat(scale, 0).repeat(scale, 1), np.where(large > 100, 255, 0).astype(np.uint8)
    media.write_picture(tmp_path / "wall.png", wall)
    media.write_picture(tmp_path / "mask.png", mask)
    options = {"mask": tmp_path / "mask.png", "plate": tmp_path / "wall.png", "size": size}
    frame = handmade().animate(large, Drive(VIDEO[:1]), **options).frames()[0]
    left, top = slice(18 * scale, 30 * scale), slice(18 * scale, 30 * scale)
    assert np.array_equal(frame[left, top], wall[left, top])
    away = slice(40 * scale, None)
    assert np.array_equal(frame[away], large[away])


def test_frames_do_not_depend_on_how_many_go_through_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure that is wider than the mask head says leaves bit by bit; what has been shown stays as it is."""
    driving = handmade(widens=True)
    video = np.stack([spot((64, 64), 20 + t, 16, 24) for t in range(5)])
    large = PLAIN.repeat(2, 0).repeat(2, 1)
    large[32:64, 64:96] = 220  # the still's figure is twice as wide
    frames = {}
    for size in ("native", "model"):
        for batch in (16, 1):
            monkeypatch.setattr("stillmotion.systems.driving.transfer.BATCH", batch)
            frames[batch] = driving.animate(large, Drive(video), size=size).frames()
        assert np.array_equal(frames[16], frames[1]), size
        with driving.open(large, size=size) as rollout:
            for frame, expected in zip(video, frames[16], strict=True):
                rollout.send(Drive(frame[None]))
                assert np.array_equal(next(rollout).frame, expected), size
        ghost = frames[16][-1][36:60, 70:90] if size == "native" else frames[16][-1][18:30, 35:45]
        assert ghost.max() < 100, size  # what the mask head missed is not in the plate
