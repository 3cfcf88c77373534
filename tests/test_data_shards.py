"""The format on disk: what is written comes back, and what is broken is told in one sentence."""

import io
import json
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset
from hypothesis import given, settings
from hypothesis import strategies as st

from refusals import refuses
from stillmotion.data.clip import Clip
from stillmotion.data.info import DatasetInfo, Quarantined, Shard, read_info
from stillmotion.data.shards import ClipSet, concat, open_dataset, write_dataset
from stillmotion.errors import StillmotionError

INFO = DatasetInfo(title="made", licence="CC0", decoder="none", split_rule="by hand")


def made_clip(name: str, length: int = 3, size: tuple[int, int] = (4, 5), **meta: object) -> Clip:
    rng = np.random.default_rng(sum(map(ord, name)))
    frames = rng.integers(0, 256, (length, *size, 3), dtype=np.uint8)
    tracks = {"points": rng.normal(size=(length, 2)).astype(np.float32), "label": np.int64(7)}
    return Clip(name, frames, 25.0, tracks=tracks, meta=meta)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def same(a: Clip, b: Clip) -> bool:
    return (
        (a.name, a.fps, dict(a.meta)) == (b.name, b.fps, dict(b.meta))
        and np.array_equal(a.frames, b.frames)
        and a.tracks.keys() == b.tracks.keys()
        and all(np.array_equal(a.tracks[k], b.tracks[k]) for k in a.tracks)
        and all(np.asarray(a.tracks[k]).dtype == b.tracks[k].dtype for k in a.tracks)
    )


def test_clips_come_back_and_are_counted(tmp_path: Path) -> None:
    clips = [made_clip(f"c{i}", length=i + 1, split="test" if i == 4 else "train") for i in range(5)]
    written = write_dataset(tmp_path / "set", iter(clips), info=INFO, clips_per_shard=2)
    back = open_dataset(tmp_path / "set")
    assert [shard.clips for shard in written.shards] == [2, 2, 1]
    assert (written.clips, written.frames, written.size, written.fps) == (5, 1 + 2 + 3 + 4 + 5, (4, 5), 25.0)
    assert written.splits == {"train": 4, "test": 1}
    assert written.tracks == ("label", "points")
    assert (written.title, written.licence) == ("made", "CC0")
    assert back.info == written
    assert back.names == ("c0", "c1", "c2", "c3", "c4")
    assert len(back) == 5
    assert all(same(a, b) for a, b in zip(clips, back, strict=True))
    assert same(back[-1], clips[4])
    back.verify()


def test_differing_sizes_rates_and_tracks_are_told_as_such(tmp_path: Path) -> None:
    one, two = made_clip("a"), replace(made_clip("b", size=(6, 6)), fps=30.0, tracks={"flow": np.zeros(2)})
    info = write_dataset(tmp_path / "set", [one, two], info=INFO)
    assert (info.size, info.fps, info.tracks, info.splits) == (None, None, (), {})


def test_arrays_are_mapped_and_read_only(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [made_clip("a"), made_clip("b")], info=INFO)
    clip = open_dataset(tmp_path / "set")[1]
    with pytest.raises(ValueError, match="read-only"):
        clip.frames[0, 0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        clip.tracks["points"][0] = 1
    # The memory belongs to the map of the file: no copy was made.
    base = clip.frames
    while isinstance(base, np.ndarray):
        base = base.base
    assert type(base).__name__ in ("mmap", "memoryview")


def test_the_same_clips_give_the_same_bytes_whatever_their_layout_in_memory(tmp_path: Path) -> None:
    clip = made_clip("a", b=1, a=2)
    fortran = replace(
        clip,
        frames=np.asfortranarray(clip.frames),
        tracks={"label": clip.tracks["label"], "points": clip.tracks["points"].astype(">f4")},
        meta={"a": 2, "b": 1},
    )
    write_dataset(tmp_path / "one", [clip], info=INFO)
    write_dataset(tmp_path / "two", [fortran], info=INFO)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_shard_never_grows_beyond_its_bytes(tmp_path: Path) -> None:
    clips = [replace(made_clip(f"c{i}"), tracks={}) for i in range(4)]
    # One clip is npy (128 + 180 bytes) and json, each a header of 512 and padded to 512: 2048 bytes.
    two = write_dataset(tmp_path / "two", clips, info=INFO, max_shard_bytes=4096)
    one = write_dataset(tmp_path / "one", clips, info=INFO, max_shard_bytes=4095)
    assert [s.clips for s in two.shards] == [2, 2]
    assert [s.clips for s in one.shards] == [1, 1, 1, 1]


def test_webdataset_reads_the_same_shards(tmp_path: Path) -> None:
    clips = [made_clip(f"c{i}", action="wave") for i in range(3)]
    info = write_dataset(tmp_path / "set", clips, info=INFO, clips_per_shard=2)
    urls = [str(tmp_path / "set" / shard.file) for shard in info.shards]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False, empty_check=False).decode())
    assert [sample["__key__"] for sample in samples] == ["c0", "c1", "c2"]
    for clip, sample in zip(clips, samples, strict=True):
        assert np.array_equal(sample["frames.npy"], clip.frames)
        assert np.array_equal(sample["points.npy"], clip.tracks["points"])
        assert sample["json"] == {"fps": 25.0, "meta": {"action": "wave"}}


