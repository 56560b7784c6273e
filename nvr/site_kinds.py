"""The kinds of values a site file holds: each reads a YAML node, or raises Wrong with what to write instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import yaml


class Wrong(Exception):
    """A value that cannot be taken, as a kind sees it; the reader adds line and key."""

    def __init__(self, what: str, instead: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.instead = instead


class Kind(Protocol):
    def read(self, node: yaml.Node, name: str) -> Any:
        """The value of `node`; `name` is the key's own name. Raises Wrong."""

    def form(self) -> str:
        """How a value looks, for docs/settings.md."""


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: what docs/settings.md says about it, and how it is checked."""

    name: str
    kind: Kind
    meaning: str
    default: Any = None
    required: bool = False
    why: str = ""  # the reason for the default


# -- kinds -------------------------------------------------------------------------------------------


def scalar(node: yaml.Node, what: str = "one value") -> str:
    """The text of a scalar as it stands in the file. Raises Wrong for lists, mappings and nothing."""
    if isinstance(node, yaml.MappingNode):
        raise Wrong(f"{what} is wanted here, not a group of keys")
    if isinstance(node, yaml.SequenceNode):
        raise Wrong(f"{what} is wanted here, not a list")
    text = str(node.value)
    if node.tag == "tag:yaml.org,2002:null" or not text.strip():
        raise Wrong("has no value", "Give it one, or take the key out.")
    return text


def shown(text: str) -> str:
    """At most 40 characters of what somebody wrote, in quotes; without the password that may stand in an address."""
    text = re.sub(r"(://[^/:@\s]*):\S*@", r"\1:...@", text)
    return repr(text if len(text) <= 40 else text[:37] + "...")


@dataclass(frozen=True, slots=True)
class Text:
    """Free text; `pattern` must match all of it."""

    pattern: str = r"[^\x00-\x1f\x7f]{1,500}"
    looks_like: str = "one line of text"
    is_secret: bool = False

    def read(self, node: yaml.Node, name: str) -> str:
        text = scalar(node)
        if re.fullmatch(self.pattern, text) is None:
            raise Wrong("cannot be this" if self.is_secret else f"cannot be {shown(text)}", f"Write {self.looks_like}.")
        return text

    def form(self) -> str:
        return self.looks_like


_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,38}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Name:
    """A name that also names a folder on disk and stands in URLs."""

    def read(self, node: yaml.Node, name: str) -> str:
        text = scalar(node, "a name")
        check_name(text)
        return text

    def form(self) -> str:
        return "lower-case letters, digits, `-` and `_`, at most 40"


def check_name(text: str) -> None:
    """Raises Wrong with a name that would do."""
    if _NAME.fullmatch(text) is None:
        better = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:40].strip("-_")
        raise Wrong(
            f"{shown(text)} cannot be a name: lower-case letters, digits, - and _, at most 40 characters",
            better and f"{better}",
        )


# What people write behind a number, and what it is in the unit the key is named after.
_UNITS = {
    "gb": {"kb": 1e-6, "mb": 1e-3, "gb": 1.0, "g": 1.0, "tb": 1e3, "t": 1e3, "mib": 1.048576e-3, "gib": 1.073741824, "m": 1e-3},
    "s": {"ms": 1e-3, "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "m": 60.0, "min": 60.0, "minutes": 60.0, "h": 3600.0},
    "days": {"d": 1.0, "day": 1.0, "days": 1.0, "w": 7.0, "weeks": 7.0, "week": 7.0, "months": 30.0, "h": 1 / 24, "hours": 1 / 24},
    "mbit": {"kbit": 1e-3, "kbps": 1e-3, "kbit/s": 1e-3, "mbit": 1.0, "mbps": 1.0, "mbit/s": 1.0},
    "fps": {"fps": 1.0, "hz": 1.0},
}  # fmt: skip
UNIT_NAMES = {
    "gb": "GB (1,000,000,000 bytes)",
    "s": "seconds",
    "days": "days",
    "mbit": "Mbit/s",
    "fps": "pictures a second",
}
_NUMBER = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(?:[eE][+-]?\d{1,2})?", re.ASCII)
_MEASURE = re.compile(r"([+-]?\d{1,12}(?:[.,]\d{1,12})?)\s*([A-Za-z/]{1,10})", re.ASCII)


def number_text(value: float) -> str:
    return f"{value:.10g}"


def unit_of(name: str) -> str:
    """The unit a key is named after, or ""."""
    last = name.rpartition("_")[2]
    return last if last in _UNITS else ""


def in_unit(text: str, unit: str) -> str:
    """A measure with its unit behind it ("40 GB") as a number of `unit`; "" when it is none."""
    measure = _MEASURE.fullmatch(text)
    factor = _UNITS.get(unit, {}).get(measure[2].lower()) if measure else None
    return number_text(float(measure[1].replace(",", ".")) * factor) if measure and factor is not None else ""


@dataclass(frozen=True, slots=True)
class Number:
    """A number within bounds that make sense."""

    least: float
    most: float
    is_whole: bool = False

    def read(self, node: yaml.Node, name: str) -> float | int:
        text = scalar(node, "a number").strip().replace("_", "")
        if _NUMBER.fullmatch(text) is None:
            raise self._not_a_number(text, name)
        value = float(text)
        if not self.least <= value <= self.most:
            raise Wrong(
                f"{shown(text)} makes no sense: {self.form()} is possible",
                f"{name}: {number_text(min(max(value, self.least), self.most))}",
            )
        if self.is_whole:
            if value != int(value):
                raise Wrong(f"{shown(text)} is not a whole number", f"{name}: {round(value)}")
            return int(value)
        return value

    def _not_a_number(self, text: str, name: str) -> Wrong:
        unit = unit_of(name)
        if value := in_unit(text, unit):
            return Wrong(
                f"{shown(text)} is not a number; the unit stands in the name: {UNIT_NAMES[unit]}", f"{name}: {value}"
            )
        if re.fullmatch(r"\d+,\d+", text):
            return Wrong(
                f"{shown(text)} has a comma; decimals are written with a point", f"{name}: {text.replace(',', '.')}"
            )
        return Wrong(f"{shown(text)} is not a number", f"Write {self.form()}.")

    def form(self) -> str:
        kind = "a whole number" if self.is_whole else "a number"
        return f"{kind} from {number_text(self.least)} to {number_text(self.most)}"


@dataclass(frozen=True, slots=True)
class Flag:
    def read(self, node: yaml.Node, name: str) -> bool:
        text = scalar(node, "true or false").strip().lower()
        if text in ("true", "yes", "on"):
            return True
        if text in ("false", "no", "off"):
            return False
        raise Wrong(f"{shown(text)} is neither true nor false", f"{name}: true")

    def form(self) -> str:
        return "`true` or `false`"


@dataclass(frozen=True, slots=True)
class Choice:
    options: tuple[str, ...]

    def read(self, node: yaml.Node, name: str) -> str:
        text = scalar(node).strip()
        if text in self.options:
            return text
        close = closest(text.lower(), self.options)
        raise Wrong(
            f"{shown(text)} is none of {', '.join(self.options)}",
            f"{name}: {close or self.options[0]}" if close else "",
        )

    def form(self) -> str:
        return ", ".join(f"`{option}`" for option in self.options)


@dataclass(frozen=True, slots=True)
class Group:
    """Keys of its own, read by somebody who knows them: the value is the node."""

    what: str

    def read(self, node: yaml.Node, name: str) -> yaml.Node:
        if not isinstance(node, yaml.MappingNode):
            scalar_text = "" if not isinstance(node, yaml.ScalarNode) else " with indented keys below it"
            raise Wrong(f"must be a group of keys{scalar_text}", self.what)
        return node

    def form(self) -> str:
        return self.what


def closest(text: str, options: Iterable[str]) -> str:
    found = difflib.get_close_matches(text[:80], list(options), n=1, cutoff=0.6)
    return found[0] if found else ""
