"""A tree of Debian 13 with libcamera and picamera2, in which libcamera's `virtual` pipeline plays the camera. Kept in the image cache."""

from __future__ import annotations

from pathlib import Path

from image.mirror import KEYRING, Mirror
from image.run import Toolbox, run

PACKAGES = (
    "python3",
    "python3-venv",
    "python3-pip",
    "python3-dev",
    "gcc",
    "libc6-dev",
    "libcap-dev",
    "python3-av",
    "python3-numpy",
    "python3-pil",
)
# 0.4.0, the suite's own, says bytesused 0 and counts wrongly in this pipeline.
NEWER = ("python3-libcamera", "libcamera-ipa", "libcamera0.7")
PICAMERA2 = "picamera2==0.3.38"
CAMERA = """"Virtual0":
  supported_formats:
  - {width: 1280, height: 720, frame_rates: [25, 25]}
  test_pattern: "bars"
  location: "CameraLocationFront"
  model: "Virtual Video Device"
"""


def make(into: Path, mirror: Mirror, *, shim: Path) -> None:
    tree = into / "tree"
    run([
        "mmdebstrap", "--variant=apt", "--format=directory", "--mode=root", f"--include={' '.join([*PACKAGES, *(f'{name}/trixie-backports' for name in NEWER)])}",
        f"--keyring={KEYRING}", *(f"--aptopt={line}" for line in mirror.settings), '--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        "trixie", tree, *mirror.sources("trixie", backports=True),
    ])  # fmt: skip
    inside = Toolbox(tree, (into, shim.parent))
    # From the package index through pip's own configuration; picamera2 is not in Debian.
    for name in ("etc/pip.conf",):
        if Path("/", name).exists():
            (tree / name).write_bytes(Path("/", name).read_bytes())
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")
    (tree / "tmp/ca.crt").write_bytes(certificates.read_bytes())
    (tree / "etc/resolv.conf").write_bytes(Path("/etc/resolv.conf").read_bytes())
    inside.run(
        [
            "python3",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--break-system-packages",
            "--cert",
            "/tmp/ca.crt",
            PICAMERA2,
            "crc32c>=2.7,<3",
        ]
    )
    inside.run(["gcc", "-O2", "-shared", "-fPIC", "-o", "/usr/local/lib/played-udmabuf.so", shim, "-ldl"])
    place = tree / "usr/share/libcamera/pipeline/virtual"
    place.mkdir(parents=True, exist_ok=True)
    (place / "virtual.yaml").write_text(CAMERA)
