"""The `uplink` process: what a box knows reaches the hub, and what the hub asks for is done. docs/uplink.md."""
