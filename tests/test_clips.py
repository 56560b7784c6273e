"""Cutting a span out of a ring."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import random
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
from clip_ring import NS, SMALL_INIT, START_NS, ClipRing, Picture, noise

from nvr import clip_plan, clips, evidence, fmp4
from nvr.clip_plan import Gap
from nvr.evidence import Identity
from nvr.media import Cause, ParameterSets

_spec = importlib.util.spec_from_file_location("verify_clip", Path(__file__).parent.parent / "tools" / "verify_clip.py")
verify_clip = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(verify_clip)

IDENTITY = Identity(b"the box of all tests of clips...")


@pytest.fixture
def ring(tmp_path) -> ClipRing:
    return ClipRing(tmp_path / "ring", box_id=IDENTITY.box_id)


@pytest.fixture
def out(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "clip.mp4"


def at(seconds: float) -> int:
    return START_NS + round(seconds * NS)


def is_genuine(path: Path) -> bool:
    verdict = verify_clip.verify(path, IDENTITY.fingerprint)
    assert verdict["genuine"], verdict["reasons"]
    return True


def says_of(path: Path) -> dict:
    data = path.read_bytes()
    return json.loads(data[data.rfind(evidence.MANIFEST_USERTYPE) - 8 + evidence.MANIFEST_HEAD_BYTES :])


def split(fragments: list[list[Picture]]) -> list[list[Picture]]:
    """Long GOPs, as the recorder splits them: a keyframe's part, then two later parts."""
    return [pictures if number % 3 == 0 else pictures[1:] for number, pictures in enumerate(fragments)]


# -- what belongs into a clip --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("from_s", "to_s", "expected"),
    [
        (None, None, range(9)),
        (0.0, 9.0, range(9)),
        (1.2, 1.8, range(1, 2)),
        (1.0, 2.0, range(1, 2)),
        (1.0, 2.001, range(1, 3)),
        (-100.0, 0.5, range(1)),
        (8.5, 100.0, range(8, 9)),
        (9.0, 100.0, range(0)),
        (-5.0, 0.0, range(0)),
        (None, 1.0, range(1)),
        (7.0, None, range(7, 9)),
    ],
)
def test_a_clip_holds_every_fragment_that_touches_the_span(ring, from_s, to_s, expected):
    ring.add(noise(seconds=9))
    span = [None if seconds is None else at(seconds) for seconds in (from_s, to_s)]
    assert clip_plan.chosen(ring.pieces, *span) == expected


def test_a_clip_starts_at_the_keyframe_before(ring):
    ring.add(split(noise(seconds=9)))
    pieces = ring.pieces
    inside = pieces[5].placed.from_ns + 1
    assert [piece.record.is_keyframe for piece in pieces] == [True, False, False] * 3
    assert clip_plan.chosen(pieces, inside, inside + 1) == range(3, 6)


def test_a_clip_starts_at_the_keyframe_after_where_the_one_before_is_gone(ring):
    ring.add(split(noise(seconds=9)))
    assert clip_plan.chosen(ring.pieces[1:], None, None) == range(2, 8)
    assert clip_plan.chosen(ring.pieces[1:3], None, None) == range(2, 2)


def test_a_clip_does_not_reach_back_over_a_gap(ring):
    ring.add(split(noise(seconds=3)))
    ring.lose(1, 1.0)
    ring.add(split(noise(seconds=4))[1:])
    lost_keyframe = ring.pieces[3].placed.from_ns + 1
    assert clip_plan.chosen(ring.pieces, lost_keyframe, None) == range(5, 6)


def test_decode_time_starts_at_zero_and_keeps_real_gaps(ring):
    ring.add(noise(seconds=2))
    ring.new_run(after_s=60)
    ring.add(noise(seconds=2))
    ring.lose(3, 3.0)
    ring.add(noise(seconds=1))
    assert clip_plan.decode_times(ring.pieces) == [second * 90_000 for second in (0, 1, 62, 63, 67)]


