"""From a folder of videos to a prepared data set."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo, Quarantined, left_out
from stillmotion.data.pool import map_in_order
from stillmotion.data.pose import JOINTS
from stillmotion.data.readers import READERS, find_reader
from stillmotion.data.shards import write_dataset
from stillmotion.data.sources import (
    LAYOUTS,
    Found,
    Source,
    find_sources,
    hold_out,
    keep_only,
    with_safe_names,
)
from stillmotion.data.trackers import check_trackers, find_tracker
from stillmotion.data.tracks import boxes
from stillmotion.errors import StillmotionError
from stillmotion.media import VideoReader, open_video, resize
from stillmotion.media import crop as cut
from stillmotion.media.sequences import DEFAULT_FPS
from stillmotion.options import parse_box

Progress = Callable[[int, int, str, str | None], None]
Box = tuple[int, int, int, int]

_MOST_BYTES = 2 * 2**30
_MOTION_SIDE = 128  # in pixels, of the frames in which the moving object is detected
_MOTION_MARGIN = 0.1


@dataclass(frozen=True)
class ClipSettings:
    """How a source becomes a clip; see `prepare`. A value that makes no sense raises `StillmotionError`."""

    size: tuple[int, int] = (64, 64)
    fps: float | None = None
    crop: str = "centre"
    tracks: Sequence[str] = ()
    min_frames: int = 2
    max_frames: int | None = None

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise StillmotionError(f"The size must be at least one pixel, not {self.size}.")
        if self.min_frames < 1 or (self.max_frames is not None and self.max_frames < self.min_frames):
            raise StillmotionError(
                f"Clips of {self.min_frames} to {self.max_frames} frames cannot be made: "
                "the least must be 1 or more and the most no less than that."
            )
        check_trackers(self.tracks)
        if self.crop not in ("centre", "none", "motion", "box"):
            _fixed_box(self.crop)


def prepare(
    videos: Path | str,
    out: Path | str,
    *,
    size: int | tuple[int, int] = 64,
    jobs: int = 1,
    fps: float | None = None,
    crop: str = "centre",
    tracks: Sequence[str] = (),
    layout: str = "auto",
    min_frames: int = 2,
    max_frames: int | None = None,
    held_out: Mapping[str, Sequence[Any]] | None = None,
    only: Mapping[str, Sequence[Any]] | None = None,
    licence: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> DatasetInfo:
    """Turn a folder of videos, frame folders, strips, or a published data set into a prepared data set.

    A file that cannot be used is quarantined: left out, named with its reason in `dataset.json`, and reported. What
    is no input (hidden files, pictures beside videos) is counted there as `passed_over`. The result is the same to
    the byte for any number of jobs. A script that asks for several jobs must do so under
    `if __name__ == "__main__":`, since the processes are spawned.

    Args:
        videos: the folder; train and test folders in it are respected.
        out: where the data set goes.
        size: side, or (height, width), of the clips in pixels.
        jobs: processes to work with.
        fps: bring videos to this rate (frames are repeated or dropped). Of strips and frame folders, whose
            rate is not known, it is the rate itself, 25 if not given.
        crop: `centre`: the largest centred part with the shape of `size`; `none`: stretch the whole picture;
            `motion`: a part with that shape around everything that moves; `box`: the part around the data set's own
            boxes, stretched, where it brings some, and `centre` elsewhere; `X,Y,W,H`: this part, in pixels of the
            source.
        tracks: names of trackers to run on the finished frames (see `trackers.TRACKERS`).
        layout: `auto`, `videos`, `frames`, `strips` (see `sources.find_sources`), or a published data set
            (see `readers.READERS`), with the number of characters for some (`sprites=100`).
        min_frames: shorter clips are quarantined.
        max_frames: longer clips are cut off.
        held_out: values of the clips' meta that make up the test set, as `{"subject": [3, 8]}`; replaces any
            other split.
        only: values of the clips' meta that are taken, as `{"action": ["walk", "slash"]}`; what has others is passed
            over.
        licence: the terms of the clips, for `dataset.json`; empty for those that the data set states.
        overwrite: replace an older data set at `out`.
        progress: called after every source with (sources done, sources in all, name, reason if quarantined);
            by default quarantined files are reported on standard error.

    Returns:
        What was written, with the quarantined inputs.

    Raises:
        StillmotionError: nothing usable in `videos`, `out` is taken, or an argument makes no sense.
    """
    root = Path(videos)
    settings = ClipSettings(
        size=(size, size) if isinstance(size, int) else (int(size[0]), int(size[1])),
        fps=fps,
        crop=crop,
        tracks=tuple(tracks),
        min_frames=min_frames,
        max_frames=max_frames,
    )
    found = _find(root, layout)
    sources, split_rule = keep_only(found.sources, only or {}), found.split_rule
    if held_out:
        sources = hold_out(sources, held_out)
        split_rule = "held out for testing: " + "; ".join(
            f"{key} {', '.join(str(v) for v in values)}" for key, values in held_out.items()
        )
    quarantined = list(found.refused)
    described = {name: value for name, value in asdict(settings).items() if name != "tracks"}
    if only:
        described["only"] = {key: list(values) for key, values in only.items()}

    def info() -> DatasetInfo:
        return DatasetInfo(
            title=found.title or root.resolve().name,
            licence=licence or found.licence,
            decoder=f"PyAV {version('av')}, Pillow {version('pillow')}",
            split_rule=split_rule,
            settings={**described, "layout": layout},
            quarantined=tuple(quarantined),
            passed_over=found.passed_over,
        )

    clips = _clips(with_safe_names(sources), root, settings, jobs, quarantined, progress or _report)
    return write_dataset(out, clips, info=info, overwrite=overwrite)


def read_clip(source: Source, settings: ClipSettings) -> Clip:
    """Read one source, crop, resize, track; memory holds the finished clip and one frame of the source.

    Raises:
        StillmotionError: it cannot be read, or is too short or too long.
    """
    box = _motion_box(source, settings) if settings.crop == "motion" else None
    height, width = settings.size
    most = _MOST_BYTES // (height * width * 3)
    frames: list[np.ndarray] = []
    with _opened(source, settings) as video:
        if box is None:
            box = _still_box(video.size, settings, source.box)
        for frame in _of_span(video, source, settings):
            if len(frames) == most:
                raise StillmotionError(f"It is longer than {most} frames: cut it, or set a largest number.")
            frames.append(resize(cut(frame, box), settings.size))
        rate = video.fps
    if len(frames) < settings.min_frames:
        raise StillmotionError(f"It has {len(frames)} frames and not the least, {settings.min_frames}.")
    stacked = np.stack(frames)
    provided = _provided_tracks(source, box, settings.size, len(stacked))
    # Plain `points` and `joints` are not tracked where the data set provides the track.
    wanted = [name for name in settings.tracks if name not in provided]
    tracks = {**provided, **{name: tracker(stacked, rate) for name, tracker in map(find_tracker, wanted)}}
    meta = {**source.meta, "crop": list(box)}
    if "joints" in tracks:
        meta["joints"] = list(JOINTS)
    if source.split is not None:
        meta["split"] = source.split
    return Clip(source.name, stacked, rate, tracks=tracks, meta=meta)


def _find(root: Path, layout: str) -> Found:
    if reader := find_reader(layout):
        return reader(root)
    if layout not in LAYOUTS:
        raise StillmotionError(f"There is no layout {layout!r}: choose from {', '.join([*LAYOUTS, *READERS])}.")
    return find_sources(root, layout)


def _clips(
    sources: Sequence[Source],
    root: Path,
    settings: ClipSettings,
    jobs: int,
    quarantined: list[Quarantined],
    progress: Progress,
) -> Iterator[Clip]:
    """Yield the clips that could be made; add the others to `quarantined`."""
    attempt: Callable[[Source], Clip | str] = partial(_attempt, settings=settings)
    crashed = "The decoder crashed on it, or memory ran out."
    results = map_in_order(attempt, sources, jobs, lambda source: crashed, _one_thread)
    for done, (source, result) in enumerate(zip(sources, results, strict=True), start=1):
        name = source.path.relative_to(root).as_posix()
        if isinstance(result, str):
            # Absolute paths in a reason would make the data set depend on the machine it was made on.
            reason = result.replace(str(source.path), name)
            quarantined.append(left_out(source.path.relative_to(root), reason))
            progress(done, len(sources), name, reason)
        else:
            progress(done, len(sources), name, None)
            yield result


def _attempt(source: Source, settings: ClipSettings) -> Clip | str:
    """Return the clip, or why there is none; runs in the worker processes."""
    try:
        return read_clip(source, settings)
    except StillmotionError as error:
        return str(error)
    except Exception as error:
        # Decoders meet broken files with every kind of exception, and one file must not stop the others.
        return f"It cannot be read ({type(error).__name__}: {error})."


def _one_thread() -> None:
    cv2.setNumThreads(1)  # the processes share the cores already


def _report(done: int, total: int, name: str, reason: str | None) -> None:
    if reason is not None:
        print(f"quarantined {name}: {reason}", file=sys.stderr)


def _opened(source: Source, settings: ClipSettings) -> VideoReader:
    if source.draw is not None:
        # Its rate is a statement and not a recording's: another one plays the same frames faster or slower.
        drawn = source.draw()[..., :3]
        rest = (frame for frame in drawn[1:])
        return VideoReader(rest, drawn[0], settings.fps or source.fps or DEFAULT_FPS, len(drawn))
    if source.kind != "video" and source.fps is None:
        return open_video(source.path, fps=settings.fps, frame_width=source.frame_width)
    return open_video(
        source.path,
        fps=source.fps,
        frame_width=source.frame_width,
        resample_fps=settings.fps,
        ground=source.ground,
    )


def _of_span(video: VideoReader, source: Source, settings: ClipSettings) -> Iterator[np.ndarray]:
    """The frames of the source's span, and at most as many as the settings say."""
    first, end = source.span or (0, None)
    if source.shares is not None:
        first, end = (round(share * video.length) for share in source.shares)
    elif source.fps and settings.fps:
        # The span is counted at the source's rate, and the frames come at another one.
        first = round(first * settings.fps / source.fps)
        end = None if end is None else round(end * settings.fps / source.fps)
    if settings.max_frames is not None:
        end = first + settings.max_frames if end is None else min(end, first + settings.max_frames)
    return itertools.islice(video, first, end)


