"""The process that holds one camera and its heavy library: `python -m nvr.source.feeder KIND FD OPTIONS`.

Started by `feed.Fed` alone. KIND is usb or picamera, FD the socket to `record`, OPTIONS JSON. It ends when the socket does:
a feeder without a recorder would keep the camera from the next one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading

from nvr.h264 import BadH264
from nvr.media import Cause
from nvr.source.feed import Writer


def _end_with(connection: socket.socket) -> None:
    """End this process as soon as `record` is gone, whatever the library is waiting for just then."""

    def watch() -> None:
        poll = select.poll()
        poll.register(connection, select.POLLRDHUP)
        poll.poll()
        os._exit(0)

    threading.Thread(target=watch, name="watch", daemon=True).start()


def main(arguments: list[str]) -> int:
    kind, fd, options = arguments[0], int(arguments[1]), json.loads(arguments[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C means `record`, which then ends us
    connection = socket.socket(fileno=fd)
    _end_with(connection)
    writer = Writer(connection)
    try:
        if kind == "usb":
            from nvr.source.usb import feed
        elif kind == "picamera":
            from nvr.source.picamera import feed
        else:
            raise ValueError(f"there is no feeder called {kind!r}")
        feed(options, writer)
        writer.stop(Cause.CAMERA, "the camera ended its stream")
    except (BrokenPipeError, ConnectionResetError):
        return 0
    except ModuleNotFoundError as error:
        writer.stop(Cause.CAMERA, f"{error.name} is not installed, and {kind} cameras need it")
        return 1
    except (OSError, BadH264, RuntimeError, ValueError, IndexError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        writer.stop(Cause.CAMERA, f"{options.get('device', kind)}: {reason}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
