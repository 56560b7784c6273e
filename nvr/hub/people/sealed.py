"""Secrets that must be read back: sealed with AES-256-GCM under a key that lies beside the database, not in it.

A copy of the database alone opens nothing. Hubs on several machines share the key file (0600).
"""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nvr import durable
from nvr.errors import NvrError

FILE = "secret.key"
_NONCE_BYTES = 12  # NIST SP 800-38D, 8.2.2; random, and a hub seals some hundred times in its life


class SealBroken(NvrError):
    """The key file is not the one this was sealed with, or the database was changed by hand."""


class Seal:
    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    @classmethod
    def of(cls, data_dir: Path) -> Seal:
        """The key in DIR/secret.key, made when there is none. Raises SealBroken for a file that is no key."""
        path = data_dir / FILE
        if not path.exists():
            _write_new(path)
        try:
            key = bytes.fromhex(path.read_text("ascii").strip())
        except (OSError, ValueError) as error:
            raise SealBroken(f"{path} cannot be read as a key: {error}", hint="Put it back from the backup.") from None
        if len(key) != 32:
            raise SealBroken(f"{path} holds {len(key)} bytes, 32 are a key", hint="Put it back from the backup.")
        return cls(key)

    def close(self, text: str, purpose: str) -> str:
        """`purpose` is bound in: what was sealed as one thing cannot be opened as another."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), purpose.encode())).decode()

    def open(self, sealed: str, purpose: str) -> str:
        """Raises SealBroken."""
        try:
            data = base64.b64decode(sealed, validate=True)
            return self._cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], purpose.encode()).decode()
        except (ValueError, InvalidTag):
            raise SealBroken(
                f"a secret ({purpose}) cannot be opened", hint=f"Is {FILE} the one from when it was saved?"
            ) from None


def _write_new(path: Path) -> None:
    """Whole or not at all; of two processes at the same time one wins and both use its key."""
    new_path = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    durable.write_new(new_path, secrets.token_bytes(32).hex().encode() + b"\n")
    try:
        os.link(new_path, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(new_path)
    durable.sync_folder(path.parent)
