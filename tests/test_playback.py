"""What a segment is to others: a file that plays, whole, while it is being written, and when it was used again.

Players are real programs; each says how many pictures it found, and must not complain.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from films import CLIPS, DRAWN, FOOTAGE, STREAMS, first_page, footage, fragments_of, play, segment_of
from ring.rig import Rig

from nvr import fmp4
from nvr.gather import Gather
from nvr.media import PAGE_BYTES, AccessUnit, FragmentRecord, RunStarted, StreamEvent
from nvr.mp4file import Mp4File
from nvr.parameter_sets import parse_sps
from nvr.ring.disk import Directory
from nvr.source.replay import Replay

av = pytest.importorskip("av", reason="needs PyAV, the second opinion")

FILMS = DRAWN + CLIPS + STREAMS

needs_ffmpeg = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="needs ffmpeg and ffprobe"
)
needs_gst = pytest.mark.skipif(
    not shutil.which("gst-launch-1.0"), reason="needs gst-launch-1.0 (Debian: gstreamer1.0-tools)"
)


def pictures_in(events: list[StreamEvent]) -> int:
    return sum(isinstance(event, AccessUnit) for event in events)


# -- what players say: the number of pictures ----------------------------------------------------------


def ffmpeg_pictures(path: Path, *, may_complain: bool = False) -> int:
    result = subprocess.run(
        ["ffmpeg", "-nostdin", "-v", "warning", "-stats", "-i", path, "-map", "0:v", "-f", "null", "-progress", "-", "-"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    complaints = [line for line in result.stderr.splitlines() if line.strip() and not line.startswith("frame=")]
    assert (result.returncode, [] if may_complain else complaints) == (0, [])
    return int([line for line in result.stdout.splitlines() if line.startswith("frame=")][-1].removeprefix("frame="))


def ffprobe_pictures(path: Path) -> int:
    command = [
        "ffprobe",
        "-v",
        "warning",
        "-count_packets",
        "-select_streams",
        "v",
        "-show_entries",
        "stream=nb_read_packets",
        "-of",
        "json",
        path,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return int(json.loads(result.stdout)["streams"][0]["nb_read_packets"])


def pyav_pictures(data: bytes) -> int:
    with av.open(io.BytesIO(data)) as container:
        return sum(1 for _ in container.decode(video=0))


def gst_pictures(path: Path) -> int:
    command = [
        "gst-launch-1.0",
        "-v",
        "filesrc",
        f"location={path}",
        "!",
        "qtdemux",
        "!",
        "h264parse",
        "!",
        "fakesink",
        "silent=false",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    complaints = [
        line for line in (result.stdout + result.stderr).splitlines() if line.startswith(("ERROR", "WARNING"))
    ]
    assert (result.returncode, complaints) == (0, [])
    return sum("chain " in line for line in result.stdout.splitlines())


MSE_SCRIPT = """
(async (codec, parts, places) => {
  const video = document.createElement('video'), source = new MediaSource();
  const mime = `video/mp4; codecs="${codec}"`;
  if (!MediaSource.isTypeSupported(mime)) throw new Error('not supported: ' + mime);
  document.body.replaceChildren(video);
  video.muted = true;
  video.src = URL.createObjectURL(source);
  const happens = (what, name) => new Promise((done, failed) => {
    what.addEventListener(name, done, {once: true});
    video.addEventListener('error', () => failed(new Error(video.error.message)), {once: true});
  });
  await happens(source, 'sourceopen');
  const buffer = source.addSourceBuffer(mime);
  for (const part of parts) {
    const appended = happens(buffer, 'updateend');
    buffer.appendBuffer(Uint8Array.from(atob(part), (letter) => letter.charCodeAt(0)));
    await appended;
  }
  source.endOfStream();
  const shown = [], from = video.buffered.start(0), to = video.buffered.end(0);
  for (const place of places) {
    const wanted = from + place * (to - from);
    // A busy browser may show the picture of the place before once more: the one that stays counts. And it may show the wanted one between two
    // callbacks, and then says nothing more, because a film that stands has no next picture: so it is asked for the place again.
    const picture = new Promise((done) => {
      let last = null;
      const again = setInterval(() => { video.currentTime = wanted; }, 2000);
      const ended = (found) => { clearInterval(again); clearTimeout(timer); done(found); };
      const timer = setTimeout(() => ended(last), 20000);
      const look = (_, about) => {
        last = about.mediaTime;
        if (Math.abs(last - wanted) < 0.2) ended(last);
        else video.requestVideoFrameCallback(look);
      };
      video.requestVideoFrameCallback(look);
    });
    video.currentTime = wanted;
    shown.push([video.currentTime, await picture]);
  }
  return {ranges: video.buffered.length, from, to, width: video.videoWidth, height: video.videoHeight, shown};
})
"""


def browser_plays(browser: object, codec: str, parts: list[bytes]) -> dict:
    """Appends `parts` to a SourceBuffer and shows pictures at four places; raises BrowserFault with what the browser says."""
    texts = json.dumps([base64.b64encode(part).decode() for part in parts])
    return browser.run(f"{MSE_SCRIPT}({json.dumps(codec)}, {texts}, [0.01, 0.3, 0.55, 0.9])")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from web.browser import CHROMIUM, Browser

    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    with Browser() as opened:
        yield opened


# -- a whole segment -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Film:
    path: Path
    data: bytes
    events: list[StreamEvent]

    @property
    def codec(self) -> str:
        return parse_sps(self.events[0].parameter_sets.sps[0]).codec

    @property
    def duration_s(self) -> float:
        return sum(fragment.record.duration_ticks for fragment in fragments_of(self.events)) / 90_000


@pytest.fixture(scope="module", params=FILMS)
def film(request, tmp_path_factory) -> Film:
    """A film as one segment with free space behind it."""
    events = play(footage(request.param), fps=20)
    path = tmp_path_factory.mktemp("film") / "000000.mp4"
    path.write_bytes(segment_of(events))
    return Film(path, path.read_bytes(), events)


@needs_ffmpeg
def test_ffmpeg_decodes_every_picture_without_a_complaint(film):
    assert ffmpeg_pictures(film.path) == pictures_in(film.events)


@needs_ffmpeg
def test_ffprobe_finds_every_picture(film):
    assert ffprobe_pictures(film.path) == pictures_in(film.events)


def test_pyav_decodes_every_picture(film):
    assert pyav_pictures(film.data) == pictures_in(film.events)


@pytest.mark.gst
@needs_gst
def test_gstreamer_finds_every_picture(film):
    assert gst_pictures(film.path) == pictures_in(film.events)


@pytest.mark.browser
@pytest.mark.parametrize("parts", ["fragment by fragment", "as one file"])
def test_a_browser_plays_it(film, parts, browser):
    """Chromium's MSE takes init segment and fragments one by one, as in live view, and a whole segment with its free space."""
    fragments = [first_page(film.events[0]), *(fragment.data for fragment in fragments_of(film.events))]
    found = browser_plays(browser, film.codec, fragments if parts == "fragment by fragment" else [film.data])
    assert found["ranges"] == 1
    assert found["to"] - found["from"] == pytest.approx(film.duration_s, abs=0.05)
    # Chromium 156 shows CVFC1 (300x168, cropped on all sides) as 326x183, a file by ffmpeg too; so only the shape is compared.
    assert found["width"] / found["height"] == pytest.approx(film.events[0].width / film.events[0].height, rel=0.01)
    assert all(abs(wanted - shown) < 0.2 for wanted, shown in found["shown"])


