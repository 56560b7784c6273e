"""The keys that updates are signed with. A development key is made at the first build and lies in the cache; releases never take it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from image.run import Toolbox
from nvr.errors import NvrError

DEVELOPMENT = "nvr development key, for no release"
DAYS = 36_500  # a box's clock may be anywhere; what is trusted is decided by the key, not by a date


@dataclass(frozen=True, slots=True)
class Signer:
    key: Path
    certificate: Path


def development_signer(folder: Path, toolbox: Toolbox) -> Signer:
    """The one in `folder`, made if there is none."""
    signer = Signer(folder / "development.key.pem", folder / "development.cert.pem")
    if not signer.key.exists() or not signer.certificate.exists():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        toolbox.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(DAYS),
                     "-subj", f"/O=nvr/CN={DEVELOPMENT}", "-addext", "extendedKeyUsage=emailProtection,codeSigning",
                     "-keyout", signer.key, "-out", signer.certificate])  # fmt: skip
        os.chmod(signer.key, 0o600)
    return signer


def check_for_release(signer: Signer, toolbox: Toolbox) -> None:
    """Raises NvrError for a development key: whoever has a checkout's cache could update every box."""
    subject = toolbox.run(
        ["openssl", "x509", "-noout", "-subject", "-in", "/dev/stdin"], given=signer.certificate.read_bytes()
    ).output
    if DEVELOPMENT in subject:
        raise NvrError(
            "a release cannot be signed with a development key",
            hint="Give the release's own: --key KEY.pem --certificate CERT.pem",
        )
