"""An image file as a stream: raw, xz or zstd, with its block map and its SHA-256 beside it. zstandard is imported only here.

box.img.zst     the image            box.img.bmap (or box.img.zst.bmap)   which blocks hold data
                                     box.img.zst.sha256                   what the file must be
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvr.errors import NvrError
from tools.nvrctl import blockmap
from tools.nvrctl.blockmap import BlockMap
from tools.nvrctl.partitions import HEAD_BYTES

READ_BYTES = 1 << 20
_PACKED = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\x00": "xz"}
_OTHERS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"PK\x03\x04": "zip"}


class ImageFaulty(NvrError):
    """The image is not what it should be; no card that got it may look whole."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    path: Path
    packing: str  # "", "zstd", "xz"
    file_bytes: int
    size_bytes: int  # unpacked
    map: BlockMap
    has_map: bool
    sha256: str  # of the file as it lies there, lower-case hex; "" where nobody says

    @property
    def name(self) -> str:
        return self.path.name


def look_at(path: Path) -> ImageFile:
    """What an image file is. Raises ImageFaulty, BlockMapFaulty; reads it once where nothing says how large it gets."""
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
            file_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ImageFaulty(
            f"cannot read the image {path}: {error.strerror}", hint="Check its name and its permissions."
        ) from error
    packing = next((kind for start, kind in _PACKED.items() if magic.startswith(start)), "")
    other = next((kind for start, kind in _OTHERS.items() if magic.startswith(start)), "")
    if other:
        raise ImageFaulty(f"{path} is packed with {other}", hint="Images are raw, .xz or .zst: unpack it first.")
    found = _block_map(path)
    if not packing:
        size_bytes = file_bytes
    elif found is not None:
        size_bytes = found.image_bytes
    else:
        size_bytes = _unpacked_bytes(path, packing)
    if found is not None and found.image_bytes != size_bytes:
        raise ImageFaulty(
            f"{path} has {size_bytes} bytes, its block map is for {found.image_bytes}",
            hint="They do not belong together: fetch or build both again.",
        )
    if size_bytes < 1 << 20 or size_bytes % 512:
        raise ImageFaulty(
            f"{path} is no disk image: {size_bytes} bytes",
            hint="A disk image has whole sectors of 512 bytes, and at least a MB.",
        )
    return ImageFile(
        path, packing, file_bytes, size_bytes, found or blockmap.whole(size_bytes), found is not None, _sha256_of(path)
    )


def files_of(path: Path) -> list[Path]:
    """The image, and what may lie beside it and speak of it."""
    return [path, *_block_map_paths(path), path.with_name(path.name + ".sha256"), path.with_name("SHA256SUMS")]


def _block_map_paths(path: Path) -> list[Path]:
    unpacked = re.sub(r"\.(zst|xz)$", "", path.name)
    return [path.with_name(f"{name}.bmap") for name in (path.name, unpacked, re.sub(r"\.(img|raw)$", "", unpacked))]


def _block_map(path: Path) -> BlockMap | None:
    for candidate in _block_map_paths(path):
        if candidate.exists():
            with open(candidate, "rb") as file:
                return blockmap.parsed(file.read(blockmap.FILE_BYTES + 1), str(candidate))
    return None


def _sha256_of(path: Path) -> str:
    beside = path.with_name(path.name + ".sha256")
    if beside.exists():
        with open(beside, "rb") as file:
            match = re.match(rb"([0-9a-fA-F]{64})\b", file.read(4096))
        if match is None:
            raise ImageFaulty(f"{beside} holds no SHA-256", hint="sha256sum writes such a file.")
        return match[1].decode().lower()
    try:
        with open(path.with_name("SHA256SUMS"), "rb") as file:
            match = re.search(
                rb"^([0-9a-fA-F]{64}) [ *]" + re.escape(path.name.encode()) + rb"\r?$", file.read(1 << 20), re.MULTILINE
            )
    except FileNotFoundError:
        return ""
    return match[1].decode().lower() if match else ""


