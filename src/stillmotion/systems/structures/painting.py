"""From structure maps to steps: forecasts, refined clips, and frames at the still's own size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stillmotion import media
from stillmotion.keypoints.playing import autocast
from stillmotion.rendering.canvas import Canvas
from stillmotion.rendering.compositing import Scene, hold, settled
from stillmotion.rendering.fields import PAINT, STATIC, Fields, blend, warp_still
from stillmotion.systems.base import Output, Step
from stillmotion.systems.structures.config import StructuresConfig
from stillmotion.systems.structures.expressions import FacePlan
from stillmotion.systems.structures.fields import FieldContext, FieldForecast
from stillmotion.systems.structures.forecasting import Context, ForecastOutput
from stillmotion.systems.structures.networks import StructuresNetworks
from stillmotion.systems.structures.poses import PosePlan
from stillmotion.systems.structures.refinement import RefinementNetwork, blend_clips, clip_context, next_clip

BATCH = 16
"""Frames that are forecast together."""

Plan = PosePlan | FacePlan


class Frames(NamedTuple):
    """N frames of a still as the networks give them."""

    displacement: Tensor  # N x S x S x 2, see `Fields`; zero of the paper's network
    shares: Tensor  # N x 4 x S x S
    painted: Tensor  # N x 3 x S x S, the paint times its share
    content: Tensor  # N x 3 x S x S in [-1, 1], G_M's
    structure: Tensor  # N x C x S x S
    coarse: Tensor  # N x 3 x S x S in [-1, 1], before refinement
    refined: Tensor  # N x 3 x S x S in [-1, 1], after it; the same without it

    def rows(self, index: slice | Tensor) -> Frames:
        """Some of them."""
        return Frames(*(part[index] for part in self))

    def fields(self) -> Fields:
        """What the renderer takes."""
        paint = self.painted / self.shares[:, PAINT : PAINT + 1].clamp_min(1e-3)
        return Fields(self.displacement, self.shares, paint.clamp(0, 1))


Forecast = Callable[[int, int], Frames]


class Painter:
    """Makes steps of one still from structure maps.

    Args:
        networks: made for inference.
        config: of the system.
        still: H x W x 3, `uint8`.
        canvas: of the still.
        output: what is wanted.
        precision: autocast to bfloat16 or not, see `systems.base.System.precision`.
    """

    def __init__(
        self,
        networks: StructuresNetworks,
        config: StructuresConfig,
        still: np.ndarray,
        canvas: Canvas,
        output: Output,
        precision: str = "fp32",
    ):
        self.networks, self.config, self.still, self.canvas = networks, config, still, canvas
        self.output, self.precision = output, precision
        self.border = canvas.feather()
        self.scene: Scene | None = None

    def run(self, plan: Plan, start: int, count: int | None) -> Iterator[Step]:
        """Steps of a plan.

        Args:
            plan: what is shown; its last frame stays.
            start: the first of its frames.
            count: how many frames; None: as many as are made together.
        """
        context = self._encode(plan)

        def forecast(first: int, stop: int) -> Frames:
            made = self._decode(context, plan, min(first, len(plan) - 1), min(stop, len(plan)))
            order = torch.arange(stop - first, device=self.canvas.small.device).clamp_max(len(made.shares) - 1)
            return made.rows(order)

        chunks = self._refined(forecast, start, count) if self.networks.refinement else plain(forecast, start, count)
        shown = start
        for made in chunks:
            for i in range(len(made.shares)):
                yield self._step(made.rows(slice(i, i + 1)), plan.facts(min(shown, len(plan) - 1)))
                shown += 1

    def _encode(self, plan: Plan) -> Context | FieldContext:
        """What all frames share; with the first plan also the scene, for which our network finds the figure."""
        network, still = self.networks.forecast, 2 * self.canvas.small - 1
        with autocast(self.canvas, self.precision):
            context: Context | FieldContext = network.encode(still, plan.own(self.canvas))
            figure = None
            if (
                isinstance(network, FieldForecast)
                and isinstance(context, FieldContext)
                and self.config.forecast.figure
            ):
                figure = torch.sigmoid(network.figure(context))
        self.scene = self.scene or Scene(self.canvas, figure, self.output)
        if isinstance(context, FieldContext):
            return context._replace(plate=self.scene.renderer.small_plate)
        return context

    def _decode(self, context: Context | FieldContext, plan: Plan, start: int, stop: int) -> Frames:
        """Forecasts of some frames of a plan."""
        network, maps = self.networks.forecast, plan.maps(self.canvas, start, stop)
        with autocast(self.canvas, self.precision):
            if isinstance(network, FieldForecast):
                assert isinstance(context, FieldContext)
                made = network.decode(context, maps, plan.coarse(self.canvas, start, stop))
            else:
                assert isinstance(context, Context)
                made = network.decode(context, maps)
        return as_frames(made, maps, self.canvas.small)

    def _refined(self, forecast: Forecast, start: int, count: int | None) -> Iterator[Frames]:
        """Frames refined clip by clip, as `refinement.refine` does with all of them at once (Sec. 3.3)."""
        config, network = self.config.refinement, self.networks.refinement
        assert network is not None
        length = config.frames
        count = length if count is None else count
        coarse: Frames | None = None  # forecasts from the clip's first frame on
        tail: Frames | None = None  # refined frames from there on, of the clips before
        first: int | None = 0
        while first is not None:
            known = 0 if coarse is None else len(coarse.shares)
            fresh = forecast(start + first + known, start + first + length)
            coarse = fresh if coarse is None else joined(coarse, fresh)
            made = self._refine(network, coarse)
            if tail is not None:
                made = Frames(*(blend_clips([a[None], b[None]], [0, 0])[0] for a, b in zip(tail, made, strict=True)))
            after = next_clip(first, count, length, config.overlap)
            stop = (count if after is None else after) - first
            yield made.rows(slice(stop))
            if after is not None:
                coarse, tail = coarse.rows(slice(stop, None)), made.rows(slice(stop, None))
            first = after

    def _refine(self, network: RefinementNetwork, coarse: Frames) -> Frames:
        """A clip of forecasts with what G_R replaces, painted (Eq. 10)."""
        given = [coarse.coarse[None], coarse.structure[None]]
        if self.config.refinement.context:
            given.append(clip_context(2 * self.canvas.small - 1, coarse.shares[None]))
        with autocast(self.canvas, self.precision):
            made = network(*given)
        refined = made.frames[0].float()
        if self.config.refinement.content == "difference":
            return coarse._replace(refined=refined)
        mask, content = made.mask[0].float(), (made.content[0].float() + 1) / 2
        shares = (1 - mask) * coarse.shares
        shares[:, PAINT : PAINT + 1] += mask
        painted = (1 - mask) * coarse.painted + mask * content
        return coarse._replace(shares=shares, painted=painted, refined=refined)

    def _added(self, made: Frames) -> Tensor | None:
        """What refinement adds to the blend of a frame in [0, 1], N x 3 x S x S; None where it paints, or nothing."""
        if self.networks.refinement is None or self.config.refinement.content != "difference":
            return None
        changes = settled(made.shares)[:, STATIC : STATIC + 1] < 1  # what stays has the still's own pixels
        return self.border * changes * (made.refined - made.coarse) / 2

    def _step(self, made: Frames, facts: Mapping[str, np.ndarray]) -> Step:
        """One step out of one frame: what moves or stays are the still's own pixels, the rest is paint."""
        assert self.scene is not None
        renderer, small = self.scene.renderer, self.canvas.small
        self.scene.reveal(made.shares)
        fields = hold(made.fields(), self.border)
        added = self._added(made)
        if self.output.native:
            frame = self.canvas.put_back(self.still, renderer.render(fields, added))
        else:
            blended = blend(fields, warp_still(small, fields), small, renderer.small_plate)
            frame = media.to_pictures(blended if added is None else blended + added)[0]
        mask = 1 - made.shares[:, STATIC : STATIC + 1]
        refined: Mapping[str, np.ndarray] = {}
        if self.networks.refinement is not None:
            refined = {"coarse": _pictured(made.coarse), "refined": _pictured(made.refined)}
        masks = {"mask": mask[0].cpu().numpy(), "shares": fields.shares[0].cpu().numpy()}
        return Step(frame, self._layers(made, mask), {**facts, **masks, **refined})

    def _layers(self, made: Frames, mask: Tensor) -> Mapping[str, np.ndarray]:
        if not self.output.layers:
            return {}
        from stillmotion.systems.structures.visualization import draw_layers

        assert self.scene is not None
        coarse = made.coarse[0] if self.networks.refinement else None
        drawn = draw_layers(made.structure[0], self.config.structure.kind, mask[0], made.content[0], coarse)
        return {**drawn, **self.scene.renderer.layers()} if self.config.forecast.fields else drawn


