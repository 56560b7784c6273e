"""Objects in a folder: a file for each key, on a disk that may go away."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nvr import durable
from nvr.hub.blobs import READ_BYTES, BlobGone, BlobsUnusable, Trouble, is_key

log = logging.getLogger(__name__)

_MARK_NAME = ".disk"  # beside the objects, on that disk


class FolderBlobs:
    """One file for each key: written beside it, synced, renamed, and the folder synced.

    The folder may be a mount point. A mark in it, and a copy of the mark in the hub's directory, tell whether its disk is
    there: without it nothing is put, and nothing counts as gone. To change disks, copy all of the folder, or remove the
    copy of the mark and start again.
    """

    def __init__(self, folder: Path, expected_path: Path) -> None:
        self._folder, self._expected_path = folder, expected_path
        self._drafts = folder / "drafts"
        self._mark = ""
        try:
            self._mark = expected_path.read_text().strip() if expected_path.exists() else ""
            if not self._mark:
                self._mark = self._mark_disk()
            self._check_disk()
            self._drafts.mkdir(mode=0o700, exist_ok=True)
            for each in self._drafts.iterdir():  # what a killed process left; another one's fresh draft is newer
                if each.stat().st_mtime < self._drafts.stat().st_mtime - 24 * 3600:
                    each.unlink(missing_ok=True)
        except BlobsUnusable as error:
            log.error("%s. %s", error, error.hint)
        except OSError as error:
            if expected_path.exists():  # it was good once, so it may be again
                log.error("%s cannot be used for objects: %s", folder, error)
                return
            raise BlobsUnusable(
                f"{folder} cannot be used for objects: {error.strerror}",
                hint="Is the disk there, and may this user write?",
            ) from error

    def _mark_disk(self) -> str:
        """The first call ever marks the disk, or takes the mark it has; several processes may do so at once."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark = _kept_mark(self._folder / _MARK_NAME, secrets.token_hex(16))
        return _kept_mark(self._expected_path, mark)

    def _check_disk(self) -> None:
        """Raises BlobsUnusable while the folder is not on the disk that it was on."""
        try:
            found = (self._folder / _MARK_NAME).read_text().strip()
        except FileNotFoundError:
            found = ""
        except OSError as error:
            raise _unusable("the mark of the disk", error) from error
        if found != self._mark:
            raise BlobsUnusable(
                f"the disk of {self._folder} is not there (expected the one marked {self._mark[:8]}, found "
                f"{f'one marked {found[:8]}' if found else 'none'})",
                hint=f"Mount it. If it was replaced on purpose, remove {self._expected_path} and start again.",
                trouble="not mounted",
            )

    def check(self) -> None:
        self._check_disk()
        draft = self._drafts / secrets.token_hex(8)
        try:
            self._drafts.mkdir(mode=0o700, exist_ok=True)  # the disk was away at the start
            durable.write_new(draft, bytes(4096))
        except OSError as error:
            raise _unusable("a try", error) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        assert is_key(key), key
        return self._folder / key

    def put(self, key: str, data: bytes) -> None:
        draft = self._drafts / secrets.token_hex(8)
        try:
            self._check_disk()
            durable.write_new(draft, data)
            self._place(draft, key)
        except OSError as error:
            raise _unusable(key, error) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)

    def put_file(self, key: str, path: Path) -> None:
        """`path` is moved where that can be done, and copied elsewhere."""
        draft = self._drafts / secrets.token_hex(8)
        try:
            self._check_disk()
            with open(path, "rb") as file:
                os.fsync(file.fileno())
            try:
                self._place(path, key)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                shutil.copyfile(path, draft)
                with open(draft, "rb") as file:
                    os.fsync(file.fileno())
                self._place(draft, key)
        except OSError as error:
            raise _unusable(key, error) from error
        finally:
            with contextlib.suppress(OSError):  # half of a clip, on a disk that is full
                draft.unlink(missing_ok=True)

    def _place(self, draft: Path, key: str) -> None:
        path = self._path(key)
        new = [each for each in (path.parent, *path.parent.parents) if not each.exists()]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.replace(draft, path)
        for folder in (path.parent, *(each.parent for each in new)):  # also the entries of folders that were just made
            durable.sync_folder(folder)

    def size(self, key: str) -> int | None:
        try:
            return self._path(key).stat().st_size
        except FileNotFoundError:
            self._check_disk()
            return None
        except OSError as error:
            raise _unusable(key, error) from error

    def read(self, key: str, from_byte: int = 0, to_byte: int | None = None) -> Iterator[bytes]:
        try:
            file = open(self._path(key), "rb")
        except FileNotFoundError:
            self._check_disk()
            raise BlobGone(f"{key} is not there") from None
        except OSError as error:
            raise _unusable(key, error) from error
        return _pieces(file, from_byte, to_byte)

    def delete(self, key: str) -> None:
        """Not while the disk is away: the bytes would come back with it."""
        path = self._path(key)
        self._check_disk()
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
        f"objects cannot be stored or read: {error.strerror or error} ({key})",
        hint="Look at the disk under `objects`.",
        trouble=_TROUBLES.get(error.errno or 0, "failing"),
    )


_TROUBLES: dict[int, Trouble] = {
    errno.EROFS: "read only",
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EFBIG: "full",
}


def _kept_mark(path: Path, mark: str) -> str:
    """The mark that `path` holds, durable; `mark`, where it held none."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
        try:
            with open(draft, "x") as file:
                file.write(f"{mark}\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                pass  # of two processes one is first, and both have its mark
            except OSError:
                os.replace(draft, path)  # a file system without links
        finally:
            draft.unlink(missing_ok=True)
        durable.sync_folder(path.parent)
    return path.read_text().strip()
