"""Augmentation of tracks: what is known about a clip's frames, moved exactly as their pixels are.

Every track has a kind, which says how it transforms (`KINDS`). The names that worlds, trackers and readers write are
known (`TRACK_KINDS`); of any other track the clip's meta tells it, `meta["track_kinds"] = {"codes": "values"}`, and a
track of unknown kind is refused. Places are (x, y) in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from stillmotion import geometry
from stillmotion.data.augment import AugmentParams, augment_frames, transform_points
from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError

KINDS: Mapping[str, str] = {
    "points": "T x ... x 2 places",
    "joints": "T x K x 3 places and visibilities; in a mirror left_* and right_* of meta['joints'] are exchanged",
    "boxes": "T x ... x 4: x0, y0, x1, y1, the centres of the outermost pixels",
    "labels": "T x H x W integers, sampled from the nearest pixel",
    "map": "T x H x W or T x H x W x C numbers, sampled bilinearly",
    "rgb": "T x H x W x 3 pictures, which also change colour as the frames do",
    "normals": "T x H x W x 3 unit vectors (x right, y up, z to the viewer) or zero, in the axes of "
    "meta['normals']: 'object' (the default) or 'camera'",
    "flow_forward": "(T - L) x H x W x 2 pixels: what is at (x, y) in frame t is at (x, y) + flow in frame t + L",
    "flow_backward": "(T - L) x H x W x 2 pixels, from frame t + L to frame t",
    "values": "T x ... numbers without a place: only the order of frames changes",
}
"""How a track transforms, and its shape."""

TRACK_KINDS: Mapping[str, str] = {
    **dict.fromkeys(("points", "path", "other_path", "gripper"), "points"),
    "joints": "joints",
    **dict.fromkeys(("box", "boxes"), "boxes"),
    **dict.fromkeys(("mask", "parts"), "labels"),
    "other_frames": "rgb",
    "normals": "normals",
    **dict.fromkeys(("flow", "flow_forward"), "flow_forward"),
    "flow_backward": "flow_backward",
}
"""The kinds of the tracks that worlds, trackers and readers write."""

_ON_PIXELS = ("labels", "map", "rgb", "normals", "flow_forward", "flow_backward")
# A normal map's border pixels are mixed with the zeros beside them; as in the world `faces` half a pixel decides.
_MIN_COVER = 0.5


def track_kind(name: str, meta: Mapping[str, Any]) -> str:
    """The kind of a track, a key of `KINDS`.

    Raises:
        StillmotionError: it is not known.
    """
    kind = meta.get("track_kinds", {}).get(name) or TRACK_KINDS.get(name)
    if kind not in KINDS:
        raise StillmotionError(
            f"How the track {name!r} changes under an augmentation is not known: name its kind in the clip's "
            f"meta['track_kinds'], one of {', '.join(KINDS)}."
        )
    return str(kind)


def augment_tracks(
    clip: Clip, names: Sequence[str], indices: np.ndarray, params: AugmentParams
) -> dict[str, np.ndarray]:
    """Move tracks as `augment_frames(clip.frames[indices], params)` moves the frames.

    * Points and boxes may leave the picture. A joint's visibility stays the one in the original frame.
    * A box becomes the box around its moved corners and edges.
    * A flow vector becomes the difference of its moved ends, so it turns and scales with the transform at its place.
      The fields returned are those that join two chosen frames: n - 1 for a window of n neighbours. Playing backwards
      exchanges `*_forward` and `*_backward`.
    * Normals in the object's axes (as in the world `faces`) are the same after a rotation in the picture; only a
      mirror negates x. Normals in the camera's axes rotate and stretch with the picture.

    Args:
        clip: with the tracks.
        names: which tracks to return.
        indices: the chosen frames, n integers.
        params: from `sample_params`, for frames of the clip's size.

    Returns:
        For each name an array in the order of the augmented frames: `labels` and integer `values` keep their type,
        everything else is `float32`. Layouts are those of `KINDS`.

    Raises:
        StillmotionError: the clip lacks a track, its kind is not known or does not fit its shape, left and right
            cannot be told apart, or no field of flow joins two chosen frames or is known in the other direction.
    """
    sources = None
    augmented = {}
    for name in names:
        kind = track_kind(name, clip.meta)
        values = _chosen(clip, name, kind, np.asarray(indices), params)
        if kind in _ON_PIXELS and kind != "rgb" and sources is None:
            sources = source_places(params)
        augmented[name] = _moved(values, kind, clip, np.asarray(indices), params, sources)
    return augmented


def augment_flow(flow: np.ndarray, params: AugmentParams, sources: np.ndarray) -> np.ndarray:
    """A field of motion between any two frames, moved as they are; H x W x 2 pixels to h x w x 2, `float32`.

    `sources` are the `source_places(params)`.
    """
    return _move_flow(_sample(flow[None], sources), params, sources)[0]


def augment_labels(labels: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """A picture of labels, moved as the frames are to their `source_places`; H x W to h x w of the same type."""
    return np.ascontiguousarray(labels[_nearest(sources)])


def augment_maps(maps: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Maps, T x H x W x C, moved as the frames are to their `source_places`; T x h x w x C, `float32`."""
    return _sample(maps, sources)


