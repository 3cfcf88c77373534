"""Layers that explain an animation (stroke, its encoding, change mask), and contact sheets of a training."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from stillmotion import media
from stillmotion.data.clip import evenly
from stillmotion.nn.modes import eval_mode
from stillmotion.systems.strokes.compositing import from_network, to_network
from stillmotion.systems.strokes.networks import StrokesNetworks
from stillmotion.systems.strokes.object_frame import object_frame

LAYER_SIDE = 256  # layers are enlarged to about this side


def time_colour(share: float) -> tuple[int, int, int]:
    """The colour of a time: blue at the start (0), over green, to red at the end (1)."""
    red, green, blue = colorsys.hsv_to_rgb((1 - share) * 2 / 3, 0.9, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_stroke(picture: np.ndarray, points: np.ndarray, now: int | None = None) -> np.ndarray:
    """A stroke over a picture: a line coloured by time, a dot per frame, a ring at its start.

    Args:
        picture: H x W x 3, `uint8`.
        points: T x 2, (x, y) in its pixels.
        now: mark this point with a filled disc.
    """
    height, width = picture.shape[:2]
    thick = max(1, round(min(height, width) / 120))
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    places = [(float(x), float(y)) for x, y in points]
    last = max(len(places) - 1, 1)

    def disc(place: tuple[float, float], radius: float, **options: object) -> None:
        x, y = place
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], **options)  # type: ignore[arg-type]

    for t in range(len(places) - 1):
        draw.line([places[t], places[t + 1]], fill=time_colour(t / last), width=thick)
    for t, place in enumerate(places):
        disc(place, 1.5 * thick, fill=time_colour(t / last))
    disc(places[0], 4 * thick, outline=time_colour(0), width=thick)
    if now is not None:
        disc(places[now], 3 * thick, fill=(255, 255, 255), outline=time_colour(now / last), width=thick)
    return np.asarray(image)


def draw_encoding(whole: Tensor, step: Tensor) -> np.ndarray:
    """Inputs of E2: S above, S_t below, their channels side by side.

    Args:
        whole: 1 x C x S x S; each channel is drawn from its minimum (black) to its maximum (white).
        step: the same shape, drawn with the same scale.
    """
    both = torch.stack([whole[0], step[0]]).float()  # 2 x C x S x S
    low, high = both.amin((0, 2, 3), keepdim=True), both.amax((0, 2, 3), keepdim=True)
    grey = F.pad((both - low) / (high - low).clamp_min(1e-9), (1, 1, 1, 1), value=0.5)  # a line around each
    sheet = grey.permute(0, 2, 1, 3).flatten(2).flatten(0, 1).cpu().numpy()  # 2 (S + 2) x C (S + 2)
    return enlarge(np.repeat(media.to_uint8(sheet)[..., None], 3, 2), max(sheet.shape) // 2)


def draw_change(picture: np.ndarray, mask: Tensor) -> np.ndarray:
    """A frame, darkened where the output keeps the still's pixels.

    Args:
        picture: S x S x 3, `uint8`, the networks' frame.
        mask: the change mask, 1 x 1 x S x S in [0, 1].
    """
    share = 0.25 + 0.75 * mask[0, 0].float().cpu().numpy()[..., None]
    return enlarge(np.rint(picture * share).astype(np.uint8), len(picture))


def enlarge(picture: np.ndarray, side: int) -> np.ndarray:
    """Every pixel of a picture whose side is `side` repeated, up to about `LAYER_SIDE`."""
    factor = max(1, round(LAYER_SIDE / side))
    return np.repeat(np.repeat(picture, factor, 0), factor, 1)


# --- contact sheets ------------------------------------------------------------------------------------------------


@torch.no_grad()
def roll_out(
    networks: StrokesNetworks, still: np.ndarray, points: np.ndarray, plate: Tensor | None = None
) -> np.ndarray:
    """Frames generated from a still and the networks' own states.

    Args:
        networks: in eval mode.
        still: s x s x 3, `uint8`.
        points: T x 2, (x, y) pixels.
        plate: 4 x s x s, see `rendering.fields.blend`; None if it is not known.

    Returns:
        T x s x s x 3, `uint8`; the first is the still.
    """
    device = next(networks.parameters()).device
    stroke = torch.from_numpy(np.asarray(points, np.float32))[None].to(device)
    known = None if plate is None else plate[None].to(device)
    context = networks.begin(to_network(still[None]).to(device), stroke, known)
    state, pictures = context.initial, [still]
    for t in range(len(points) - 1):
        outputs = networks(networks.step_inputs(context, state, stroke, t))
        state = outputs.state
        pictures.append(from_network(outputs.generated.frame)[0])
    return np.stack(pictures)


def rollout_sheet(
    networks: StrokesNetworks, clips: Sequence[Any], rows: int = 6, shown: int = 8, scale: int = 2
) -> np.ndarray:
    """Two rows per clip: the stroke over the still and true frames; below, the frames generated for those times.

    Args:
        networks: in eval mode inside.
        clips: with usable windows (`data.clips_with_points`); at most `rows` are taken, evenly.
        rows: clips in the sheet.
        shown: frames of each.
        scale: enlargement.
    """
    with eval_mode(networks):
        chosen = evenly(len(clips), rows)
        return np.concatenate([row for i in chosen for row in _rolled(networks, clips[i], shown, scale)])


def _rolled(networks: StrokesNetworks, clip: Any, shown: int, scale: int) -> list[np.ndarray]:
    from stillmotion.systems.strokes import data

    chosen = data.first_window(clip, networks.config)
    frames, points = clip.frames[chosen], data.clip_stroke(clip, networks.config)[chosen]
    generated = roll_out(networks, frames[0], points, data.clip_plate(clip, int(chosen[0]), networks.config))
    at = np.linspace(0, len(chosen) - 1, shown).round().astype(int)
    above, below = (np.repeat(np.repeat(video[at], scale, 1), scale, 2) for video in (frames, generated))
    first = draw_stroke(above[0], (points + 0.5) * scale - 0.5)
    return [np.concatenate([first, *above[1:]], 1), np.concatenate(list(below), 1)]


def autoencoding_sheet(networks: StrokesNetworks, clips: Sequence[Any], rows: int = 6, shown: int = 8) -> np.ndarray:
    """Two rows per clip: true frames, and below what G generates from E1's code of each, with the first as the still.

    Clips and rows are as in `rollout_sheet`.
    """
    with eval_mode(networks):
        chosen = evenly(len(clips), rows)
        return np.concatenate([row for i in chosen for row in _autoencoded(networks, clips[i], shown)])


@torch.no_grad()
def _autoencoded(networks: StrokesNetworks, clip: Any, count: int) -> list[np.ndarray]:
    from stillmotion.systems.strokes import data

    config, device = networks.config, next(networks.parameters()).device
    usable = np.flatnonzero(data.usable_frames(clip, config))
    chosen = usable[np.linspace(0, len(usable) - 1, count).round().astype(int)]
    stroke = torch.from_numpy(data.clip_stroke(clip, config)[chosen]).to(device)
    points = torch.stack([stroke[:1].expand_as(stroke), stroke], dim=1)  # count x 2 x 2
    pictures = np.asarray(clip.frames[chosen])
    frames = to_network(pictures).to(device)
    plate = data.clip_plate(clip, int(chosen[0]), config)
    known = None if plate is None else plate.expand(count, -1, -1, -1).to(device)
    context = networks.begin(frames[:1].expand_as(frames), points, known)
    if config.clip.mask_background:
        frames = data.mask_background((frames + 1) / 2, data.ObjectMasks()(clip, chosen).to(device)) * 2 - 1
    generated = networks.generate(context, networks.encode(frames, points, 1), object_frame(points, 1, config))
    return [np.concatenate(list(videos), 1) for videos in (pictures, from_network(generated.frame))]
