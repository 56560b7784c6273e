"""CRC-32C (RFC 3720, B.4), which is on every fragment, index and journal cell.

With the C extension it is ours, and the package is not even loaded: importing that takes 2.8 MB (it looks up its own version,
and so brings in email, zipfile and argparse), in every process of a box. Import it from here: `from nvr.crc import crc32c`.
"""

from __future__ import annotations

import os

try:
    if os.environ.get("NVR_PURE") == "1":  # for tests and for the bench
        raise ImportError
    from nvr._fast import crc32c
except ImportError:  # no compiler at installation
    from crc32c import crc32c

__all__ = ["crc32c"]
