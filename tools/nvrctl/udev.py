"""Cards that are put in, as the kernel tells. pyudev is imported only here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from nvr.errors import NvrError


class NoEvents(NvrError):
    """The kernel's events cannot be heard."""


def inserted(is_over: Callable[[], bool], on_ready: Callable[[], None] = lambda: None) -> Iterator[str]:
    """The paths of disks that came, or whose medium came, from now on; a path comes as often as a card does. Raises NoEvents."""
    import pyudev

    try:
        monitor = pyudev.Monitor.from_netlink(
            pyudev.Context(), source="udev" if Path("/run/udev/control").exists() else "kernel"
        )
        monitor.filter_by("block")
        monitor.start()
    except (OSError, ImportError) as error:
        raise NoEvents(
            f"the kernel's events cannot be heard: {error}", hint="libudev is needed: sudo apt install libudev1"
        ) from error
    on_ready()
    while not is_over():
        device = monitor.poll(timeout=0.5)
        # A card reader that stays says "change" when a card comes into it.
        if (
            device is not None
            and device.action in ("add", "change")
            and device.get("DEVTYPE") == "disk"
            and device.device_node
        ):
            yield str(device.device_node)