def _provided_tracks(source: Source, box: Box, size: tuple[int, int], length: int) -> dict[str, np.ndarray]:
    """The tracks that the data set brings, in pixels of the clip."""
    tracks: dict[str, np.ndarray] = {}
    if source.points is not None:
        tracks["points"] = _cropped_points(np.array(source.points), box, size)
    if source.joints is not None:
        places = _cropped_points(source.joints[..., :2], box, size)
        tracks["joints"] = np.concatenate([places, source.joints[..., 2:].astype(np.float32)], axis=-1)
    if source.draw is not None:
        # Resized as the frames are, so that the two fit to the pixel.
        mask = cut(np.repeat(source.draw()[..., 3:], 3, axis=-1), box)
        tracks["mask"] = np.where(resize(mask, size)[..., 0] >= 128, 255, 0).astype(np.uint8)
    return {name: track[:length] for name, track in tracks.items()}


def _cropped_points(points: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """Points (... x 2) of the source in pixels of the clip; `resize` aligns the outer edges."""
    scale = np.array([size[1] / (box[2] - box[0]), size[0] / (box[3] - box[1])])
    return np.asarray((points - box[:2] + 0.5) * scale - 0.5, np.float32)


def _still_box(size: tuple[int, int], settings: ClipSettings, known: Box | None) -> Box:
    """The part (x0, y0, x1, y1), ends exclusive, to cut out of frames of `size`, without looking at them."""
    height, width = size
    if settings.crop == "box" and known is not None:
        x0, y0, x1, y1 = max(known[0], 0), max(known[1], 0), min(known[2], width), min(known[3], height)
        if x0 >= x1 or y0 >= y1:
            raise StillmotionError(f"Its box does not lie in its {width} x {height} pixels.")
        return x0, y0, x1, y1
    if settings.crop == "none":
        return 0, 0, width, height
    if settings.crop in ("centre", "box"):
        h, w = _largest(size, settings.size)
        return (width - w) // 2, (height - h) // 2, (width - w) // 2 + w, (height - h) // 2 + h
    x0, y0, x1, y1 = _fixed_box(settings.crop)
    if x1 > width or y1 > height:
        raise StillmotionError(f"The part {settings.crop} does not lie in its {width} x {height} pixels.")
    return x0, y0, x1, y1


def _fixed_box(text: str) -> Box:
    x, y, w, h = parse_box("crop", text, "centre, none, motion, box, or ")
    return x, y, x + w, y + h


def _largest(size: tuple[int, int], shape: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) within `size` that has the proportions of `shape`."""
    factor = min(size[0] / shape[0], size[1] / shape[1])
    return max(1, min(size[0], round(shape[0] * factor))), max(1, min(size[1], round(shape[1] * factor)))


def _motion_box(source: Source, settings: ClipSettings) -> Box:
    """The part that holds all that moves, with a margin, in the proportions of the clips."""
    with _opened(source, settings) as video:
        height, width = video.size
        shrink = max(1.0, min(height, width) / _MOTION_SIDE)
        small = (max(1, round(height / shrink)), max(1, round(width / shrink)))
        frames = [resize(frame, small) for frame in _of_span(video, source, settings)]
    found = boxes(np.stack(frames))
    x0, y0 = found[:, :2].min(0)
    x1, y1 = found[:, 2:].max(0) + 1
    # From small pixels to the source's, where the outer edges are aligned.
    fx, fy = width / small[1], height / small[0]
    x0, x1, y0, y1 = x0 * fx, x1 * fx, y0 * fy, y1 * fy
    wanted = 1 + 2 * _MOTION_MARGIN
    factor = max((y1 - y0) * wanted / settings.size[0], (x1 - x0) * wanted / settings.size[1])
    limit = _largest((height, width), settings.size)
    h = min(limit[0], max(1, round(settings.size[0] * factor)))
    w = min(limit[1], max(1, round(settings.size[1] * factor)))
    left = int(np.clip(round((x0 + x1 - w) / 2), 0, width - w))
    top = int(np.clip(round((y0 + y1 - h) / 2), 0, height - h))
    return left, top, left + w, top + h