def test_decode_time_never_falls_when_the_wall_clock_does(ring):
    ring.add(noise(seconds=3))
    ring.new_run(after_s=-2.5)
    ring.add(noise(seconds=2))
    assert clip_plan.decode_times(ring.pieces) == [second * 90_000 for second in (0, 1, 2, 3, 4)]


def test_gaps_carry_the_causes_that_are_known(ring):
    ring.add(noise(seconds=2))
    ring.new_run(after_s=10)
    ring.add(noise(seconds=1))
    known = [Gap(at(-5), at(1), Cause.BOX_OFF), Gap(at(1.5), at(5), Cause.NETWORK), Gap(at(6), at(11), Cause.CAMERA)]
    assert clip_plan.gaps_between(ring.pieces, known) == (
        Gap(at(2), at(5), Cause.NETWORK, 101),
        Gap(at(5), at(6), Cause.NOT_KNOWN, 101),
        Gap(at(6), at(11), Cause.CAMERA, 101),
        Gap(at(11), at(12), Cause.NOT_KNOWN, 101),
    )


def test_a_reconnect_without_lost_time_is_told_too(ring):
    ring.add(noise(seconds=1))
    ring.new_run()
    ring.add(noise(seconds=1))
    assert clip_plan.gaps_between(ring.pieces) == (Gap(at(1), at(1), Cause.NOT_KNOWN, 100),)


# -- cutting -------------------------------------------------------------------------------------------


def test_every_legal_cut_is_genuine_and_plays_the_same_media(ring, out):
    """Over several segments, runs and gaps; each cut at other times."""
    ring.segment_bytes = 128 << 10
    for seed in range(4):
        ring.add(split(noise(seed, seconds=6, size_bytes=2000)))
        ring.new_run(after_s=seed)
    ring.lose(1, 1)
    ring.add(noise(9, seconds=3))
    assert ring.segment >= 2
    dice = random.Random(3)
    for number in range(25):
        span = sorted(dice.uniform(-1, 36) for _ in range(2))
        chosen = clip_plan.chosen(ring.pieces, at(span[0]), at(span[1]))
        if not chosen:
            continue
        pieces = ring.pieces[chosen.start : chosen.stop]
        path = out.with_name(f"{number}.mp4")
        report = clips.cut_pieces(ring.path, pieces, path, IDENTITY, before=chosen.start > 0)
        assert is_genuine(path) and report.fragments == len(pieces) and report.size_bytes == path.stat().st_size
        assert media_of(path.read_bytes()) == b"".join(media_in_ring(ring, piece) for piece in pieces)


def media_in_ring(ring: ClipRing, piece: clip_plan.Piece) -> bytes:
    fd = ring.open_segment(piece.position.segment)
    try:
        return os.pread(fd, piece.record.payload_bytes, piece.position.offset + fmp4.HEAD_RESERVE_BYTES)
    finally:
        os.close(fd)


def media_of(clip: bytes) -> bytes:
    return b"".join(clip[at + header : at + size] for kind, at, size, header in fmp4.atoms(clip) if kind == b"mdat")


def test_a_clip_is_a_sound_mp4_file(ring, out):
    ring.add(noise(seconds=2))
    clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY)
    data = out.read_bytes()
    kinds = [kind.decode() for kind, *_ in fmp4.atoms(data)]
    assert kinds == ["ftyp", "moov", "sidx", "free", *["moof", "mdat", "uuid"] * 2, "uuid"]
    moofs = [at for kind, at, *_ in fmp4.atoms(data) if kind == b"moof"]
    assert all(at % 4096 == 0 for at in moofs)  # so that file systems can share the blocks
    heads = [fmp4.parse_head(data[at:]) for at in moofs]
    assert [(head.sequence, head.decode_ticks) for head in heads] == [(1, 0), (2, 90_000)]


def test_fragments_of_a_clip_still_have_their_own_crc_and_hash(ring, out):
    ring.add(noise(seconds=2))
    clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY)
    data = out.read_bytes()
    for (kind, at, *_), piece in zip((a for a in fmp4.atoms(data) if a[0] == b"moof"), ring.pieces, strict=True):
        assert kind == b"moof"
        _, record = fmp4.check_fragment(data[at:])
        assert record == piece.record
        assert fmp4.hash_of(data[at:], hashlib.sha256()) == piece.record.hash


