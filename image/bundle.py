"""The update bundle: root and boot slot, signed, in RAUC's verity format: a box checks each block while it writes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from image.cache import Made
from image.keys import Signer
from image.run import Toolbox

MANIFEST = """[update]
compatible={compatible}
version={version}

[bundle]
format=verity

[image.rootfs]
filename=root.img

[image.boot]
filename=boot.img
"""


def make(
    into: Path,
    toolbox: Toolbox,
    signer: Signer,
    *,
    root: Made,
    boot: Made,
    certificate: Path,
    compatible: str,
    version: str,
) -> None:
    """`into/update.raucb`. The signature and the verity salt are new each time: a bundle is not the same twice, what is in it is."""
    content = into / "content"
    content.mkdir()
    for source in (root.path / "root.img", boot.path / "boot.img"):
        os.link(source, content / source.name)
    (content / "manifest.raucm").write_text(MANIFEST.format(compatible=compatible, version=version))
    # The images are packed already: squashfs is only the envelope.
    toolbox.run(["rauc", "bundle", f"--cert={certificate}", f"--key={signer.key}", "--mksquashfs-args=-comp zstd -Xcompression-level 1 -processors 2",
                 content, into / "update.raucb"], folders=[signer.key.parent, certificate.parent])  # fmt: skip
    shutil.rmtree(content)
