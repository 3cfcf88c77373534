"""Pictures and videos in and out: streaming, bounded, checked, browser-playable.

Everything is `uint8` RGB in numpy: pictures H x W x 3, videos T x H x W x 3. Only plain local files are read.
"""

from stillmotion.media.limits import Limits, MediaError
from stillmotion.media.pictures import (
    crop,
    fit_square,
    pad_square,
    read_picture,
    resize,
    to_float,
    to_uint8,
    write_picture,
)
from stillmotion.media.reading import VideoReader, open_video, read_video, sniff
from stillmotion.media.writing import VideoWriter, open_writer, write_video

__all__ = [
    "Limits",
    "MediaError",
    "VideoReader",
    "VideoWriter",
    "crop",
    "fit_square",
    "open_video",
    "open_writer",
    "pad_square",
    "read_picture",
    "read_video",
    "resize",
    "sniff",
    "to_float",
    "to_uint8",
    "write_picture",
    "write_video",
]
