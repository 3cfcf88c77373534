"""Still pictures in and out, and the small helpers on pixels."""

import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from refusals import refuses
from stillmotion.animate import to_pixels
from stillmotion.media import (
    Limits,
    MediaError,
    crop,
    fit_square,
    read_picture,
    resize,
    sniff,
    to_float,
    to_pictures,
    to_tensor,
    to_uint8,
    write_picture,
)

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (7, 5, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "A.PNG"])
def test_lossless_formats_give_back_every_pixel(tmp_path: Path, name: str) -> None:
    write_picture(tmp_path / name, NOISE)
    assert np.array_equal(read_picture(tmp_path / name), NOISE)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]  # and no temporary file is left


def test_jpeg_is_close(tmp_path: Path) -> None:
    y, x = np.mgrid[0:32, 0:48]
    smooth = np.stack([x * 5, y * 7, x + y], -1).astype(np.uint8)
    write_picture(tmp_path / "a.jpg", smooth)
    assert np.abs(read_picture(tmp_path / "a.jpg").astype(int) - smooth).max() <= 8


def test_what_is_read_is_writable_and_contiguous(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", NOISE[:, ::-1])
    pixels = read_picture(tmp_path / "a.png")
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, NOISE[:, ::-1])


def save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def test_grey_and_one_bit_become_rgb(tmp_path: Path) -> None:
    grey = np.array([[0, 100, 255]], np.uint8)
    assert read_picture(save(tmp_path / "g.png", grey))[0].tolist() == [[0] * 3, [100] * 3, [255] * 3]
    bits = np.array([[False, True]])
    assert read_picture(save(tmp_path / "b.png", bits))[0].tolist() == [[0] * 3, [255] * 3]


def test_sixteen_bit_grey_is_scaled_not_cut_off(tmp_path: Path) -> None:
    # 257 = 65535 / 255; 128 / 257 = 0.498 and 129 / 257 = 0.502.
    deep = np.array([[0, 128, 129, 257, 25700, 65535]], np.uint16)
    assert read_picture(save(tmp_path / "a.png", deep))[0, :, 1].tolist() == [0, 0, 1, 1, 100, 255]


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    # 128 / 255 of (0, 101, 200) and 127 / 255 of white: 127, 177.7, 227.4.
    rgba = np.array([[[0, 101, 200, 255], [0, 101, 200, 128], [0, 101, 200, 0]]], np.uint8)
    white = [255, 255, 255]
    for name in ("a.png", "a.webp"):
        options = {"lossless": True} if name.endswith("webp") else {}
        pixels = read_picture(save(tmp_path / name, rgba, **options))
        assert pixels[0].tolist() == [[0, 101, 200], [127, 178, 227], white]


def test_transparent_palette_and_grey_lie_on_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode=None).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "p.png", transparency=1)
    assert read_picture(tmp_path / "p.png")[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    grey = np.array([[[80, 255], [80, 0]]], np.uint8)
    assert read_picture(save(tmp_path / "la.png", grey))[0].tolist() == [[80] * 3, [255] * 3]


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    # No ink is white; full cyan takes all red away.
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:, 0] = 255
    Image.frombytes("CMYK", (32, 16), inks.tobytes()).save(tmp_path / "a.jpg", quality=95)
    pixels = read_picture(tmp_path / "a.jpg").astype(int)
    assert np.abs(pixels[8, 4] - [255, 255, 255]).max() <= 3
    assert np.abs(pixels[8, 28] - [0, 255, 255]).max() <= 3


# What a camera stores for the upright picture [[1, 2, 3], [4, 5, 6]]. The EXIF standard says where row 0 and
# column 0 of the stored picture belong.
STORED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],  # row 0 top, column 0 right
    3: [[6, 5, 4], [3, 2, 1]],  # bottom, right
    4: [[4, 5, 6], [1, 2, 3]],  # bottom, left
    5: [[1, 4], [2, 5], [3, 6]],  # left, top
    6: [[3, 6], [2, 5], [1, 4]],  # right, top
    7: [[6, 3], [5, 2], [4, 1]],  # right, bottom
    8: [[4, 1], [5, 2], [6, 3]],  # left, bottom
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path / "a.png", np.array(STORED[orientation], np.uint8) * 10, exif=exif)
    assert read_picture(tmp_path / "a.png")[:, :, 0].tolist() == [[10, 20, 30], [40, 50, 60]]


def test_broken_exif_does_not_matter(tmp_path: Path) -> None:
    save(tmp_path / "a.png", NOISE, exif=b"Exif\0\0not a TIFF block")
    assert np.array_equal(read_picture(tmp_path / "a.png"), NOISE)


def test_first_frame_of_a_gif(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=40)
    assert np.array_equal(read_picture(tmp_path / "a.gif"), np.full((3, 4, 3), (255, 0, 0)))


