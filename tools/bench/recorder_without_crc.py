"""The recorder with its CRC-32C left out, to show what the CRC costs. What it writes cannot be recovered or checked."""

import sys

from nvr import gather
from nvr.recorder import main


def _no_crc(self: gather.PyGather, value: int = 0) -> int:
    return value


if __name__ == "__main__":
    if gather.Gather is gather.PyGather:
        gather.PyGather.crc32c = _no_crc  # type: ignore[method-assign]
    else:

        class Gather(gather.Gather):  # type: ignore[misc,valid-type]
            crc32c = _no_crc

        gather.Gather = Gather  # type: ignore[assignment,misc]
    sys.exit(main())
