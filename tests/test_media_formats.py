"""Pictures in the formats of phones, scanners and printers: AVIF, HEIC, TIFF, BMP; profiles of grey, CMYK and Lab."""

import io
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from refusals import refuses
from stillmotion.media import MediaError, decode_image, open_video, read_picture, read_video, sniff
from stillmotion.media.containers import type_of_head

RNG = np.random.default_rng(0)
SMOOTH = np.linspace(0, 255, 24, dtype=np.uint8)[None, :, None] * np.ones((16, 1, 3), np.uint8)
SMOOTH[..., 1] = SMOOTH[..., 1][:, ::-1]
SMOOTH[8:, :, 2] = 20


@pytest.mark.parametrize("name", ["a.bmp", "a.tif", "lzw.tif"])
def test_bmp_and_tiff_lose_nothing(tmp_path: Path, name: str) -> None:
    pixels = RNG.integers(0, 256, (16, 24, 3), np.uint8)
    more = {"compression": "tiff_lzw"} if name == "lzw.tif" else {}
    Image.fromarray(pixels).save(tmp_path / name, **more)
    assert sniff(tmp_path / name) == "picture"
    assert np.array_equal(read_picture(tmp_path / name), pixels)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_is_turned_upright_once(tmp_path: Path, compression: str | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SMOOTH).save(tmp_path / "a.tif", exif=exif, compression=compression)
    assert np.array_equal(read_picture(tmp_path / "a.tif"), np.rot90(SMOOTH, -1))
    with Image.open(tmp_path / "a.tif") as image:
        image.load()
        assert np.array_equal(decode_image(image, "given"), np.rot90(SMOOTH, -1))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(SMOOTH).save(tmp_path / "a.avif", quality=95, exif=exif)
    assert sniff(tmp_path / "a.avif") == "picture"
    assert np.abs(read_picture(tmp_path / "a.avif").astype(int) - np.rot90(SMOOTH, -1)).mean() < 4
    frames = [Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (20, 120, 220)]
    frames[0].save(tmp_path / "b.avif", save_all=True, append_images=frames[1:], duration=40)
    assert sniff(tmp_path / "b.avif") == "video"
    video, fps = read_video(tmp_path / "b.avif")
    assert fps == pytest.approx(25)
    assert np.abs(video.mean((1, 2, 3)) - [20, 120, 220]).max() < 3


def test_avif_without_a_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x1cftypavif\0\0\0\0mif1avif" + bytes(64))
    monkeypatch.setattr(features, "check", lambda name: False)
    refuses("is an AVIF picture: install pillow 11.3 or later", read_picture, tmp_path / "a.avif", error=MediaError)


HEADS = {
    "heic": [b"heic\0\0\0\0mif1heic", b"mif1\0\0\0\0mif1heic", b"heix\0\0\0\0mif1heix", b"msf1\0\0\0\0msf1hevc"],
    "avif": [b"avif\0\0\0\0avifmif1", b"mif1\0\0\0\0mif1avif", b"avis\0\0\0\0avismsf1"],
    "mp4": [b"isom\0\0\2\0isomavc1", b"qt  \0\0\0\0qt  \0\0\0\0", b"3gp4\0\0\2\0isom3gp4"],
}


@pytest.mark.parametrize(("kind", "brands"), [(kind, head) for kind, heads in HEADS.items() for head in heads])
def test_pictures_and_videos_share_a_container(kind: str, brands: bytes) -> None:
    assert type_of_head(struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands + bytes(64)) == kind


def test_heic_names_the_package_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    assert sniff(path) == "picture"
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    words = "is a HEIC picture: install the package pillow-heif, or convert it to JPEG"
    refuses(words, read_picture, path, error=MediaError)
    refuses(words, open_video, path, error=MediaError)

    def register() -> None:
        def opened(file: object, name: str) -> Image.Image:
            return Image.fromarray(SMOOTH)

        Image.register_open("HEIF", opened)  # type: ignore[arg-type]

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    try:
        assert np.array_equal(read_picture(path), SMOOTH)
    finally:
        del Image.OPEN["HEIF"]
        Image.ID.remove("HEIF")


def test_heic_as_phones_make_it(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    made = pillow_heif.from_pillow(Image.fromarray(SMOOTH))
    made.save(tmp_path / "a.heic", quality=95, chroma=444, exif=exif.tobytes())
    assert sniff(tmp_path / "a.heic") == "picture"
    picture = read_picture(tmp_path / "a.heic")
    assert np.abs(picture.astype(int) - np.rot90(SMOOTH, -1)).mean() < 4
    with Image.open(tmp_path / "a.heic") as image:
        assert np.array_equal(decode_image(image, "given"), picture)
    clear = np.dstack([SMOOTH, np.full(SMOOTH.shape[:2], 102, np.uint8)])
    made = pillow_heif.from_pillow(Image.fromarray(clear))
    made.add_from_pillow(Image.fromarray(SMOOTH[::-1].copy()))  # beside the main picture
    made.save(tmp_path / "b.heic", quality=95, chroma=444)
    assert sniff(tmp_path / "b.heic") == "picture"
    assert np.abs(read_picture(tmp_path / "b.heic") - (0.4 * SMOOTH + 0.6 * 255)).mean() < 4
    (tmp_path / "c.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:-100])
    refuses("c.heic' is damaged; export it again", read_picture, tmp_path / "c.heic", error=MediaError)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"BM" + bytes(12) + b"\x28\0\0\0" + bytes(64), "bmp"),
        (b"BMW drives into a wall, a story in ten parts", None),
        ((b"G" + bytes(187)) * 4, "mpegts"),
        ((bytes(4) + b"G" + bytes(187)) * 4, "mpegts"),
        ((b"G" + bytes(187)) * 2, None),
        ((b"G" + bytes(187)) + bytes(600), None),
    ],
)
def test_what_its_first_bytes_do_not_prove_is_not_believed(head: bytes, kind: str | None) -> None:
    assert type_of_head(head) == kind