def _unpacked_bytes(path: Path, packing: str) -> int:
    if packing == "zstd":
        import zstandard

        with open(path, "rb") as file:
            said = zstandard.frame_content_size(file.read(18))
        if said > 0:
            return int(said)
    scratch = memoryview(bytearray(READ_BYTES))
    with open(path, "rb") as file:
        stream = _unpacker(file, packing)
        total = 0
        try:
            while size_bytes := stream.readinto(scratch):
                total += size_bytes
        except _unpack_errors() as error:
            raise _damaged(path, error) from error
    return total


def _unpacker(file: Any, packing: str) -> Any:
    """Something with readinto()."""
    if packing == "zstd":
        import zstandard

        # A window that needs more memory than this is not one of our images.
        return zstandard.ZstdDecompressor(max_window_size=1 << 28).stream_reader(file, read_across_frames=True)
    return lzma.LZMAFile(file) if packing == "xz" else file


def _unpack_errors() -> tuple[type[Exception], ...]:
    import zstandard

    return (lzma.LZMAError, zstandard.ZstdError, EOFError)


def _damaged(path: Path, error: object) -> ImageFaulty:
    return ImageFaulty(f"{path} is damaged: {error}", hint="Fetch or build it again.")


class _Hashing:
    """A file whose bytes are hashed on their way."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def read(self, size_bytes: int = -1) -> bytes:
        data = self._file.read(size_bytes)
        self.sha256.update(data)
        return bytes(data)


class Stream:
    """The unpacked image from its beginning. Not for several threads."""

    def __init__(self, image: ImageFile, file: Any) -> None:
        self._image, self._file = image, file
        self._hashing = _Hashing(file) if image.packing and image.sha256 else None
        # A raw image with a block map is read where it has data only; the map's own checksums then vouch for it.
        self._raw_sha256 = hashlib.sha256() if not image.packing and image.sha256 and not image.has_map else None
        self._unpacked = _unpacker(self._hashing or file, image.packing) if image.packing else file
        self._scratch: memoryview | None = None
        self.position = 0

    def read_into(self, view: memoryview) -> None:
        """Fill all of `view` with what comes next. Raises ImageFaulty when the image ends before."""
        done = 0
        try:
            while done < len(view):
                size_bytes = self._unpacked.readinto(view[done:])
                if not size_bytes:
                    raise _damaged(
                        self._image.path, f"it ends after {self.position + done} of {self._image.size_bytes} bytes"
                    )
                done += size_bytes
        except _unpack_errors() as error:
            raise _damaged(self._image.path, error) from error
        self.position += done
        if self._raw_sha256 is not None:
            self._raw_sha256.update(view)

    def skip_to(self, offset: int) -> None:
        if not self._image.packing and self._raw_sha256 is None:
            self._file.seek(offset)
            self.position = offset
            return
        if self._scratch is None:
            self._scratch = memoryview(bytearray(READ_BYTES))
        while self.position < offset:
            self.read_into(self._scratch[: offset - self.position])

    def finish(self) -> None:
        """Read to the end and compare with the SHA-256 that came with the file. Raises ImageFaulty."""
        if self._hashing is None and self._raw_sha256 is None:
            return
        self.skip_to(self._image.size_bytes)
        if self._hashing is not None:
            while self._hashing.read(READ_BYTES):
                pass
        found = (self._hashing.sha256 if self._hashing is not None else self._raw_sha256).hexdigest()  # type: ignore[union-attr]
        if found != self._image.sha256:
            raise ImageFaulty(
                f"{self._image.path} is not the file its .sha256 was made for: {found[:16]}..., not {self._image.sha256[:16]}...",
                hint="Fetch or build it again.",
            )


def compared_with(image: ImageFile) -> tuple[str, ...]:
    """What reading all of an image compares it with."""
    has_sha256 = image.sha256 and (image.packing or not image.has_map)
    return tuple(name for name, is_there in (("its block map", image.has_map), ("its SHA-256", has_sha256)) if is_there)


@contextlib.contextmanager
def opened(image: ImageFile) -> Iterator[Stream]:
    with open(image.path, "rb", buffering=READ_BYTES if image.packing else 0) as file:
        if not image.packing:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        yield Stream(image, file)


def head(image: ImageFile) -> bytes:
    """The first MB, where the partition table is. Raises ImageFaulty."""
    found = memoryview(bytearray(min(HEAD_BYTES, image.size_bytes)))
    with opened(image) as stream:
        stream.read_into(found)
    return bytes(found)