def test_a_segment_plays_again_from_our_own_reader(film, tmp_path):
    """What the ring keeps can be a source again: same media, same times."""
    again = play(film.path)
    assert pictures_in(again) == pictures_in(film.events)
    for before, after in zip(film.events[1:], again[1:], strict=True):
        if isinstance(before, AccessUnit):
            assert b"".join(before.payload.views()) == b"".join(after.payload.views())
            assert (before.decode_ticks, before.composition_ticks) == (after.decode_ticks, after.composition_ticks)


# -- while it is written, and after it was reused ------------------------------------------------------

SEGMENT_BYTES = 96 * PAGE_BYTES


@dataclass(frozen=True)
class Copy:
    """A segment file as somebody would have copied it right after one write."""

    name: str
    data: bytes
    announced: int  # fragments of the stream that were announced by then


class _Watched(Directory):
    """Copies a segment after each write to it."""

    copies: list[Copy]
    rig: Rig
    names_of: dict[int, str]

    def open(self, name: str, *, create: bool = False, write: bool = True) -> int:
        fd = super().open(name, create=create, write=write)
        self.names_of[fd] = name
        return fd

    def _copy(self, fd: int) -> None:
        if self.names_of[fd].endswith(".mp4"):
            self.copies.append(Copy(self.names_of[fd], self.read(fd, self.size(fd), 0), len(self.rig.written)))

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        super().write(fd, data, offset)
        self._copy(fd)

    def write_gather(self, fd: int, gather: Gather, offset: int, size_bytes: int) -> None:
        super().write_gather(fd, gather, offset, size_bytes)
        self._copy(fd)


class _WatchedRig(Rig):
    def directory(self, path: Path | None = None, *, create: bool = False) -> Directory:
        watched = _Watched(path or self.settings.path, create=create)
        watched.copies, watched.rig, watched.names_of = self.copies, self, {}
        return watched


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> tuple[_WatchedRig, list[Copy]]:
    """Some 140 s with B pictures, recorded into a ring of four small segments, and a copy after every single write."""
    is_real = FOOTAGE.exists()
    source = Replay(footage("one-by-one-person-detection.mp4" if is_real else DRAWN[1]), loop=not is_real, speed=None)
    passes = itertools.chain.from_iterable(source.drain(0) for _ in range(75))
    directory = tmp_path_factory.mktemp("ring")
    _WatchedRig.copies = []
    rig = _WatchedRig(directory, segments=4, segment_bytes=SEGMENT_BYTES)
    rig.open()
    for number, event in enumerate(passes):
        rig.clock.advance(100_000_000)
        if isinstance(event, RunStarted):
            rig.start_run(event)
        elif isinstance(event, AccessUnit):
            rig.written += rig.writer.push(event, rig.clock.read())
        if number % 25 == 0:
            rig.syncer.burst()
    rig.stop()
    source.close()
    return rig, rig.copies


