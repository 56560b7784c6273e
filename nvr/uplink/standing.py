"""How the uplink stands: what its parts tell each other and everybody."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from nvr.uplink.ladder import Ladder


@dataclass
class Standing:
    """Only ever touched by the event loop."""

    ladder: Ladder = field(default_factory=Ladder)
    is_in: asyncio.Event = field(default_factory=asyncio.Event)  # enrolled, and the hub's time is known
    last_ok_ms: int = 0  # when the hub last took something, by its own clock
    last_error: str = ""
    trouble: str = ""  # of our own disk

    def heard_at(self, hub_ns: int | None) -> None:
        self.last_ok_ms = (hub_ns or 0) // 1_000_000