def test_views_by_meta_predicate_slice_and_name(tmp_path: Path) -> None:
    clips = [made_clip(f"c{i}", length=i + 1, split="train" if i % 2 else "test", n=i) for i in range(5)]
    write_dataset(tmp_path / "set", clips, info=INFO)
    back = open_dataset(tmp_path / "set")
    assert back.where(split="train").names == ("c1", "c3")
    assert back.where(split="train", n=3).names == ("c3",)
    assert back.select(lambda clip: len(clip) > 3).names == ("c3", "c4")
    assert back.where(split="test").select(lambda clip: len(clip) > 3).names == ("c4",)
    assert back[1:3].names == ("c1", "c2")
    assert same(back.where(split="train")[1], clips[3])
    assert same(back.named("c2"), clips[2])
    refuses("None of the 5 clips has split='val'", back.where, split="val")
    refuses("no clip named 'c9'", back.named, "c9")
    # A key that a clip lacks is not the same as a key that is None.
    with pytest.raises(StillmotionError):
        back.where(missing=None)


def test_sets_are_joined(tmp_path: Path) -> None:
    write_dataset(tmp_path / "one", [made_clip("a", split="train")], info=INFO)
    other = replace(INFO, title="other", licence="MIT", quarantined=(Quarantined("x.mp4", "It is broken."),))
    write_dataset(tmp_path / "two", [made_clip("a", length=2, split="train"), made_clip("b")], info=other)
    one, two = open_dataset(tmp_path / "one"), open_dataset(tmp_path / "two")
    both = concat([one, two.select(lambda clip: True)])
    assert both.names == ("a", "a", "b")
    assert [len(clip) for clip in both] == [3, 2, 3]
    assert (both.info.clips, both.info.frames, both.info.size) == (3, 8, (4, 5))
    assert (both.info.title, both.info.licence, both.info.splits) == ("made; other", "CC0; MIT", {"train": 2})
    assert both.info.quarantined == (Quarantined("x.mp4", "It is broken."),)
    both.verify()
    assert concat([one]).info == one.info
    refuses("at least one", concat, [])


def test_a_set_travels_to_other_processes(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [made_clip("a")], info=INFO)
    back = open_dataset(tmp_path / "set")
    assert back[0].name == "a"  # a file is mapped now; the mapping itself cannot be sent
    sent: ClipSet = pickle.loads(pickle.dumps(back))
    assert same(sent[0], back[0])


def test_worker_processes_get_places_of_clips_and_no_copies(tmp_path: Path) -> None:
    clips = [Clip(name, np.full((30, 32, 32, 3), value, np.uint8), 25.0) for name, value in (("a", 3), ("b", 7))]
    write_dataset(tmp_path / "set", clips, info=INFO)
    stored = list(open_dataset(tmp_path / "set"))
    text = pickle.dumps(stored)
    assert len(text) < clips[0].frames.nbytes / 10
    sent = pickle.loads(text)
    assert [clip.name for clip in sent] == ["a", "b"]
    assert np.array_equal(sent[1].frames, clips[1].frames)
    changed = pickle.loads(pickle.dumps(replace(stored[0], fps=12.0)))  # no longer what is stored
    assert (changed.fps, int(changed.frames[0, 0, 0, 0])) == (12.0, 3)


