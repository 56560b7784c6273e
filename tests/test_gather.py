"""Gathers, in Python and in C: every test runs with both."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import subprocess
import sys
import threading

import crc32c
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nvr.gather import PyGather

try:
    from nvr._fast import Gather as FastGather
except ImportError:
    FastGather = None  # type: ignore[assignment,misc]


@pytest.fixture(params=["python", "c"])
def make(request):
    if request.param == "c" and FastGather is None:
        pytest.skip("nvr._fast is not built: no compiler here")
    return PyGather if request.param == "python" else FastGather


def gather_of(make, *parts: bytes):
    gather = make()
    for part in parts:
        gather.append(memoryview(part))
    return gather


def joined(gather) -> bytes:
    return b"".join(bytes(view) for view in gather.views())


def test_pieces_are_kept_in_order_and_not_copied(make):
    buffer = bytearray(b"0123456789")
    view = memoryview(buffer)
    gather = make()
    gather.append(view[2:4])
    gather.append(view[7:])
    assert [bytes(piece) for piece in gather.views()] == [b"23", b"789"]
    assert all(piece.obj is buffer for piece in gather.views())
    assert gather.size_bytes == 5
    buffer[2] = ord("X")
    assert joined(gather) == b"X3789"


@pytest.mark.parametrize("size_bytes", range(7))
def test_a_gather_is_cut_in_two_anywhere_without_a_copy(make, size_bytes):
    owner = bytearray(b"abcdef")
    gather = make()
    for start, end in ((0, 2), (2, 5), (5, 6)):
        gather.append(memoryview(owner)[start:end])
    head = gather.split(size_bytes)
    assert (joined(head), joined(gather)) == (bytes(owner[:size_bytes]), bytes(owner[size_bytes:]))
    assert (head.size_bytes, gather.size_bytes) == (size_bytes, 6 - size_bytes)
    assert all(view.obj is owner for view in (*head.views(), *gather.views()))
    head.extend(gather)
    assert joined(head) == b"abcdef" and head.crc32c() == crc32c.crc32c(owner)


def test_a_gather_is_not_cut_where_it_does_not_reach(make):
    gather = gather_of(make, b"abc")
    for size_bytes in (-1, 4):
        with pytest.raises(ValueError):
            gather.split(size_bytes)
    assert joined(gather) == b"abc"


def test_extending_leaves_the_other_as_it_is(make):
    first, second = gather_of(make, b"ab"), gather_of(make, b"cd", b"e")
    first.extend(second)
    assert (joined(first), joined(second)) == (b"abcde", b"cde")
    first.extend(first)
    assert joined(first) == b"abcdeabcde"
    first.extend(make())
    assert first.size_bytes == 10


def test_either_kind_takes_the_other():
    if FastGather is None:
        pytest.skip("nvr._fast is not built: no compiler here")
    for one, other in [(PyGather, FastGather), (FastGather, PyGather)]:
        gather = gather_of(one, b"ab")
        gather.extend(gather_of(other, b"cd", b"ef"))
        assert joined(gather) == b"abcdef"
        assert gather.size_bytes == 6


def test_empty_views_leave_no_piece(make):
    gather = gather_of(make, b"", b"a", b"")
    assert len(gather.views()) == 1
    assert make().views() == ()
    assert make().crc32c() == 0


@pytest.mark.parametrize(
    "sizes", [[0], [1], [7, 9], [448], [1343, 1344, 1345], [1400] * 5, [100_000], [3, 4096, 1, 5000]]
)
def test_the_crc_is_that_of_the_standard_whatever_the_pieces(make, sizes):
    data = os.urandom(sum(sizes))
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    assert gather_of(make, *parts).crc32c() == crc32c.crc32c(data)
    assert gather_of(make, *parts).crc32c(0x12345678) == crc32c.crc32c(data, 0x12345678)


def test_the_crc_of_rfc_3720(make):
    """B.4: 32 bytes of zeros, of ones, rising, falling."""
    assert gather_of(make, bytes(32)).crc32c() == 0x8A9136AA
    assert gather_of(make, b"\xff" * 32).crc32c() == 0x62A8AB43
    assert gather_of(make, bytes(range(32))).crc32c() == 0x46DD794E
    assert gather_of(make, bytes(range(31, -1, -1))).crc32c() == 0x113FDB5C


def test_a_hash_sees_every_byte_in_order(make):
    gather = gather_of(make, b"abc", bytes(5000), b"z")
    hasher = hashlib.sha256()
    gather.update(hasher)
    assert hasher.digest() == hashlib.sha256(b"abc" + bytes(5000) + b"z").digest()


def test_writing_takes_from_the_front_and_leaves_the_rest(make, tmp_path):
    buffer = bytearray(b"0123456789")
    gather = make()
    gather.append(memoryview(buffer)[:6])
    gather.append(memoryview(buffer)[6:])
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    gather.write(fd, 100, 4)
    assert (os.pread(fd, 100, 100), gather.size_bytes, joined(gather)) == (b"0123", 6, b"456789")
    gather.write(fd, 104, 0)
    gather.write(fd, 104, 6)
    assert os.pread(fd, 100, 100) == b"0123456789"
    assert (gather.size_bytes, gather.views()) == (0, ())
    gather.append(memoryview(b"more"))
    assert joined(gather) == b"more"
    os.close(fd)


def test_more_pieces_than_one_call_takes_are_written(make, tmp_path):
    data = os.urandom(10_000)
    gather = gather_of(make, *(data[at : at + 2] for at in range(0, len(data), 2)))
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    gather.write(fd, 0, 9_999)
    assert os.pread(fd, 20_000, 0) == data[:-1]
    assert joined(gather) == data[-1:]
    os.close(fd)


def test_more_than_there_is_cannot_be_written(make, tmp_path):
    gather = gather_of(make, b"abc")
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    with pytest.raises(ValueError):
        gather.write(fd, 0, 4)
    assert joined(gather) == b"abc"
    os.close(fd)


def test_after_an_error_everything_unwritten_is_still_there(make, tmp_path):
    gather = gather_of(make, b"abc", b"def")
    (tmp_path / "f").write_bytes(b"")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    with pytest.raises(OSError) as error:
        gather.write(fd, 0, 6)
    assert error.value.errno == errno.EBADF
    assert joined(gather) == b"abcdef"
    os.close(fd)


_PART_FULL = """
import os, resource, signal, sys
from nvr.gather import Gather
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5, resource.RLIM_INFINITY))
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
gather = Gather()
for part in (b"abc", b"def", b"ghi"):
    gather.append(memoryview(part))
