"""Where bytes lie: a folder, or any S3 store. A key is put as a whole, is durable when put() returns, and is never changed.

    objects/TENANT/BOX/SHA256       clips and stills of events, by content
    pieces/UPLOAD/OFFSET-RANDOM     what an upload has so far
    bundles/TENANT/SHA256           updates for boxes

Keys are made by the hub alone, of digits, letters and slashes; nothing that a box says becomes part of a path unchecked.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from nvr import wire
from nvr.errors import NvrError

READ_BYTES = 256 * 1024
_KEY = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)+")


class BlobsUnusable(NvrError):
    """The store of objects does not take or give bytes."""


class BlobGone(NvrError):
    """There is nothing under this key."""


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


def open_blobs(url: str, data_dir: Path) -> Blobs:
    """A folder or s3://BUCKET/PREFIX?endpoint=URL&region=NAME. Raises BlobsUnusable."""
    if url.startswith("s3://"):
        return S3Blobs(url)
    return FolderBlobs(Path(url))


class FolderBlobs:
    """One file for each key: written beside it, synced, renamed, and the folder synced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._drafts = folder / "drafts"
        try:
            self._drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
            for each in self._drafts.iterdir():  # what a killed process left; another one's fresh draft is newer
                if each.stat().st_mtime < self._drafts.stat().st_mtime - 24 * 3600:
                    each.unlink(missing_ok=True)
        except OSError as error:
            raise BlobsUnusable(
                f"{folder} cannot be used for objects: {error.strerror}",
                hint="Is the disk there, and may this user write?",
            ) from error

    def _path(self, key: str) -> Path:
        assert _KEY.fullmatch(key), key
        return self._folder / key

    def put(self, key: str, data: bytes) -> None:
        draft = self._drafts / secrets.token_hex(8)
        try:
            fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            self._place(draft, key)
        except OSError as error:
            raise _unusable(key, error) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)

    def put_file(self, key: str, path: Path) -> None:
        """`path` is moved where that can be done, and copied elsewhere."""
        try:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            try:
                self._place(path, key)
            except OSError:
                draft = self._drafts / secrets.token_hex(8)
                shutil.copyfile(path, draft)
                with open(draft, "rb") as file:
                    os.fsync(file.fileno())
                self._place(draft, key)
        except OSError as error:
            raise _unusable(key, error) from error

    def _place(self, draft: Path, key: str) -> None:
        path = self._path(key)
        new = [each for each in (path.parent, *path.parent.parents) if not each.exists()]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(draft, path)
        for folder in (path.parent, *(each.parent for each in new)):  # also the entries of folders that were just made
            _sync_folder(folder)

    def size(self, key: str) -> int | None:
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(key, error) from error

    def read(self, key: str, from_byte: int = 0, to_byte: int | None = None) -> Iterator[bytes]:
        try:
            file = open(self._path(key), "rb")
        except FileNotFoundError:
            raise BlobGone(f"{key} is not there") from None
        except OSError as error:
            raise _unusable(key, error) from error
        return _pieces(file, from_byte, to_byte)

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                path.parent.rmdir()
        except OSError as error:
            raise _unusable(key, error) from error

    def keys(self, prefix: str) -> Iterator[str]:
        top = self._folder / prefix
        for folder, _, names in os.walk(top):
            for name in names:
                yield (Path(folder) / name).relative_to(self._folder).as_posix()

    def free_bytes(self) -> int | None:
        try:
            return shutil.disk_usage(self._folder).free
        except OSError as error:
            raise _unusable("", error) from error


def _pieces(file: Any, from_byte: int, to_byte: int | None) -> Iterator[bytes]:
    with file:
        file.seek(from_byte)
        left = None if to_byte is None else to_byte - from_byte
        while left is None or left > 0:
            data = file.read(READ_BYTES if left is None else min(READ_BYTES, left))
            if not data:
                return
            if left is not None:
                left -= len(data)
            yield data


def _unusable(key: str, error: OSError) -> BlobsUnusable:
    return BlobsUnusable(
        f"objects cannot be stored or read: {error.strerror or error} ({key})", hint="Look at the disk under `objects`."
    )


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class S3Blobs:
    """Any S3 store: `put` returns after the store said so, which is its promise of durability."""

    PART_BYTES = 16 * 1024 * 1024

    def __init__(self, url: str) -> None:
        """Credentials come from the environment, as boto3 takes them: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, or its files."""
        import boto3
        from boto3.s3.transfer import TransferConfig
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        self._failures = (BotoCoreError, ClientError, OSError)
        parts = urlsplit(url)
        options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        self._bucket, prefix = parts.netloc, parts.path.strip("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._transfer = TransferConfig(
            multipart_threshold=self.PART_BYTES, multipart_chunksize=self.PART_BYTES, max_concurrency=2
        )
        try:
            self._client = boto3.client(
                "s3",
                endpoint_url=options.get("endpoint"),
                region_name=options.get("region", "us-east-1"),
                config=Config(
                    connect_timeout=10, read_timeout=60, retries={"max_attempts": 3, "mode": "standard"}, max_pool_connections=32,
                    s3={"addressing_style": options.get("addressing", "path")},
                    # Stores other than Amazon's do not know the newer checksums in trailers; ours are checked end to end anyway.
                    request_checksum_calculation="when_required", response_checksum_validation="when_required",
                ),
            )  # fmt: skip
            self._client.head_bucket(Bucket=self._bucket)
        except (*self._failures, ValueError) as error:
            raise BlobsUnusable(
                f"the S3 bucket {self._bucket} cannot be used: {error}",
                hint="Is the bucket made, the endpoint right, and are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set?",
            ) from None

    def _name(self, key: str) -> str:
        assert _KEY.fullmatch(key), key
        return self._prefix + key

    @contextlib.contextmanager
    def _asking(self, key: str) -> Iterator[None]:
        try:
            yield
        except self._failures as error:
            status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404:
                raise BlobGone(f"{key} is not there") from None
            raise BlobsUnusable(
                f"the S3 store failed: {str(error)[:300]} ({key})", hint="Look at the store; it is asked again."
            ) from error

    def put(self, key: str, data: bytes) -> None:
        with self._asking(key):
            self._client.put_object(
                Bucket=self._bucket, Key=self._name(key), Body=data, ContentType="application/octet-stream"
            )

    def put_file(self, key: str, path: Path) -> None:
        from boto3.exceptions import S3UploadFailedError

        try:
            with self._asking(key):
                self._client.upload_file(
                    str(path),
                    self._bucket,
                    self._name(key),
                    Config=self._transfer,
                    ExtraArgs={"ContentType": "application/octet-stream"},
                )
        except S3UploadFailedError as error:
            raise BlobsUnusable(f"the S3 store failed: {str(error)[:300]} ({key})") from error

    def size(self, key: str) -> int | None:
        try:
            with self._asking(key):
                return int(self._client.head_object(Bucket=self._bucket, Key=self._name(key))["ContentLength"])
        except BlobGone:
            return None

    def read(self, key: str, from_byte: int = 0, to_byte: int | None = None) -> Iterator[bytes]:
        more = (
            {}
            if from_byte == 0 and to_byte is None
            else {"Range": f"bytes={from_byte}-{'' if to_byte is None else to_byte - 1}"}
        )
        with self._asking(key):
            body = self._client.get_object(Bucket=self._bucket, Key=self._name(key), **more)["Body"]
        return self._chunks(key, body)

    def _chunks(self, key: str, body: Any) -> Iterator[bytes]:
        with contextlib.closing(body), self._asking(key):
            yield from body.iter_chunks(READ_BYTES)

    def delete(self, key: str) -> None:
        with contextlib.suppress(BlobGone), self._asking(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._name(key))

    def keys(self, prefix: str) -> Iterator[str]:
        with self._asking(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + prefix
            ):
                for each in page.get("Contents", ()):
                    yield each["Key"].removeprefix(self._prefix)

    def free_bytes(self) -> int | None:
        return None