def test_names_must_be_unique(tmp_path: Path) -> None:
    refuses("Two clips are named 'a'", write_dataset, tmp_path / "set", [made_clip("a"), made_clip("a")], info=INFO)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tracks", "meta", "words"),
    [
        ({"frames": np.zeros(2)}, {}, "must not be 'frames'"),
        ({"a.b": np.zeros(2)}, {}, "letters, digits"),
        ({"a": np.array([{"x": 1}])}, {}, "must hold numbers"),
        ({"a": np.array(["word"])}, {}, "must hold numbers"),
        ({}, {"a": np.zeros(2)}, "cannot be written as JSON"),
        ({}, {"a": float("nan")}, "cannot be written as JSON"),
    ],
)
def test_what_cannot_be_stored_is_refused(
    tmp_path: Path, tracks: dict[str, np.ndarray], meta: dict[str, object], words: str
) -> None:
    clip = replace(made_clip("a"), tracks=tracks, meta=meta)
    refuses(words, write_dataset, tmp_path / "set", [clip], info=INFO)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing_new_and_everything_old(tmp_path: Path) -> None:
    def breaks_off() -> object:
        yield made_clip("new1")
        yield made_clip("new2")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "set", breaks_off(), info=INFO, clips_per_shard=1)
    assert list(tmp_path.iterdir()) == []

    write_dataset(tmp_path / "set", [made_clip("old")], info=INFO)
    before = contents(tmp_path / "set")
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "set", breaks_off(), info=INFO, clips_per_shard=1, overwrite=True)
    assert contents(tmp_path / "set") == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_overwriting_is_asked_for_and_spares_other_folders(tmp_path: Path) -> None:
    write_dataset(tmp_path / "set", [made_clip("old")], info=INFO)
    refuses("is not empty; pass --overwrite", write_dataset, tmp_path / "set", [made_clip("new")], info=INFO)
    write_dataset(tmp_path / "set", [made_clip("new")], info=INFO, overwrite=True)
    assert open_dataset(tmp_path / "set").names == ("new",)

    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "film.mp4").write_bytes(b"precious")
    with pytest.raises(StillmotionError, match="more than a prepared data set"):
        write_dataset(tmp_path / "holiday", [made_clip("new")], info=INFO, overwrite=True)
    assert (tmp_path / "holiday" / "film.mp4").read_bytes() == b"precious"


def test_no_clip_at_all_is_told_with_the_first_reason(tmp_path: Path) -> None:
    told = replace(INFO, quarantined=[Quarantined("a.mp4", "It is broken.")])
    refuses(r"not one usable clip .*It is broken", write_dataset, tmp_path / "set", [], info=lambda: told)
    assert list(tmp_path.iterdir()) == []


def edit_info(folder: Path, **values: object) -> None:
    path = folder / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_broken_descriptions_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    refuses(r"no dataset\.json", open_dataset, folder)
    write_dataset(folder, [made_clip("a")], info=INFO)
    whole = (folder / "dataset.json").read_text()
    edit_info(folder, version=2)
    refuses("version 2, but this stillmotion reads version 1", open_dataset, folder)
    edit_info(folder, version=1, colour="red")
    refuses("colour", open_dataset, folder)
    for text in ("{", "[]", whole.replace('"clips": 1', '"clips": "many"', 1)):
        (folder / "dataset.json").write_text(text)
        with pytest.raises(StillmotionError):
            open_dataset(folder)
    (folder / "dataset.json").write_text(whole.replace("shard-00000.tar", "../shard-00000.tar"))
    refuses("outside its own folder", open_dataset, folder)


def test_missing_truncated_and_changed_shards_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_dataset(folder, [made_clip("a"), made_clip("b")], info=INFO)
    shard = folder / "shard-00000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-512])
    refuses(f"has {len(whole) - 512} bytes instead of {len(whole)}", open_dataset, folder)
    changed = bytearray(whole)
    changed[whole.index(b"}") + 200] ^= 1  # in the padding: only the digest can tell
    shard.write_bytes(bytes(changed))
    with pytest.raises(StillmotionError, match="changed after it was written"):
        open_dataset(folder).verify()
    shard.write_bytes(b"x" * len(whole))
    refuses("damaged", open_dataset, folder)
    shard.unlink()
    refuses("is missing", open_dataset, folder)


