"""Who made this footage: the box's key, what it signs, and the proof that a clip carries.

Holds the Ed25519 identity of a box (RFC 8032), the bytes that are signed when a segment is sealed and when
a clip is cut, and the atom that carries the manifest of a clip (docs/formats/clip.md). The hash of one
fragment is made in `fmp4.py`, with the fragment; `tools/verify_clip.py` checks all of it again with nothing
but Python's standard library.

    DATA/identity/key    two PEM blocks (RFC 8410): the private key, and the public key it must give, so that
                         a key with a flipped bit is found and does not quietly become another box
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import json
import logging
import os
import re
import secrets
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from nvr import durable
from nvr.errors import NvrError

log = logging.getLogger(__name__)

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
HASH_BYTES = 32  # SHA-256

# What is signed always starts with one of these, so that a signature for one purpose is worthless for another.
SEAL_PURPOSE = b"nvr segment seal 1\n"
CLIP_PURPOSE = b"nvr clip manifest 1\n"

# The `uuid` atom (14496-12, 11.1) at the end of a clip: usertype, version, public key, signature, canonical JSON.
MANIFEST_USERTYPE = b"nvr:clip-proof:1"
MANIFEST_VERSION = 1
_ATOM_HEAD = struct.Struct(">I4s16sI")
MANIFEST_HEAD_BYTES = _ATOM_HEAD.size + PUBLIC_KEY_BYTES + SIGNATURE_BYTES

# DER before the 32 bytes of an Ed25519 key: PKCS #8 and SubjectPublicKeyInfo as in RFC 8410, sections 7 and 4.
_PRIVATE_DER = bytes.fromhex("302e020100300506032b657004220420")
_PUBLIC_DER = bytes.fromhex("302a300506032b6570032100")
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----\n([A-Za-z0-9+/=\n]+)-----END \1-----\n")


class IdentityFailed(NvrError):
    """The box's key cannot be read, is damaged, or cannot be made. It is never replaced by a new one."""


class Identity:
    """The key pair of one box; its public half names the box."""

    def __init__(self, private_key: bytes) -> None:
        """From the 32 bytes that RFC 8032, 5.1.5 calls the private key."""
        self._sign, self.public_bytes = _signer(private_key)
        self.box_id = box_id(self.public_bytes)

    @property
    def fingerprint(self) -> str:
        """What a person compares, over the phone if need be: SHA-256 of the public key, in groups of four."""
        return fingerprint(self.public_bytes)

    def sign(self, message: bytes) -> bytes:
        """64 bytes; the same message always gives the same signature. May be called from any thread."""
        return self._sign(message)

    @classmethod
    def create(cls) -> Identity:
        return cls(secrets.token_bytes(32))

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """The identity kept in `path`; the first call ever makes it, durably, readable by this user only.

        Several processes may call this at once: all get the same identity. Raises IdentityFailed when the
        file is there and cannot be read or is damaged, and when a new one cannot be written.
        """
        path = Path(path)
        try:
            return cls._load(path)
        except FileNotFoundError:
            pass
        try:
            _write_new(path)
            return cls._load(path)
        except OSError as error:
            raise IdentityFailed(
                f"cannot keep this box's key in {path}: {error.strerror}",
                hint="The key names the box. Make the directory writable for the user that records.",
            ) from error

    @classmethod
    def _load(cls, path: Path) -> Identity:
        try:
            text = path.read_bytes()
            mode = path.stat().st_mode & 0o777
        except FileNotFoundError:
            raise
        except OSError as error:
            raise IdentityFailed(
                f"cannot read this box's key {path}: {error.strerror}",
                hint="Run as the user that owns it, or repair the disk. A new key would be another box.",
            ) from error
        private_key, public_key = _keys_in(text, path)
        identity = cls(private_key)
        if identity.public_bytes != public_key:
            raise _damaged(path, "its private and public halves do not belong together")
        if mode & 0o077:
            log.warning("%s: others can read this box's key (mode %03o); chmod 600 it", path, mode)
        return identity


