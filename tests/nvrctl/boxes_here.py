"""A port that is free, and the password of boxes that run here."""

from __future__ import annotations

import socket

PASSWORD = "correct horse battery"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
