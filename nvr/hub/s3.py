"""Objects in any S3 store. The protocol that it keeps is in blobs.py."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from nvr.hub.blobs import READ_BYTES, BlobGone, BlobsUnusable, is_key


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
        assert is_key(key), key
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

    def check(self) -> None:
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except self._failures as error:
            raise BlobsUnusable(f"the S3 bucket {self._bucket} does not answer: {str(error)[:300]}") from error
