"""From a still with a face and a control to normal maps: expression retargeting (Sec. 3.1).

Landmarks of the still are fitted by a morphable model, which gives the person's identity, expression and head pose.
The expression coefficients come from names or from the face in a video; with the still's identity they are vertices,
and these are normal maps.

Where the paper is silent: the still's head stays as it is, or turns as the driver's turned from its first frame on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stillmotion import media
from stillmotion.errors import StillmotionError
from stillmotion.morphable import basel, landmarks, release
from stillmotion.morphable.camera import Pose, framing, project, rotation_matrices, rotation_vectors
from stillmotion.morphable.expressions import expression_sequence
from stillmotion.morphable.fitting import FaceFit, check_landmarks, fit_landmarks
from stillmotion.morphable.model import MorphableModel, shipped_model
from stillmotion.morphable.openings import face_openings
from stillmotion.morphable.rendering import render_normals, surface_displacement
from stillmotion.options import Box
from stillmotion.rendering.canvas import Canvas, square_box
from stillmotion.systems.structures import Express, Retarget, check_expressions
from stillmotion.systems.structures.config import StructureConfig, StructuresConfig
from stillmotion.systems.structures.displacements import surface_coarse, with_openings

HELD = 0.5
"""Seconds for which the last expression of a sequence is shown."""

_SMOOTHING = 1.0
"""Standard deviation in frames, see `fit_landmarks`."""

_RAISED = 0.08
"""How far a crop lies above the middle of the landmarks, as a share of their box (the release: of the place)."""


def open_model(name: str) -> MorphableModel:
    """A shipped face model, `ict` or `faces`, or a Basel Face Model from the user's own file (.mat).

    Raises:
        StillmotionError: there is no such model, or the file cannot be read.
    """
    return basel.read_basel_model(Path(name)) if name.lower().endswith(".mat") else shipped_model(name)


class Face(NamedTuple):
    """A still's face."""

    model: MorphableModel
    fit: FaceFit  # of one frame, in pixels of the still
    marks: np.ndarray  # 68 x 2, what it was fitted to


def find_face(model: MorphableModel, still: np.ndarray, given: Any, noise: float = 0.015) -> Face:
    """Fit the still's face.

    Args:
        model: a face model.
        still: H x W x 3, `uint8`.
        given: its landmarks, a file or 68 x 2; None: they are detected.
        noise: of them, see `fit_landmarks`.

    Raises:
        StillmotionError: no face is found, or none fits the landmarks.
    """
    marks = landmarks.find_landmarks(still) if given is None else read_marks(given)
    if len(marks) != 1:
        raise StillmotionError(f"The still has one face: give 68 landmarks, not those of {len(marks)} frames.")
    return Face(model, fit_landmarks(model, marks, noise=noise), marks[0])


def read_marks(given: Any) -> np.ndarray:
    """Landmarks from a file or an array as T x 68 x 2."""
    return landmarks.read_landmarks(Path(given)) if isinstance(given, str | Path) else check_landmarks(given)


