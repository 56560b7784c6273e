"""The errors that people see: what happened, with the numbers, and what to do about it."""

from __future__ import annotations


class NvrError(Exception):
    """Base of every error of ours. The command line prints the message, then the hint."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
