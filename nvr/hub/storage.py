"""Which store of objects a hub has: its setting says."""

from __future__ import annotations

from pathlib import Path

from nvr.hub.blobs import Blobs
from nvr.hub.folder import FolderBlobs

EXPECTED_NAME = "objects.disk"  # in the hub's directory: which disk the objects are on


def open_blobs(url: str, data_dir: Path) -> Blobs:
    """A folder or s3://BUCKET/PREFIX?endpoint=URL&region=NAME. Raises BlobsUnusable.

    But not for a folder whose disk is away: a hub goes on without it, and check() says so until it is back.
    """
    if url.startswith("s3://"):
        from nvr.hub.s3 import S3Blobs  # boto3 is large, and most hubs have a folder

        return S3Blobs(url)
    return FolderBlobs(Path(url), data_dir / EXPECTED_NAME)