# --- what is to be shown --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FacePlan:
    """A still's face with the expressions and poses of T frames.

    Attributes:
        face: the still's.
        expression: T x E coefficients.
        pose: of T frames, in pixels of the still.
        fps: frames per second.
        config: of the structure maps.
        sound: of the video that is followed, from its first frame on.
    """

    face: Face
    expression: np.ndarray
    pose: Pose
    fps: float
    config: StructureConfig
    sound: media.Sound | None = None

    def __len__(self) -> int:
        return len(self.expression)

    def own(self, canvas: Canvas) -> Tensor:
        """The structure map of the still, 1 x 3 x S x S."""
        fit = self.face.fit
        return self._maps(canvas, fit.expression, fit.pose)

    def maps(self, canvas: Canvas, start: int, stop: int) -> Tensor:
        """Structure maps of some frames, N x 3 x S x S."""
        return self._maps(canvas, self.expression[start:stop], self.pose[start:stop])

    def coarse(self, canvas: Canvas, start: int, stop: int) -> Tensor:
        """Where the face of some frames was in the still, N x S x S x 3 (with openings 9); see displacements.py."""
        model, identity = self.face.model, self.face.fit.identity
        expression = np.concatenate([self.face.fit.expression, self.expression[start:stop]])
        pose = self._small(_joined(self.face.fit.pose, self.pose[start:stop]), canvas)
        placed = project(model.vertices(identity, expression), pose)
        motion = surface_displacement(placed[0], placed[1:], model.triangles, canvas.size)
        coarse = surface_coarse(torch.from_numpy(motion).to(canvas.small.device))
        if not self.config.openings:
            return coarse
        opened = face_openings(model, identity, expression, pose, canvas.size)
        return with_openings(coarse, torch.from_numpy(opened).to(coarse))

    def facts(self, t: int) -> dict[str, np.ndarray]:
        """The numbers of a frame: `identity`, `expression`, and the head's `rotation`, `scale` and `shift`."""
        pose = {name: np.asarray(getattr(self.pose, name)[t]) for name in ("rotation", "scale", "shift")}
        return {"identity": self.face.fit.identity, "expression": self.expression[t], **pose}

    def _maps(self, canvas: Canvas, expression: np.ndarray, pose: Pose) -> Tensor:
        vertices = self.face.model.vertices(self.face.fit.identity, expression)
        small = self._small(pose, canvas)
        return normal_maps(self.face.model, vertices, small, canvas.size, self.config.depth).to(canvas.small.device)

    def _small(self, pose: Pose, canvas: Canvas) -> Pose:
        """Poses in pixels of the networks' frames."""
        return Pose(pose.scale / canvas.scale, pose.rotation, canvas.to_small(pose.shift))


def normal_maps(model: MorphableModel, vertices: np.ndarray, pose: Pose, size: int, depth: str) -> Tensor:
    """Normal maps of heads, T x 3 x S x S, `float32`; zero where there is no face.

    Args:
        model: of the heads; only its triangles count.
        vertices: T x V x 3.
        pose: of T frames, in pixels of the maps.
        size: S.
        depth: `depth`: smooth normals out of the head, the nearest surface shows; `radius`: the release's flat ones
            into the head, the triangle farthest from the model's origin shows, those on the border are left out.
    """
    if depth == "depth":
        made = render_normals(vertices, model.triangles, pose, size).normals
    else:
        inward = model.triangles[:, ::-1]
        placed = project(vertices, pose) + np.array([1, 1, 0])  # the release's first pixel is 1
        made = np.stack([
            release.release_normals(shape, at, inward, size) for shape, at in zip(vertices, placed, strict=True)
        ])  # fmt: skip
    return torch.from_numpy(np.ascontiguousarray(made.transpose(0, 3, 1, 2), np.float32))


def plan_expressions(
    control: Express, face: Face, config: StructureConfig, fps: float, before: np.ndarray | None, frames: int | None
) -> FacePlan:
    """Named expressions, one after the other, from what the face shows before.

    Args:
        control: what to show.
        face: the still's.
        config: of the structure maps.
        fps: where the control has none.
        before: E coefficients; None: the still's own.
        frames: how many; None: until `HELD` after the last expression.

    Raises:
        StillmotionError: the face model does not know an expression.
    """
    fps = control.fps or fps
    steps = check_expressions("expression", control.expression)
    count = frames or round((steps[-1].seconds + HELD) * fps) + 1
    named = expression_sequence(face.model, steps, count, fps)
    start = face.fit.expression[0] if before is None else before
    # What the face shows before fades while the first expression appears.
    first = steps[0].seconds
    share = np.clip(np.arange(count) / fps / first, 0, 1) if first > 0 else np.ones(count)
    fading = (1 - share * share * (3 - 2 * share))[:, None] * start
    return FacePlan(face, limited(face.model, named + fading), _repeated(face.fit.pose, count), fps, config)


