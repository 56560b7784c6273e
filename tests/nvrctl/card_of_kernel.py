"""A card of tests/nvrctl/cards.py behind the kernel: a file in user space (FUSE), for a loop device over it.

    python card_of_kernel.py FILE KIND SIZE_MIB

So a card that lies or drops is a block device, with O_DIRECT, flushes and errors as the kernel gives them, and goes through the whole
of `nvrctl card write`. Speaks the protocol of include/uapi/linux/fuse.h, version 7.31, as far as one regular file at the root of
the file system needs it. A card that is pulled ends this process: the kernel then fails whatever comes.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

from cards import MIB, DroppingCard, LimboCard, MemoryCard, PulledCard

HEADER = struct.Struct("<IIQQIIIHH")
GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = 3, 4, 14, 15, 16, 17, 18, 20, 25, 26
FORGET, INTERRUPT, BATCH_FORGET = 2, 36, 42  # nobody waits for an answer
ENOSYS = 38
MOST_BYTES = 128 << 10
PAST_CACHE = 1  # FOPEN_DIRECT_IO: every read and write comes here

KINDS = {
    "good": lambda size: MemoryCard(size),
    "wraps": lambda size: MemoryCard(size, real_bytes=size // 2),
    "limbo": lambda size: LimboCard(size, real_bytes=size // 2),
    "drops all": lambda size: DroppingCard(size),
    "drops some": lambda size: DroppingCard(size, keeps=0.7),
    "pulled in writing": lambda size: PulledCard(size, after_writes=200),
    "pulled in reading": lambda size: PulledCard(size, after_reads=120),
}


def attributes(size: int) -> bytes:
    times = (0, 0, 0)
    attr = struct.pack("<QQQQQQIIIIIIIIII", 1, size, size // 512, *times, *times, 0o100600, 1, 0, 0, 0, 4096, 0)
    return struct.pack("<QII", 3600, 0, 0) + attr


def answer(card: MemoryCard, opcode: int, body: memoryview) -> bytes:
    if opcode == INIT:
        return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 1 << 5, 12, 9, MOST_BYTES, 1, 0, 0, 0)
    if opcode in (GETATTR, SETATTR):
        return attributes(card.size_bytes)
    if opcode == OPEN:
        return struct.pack("<QII", 0, PAST_CACHE, 0)
    if opcode == READ:
        _, offset, size = struct.unpack_from("<QQI", body)
        data = bytearray(max(0, min(size, card.size_bytes - offset)))
        card.read_into(offset, memoryview(data))
        return bytes(data)
    if opcode == WRITE:
        _, offset, size = struct.unpack_from("<QQI", body)
        card.write(offset, body[40 : 40 + size])
        return struct.pack("<II", size, 0)
    if opcode == STATFS:
        return struct.pack("<QQQQQIIII24x", card.size_bytes // 4096, 0, 0, 1, 0, 4096, 255, 4096, 0)
    if opcode in (RELEASE, FSYNC, FLUSH):
        return b""
    raise NotImplementedError


def serve(path: str, card: MemoryCard) -> None:
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=100000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"card", os.fsencode(path), b"fuse", 0, options) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    print("mounted", flush=True)
    while True:
        try:
            request = memoryview(os.read(fd, MOST_BYTES + 8192))
        except OSError:
            return  # unmounted
        _, opcode, unique, *_ = HEADER.unpack_from(request)
        if opcode in (FORGET, INTERRUPT, BATCH_FORGET):
            continue
        try:
            content, error = answer(card, opcode, request[HEADER.size :]), 0
        except NotImplementedError:
            content, error = b"", ENOSYS
        except OSError:
            os._exit(1)  # pulled
        os.write(fd, struct.pack("<IiQ", 16 + len(content), -error, unique) + content)


if __name__ == "__main__":
    serve(sys.argv[1], KINDS[sys.argv[2]](int(sys.argv[3]) * MIB))
