"""Videos as phones, cameras and recorders make them: turned, mirrored, anamorphic, HDR, in their own containers."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

from refusals import refuses
from stillmotion.media import Limits, MediaError, open_video, read_video, sniff
from stillmotion.media.decoding import DamagedError, _decode
from test_media_reading import encode, grey_frames, numbers

# The display matrix [a b; c d] maps x' = a x + c y, y' = b x + d y with y down.
TURNS = {
    "as it is": (1, 0, 0, 1),
    "a quarter clockwise": (0, 1, -1, 0),
    "a half": (-1, 0, 0, -1),
    "a quarter counterclockwise": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "about the diagonal": (0, 1, 1, 0),
    "about the other diagonal": (0, -1, -1, 0),
}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_and_mirrored_videos_come_as_they_are_shown(tmp_path: Path, turn: str) -> None:
    a, b, c, d = TURNS[turn]
    stored = np.zeros((1, 32, 48, 3), np.uint8)
    stored[:, :16, :24], stored[:, :16, 24:] = 200, 100  # no two of the eight ways look alike
    path = encode(tmp_path / "a.mp4", stored)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    # Turned by 8 degrees more: what is not a quarter is rounded to one.
    cos, sin = 65536 * np.cos(np.radians(8)), 65536 * np.sin(np.radians(8))
    tilted = [int(v) for v in (a * cos - b * sin, a * sin + b * cos, c * cos - d * sin, c * sin + d * cos)]
    data[matrix : matrix + 36] = struct.pack(">9i", *tilted[:2], 0, *tilted[2:], 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    expected = np.zeros((32, 48) if a else (48, 32), np.uint8)
    for y in range(32):
        for x in range(48):
            expected[(b * x + d * y) - (b < 0 or d < 0), (a * x + c * y) - (a < 0 or c < 0)] = stored[0, y, x, 0]
    frames, _ = read_video(path)
    assert frames.shape[1:3] == expected.shape
    assert np.abs(frames[0, ..., 0].astype(int) - expected).mean() < 6


def anamorphic(path: Path, aspect: Fraction, turned: bool = False, width: int = 48) -> Path:
    """Write one frame of 32 x 48 whose left third is bright."""
    frame = np.zeros((32, width, 3), np.uint8)
    frame[:, : width // 3] = 200
    with av.open(path, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 32, width, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        if turned:
            stream.set_display_rotation(90)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
    return path


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    frames, _ = read_video(anamorphic(tmp_path / "a.mp4", Fraction(4, 3)))
    assert frames.shape == (1, 32, 64, 3)
    bright = frames[0, :, :, 0] > 100
    assert np.abs(bright.sum(1) - 64 / 3).max() <= 1
    with open_video(anamorphic(tmp_path / "b.mp4", Fraction(8, 9))) as reader:
        assert reader.size == (32, 43)
    # The aspect is that of the stored pixels: turned by a quarter, the picture grows in height.
    with open_video(anamorphic(tmp_path / "c.mp4", Fraction(2), turned=True)) as reader:
        assert reader.size == (96, 32)
    refuses(
        "A frame of .* is 96 x 32 pixels",
        open_video,
        anamorphic(tmp_path / "d.mp4", Fraction(2)),
        limits=Limits(max_frame_pixels=3000),
        error=MediaError,
    )


@pytest.mark.parametrize("aspect", [Fraction(200, 199), Fraction(100, 1), Fraction(1, 100)])
def test_aspects_of_rounding_and_of_nonsense_are_passed_over(tmp_path: Path, aspect: Fraction) -> None:
    with open_video(anamorphic(tmp_path / "a.mp4", aspect, width=480)) as reader:
        assert reader.size == (32, 480)


def ten_bit(
    path: Path, colour: np.ndarray, transfer: ColorTrc, primaries: ColorPrimaries, *, matrix: int = 9
) -> Path:
    """Write one even frame whose R'G'B' are `colour` in [0, 1], 10 bits, lossless."""
    pixels = np.broadcast_to(np.rint(colour * 65535).astype(np.uint16), (16, 16, 3)).copy()
    with av.open(path, "w", format="matroska") as output:
        stream = output.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv444p10le"
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, ColorRange.MPEG
        context.color_primaries, context.color_trc = primaries, transfer
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb48le").reformat(
            format="yuv444p10le", dst_colorspace=matrix, dst_color_range=ColorRange.MPEG
        )
        frame.pts = 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def pq(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084: cd/m2 to signal."""
    power = (np.asarray(light) / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(light: np.ndarray) -> np.ndarray:
    """ITU-R BT.2100: cd/m2 of a display that reaches 1000 to signal."""
    light = np.asarray(light) / 1000
    camera = light * (light @ [0.2627, 0.6780, 0.0593]) ** (1 / 1.2 - 1)
    high = 0.17883277 * np.log(np.maximum(12 * camera - 0.28466892, 1e-9)) + 0.55991073
    return np.where(camera <= 1 / 12, np.sqrt(3 * camera), high)


# Linear BT.709 to BT.2020 (ITU-R BT.2087).
TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


@pytest.mark.parametrize(("transfer", "curve"), [(ColorTrc.SMPTE2084, pq), (ColorTrc.ARIB_STD_B67, hlg)])
@pytest.mark.parametrize("colour", [(128, 128, 128), (200, 40, 90), (20, 190, 60), (60, 90, 210), (12, 10, 14)])
def test_hdr_becomes_the_same_colours_in_sdr(tmp_path: Path, transfer: ColorTrc, curve, colour) -> None:  # type: ignore[no-untyped-def]
    light = 203 * (np.array(colour) / 255) ** 2.4  # as an SDR screen of 203 cd/m2 shows it
    path = ten_bit(tmp_path / "a.mkv", curve(TO_BT2020 @ light), transfer, ColorPrimaries.BT2020)
    frames, _ = read_video(path)
    # Ten bits of the wide colours leave the dark channel of a saturated one uncertain.
    assert (frames[0, 0, 0] / 255) ** 2.4 == pytest.approx(light / 203, abs=0.01)
    untold = ten_bit(tmp_path / "b.mkv", curve(TO_BT2020 @ light), transfer, ColorPrimaries.UNSPECIFIED)
    assert np.array_equal(read_video(untold)[0], frames)


@pytest.mark.parametrize(("transfer", "curve"), [(ColorTrc.SMPTE2084, pq), (ColorTrc.ARIB_STD_B67, hlg)])
def test_highlights_are_compressed_and_not_clipped(tmp_path: Path, transfer: ColorTrc, curve) -> None:  # type: ignore[no-untyped-def]
    seen = []
    for light in (120, 203, 400, 800, 1000):
        path = ten_bit(tmp_path / f"{light}.mkv", curve(np.full(3, light)), transfer, ColorPrimaries.BT2020)
        seen.append(int(read_video(path)[0][0, 0, 0, 1]))
    assert seen == sorted(set(seen))
    assert abs(seen[0] - 255 * (120 / 203) ** (1 / 2.4)) <= 1  # below the knee nothing changes
    assert abs(seen[1] - 238) <= 1
    assert seen[-1] == 255
    # A bright orange stays one: the largest channel is compressed, the others follow.
    orange = TO_BT2020 @ np.array([900.0, 300.0, 90.0])
    shown = read_video(ten_bit(tmp_path / "o.mkv", curve(orange), transfer, ColorPrimaries.BT2020))[0][0, 0, 0]
    ratio = (shown / shown[0]) ** 2.4
    assert ratio == pytest.approx([1, 1 / 3, 0.1], abs=0.02)


def test_wide_colours_without_hdr_become_those_of_bt709(tmp_path: Path) -> None:
    # The red of BT.709 in the coordinates of the wider ones, encoded with their gamma.
    wide = (TO_BT2020 @ [0.5, 0, 0]) ** (1 / 2.4)
    path = ten_bit(tmp_path / "a.mkv", wide, ColorTrc.BT2020_10, ColorPrimaries.BT2020)
    half = 255 * 0.5 ** (1 / 2.4)
    assert np.abs(read_video(path)[0][0, 0, 0] - np.array([half, 0, 0])).max() <= 6
    p3 = np.array([0.8225 * 0.5, 0.0332 * 0.5, 0.0171 * 0.5]) ** (1 / 2.4)
    path = ten_bit(tmp_path / "b.mkv", p3, ColorTrc.BT709, ColorPrimaries.SMPTE432, matrix=Colorspace.ITU709)
    assert np.abs(read_video(path)[0][0, 0, 0] - np.array([half, 0, 0])).max() <= 6


def test_ten_bits_of_bt709_stay_as_they_are(tmp_path: Path) -> None:
    colour = np.array([0.8, 0.4, 0.2])
    path = ten_bit(tmp_path / "a.mkv", colour, ColorTrc.BT709, ColorPrimaries.BT709, matrix=Colorspace.ITU709)
    assert np.abs(read_video(path)[0][0, 0, 0] - 255 * colour).max() <= 2


CAMERAS = {
    "3gp": ("3gp", "libx264", {}),
    "m4v": ("ipod", "libx264", {}),
    "mts": ("mpegts", "libx264", {"g": "10"}),
    "m2ts": ("mpegts", "libx264", {"g": "10"}),
    "ts": ("mpegts", "mpeg2video", {"bf": "2", "g": "8", "b": "4000000"}),
    "mpg": ("mpeg", "mpeg2video", {"bf": "2", "g": "8", "b": "4000000"}),
    "mpeg": ("mpeg", "mpeg1video", {"bf": "2", "g": "8", "b": "4000000"}),
    "m1v": ("mpeg1video", "mpeg1video", {"bf": "2", "g": "8", "b": "4000000"}),
    "wmv": ("asf", "wmv2", {"b": "4000000"}),
    "avi": ("avi", "libx264", {"bf": "3", "g": "10"}),
}


@pytest.mark.parametrize("ending", CAMERAS)
def test_containers_of_cameras(tmp_path: Path, ending: str) -> None:
    container, codec, options = CAMERAS[ending]
    path = tmp_path / f"a.{ending}"
    more = {"mpegts_m2ts_mode": "1"} if ending == "m2ts" else {}
    encode(path, grey_frames(25), container=container, codec=codec, options=options, container_options=more)
    assert path.read_bytes()[4 if ending == "m2ts" else 0] == 0x47 or container != "mpegts"
    assert sniff(path) == "video"
    frames, fps = read_video(path)
    assert (fps, numbers(frames)) == (25.0, list(range(25)))


def test_a_stream_that_begins_late_is_damage(tmp_path: Path) -> None:
    def packets() -> Iterator[av.Packet]:
        raise IndexError("list index out of range")  # PyAV, at a packet of a stream that it does not know
        yield

    with av.open(encode(tmp_path / "a.mp4", grey_frames(2))) as container, pytest.raises(DamagedError):
        list(_decode(packets(), container.streams.video[0], complete=False))


def test_an_avi_of_reordered_h264_has_its_rate(tmp_path: Path) -> None:
    # As if copied from an mp4: the header says 600 frames per second, nearly all of them empty.
    path = tmp_path / "a.avi"
    options = {"bf": "3", "g": "10"}
    encode(path, grey_frames(25), range(0, 600, 24), container="avi", unit=Fraction(1, 600), options=options)
    frames, fps = read_video(path)
    assert (fps, numbers(frames)) == (pytest.approx(25.0), list(range(25)))


def test_pauses_of_an_avi_with_reordered_frames(tmp_path: Path) -> None:
    # Empty packets stand for frames that are not there; FFmpeg's own times put frames of the second part elsewhere.
    times = [*range(20), *range(60, 80)]
    path = encode(
        tmp_path / "a.avi", grey_frames(30)[:20].repeat(2, 0), times, container="avi", codec="mpeg4",
        options={"bf": "2", "b": "4000000"},
    )  # fmt: skip
    with open_video(path) as reader:
        shown = numbers(np.stack(list(reader)))
        assert reader.fps == 25.0
    assert len(shown) == 80
    assert shown[:20] == [i // 2 for i in range(20)]
    assert set(shown[20:59]) == {9}
    assert shown[60:] == [10 + i // 2 for i in range(20)]
