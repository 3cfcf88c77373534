"""Still plus poses or expressions to frames: structure maps, forecasts, refined clips, the still's own size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch

from stillmotion import media
from stillmotion.data.examples import moving_square
from stillmotion.data.motion_truth import knows_motion
from stillmotion.errors import StillmotionError
from stillmotion.options import Box, Control
from stillmotion.rendering.canvas import Canvas, to_network
from stillmotion.systems.base import Output, Rollout, Step, System
from stillmotion.systems.structures import (
    CONTROLS,
    EXACT,
    FACE_CONTROLS,
    POSE_CONTROLS,
    Express,
    Observe,
    Poses,
    PosesFrom,
    Retarget,
    expressions,
    structure_maps,
)
from stillmotion.systems.structures.config import PRESETS, StructuresConfig
from stillmotion.systems.structures.expressions import Face, FacePlan
from stillmotion.systems.structures.forecasting import PosePredictor
from stillmotion.systems.structures.networks import StructuresNetworks
from stillmotion.systems.structures.painting import Painter, Plan
from stillmotion.systems.structures.poses import PosePlan, observed_poses, plan_poses, pose_box, to_small

if TYPE_CHECKING:
    from stillmotion.data.clip import Clip


class Structures(System):
    """Forecast and refine: a still follows a sequence of poses or of facial expressions."""

    name: ClassVar[str] = "structures"
    controls: ClassVar[tuple[type[Control], ...]] = CONTROLS
    config_class: ClassVar[type] = StructuresConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    protocol: ClassVar[str] = "structures"
    layer_captions: ClassVar[Mapping[str, str]] = {
        "structure": "the structure map that the frame follows",
        "mask": "what is replaced of the still: white",
        "content": "what the forecast puts there",
        "forecast": "the frame before it is refined",
    }
    config: StructuresConfig
    networks: StructuresNetworks

    @classmethod
    def build(cls, config: StructuresConfig, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""
        return cls(config, StructuresNetworks(config), card)

    @property
    def main_stage(self) -> str:
        """G_M's."""
        return "forecast"

    def check_control(self, control: Control) -> None:
        """Refuse expressions for a model of poses and the reverse, and what needs a pose predictor."""
        super().check_control(control)
        faces = self.config.structure.kind == "normals"
        if not isinstance(control, FACE_CONTROLS if faces else POSE_CONTROLS):
            follows, known = ("expressions", FACE_CONTROLS) if faces else ("poses", POSE_CONTROLS)
            raise StillmotionError(
                f"This model follows {follows} ({', '.join(each.given_by for each in known)}), not "
                f"{type(control).__name__}."
            )
        if isinstance(control, Observe) and self.networks.predictor is None:
            raise StillmotionError(
                "This model has no pose predictor: train one (pose_prediction.steps), or give poses with --poses."
            )

    def control_of(self, clip: Clip) -> Control:
        """The clip's own poses, smoothed if they were detected, or the expressions and head poses of its own face.

        Raises:
            StillmotionError: the model follows poses, and the clip has no track `joints`.
        """
        if self.config.structure.kind == "normals":
            if "landmarks" not in clip.tracks:
                return Retarget(
                    np.asarray(clip.frames), own_neutral=False, head="video", smooth=False, fps=clip.fps, crop="none"
                )
            marks = np.asarray(clip.tracks["landmarks"])[..., :2]
            return Retarget(
                np.asarray(clip.frames), marks[0], marks, own_neutral=False, head="video", smooth=False, fps=clip.fps,
                crop="none", landmark_noise=EXACT,
            )  # fmt: skip
        if "joints" not in clip.tracks:
            raise StillmotionError(f"The clip {clip.name!r} has no joints, which this model follows.")
        detected = not knows_motion(clip)
        return Poses(np.asarray(clip.tracks["joints"]), fps=clip.fps, smooth=detected, fill_gaps=detected)

    def example_clip(self, frames: int) -> Clip:
        """See `System`; for faces with the landmarks of a face that turns on the square's place."""
        clip = moving_square(self.config.size, frames)
        if self.config.structure.kind != "normals":
            return clip
        return replace(clip, tracks={**clip.tracks, "landmarks": expressions.example_landmarks(self.config, frames)})

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> Rollout:
        """Start a roll-out; see `System.open`. Nothing is random: `seed` changes nothing.

        Returns:
            Steps whose `facts` hold the `pose` (13 x 3, pixels of the still), or `identity`, `expression` and the
            head's `rotation`, `scale` and `shift`; the `mask` (1 x S x S, what is replaced), and the `shares` of the
            sources of each pixel (4 x S x S).

        Raises:
            StillmotionError: a mask or a plate is given; or what the control says cannot be used.
        """
        if (output.mask or output.plate) and not self.config.forecast.fields:
            raise StillmotionError("This model paints what changes: leave --mask and --plate out.")
        return StructuresRollout(self.for_inference(), still, control, output)