def augment_like(pictures: np.ndarray, frames: np.ndarray, params: AugmentParams) -> np.ndarray:
    """Pictures that belong to frames (a plate), moved and coloured as the frames are; N x H x W x 3, `float32`.

    Args:
        pictures: N x H x W x 3, `uint8` or float in [0, 1], in the order of the result.
        frames: in the clip's order; changes of colour depend on theirs.
        params: the same decisions.
    """
    frames = frames[::-1] if params.reverse else frames
    as_float = [np.multiply(x, np.float32(1 / 255)) if x.dtype == np.uint8 else x for x in (frames, pictures)]
    return augment_frames(np.concatenate(as_float), replace(params, reverse=False), len(frames))[len(frames) :]


def source_places(params: AugmentParams) -> np.ndarray:
    """Where each pixel of the result lies in the original frame; out height x out width x 2, pixels within it."""
    height, width = params.out
    places = np.stack(np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64)), axis=-1)
    edge = np.array([params.size[1] - 1.0, params.size[0] - 1.0])
    # Each step replicates its border, as the same step of `augment_frames` does.
    if params.elastic is not None:
        places = np.clip(places + params.elastic, 0, [width - 1.0, height - 1.0])
    if params.crops:
        places = (places + params.corner + 0.5) / params.resize - 0.5
        places = np.clip(places if params.resize == 1.0 else np.floor(places + 0.5), 0, edge)
    if params.affine is not None:
        inverse = np.linalg.inv(params.affine[:, :2])
        places = np.clip((places - params.affine[:, 2]) @ inverse.T, 0, edge)
    if params.mirror:
        places = places * [-1.0, 1.0] + [edge[0], 0.0]
    return places


def mirrored_name(name: str) -> str:
    """The joint that looks like `name` in a mirror: `left_*` and `right_*` are exchanged."""
    side, _, rest = name.partition("_")
    return {"left": "right_", "right": "left_"}.get(side, f"{side}_") + rest if rest else name


def _chosen(clip: Clip, name: str, kind: str, indices: np.ndarray, params: AugmentParams) -> np.ndarray:
    """The track's values for the chosen frames, in the order of the augmented frames."""
    if kind.startswith("flow_"):
        return _chosen_flow(clip, name, indices, params.reverse)
    values = _track(clip, name)
    if len(values) != len(clip):
        raise StillmotionError(
            f"The track {name!r} of clip {clip.name!r} has {len(values)} entries for {len(clip)} frames: remake it."
        )
    values = values[indices]
    return values[::-1] if params.reverse else values


def _chosen_flow(clip: Clip, name: str, indices: np.ndarray, reverse: bool) -> np.ndarray:
    stored = name
    if reverse:  # what went forward goes backward
        exchanged = {"forward": "backward", "backward": "forward"}
        stored = "_".join(exchanged.get(word, word) for word in name.split("_"))
        if stored == name or stored not in clip.tracks:
            raise StillmotionError(
                f"Clip {clip.name!r} knows the flow {name!r} in one direction only, so it cannot be played "
                "backwards: add the other direction (flow_forward, flow_backward) or set time_flip to 0."
            )
    fields = _track(clip, stored)
    lag = len(clip) - len(fields)
    starts = [int(t) for t in indices if t + lag in indices]
    if lag < 1 or not starts or (np.diff(indices) <= 0).any():
        raise StillmotionError(
            f"The flow {name!r} of clip {clip.name!r} joins frames {lag} apart, and the frames "
            f"{', '.join(map(str, indices))} hold no such pair in order of time: choose others or leave it out."
        )
    return fields[starts[::-1] if reverse else starts]


def _track(clip: Clip, name: str) -> np.ndarray:
    if name not in clip.tracks:
        has = ", ".join(sorted(clip.tracks)) or "none"
        raise StillmotionError(f"Clip {clip.name!r} has no track {name!r} (it has {has}): prepare the data with it.")
    return np.asarray(clip.tracks[name])


def _moved(
    values: np.ndarray, kind: str, clip: Clip, indices: np.ndarray, params: AugmentParams, sources: np.ndarray | None
) -> np.ndarray:
    if kind in _ON_PIXELS and values.shape[1:3] != params.size:
        raise StillmotionError(
            f"A track of kind {kind!r} in clip {clip.name!r} has {values.shape[1:3]} pixels where the frames have "
            f"{params.size}: make it at their size, or name it 'values'."
        )
    if kind == "values":
        return np.ascontiguousarray(values, np.float32 if values.dtype.kind == "f" else None)
    if kind == "points":
        return transform_points(values, params).astype(np.float32)
    if kind == "joints":
        return _move_joints(values, clip, params)
    if kind == "boxes":
        return _move_boxes(values, params)
    if kind == "rgb":
        return augment_like(values, clip.frames[indices], params)
    assert sources is not None
    if kind == "labels":
        return np.ascontiguousarray(values[:, *_nearest(sources)])
    if kind == "normals":
        return _move_normals(values, clip.meta.get("normals", "object"), params, sources)
    sampled = _sample(values, sources)
    return _move_flow(sampled, params, sources) if kind.startswith("flow_") else sampled


