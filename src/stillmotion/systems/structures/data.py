"""What the stages learn from: pairs of frames, clips of frames, and poses over time, with their structures.

Frames and structures are augmented alike. Joints follow every change. Normals are stored as maps and sampled where
the frames are, bilinearly: they follow mirrors exactly (x is negated) and every affine map to within a pixel's
interpolation, and since they are those of the head before its pose, a rotation in the picture does not change them.
An elastic deformation or a stretch moves them without bending them. Where `black_border` (augmentation `penn`)
blackens frames, a map repeats its border: choose another augmentation for faces.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from stillmotion.data.augment import AugmentParams, find_augmentation, sample_params
from stillmotion.data.clip import Clip
from stillmotion.data.derived import derived_track
from stillmotion.data.motion_truth import motion_truths
from stillmotion.data.plates import Plates
from stillmotion.data.pose import JOINTS
from stillmotion.data.sampling import ClipDataset, Extra, PairDataset, clip_index, sample_rng, to_tensor
from stillmotion.data.track_augment import augment_flow, augment_labels, augment_maps, augment_tracks, source_places
from stillmotion.errors import StillmotionError
from stillmotion.morphable.camera import Pose, project, solve_pose
from stillmotion.morphable.fitting import FaceFit, fit_landmarks
from stillmotion.morphable.landmarks import find_landmarks
from stillmotion.morphable.model import MorphableModel
from stillmotion.morphable.openings import face_openings
from stillmotion.morphable.rendering import surface_displacement
from stillmotion.systems.structures.config import StructuresConfig
from stillmotion.systems.structures.displacements import limb_displacement, surface_coarse, with_openings
from stillmotion.systems.structures.expressions import normal_maps, open_model
from stillmotion.systems.structures.structure_maps import pose_maps, pose_vectors

TRACK = "structure"
"""The derived track of normal maps: T x S x S x 3, `float16`, in the axes of the head before its pose."""

FACE = "face"
"""What they are made of, T x (K + E + 7): identity, expression, scale, rotation, shift, error; derived as well."""

KNOWN = ("true", "coarse", "structures", "context")
"""Of clips of frames: the true ones, and what refinement reads, in this order; the paper's has no context."""

CHANGING = 0.02
"""From one frame to the next, of a forecast in [-1, 1]: what `ForecastSquares` calls a change."""

UNCHANGED = 1e-3
"""Chance of a square in which nothing changes, where one in which all does has 1."""

MARGIN = 0.15
"""Of a person's box around the joints, which lie inside of the body: a share of the box's longer side."""


# --- clips with structures ------------------------------------------------------------------------------------------


def with_structures(clips: Sequence[Clip], config: StructuresConfig, folder: Path | str) -> Sequence[Clip]:
    """Clips that know their structures: joints are there or not, normal maps are made and stored in `folder`.

    Raises:
        StillmotionError: a clip lacks joints, no face is found in it or fits its landmarks, or the disk is full.
    """
    settings = config.structure
    track = TRACK if settings.kind == "normals" else "joints"
    lacking = [clip.name for clip in clips if track not in clip.tracks]
    if settings.kind != "normals" and lacking:
        raise StillmotionError(
            f"{len(lacking)} of {len(clips)} clips have no track 'joints', as {lacking[0]}: prepare them with "
            "--tracks joints."
        )
    if settings.kind != "normals" or not lacking:
        return clips
    model = open_model(settings.face_model)
    digest = _model_digest(model)
    known = derived_track(clips, FACE, partial(_face_track, model=model), kind="values", key=digest, folder=folder)
    key = f"{digest} {config.size} {settings.depth}"
    make = partial(_clip_normals, model=model, size=config.size, depth=settings.depth)
    return derived_track(known, TRACK, make, kind="normals", key=key, folder=folder)


def usable_clips(clips: Sequence[Clip], least: int, group: str = "") -> Sequence[Clip]:
    """The clips of at least so many frames; says how many are left out.

    Where clips state the authors' groups (meta `group`: `train` for the forecast, `val` for the refinement, as for
    MUG), those of `group` alone: forecasts of people that G_M has learned are better than those that G_R will see.

    Raises:
        StillmotionError: there is none.
    """
    groups = {clip.meta.get("group") for clip in clips} if group else set()
    chosen = [clip for clip in clips if clip.meta.get("group") == group] if {"train", "val"} <= groups else clips
    kept = [clip for clip in chosen if len(clip) >= least]
    if not kept:
        raise StillmotionError(f"No clip has the {least} frames that this stage needs: prepare longer clips.")
    if len(kept) < len(chosen):
        print(
            f"Left out {len(chosen) - len(kept)} of {len(chosen)} clips, which are shorter than {least} frames.",
            file=sys.stderr,
        )
    return clips if len(kept) == len(clips) else kept