def replace_shard(folder: Path, members: dict[str, bytes]) -> None:
    """Put other members into the one shard and let dataset.json agree with it."""
    path = folder / "shard-00000.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    edit_info(folder, shards=[{"file": path.name, "clips": 1, "bytes": path.stat().st_size, "sha256": ""}])


def as_npy(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def test_pickles_and_lying_headers_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    frames = as_npy(np.zeros((2, 4, 5, 3), np.uint8))
    facts = b'{"fps": 25.0, "meta": {}}'
    write_dataset(folder, [made_clip("a")], info=INFO)

    replace_shard(folder, {"a.frames.npy": frames, "a.json": facts})
    assert len(open_dataset(folder)[0]) == 2  # the helper itself makes a good shard

    pickled = as_npy(np.array([{"evil": 1}], dtype=object), allow_pickle=True)
    replace_shard(folder, {"a.frames.npy": frames, "a.json": facts, "a.track.npy": pickled})
    with pytest.raises(StillmotionError, match="not numbers"):
        open_dataset(folder)[0]
    for broken in (frames[:-1], frames + b"x", b"no npy at all", frames.replace(b"(2, 4", b"(9, 4")):
        replace_shard(folder, {"a.frames.npy": broken, "a.json": facts})
        with pytest.raises(StillmotionError, match="frames of clip 'a'"):
            open_dataset(folder)[0]
    for text in (b"{", b"[]", b'{"fps": "x", "meta": {}}', b'{"meta": {}}'):
        replace_shard(folder, {"a.frames.npy": frames, "a.json": text})
        with pytest.raises(StillmotionError, match="json of clip 'a'"):
            open_dataset(folder)[0]
    replace_shard(folder, {"a.frames.npy": frames})
    refuses("should hold 1 whole clips but holds 0", open_dataset, folder)
    replace_shard(folder, {"a.frames.npy": frames, "a.json": facts, "a.py": b"print()"})
    refuses(r"holds 'a\.py', which is no clip's", open_dataset, folder)


DTYPES = st.sampled_from(["u1", "i2", "<i8", ">f4", "<f8", "f2", "?"])
SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(DTYPES, SHAPES), min_size=1, max_size=3), st.integers(1, 3))
def test_any_numbers_in_any_shape_come_back(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[tuple[str, tuple[int, ...]]], per_shard: int
) -> None:
    folder = tmp_path_factory.mktemp("any") / "set"
    rng = np.random.default_rng(0)
    clips = [
        replace(made_clip(f"c{i}"), tracks={"t": (100 * rng.normal(size=shape)).astype(dtype)})
        for i, (dtype, shape) in enumerate(kinds)
    ]
    write_dataset(folder, clips, info=INFO, clips_per_shard=per_shard)
    for clip, back in zip(clips, open_dataset(folder), strict=True):
        wanted, got = clip.tracks["t"], back.tracks["t"]
        assert got.shape == wanted.shape
        assert got.dtype == wanted.dtype.newbyteorder("<")
        assert np.array_equal(got, wanted)


def test_long_names_fit(tmp_path: Path) -> None:
    name = "n" * 180  # a plain tar header has room for 100
    write_dataset(tmp_path / "set", [made_clip(name)], info=INFO)
    assert open_dataset(tmp_path / "set").names == (name,)
    write_dataset(tmp_path / "again", [made_clip(name)], info=INFO)
    assert contents(tmp_path / "set") == contents(tmp_path / "again")


def test_info_round_trip(tmp_path: Path) -> None:
    told = replace(INFO, settings={"crop": "centre"}, quarantined=(Quarantined("b.avi", "It is cut short."),))
    written = write_dataset(tmp_path / "set", [made_clip("a")], info=told)
    assert read_info(tmp_path / "set") == written
    assert isinstance(written.shards[0], Shard)
    assert written.settings == {"crop": "centre"}