try:
    gather.write(fd, 0, 9)
except OSError as error:
    print(type(gather).__name__, error.errno, b"".join(map(bytes, gather.views())).decode(), gather.size_bytes)
"""


@pytest.mark.parametrize("pure", ["0", "1"])
def test_a_short_write_is_continued_until_the_error_says_why(pure, tmp_path):
    """A file that may not grow beyond 5 bytes takes 5 of 9 and then fails."""
    result = subprocess.run(
        [sys.executable, "-c", _PART_FULL, str(tmp_path / "f")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "NVR_PURE": pure},
    )
    kind, number, rest, size = result.stdout.split()
    assert (int(number), rest, int(size)) == (errno.EFBIG, "fghi", 4)
    assert (tmp_path / "f").read_bytes() == b"abcde"
    assert kind == "PyGather" or pure == "0"


def test_memory_is_let_go_as_it_is_written(make, tmp_path):
    first, second = bytearray(b"abc"), bytearray(b"def")
    gather = make()
    gather.append(memoryview(first))
    gather.append(memoryview(second))
    with pytest.raises(BufferError):
        first.extend(b"x")
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    gather.write(fd, 0, 4)
    gc.collect()
    first.extend(b"x")  # free
    with pytest.raises(BufferError):
        second.extend(b"x")
    del gather
    gc.collect()
    second.extend(b"x")
    os.close(fd)


def test_views_outlive_their_gather(make):
    gather = gather_of(make, bytes(bytearray(b"abc")))
    views = gather.views()
    del gather
    gc.collect()
    assert bytes(views[0]) == b"abc"


def test_where_nothing_can_be_placed_the_system_says_so(make):
    read_fd, write_fd = os.pipe()
    gather = gather_of(make, b"abc")
    with pytest.raises(OSError) as error:
        gather.write(write_fd, 0, 3)
    assert error.value.errno == errno.ESPIPE
    os.close(read_fd)
    os.close(write_fd)


def test_what_is_being_read_cannot_be_changed():
    if FastGather is None:
        pytest.skip("nvr._fast is not built: no compiler here")
    gather = gather_of(FastGather, b"abc")

    class Meddler:
        def update(self, data):
            gather.append(memoryview(b"x"))

    with pytest.raises(RuntimeError, match="in use"):
        gather.update(Meddler())
    gather.append(memoryview(b"d"))
    assert joined(gather) == b"abcd"


def test_a_hash_that_fails_is_reported_and_harms_nothing(make):
    class Broken:
        def update(self, data):
            raise ZeroDivisionError

    gather = gather_of(make, b"abc")
    with pytest.raises(ZeroDivisionError):
        gather.update(Broken())
    assert joined(gather) == b"abc"


def test_only_bytes_are_taken():
    if FastGather is None:
        pytest.skip("nvr._fast is not built: no compiler here")
    gather = FastGather()
    for wrong in (5, "text", memoryview(b"abcdefgh").cast("I"), memoryview(b"abcd")[::2]):
        with pytest.raises((TypeError, BufferError)):
            gather.append(wrong)
    assert gather.size_bytes == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=50), max_size=30), cuts=st.lists(st.integers(0, 300), max_size=6))
def test_any_sequence_of_writes_leaves_the_file_as_if_written_at_once(make, tmp_path, parts, cuts):
    gather = gather_of(make, *parts)
    path = tmp_path / "f"
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    offset = 0
    for cut in [*cuts, 1 << 30]:
        size = min(cut, gather.size_bytes)
        gather.write(fd, offset, size)
        offset += size
    os.close(fd)
    assert path.read_bytes() == b"".join(parts)


def test_threads_may_use_gathers_of_their_own(make, tmp_path):
    def work(number: int) -> None:
        fd = os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT)
        for turn in range(50):
            gather = gather_of(make, *(bytes((number,)) * 100 for _ in range(20)))
            gather.write(fd, turn * 2000, 2000)
        os.close(fd)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert (tmp_path / str(number)).read_bytes() == bytes((number,)) * 100_000
