"""Still plus driving video to frames: keypoints, transfer, generation, output at the still's own size."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion import geometry
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.keypoints.networks import FieldGenerator, GeneratorOutput, Keypoints, StepInputs
from stillmotion.keypoints.playing import Player, encode, held, pick
from stillmotion.options import Box, Control
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import LAYERS as RENDERER_LAYERS
from stillmotion.systems.base import FPS, Output, Rollout, Step, System
from stillmotion.systems.driving import CONTROLS, Drive, Predict
from stillmotion.systems.driving import transfer as transferring
from stillmotion.systems.driving.config import PRESETS, DrivingConfig
from stillmotion.systems.driving.networks import DrivingNetworks
from stillmotion.systems.driving.transfer import BATCH, Driver

CROP_ROUNDS = 4
"""How often a suggested crop is refined: the keypoints of a small body are inaccurate until it is cropped."""

SURE = 2.2
"""A logit of the figure beyond which there is no doubt: nine in ten."""


class Target(NamedTuple):
    """Where the keypoints of N frames go, and the driving frames that say so, if there are any."""

    keypoints: Keypoints  # N x K
    small: Tensor | None = None  # N x 3 x S x S
    found: Keypoints | None = None  # their own keypoints


class Driving(System):
    """Monkey-Net: the still moves as a driving video does."""

    name: ClassVar[str] = "driving"
    controls = CONTROLS
    config_class = DrivingConfig
    presets: ClassVar[Mapping[str, Any]] = PRESETS
    layer_captions: ClassVar[Mapping[str, str]] = {
        "driving": "the driving video with its keypoints",
        "keypoints": "where the keypoints are sent",
        "flow": "backward flow: hue is direction",
        "masks": "which keypoint moves which pixel",
        "warped": "the still through the flow alone",
        **RENDERER_LAYERS,
    }
    config: DrivingConfig
    networks: DrivingNetworks

    @classmethod
    def build(cls, config: DrivingConfig, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""
        return cls(config, DrivingNetworks(config), card)

    def shipped(self) -> nn.Module:
        """Detector and generator, and the predictor if there is one."""
        return nn.ModuleDict(dict(self.networks.named_children()))

    def check_control(self, control: Control) -> None:
        """Refuse what is neither a `Drive` nor, to a model with a keypoint predictor, a `Predict`."""
        super().check_control(control)
        if isinstance(control, Predict) and self.networks.predictor is None:
            raise StillmotionError(
                "This model has no keypoint predictor: train one with `stillmotion train driving DATA --from MODEL "
                "--preset people --stages keypoint_prediction -o RUN`, or give a driving video."
            )

    @property
    def main_stage(self) -> str:
        """The last motion stage."""
        return self.config.motion_stages[-1].name

    def control_of(self, clip: Clip) -> Drive:
        """The clip drives its own first frame (reconstruction, Sec. 4)."""
        return Drive(np.asarray(clip.frames), transfer="absolute", fps=clip.fps)

    def rollout(self, still: np.ndarray, control: Control | None, output: Output) -> Rollout:
        """Start a roll-out; see `System.open`.

        A picture that is not square is padded to a square with its own border pixels for the networks, and so is
        the driving video. Nothing is random here: `seed` changes nothing.

        Returns:
            Steps whose `facts` hold the keypoints (`mean`, K x 2, and `covariance`, K x 2 x 2, normalised), the
            backward `displacement` (s x s x 2, normalised), with fields the `shares` of the sources
            (4 x S x S), in relative transfer the number of the `reference` frame,
            and the `crop` (x, y, width, height) where there is one. Layers: see `layer_captions`.

        Raises:
            StillmotionError: a mask or a plate is given, and the generator has no fields.

        Warns:
            StillmotionWarning: with the first step, where relative transfer finds a body of another size or place,
                the still seems to show several figures, or the driver's first frames show nothing.
        """
        if (output.mask or output.plate) and not self.config.generator.fields:
            raise StillmotionError(
                "This model has no fields, which a mask and a plate are for: leave --mask and --plate out."
            )
        return DrivingRollout(self.for_inference(), still, control, output)


class DrivingRollout(Rollout):
    """Frames of a still that follow driving frames, predicted keypoints, or what is sent.

    Motion counts from the first driving frame there ever was, so driving frames may be sent one by one.

    Args:
        system: made for inference.
        still: H x W x 3, `uint8`.
        control: None rests.
        output: what to give.
    """

    def __init__(self, system: Driving, still: np.ndarray, control: Control | None, output: Output):
        self.system, self.networks = system, system.networks
        self.still, self.output = still, output
        self.fps = FPS
        self.control: Control | None = None
        self.driver: Driver | None = None
        self.canvas: Canvas | None = None
        self.player: Player | None = None
        self.reference: transferring.Match | None = None
        self._targets: Iterator[Target] = iter(())
        self._next: Target | None = None
        self._steps: deque[tuple[Step, Keypoints]] = deque()  # made ahead, each with its pose
        self._pose: Keypoints | None = None  # of the last step that was given
        self._given, self._before = 0, 0  # steps so far, and those before the control
        if control is not None:
            self.follow(control)

    @property
    def done(self) -> bool:
        """Whether no driving frame is left."""
        return not self._steps and not self._look_ahead()

    @property
    def length(self) -> int | None:
        """Steps up to the last driving frame, by the video's own account."""
        if isinstance(self.control, Predict):
            return self._before + (self.output.frames or self.control.frames)
        return None if self.driver is None else self._before + self.driver.length

    @torch.inference_mode()
    def __next__(self) -> Step:
        """Make the next step; without a driving frame, hold the last pose."""
        if not self._steps:
            if not self._look_ahead():
                self.prepare()
                self._next = Target(self._pose or self.inputs.source)
            assert self._next is not None
            self._steps.extend(self.make_steps(self._next))
            self._next = None
        step, self._pose = self._steps.popleft()
        self._given += 1
        return step

    def send(self, control: Control) -> None:
        """Follow other driving frames from the next step on; the reference frame stays."""
        self.check(control)
        self.close()
        self.follow(control)

    def check(self, control: Control) -> None:
        """Refuse a control of another system, and a crop that is not the one taken."""
        self.system.check_control(control)
        before, now = (each.crop if isinstance(each, Drive) else None for each in (self.control, control))
        if self.canvas is not None and now not in (None, before, self.canvas.crop):
            raise StillmotionError("The crop cannot change while an animation runs; open another one.")

    def close(self) -> None:
        """Close the driving video, and drop what has been made ahead."""
        if self.driver is not None:
            self.driver.close()
        self.driver, self._targets, self._next = None, iter(()), None
        self._steps.clear()

    def follow(self, control: Control) -> None:
        """Take up a control."""
        if isinstance(control, Drive) and control.transfer is None:
            control = replace(control, transfer=self.system.config.transfer)
        self.control, self._before = control, self._given
        self._masking: Any = None
        if isinstance(control, Predict):
            self.fps = control.fps or self.system.clip_fps
            self._targets = self._predicted(self.output.frames or control.frames)
            return
        assert isinstance(control, Drive)
        self.driver = self._open(control)
        self.fps, self.sound = self.driver.fps, self.driver.sound if not self._given else None
        self._targets = self._driven(control, self.driver)

    def _open(self, control: Drive, passed: int = 0) -> Driver:
        return Driver(control, self.output, self.system.config.size, self.system.device, passed)

    def _look_ahead(self) -> bool:
        """Fetch the next batch of targets, if there is one."""
        if self._next is None:
            with torch.inference_mode():
                self._next = next(self._targets, None)
        return self._next is not None

    def _driven(self, control: Drive, driver: Driver) -> Iterator[Target]:
        """Targets of the driving frames (Sec. 3.6)."""
        if self.reference is None and control.transfer == "relative":
            self.prepare()
            assert self.canvas is not None
            if control.align == "first":  # else the reference is the frame that fits the still
                driver.pass_over(self._shown, self._shown(self.canvas.small)[0])
            self.sound = driver.sound
        for small in driver.batches:
            found = self.detect(small)
            if self.reference is None:
                self.prepare(found.rows(slice(1)))
            assert self.reference is not None
            target = transferring.transfer(self.inputs.source, self.reference.keypoints, found, control)
            yield Target(target, small, found)

    def _predicted(self, count: int) -> Iterator[Target]:
        """Predicted targets; there are no driving frames."""
        assert self.networks.predictor is not None
        self.prepare()
        for chunk in self.networks.predictor.chunks(self._pose or self.inputs.source, count, BATCH):
            yield Target(Keypoints(chunk.mean[0], chunk.covariance[0]))

    def detect(self, frames: Tensor) -> Keypoints:
        """Keypoints of N x 3 x S x S."""
        with self.system.autocast():
            found: Keypoints = self.networks.detector(frames)
        return found

    def _shown(self, frames: Tensor) -> Tensor:
        """How much N frames show, N x 2: detail, and the area of the figure, if the model finds that in the still."""
        area = frames.new_zeros(len(frames))
        if self._sees_figures:
            area = (self._figure(frames) > 0).float().mean((1, 2))
        return torch.stack([transferring.detail(frames), area], dim=1)

    def _figure(self, frames: Tensor) -> Tensor:
        """Logits of the figure in N frames, N x S x S."""
        generator = self.networks.generator
        assert isinstance(generator, FieldGenerator)
        with self.system.autocast():
            found = generator.figure(generator.encode(frames))
        return found[:, 0].float()

    def _check_figure(self, small: Tensor) -> bool:
        """Whether the model tells figure and background of the still well apart; warns if it sees several figures."""
        if not isinstance(self.networks.generator, FieldGenerator):
            return False
        (figure,) = self._figure(small)
        if not float((figure.abs() > SURE).float().mean()) > 0.8:
            return False
        if self.output.mask is None and transferring.large_parts(figure > 0) > 1:
            warnings.warn(
                "The still seems to show several figures, and all would move as one; show one of them with --crop.",
                StillmotionWarning,
                stacklevel=2,
            )
        return True

    def prepare(self, head: Keypoints | None = None) -> None:
        """Encode the still, once, and with the keypoints of the first driving frame choose reference and crop."""
        control = self.control
        if self.canvas is None:
            crop = control.crop if isinstance(control, Drive) else None
            self.canvas, self.inputs = self.encode(None if crop == "auto" else crop)
            self._sees_figures = self._check_figure(self.canvas.small)
        if head is None:
            return
        assert isinstance(control, Drive)
        self.reference = self._match(control, head)
        fit = self._fit(self.canvas, self.inputs)
        if fit is None:
            return
        if control.crop == "auto":
            fit = self._refined(fit)
            self.canvas, self.inputs = self.encode(fit.crop)
            if not fit.whole:
                warnings.warn(fit.border_note(), StillmotionWarning, stacklevel=2)
        elif control.transfer == "relative" and not fit.good:
            warnings.warn(self._refined(fit).advice(), StillmotionWarning, stacklevel=2)

    def encode(self, crop: Box | None) -> tuple[Canvas, StepInputs]:
        """The prepared still, and its features and keypoints; the target is its own pose."""
        canvas = Canvas.prepare(self.still, self.system.config.size, crop, self.system.device)
        return canvas, encode(self.networks, canvas, self.system.precision)

    def _match(self, control: Drive, head: Keypoints) -> transferring.Match:
        """The driving frame that stands for the still's pose; `best` reads the video once more for it."""
        if control.align == "first" or control.transfer == "absolute":
            return transferring.best_match(self.inputs.source, [head])
        with closing(self._open(control, self.driver.passed if self.driver else 0)) as driver:
            return transferring.best_match(self.inputs.source, map(self.detect, driver.batches))

    def _fit(self, canvas: Canvas, inputs: StepInputs) -> transferring.Fit | None:
        """How well a still fits the driver, and the crop that would fit better."""
        assert self.reference is not None
        found, driving = inputs.source.mean[0], self.reference.keypoints.mean[0]
        given = canvas.to_given(geometry.to_pixels(found, (canvas.size, canvas.size)))
        return transferring.compare(found, given, driving, canvas.given, canvas.size)

    def _refined(self, fit: transferring.Fit) -> transferring.Fit:
        """The crop found in steps: the keypoints of a small body are inaccurate until it is cropped."""
        for _ in range(CROP_ROUNDS):
            again = self._fit(*self.encode(fit.crop))
            if again is None or again.crop == fit.crop:
                break
            fit = replace(fit, crop=again.crop, whole=again.whole, useful=again.useful)
        return fit

    def make_steps(self, target: Target) -> Iterator[tuple[Step, Keypoints]]:
        """The steps of N targets, each with its keypoints, 1 x K."""
        player = self.set_up()
        masking = self.masking()
        keypoints = masking.keypoints(target.keypoints) if masking else target.keypoints
        made = player.generate(keypoints)
        made, weight = masking.weigh(made, keypoints) if masking else (made, None)
        for i in range(len(keypoints.mean)):
            here, one = slice(i, i + 1), player.reveal(pick(made, i))
            share = None if weight is None else weight[here]
            frame = player.render(one, self.output.native, share)
            layers: Mapping[str, np.ndarray] = {}
            if self.output.layers:
                from stillmotion.keypoints.visualization import draw_layers

                seen = (
                    None
                    if target.small is None or target.found is None
                    else (target.small[here], target.found.rows(here))
                )
                shown = held(one, share, player.canvas)
                layers = {**draw_layers(shown, keypoints.rows(here), seen), **player.renderer.layers()}
            yield Step(frame, layers, self._facts(one, keypoints, i)), keypoints.rows(here)

    def set_up(self) -> Player:
        """Find the still's figure and the plate behind it, once the crop is chosen."""
        if self.player is None:
            assert self.canvas is not None
            self.player = Player(self.networks, self.canvas, self.inputs, self.output, self.system.precision)
        return self.player

    def masking(self) -> Any:
        """What the control keeps of the still; None if nothing."""
        control = self.control
        if not isinstance(control, Drive) or not (control.keep_background or control.region):
            return None
        if self._masking is None:
            from stillmotion.systems.driving.masking import Masking

            assert self.canvas is not None
            own = self.set_up().generate(self.inputs.source).motion.masks if control.keep_background else None
            self._masking = Masking.of(control, self.canvas, self.inputs.source, own)
        return self._masking

    def _facts(self, made: GeneratorOutput, keypoints: Keypoints, i: int) -> dict[str, np.ndarray]:
        facts = {
            "mean": keypoints.mean[i].cpu().numpy(),
            "covariance": keypoints.covariance[i].cpu().numpy(),
            "displacement": made.motion.displacement[0].cpu().numpy(),
        }
        if made.fields is not None:
            facts["shares"] = made.fields.shares[0].cpu().numpy()
        control = self.control
        if isinstance(control, Drive) and self.reference is not None and control.transfer == "relative":
            facts["reference"] = np.asarray(self.reference.index)
        if isinstance(control, Drive) and control.crop is not None and self.canvas is not None:
            facts["crop"] = np.asarray(self.canvas.crop)
        return facts
