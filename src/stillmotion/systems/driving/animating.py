"""Still plus driving video to frames: keypoints, transfer, generation, output at the still's own size."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from stillmotion import media
from stillmotion.boxes import Box
from stillmotion.controls import Control, Drive, Predict
from stillmotion.errors import StillmotionError, StillmotionWarning
from stillmotion.nn.fold import folded
from stillmotion.systems.base import Animation, Step, System, in_batches
from stillmotion.systems.driving import aligning, drawing, holding, mirroring
from stillmotion.systems.driving.aligning import transfer
from stillmotion.systems.driving.composing import Still, compose, slice_generated, to_network
from stillmotion.systems.driving.config import DrivingConfig
from stillmotion.systems.driving.holding import Hold
from stillmotion.systems.driving.networks import DrivingNetworks, Generated, Keypoints

BATCH = 16
"""Driving frames that go through the networks together."""

LOOKS = 4
"""How often a suggested crop is looked at again."""

Driven = tuple[Tensor, Keypoints]
"""Driving frames as the networks see them, and their keypoints."""


class Driving(System):
    """Monkey-Net: the still moves as a driving video does."""

    name: ClassVar[str] = "driving"
    control: ClassVar[type] = Drive
    config_class: ClassVar[type] = DrivingConfig
    networks: DrivingNetworks

    @classmethod
    def build(cls, config: DrivingConfig, card: Mapping[str, Any] | None = None) -> Self:
        """The system with fresh weights."""
        return cls(config, DrivingNetworks(config), card)

    def shipped(self) -> nn.Module:
        """Detector and generator, and the predictor if there is one; the discriminator only trains."""
        parts: dict[str, nn.Module] = {"detector": self.networks.detector, "generator": self.networks.generator}
        if self.networks.predictor is not None:
            parts["predictor"] = self.networks.predictor
        return nn.ModuleDict(parts)

    def check_control(self, control: Control) -> None:
        """Refuse what is neither a `Drive` nor, to a model with a predictor, a `Predict`."""
        if not isinstance(control, Predict):
            super().check_control(control)
        elif self.networks.predictor is None:
            raise StillmotionError(
                "This model has no predictor: train one with `stillmotion train driving DATA --from MODEL "
                "--stages predict --set predict_steps=N -o RUN`, or give a driving video."
            )

    def animate(
        self,
        still: np.ndarray,
        control: Control,
        frames: int | None = None,
        seed: int | None = None,
        *,
        size: str = "native",
        layers: bool = False,
    ) -> Animation:
        """Animate a still after a driving video, or as the predictor continues it; see `System.animate`.

        A picture that is not square is padded to a square with its own border pixels for the networks, and so is
        the driving video. Nothing is random here: `seed` changes nothing.

        Args:
            still: H x W x 3, `uint8` RGB.
            control: the driving video and how to transfer it, or `Predict`.
            frames: at most so many frames of the driving video, None for all of it; so many predicted frames, None
                for as many as the control says.
            seed: accepted for the common form.
            size: `native` or `model`.
            layers: also draw `driving` (not of a prediction), `keypoints`, `flow`, `masks` and `warped`.

        Returns:
            One step per frame; `facts` hold the keypoints (`mean`, K x 2, and `covariance`, K x 2 x 2,
            normalised), the backward `displacement` (s x s x 2, normalised), in relative transfer the number of the
            `reference` frame, and the `crop` (x, y, width, height) where there is one.

        Raises:
            StillmotionError: the control does not fit the still; some of it shows only with the first step.

        Warns:
            StillmotionWarning: with the first step, where relative transfer finds a body of another size or place.
        """
        self.check_control(control)
        if frames is not None and frames < 1:
            raise StillmotionError(f"frames must be at least 1, not {frames}.")
        if size not in ("native", "model"):
            raise StillmotionError(f"size must be native or model, not {size!r}.")
        fps = 25.0 if control.fps is None else control.fps
        if isinstance(control, Drive) and not isinstance(control.video, np.ndarray):
            with media.open_video(control.video) as reader:
                fps = control.fps or reader.fps
        return Animation(lambda: self.ready()._steps(still, control, frames, size == "native", layers), fps)

    def trial(self, frames: int) -> Drive:
        """A blank video; see `System.trial`."""
        return Drive(np.zeros((frames, self.config.size, self.config.size, 3), np.uint8), transfer="absolute")

    def ready(self) -> Self:
        """The same system with folded networks: quicker frames, equal but for rounding, not to be trained."""
        made = copy.copy(self)
        made.networks = folded(self.networks, without=["discriminator"])
        return made

    @torch.inference_mode()
    def _steps(
        self, still: np.ndarray, control: Control, frames: int | None, native: bool, layers: bool
    ) -> Iterator[Step]:
        about: dict[str, np.ndarray] = {}
        if isinstance(control, Predict):
            prepared = Still.prepare(self, still)
            batches, hold = self._predicted(prepared, frames or control.frames), None
        else:
            assert isinstance(control, Drive)  # checked before
            prepared, about, batches = self._follow(still, control, frames)
            hold = self._hold(prepared, control)
        for target, seen in batches:
            target = hold.keypoints(target) if hold else target
            ways = [hold.weigh(made, target) if hold else (made, None) for made in self.generate(prepared, target)]
            own = mirroring.halves(target, self.config.keypoints)[0]
            for i in range(len(own.mean)):
                here = [_pick(*way, i) for way in ways]
                shown = [_held(*way, prepared) for way in here]
                small = (drawing.to_pictures(one.frame)[0] for one in shown)
                frame = mirroring.mean_picture([compose(prepared, *way) for way in here] if native else [*small])
                driving = seen and (seen[0][i : i + 1], Keypoints(seen[1].mean[i], seen[1].covariance[i]))
                aim = Keypoints(own.mean[i], own.covariance[i])
                yield Step(
                    frame,
                    self._layers(shown[0], aim, driving) if layers else {},
                    {
                        "mean": aim.mean.numpy(),
                        "covariance": aim.covariance.numpy(),
                        "displacement": here[0][0].motion.displacement[0].numpy(),
                        **about,
                    },
                )

    @torch.inference_mode()
    def fit(self, still: np.ndarray, control: Drive, frames: int | None = None) -> aligning.Fit | None:
        """How well a still fits a driver, and the crop that would fit better; see `animate` for the arguments.

        Returns:
            None where the keypoints of the still or of the reference frame lie in one point.
        """
        prepared = Still.prepare(self, still, control.crop)
        _, found = next(self._detected(control, 1))
        reference = self._reference(prepared, control, frames, found).keypoints
        fit = prepared.fit(reference)
        return None if fit is None else self._refined(fit, still, reference)

    def _follow(
        self, still: np.ndarray, control: Drive, frames: int | None
    ) -> tuple[Still, dict[str, np.ndarray], Iterator[tuple[Keypoints, Driven | None]]]:
        """The still, cropped if that is asked for, facts about the whole, and batches of target keypoints."""
        detected = self._detected(control, frames)
        head = next(detected)
        prepared = Still.prepare(self, still, control.crop)
        reference = self._reference(prepared, control, frames, head[1])
        fit = prepared.fit(reference.keypoints)
        about = {"reference": np.asarray(reference.index)} if control.transfer == "relative" else {}
        if control.crop == "auto" and fit is not None:
            fit = self._refined(fit, still, reference.keypoints)
            prepared = Still.prepare(self, still, fit.crop)
            if not fit.whole:
                warnings.warn(fit.border_note(), StillmotionWarning, stacklevel=2)
        elif control.transfer == "relative" and fit is not None and not fit.good:
            fit = self._refined(fit, still, reference.keypoints)
            warnings.warn(fit.advice(), StillmotionWarning, stacklevel=2)
        if control.crop is not None:
            about["crop"] = np.asarray(prepared.crop)

        def batches() -> Iterator[tuple[Keypoints, Driven | None]]:
            for small, found in itertools.chain([head], detected):
                own = mirroring.halves(found, self.config.keypoints)[0]
                yield transfer(prepared.keypoints, reference.keypoints, found, control), (small, own)

        return prepared, about, batches()

    def _refined(self, fit: aligning.Fit, still: np.ndarray, reference: Keypoints) -> aligning.Fit:
        """The crop found in steps: the keypoints of a small body lie badly until it is cropped."""
        for _ in range(LOOKS):
            again = Still.prepare(self, still, fit.crop).fit(reference)
            if again is None or again.crop == fit.crop:
                break
            fit = replace(fit, crop=again.crop, whole=again.whole, useful=again.useful)
        return fit

    def _detected(self, control: Drive, frames: int | None) -> Iterator[Driven]:
        """The driving video in batches."""
        for batch in in_batches(_driving_frames(control, frames), BATCH):
            small = torch.cat([to_network(frame, self.config.size) for frame in batch])
            with self.autocast():
                found = mirroring.detect(self.networks, small, self.config.flip_test)
            yield small, found

    def _reference(self, still: Still, control: Drive, frames: int | None, head: Keypoints) -> aligning.Match:
        """The driving frame that stands for the still's pose; `best` reads the video once more for it."""
        if control.align == "best" and control.transfer == "relative":
            return aligning.best_match(still.keypoints, (found for _, found in self._detected(control, frames)))
        return aligning.best_match(still.keypoints, [Keypoints(head.mean[:1], head.covariance[:1])])

    def _hold(self, still: Still, control: Drive) -> Hold:
        """What the control wants to stay as it is: looks up the region's keypoints and the still's own masks."""
        moving = corners = masks = None
        if control.region is not None:
            moving = self._chosen(still, control.region)
            x, y, w, h = control.region
            corners = still.normalised(torch.tensor([[x, y], [x + w - 1, y + h - 1]]).float())
        if control.keep_background:
            masks = self.generate(still, still.keypoints)[0].motion.masks
        return Hold(still.keypoints, still.small, moving, corners, control.keep_background, masks)

    def _predicted(self, still: Still, count: int) -> Iterator[tuple[Keypoints, Driven | None]]:
        """Batches of predicted keypoints; there are no driving frames."""
        assert self.networks.predictor is not None
        own, *other = mirroring.halves(still.keypoints, self.config.keypoints)
        first = [own, *(mirroring.mirrored(half) for half in other)]  # to the predictor, two bodies
        both = Keypoints(*(torch.cat(parts) for parts in zip(*first, strict=True)))
        for chunk in self.networks.predictor.chunks(both, count, BATCH):
            found, *turned = (Keypoints(*parts) for parts in zip(*chunk, strict=True))
            for half in turned:
                found = mirroring.joined(found, mirroring.mirrored(half))
            yield found, None

    def generate(self, still: Still, target: Keypoints) -> list[Generated]:
        """Frames of the prepared still with its keypoints at N targets: N, or with `flip_test` N twice."""
        count = len(target.mean)
        source = Keypoints(*(part.expand(count, *part.shape[1:]) for part in still.keypoints))
        pairs = zip(*(mirroring.halves(points, self.config.keypoints) for points in (source, target)), strict=True)
        made = []
        for turned, (start, end) in enumerate(pairs):
            features = still.mirrored if turned and still.mirrored is not None else still.features
            maps = [feature.expand(count, -1, -1, -1) for feature in features]
            if turned:
                start, end = mirroring.mirrored(start), mirroring.mirrored(end)
            with self.autocast():
                one = self.networks.generator(maps, start, end)
            made.append(mirroring.unmirrored(one) if turned else one)
        return made

    def _chosen(self, still: Still, region: Box) -> Tensor:
        """Which keypoints move in a region: K or 2K truth values."""
        own, *other = still.points.split(self.config.keypoints)
        chosen = [aligning.choose_region(own, region, still.given)]
        for points in other:
            inside = aligning.inside(points, region)
            if not bool(inside.any()):  # the mirror image has seen the same limb a little further off
                inside[(points - own[chosen[0]].mean(0)).norm(dim=-1).argmin()] = True
            chosen.append(inside)
        return torch.cat(chosen)

    def _layers(self, made: Generated, aim: Keypoints, driving: Driven | None) -> dict[str, np.ndarray]:
        scale = max(1, round(256 / self.config.size))

        def enlarged(picture: np.ndarray) -> np.ndarray:
            factor = scale * self.config.size // picture.shape[0]
            return np.repeat(np.repeat(picture, factor, 0), factor, 1)

        def marked(frame: Tensor, points: Keypoints) -> np.ndarray:
            picture = drawing.to_pictures(frame)[0]
            return drawing.draw_keypoints(picture, points.mean.numpy(), points.covariance.numpy(), scale)

        pictures = {} if driving is None else {"driving": marked(*driving)}
        pictures |= {
            "keypoints": marked(made.frame, aim),
            "flow": enlarged(drawing.draw_flow(made.motion.displacement[0].numpy())),
            "warped": enlarged(drawing.to_pictures(made.warped)[0]),
        }
        if made.motion.masks is not None:
            pictures["masks"] = enlarged(drawing.draw_masks(made.motion.masks[0].numpy()))
        return pictures


def _pick(made: Generated, weight: Tensor | None, index: int) -> tuple[Generated, Tensor | None]:
    return slice_generated(made, index), None if weight is None else weight[index : index + 1]


def _held(made: Generated, weight: Tensor | None, still: Still) -> Generated:
    """With the still's own pixels where nothing is to show."""
    return made if weight is None else made._replace(frame=holding.blend(made.frame, still.small, weight))


def _driving_frames(control: Drive, frames: int | None) -> Iterator[np.ndarray]:
    if isinstance(control.video, np.ndarray):
        yield from control.video[:frames]
        return
    with media.open_video(control.video) as reader:
        # Not one more is decoded: what follows frame N of `--frames N` may be damaged.
        yield from itertools.islice(reader, frames)
