"""One line of the table in docs/detection.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    rule: str
    scene: str  # what was played, for how long
    through: str  # "facts" or "pixels"
    figure: str
    target: str
    is_kept: bool | None  # None: told for its own sake, nothing was promised

    def cells(self) -> tuple[str, ...]:
        return (
            self.rule,
            self.scene,
            self.through,
            self.figure,
            self.target,
            {True: "yes", False: "**no**", None: "–"}[self.is_kept],
        )
