"""The recorder with its CRC-32C left out, to show what the CRC costs. What it writes cannot be recovered or checked.

There is no such setting, so the one line is taken out of the writer's source before it runs; if that line
changes, this refuses to measure anything.
"""

import inspect
import sys
import textwrap

from nvr.recorder import main
from nvr.ring import writer

LINE = "fragment.crc = payload.crc32c(fragment.crc)"

if __name__ == "__main__":
    source = textwrap.dedent(inspect.getsource(writer.Writer._put))
    if source.count(LINE) != 1:
        sys.exit(f"nvr/ring/writer.py has changed: {LINE!r} is not there once")
    exec(source.replace(LINE, "pass"), vars(writer))
    writer.Writer._put = vars(writer)["_put"]  # type: ignore[method-assign]
    sys.exit(main())