def structures_of(clip: Clip, indices: np.ndarray, params: AugmentParams, kind: str) -> dict[str, Tensor]:
    """The structures of frames, augmented as they are; an `extra` of the samplers.

    Returns:
        `normals`, T x 3 x S x S, or `poses`, T x 13 x 3: (x, y, visibility) in pixels, in the order of Penn Action.
    """
    if kind == "normals":
        return {"normals": to_tensor(augment_tracks(clip, (TRACK,), indices, params)[TRACK])}
    moved, names = augment_tracks(clip, ("joints",), indices, params)["joints"], clip.meta.get("joints", JOINTS)
    if not set(JOINTS) <= set(names) or len(names) != moved.shape[1]:
        raise StillmotionError(
            f"The joints of clip {clip.name!r} are not the {len(JOINTS)} of Penn Action: map them to "
            f"{', '.join(JOINTS)}."
        )
    # The place of a joint that nobody sees may be NaN, and NaN times zero is NaN.
    return {"poses": torch.from_numpy(moved[:, [list(names).index(name) for name in JOINTS]]).nan_to_num()}


def structure_maps(batch: Mapping[str, Tensor], config: StructuresConfig) -> Tensor:
    """The structure maps of a batch, N x T x C x s x s, out of what `structures_of` gave."""
    if "normals" in batch:
        return batch["normals"]
    return pose_maps(batch["poses"], config.structure.kind, (config.size, config.size), config.structure.sigma)


def known_of(
    clip: Clip,
    indices: np.ndarray,
    params: AugmentParams,
    config: StructuresConfig,
    plates: Plates,
    truths: bool = True,
) -> dict[str, Tensor]:
    """What fields learn from beside the frames.

    Returns:
        `structures_of`; of the first frame the `plate`, of all others `motion_truths` (not without `truths`, which
        are most of the time that a clip takes), and of faces what `face_known` gives.
    """
    known = structures_of(clip, indices, params, config.structure.kind)
    if config.structure.kind == "normals" and FACE in clip.tracks:
        known |= face_known(clip, indices, params, config)
    if truths:
        known |= motion_truths(clip, indices, params)
    return known | {"plate": plates(clip, indices, params)}


def face_known(clip: Clip, indices: np.ndarray, params: AugmentParams, config: StructuresConfig) -> dict[str, Tensor]:
    """What the shape of a face says of frames, after an augmentation.

    Returns:
        `motion`, T - 1 x S x S x 3: where the face in all frames but the first was in that, in pixels, and 1 where
        there is face; and with `structure.openings`, `openings`, T x S x S x 3, see `morphable.openings`.
    """
    order = np.asarray(indices)[::-1] if params.reverse else np.asarray(indices)
    model, side, sources = open_model(config.structure.face_model), clip.frames.shape[1], source_places(params)
    fit = clip_face(clip, model)
    expression, pose = fit.expression[order], fit.pose[order]
    placed = project(model.vertices(fit.identity, expression), pose)
    moved = surface_displacement(placed[0], placed[1:], model.triangles, side)
    flow = np.stack([augment_flow(frame[..., :2], params, sources) for frame in moved])
    face = np.stack([augment_labels(frame[..., 2:], sources) for frame in moved])
    known = {"motion": torch.from_numpy(np.concatenate([flow, face], axis=-1).astype(np.float32))}
    if config.structure.openings:
        opened = face_openings(model, fit.identity, expression, pose, side)
        known["openings"] = torch.from_numpy(augment_maps(opened, sources))
    return known


def coarse_displacement(batch: Mapping[str, Tensor], config: StructuresConfig) -> Tensor:
    """The coarse displacements of a batch's frames but the first, N x T x s x s x 3 or 9; see displacements.py."""
    if "poses" in batch:
        poses = batch["poses"]
        return limb_displacement(poses[:, :1], poses[:, 1:], config.size)
    coarse = surface_coarse(batch["motion"])
    return with_openings(coarse, batch["openings"]) if "openings" in batch else coarse


FIELD_INPUTS = ("poses", "motion", "openings", "plate")
"""Of a batch, what `field_inputs` takes."""


def field_inputs(batch: Mapping[str, Tensor], config: StructuresConfig) -> tuple[Tensor | None, Tensor | None]:
    """What our network knows and the paper's does not: `coarse_displacement` and the plates; None for the paper's."""
    return (coarse_displacement(batch, config), batch["plate"]) if config.forecast.fields else (None, None)