def test_the_index_leads_to_every_fragment(ring, out):
    ring.add(noise(seconds=3))
    ring.new_run(after_s=7)
    ring.add(noise(seconds=1))
    clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY)
    data = out.read_bytes()
    (start, size), *_ = [(at, size) for kind, at, size, _ in fmp4.atoms(data) if kind == b"sidx"]
    first, _, count = struct.unpack_from(">QHH", data, start + 28)
    place, moofs, seconds = start + size + first, [], []
    for number in range(count):
        length, ticks, sap = struct.unpack_from(">III", data, start + 40 + 12 * number)
        moofs.append(data[place + 4 : place + 8])
        seconds.append(ticks / 90_000)
        assert sap == 0x9000_0000
        place += length
    assert moofs == [b"moof"] * 4 and seconds == [1, 1, 8, 1]


def test_an_index_of_a_very_long_clip_has_several_fragments_in_each_entry(ring):
    ring.add(noise(seconds=1))
    pieces = ring.pieces * 70_000
    atom = clip_plan.index_atom(pieces, [90_000 * number for number in range(len(pieces))], 0)
    (count,) = struct.unpack_from(">H", atom, 38)
    entries = [struct.unpack_from(">III", atom, 40 + 12 * number) for number in range(count)]
    assert count == 35_000 and len(atom) == 40 + 12 * count
    assert sum(size for size, _, _ in entries) == 70_000 * pieces[0].position.size_bytes
    assert sum(ticks for _, ticks, _ in entries) == 70_000 * 90_000


def test_the_manifest_tells_what_was_asked_for_and_what_was_cut_away(ring, out):
    ring.add(noise(seconds=5))
    clips.cut_pieces(
        ring.path, ring.pieces[1:3], out, IDENTITY, requested=(at(1.5), at(2.5)), before=True, after=True, cut_by="Ibu Ratna, operator"
    )  # fmt: skip
    says = says_of(out)
    assert says["requested"] == {"from": "2025-06-15T15:06:41.500000000Z", "to": "2025-06-15T15:06:42.500000000Z"}
    assert says["contained"] == {
        "from": "2025-06-15T15:06:41.000000000Z", "to": "2025-06-15T15:06:43.000000000Z", "clock": "synced", "error_ns": 20_000_000,
    }  # fmt: skip
    assert says["in_ring"] == {"before": True, "after": True}
    assert says["chain"]["previous_hash"] == ring.pieces[0].record.hash.hex()
    assert says["cut"]["by"] == "Ibu Ratna, operator"
    assert is_genuine(out)


def test_a_clip_that_exists_is_not_replaced_unless_told(ring, out):
    ring.add(noise(seconds=2))
    out.write_bytes(b"precious")
    with pytest.raises(clips.ClipFailed, match="is there already"):
        clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY)
    assert out.read_bytes() == b"precious"
    clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY, replace=True)
    assert is_genuine(out) and [path.name for path in out.parent.iterdir()] == ["clip.mp4"]


def test_a_clip_that_appears_meanwhile_is_not_replaced(ring, out):
    ring.add(noise(seconds=2))
    with pytest.raises(clips.ClipFailed, match="is there already"):
        clips.cut_pieces(
            ring.path, ring.pieces, out, IDENTITY, progress=lambda done, total: out.write_bytes(b"precious")
        )
    assert out.read_bytes() == b"precious" and [path.name for path in out.parent.iterdir()] == ["clip.mp4"]


def test_progress_is_told_up_to_the_end(ring, out, monkeypatch):
    monkeypatch.setattr("nvr.clip_file.CHUNK_BYTES", 10_000)
    ring.add(noise(seconds=4))
    told = []
    clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY, progress=lambda done, total: told.append((done, total)))
    total = sum(piece.position.size_bytes for piece in ring.pieces)
    assert len(told) > 3 and told[-1] == (total, total) and told == sorted(told)
    assert is_genuine(out)