def test_the_ending_does_not_matter_the_bytes_do(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", NOISE)
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert np.array_equal(read_picture(tmp_path / "a.jpg"), NOISE)


def huge_png(path: Path, side: int) -> Path:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 8)
        + b"IDAT"
        + bytes(12)
    )
    return path


@pytest.mark.parametrize("side", [8_000, 12_000, 50_000])
@pytest.mark.filterwarnings("error")
def test_huge_headers_are_refused_before_decoding(tmp_path: Path, side: int) -> None:
    path = huge_png(tmp_path / "a.png", side)
    tracemalloc.start()
    refuses("million", read_picture, path, error=MediaError)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def test_the_pixel_limit_is_exact(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", NOISE)
    assert read_picture(tmp_path / "a.png", limits=Limits(max_pixels=35)).shape == (7, 5, 3)
    refuses("5 x 7", read_picture, tmp_path / "a.png", error=MediaError, limits=Limits(max_pixels=34))


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello, I am a text")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a.tga")
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in [
        ("text.png", "not a PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF picture; convert it to PNG"),
        ("a.tga", "not a PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF picture; convert it to PNG"),
        ("empty.png", "empty"),
        ("folder.png", "folder"),
        ("pipe.png", "not a plain file"),
        ("missing.png", "no file"),
        ("nul\0.png", "no file"),
        ("x" * 5000, "no file"),
    ]:
        refuses(words, read_picture, tmp_path / name, error=MediaError)
    refuses("not a plain file", read_picture, "/dev/zero", error=MediaError)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_truncated_pictures_are_refused(tmp_path: Path, name: str) -> None:
    noise = RNG.integers(0, 256, (64, 64, 3), np.uint8)
    write_picture(tmp_path / name, noise)
    data = (tmp_path / name).read_bytes()
    for part in (20, len(data) // 2, len(data) * 9 // 10):
        (tmp_path / name).write_bytes(data[:part])
        refuses("damaged", read_picture, tmp_path / name, error=MediaError)


def test_existing_pictures_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_picture(path, NOISE)
    refuses("--overwrite", write_picture, path, 255 - NOISE)
    assert np.array_equal(read_picture(path), NOISE)
    write_picture(path, 255 - NOISE, overwrite=True)
    assert np.array_equal(read_picture(path), 255 - NOISE)


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    refuses("must end in", write_picture, tmp_path / "a.tiff", NOISE)
    refuses("does not exist", write_picture, tmp_path / "none" / "a.png", NOISE)
    for array in (NOISE.astype(float), NOISE[..., :1], NOISE[:0]):
        refuses("uint8", write_picture, tmp_path / "a.png", array, error=TypeError)
    assert not list(tmp_path.iterdir())


def test_a_failing_write_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    write_picture(path, NOISE)

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    refuses("disk is full", write_picture, path, 255 - NOISE, overwrite=True)
    assert np.array_equal(read_picture(path), NOISE)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]


def test_sniff(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", NOISE)
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    for name in ("a.gif", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=40)
        frames[0].save(tmp_path / ("still" + name))
    (tmp_path / "a.txt").write_text("text")
    assert sniff(tmp_path) == "folder"
    assert [sniff(tmp_path / name) for name in ("a.png", "stilla.gif", "stilla.webp")] == ["picture"] * 3
    assert [sniff(tmp_path / name) for name in ("a.gif", "a.webp")] == ["video"] * 2
    refuses("not a video or picture", sniff, tmp_path / "a.txt", error=MediaError)


def test_resize_is_antialiased() -> None:
    # A one-pixel checkerboard holds nothing but the finest detail: reduced, it must come to its mean.
    y, x = np.mgrid[0:64, 0:64]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    small = resize(board, (16, 16))
    assert small.shape == (16, 16, 3)
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127).max() <= 2


def test_resize_aligns_the_outer_edges() -> None:
    # A dark and a bright half mirror each other, at every size only if the edge between stays in the middle.
    halves = np.full((8, 8, 3), 50, np.uint8)
    halves[:, 4:] = 150
    for size in ((4, 4), (16, 32)):
        row = resize(halves, size)[0, :, 0].astype(int)
        assert abs(row[0] - 50) <= 1
        assert np.abs(row + row[::-1] - 200).max() <= 1


def test_resize_takes_stacks_and_copies() -> None:
    stack = RNG.integers(0, 256, (3, 9, 6, 3), np.uint8)
    scaled = resize(stack, (4, 5))
    assert scaled.shape == (3, 4, 5, 3)
    assert all(np.array_equal(scaled[t], resize(stack[t], (4, 5))) for t in range(3))
    same = resize(stack, (9, 6))
    assert np.array_equal(same, stack)
    assert not np.shares_memory(same, stack)
    refuses("at least", resize, stack, (0, 5), error=ValueError)


