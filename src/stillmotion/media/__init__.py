"""Pictures and videos in and out, as `uint8` RGB arrays: pictures H x W x 3, videos T x H x W x 3.

Videos stream one frame at a time within `Limits`; outputs are written atomically, mp4 as browsers play it. Only
regular files on this machine are read.
"""

from stillmotion.media.pictures import (
    Limits,
    MediaError,
    crop,
    decode_image,
    fit_square,
    pad_square,
    read_picture,
    resize,
    to_float,
    to_pictures,
    to_tensor,
    to_uint8,
    write_picture,
)
from stillmotion.media.reading import VideoReader, open_driver, open_video, read_video, sniff
from stillmotion.media.sound import Sound
from stillmotion.media.writing import VideoFolder, VideoWriter, open_writer, shown_fps, write_video

__all__ = [
    "Limits", "MediaError", "Sound", "VideoFolder", "VideoReader", "VideoWriter", "crop", "decode_image",
    "fit_square", "open_driver", "open_video", "open_writer", "pad_square", "read_picture", "read_video", "resize",
    "shown_fps", "sniff", "to_float", "to_pictures", "to_tensor", "to_uint8", "write_picture", "write_video",
]  # fmt: skip
