"""The verbs that make data sets: `prepare` and `world`."""

from __future__ import annotations

from dataclasses import dataclass

from stillmotion.options import name_and_value, names, number_range, option, rate, whole


@dataclass(frozen=True)
class Prepare:
    """Turn a folder of videos into a prepared data set."""

    videos: str = option("videos", help="a folder of videos, of frame folders or of strips, or a published data set")
    out: str = option("out")
    size: int = option("--size", default=64, parse=whole, metavar="N", help="height and width of the clips")
    jobs: int = option("--jobs", default=1, parse=whole, metavar="N", help="processes")
    fps: float | None = option("--fps", default=None, parse=rate, metavar="FPS", help="bring all videos to this rate")
    crop: str = option("--crop", default="centre", metavar="CROP", help="centre, none, motion, box, or X,Y,W,H")
    tracks: tuple[str, ...] = option(
        "--tracks",
        default=(),
        metavar="NAMES",
        parse=names,
        help="comma-separated: flow, boxes, joints, points (or points:patch=FOLDER, :person, :tracker)",
    )
    layout: str = option(
        "--layout", default="auto", metavar="NAME", help="auto, videos, frames, strips, or a published data set"
    )
    held_out: tuple[str, ...] = option(
        "--hold-out", default=(), many="append", metavar="KEY=VALUES", help="test clips, e.g. subject=4"
    )
    only: tuple[str, ...] = option(
        "--only", default=(), many="append", metavar="KEY=VALUES", help="take these clips, e.g. action=walk,slash"
    )
    max_frames: int | None = option(
        "--max-frames", default=None, parse=whole, metavar="N", help="cut longer clips off"
    )
    licence: str = option("--licence", default="", metavar="TEXT", help="terms of the clips, kept in dataset.json")
    overwrite: bool = option("-y", "--overwrite", default=False, help="replace an older data set")

    def run(self) -> None:
        """Prepare, with progress."""
        from stillmotion.cli.terminal import Progress
        from stillmotion.data.prepare import prepare

        chosen = {
            field: {
                key: [int(value) if value.isdigit() else value for value in text.split(",")]
                for key, text in map(name_and_value, getattr(self, field))
            }
            for field in ("held_out", "only")
        }
        with Progress("files") as progress:
            info = prepare(**{**vars(self), **chosen}, progress=progress.file_done)
        print(f"{self.out}: {info.clips} clips, {info.frames} frames, {len(info.quarantined)} files left out")
        if info.passed_over:
            print("passed over: " + ", ".join(f"{count} {reason}" for reason, count in info.passed_over.items()))


@dataclass(frozen=True)
class World:
    """Make clips of a world."""

    world: str = option("name", metavar="NAME", help="arm, digits, faces, plants or puppets")
    out: str = option("out")
    clips: int = option("--clips", default=100, parse=whole, metavar="N", help="how many")
    size: int = option("--size", default=64, parse=whole, metavar="N", help="height and width")
    frames: int = option("--frames", default=32, parse=whole, metavar="N", help="of each clip")
    seed: int = option("--seed", default=0, parse=int, metavar="S", help="other seeds give other clips")
    test_share: float = option(
        "--test-share", default=0.05, parse=float, metavar="SHARE", help="share of the clips held back for testing"
    )
    actions: tuple[str, ...] = option(
        "--actions", default=(), metavar="NAMES", parse=names, help="draw from these only, e.g. walk,jog,run"
    )
    staging: str = option(
        "--staging",
        default="",
        choices=("", "far", "treadmill", "front"),
        help="puppets: far, small ones go past a camera that stands; treadmill, who goes stays on the spot; front, "
        "the same, and they are seen from the front, as those who bend or squat",
    )
    source: str | None = option(
        "--digits", default=None, metavar="FILE", help="for digits: pictures in MNIST's format (IDX, gzip or not)"
    )
    pictures: tuple[int, int] | None = option(
        "--digit-range",
        default=None,
        metavar="A:B",
        parse=number_range,
        help="use the file's pictures A to B - 1 only, counted from 0",
    )
    jobs: int = option("--jobs", default=1, parse=whole, metavar="N", help="processes")
    overwrite: bool = option("-y", "--overwrite", default=False, help="replace an older data set")

    def run(self) -> None:
        """Make the clips, with progress."""
        from stillmotion.cli.terminal import Progress
        from stillmotion.worlds.dataset import write_world

        with Progress("clips", self.clips) as progress:
            info = write_world(**vars(self), progress=progress.reached)
        print(f"{self.out}: {info.clips} clips, {info.frames} frames")
