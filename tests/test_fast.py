"""The C walker does what the Python one does, byte by byte, on real streams, broken streams and noise."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtsp.streams import (
    AUD,
    IDR,
    LATER_SLICE,
    OTHER_SPS,
    PPS,
    PROTOCOL,
    SEI,
    SLICE,
    SPS,
    flat,
    fu_a,
    interleaved,
    keyframe_stream,
    rtp,
    stap_a,
)

from nvr.rtsp.rtp import PyWalker

ROOT = Path(__file__).resolve().parents[1]
CORPUS = sorted((Path(__file__).parent / "rtsp" / "corpus").glob("*.rtp"))

try:
    from nvr._fast import Walker as FastWalker
except ImportError:
    FastWalker = None  # type: ignore[assignment,misc]

needs_fast = pytest.mark.skipif(FastWalker is None, reason="nvr._fast is not built: no compiler here")

COUNTERS = (
    "packets", "lost", "late", "jumps", "restarts", "malformed", "refused", "unended", "strays", "damaged", "other_payload",
    "other_packets", "other_bytes", "ssrc", "base_seq", "base_packets", "base_lost",
)  # fmt: skip


def outcome(
    make,
    data: bytes,
    cuts: list[int],
    *,
    payload_type: int = 96,
    channel: int = 0,
    by_packet: bool = False,
    joins: bool = False,
):
    """Everything that can be seen of a walker that got `data` in pieces; what is no packet is skipped byte by byte."""
    walker = make(payload_type, channel, channel + 1, joins)
    seen: list[object] = []
    carry, at = b"", 0
    for number, cut in enumerate([*cuts, len(data)]):
        piece = carry + data[at : max(cut, at)]
        at = max(cut, at)
        buffer = bytearray(piece) + bytearray(16)
        place = 0
        if by_packet:
            walker.packet(buffer, 0, len(piece), number)
            piece = b""
        while True:
            place = walker.walk(buffer, place, len(piece), number)
            if place >= len(piece) or piece[place] == 0x24:
                break
            place += 1
        carry = piece[place:]
        for payload, *rest in walker.take():
            seen.append(([bytes(view) for view in payload.views()], payload.size_bytes, payload.crc32c(), rest))
        seen.append((place, walker.take_control(), [getattr(walker, name) for name in COUNTERS]))
    walker.flush()
    seen += [(b"".join(map(bytes, payload.views())), rest) for payload, *rest in walker.take()]
    seen.append([getattr(walker, name) for name in COUNTERS])
    return seen


def assert_same(data: bytes, cuts: list[int], **more) -> None:
    assert outcome(FastWalker, data, cuts, **more) == outcome(PyWalker, data, cuts, **more)
    assert outcome(FastWalker, data, cuts, joins=True, **more) == outcome(PyWalker, data, cuts, joins=True, **more)


def cut_points(size: int, noise: random.Random, count: int) -> list[int]:
    return sorted(noise.randrange(size + 1) for _ in range(count))


@needs_fast
@pytest.mark.parametrize("size_bytes", [0, 1, 7, 8, 1343, 1344, 1345, 65_535, 65_536, 200_001])
def test_the_crc_of_the_extension_is_that_of_the_package(size_bytes):
    import crc32c

    from nvr import _fast

    data = random.Random(size_bytes).randbytes(size_bytes)
    for value in (0, 1, 0x12345678, 0xFFFFFFFF):
        assert _fast.crc32c(data, value) == _fast.crc32c(memoryview(data), value) == crc32c.crc32c(data, value)
    assert _fast.crc32c(data) == crc32c.crc32c(data)
    with pytest.raises(TypeError):
        _fast.crc32c("text")
    with pytest.raises(BufferError):
        _fast.crc32c(memoryview(bytes(8))[::2])


@needs_fast
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_both_walkers_agree_on_the_corpus(path):
    data = path.read_bytes()
    assert_same(data, [])
    assert_same(data, list(range(1, min(len(data), 3000))))


@needs_fast
def test_both_walkers_agree_on_a_real_stream_and_on_what_damage_makes_of_it():
    path = PROTOCOL / "rtsp-retina" / "bunny_interleaved.rtsp"
    if not path.exists():
        pytest.skip("shared protocol data is not here")
    real = path.read_bytes()[:40_000]
    noise = random.Random(1)
    assert_same(real, cut_points(len(real), noise, 50), payload_type=97, channel=2)
    for _ in range(60):
        data = bytearray(real)
        for _ in range(noise.randrange(1, 40)):
            at = noise.randrange(len(data))
            match noise.randrange(4):
                case 0:
                    data[at] ^= 1 << noise.randrange(8)
                case 1:
                    del data[at : at + noise.randrange(1, 300)]
                case 2:
                    data[at:at] = data[at // 2 : at // 2 + noise.randrange(300)]
                case 3:
                    data[at : at + 4] = noise.randbytes(4)
        assert_same(bytes(data), cut_points(len(data), noise, 20), payload_type=97, channel=2)


@needs_fast
def test_both_walkers_agree_when_packets_are_lost_repeated_and_swapped():
    noise = random.Random(2)
    for _ in range(60):
        packets = flat(keyframe_stream(40, gop=7))
        for _ in range(noise.randrange(12)):
            at = noise.randrange(len(packets) - 1)
            match noise.randrange(4):
                case 0:
                    del packets[at]
                case 1:
                    packets.insert(at, packets[noise.randrange(len(packets))])
                case 2:
                    packets[at], packets[at + 1] = packets[at + 1], packets[at]
                case 3:  # a bit of one header
                    packet = bytearray(packets[at])
                    packet[4 + noise.randrange(14)] ^= 1 << noise.randrange(8)
                    packets[at] = bytes(packet)
        data = b"".join(packets)
        assert_same(data, cut_points(len(data), noise, 10))


_PAYLOADS = st.sampled_from(
    [
        SPS,
        PPS,
        OTHER_SPS,
        IDR,
        SLICE,
        LATER_SLICE,
        SEI,
        AUD,
        b"",
        b"\x0c\xff",
        stap_a([SPS, PPS, IDR]),
        stap_a([AUD, SEI, SLICE]),
        stap_a([b"", SLICE]),
    ]
    + fu_a(IDR, 20)
    + fu_a(SLICE, 15)
    + fu_a(SPS, 7)
    + [bytes((kind,)) + b"abc" for kind in (0, 24, 25, 26, 27, 29, 30, 31)]
    + [b"\x18\xff\xff", b"\x7c", b"\x7c\x85", b"\x7c\xc5x", b"\x7c\x9c1"]
)
_PACKETS = st.builds(
    lambda payload, step, ts, marker, more, channel: (payload, step, ts, marker, more, channel),
    st.one_of(_PAYLOADS, st.binary(max_size=40)),
    st.sampled_from([1, 1, 1, 1, 1, 1, 0, 2, 5, 3500, 40_000, -1, -200]),
    st.sampled_from([0, 0, 0, 3600, 3600, -3600]),
    st.booleans(),
    st.sampled_from(
        [
            {},
            {},
            {},
            {},
            {"padding": 3},
            {"csrc": 2},
            {"extension": b"1234"},
            {"version": 1},
            {"payload_type": 97},
            {"ssrc": 8},
        ]
    ),
    st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2]),
)


@needs_fast
@settings(max_examples=400)
@given(st.lists(_PACKETS, max_size=60), st.lists(st.integers(0, 4000), max_size=6).map(sorted))
def test_both_walkers_agree_on_any_packets(packets, cuts):
    data, seq, ts = b"", 65_500, 0xFFFFF000
    for payload, step, ts_step, marker, more, channel in packets:
        seq, ts = seq + step, ts + ts_step
        data += interleaved(rtp(payload, seq, ts, marker=marker, **more), channel)
    assert_same(data, cuts)


@needs_fast
@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.binary(max_size=30).map(lambda tail: b"$\0\0" + bytes((len(tail) + 2,)) + b"\x80\x60" + tail),
        ),
        max_size=12,
    )
)
def test_both_walkers_agree_on_noise(pieces):
    assert_same(b"".join(pieces), [20, 50])


@needs_fast
@settings(max_examples=300)
@given(st.lists(_PACKETS, max_size=40))
def test_both_walkers_agree_on_datagrams(packets):
    data, cuts, seq, ts = b"", [], 5, 0
    for payload, step, ts_step, marker, more, _ in packets:
        seq, ts = seq + step, ts + ts_step
        data += rtp(payload, seq, ts, marker=marker, **more)
        cuts.append(len(data))
    assert_same(data, cuts, by_packet=True)


def in_slots(make, packets: list[bytes | None], seqs: list[int], *, one_by_one: bool, joins: bool):
    """What a walker makes of datagrams that lie in slots of 100 bytes; None is a slot in which there is none."""
    walker = make(96, -1, -1, joins)
    buffer = bytearray(10 + 100 * len(packets) + 16)
    sizes = [-1] * len(packets)
    for number, data in enumerate(packets):
        if data is not None:
            sizes[number] = len(data)
            buffer[10 + 100 * number : 10 + 100 * number + min(len(data), 100)] = data[:100]
    seen: list[object] = []
    at, due = 0, seqs[0] if seqs else 0
    while at < len(packets):
        if one_by_one:
            is_due = 12 <= sizes[at] <= 100 and int.from_bytes(buffer[12 + 100 * at : 14 + 100 * at], "big") == due
            taken = int(is_due)
            if is_due:
                walker.packet(buffer, 10 + 100 * at, 10 + 100 * at + sizes[at], 7)
        else:
            taken = walker.datagrams(buffer, 10 + 100 * at, 100, sizes, at, due, 7)
        due = due + taken & 0xFFFF
        at += taken
        if at < len(packets) and not taken:  # its number is another: the next ones are counted from there
            due, at = (
                (int.from_bytes(buffer[12 + 100 * at : 14 + 100 * at], "big"), at)
                if 12 <= sizes[at] <= 100
                else (due, at + 1)
            )
        seen.append(at)
        seen += [
            ([bytes(view) for view in payload.views()], payload.size_bytes, rest) for payload, *rest in walker.take()
        ]
    walker.flush()
    seen += [(b"".join(map(bytes, payload.views())), rest) for payload, *rest in walker.take()]
    seen.append([getattr(walker, name) for name in COUNTERS])
    return seen if not one_by_one else [each for each in seen if not isinstance(each, int)]


@needs_fast
@pytest.mark.parametrize("joins", [False, True])
@settings(max_examples=300)
@given(st.lists(st.tuples(_PACKETS, st.integers(0, 9)), max_size=40), st.integers(0, 0xFFFF))
def test_walkers_take_datagrams_together_as_they_take_each(joins, sent, seq):
    packets: list[bytes | None] = []
    seqs, ts = [], 0
    for (payload, step, ts_step, marker, more, _), what in sent:
        if what == 0:
            packets.append(None)
            continue
        seq, ts = seq + step & 0xFFFF, ts + ts_step
        data = rtp(payload, seq, ts, marker=marker, **more)
        packets.append(data[:11] if what == 1 else data)
        seqs.append(seq)
    fast, python = (in_slots(make, packets, seqs, one_by_one=False, joins=joins) for make in (FastWalker, PyWalker))
    assert fast == python
    each = in_slots(PyWalker, packets, seqs, one_by_one=True, joins=joins)
    assert [event for event in python if not isinstance(event, int)] == each


@pytest.mark.parametrize("make", [PyWalker, pytest.param(FastWalker, marks=needs_fast)])
def test_datagrams_lie_inside_of_what_was_received(make):
    walker, buffer = make(96), bytearray(316)
    packet = rtp(IDR, 5, 1)
    buffer[: len(packet)] = packet
    for start, slot, sizes, first in ((0, 100, [0] * 4, 0), (1, 100, [0] * 3, 0), (-1, 100, [0], 0), (0, 0, [0], 0), (0, 100, [0], -1), (301, 1, [], 0)):  # fmt: skip
        with pytest.raises(ValueError):
            walker.datagrams(buffer, start, slot, sizes, first, 5, 1)
    assert (
        walker.datagrams(buffer, 0, 100, [len(packet), len(packet)], 0, 5, 1) == 1
    )  # the second one has another number
    assert walker.datagrams(buffer, 0, 100, [len(packet)], 0, -1, 1) == 0
    assert walker.datagrams(buffer, 0, 100, [101], 0, 5, 1) == walker.datagrams(buffer, 0, 100, [1], 4, 5, 1) == 0
    assert walker.packets == 1


@needs_fast
def test_both_walkers_agree_when_a_picture_has_too_many_pieces():
    middle = [interleaved(rtp(b"\x7c\x01x", 2 + n, 1)) for n in range(66_000)]
    data = interleaved(rtp(b"\x7c\x81xx", 1, 1)) + b"".join(middle) + interleaved(rtp(IDR, 66_002, 2))
    fast, python = (outcome(make, data, [len(data) // 2]) for make in (FastWalker, PyWalker))
    assert fast == python
    assert fast[-1][COUNTERS.index("damaged")] == 1


def test_nothing_needs_the_extension():
    """NVR_PURE=1 is what an installation without a compiler is like."""
    code = "from nvr.gather import Gather; from nvr.rtsp.rtp import Walker; print(Gather.__name__, Walker.__name__)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "NVR_PURE": "1"},
    )
    assert result.stdout.split() == ["PyGather", "PyWalker"]


def sanitizer_libraries() -> list[str]:
    found = []
    for name in ("libasan.so", "libubsan.so"):
        path = subprocess.run(
            ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=False
        ).stdout.strip()
        if path and Path(path).is_absolute():
            found.append(path)
    return found


@pytest.mark.slow
def test_no_sanitizer_finds_fault_with_the_extension(tmp_path):
    """Built with AddressSanitizer and UndefinedBehaviorSanitizer, the extension passes all the tests above and those of its parts."""
    if shutil.which("gcc") is None or len(sanitizer_libraries()) != 2:
        pytest.skip("no gcc with sanitizers here")
    package = tmp_path / "nvr"
    shutil.copytree(ROOT / "nvr", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    target = package / ("_fast" + sysconfig.get_config_var("EXT_SUFFIX"))
    subprocess.run(
        [
            "gcc",
            "-shared",
            "-fPIC",
            "-g",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Wno-unused-parameter",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            f"-I{sysconfig.get_paths()['include']}",
            *map(str, sorted((package / "fast").glob("*.c"))),
            "-o",
            str(target),
        ],
        check=True,
    )
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-rs",
            "-p",
            "no:cacheprovider",
            "-m",
            "not slow",
            "tests/test_fast.py",
            "tests/test_gather.py",
            "tests/rtsp/test_rtp.py",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        # CPython keeps memory at exit on purpose, so leaks are not asked about here.
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(sanitizer_libraries()),
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
        },
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert "not built" not in result.stdout, "the sanitized extension was not loaded"


@needs_fast
def test_many_datagrams_are_received_at_once_and_who_sent_them_is_looked_at():
    from nvr._fast import receive_datagrams

    with contextlib.ExitStack() as stack:
        ours, camera, stranger = (
            stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(3)
        )
        ours.bind(("127.0.0.1", 0))
        ours.setblocking(False)
        camera.bind(("127.0.0.2", 0))
        stranger.bind(("127.0.0.3", 0))
        hosts = (socket.inet_aton("127.0.0.9"), socket.inet_aton("127.0.0.2"))
        buffer = bytearray(10 + 5 * 100)
        with pytest.raises(BlockingIOError):
            receive_datagrams(ours.fileno(), buffer, 10, 100, hosts)
        for sender, data in (
            (camera, b"a" * 40),
            (stranger, b"b" * 50),
            (camera, b""),
            (camera, b"c" * 101),
            (camera, b"d" * 100),
        ):
            sender.sendto(data, ours.getsockname())
        camera.sendto(b"e", ours.getsockname())
        assert receive_datagrams(ours.fileno(), buffer, 10, 100, hosts) == [40, -1, 0, -2, 100]
        assert buffer[10:50] == b"a" * 40 and buffer[410:] == b"d" * 100
        assert receive_datagrams(ours.fileno(), buffer, 10, 100, hosts) == [1]
        for start in (-1, len(buffer) + 1):
            with pytest.raises(ValueError):
                receive_datagrams(ours.fileno(), buffer, start, 100, hosts)
        assert receive_datagrams(ours.fileno(), buffer, len(buffer) - 5, 100, hosts) == []