class StructuresRollout(Rollout):
    """A still that follows one control after the other, without end and in memory that does not grow.

    Frames are forecast each on its own, a few at a time, or as many as a clip that is refined has. When a control is
    carried out, its last pose or expression is held.
    """

    def __init__(self, system: Structures, still: np.ndarray, control: Control | None, output: Output):
        self.system, self.still, self.output = system, still, output
        self.fps = system.clip_fps
        self.plan: Plan | None = None
        self.canvas: Canvas | None = None
        self._face: Face | None = None
        self._painter: Painter | None = None
        self._steps: Iterator[Step] = iter(())
        self._frame, self._next, self._end = -1, 0, (output.frames or 1) - 1
        if control is not None:
            self.send(control)

    @torch.inference_mode()
    def send(self, control: Control) -> None:
        """Follow another control from the next step on; expressions go on from the one shown."""
        self.system.check_control(control)
        crop: Box | str | None = getattr(control, "crop", None)
        if self.canvas is not None and crop not in (None, "auto", "none", self.canvas.crop):
            raise StillmotionError("The crop cannot change while an animation runs; open another one.")
        plan = self._make_plan(control)
        if self.canvas is None:
            self.canvas = Canvas.prepare(self.still, self.system.config.size, self._crop(plan, crop), self.device)
        self.plan, self.fps, self._steps, self._next = plan, plan.fps, iter(()), 0
        self.sound = plan.sound if self._frame < 0 else None
        self._end = self._frame + len(plan)
        if self.output.frames is not None:
            self._end = min(self._end, self.output.frames - 1)

    @property
    def device(self) -> torch.device:
        """Of the networks."""
        return self.system.device

    @property
    def done(self) -> bool:
        """Whether the control has been carried out."""
        return self._frame >= self._end

    @property
    def length(self) -> int:
        """Frames up to the end of the control."""
        return self._end + 1

    def close(self) -> None:
        """Drop what has been made ahead."""
        self._steps, self._painter = iter(()), None

    @torch.inference_mode()
    def __next__(self) -> Step:
        """Make the next step; without a control the still rests."""
        self._frame += 1
        if self.plan is None or self.canvas is None:
            size = self.system.config.size
            small = media.to_pictures(to_network(self.still, size, torch.device("cpu")))[0]
            return Step(self.still.copy() if self.output.native else small)
        step = next(self._steps, None)
        if step is None:
            if self._painter is None:
                self._painter = Painter(
                    self.system.networks,
                    self.system.config,
                    self.still,
                    self.canvas,
                    self.output,
                    self.system.precision,
                )
            left = max(self._end - self._frame + 1, 1) if self._next < len(self.plan) else None
            self._steps = self._painter.run(self.plan, self._next, left)
            step = next(self._steps)
        self._next += 1
        return step

    def _make_plan(self, control: Control) -> Plan:
        config, most = self.system.config, self.output.frames
        if isinstance(control, Express | Retarget):
            if self._face is None:
                model = expressions.open_model(config.structure.face_model)
                self._face = expressions.find_face(model, self.still, control.landmarks, control.landmark_noise)
            if isinstance(control, Retarget):
                return expressions.plan_retargeting(control, self._face, config.structure, most)
            shown = self.plan.expression[self._shown] if isinstance(self.plan, FacePlan) else None
            return expressions.plan_expressions(
                control, self._face, config.structure, self.system.clip_fps, shown, most
            )
        if isinstance(control, Observe):
            return self._predict(control)
        assert isinstance(control, Poses | PosesFrom)
        return plan_poses(control, self.still, config.structure, self.system.clip_fps, most)

    @property
    def _shown(self) -> int:
        """The frame of the plan that was given last."""
        assert self.plan is not None
        return min(max(self._next - 1, 0), len(self.plan) - 1)

    def _predict(self, control: Observe) -> PosePlan:
        """The poses that the LSTM predicts after those that it observes (Sec. 3.1)."""
        config, predictor = self.system.config, self.system.networks.predictor
        assert isinstance(predictor, PosePredictor)
        own, observed = observed_poses(control, self.still, config.pose.observed)
        steps = config.pose.predicted if self.output.frames is None else max(self.output.frames - 1, 1)
        canvas = self.canvas or Canvas.prepare(self.still, config.size, None, self.device)
        vectors = structure_maps.pose_vectors(to_small(observed.track, canvas), canvas.size)
        with self.system.autocast():
            predicted = predictor(vectors[None].to(canvas.small), steps)[0].float()
        poses = structure_maps.vector_poses(predicted, canvas.size).cpu().double().numpy()
        poses[..., :2] = canvas.to_given(poses[..., :2])
        # What is not seen is predicted to lie in the middle: zeros are all that the LSTM knows of it.
        poses[..., 2] = own[:, 2] > 0
        poses = np.concatenate([own[None], poses])[: self.output.frames]
        return PosePlan(own, poses, observed.fps or self.system.clip_fps, config.structure, observed.sound)

    def _crop(self, plan: Plan, asked: Box | str | None) -> Box | None:
        """The part of the still that is animated; None for all of it."""
        size = (self.still.shape[0], self.still.shape[1])
        if isinstance(asked, tuple):
            return asked
        if asked != "auto":
            return None
        if isinstance(plan, PosePlan):
            return pose_box(plan, size)
        return expressions.face_box(plan.face.marks, self.system.config.structure, size)
