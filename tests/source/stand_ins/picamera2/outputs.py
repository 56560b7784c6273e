"""The stand-in's base class of outputs."""

from __future__ import annotations


class Output:
    def outputframe(self, frame, keyframe=True, timestamp=None, packet=None, audio=False) -> None: ...