def test_a_segment_that_is_used_again_while_it_is_copied_is_noticed(ring, out):
    """The writer changes the header first, then the media: whatever of it was copied, the lap tells."""
    ring.add(noise(seconds=4))
    with pytest.raises(clips.Recycled) as failed:
        clips.cut_pieces(
            ring.path, ring.pieces, out, IDENTITY, progress=lambda done, total: ring.reuse_segment(0, lap=2)
        )
    assert "was recycled while" in str(failed.value) and failed.value.hint
    assert not list(out.parent.iterdir())


def test_a_segment_that_was_used_again_before_the_cut_is_noticed(ring, out):
    ring.add(noise(seconds=4))
    ring.reuse_segment(0, lap=2)
    with pytest.raises(clips.Recycled):
        clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY)
    assert not list(out.parent.iterdir())


def test_an_overwritten_fragment_is_noticed_even_if_the_lap_did_not_tell(ring, out):
    ring.add(noise(seconds=4))
    piece = ring.pieces[2]
    with open(ring.path / "000000.mp4", "r+b") as file:
        file.seek(piece.position.offset + piece.position.size_bytes - 4096)
        file.write(bytes(4096))
    with pytest.raises(clips.Recycled):
        clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["copy_file_range", "pwrite", "fsync"])
def test_a_failing_disk_leaves_nothing_of_the_clip(ring, out, monkeypatch, call, number):
    ring.add(noise(seconds=4))

    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(clips.ClipFailed) as failed:
        clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY)
    assert os.strerror(number) in str(failed.value) and failed.value.hint
    assert not list(out.parent.iterdir())


def test_an_interrupted_cut_leaves_nothing(ring, out):
    ring.add(noise(seconds=4))

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY, progress=interrupt)
    assert not list(out.parent.iterdir())


def test_a_missing_directory_is_an_error(ring, tmp_path):
    ring.add(noise(seconds=1))
    with pytest.raises(clips.ClipFailed):
        clips.cut_pieces(ring.path, ring.pieces, tmp_path / "nowhere" / "clip.mp4", IDENTITY)


@pytest.mark.parametrize(
    ("lacking", "way"),
    [([], "copy_file_range"), (["copy_file_range"], "sendfile"), (["copy_file_range", "sendfile"], "read and write")],
)
@pytest.mark.parametrize("how", ["raises", "returns 0"])
def test_file_systems_that_cannot_copy_inside_the_kernel_are_served_too(ring, out, monkeypatch, lacking, way, how):
    ring.add(noise(seconds=4))

    def refuse(*arguments):
        if how == "returns 0":
            return 0
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    for call in lacking:
        monkeypatch.setattr(os, call, refuse)
    assert clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY).copied_by == way
    assert is_genuine(out)