def box_id(public_key: bytes) -> bytes:
    """16 bytes that name a box in every fragment it writes."""
    return hashlib.sha256(public_key).digest()[:16]


def fingerprint(public_key: bytes) -> str:
    text = hashlib.sha256(public_key).hexdigest()
    return " ".join(text[place : place + 4] for place in range(0, 64, 4))


def is_signed_by(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of `message` by the owner of `public_key`; False for bytes that are no key or signature."""
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    return _verify(public_key, message, signature)


def canonical_json(value: object) -> bytes:
    """The one way to write `value`: keys sorted, no spaces, UTF-8, no floating point. Raises TypeError or ValueError."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def seal_message(
    *,
    box_id: bytes,
    stream: str,
    segment: int,
    lap: int,
    first_sequence: int,
    last_sequence: int,
    hashes_digest: bytes,
) -> bytes:
    """What the box signs when a segment is full.

    `hashes_digest` is SHA-256 over the 32-byte hashes of all its fragments, in order, one behind the other;
    a segment may hold several runs, and so several chains, and this covers every one of them.
    """
    return SEAL_PURPOSE + canonical_json(
        {
            "box": box_id.hex(),
            "stream": stream,
            "segment": segment,
            "lap": lap,
            "first_sequence": first_sequence,
            "last_sequence": last_sequence,
            "hashes": hashes_digest.hex(),
        }
    )


def manifest_atom(identity: Identity, manifest: Mapping[str, object]) -> bytes:
    """The last atom of a clip: `manifest` in canonical JSON, behind the box's public key and signature."""
    text = canonical_json(manifest)
    size_bytes = MANIFEST_HEAD_BYTES + len(text)
    head = _ATOM_HEAD.pack(size_bytes, b"uuid", MANIFEST_USERTYPE, MANIFEST_VERSION)
    return b"".join((head, identity.public_bytes, identity.sign(CLIP_PURPOSE + text), text))


def _pem(kind: str, der: bytes) -> bytes:
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (kind.encode(), base64.b64encode(der), kind.encode())


def _key_file(private_key: bytes, public_key: bytes) -> bytes:
    return _pem("PRIVATE KEY", _PRIVATE_DER + private_key) + _pem("PUBLIC KEY", _PUBLIC_DER + public_key)


def _keys_in(text: bytes, path: Path) -> tuple[bytes, bytes]:
    blocks = dict(_PEM_BLOCK.findall(text))
    try:
        private_key = base64.b64decode(blocks.get(b"PRIVATE KEY", b""))[-32:]
        public_key = base64.b64decode(blocks.get(b"PUBLIC KEY", b""))[-32:]
    except binascii.Error:
        raise _damaged(path, "it is not base64") from None
    if _key_file(private_key, public_key) != text:  # stricter than reading it: nothing else may stand there
        raise _damaged(path, f"{len(text)} bytes that are not one Ed25519 key and its public half")
    return private_key, public_key


def _damaged(path: Path, what: str) -> IdentityFailed:
    return IdentityFailed(
        f"this box's key {path} is damaged: {what}",
        hint="Put it back from a copy. Or move the file away and start again: the box then becomes another box, "
        "which must be enrolled again; clips it cut before stay provable with its old public key.",
    )


