"""Still plus stroke to frames: trajectories out of controls, and roll-outs that follow them (Sec. III-D)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion import media
from stillmotion.data.object_detection import ObjectDetector, find_object
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.options import Control
from stillmotion.rendering.backdrop import find_backdrop
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import LAYERS as RENDERER_LAYERS
from stillmotion.rendering.compositing import Renderer, hold
from stillmotion.systems.base import Output, Rollout, Step, System
from stillmotion.systems.strokes import CONTROLS, Stroke, StrokeFrom
from stillmotion.systems.strokes.compositing import ChangeMask, as_fields, from_network
from stillmotion.systems.strokes.config import GREY_LEVELS, PRESETS, StrokesConfig
from stillmotion.systems.strokes.networks import Context, StrokesNetworks
from stillmotion.systems.strokes.object_frame import GeneratorOutput, object_frame
from stillmotion.systems.strokes.stroke_encoding import Trajectory, stroke_step, whole_stroke
from stillmotion.systems.strokes.visualization import draw_change, draw_encoding, draw_stroke

if TYPE_CHECKING:
    from stillmotion.data.clip import Clip

MAX_FRAMES = 100_000  # the longest stroke in frames; an animation is streamed, so only patience limits it
_TRACKING_SIDE = 128  # the moving object of a video is tracked in frames whose longer side has at most so many pixels


class Strokes(System):
    """Motion strokes: the still's object follows a drawn path, one point per frame."""

    name: ClassVar[str] = "strokes"
    controls: ClassVar[tuple[type[Control], ...]] = CONTROLS
    config_class: ClassVar[type] = StrokesConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    protocol: ClassVar[str] = "strokes"
    layer_captions: ClassVar[Mapping[str, str]] = {
        "stroke": "the stroke over the still: blue at its start, red at its end, and where the object is to be",
        "encoding": "the stroke as the networks read it: S, what lies ahead, above S_t, the coming step",
        "change": "the networks' frame, darkened where the still's own pixels are kept",
        **RENDERER_LAYERS,
    }
    networks: StrokesNetworks
    object_detector: ObjectDetector = staticmethod(find_object)  # of the object that a stroke is attached to

    @classmethod
    def build(cls, config: StrokesConfig, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""
        return cls(config, StrokesNetworks(config), card)

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> StrokesRollout:
        """Start a roll-out; see `System.open` and `StrokesRollout`."""
        return StrokesRollout(self, still, control, output)

    def control_of(self, clip: Clip) -> Stroke:
        """The stroke of a clip's track `points`.

        Raises:
            StillmotionError: there is no point in every frame.
        """
        points = np.asarray(clip.tracks.get("points", np.zeros((0, 2))), np.float64)
        if len(points) < 2 or not np.isfinite(points).all():
            raise StillmotionError(
                f"The clip {clip.name!r} does not have a point in every frame: prepare it with --tracks points."
            )
        return Stroke(points, fps=clip.fps)

    def example_clip(self, frames: int) -> Clip:
        """As `System.example_clip`, with no more frames than a stroke may have points."""
        return super().example_clip(min(frames, self.most_points or frames))

    @property
    def main_stage(self) -> str:
        """The paper's stage, or the last one with steps if it has none."""
        stages = ("single_step", "generator_finetuning", "latent_prediction", "autoencoder")
        return next((name for name in stages if getattr(self.config, name).steps), stages[0])

    def shipped(self) -> nn.Module:
        """E1, E2, P and G."""
        parts = ("encoder", "motion", "predictor", "decoder")
        return nn.ModuleDict({name: getattr(self.networks, name) for name in parts})

    @property
    def fps(self) -> float:
        """The rate of the model's time steps: that of its training clips over `clip.frame_step`."""
        return self.clip_fps / self.config.clip.frame_step

    @property
    def most_points(self) -> int | None:
        """How many points a stroke may have; None for any number."""
        return GREY_LEVELS if self.config.stroke.encoding == "grey" else None


class StrokesRollout(Rollout):
    """A still whose object follows strokes.

    Frame 0 is the still. Then the networks go on from their own last state. With no control, and behind the last
    point, the last frame is repeated. A picture that is not square is padded to a square with its own border pixels.
    The mapping is deterministic: `Output.seed` changes nothing.

    The first stroke is resampled to `Output.frames` frames; without that to as many as its times say, without times
    to a frame per point but at least `clip.frames`, or to a frame per frame of the video. Strokes sent later continue
    the trajectory behind the points that are not yet reached: as they are in pixels of the still, or with `attach`
    shifted to the trajectory's end. They have as many frames as their times say, or a frame per point. The next step
    does what takes long, such as tracking a video, and raises or warns where a control does not fit the still.

    Steps have the facts `point`, (x, y) where the object is to be in pixels of the still; `shift`, (dx, dy) by which
    the last stroke was moved to attach it; and `change`, S x S, how much of the networks' frame shows.
    """

    def __init__(self, system: Strokes, still: np.ndarray, control: Control | None, output: Output):
        self.system, self.still, self.output = system, still, output
        self.fps = system.fps
        self._video: media.VideoReader | None = None
        if isinstance(control, StrokeFrom):
            self._video = media.open_driver(control.video, control.fps, control.start)
            self.fps, self.sound = self._video.fps, self._fitting_sound(control, self._video)
        elif isinstance(control, Stroke):
            self.fps = control.fps or self.fps
        self._queue: list[Control] = [] if control is None else [control]
        self._trajectory: Trajectory | None = None
        self._shift = np.zeros(2)
        self._canvas = Canvas.prepare(still, system.config.size, None, system.device)
        self._renderer: Renderer | None = None
        self._context: Context | None = None
        self._state: Tensor | None = None
        self._change: ChangeMask | None = None
        self._last: Step | None = None
        self._made, self._closed = 0, False

    def _fitting_sound(self, control: StrokeFrom, video: media.VideoReader) -> media.Sound | None:
        """The video's sound, if the stroke is as fast as its object."""
        if video.sound is None or (control.spacing == "time" and self.output.frames in (None, video.length)):
            return video.sound
        sentence = "The stroke is not as fast as the object in the video, so the video's sound is left out."
        warnings.warn(sentence, StillmotionWarning, stacklevel=4)
        return None

    def send(self, control: Control) -> None:
        """Continue the trajectory with another stroke; see the class."""
        self.system.check_control(control)
        self._queue.append(control)

    @property
    def done(self) -> bool:
        """Whether all points have been reached."""
        return not self._queue and (self._trajectory is None or self._trajectory.arrived)

    @property
    def length(self) -> int | None:
        """Frames up to the trajectory's end, once it is known."""
        trajectory = self._trajectory
        return None if trajectory is None else self._made + len(trajectory.path) - 1 - trajectory.index

    def close(self) -> None:
        """Release the networks' state, and the video that a stroke was to be taken from."""
        if self._video is not None:
            self._video.close()
        self._closed, self._last, self._context, self._state = True, None, None, None

    @torch.inference_mode()
    def __next__(self) -> Step:
        if self._closed:
            raise StopIteration
        while self._queue:
            self._append(self._queue.pop(0))
        if self._last is None:
            self.system = self.system.for_inference()
            seen = media.to_pictures(self._canvas.small)[0]
            frame = self.still.copy() if self.output.native else seen
            self._last = self._step(frame, seen, torch.zeros(1, 1, *seen.shape[:2]))
        elif self._trajectory is not None and not self._trajectory.arrived:
            self._last = self._advance(self._trajectory)
        else:
            self._last = dataclasses.replace(self._last, frame=self._last.frame.copy())
        self._made += 1
        return self._last

    def _append(self, control: Control) -> None:
        """Add a control's points to the trajectory."""
        assert isinstance(control, Stroke | StrokeFrom)
        size, config, trajectory = (self.still.shape[0], self.still.shape[1]), self.system.config, self._trajectory
        video, self._video = self._video, None
        stroke = control if isinstance(control, Stroke) else stroke_from(control, size, video)
        least = config.clip.frames if trajectory is None and stroke is control else 2
        points = plan(stroke, self.output.frames if trajectory is None else None, self.fps, least)
        if control.attach:
            start = object_centre(self.system, self.still, points[0]) if trajectory is None else trajectory.points[-1]
            self._shift = start - points[0]
            points = points + self._shift
            points = points if trajectory is None else points[1:]  # the object is at the first one already
        if (sentence := leaving(points, size)) is not None:
            warnings.warn(sentence, StillmotionWarning, stacklevel=4)
        points = np.clip(points, 0, (size[1] - 1, size[0] - 1))
        if trajectory is None:
            keep_all = not config.stroke.lookahead  # S shows the whole stroke
            self._trajectory = Trajectory(points, config.stroke.smoothing_radius, keep_all)
        else:
            trajectory.append(points)
            self._context = self._context if config.stroke.lookahead else None

    def _advance(self, trajectory: Trajectory) -> Step:
        """The frame of the trajectory's next point."""
        stroke, t = self._stroke(trajectory, trajectory.index)
        generated = self._generate(stroke, t)
        assert self._change is not None
        assert self._renderer is not None
        mask = self._change.update(generated, stroke[0, t], stroke[0, t + 1])
        seen = from_network(generated.frame)[0]
        trajectory.index += 1
        native = self.output.native
        frame = self._renderer.render(hold(as_fields(generated), mask)) if native else seen
        return self._step(frame, seen, mask.cpu())

    def _generate(self, stroke: Tensor, t: int) -> GeneratorOutput:
        """The networks' step from point t to t + 1 of a stroke, 1 x T x 2 pixels of their frames."""
        networks, small = self.system.networks, self._canvas.small * 2 - 1
        with self.system.autocast():
            if self._context is None:
                self._context = networks.begin(small, stroke)
                if self._renderer is None:
                    found = self.system.config.generator.fields
                    figure = networks.figure(self._context, stroke) if found else None
                    self._renderer = Renderer(self._canvas, find_backdrop(self._canvas, figure, self.output))
                self._context = self._context._replace(plate=self._renderer.small_plate)
            if self._state is None:
                self._state = self._context.initial
                still = networks.generate(self._context, self._state, object_frame(stroke, 0, self.system.config))
                self._change = ChangeMask(small, still.frame)
            outputs = networks(networks.step_inputs(self._context, self._state, stroke, t))
        self._state = outputs.state
        return outputs.generated

    def _stroke(self, trajectory: Trajectory, index: int) -> tuple[Tensor, int]:
        """The stroke that the networks read at a point of the trajectory, 1 x T x 2 pixels, and that point in it.

        With `lookahead` they read the trajectory's first point and the coming ones.
        """
        path, lookahead = trajectory.path, self.system.config.stroke.lookahead
        if not lookahead:
            return self._seen(path), index
        return self._seen(np.concatenate([trajectory.origin, path[index : index + lookahead + 2]])), 1

    def _seen(self, points: np.ndarray) -> Tensor:
        """Pixels of the still, T x 2, in pixels of the networks' frames; 1 x T x 2, `float32`."""
        small = torch.from_numpy(self._canvas.to_small(points).astype(np.float32))
        return small.clamp(0, self._canvas.size - 1)[None].to(self.system.device)

    def _step(self, frame: np.ndarray, seen: np.ndarray, mask: Tensor) -> Step:
        trajectory = self._trajectory
        point = np.full(2, np.nan) if trajectory is None else trajectory.path[trajectory.index]
        facts = {"point": point, "shift": self._shift, "change": mask[0, 0].numpy()}
        return Step(frame, self._layers(seen, mask) if self.output.layers else {}, facts)

    def _layers(self, seen: np.ndarray, mask: Tensor) -> dict[str, np.ndarray]:
        trajectory, layers = self._trajectory, {"change": draw_change(seen, mask), "stroke": self.still.copy()}
        # Every layer is as long as the frames: the still where no figure is found, and before there is a stroke.
        layers |= dict.fromkeys(RENDERER_LAYERS, self.still) | (self._renderer.layers() if self._renderer else {})
        if trajectory is None:
            return layers
        layers["stroke"] = draw_stroke(self.still, trajectory.path, trajectory.index)
        if len(trajectory.path) > 1:
            stroke, t = self._stroke(trajectory, min(trajectory.index, len(trajectory.path) - 2))
            config = self.system.config
            layers["encoding"] = draw_encoding(whole_stroke(stroke, config, t), stroke_step(stroke, t, config))
        return layers


def object_centre(system: Strokes, still: np.ndarray, near: np.ndarray) -> np.ndarray:
    """(x, y), the centre of the box of the object that a stroke from `near` means.

    Raises:
        StillmotionError: none is detected.
    """
    box = system.object_detector(still, (float(near[0]), float(near[1])))
    if box is None:
        reason = "No object stands out from the still's border, so the stroke cannot be attached to one"
        raise StillmotionError(f"{reason}; start the stroke on the object and leave attach out.")
    return (np.array(box[:2]) + np.array(box[2:])) / 2


def plan(stroke: Stroke, frames: int | None, fps: float, least: int) -> np.ndarray:
    """Where a stroke is in every frame, T x 2 in its own pixels.

    Args:
        stroke: the stroke.
        frames: spread it over so many. None: its seconds at `fps`; without times a frame per point, at least `least`.
        fps: frames per second.
        least: see `frames`.

    Raises:
        StillmotionError: too many frames.
    """
    if frames is None:
        seconds = None if stroke.times is None else stroke.times[-1] - stroke.times[0]
        frames = max(len(stroke.points), least) if seconds is None else max(2, round(seconds * fps) + 1)
    if frames > MAX_FRAMES:
        raise StillmotionError(
            f"The stroke asks for {frames} frames, more than {MAX_FRAMES}; say fewer with --frames."
        )
    return resample(stroke, max(frames, 2))[:frames]  # spread over one frame it is its start


def resample(stroke: Stroke, frames: int) -> np.ndarray:
    """The position on a stroke in each of `frames` frames, the first at its start and the last at its end.

    Returns:
        frames x 2, `float64`, pixels as the stroke's. With spacing `time`, frames are equal steps of time; with
        `even`, of the way. A stroke without times that has as many points as there are frames stays as it is.
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1, not {frames}.")
    points = np.asarray(stroke.points)
    if stroke.spacing == "even":
        steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
        # A point on its predecessor is left out: positions on the way must rise for the interpolation.
        points = points[np.concatenate([[True], steps > 0])]
        reached = np.concatenate([[0.0], np.cumsum(steps[steps > 0])])
    else:
        reached = np.arange(len(points)) if stroke.times is None else np.asarray(stroke.times)
    at = np.linspace(reached[0], reached[-1], frames)
    return np.stack([np.interp(at, reached, points[:, axis]) for axis in (0, 1)], axis=1)


def leaving(points: np.ndarray, size: tuple[int, int]) -> str | None:
    """One sentence if points (T x 2) leave a picture of (height, width), otherwise None."""
    height, width = size
    outside = ((points < -0.5) | (points > (width - 0.5, height - 0.5))).any(axis=1)
    if not outside.any():
        return None
    first = int(outside.argmax())
    x, y = points[first]
    return (
        f"The stroke leaves the picture at frame {first} (x {x:.0f}, y {y:.0f} where the still is {width} x "
        f"{height} pixels) and is held at its border there, {int(outside.sum())} frames in all; draw it inside."
    )


def stroke_from(control: StrokeFrom, size: tuple[int, int], video: media.VideoReader | None = None) -> Stroke:
    """The path of the moving object in a video, in pixels of a still of (height, width): a point per frame.

    Args:
        control: which video, and what tracks it.
        size: of the still.
        video: the control's, if it is open already.

    Raises:
        StillmotionError: the video cannot be read, has one frame, nothing moves in it, or there is no such tracker.
    """
    from stillmotion.data.points import fill_gaps  # these need OpenCV
    from stillmotion.data.trackers import find_tracker

    track, tracker = find_tracker(control.tracker)
    if track != "points":
        raise StillmotionError(f"The tracker {control.tracker!r} makes {track}, not points; a stroke needs points.")
    with video or media.open_driver(control.video, control.fps, control.start) as reader:
        frames = [_shrink(frame) for frame in reader]
    if len(frames) < 2:
        raise StillmotionError("The video to take the stroke from has one frame; it needs two or more.")
    points = fill_gaps(tracker(np.stack(frames), 0.0)).astype(np.float64)
    return Stroke(fit_to_still(points, (frames[0].shape[0], frames[0].shape[1]), size), spacing=control.spacing)


def fit_to_still(points: np.ndarray, video: tuple[int, int], still: tuple[int, int]) -> np.ndarray:
    """Points of a video (T x 2) in pixels of a still over which it is laid, as large as fits and centred.

    Sizes are (height, width). Pictures are aligned by their outer edges, as when they are resized.
    """
    scale = min(still[0] / video[0], still[1] / video[1])
    margin = (np.array(still[::-1]) - scale * np.array(video[::-1])) / 2
    return (points + 0.5) * scale + margin - 0.5


def _shrink(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = min(1.0, _TRACKING_SIDE / max(height, width))
    return media.resize(frame, (max(1, round(height * scale)), max(1, round(width * scale))))