def person_boxes(batch: Mapping[str, Tensor], size: int) -> Tensor:
    """Squares around the persons or faces of a batch, N x T x 4, see `losses.crop_boxes`; all of a frame without."""
    if "poses" in batch:
        places, visible = batch["poses"][..., :2], batch["poses"][..., 2:] > 0
    else:
        shown = batch["normals"].abs().amax(2) > 0  # N x T x S x S
        y, x = torch.meshgrid(*2 * [torch.arange(size, device=shown.device, dtype=torch.float32)], indexing="ij")
        places, visible = torch.stack([x, y], -1).flatten(0, 1), shown.flatten(2)[..., None]
    low = torch.where(visible, places, torch.inf).amin(-2)
    high = torch.where(visible, places, -torch.inf).amax(-2)
    none = ~visible.any(-2)
    low, high = torch.where(none, -0.5, low), torch.where(none, size - 0.5, high)
    half = (high - low).amax(-1, keepdim=True) * torch.where(none, 0.5, 0.5 + MARGIN)
    middle = (low + high) / 2
    return torch.cat([middle - half, middle + half], dim=-1)


# --- samples --------------------------------------------------------------------------------------------------------


def pairs(clips: Sequence[Clip], config: StructuresConfig, seed: int) -> PairDataset:
    """Pairs of frames, `source` and `driving`, 3 x s x s in [0, 1], with the structures of both (Sec. 3.2).

    For fields with all that `known_of` says.
    """
    return PairDataset(
        clips,
        seed,
        find_augmentation(config.clip.augmentation),
        choose=partial(choose_pair, config=config),
        extra=_extra(config),
    )


def _extra(config: StructuresConfig, truths: bool = True) -> Extra:
    if config.forecast.fields:
        return partial(known_of, config=config, plates=Plates(), truths=truths)
    return partial(structures_of, kind=config.structure.kind)


