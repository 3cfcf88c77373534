"""What one media file may ask of this machine, and the error for files that cannot be used."""

from __future__ import annotations

from dataclasses import dataclass

from stillmotion.errors import StillmotionError


class MediaError(StillmotionError):
    """A picture or video that cannot be read or written; the message is one sentence for a person."""


@dataclass(frozen=True)
class Limits:
    """Ceilings that are checked from headers before anything is decoded, and again while frames stream.

    Attributes:
        max_pixels: height x width of one picture or strip. Above 178 million Pillow's own guard refuses too.
        max_frame_pixels: height x width of one video frame.
        max_frames: frames of one video.
        max_seconds: playing time of one video.
        max_bytes: memory that `read_video` may fill with frames.
    """

    max_pixels: int = 50_000_000
    max_frame_pixels: int = 16_000_000
    max_frames: int = 100_000
    max_seconds: float = 3600.0
    max_bytes: int = 4 * 2**30

    def check_picture(self, name: str, size: tuple[int, int]) -> None:
        """Raise `MediaError` if a picture of `size` (height, width) is too large."""
        _check_pixels(f"The picture {name!r}", size, self.max_pixels)

    def check_frame(self, name: str, size: tuple[int, int]) -> None:
        """Raise `MediaError` if video frames of `size` (height, width) are too large."""
        _check_pixels(f"A frame of {name!r}", size, self.max_frame_pixels)

    def check_length(self, name: str, frames: int, seconds: float) -> None:
        """Raise `MediaError` if a video has too many frames or lasts too long."""
        if frames > self.max_frames:
            raise MediaError(
                f"The video {name!r} has more than the {self.max_frames} frames allowed; cut it into shorter ones."
            )
        if seconds > self.max_seconds:
            raise MediaError(
                f"The video {name!r} lasts {seconds:.0f} seconds, more than the {self.max_seconds:g} "
                "allowed; cut it into shorter ones."
            )


def _check_pixels(what: str, size: tuple[int, int], most: int) -> None:
    height, width = size
    if height * width > most:
        raise MediaError(
            f"{what} is {width} x {height} pixels, more than the {most / 1e6:g} million allowed; scale it down first."
        )