def _write_new(path: Path) -> None:
    """Make a key and put it in `path`, unless another process was first."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    private_key = secrets.token_bytes(32)
    public_key = Identity(private_key).public_bytes
    text = _key_file(private_key, public_key)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    durable.write_new(draft, text)
    try:
        os.link(draft, path)  # unlike rename, this never replaces a key that is there
    except FileExistsError:
        return
    finally:
        draft.unlink()
    for folder in (path.parent, path.parent.parent):
        durable.sync_folder(folder)


# Ed25519 comes from the libcrypto that hashlib has loaded already: 0.6 MB for ctypes and the key, where importing
# `cryptography` costs `record` 10 MB (PSS, x86-64, CPython 3.11). Where there is no libcrypto.so.3, that is taken.
_EVP_PKEY_ED25519 = 1087


def _load_libcrypto() -> ctypes.CDLL | None:
    try:
        lib = ctypes.CDLL("libcrypto.so.3")
        for name, result, arguments in (
            ("EVP_PKEY_new_raw_private_key", "p", "ipsn"),
            ("EVP_PKEY_new_raw_public_key", "p", "ipsn"),
            ("EVP_PKEY_get_raw_public_key", "i", "psr"),
            ("EVP_PKEY_free", "", "p"),
            ("EVP_MD_CTX_new", "p", ""),
            ("EVP_MD_CTX_free", "", "p"),
            ("EVP_DigestSignInit", "i", "ppppp"),
            ("EVP_DigestSign", "i", "psrsn"),
            ("EVP_DigestVerifyInit", "i", "ppppp"),
            ("EVP_DigestVerify", "i", "psnsn"),
        ):
            function = getattr(lib, name)
            kinds = {
                "i": ctypes.c_int,
                "p": ctypes.c_void_p,
                "s": ctypes.c_char_p,
                "n": ctypes.c_size_t,
                "r": ctypes.POINTER(ctypes.c_size_t),
            }
            function.restype = kinds[result] if result else None
            function.argtypes = [kinds[kind] for kind in arguments]
    except (OSError, AttributeError):
        return None
    return lib


_libcrypto = _load_libcrypto()


def _signer(private_key: bytes) -> tuple[Callable[[bytes], bytes], bytes]:
    """A function that signs, and the public key."""
    if len(private_key) != 32:
        raise ValueError(f"an Ed25519 private key has 32 bytes, not {len(private_key)}")
    if _libcrypto is None:
        return _signer_of_cryptography(private_key)
    lib = _libcrypto
    # Lives as long as the process: there is one identity.
    key = lib.EVP_PKEY_new_raw_private_key(_EVP_PKEY_ED25519, None, private_key, len(private_key))
    public_key = ctypes.create_string_buffer(PUBLIC_KEY_BYTES)
    length = ctypes.c_size_t(PUBLIC_KEY_BYTES)
    if not key or lib.EVP_PKEY_get_raw_public_key(key, public_key, ctypes.byref(length)) != 1:
        return _signer_of_cryptography(private_key)  # a libcrypto built without Ed25519 (FIPS)

    def sign(message: bytes) -> bytes:
        signature = ctypes.create_string_buffer(SIGNATURE_BYTES)
        length = ctypes.c_size_t(SIGNATURE_BYTES)
        context = lib.EVP_MD_CTX_new()
        try:
            if (
                lib.EVP_DigestSignInit(context, None, None, None, key) != 1
                or lib.EVP_DigestSign(context, signature, ctypes.byref(length), message, len(message)) != 1
            ):
                raise IdentityFailed("libcrypto refused to sign", hint="Check the memory of the box.")
        finally:
            lib.EVP_MD_CTX_free(context)
        return signature.raw

    return sign, public_key.raw


def _signer_of_cryptography(private_key: bytes) -> tuple[Callable[[bytes], bytes], bytes]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(private_key)
    return key.sign, key.public_key().public_bytes_raw()


def _verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    if _libcrypto is None:
        return _verify_by_cryptography(public_key, message, signature)
    lib = _libcrypto
    key = lib.EVP_PKEY_new_raw_public_key(_EVP_PKEY_ED25519, None, public_key, len(public_key))
    if not key:
        return _verify_by_cryptography(public_key, message, signature)
    context = lib.EVP_MD_CTX_new()
    try:
        return (
            lib.EVP_DigestVerifyInit(context, None, None, None, key) == 1
            and lib.EVP_DigestVerify(context, signature, len(signature), message, len(message)) == 1
        )
    finally:
        lib.EVP_MD_CTX_free(context)
        lib.EVP_PKEY_free(key)


def _verify_by_cryptography(public_key: bytes, message: bytes, signature: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