def plan_retargeting(control: Retarget, face: Face, config: StructureConfig, frames: int | None) -> FacePlan:
    """The expressions of the face in a video on the still's face.

    Args:
        control: the video.
        face: the still's.
        config: of the structure maps.
        frames: at most so many.

    Raises:
        StillmotionError: no face is found in the video, or landmarks and frames differ in number.
    """
    with media.open_driver(control.video, control.fps, control.start) as video:
        marks = (
            detect(video.batches(frames)) if control.video_landmarks is None else known_marks(control, video)[:frames]
        )
    smoothing = _SMOOTHING if control.smooth else 0.0
    driver = fit_landmarks(face.model, marks, noise=control.landmark_noise, smoothing=smoothing)
    expression = control.strength * driver.expression
    if control.own_neutral:
        rest = np.square(driver.expression / face.model.expression_std).sum(1).argmin()
        expression = face.fit.expression[0] + expression - expression[rest]
    pose = turned(face.fit.pose, driver.pose) if control.head == "video" else _repeated(face.fit.pose, len(marks))
    return FacePlan(face, limited(face.model, expression), pose, video.fps, config, video.sound)


def known_marks(control: Retarget, video: media.VideoReader) -> np.ndarray:
    """The landmarks given with a video, T x 68 x 2, of those of its frames that are read."""
    marks = read_marks(control.video_landmarks)
    if not (control.start or control.fps):
        return marks
    rate = video.fps
    if isinstance(control.video, str | Path) and media.sniff(control.video) == "video":
        with media.open_driver(control.video) as whole:  # at its own rate, which the landmarks have
            rate = whole.fps
    # The last frame that begins before the middle of each that is shown; see `media.reading`.
    shown = np.ceil((np.arange(video.length) + 0.5) * rate / video.fps - 1e-6).astype(int) - 1
    frames = round(control.start * rate) + shown
    return marks[frames[frames < len(marks)]]


def detect(batches: Iterable[np.ndarray]) -> np.ndarray:
    """Landmarks of the face in a video, T x 68 x 2; gaps are filled.

    Raises:
        StillmotionError: there is none.
    """
    return landmarks.fill_landmarks(np.concatenate([landmarks.detect_landmarks(batch) for batch in batches]))


def turned(still: Pose, driver: Pose) -> Pose:
    """The still's head, one pose, turned, moved and scaled as the driver's changed from its first frame."""
    first = driver[:1]
    turns = rotation_matrices(driver.rotation) @ rotation_matrices(first.rotation).transpose(0, 2, 1)
    rotation = rotation_vectors(turns @ rotation_matrices(still.rotation))
    ratio = still.scale / first.scale
    shift = still.shift + ratio[:, None] * (driver.shift - first.shift)
    return Pose(still.scale * driver.scale / first.scale, rotation, shift)


def limited(model: MorphableModel, expression: np.ndarray) -> np.ndarray:
    """Coefficients within the model's range."""
    return expression if model.expression_range is None else expression.clip(*model.expression_range)


def _joined(first: Pose, second: Pose) -> Pose:
    return Pose(*(np.concatenate(pair) for pair in zip(vars(first).values(), vars(second).values(), strict=True)))


def _repeated(pose: Pose, count: int) -> Pose:
    return pose[np.zeros(count, int)]


def example_landmarks(config: StructuresConfig, frames: int) -> np.ndarray:
    """Landmarks of a mean face that turns from side to side, T x 68 x 2, in pixels of the networks' frames."""
    model = open_model(config.structure.face_model)
    turning = 0.3 * np.sin(2 * np.pi * np.arange(frames) / 48)
    pose = _repeated(framing(model.mean, config.size), frames)
    pose = Pose(pose.scale, np.stack([0 * turning, turning, 0 * turning], -1), pose.shift)
    return project(model.mean[model.landmarks], pose)[..., :2]


# --- where the face is ----------------------------------------------------------------------------------------------


def face_box(marks: np.ndarray, config: StructureConfig, size: tuple[int, int]) -> Box | None:
    """The square of the still that is animated, in which the face is as large as in the training clips.

    Args:
        marks: 68 x 2.
        config: of the structure maps; `depth="radius"` places the square as the release does.
        size: (height, width) of the still.

    Returns:
        None for all of the still: where `face_crop` is 0, or the square would be about as large.
    """
    if config.face_crop == 0:
        return None
    low, high = marks.min(0), marks.max(0)
    side = float((high - low).max())
    middle = (low + high) / 2 - [0, _RAISED * side]
    if config.depth == "radius":
        left, top, right, bottom = release.output_box(release.face_box(marks))
        middle = np.array([left + right, top + bottom]) / 2
    return square_box(middle, config.face_crop * side, size)