def choose_pair(length: int, rng: np.random.Generator, config: StructuresConfig) -> tuple[int, int]:
    """Frames t and t + k of a clip of at least two time steps.

    Both are random, k from one step up to `largest_jump`; or t is 0 and k may be 0 (release).
    """
    step, first = config.clip.frame_step, config.clip.pairs == "first"
    start = 0 if first else int(rng.integers(length - step))
    most = (length - 1 - start) // step
    if config.clip.largest_jump:
        most = min(most, max(config.clip.largest_jump // step, 1))
    return start, start + step * int(rng.integers(0 if first else 1, most, endpoint=True))


class ClipWindows(ClipDataset):
    """Clips of K frames for the refinement (Sec. 3.3), with a still from which they are forecast.

    Items hold `frames`, (1 + K) x 3 x s x s in [0, 1], of which the first is the still: frame 0, or any frame from
    `largest_jump` before the clip up to its first one; and the structures of all. Clips are never played backwards:
    D_V scores motion.
    """

    def __init__(self, clips: Sequence[Clip], config: StructuresConfig, seed: int):
        augmentation = replace(find_augmentation(config.clip.augmentation), time_flip=0.0)
        super().__init__(clips, seed, augmentation, extra=_extra(config, truths=False))
        self.config, self.count = config.clip, config.refinement.frames

    def choose_frames(self, clip: Clip, rng: np.random.Generator) -> np.ndarray:
        """Draw the still and the clip."""
        step = self.config.frame_step
        start = int(rng.integers(len(clip) - (self.count - 1) * step))
        lowest = max(0, start - self.config.largest_jump) if self.config.largest_jump else 0
        still = 0 if self.config.pairs == "first" else int(rng.integers(lowest, start, endpoint=True))
        return np.array([still, *(start + step * np.arange(self.count))])


class ForecastSquares(Dataset[dict[str, Any]]):
    """Squares of clips that were forecast once; item n is a pure function of the seed and n.

    Items hold `KNOWN`, K x ... x crop x crop. A square is the likelier the more of the forecast changes in it: where
    nothing does, the still is right already.
    """

    def __init__(self, windows: Sequence[dict[str, Any]], config: StructuresConfig, seed: int):
        """Args: of each clip `KNOWN`, K x ... x s x s, poses K x 13 x 3 in place of their maps; and `name`."""
        self.windows, self.config, self.seed = windows, config, seed

    def __len__(self) -> int:
        """Samples per epoch, one per window."""
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        window, settings = self.windows[clip_index(len(self), index, self.seed)], self.config.structure
        side = self.config.refinement.crop
        changing = (window["coarse"].float().diff(dim=0).abs().amax(1) > CHANGING).float().mean(0)
        chances = F.avg_pool2d(changing[None], side, 1)[0] + UNCHANGED  # of the upper left corners
        draw = sample_rng(self.seed, index).random() * chances.sum()
        top, left = divmod(int((chances.flatten().cumsum(0) < draw).sum()), chances.shape[1])
        known = {name: window[name].float() for name in KNOWN if name in window}
        cut = {name: value[..., top : top + side, left : left + side] for name, value in known.items()}
        if settings.kind != "normals":
            moved = known["structures"] - torch.tensor([left, top, 0])
            sigma = settings.sigma * self.config.size / side
            cut["structures"] = pose_maps(moved, settings.kind, (side, side), sigma)
        return {**cut, "name": window["name"]}


class PoseWindows(Dataset[dict[str, Any]]):
    """Poses over time for the pose predictor (Sec. 3.1); item n is a pure function of the seed and n.

    Items are dicts of `observed`, T x 26, and `future`, U x 26, see `pose_vectors`; `visible`, U x 13, 0 also behind
    a clip's end; and `name`. Time never runs backwards.
    """

    def __init__(self, clips: Sequence[Clip], config: StructuresConfig, seed: int):
        """Args: clips with joints, of more frames than are observed."""
        self.clips, self.config, self.seed = clips, config, seed
        self.augmentation = replace(find_augmentation(config.clip.augmentation), time_flip=0.0)

    def __len__(self) -> int:
        """Samples per epoch, one per clip."""
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self.clips[clip_index(len(self), index, self.seed)]
        rng, observed = sample_rng(self.seed, index), self.config.pose.observed
        times = self.config.clip.frame_step * np.arange(observed + self.config.pose.predicted)
        times += rng.integers(max(len(clip) - times[-1], 1))
        params = sample_params((clip.frames.shape[1], clip.frames.shape[2]), rng, self.augmentation)
        poses = structures_of(clip, times.clip(max=len(clip) - 1), params, "joints")["poses"]
        poses[torch.from_numpy(times >= len(clip))] = 0  # visible nowhere
        vectors = pose_vectors(poses, self.config.size)
        visible = (poses[observed:, :, 2] > 0).float()
        return {"observed": vectors[:observed], "future": vectors[observed:], "visible": visible, "name": clip.name}


# --- faces ----------------------------------------------------------------------------------------------------------


def clip_face(clip: Clip, model: MorphableModel) -> FaceFit:
    """The coefficients and poses of a clip's face.

    Clips of the `faces` world know their coefficients, if the model is theirs; only the poses are solved for. Of
    others the model is fitted to the track `landmarks`, or to landmarks that are detected.

    Raises:
        StillmotionError: no face is found, or none fits.
    """
    if FACE in clip.tracks:
        return _face_of(np.asarray(clip.tracks[FACE], np.float64), model)
    known = {name: np.asarray(track, np.float64) for name, track in clip.tracks.items() if name in _FACE_TRACKS}
    names = tuple(clip.meta.get("actions", ()))
    if known.keys() == _FACE_TRACKS and names == model.expression_names:
        identity, expression = known["identity"][0], known["expression"]
        places = model.only_landmarks().vertices(identity, expression).astype(np.float64)
        pose = solve_pose(places, known["landmarks"][..., :2])
        away = project(places, pose)[..., :2] - known["landmarks"][..., :2]
        return FaceFit(identity, expression, pose, np.sqrt((away**2).sum(-1).mean(1)))
    try:
        return fit_landmarks(model, known["landmarks"] if "landmarks" in known else find_landmarks(clip.frames))
    except StillmotionError as error:
        raise StillmotionError(f"Clip {clip.name!r}: {error}") from error


def _face_track(clip: Clip, model: MorphableModel) -> np.ndarray:
    fit = clip_face(clip, model)
    identity = np.broadcast_to(fit.identity, (len(fit.pose), len(fit.identity)))
    pose = fit.pose.scale[:, None], fit.pose.rotation, fit.pose.shift
    return np.concatenate([identity, fit.expression, *pose, fit.error[:, None]], axis=1).astype(np.float32)


def _face_of(track: np.ndarray, model: MorphableModel) -> FaceFit:
    ends = np.cumsum([len(model.identity_std), len(model.expression_std), 1, 3, 2])
    identity, expression, scale, rotation, shift, error = np.split(track, ends, axis=1)
    return FaceFit(identity[0], expression, Pose(scale[:, 0], rotation, shift), error[:, 0])


_FACE_TRACKS = frozenset({"identity", "expression", "landmarks"})


def _clip_normals(clip: Clip, model: MorphableModel, size: int, depth: str) -> np.ndarray:
    fit = clip_face(clip, model)
    vertices = model.vertices(fit.identity, fit.expression)
    return normal_maps(model, vertices, fit.pose, size, depth).permute(0, 2, 3, 1).half().numpy()


def _model_digest(model: MorphableModel) -> str:
    digest = hashlib.sha256()
    for values in (model.mean, model.identity_basis, model.expression_basis, model.triangles, model.landmarks):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