def as_frames(made: ForecastOutput, maps: Tensor, small: Tensor) -> Frames:
    """Forecasts as fields. The paper's network paints what it does not keep of the still.

    Args:
        made: N frames.
        maps: N x C x S x S, their structure maps.
        small: 1 x 3 x S x S in [0, 1], the still.
    """
    frame, content = made.frame.float(), made.content.float()
    if made.fields is not None:
        fields = made.fields
        painted = fields.shares[:, PAINT : PAINT + 1] * fields.paint
        return Frames(fields.displacement, fields.shares, painted, content, maps, frame, frame)
    kept = 1 - made.mask.float()
    shares = torch.zeros_like(kept).repeat(1, 4, 1, 1)
    shares[:, STATIC], shares[:, PAINT] = kept[:, 0], 1 - kept[:, 0]
    still = torch.zeros_like(frame).movedim(1, -1)[..., :2]
    return Frames(still, shares, (frame + 1) / 2 - kept * small, content, maps, frame, frame)


def _pictured(frames: Tensor) -> np.ndarray:
    """The first of frames, N x 3 x S x S in [-1, 1], as a picture."""
    return media.to_pictures((frames[:1] + 1) / 2)[0]


def plain(forecast: Forecast, start: int, count: int | None) -> Iterator[Frames]:
    """Forecasts as they are, a few at a time."""
    stop = start + (1 if count is None else count)
    for first in range(start, stop, BATCH):
        yield forecast(first, min(first + BATCH, stop))


def joined(one: Frames, other: Frames) -> Frames:
    """Frames one after the other."""
    return Frames(*(torch.cat(parts) for parts in zip(one, other, strict=True)))