def fragments_in(data: bytes) -> list[FragmentRecord]:
    """Whole fragments that a walk over the top-level atoms finds."""
    return [fmp4.check_fragment(data[offset:])[1] for kind, offset, _, _ in fmp4.atoms(data) if kind == b"moof"]


def test_a_segment_is_whole_atoms_after_every_write(recorded):
    rig, copies = recorded
    assert len(copies) > 150 and max(written.position.lap for written in rig.written) >= 2
    for copy in copies:
        *_, (_, offset, size, _) = fmp4.atoms(copy.data)
        assert offset + size == len(copy.data)


def test_whatever_is_seen_in_a_copy_is_whole_and_announced_or_just_about_to_be(recorded):
    """Never half a fragment, never one of an earlier lap, and all of those that were announced before the write."""
    rig, copies = recorded
    laps_seen = set()
    for copy in copies:
        found = [record.sequence for record in fragments_in(copy.data)]
        before = [
            written
            for written in rig.written[: copy.announced]
            if written.position.segment == int(Path(copy.name).stem)
        ]
        if not found:
            continue
        lap = fragments_in(copy.data)[-1].lap
        laps_seen.add(lap)
        expected = [written.record.sequence for written in before if written.position.lap == lap]
        assert found in (expected, [*expected, found[-1]])
        assert len({record.lap for record in fragments_in(copy.data)}) == 1
    assert laps_seen >= {1, 2}


def shown_of(copy: Copy) -> list[FragmentRecord]:
    """Fragments that a player can show: from the first keyframe on. Before it may be the end of a GOP from the segment before."""
    return list(itertools.dropwhile(lambda record: not record.is_keyframe, fragments_in(copy.data)))


def moments(copies: list[Copy], count: int) -> list[Copy]:
    """Some of the copies that have pictures to show: first, last, and evenly between."""
    playable = [copy for copy in copies if shown_of(copy)]
    return [playable[place * (len(playable) - 1) // (count - 1)] for place in range(count)]


def pictures_of(copy: Copy) -> int:
    return sum(record.pictures for record in shown_of(copy))


def test_nearly_every_segment_begins_with_a_keyframe(recorded):
    """So that a copied segment shows all it holds. Where a GOP is longer than the end of a segment, its rest begins the next."""
    rig, _ = recorded
    firsts = {(written.position.segment, written.position.lap): written.record for written in reversed(rig.written)}
    assert sum(record.is_keyframe for record in firsts.values()) >= 0.8 * len(firsts) > 4


def all_pictures_of(copy: Copy) -> int:
    return sum(record.pictures for record in fragments_in(copy.data))


def test_pyav_and_our_reader_see_all_pictures_of_a_copy_made_at_any_moment(recorded):
    _, copies = recorded
    for copy in moments(copies, 60):
        assert len(list(Mp4File(copy.data).samples())) == all_pictures_of(copy)
        assert pyav_pictures(copy.data) == pictures_of(copy)


@needs_ffmpeg
def test_ffmpeg_and_ffprobe_play_a_copy_made_at_any_moment(recorded, tmp_path):
    _, copies = recorded
    for number, copy in enumerate(moments(copies, 8)):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(copy.data)
        # A player that begins in the middle of a GOP says that pictures are missing, and goes on at the keyframe.
        is_whole = all_pictures_of(copy) == pictures_of(copy)
        assert ffmpeg_pictures(path, may_complain=not is_whole) == pictures_of(copy)
        assert ffprobe_pictures(path) == all_pictures_of(copy)


@pytest.mark.gst
@needs_gst
def test_gstreamer_plays_a_copy_made_at_any_moment(recorded, tmp_path):
    _, copies = recorded
    for number, copy in enumerate(moments(copies, 8)):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(copy.data)
        assert gst_pictures(path) == all_pictures_of(copy)


@pytest.mark.browser
def test_a_browser_plays_a_copy_made_at_any_moment(recorded, browser):
    _, copies = recorded
    for copy in moments(copies, 8):
        film = Mp4File(copy.data)
        found = browser_plays(browser, parse_sps(film.parameter_sets.sps[0]).codec, [copy.data])
        duration_s = sum(record.duration_ticks for record in shown_of(copy)) / 90_000
        assert found["ranges"] == 1 and found["to"] - found["from"] == pytest.approx(duration_s, abs=0.05)


def test_no_decoder_is_loaded_by_what_records():
    """`record` imports neither PyAV nor numpy: fmp4, h264 and replay stand on the standard library and crc32c."""
    code = "import sys, nvr.fmp4, nvr.mp4file, nvr.source.replay; print([name for name in ('av', 'numpy') if name in sys.modules])"
    root = Path(__file__).resolve().parents[1]
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
        ).stdout.strip()
        == "[]"
    )