def profile(kind: bytes, space: bytes, connection: bytes, tag: bytes, content: bytes) -> bytes:
    """An ICC profile with a white point and one table that says what the colours are."""
    white = struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1, 0.8249)))
    name = b"desc\0\0\0\0" + struct.pack(">I", 2) + b"G\0" + b"\0" * 78
    tags = [(b"desc", name), (b"wtpt", b"XYZ \0\0\0\0" + white), (tag, content)]
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for key, data in tags:
        data += b"\0" * (-len(data) % 4)
        table += key + struct.pack(">II", start + len(body), len(data))
        body += data
    length = 128 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s", length, b"none", 0x02400000, kind, space, connection).ljust(36, b"\0") + b"acsp"
    return (head.ljust(68, b"\0") + white).ljust(128, b"\0") + table + body


def grey_profile(gamma: float) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    return profile(b"mntr", b"GRAY", b"XYZ ", b"kTRC", curve)


def ink_profile() -> bytes:
    """An ICC profile of CMYK whose C, M and Y all print the same grey, L* = 50, on white paper, and K black."""
    lab = b"".join(bytes([0 if ink % 2 else 128 if ink else 255, 128, 128]) for ink in range(16))
    identity = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    curves = bytes(range(256))
    return profile(
        b"prtr", b"CMYK", b"Lab ", b"A2B0",
        b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + identity + 4 * curves + lab + 3 * curves,
    )  # fmt: skip


def test_inks_of_a_profile_become_those_of_srgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "a.tif", icc_profile=ink_profile())
    assert np.abs(read_picture(tmp_path / "a.tif").astype(int) - 119).max() <= 3  # L* = 50
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "b.tif")
    assert read_picture(tmp_path / "b.tif")[0, 0].tolist() == [0, 255, 255]


def test_greys_of_a_profile_become_those_of_srgb(tmp_path: Path) -> None:
    image = Image.new("L", (8, 8), 128)
    image.save(tmp_path / "a.png", icc_profile=grey_profile(1.0))
    assert np.abs(read_picture(tmp_path / "a.png").astype(int) - 188).max() <= 2  # half the light
    # A profile of grey says nothing about colours.
    Image.new("RGB", (8, 8), (128, 10, 10)).save(tmp_path / "b.png", icc_profile=grey_profile(1.0))
    assert read_picture(tmp_path / "b.png")[0, 0].tolist() == [128, 10, 10]


def test_lab_is_read(tmp_path: Path) -> None:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    pixels = np.full((8, 8, 3), (200, 90, 40), np.uint8)
    image = ImageCms.profileToProfile(Image.fromarray(pixels), srgb, lab, outputMode="LAB")
    assert image is not None
    image.save(tmp_path / "a.tif")
    assert np.abs(read_picture(tmp_path / "a.tif").astype(int) - pixels).max() <= 3


def test_floating_point_pictures_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(tmp_path / "a.tif")
    refuses("holds floating-point numbers; convert it to 8 or 16 bits", read_picture, tmp_path / "a.tif")


def test_an_image_of_any_kind_is_read_as_its_file_is(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    colour, grey = Image.fromarray(SMOOTH), Image.fromarray(SMOOTH[..., 0])
    transparent = colour.copy()
    transparent.putalpha(grey)
    for image, name, more in [
        (colour, "exif.jpg", {"exif": exif}),
        (transparent, "alpha.png", {"exif": exif}),
        (transparent.quantize(8), "palette.png", {}),
        (grey, "grey.png", {"icc_profile": grey_profile(1.8)}),
        (colour.convert("CMYK"), "cmyk.jpg", {"icc_profile": ink_profile()}),
        (colour, "turned.tif", {"exif": exif}),
        (transparent, "alpha.webp", {"lossless": True, "exif": exif}),
    ]:
        buffer = io.BytesIO()
        image.save(buffer, {"jpg": "JPEG", "tif": "TIFF"}.get(name[-3:], name.split(".")[1].upper()), **more)
        (tmp_path / name).write_bytes(buffer.getvalue())
        with Image.open(buffer) as opened:
            assert np.array_equal(decode_image(opened, "given"), read_picture(tmp_path / name)), name
