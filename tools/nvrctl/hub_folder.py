"""A new hub's folder: its settings and, where no public authority vouches for it, its own certificate."""

from __future__ import annotations

import hashlib
import importlib.util
import ipaddress
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from nvr.errors import NvrError

CERTIFICATE_DAYS = 3650  # pinned by its fingerprint: nobody asks an authority, and nobody renews it on a pole


class HubNotMade(NvrError):
    """The folder could not be made into a hub."""


@dataclass(frozen=True, slots=True)
class MadeFolder:
    fingerprint: str  # "" where a public authority is asked
    told: str  # what `nvr hub init` said: above all the first administrator's link
    wrote_settings: bool


def make(folder: Path, url: str, listen: str, *, self_signed: bool) -> MadeFolder:
    """Settings, certificate, tables; what is there already stays as it is. Raises HubNotMade."""
    host = urlsplit(url).hostname or ""
    if importlib.util.find_spec("nvr.hub") is None:
        raise HubNotMade(
            "this nvr has no hub in it", hint="pip install 'nvr[hub]' on the machine that becomes the hub."
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fingerprint = ""
    lines = ["# docs/hub.md lists every key.", f"url: {url}", f"listen: {listen}"]
    if self_signed:
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        if not certificate.exists() or not key.exists():
            _write_certificate(certificate, key, host)
        fingerprint = _fingerprint(certificate)
        lines += [f"certificate: {certificate.absolute()}", f"key: {key.absolute()}"]
    settings = folder / "hub.yaml"
    wrote = not settings.exists()
    if wrote:
        fd = os.open(settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "nvr", "hub", "init", "--data", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise HubNotMade(
            f"`nvr hub init` failed: {(done.stderr or done.stdout).strip()[-500:]}",
            hint=f"Mend it and run this again: {settings} stays as it is.",
        )
    return MadeFolder(fingerprint, done.stdout.strip(), wrote)


def _write_certificate(certificate: Path, key: Path, host: str) -> None:
    """A self-signed one for `host`, with a key of its own that only this user can read."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host[:64])])
    try:
        subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(private.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([subject]), critical=False).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )  # fmt: skip
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path, data in ((key, pem), (certificate, made.public_bytes(serialization.Encoding.PEM))):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(data)


def _fingerprint(certificate: Path) -> str:
    import ssl

    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
