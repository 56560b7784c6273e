"""The recorders that are compared: how each is started on N cameras, and which pictures its files hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SEGMENT_S = 10  # what Frigate uses, and most scripts around ffmpeg
# Frigate's arguments (docs, "preset-rtsp-generic" and record preset), so that nobody is made slow on purpose.
FFMPEG_INPUT = [
    "-avoid_negative_ts",
    "make_zero",
    "-fflags",
    "+genpts+discardcorrupt",
    "-rtsp_transport",
    "tcp",
    "-timeout",
    "10000000",
    "-use_wallclock_as_timestamps",
    "1",
]
FFMPEG_OUTPUT = f"-f segment -segment_time {SEGMENT_S} -segment_format mp4 -reset_timestamps 1 -c copy -an".split()
# Small enough that prepare() goes round once, so that what is measured is the steady state: segments used again.
RING_BYTES = 64 << 20
FILL_LOOPS = 4  # of the footage, 20 MB each
Picture = tuple[bool, int]  # is a keyframe, size in bytes


@dataclass(frozen=True)
class Peer:
    """One contender; `key` is what --peers takes."""

    key: str
    title: str

    def commands(self, urls: list[str], directory: Path) -> list[tuple[list[str], bytes, dict[str, str]]]:
        """Argument list, standard input and extra environment of each process."""
        raise NotImplementedError(self.key)

    def prepare(self, cameras: int, directory: Path, footage: Path) -> None:
        """Bring the disk into the state it has after a while; not measured."""

    def pictures(self, directory: Path, number: int) -> list[Picture]:
        """What was recorded of camera `number`, in order."""
        files = sorted(directory.glob(f"c{number}-*.mp4"))
        return [picture for path in files for picture in probed(path)]


def probed(path: Path) -> list[Picture]:
    """The pictures of any MP4 as ffprobe sees them; an unfinished last file gives none."""
    lines = subprocess.run(
        ["ffprobe", "-v", "quiet", "-select_streams", "v", "-show_entries", "packet=size,flags", "-of", "csv=p=0", str(path)],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    return [("K" in flags, int(size)) for size, flags in re.findall(r"^(\d+),(\w*)", lines, re.M)]


class FfmpegEach(Peer):
    def commands(self, urls: list[str], directory: Path) -> list[tuple[list[str], bytes, dict[str, str]]]:
        return [
            (["ffmpeg", "-hide_banner", "-nostdin", "-v", "error", *FFMPEG_INPUT, "-i", url, *FFMPEG_OUTPUT,
              str(directory / f"c{number}-%05d.mp4")], b"", {})
            for number, url in enumerate(urls)
        ]  # fmt: skip


class FfmpegOne(Peer):
    def commands(self, urls: list[str], directory: Path) -> list[tuple[list[str], bytes, dict[str, str]]]:
        arguments = ["ffmpeg", "-hide_banner", "-nostdin", "-v", "error"]
        for url in urls:
            arguments += [*FFMPEG_INPUT, "-i", url]
        for number in range(len(urls)):
            arguments += ["-map", f"{number}:v", *FFMPEG_OUTPUT, str(directory / f"c{number}-%05d.mp4")]
        return [(arguments, b"", {})]


class Gstreamer(Peer):
    def commands(self, urls: list[str], directory: Path) -> list[tuple[list[str], bytes, dict[str, str]]]:
        pipeline: list[str] = []
        for number, url in enumerate(urls):
            pipeline += (
                f"rtspsrc location={url} protocols=tcp latency=0 ! rtph264depay ! h264parse ! "
                f"splitmuxsink location={directory}/c{number}-%05d.mp4 max-size-time={SEGMENT_S}000000000 muxer-factory=mp4mux"
            ).split()
        return [(["gst-launch-1.0", "-q", "-e", *pipeline], b"", {})]


class Floor(Peer):
    def commands(self, urls: list[str], directory: Path) -> list[tuple[list[str], bytes, dict[str, str]]]:
        return [([sys.executable, "-m", "tools.bench.floor", str(directory), "3600", *urls], b"", {})]

    def pictures(self, directory: Path, number: int) -> list[Picture]:
        return []  # it writes RTP packets as they come


@dataclass(frozen=True)
class Ours(Peer):
    """This recorder, as `nvr run` starts it: one `record` process for all cameras."""

    pure: bool = False  # without the C extension
    evidence: bool = True
    crc: bool = True  # False exists in the bench alone, to show what it costs

    def prepare(self, cameras: int, directory: Path, footage: Path) -> None:
        """Go round every ring once with the same footage, as fast as it goes."""
        looped = footage.with_stem(footage.stem + "-looped")
        if not looped.exists():
            subprocess.run(
                [
                    "ffmpeg",
                    "-v",
                    "error",
                    "-stream_loop",
                    str(FILL_LOOPS - 1),
                    "-i",
                    str(footage),
                    "-c",
                    "copy",
                    str(looped),
                ],
                check=True,
            )
        source = {"kind": "replay", "file": str(looped), "loop": False, "speed": None}
        settings = self._settings(directory, [source] * cameras, once=True)
        subprocess.run(
            [sys.executable, "-m", "nvr.recorder"],
            input=settings,
            check=True,
            env=environment({}),
            stderr=subprocess.DEVNULL,
        )

    def _settings(self, directory: Path, sources: list[dict[str, object]], *, once: bool = False) -> bytes:
        from nvr.recorder import Settings
        from nvr.stream import RecordedStream

        streams = tuple(
            RecordedStream(name=f"c{number}/main", source=source, ring_bytes=RING_BYTES, evidence=self.evidence)
            for number, source in enumerate(sources)
        )
        return Settings(data_dir=str(directory), loss_bound_s=5.0, streams=streams, once=once).to_json().encode()

    def commands(self, urls: list[str], directory: Path) -> list[tuple[list[str], bytes, dict[str, str]]]:
        module = "nvr.recorder" if self.crc else "tools.bench.recorder_without_crc"
        environment = {"NVR_PURE": "1"} if self.pure else {}
        settings = self._settings(directory, [{"kind": "rtsp", "url": url, "transport": "tcp"} for url in urls])
        return [([sys.executable, "-m", module], settings, environment)]

    def pictures(self, directory: Path, number: int) -> list[Picture]:
        from nvr import fmp4
        from nvr.ring.reader import Ring

        ring = Ring(directory / "rings" / f"c{number}" / "main")
        found: list[Picture] = []
        try:
            for row in ring.rows():
                if row.record.run == 1:  # what prepare() wrote
                    continue
                head = fmp4.parse_head(ring.read(row.position)[: fmp4.HEAD_RESERVE_BYTES])
                found += [(sample.is_keyframe, sample.size_bytes) for sample in head.samples]
        finally:
            ring.close()
        return found


PEERS: tuple[Peer, ...] = (
    FfmpegEach("ffmpeg", "ffmpeg, one process per camera"),
    FfmpegOne("ffmpeg-one", "ffmpeg, all cameras in one process"),
    Gstreamer("gst", "GStreamer splitmuxsink, one process"),
    Ours("pure-bare", "nvr, pure Python, no CRC, no hash", pure=True, evidence=False, crc=False),
    Ours("pure-crc", "nvr, pure Python, CRC", pure=True, evidence=False),
    Ours("pure", "nvr, pure Python, CRC + hash", pure=True),
    Ours("bare", "nvr, C extension, no CRC, no hash", evidence=False, crc=False),
    Ours("crc", "nvr, C extension, CRC", evidence=False),
    Ours("full", "nvr, C extension, CRC + hash (default)"),
    Floor("floor", "floor: receive and write, nothing else"),
)


def lost_pictures(recorded: list[Picture], source: list[Picture]) -> tuple[int, int]:
    """How many pictures of the looped `source` are missing inside `recorded`, and how many are there.

    Pictures are told apart by their sizes; a keyframe may have gained or lost its parameter sets on the way, so
    only its place counts. Raises ValueError when the recording cannot be found in the source at all.
    """
    length = len(source)
    places: dict[int, list[int]] = {}
    for index, (is_keyframe, size) in enumerate(source):
        if not is_keyframe:
            places.setdefault(size, []).append(index)

    def fits(index: int, picture: Picture) -> bool:
        is_keyframe, size = source[index % length]
        return is_keyframe == picture[0] and (is_keyframe or size == picture[1])

    def following(start: int, index: int) -> int:
        """How many of the next pictures agree when recorded[start] is source[index]; two pictures may have one size."""
        return sum(fits(index + step, picture) for step, picture in enumerate(recorded[start : start + 8]))

    lost, at = 0, None
    for start, picture in enumerate(recorded):
        if at is not None and fits(at + 1, picture):
            at = (at + 1) % length
            continue
        if picture[0]:
            if at is not None:
                raise ValueError(f"picture {start} is a keyframe, in the source another picture follows on {at}")
            continue
        if picture[1] not in places:
            raise ValueError(f"picture {start} has {picture[1]} bytes, none in the source has")
        best = max(places[picture[1]], key=lambda index: (following(start, index), -((index - (at or 0)) % length)))
        if at is not None:
            lost += (best - at) % length - 1
        at = best
    return lost, len(recorded)


def environment(extra: dict[str, str]) -> dict[str, str]:
    return {**os.environ, **extra, "PYTHONPATH": os.pathsep.join(sys.path)}