def test_crop_and_fit_square() -> None:
    assert fit_square((4, 9)) == (2, 0, 6, 4)
    assert fit_square((9, 4)) == (0, 2, 4, 6)
    pixels = np.arange(2 * 4 * 9 * 3).reshape(2, 4, 9, 3)
    assert np.array_equal(crop(pixels, (2, 0, 6, 4)), pixels[:, :, 2:6])
    assert np.array_equal(crop(pixels[0], (8, 3, 9, 4)), pixels[0, 3:, 8:])
    for box in ((2, 0, 2, 4), (-1, 0, 3, 4), (0, 0, 10, 4)):
        refuses("box", crop, pixels, box, error=ValueError)


def test_to_uint8_rounds_to_nearest_and_clips() -> None:
    values = np.array([-1.0, 0.0, 0.49 / 255, 0.51 / 255, 100.4 / 255, 100.6 / 255, 1.0, 7.0])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 100, 101, 255, 255]
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_uint8(every.astype(np.float32) / np.float32(255)), every)
    refuses("NaN", to_uint8, np.array([np.nan]), error=ValueError)


def test_to_tensor() -> None:
    pictures = np.array([[[[0, 51, 255], [102, 0, 0]]], [[[0, 0, 0], [0, 153, 204]]]], np.uint8)  # 2 x 1 x 2 x 3
    tensor = to_tensor(pictures)
    assert (tensor.dtype, tuple(tensor.shape)) == (torch.float32, (2, 3, 1, 2))
    first = [[[0.0, 0.4]], [[0.2, 0.0]], [[1.0, 0.0]]]
    second = [[[0.0, 0.0]], [[0.0, 0.6]], [[0.0, 0.8]]]
    assert torch.equal(tensor, torch.tensor([first, second]))
    assert torch.equal(tensor, torch.from_numpy(to_float(pictures)))
    assert tensor.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_to_pictures(dtype: torch.dtype) -> None:
    # 0.5 * 255 = 127.5, which rounds to the even 128; 0.25 * 255 = 63.75; what lies outside [0, 1] is clipped.
    frames = torch.tensor([[[[-1.0, 0.5]], [[0.25, 0.0]], [[1.0, 7.0]]]], dtype=dtype, requires_grad=True)
    pictures = to_pictures(frames)
    assert (pictures.dtype, pictures.shape) == (np.uint8, (1, 1, 2, 3))
    assert pictures.tolist() == [[[[0, 64, 255], [128, 0, 255]]]]
    assert pictures.flags.c_contiguous


def test_pictures_survive_the_way_through_a_tensor() -> None:
    pictures = np.arange(768, dtype=np.uint16).reshape(4, 8, 8, 3).astype(np.uint8)
    assert np.array_equal(to_pictures(to_tensor(pictures)), pictures)


def test_a_large_picture_with_alpha_takes_little_memory(tmp_path: Path) -> None:
    """In bands: 4 bytes a pixel for what Pillow decodes, 3 for the result, and a little."""
    Image.new("RGBA", (3000, 3000), (10, 20, 30, 128)).save(tmp_path / "a.png", compress_level=1)
    code = (
        "import resource, sys; from stillmotion import media\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "media.read_picture(sys.argv[1])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    kilobytes = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert kilobytes * 1024 < 12 * 3000 * 3000


def test_colours_of_a_profile_become_those_of_srgb(tmp_path: Path) -> None:
    """A profile like sRGB, but with red and blue changed for each other."""
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    other = own.replace(b"rXYZ", b"____").replace(b"bXYZ", b"rXYZ").replace(b"____", b"bXYZ")
    other = other.replace("sRGB".encode("utf-16-be"), "bgRs".encode("utf-16-be"))
    for name, profile, expected in [
        ("own", own, (234, 51, 35)),
        ("broken", b"no profile", (234, 51, 35)),
        ("other", other, (35, 51, 234)),
    ]:
        Image.new("RGB", (4, 4), (234, 51, 35)).save(tmp_path / f"{name}.png", icc_profile=profile)
        found = read_picture(tmp_path / f"{name}.png")[0, 0].astype(int)
        assert np.abs(found - expected).max() <= (1 if name == "other" else 0), name


def test_an_image_in_memory_is_read_as_its_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    cut = Image.fromarray(NOISE).convert("RGBA")
    cut.putalpha(0)
    Image.fromarray(NOISE).save(tmp_path / "turned.png", exif=exif)
    cut.save(tmp_path / "alpha.png")
    Image.fromarray(np.arange(0, 60000, 1000, np.uint16).reshape(6, 10)).save(tmp_path / "grey.png")
    for path in tmp_path.iterdir():
        assert np.array_equal(to_pixels(Image.open(path)), read_picture(path)), path.name
