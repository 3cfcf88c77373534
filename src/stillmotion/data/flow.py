"""Optical flow between any two frames: exact where a clip knows its motion, stored, or estimated.

Estimators have names: `dis`, `dis:fast` and `dis:ultrafast` are OpenCV's DIS, `onnx:FILE.onnx@SHA256` is a learned
network from a local file. A flow is forward, H x W x 2 `float32` pixels with (x, y) last: what is at (x, y) in the
first frame is at (x, y) + flow in the second.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.data.motion_truth import knows_motion
from stillmotion.data.part_flow import flow_between
from stillmotion.data.tracks import enlarged_grey
from stillmotion.errors import StillmotionError
from stillmotion.files import check_digest

PRESETS: Mapping[str, int] = {
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
}
"""Of DIS, the most exact one first."""

_SIDE, _MOST_ENLARGED = 384, 3
_AGREES = 0.5, 0.1  # pixels, and share of the length, to which a flow and the one back must cancel


class FlowEstimator(Protocol):
    """Estimates forward flow from a first to a second frame."""

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Two frames, H x W x 3 `uint8` RGB, to H x W x 2 `float32` pixels."""
        ...


class DISFlow:
    """OpenCV's dense inverse search (DIS), without learned weights.

    Its patches are 8 pixels wide, so pictures with a side below 384 pixels are enlarged first, at most 3 times.
    Median end-point error on the world `plants`, in pixels, over the plant's pixels that move by more than half a
    pixel (`medium`; 8 plants at 64 and 128 pixels, 3 at 256; `benchmarks/flow_error.py dis SIDE --seed 3 --clips 8
    --enlarge N`):

    | side | frames apart | as is | x 2 | x 3 | x 4 |
    |---|---|---|---|---|---|
    | 64 | 1 | 0.48 | 0.33 | 0.27 | 0.26 |
    | 64 | 5 | 0.57 | 0.35 | 0.32 | 0.33 |
    | 64 | 10 | 0.66 | 0.36 | 0.31 | 0.33 |
    | 128 | 1 | 0.35 | 0.18 | 0.14 | 0.14 |
    | 128 | 5 | 0.55 | 0.32 | 0.29 | 0.30 |
    | 128 | 10 | 0.62 | 0.35 | 0.29 | 0.29 |
    | 256 | 1 | 0.37 | 0.20 | | |
    | 256 | 10 | 0.58 | 0.32 | | |

    The mean error at 10 frames is lower with x 3 (1.11 at 64 pixels, 1.67 at 128) than with x 4 (1.29, 2.01), since
    hidden pixels have errors of many pixels. The preset `fast` is best with x 2 and then some 0.01 worse.
    """

    def __init__(self, preset: str = "medium", enlarge: int | None = None):
        """Args: `preset` is a key of `PRESETS`; `enlarge` is how many times, None for the measured rule."""
        if preset not in PRESETS:
            raise StillmotionError(f"DIS has no preset {preset!r}: choose from {', '.join(PRESETS)}.")
        self.preset, self.enlarge = preset, enlarge
        self._estimator = cv2.DISOpticalFlow.create(PRESETS[preset])

    def __reduce__(self) -> tuple[type[DISFlow], tuple[str, int | None]]:
        """Made anew in worker processes: OpenCV's estimator cannot be sent there."""
        return DISFlow, (self.preset, self.enlarge)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """See `FlowEstimator`.

        Raises:
            StillmotionError: the frames are no pictures of one size.
        """
        height, width = _same_size(first, second)
        factor = self.enlarge or min(_MOST_ENLARGED, -(-_SIDE // min(height, width)))
        before, after = (enlarged_grey(frame, factor) for frame in (first, second))
        large = self._estimator.calc(before, after, None)  # type: ignore[call-overload]
        found = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA) / factor
        return np.asarray(found, np.float32)


class ONNXFlow:
    """A learned network in an ONNX file, run on the CPU by OpenCV.

    Accepted: two inputs N x 3 x H x W, the first and the second frame in this order, RGB in [0, 1]; one output
    N x 2 x H x W, forward flow in pixels, (dx, dy). A network that wants another range, another order of colours or
    a multiple of a size has to convert inside of the file. Weights must be in the file and not beside it.
    """

    def __init__(self, path: Path | str, sha256: str):
        """Args: `sha256` is the file's digest, 64 hexadecimal digits.

        Raises:
            StillmotionError: the file has another digest, is no ONNX or has no two inputs and one output.
        """
        self.path = Path(path)
        check_digest(self.path, sha256)
        model = self.path.read_bytes()
        try:
            self._network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
            outputs = self._network.getUnconnectedOutLayersNames()
            inputs = _input_names(model)
        except cv2.error as error:
            raise StillmotionError(f"OpenCV cannot read {self.path} as an ONNX network.") from error
        if len(inputs) != 2 or len(outputs) != 1:
            raise StillmotionError(
                f"{self.path} has {len(inputs)} inputs and {len(outputs)} outputs: a flow network takes two frames, "
                "N x 3 x H x W each, and gives N x 2 x H x W."
            )
        self._inputs = inputs

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """See `FlowEstimator`.

        Raises:
            StillmotionError: the frames are no pictures of one size, or the network does not take that size or
                gives something else than N x 2 x H x W.
        """
        height, width = _same_size(first, second)
        try:
            for name, frame in zip(self._inputs, (first, second), strict=True):
                self._network.setInput(frame.transpose(2, 0, 1)[None].astype(np.float32) / 255, name)
            found = self._network.forward()
        except cv2.error as error:
            raise StillmotionError(f"{self.path} cannot take frames of {width} x {height} pixels.") from error
        if found.shape != (1, 2, height, width):
            raise StillmotionError(
                f"{self.path} gives {' x '.join(map(str, found.shape))} for frames of {width} x {height} pixels, not "
                f"1 x 2 x {height} x {width}."
            )
        return np.ascontiguousarray(found[0].transpose(1, 2, 0), np.float32)


def find_flow(name: str = "dis") -> FlowEstimator:
    """The estimator of a name: `dis`, `dis:PRESET` or `onnx:FILE.onnx@SHA256`.

    Raises:
        StillmotionError: there is none of this name, or its file cannot be used.
    """
    kind, _, value = name.partition(":")
    if kind == "dis":
        return DISFlow(value or "medium")
    if kind == "onnx":
        file, _, digest = value.rpartition("@") if "@" in value else (value, "", "")
        return ONNXFlow(file, digest.lower())
    raise StillmotionError(
        f"There is no optical flow {name!r}: choose dis, dis:fast, dis:ultrafast or onnx:FILE.onnx@SHA256."
    )


def flow_of(clip: Clip, first: int, last: int, estimator: FlowEstimator, step: int | None = None) -> np.ndarray:
    """The flow from one frame of a clip to another, H x W x 2 `float32` pixels.

    Args:
        clip: with the tracks `parts` and `moves` the flow is exact; else a stored `flow_forward` is taken where it
            joins just these frames; else the flow is estimated.
        first: index of the frame whose pixels are followed.
        last: index of the other frame, later or earlier.
        estimator: see `find_flow`.
        step: estimate over so many frames at a time (`chained_flow`); None estimates at once, as the paper does.

    Raises:
        StillmotionError: a frame lies outside of the clip, or a flow has another size than the frames.
    """
    for index in (first, last):
        if not 0 <= index < len(clip):
            raise StillmotionError(f"The clip {clip.name!r} has {len(clip)} frames and no frame {index}.")
    stored = clip.tracks.get("flow_forward")
    if knows_motion(clip):
        flow = flow_between(np.asarray(clip.tracks["parts"]), np.asarray(clip.tracks["moves"]), first, last)
    elif stored is not None and len(clip) - len(stored) == last - first > 0:
        # A track that is L entries shorter than the clip joins frames L apart.
        flow = np.asarray(stored[first], np.float32)
    else:
        way = 1 if last >= first else -1
        between = range(first, last, way * (step or abs(last - first) or 1))
        flow = chained_flow([np.asarray(clip.frames[t]) for t in (*between, last)], estimator)
    check_flow(flow, (clip.frames.shape[1], clip.frames.shape[2]))
    return flow


Flows = Callable[[int, int], np.ndarray]
"""The flow between any two frames of one clip, by their indices; see `flow_of`."""


def flows_of(clip: Clip, estimator: FlowEstimator) -> Flows:
    """The flows of a clip, each estimated once."""
    return cache(partial(flow_of, clip, estimator=estimator))


def displacement_of(clip: Clip, point: np.ndarray, first: int, last: int) -> np.ndarray:
    """How far the part at a point (x, y) of one frame has moved in another, 2 pixels; the clip knows its motion."""
    if first == last:
        return np.zeros(2)
    x, y = (round(value) for value in point.tolist())
    moves = np.asarray(clip.tracks["moves"], np.float64).copy()
    moves[..., 2] -= point  # the point is the origin of pixels
    flow = flow_between(clip.tracks["parts"][:, y : y + 1, x : x + 1], moves, first, last)
    return np.asarray(flow[0, 0], np.float64)


def chained_flow(frames: Sequence[np.ndarray], estimator: FlowEstimator) -> np.ndarray:
    """The flow from the first to the last of some frames, H x W x 2 `float32`, along the flows between neighbours.

    Every pixel is followed from frame to frame, bilinearly between pixels and at the border where it leaves the
    picture. Small errors add up, but DIS loses fewer pixels that move far: ten frames apart on `plants`, 64 pixels,
    the median error of those that move by over an eighth of the side falls from 8.5 to 1.3 pixels, the mean of all
    from 1.70 to 0.72, and the median of all rises from 0.27 to 0.41 (`benchmarks/flow_error.py --step 1`).
    """
    if len(frames) < 3:
        return estimator(frames[0], frames[-1])
    height, width = frames[0].shape[:2]
    start = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    place = start
    for before, after in itertools.pairwise(frames):
        flow = estimator(before, after)
        # `remap` follows in steps of 1/32 pixel.
        place = place + cv2.remap(
            flow, place[..., 0], place[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return np.asarray(place - start, np.float32)


def sampled(values: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Values, H x W x C, at the end of a flow from each pixel, H x W x 2 pixels."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    places = x + flow[..., 0], y + flow[..., 1]
    return np.asarray(cv2.remap(values, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def consistent(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Where a flow and the one back cancel to half a pixel and a tenth; H x W x 2 pixels each to truth values."""
    there = sampled(back, flow)
    return np.asarray(np.linalg.norm(flow + there, axis=-1) < _AGREES[0] + _AGREES[1] * np.linalg.norm(flow, axis=-1))


def check_flow(flow: np.ndarray, size: tuple[int, int]) -> None:
    """Raise `StillmotionError` unless a flow is H x W x 2 finite numbers for frames of `size` (H, W)."""
    if flow.shape != (*size, 2):
        raise StillmotionError(
            f"The flow is {' x '.join(map(str, flow.shape))} where frames of {size[1]} x {size[0]} pixels need "
            f"{size[0]} x {size[1]} x 2."
        )
    if not np.isfinite(flow).all():
        raise StillmotionError("The flow holds NaN or infinity.")


def resize_flow(flow: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A flow in pixels of another size, as the release brings stored flow to the networks' size.

    Vectors are multiplied by the ratio of the sizes, then sampled bilinearly with corners aligned.

    Args:
        flow: H x W x 2 pixels.
        size: (h, w) of the result.

    Returns:
        h x w x 2, `float32`.
    """
    height, width = flow.shape[:2]
    scaled = np.asarray(flow, np.float32) * np.array([size[1] / width, size[0] / height], np.float32)
    return _along(_along(scaled, 0, size[0]), 1, size[1])


def _along(values: np.ndarray, axis: int, count: int) -> np.ndarray:
    """Sample `count` places evenly from the first to the last entry of an axis, linearly."""
    length = values.shape[axis]
    places = np.linspace(0, length - 1, count)
    before = np.minimum(places.astype(int), max(length - 2, 0))
    after = np.minimum(before + 1, length - 1)
    share = (places - before).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(values.ndim)])
    found = values.take(before, axis) * (1 - share) + values.take(after, axis) * share
    return np.asarray(found, np.float32)


def _same_size(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    for frame in (first, second):
        if frame.ndim != 3 or frame.shape != first.shape or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise StillmotionError(
                f"Flow needs two frames of one size, H x W x 3 uint8, not {first.shape} and {second.shape}."
            )
    return first.shape[0], first.shape[1]


def _input_names(model: bytes) -> list[str]:
    """The names of an ONNX model's inputs in the file's order, which OpenCV does not tell.

    In the protocol buffer `ModelProto` field 7 is the graph, whose fields 5 are stored tensors (their field 8 is the
    name) and 11 the inputs (1 is the name); old files list their stored tensors among the inputs.
    """
    graph = next((value for field, value in _fields(model) if field == 7), b"")
    parts = list(_fields(graph))
    stored = {name for field, value in parts if field == 5 for inner, name in _fields(value) if inner == 8}
    named = [name for field, value in parts if field == 11 for inner, name in _fields(value) if inner == 1]
    return [name.decode() for name in named if name not in stored]


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a protocol buffer message that hold bytes, as (number, value)."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        if key & 7 == 2:
            length, place = _varint(message, place)
            yield key >> 3, message[place : place + length]
            place += length
        elif key & 7 == 0:
            _, place = _varint(message, place)
        else:
            place += 8 if key & 7 == 1 else 4


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """A number of seven bits per byte, lowest first, and where it ends."""
    value, shift = 0, 0
    while place < len(message):
        byte = message[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            break
    return value, place
