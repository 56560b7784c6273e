"""Where bytes lie: in a folder (folder.py), or in any S3 store (s3.py). A key is put as a whole, is durable when put() returns, and is never changed.

    objects/TENANT/BOX/SHA256       clips and stills of events, by content
    pieces/UPLOAD/OFFSET-RANDOM     what an upload has so far
    bundles/TENANT/SHA256           updates for boxes

Keys are made by the hub alone, of digits, letters and slashes; nothing that a box says becomes part of a path unchecked.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

from nvr import wire
from nvr.errors import NvrError

READ_BYTES = 256 * 1024
_KEY = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)+")


Trouble = Literal["not mounted", "read only", "full", "failing"]


class BlobsUnusable(NvrError):
    """The store of objects does not take or give bytes."""

    def __init__(self, message: str, *, hint: str = "", trouble: Trouble = "failing") -> None:
        super().__init__(message, hint=hint)
        self.trouble: Trouble = trouble


class BlobGone(NvrError):
    """There is nothing under this key."""


def is_key(text: str) -> bool:
    return _KEY.fullmatch(text) is not None


def object_key(tenant_id: int, box_id: str, digest: str) -> str:
    assert wire.is_sha256(digest)
    return f"objects/{tenant_id}/{box_id}/{digest}"


def bundle_key(tenant_id: int, digest: str) -> str:
    assert wire.is_sha256(digest)
    return f"bundles/{tenant_id}/{digest}"


def piece_key(upload_id: str, offset_bytes: int) -> str:
    """Two answers to the same request never share one: only that which is in the table counts."""
    return f"pieces/{upload_id}/{offset_bytes:015d}-{secrets.token_hex(4)}"


def byte_range(header: str, size: int) -> tuple[int, int, bool] | None:
    """First and last byte, and whether it is a part (RFC 9110, 14.2). None: cannot be. Several ranges, or nonsense: the whole."""
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip()) if header else None
    if match is None or match[1] == match[2] == "":
        return 0, max(size - 1, 0), False
    if not match[1]:
        length = min(int(match[2]), size)
        return (size - length, size - 1, True) if length else None
    first, last = int(match[1]), min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return 0, max(size - 1, 0), False
    return (first, last, True) if first < size else None


class Blobs(Protocol):
    def put(self, key: str, data: bytes) -> None:
        """Durable on return. Raises BlobsUnusable."""

    def put_file(self, key: str, path: Path) -> None:
        """The same from a file, which may be moved away."""

    def size(self, key: str) -> int | None: ...

    def read(self, key: str, from_byte: int = 0, to_byte: int | None = None) -> Iterator[bytes]:
        """In pieces; the first is there when this returns. Raises BlobGone, BlobsUnusable."""

    def delete(self, key: str) -> None:
        """No fault when it is gone already."""

    def keys(self, prefix: str) -> Iterator[str]: ...

    def free_bytes(self) -> int | None:
        """What may still be put; None where nobody knows."""

    def check(self) -> None:
        """Whether something can be put now, found out by trying. Raises BlobsUnusable."""