def test_other_file_systems_really_work(ring, out):
    """Ring on the disk, clip in memory: two file systems."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no /dev/shm")
    ring.add(noise(seconds=4))
    path = Path(f"/dev/shm/nvr-test-{os.getpid()}.mp4")
    try:
        clips.cut_pieces(ring.path, ring.pieces, path, IDENTITY)
        assert is_genuine(path)
    finally:
        path.unlink(missing_ok=True)


def test_other_parameter_sets_inside_the_span_are_refused_with_the_time(ring, out):
    ring.add(noise(seconds=2))
    ring.new_run(after_s=3)
    ring.new_segment(SMALL_INIT.replace(bytes.fromhex("6742c00b"), bytes.fromhex("6742c00c")))
    ring.add(noise(seconds=2))
    with pytest.raises(clips.PicturesChange) as failed:
        clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY)
    assert failed.value.changes_ns == (at(5),)
    assert "2025-06-15T15:06:45" in str(failed.value)
    assert not list(out.parent.iterdir())


def test_damaged_footage_without_hashes_is_found_when_the_clip_is_cut(tmp_path, out):
    ring = ClipRing(tmp_path / "ring", box_id=IDENTITY.box_id, evidence=False)
    ring.add(noise(seconds=2))
    with open(ring.path / "000000.mp4", "r+b") as file:
        file.seek(ring.pieces[1].position.offset + 1500)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes((byte[0] ^ 1,)))
    with pytest.raises(clips.ClipFailed, match="CRC-32C"):
        clips.cut_pieces(ring.path, ring.pieces, out, IDENTITY)


# -- players -------------------------------------------------------------------------------------------


def encoded(*, seconds: int = 3, b_frames: int = 0) -> tuple[ParameterSets, list[list[Picture]]]:
    """Real pictures: parameter sets, and fragments of one second."""
    av = pytest.importorskip("av")
    import numpy as np

    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt, codec.framerate, codec.time_base = (
        160,
        120,
        "yuv420p",
        10,
        Fraction(1, 10),
    )
    codec.options = {
        "g": "10",
        "bf": str(b_frames),
        "sc_threshold": "0",
        "forced-idr": "1",
        "x264-params": "repeat-headers=0",
    }
    codec.flags |= 1 << 22  # global header: parameter sets apart
    packets = []
    for number in range(seconds * 10):
        picture = np.full((180, 160), 128, np.uint8)
        picture[:120] = (np.arange(160) + 7 * number) % 200
        frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
        frame.pts = number
        packets += codec.encode(frame)
    packets += codec.encode(None)
    extradata = [unit for unit in bytes(codec.extradata).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    sets = ParameterSets(tuple(u for u in extradata if u[0] & 31 == 7), tuple(u for u in extradata if u[0] & 31 == 8))
    fragments: list[list[Picture]] = []
    for packet in packets:
        units = [unit for unit in bytes(packet).replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
        data = b"".join(struct.pack(">I", len(unit)) + unit for unit in units)
        if packet.is_keyframe:
            fragments.append([])
        fragments[-1].append(Picture(data, packet.is_keyframe, 9000, (packet.pts - packet.dts) * 9000))
    return sets, fragments


def real_clip(ring: ClipRing, out: Path, *, b_frames: int = 0) -> clips.ClipReport:
    """Two runs of three seconds, 10 s apart, without the first and the last fragment."""
    sets, fragments = encoded(b_frames=b_frames)
    ring.init = fmp4.init_segment(sets, 160, 120)
    ring.add(fragments)
    ring.new_run(after_s=10)
    ring.add(fragments)
    return clips.cut_pieces(ring.path, ring.pieces[1:-1], out, IDENTITY)


@pytest.mark.parametrize("b_frames", [0, 2])
def test_pyav_decodes_every_picture_of_a_clip(ring, out, b_frames):
    av = pytest.importorskip("av")
    report = real_clip(ring, out, b_frames=b_frames)
    with av.open(str(out)) as container:
        frames = list(container.decode(video=0))
        assert container.duration / 1e6 == pytest.approx(14, abs=0.01)
    assert len(frames) == report.pictures == 40
    times = [frame.time for frame in frames]
    assert times == sorted(times)
    assert times[20] - times[19] == pytest.approx(10.1, abs=0.001)  # the gap stays a gap


def test_pyav_seeks_in_a_clip(ring, out):
    av = pytest.importorskip("av")
    real_clip(ring, out)
    with av.open(str(out)) as container:
        container.seek(13_000_000)
        assert next(container.decode(video=0)).time == pytest.approx(13.0, abs=0.001)


def test_ffprobe_finds_no_fault_in_a_clip(ring, out):
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    real_clip(ring, out)
    command = [
        "ffprobe",
        "-v",
        "warning",
        "-count_frames",
        "-show_entries",
        "stream=nb_read_frames,width,height:format=duration",
        "-of",
        "json",
    ]
    done = subprocess.run([*command, str(out)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["streams"] == [{"width": 160, "height": 120, "nb_read_frames": "40"}]
    assert float(found["format"]["duration"]) == pytest.approx(14, abs=0.01)
