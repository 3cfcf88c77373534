"""Decoded video frames as a screen shows them: upright, with square pixels, in the colours of BT.709.

HDR becomes SDR in linear light, where 1 is reference white, 203 cd/m2 (ITU-R BT.2408): PQ or HLG is decoded, BT.2020
or P3 primaries become those of BT.709, and where the largest of R, G and B is x > `_KNEE`, the colour is scaled so
that it becomes k + (1 - k) t (1 + t / T^2) / (1 + t), with k = `_KNEE`, t = (x - k) / (1 - k), and T the t of
1000 cd/m2: extended Reinhard above the knee, no change below it. The result is encoded with gamma 2.4 (BT.1886).
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import ColorPrimaries, ColorTrc, Interpolation, VideoReformatter
from av.video.stream import VideoStream

_CONVERSION = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_REFERENCE_WHITE, _PEAK = 203.0, 1000.0  # in cd/m2; what is brighter than the peak is clipped
_KNEE = 0.7
_BLACK = np.float32(1e-8)  # becomes 0 of 255; powers of 0 itself are slow
_BAND_PIXELS = 2**16
_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
# Linear RGB of other primaries (white D65 in all) to that of BT.709, row by row.
_TO_BT709: dict[int, tuple[tuple[float, float, float], ...]] = {
    ColorPrimaries.BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    ColorPrimaries.SMPTE432: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}
_BT2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a stored pixel over its height; 1 where the file does not say, or what cannot be.

    Less than one percent is rounding, and browsers ignore what a GIF says.
    """
    said = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if stream.codec_context.name == "gif" or not said or not Fraction(1, 8) <= said <= 8:
        return Fraction(1)
    return Fraction(1) if abs(said - 1) < 0.01 else Fraction(said)


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter, aspect: Fraction) -> np.ndarray:
    """Convert a decoded frame to upright `uint8` H x W x 3 with square pixels.

    Alpha is dropped: FFmpeg decodes the transparent pixels of a GIF as white, other alpha is rare in video.

    Args:
        frame: any pixel format; its tags and its display matrix say how it is to be shown.
        reformatter: keeps its tables from frame to frame.
        aspect: what `pixel_aspect` says; the width is scaled by it.
    """
    deep = frame.color_trc in _HDR or frame.color_primaries in _TO_BT709
    pixels = reformatter.reformat(
        frame,
        width=max(1, round(frame.width * aspect)),
        format="rgb48le" if deep else "rgb24",
        interpolation=_CONVERSION,
        threads=1,
    ).to_ndarray()
    if deep:
        pixels = _to_sdr(pixels, frame.color_trc, frame.color_primaries)
    return np.ascontiguousarray(_upright(pixels, frame))


def _upright(pixels: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """Apply the frame's display matrix, to the nearest of the eight ways to turn and mirror a picture.

    The stored (x, y) is shown at (a x + c y, b x + d y).
    """
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]  # as PyAV's annotations have it
    if matrix is None:
        return pixels
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).astype(np.int64).tolist()
    if abs(a) + abs(d) < abs(b) + abs(c):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _to_sdr(pixels: np.ndarray, transfer: int, primaries: int) -> np.ndarray:
    """`uint16` H x W x 3 of these tags as `uint8` of BT.709, see the head of this file; band by band."""
    light_of = _light_table(transfer)
    hdr = transfer in _HDR
    if hdr and primaries == ColorPrimaries.UNSPECIFIED:
        primaries = ColorPrimaries.BT2020
    to_bt709 = _TO_BT709.get(primaries)
    shown = np.empty(pixels.shape, np.uint8)
    rows = max(1, _BAND_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        band = pixels[top : top + rows]
        light = light_of[np.ascontiguousarray(band.reshape(-1, 3).T)]  # channels first, which is several times faster
        if transfer == ColorTrc.ARIB_STD_B67:
            # What the display adds to the camera's light, at a peak of 1000 cd/m2 (ITU-R BT.2100).
            light *= (_PEAK / _REFERENCE_WHITE) * np.maximum(_BT2020_LUMA @ light, _BLACK) ** np.float32(0.2)
        if to_bt709 is not None:
            light = np.array(to_bt709, np.float32) @ light
        np.maximum(light, _BLACK, out=light)
        if hdr:
            _compress_highlights(light)
        coded = 255 * np.minimum(light, 1) ** np.float32(1 / 2.4) + np.float32(0.5)
        shown[top : top + rows] = coded.astype(np.uint8).T.reshape(band.shape)
    return shown


def _compress_highlights(light: np.ndarray) -> None:
    """Bring `float32` 3 x N from [0, peak] to [0, 1] in place, without a change of hue."""
    largest = light.max(0)
    t = np.maximum(largest - np.float32(_KNEE), 0) / np.float32(1 - _KNEE)
    peak = (_PEAK / _REFERENCE_WHITE - _KNEE) / (1 - _KNEE)
    target = _KNEE + (1 - _KNEE) * t * (1 + t / np.float32(peak**2)) / (1 + t)
    light *= np.where(t > 0, target / np.maximum(largest, np.float32(_KNEE)), np.float32(1))


@cache
def _light_table(transfer: int) -> np.ndarray:
    """Linear light, `float32`, of each 16-bit value: relative to reference white; of HLG the camera's, in [0, 1]."""
    signal = np.arange(2**16) / (2**16 - 1)
    if transfer == ColorTrc.SMPTE2084:
        root = signal ** (1 / 78.84375)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (1 / 0.1593017578125)
        light *= 10_000 / _REFERENCE_WHITE
    elif transfer == ColorTrc.ARIB_STD_B67:
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)
    else:
        light = signal**2.4
    return light.astype(np.float32)
