"""Optical flow: DIS, a network in an ONNX file, and the exact flow of clips that know their motion."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from refusals import refuses
from stillmotion.data.clip import Clip
from stillmotion.data.examples import moving_square
from stillmotion.data.flow import DISFlow, chained_flow, check_flow, find_flow, flow_of, resize_flow
from stillmotion.data.part_flow import flow_between
from stillmotion.worlds import sample_clip


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5)


def forbidden(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    raise AssertionError("the flow is known and must not be estimated")


@pytest.mark.parametrize(("height", "width"), [(48, 64), (140, 130)])
def test_dis_measures_a_shift(height: int, width: int) -> None:
    """A picture that moves by (2, -1): what is at (x, y) is at (x + 2, y - 1) then."""
    large = textured(height + 4, width + 4)
    first, second = large[2:-2, 2:-2], large[3:-1, :-4]
    flow = find_flow("dis")(first, second)
    assert (flow.shape, flow.dtype) == ((height, width, 2), np.float32)
    assert np.abs(flow[8:-8, 8:-8] - [2, -1]).mean() < 0.1


def test_enlarging_lowers_the_error() -> None:
    """The plants of seed 3, ten frames apart; the docstring of `DISFlow` has the figures."""
    errors = {factor: [] for factor in (1, 3)}
    for index in range(3):
        clip = sample_clip("plants", 3, index, 64, 24)
        parts, moves = clip.tracks["parts"], clip.tracks["moves"]
        for first in (0, 6):
            truth = flow_between(parts, moves, first, first + 10)
            counts = (parts[first] > 0) & (np.linalg.norm(truth, axis=-1) > 0.5)
            for factor, found in errors.items():
                flow = DISFlow(enlarge=factor)(clip.frames[first], clip.frames[first + 10])
                found.append(np.linalg.norm(flow - truth, axis=-1)[counts])
    as_is, enlarged = (np.median(np.concatenate(errors[factor])) for factor in (1, 3))
    assert enlarged < 0.75 * as_is
    default = find_flow("dis")(clip.frames[0], clip.frames[10])
    assert np.array_equal(default, DISFlow(enlarge=3)(clip.frames[0], clip.frames[10]))


def test_names_and_what_is_refused() -> None:
    frame = textured(32, 32)
    assert not np.array_equal(find_flow("dis:fast")(frame, frame[::-1]), find_flow("dis")(frame, frame[::-1]))
    refuses("no preset 'slow': choose from medium, fast, ultrafast", find_flow, "dis:slow")
    refuses("no optical flow 'raft'", find_flow, "raft")
    for wrong in (frame[:16], frame.astype(np.float32), frame[..., 0]):
        refuses("two frames of one size", find_flow("dis"), frame, wrong)


# --- ONNX, written by hand: a difference of the frames and a 1 x 1 convolution --------------------------------------
def varint(number: int) -> bytes:
    last = bytes([number & 127])
    return last if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def entry(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor_info(name: str, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(entry(1, entry(1, side)) for side in shape)
    return entry(1, name) + entry(2, entry(1, entry(1, 1) + entry(2, dims)))


def node(operator: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(entry(1, name) for name in inputs) + entry(2, output) + entry(4, operator) + attributes


WEIGHTS = np.array([[3, 0, 0], [0, 6, 9]], np.float32)  # dx from red, dy from green and blue


def onnx_file(path: Path, inputs: int = 2, channels: int = 2, old: bool = False) -> str:
    """Write a network of 16 x 24 pixels; its name for `find_flow`."""
    weights = np.resize(WEIGHTS, (channels, 3))
    stored = b"".join(entry(1, side) for side in (channels, 3, 1, 1)) + entry(2, 1) + entry(8, "weights")
    kernel = entry(5, entry(1, "kernel_shape") + entry(8, 1) + entry(8, 1) + entry(20, 7))
    nodes = [node("Sub", ["second", "first" if inputs == 2 else "second"], "difference")]
    nodes += [node("Conv", ["difference", "weights"], "flow", kernel)]
    graph = b"".join(entry(1, each) for each in nodes) + entry(2, "graph")
    graph += entry(5, stored + entry(9, weights.astype("<f4").tobytes()))
    graph += entry(11, tensor_info("weights", (channels, 3, 1, 1))) if old else b""
    graph += b"".join(entry(11, tensor_info(name, (1, 3, 16, 24))) for name in ["first", "second"][-inputs:])
    graph += entry(12, tensor_info("flow", (1, channels, 16, 24)))
    path.write_bytes(entry(1, 7) + entry(7, graph) + entry(8, entry(1, "") + entry(2, 11)))
    return f"onnx:{path}@{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("old", [False, True], ids=["new", "weights among the inputs"])
def test_a_network_in_an_onnx_file(tmp_path: Path, old: bool) -> None:
    first, second = textured(16, 24, 1), textured(16, 24, 2)
    flow = find_flow(onnx_file(tmp_path / "tiny.onnx", old=old))(first, second)
    assert (flow.shape, flow.dtype) == ((16, 24, 2), np.float32)
    difference = (second.astype(np.float32) - first) / 255
    assert np.abs(flow - difference @ WEIGHTS.T).max() < 1e-5


def test_other_files_are_refused(tmp_path: Path) -> None:
    path, frame = tmp_path / "tiny.onnx", textured(16, 24)
    refuses("1 inputs and 1 outputs: a flow network takes two frames", find_flow, onnx_file(path, inputs=1))
    three = find_flow(onnx_file(path, channels=3))
    refuses("gives 1 x 3 x 16 x 24 for frames of 24 x 16 pixels, not 1 x 2", three, frame, frame)
    name = onnx_file(path)
    refuses("Say which weights you mean", find_flow, f"onnx:{path}")
    refuses("get the file again", find_flow, f"onnx:{path}@{'0' * 64}")
    refuses("cannot be read", find_flow, f"onnx:{path}x@{'0' * 64}")
    path.write_bytes(b"no network")
    digest = hashlib.sha256(b"no network").hexdigest()
    refuses("cannot read .* as an ONNX network", find_flow, f"{name.partition('@')[0]}@{digest}")


# --- flow of a clip -------------------------------------------------------------------------------------------------
def test_the_exact_flow_comes_first() -> None:
    clip = sample_clip("plants", 3, 0, 32, 12)
    for first, last in ((0, 10), (8, 3)):
        truth = flow_between(clip.tracks["parts"], clip.tracks["moves"], first, last)
        assert np.array_equal(flow_of(clip, first, last, forbidden), truth)
    refuses("has 12 frames and no frame 12", flow_of, clip, 0, 12, forbidden)
    refuses("no frame -1", flow_of, clip, -1, 5, forbidden)


def test_stored_flow_serves_where_it_joins_the_frames() -> None:
    frames = np.stack([textured(16, 24, t) for t in range(6)])
    stored = np.arange(4 * 16 * 24 * 2).reshape(4, 16, 24, 2).astype(np.float16)  # frames two apart
    clip = Clip("stored", frames, 25.0, {"flow_forward": stored})
    taken = flow_of(clip, 1, 3, forbidden)
    assert taken.dtype == np.float32
    assert np.array_equal(taken, stored[1])
    estimator = find_flow("dis")
    for first, last in ((1, 2), (3, 1), (0, 5)):
        assert np.array_equal(flow_of(clip, first, last, estimator), estimator(frames[first], frames[last]))
    near = moving_square(32, 5)
    assert np.array_equal(flow_of(near, 2, 3, forbidden), near.tracks["flow_forward"][2])


def test_chained_flow_by_hand() -> None:
    """The first step moves x by 1 and the second by x / 4: (x, y) comes to x + 1 + (x + 1) / 4, at most 1.75 at 7."""
    steps = {0: np.ones((2, 8)), 1: np.tile(np.arange(8) / 4, (2, 1))}
    asked = []

    def estimator(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        asked.append((int(first[0, 0, 0]), int(second[0, 0, 0])))
        return np.stack([steps[asked[-1][0] % 2], np.zeros((2, 8))], -1).astype(np.float32)

    frames = np.stack([np.full((2, 8, 3), t, np.uint8) for t in range(5)])
    x = np.arange(8)
    expected = 1 + np.minimum((x + 1) / 4, 1.75)
    assert np.allclose(chained_flow(list(frames[:3]), estimator)[..., 0], expected)
    assert chained_flow(list(frames[:3]), estimator)[..., 1].max() == 0
    assert chained_flow(list(frames[:2]), estimator)[0, 0, 0] == 1
    clip, asked[:] = Clip("clip", frames, 25.0), []
    for first, last, step in ((0, 4, None), (0, 4, 3), (4, 1, 2), (2, 2, None)):
        flow_of(clip, first, last, estimator, step)
    assert asked == [(0, 4), (0, 3), (3, 4), (4, 2), (2, 1), (2, 2)]


def test_flow_of_another_size_is_refused() -> None:
    clip = Clip("clip", np.zeros((3, 16, 24, 3), np.uint8), 25.0)
    sentence = "flow is 24 x 16 x 2 where frames of 24 x 16 pixels need 16 x 24 x 2"
    refuses(sentence, flow_of, clip, 0, 2, lambda first, second: np.zeros((24, 16, 2), np.float32))
    refuses("NaN or infinity", check_flow, np.full((4, 4, 2), np.inf), (4, 4))


def test_resized_flow_by_hand() -> None:
    """Corners stay corners; the middle of three comes between two, and vectors shrink or grow with the picture."""
    flow = np.zeros((2, 2, 2), np.float32)
    flow[0, 1], flow[1, 0] = (4, 0), (0, 8)
    grown = resize_flow(flow, (2, 3))
    assert grown[0].tolist() == [[0, 0], [3, 0], [6, 0]]
    assert grown[1].tolist() == [[0, 8], [0, 4], [0, 0]]
    assert resize_flow(flow, (2, 2)).tolist() == flow.tolist()
    assert resize_flow(np.ones((1, 1, 2), np.float32), (2, 2)).tolist() == [[[2, 2], [2, 2]]] * 2