def _move_joints(joints: np.ndarray, clip: Clip, params: AugmentParams) -> np.ndarray:
    moved = np.concatenate([transform_points(joints[..., :2], params), joints[..., 2:]], axis=-1).astype(np.float32)
    if not params.mirror:
        return moved
    names = list(clip.meta.get("joints", ()))
    order = [names.index(m) for name in names if (m := mirrored_name(name)) in names]
    if sorted(order) != list(range(joints.shape[1])):
        raise StillmotionError(
            f"The joints of clip {clip.name!r} cannot be mirrored: meta['joints'] must name all {joints.shape[1]}, "
            "with a right_* for every left_*."
        )
    return moved[:, order]


def _move_boxes(boxes: np.ndarray, params: AugmentParams) -> np.ndarray:
    # Outer edges of pixels, not their centres: so a box of n pixels that is doubled has 2 n.
    first, last = boxes[..., :2] - 0.5, boxes[..., 2:] + 0.5
    shares = [np.array([x, y]) for x in (0, 0.5, 1) for y in (0, 0.5, 1)]  # an elastic deformation bends the edges
    moved = transform_points(np.stack([first + share * (last - first) for share in shares], axis=-2), params)
    return np.concatenate([moved.min(axis=-2) + 0.5, moved.max(axis=-2) - 0.5], axis=-1).astype(np.float32)


def _move_normals(normals: np.ndarray, axes: str, params: AugmentParams, sources: np.ndarray) -> np.ndarray:
    sampled = _sample(normals, sources)
    if axes == "camera":
        # A surface stretched by J in the picture and by the root of its determinant in depth: its normals go with the
        # inverse transpose. The picture's y points down and the normals' up.
        j = _jacobian(params, sources)
        determinant = j[..., 0, 0] * j[..., 1, 1] - j[..., 0, 1] * j[..., 1, 0]
        root = np.sqrt(np.abs(determinant)) / determinant
        x, y = sampled[..., 0], -sampled[..., 1]
        turned = [root * (j[..., 1, 1] * x - j[..., 1, 0] * y), -root * (j[..., 0, 0] * y - j[..., 0, 1] * x)]
        length = np.linalg.norm(sampled, axis=-1)
        sampled = np.stack([*turned, sampled[..., 2]], axis=-1)
        sampled *= (length / np.maximum(np.linalg.norm(sampled, axis=-1), 1e-6))[..., None]
    elif params.mirror:
        sampled = sampled * np.array([-1, 1, 1], np.float32)
    length = np.linalg.norm(sampled, axis=-1, keepdims=True)
    unit: np.ndarray = np.where(length >= _MIN_COVER, sampled / np.maximum(length, _MIN_COVER), 0).astype(np.float32)
    return unit


def _move_flow(flow: np.ndarray, params: AugmentParams, sources: np.ndarray) -> np.ndarray:
    """Vectors between the moved ends; T x H x W x 2 original pixels at the sources to pixels of the result."""
    return (transform_points(sources + flow, params) - transform_points(sources, params)).astype(np.float32)


def _jacobian(params: AugmentParams, sources: np.ndarray) -> np.ndarray:
    """H x W x 2 x 2: how places of the result (rows) change with those of the original frame, at each pixel."""
    start = transform_points(sources, params)
    steps = [transform_points(sources + step, params) - start for step in ([1.0, 0.0], [0.0, 1.0])]
    return np.stack(steps, axis=-1)


def _nearest(sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels nearest to the sources."""
    x, y = np.moveaxis(np.rint(sources).astype(np.intp), -1, 0)
    return y, x


def _sample(values: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Sample T x H x W (x C) at H x W x 2 pixels, bilinearly; `float32`, exact where the places are whole pixels."""
    numbers = np.ascontiguousarray(values, dtype=np.float32)
    if (sources == np.rint(sources)).all():
        return numbers[:, *_nearest(sources)]
    size = (values.shape[1], values.shape[2])
    grid = geometry.to_normalised(torch.from_numpy(sources), size).float()
    channels = torch.from_numpy(numbers.reshape(*values.shape[:3], -1)).permute(0, 3, 1, 2)
    sampled = geometry.warp(channels, grid.expand(len(values), -1, -1, -1), padding="border").permute(0, 2, 3, 1)
    return sampled.contiguous().numpy().reshape(len(values), *sources.shape[:2], *values.shape[3:])
