"""Cases of the protocols `actions` and `actions-all`: stills, actions, what is the true outcome, and who is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from stillmotion.data.clip import Clip
from stillmotion.errors import StillmotionError
from stillmotion.evaluation.extractors.identity import figure_colours
from stillmotion.evaluation.protocols.columns import Case

LENGTH = 32  # frames of an animation: those of clips that are shorter, and as many of longer ones, evenly spaced


@dataclass(frozen=True, eq=False)
class ActionCase(Case):
    """A still and an action; where nothing is the true outcome, `target` is the still, as long as `clip`."""

    action: str | None  # asked for; None in data without actions
    place: int  # of the action among those of the clips
    own: bool  # whether `clip` performs it and `target` is it
    true: bool  # whether `target` shows this still's person in the action asked for
    person: int  # place of the still's person in `gallery`
    gallery: Tensor | None  # colours of this still's figure and of every other person's, M x 64; None if not known


def action_cases(clips: Sequence[Clip], every: bool = False) -> list[Case]:
    """The cases of the clips: of each its own action, or every action of the clips.

    Raises:
        StillmotionError: only some clips have an action.
    """
    actions = [clip.meta.get("action") for clip in clips]
    if None in actions and any(actions):
        name = clips[actions.index(None)].name
        raise StillmotionError(f"The clip {name!r} has no action in its meta and others have; leave it out.")
    names: list[str | None] = [*sorted(set(filter(None, actions)))] or [None]
    people = list(dict.fromkeys(map(person_of, clips)))
    gallery = colour_gallery(clips)
    drawn = {(*key, clip.meta.get("action")): clip for clip in clips if (key := drawing_of(clip))}
    cases: list[Case] = []
    for clip, own in zip(clips, actions, strict=True):
        frames = evenly_sampled(np.asarray(clip.frames))
        for place, asked in enumerate(names):
            if not (every or asked == own):
                continue
            donor = clip if asked == own else drawn.get((*(drawing_of(clip) or ("", "")), asked))
            true = donor is not None
            target = evenly_sampled(np.asarray(donor.frames)) if donor else np.repeat(frames[:1], len(frames), axis=0)
            title = clip.name if asked == own else f"{clip.name}--{asked}"
            person = people.index(person_of(clip))
            found = (asked, place, asked == own, true, person, with_own_still(gallery, person, clip))
            cases.append(ActionCase(title, frames[0], target, clip, *found))
    return cases


def evenly_sampled(frames: np.ndarray) -> np.ndarray:
    """At most `LENGTH` of T frames, as the release's training takes them: the first, and others at a constant gap."""
    return frames[:: max(1, len(frames) // LENGTH)][:LENGTH]


def person_of(clip: Clip) -> str:
    """Who is seen: the clip's subject or character, or somebody that no other clip shows."""
    return str(clip.meta.get("character", clip.meta.get("subject", f"clip {clip.name}")))


def drawing_of(clip: Clip) -> tuple[str, str] | None:
    """Character and side of a drawn clip, whose actions are frames of one sheet; None for any other clip."""
    if not {"character", "side"} <= set(clip.meta):
        return None
    return str(clip.meta["character"]), str(clip.meta["side"])


def colour_gallery(clips: Sequence[Clip]) -> Tensor | None:
    """Colours of the figure in the first still of each person, M x 64; None where one is not known, or for one."""
    first = {person_of(clip): clip for clip in reversed(clips)}
    people = [first[name] for name in dict.fromkeys(map(person_of, clips))]
    figures = [figure[None] for clip in people if (figure := still_figure(clip)) is not None]
    if len(people) < 2 or len(figures) < len(people):
        return None
    each = zip(people, figures, strict=True)
    return torch.cat([figure_colours(np.asarray(clip.frames[:1]), figure) for clip, figure in each])


def with_own_still(gallery: Tensor | None, person: int, clip: Clip) -> Tensor | None:
    """The gallery with the clip's own still in the place of its person."""
    figure = still_figure(clip)
    if gallery is None or figure is None:
        return None
    found = gallery.clone()
    found[person] = figure_colours(np.asarray(clip.frames[:1]), figure[None])[0]
    return found


def still_figure(clip: Clip) -> np.ndarray | None:
    """Where the figure is in the first frame, H x W in [0, 1]: the track `mask`, else the joints' convex hull."""
    if "mask" in clip.tracks:
        return (np.asarray(clip.tracks["mask"][0]) > 0).astype(np.float32)
    if "joints" not in clip.tracks:
        return None
    hull = cv2.convexHull(np.asarray(clip.tracks["joints"][0], np.float32)[:, :2].round().astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(clip.frames.shape[1:3], np.float32), hull, 1.0)
