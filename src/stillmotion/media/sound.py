"""The sound of a video, on its way into another one."""

from __future__ import annotations

import contextlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.filter import Graph

from stillmotion.errors import StillmotionWarning
from stillmotion.media.decoding import open_demuxer
from stillmotion.media.pictures import file_type

# (seconds from the start of the result to the packet's middle, packet), in order.
TimedPackets = Iterator[tuple[float, av.Packet]]

# Per ending: the codecs that browsers play in such a file, and the encoder for all others.
SOUND_FORMATS: dict[str, tuple[tuple[str, ...], str]] = {
    ".mp4": (("aac", "mp3"), "aac"),
    ".webm": (("opus", "vorbis"), "libopus"),
}
_RATE, _BITS = 48_000, 160_000  # samples and bits per second of what is encoded; mono or stereo


@dataclass(frozen=True)
class Sound:
    """The sound of a video file from a time on.

    Attributes:
        path: the file.
        start: the time, in seconds of the file's own clock.
    """

    path: Path
    start: float

    def later(self, seconds: float) -> Sound:
        """The sound from so many seconds later on."""
        return replace(self, start=self.start + seconds)


@contextlib.contextmanager
def add_sound(output: OutputContainer, sound: Sound, ending: str) -> Iterator[Callable[[float], None]]:
    """Add sound to a container whose header is not written yet.

    It is copied where the container can hold it, so that nothing is lost, else encoded anew.

    Args:
        output: a container, whose video stream is there already.
        sound: where it comes from.
        ending: one of `SOUND_FORMATS`.

    Yields:
        A function that writes what is heard before a time, in seconds from the start of the result.

    Warns:
        StillmotionWarning: the sound cannot be read, or only its beginning.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(sound.path.open("rb"))
            kind = file_type(sound.path)
            assert kind is not None
            source = stack.enter_context(open_demuxer(file, kind, {}))
            packets = _until_damage(_packets(source, output, sound.start, ending), sound)
        except (av.FFmpegError, OSError, ValueError) as error:
            _warn(f"The sound of {str(sound.path)!r} cannot be read ({error}) and is left out.")
            packets = iter(())
        ahead: list[tuple[float, av.Packet]] = list(itertools.islice(packets, 1))

        def write_until(seconds: float) -> None:
            while ahead and ahead[0][0] < seconds:
                output.mux(ahead.pop()[1])
                ahead.extend(itertools.islice(packets, 1))

        yield write_until


def _packets(source: InputContainer, output: OutputContainer, start: float, ending: str) -> TimedPackets:
    """Choose the sound and add its stream to `output`; return its packets.

    Raises:
        ValueError: no decoder for it.
    """
    stream = source.streams.best("audio")
    if not isinstance(stream, AudioStream) or stream.codec_context is None:
        raise ValueError("of an unknown kind")
    kept, encoder = SOUND_FORMATS[ending]
    context = stream.codec_context
    # Without extradata each packet carries its own header, which these containers do not store.
    if context.name.removesuffix("float") in kept and (context.extradata or context.name.startswith("mp3")):
        return _copied(source, stream, output.add_stream_from_template(stream), start)
    layout = "mono" if context.layout.nb_channels == 1 else "stereo"
    made = output.add_stream(encoder, rate=_RATE, layout=layout)
    assert isinstance(made, AudioStream)
    made.bit_rate = _BITS
    return _encoded(source, stream, made, start)


def _copied(source: InputContainer, stream: AudioStream, made: AudioStream, start: float) -> TimedPackets:
    """Packets that begin at `start` or later, as they are."""
    for packet in source.demux(stream):
        if packet.pts is None or packet.time_base is None or not packet.size or packet.is_discard:
            continue
        unit = packet.time_base
        time, duration = float(packet.pts * unit) - start, float((packet.duration or 0) * unit)
        if time < -1e-3:
            continue
        packet.pts = packet.dts = round(time / unit)
        packet.stream = made
        yield time + duration / 2, packet


def _encoded(source: InputContainer, stream: AudioStream, made: AudioStream, start: float) -> TimedPackets:
    """Decode, cut off what comes before `start`, fill gaps with silence and encode."""
    graph = Graph()
    entry = graph.add_abuffer(template=stream)
    steps = [
        graph.add("atrim", f"start={max(start, 0.0):.6f}"),
        graph.add("asetpts", f"PTS-{start:.6f}/TB"),
        graph.add("aresample", f"{_RATE}:async=1:first_pts=0"),
        graph.add(
            "aformat", f"sample_fmts={made.format.name}:sample_rates={_RATE}:channel_layouts={made.layout.name}"
        ),
        graph.add("abuffersink"),
    ]
    for one, other in itertools.pairwise([entry, *steps]):
        one.link_to(other)
    graph.configure()
    for frame in itertools.chain(source.decode(stream), [None]):
        entry.push(frame)
        for ready in _pulled(graph):
            yield from _timed(made, ready)
    yield from _timed(made, None)


def _pulled(graph: Graph) -> Iterator[AudioFrame]:
    """What a graph has ready."""
    with contextlib.suppress(av.BlockingIOError, av.EOFError):
        while True:
            frame = graph.pull()
            assert isinstance(frame, AudioFrame)
            yield frame


def _timed(made: AudioStream, frame: AudioFrame | None) -> TimedPackets:
    for packet in made.encode(frame):
        unit = packet.time_base or 0
        yield float(((packet.pts or 0) + (packet.duration or 0) / 2) * unit), packet


def _until_damage(packets: TimedPackets, sound: Sound) -> TimedPackets:
    """Packets up to the first that cannot be read."""
    last = 0.0
    try:
        for last, packet in packets:
            yield last, packet
    except (av.FFmpegError, OSError, ValueError):
        _warn(f"The sound of {str(sound.path)!r} is damaged and ends after {max(last, 0.0):.1f} seconds.")


def _warn(sentence: str) -> None:
    warnings.warn(sentence, StillmotionWarning, stacklevel=3)
