"""Every key of a site file: how it is checked, its default with the reason, and what docs/settings.md says.

A setting exists when two sites need two values. `python -m nvr.site_keys` prints docs/settings.md.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import yaml

from nvr.site_kinds import Choice, Flag, Group, Key, Name, Number, Text, Wrong, scalar, shown

# A ring has at least four segments of 4 MiB (nvr/ring/layout.py); above this it is a typing error for any disk we know.
RING_GB = Number(0.02, 100_000)

SECRET_FORM = "any text; in quotes if it has `#`, `: ` or spaces at its ends"


@dataclass(frozen=True, slots=True)
class Url:
    """An address; a user and a password in it are taken out by whoever reads it."""

    schemes: tuple[str, ...]
    example: str

    def read(self, node: yaml.Node, name: str) -> str:
        text = scalar(node, "an address").strip()
        if re.search(r"[\s\x00-\x1f\x7f]", text) or len(text) > 2000:
            raise Wrong("an address has no spaces in it and at most 2000 characters", f'{name}: "{self.example}"')
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise Wrong(
                "the host or the port of this address cannot be read",
                "A password with /, ? or # in it goes into the `password` key; a port is a number up to 65535.",
            ) from None
        if parts.scheme.lower() not in self.schemes:
            known = " or ".join(f"{scheme}://" for scheme in self.schemes)
            raise Wrong(f"an address that starts with {known} is wanted here", f'{name}: "{self.example}"')
        if not parts.hostname or port == 0:
            raise Wrong("this address names no host", f'{name}: "{self.example}"')
        if parts.fragment:
            raise Wrong(
                "nothing behind a # reaches the camera", "A password with # in it goes into the `password` key."
            )
        return text

    def form(self) -> str:
        return f"an address such as `{self.example}`"


@dataclass(frozen=True, slots=True)
class Speed:
    """Times real time; `max` is infinity."""

    def read(self, node: yaml.Node, name: str) -> float:
        text = scalar(node, "a number or max").strip()
        if text == "max":
            return math.inf
        try:
            return float(Number(0.01, 1000).read(node, name))
        except Wrong as wrong:
            raise Wrong(wrong.what, f"{name}: 1.0, or {name}: max") from None

    def form(self) -> str:
        return "a number from 0.01 to 1000, or `max`: as fast as it goes"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """SHA-256 of a certificate, as lower-case hex without colons."""

    def read(self, node: yaml.Node, name: str) -> str:
        text = scalar(node, "a fingerprint").strip().lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
        if re.fullmatch(r"[0-9a-f]{64}", text) is None:
            raise Wrong(
                f"{shown(text)} is not a SHA-256 fingerprint: it has 64 hexadecimal digits",
                "openssl x509 -fingerprint -sha256 prints it.",
            )
        return text

    def form(self) -> str:
        return "64 hexadecimal digits, colons allowed"


@dataclass(frozen=True, slots=True)
class Size:
    """ "1920x1080" as (width, height)."""

    def read(self, node: yaml.Node, name: str) -> tuple[int, int]:
        text = scalar(node, "a size").strip().lower()
        match = re.fullmatch(r"(\d{2,4})\s*[x*×]\s*(\d{2,4})", text)
        if match is None or int(match[1]) % 2 or int(match[2]) % 2 or min(int(match[1]), int(match[2])) < 64:
            raise Wrong(f"{shown(text)} is not a picture size: two even numbers from 64", f"{name}: 1920x1080")
        return int(match[1]), int(match[2])

    def form(self) -> str:
        return "width x height such as `1920x1080`"


SITE = (
    Key("site", Name(), "Name of the site; several boxes may belong to one.", required=True),
    Key("box", Name(), "Name of this box, as people call it; its identity is its key, made at the first start.", required=True),
    Key("time_zone", Text(r"[A-Za-z0-9_+/-]{1,60}", "a name of the tz database such as `Asia/Jayapura`"), "Where times without an offset, days and hours are meant.", required=True),
    Key("holidays", Text(r"[^\x00-\x1f\x7f]{1,200}", "`indonesia`, `none`, or a file such as `my-holidays.yaml`"), "Days on which places are closed whatever their hours say: a list that comes with nvr, or a file of your own beside the site file.", "",
        why="`indonesia` in the time zones of Indonesia, elsewhere `none`"),
    Key("storage", Group("storage: with its keys below it"), "Where footage lies and how much may be lost."),
    Key("web", Group("web: with its keys below it"), "The box's own page."),
    Key("hub", Group("hub: with its keys below it"), "Where the box reports to; without it the box works alone."),
    Key("templates", Group("templates: with one group for each"), "Settings that several cameras share, by name."),
    Key("cameras", Group("cameras: with one group for each camera"), "The cameras, by name.", required=True),
)  # fmt: skip

STORAGE = (
    Key("path", Text(looks_like="a folder such as `/data/rings`"), "The data directory; `nvr run --data DIR` overrides it. Relative to the site file.", "/var/lib/nvr",
        why="where the packages of this world keep what changes"),
    Key("loss_bound_s", Number(1, 60), "At most so many seconds of each stream are lost when the power fails.", 5.0,
        why="one sync burst every few seconds costs little; a longer bound spares a slow card"),
    Key("reserve_gb", Number(0, 100_000), "So much of the disk is left to everything else.", 1.0,
        why="clips, logs and the file system's own needs"),
)  # fmt: skip

WEB = (
    Key("listen", Text(r"[0-9a-fA-F.:]{2,45}", "an IP address of this box; `0.0.0.0` means all"), "Address on which the page is served.", "0.0.0.0",
        why="the page is for the LAN, behind a log-in"),
    Key("port", Number(1, 65535, is_whole=True), "Port of the page.", 8080, why="needs no privilege"),
)  # fmt: skip

HUB = (
    Key("url", Url(("https",), "https://hub.example.org"), "Address of the hub; the box dials out to it.", required=True),
    Key("code", Text(r"[A-Za-z0-9]{4}(-[A-Za-z0-9]{4}){1,5}", "the one-time code, as `7F3K-QM2P-XW9D`", is_secret=True), "One-time code with which the box enrols; worthless afterwards.", ""),
    Key("fingerprint", Fingerprint(), "SHA-256 of the hub's certificate, where no public authority vouches for it.", ""),
    Key("cap_kbit_s", Number(32, 1_000_000), "The box sends at most so much, headers and repetitions included; the hub may ask for less.", None,
        why="a link of its own needs none"),
    Key("floor_kbit_s", Number(0, 1_000_000), "So much of the cap is kept for heartbeats, events and clips of alarms; nothing else takes it.", 16.0,
        why="a heartbeat of 16 cameras every 10 s and an event a minute"),
    Key("quiet_hours", Text(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d(\s*,\s*([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d){0,5}", "times such as `07:00-22:00`, at the site; several with commas"),
        "When clips that are no alarm and that nobody asked for wait: the link belongs to others.", "", why="none"),
    Key("yields", Flag(), "The link is shared, as with free public Wi-Fi: clips that are no alarm and that nobody asked for go more slowly as soon as others wait because of them.", False,
        why="a link of its own has nobody to yield to"),
    Key("still_s", Number(2, 3600), "Every so many seconds a small still of each camera; the hub may ask for fewer.", 10.0, why="a wall of 37 cameras in 1 Mbit/s"),
    Key("clips", Choice(("all", "alarms", "none")), "Which events send their footage without being asked.", "all",
        why="what is true of a place is only believed with its picture"),
    Key("clip_before_s", Number(0, 120), "A clip begins so long before its event.", 10.0, why="how it came to it"),
    Key("clip_after_s", Number(0, 300), "And ends so long after it.", 10.0, why="where they went"),
)  # fmt: skip

# What one camera says, and a template may say for several.
SHARED = (
    Key("ring_gb", RING_GB, "Disk for the recorded main stream; the oldest footage goes first.", required=True),
    Key("small_ring_gb", RING_GB, "Records the small stream as well, within this budget. Without it only `main` is recorded.", None),
    Key("hold_gb", Number(0, 100_000), "Held footage (evidence) may take so much of the disk beyond its ring, for each recorded stream.", None,
        why="a tenth of the ring"),
    Key("keep_days", Number(0.04, 3660), "Footage older than this goes, even if there is room: where the law wants it.", None, why="bytes alone decide"),
    Key("evidence", Flag(), "Chain and sign fragments, so that a clip can be proved genuine.", True, why="its cost is small (docs/bench.md), and nobody knows before which clip will matter"),
    Key("stall_s", Number(2, 600), "A camera that sends no picture for so long is taken to be gone, and is dialled again.", 10.0,
        why="cameras pause for a few seconds when they change day and night mode"),
    Key("zones", Group("zones: with a list of corners for each"), "Named areas of the picture: at least three corners `[x, y]`, as fractions of width and height."),
    Key("masks", Group("masks: with a list of corners for each"), "Areas that nobody looks at: black in every picture that leaves the box or that a model sees. Written like zones."),
    Key("lines", Group("lines: with {from: [x, y], to: [x, y]} for each"), "Named lines that are crossed, from and to `[x, y]`."),
    Key("hours", Group("hours: with the times for each day"), "When the place is open: days (`mon`, `mon-thu`, `sat,sun`) and times (`08:00-12:00, 13:00-16:00`, or `closed`)."),
    Key("rules", Group("rules: with a group for each rule"), "What to look for; see the rules below."),
)  # fmt: skip

CAMERA = (
    Key("place", Name(), "The place it looks at, on the hub's board; the site where it is not given.", ""),
    Key("template", Text(r"[a-z0-9_-]{1,40}", "the name of a template"), "Takes over what the template says and the camera does not.", ""),
    Key("main", Group("main: {source: rtsp, url: ...}"), "The stream that is recorded.", required=True),
    Key("small", Group("small: {source: rtsp, url: ...}"), "The stream that is looked at: live on a slow link, and detection. At the host of `main` it needs no `user` of its own."),
    *SHARED,
)  # fmt: skip

_SOURCE = Key("source", Choice(("rtsp", "replay", "usb", "picamera")), "Where the stream comes from.", required=True)
_SIZE = Key("size", Size(), "Picture size.", (1280, 720), why="what most small cameras do at 25 pictures a second")
_FPS = Key("fps", Number(1, 120), "Pictures a second.", 25.0, why="what cameras in 50 Hz countries send")
_MBIT = Key("rate_mbit", Number(0.05, 50), "Wanted bit rate in Mbit/s.", 2.0, why="good pictures at 1280x720")

SOURCES: dict[str, tuple[Key, ...]] = {
    "rtsp": (
        _SOURCE,
        Key("url", Url(("rtsp", "rtsps"), "rtsp://10.0.0.11/main"), "Address of the stream; `rtsps://` for TLS.", required=True),
        Key("user", Text(), "User at the camera.", ""),
        Key("password", Text(looks_like=SECRET_FORM, is_secret=True), "Password at the camera.", ""),
        Key("transport", Choice(("auto", "tcp", "udp")), "How media travels; `auto` tries TCP and then UDP.", "auto", why="TCP loses nothing; some cameras only do UDP"),
        Key("tls_fingerprint", Fingerprint(), "SHA-256 of the camera's own certificate: only this one is accepted.", ""),
        Key("tls_verify", Flag(), "Ask a public authority whether the certificate is genuine; `false` accepts any.", True, why="an unchecked certificate protects against nothing"),
    ),
    "replay": (
        _SOURCE,
        Key("file", Text(looks_like="a file; relative to the site file"), "H.264 in MP4, or a bare H.264 file.", required=True),
        Key("loop", Flag(), "Begin again at the end.", False, why="`nvr run --once` ends when the files have ended"),
        Key("speed", Speed(), "Times real time.", 1.0, why="like a camera"),
        Key("fps", Number(1, 120), "Pictures a second, for a bare H.264 file, which does not say.", None),
    ),
    "usb": (
        _SOURCE,
        Key("device", Text(r"/dev/[A-Za-z0-9_./:-]{1,200}", "a device such as `/dev/video0`"), "The V4L2 device; names below `/dev/v4l/by-id` survive replugging.", required=True),
        _SIZE, _FPS, _MBIT,
    ),
    "picamera": (
        _SOURCE,
        Key("number", Number(0, 7, is_whole=True), "Which camera, as `rpicam-hello --list-cameras` counts. `main` and `small` may name the same one: its sensor gives both.", 0, why="most boards have one"),
        _SIZE, _FPS, _MBIT,
    ),
}  # fmt: skip

LINE = (
    Key("from", Group("[x, y]"), "Where the line begins.", required=True),
    Key("to", Group("[x, y]"), "Where it ends.", required=True),
)

_ZONE = Key("zone", Name(), "A zone of this camera.", required=True)
_ALERT = Key("alert_above", Number(1, 1000, is_whole=True), "Alert when more than so many are there.", None)
_FOR = Key("for_s", Number(1, 86_400), "And this for so long.", 60.0, why="a bus that empties is not a queue")

RULES: dict[str, tuple[Key, ...]] = {
    "service_open": (
        _ZONE,
        Key("quiet_s", Number(1, 86_400), "Nobody was seen for so long, by a camera that could see all the time: closed. It is said 310 s later, when no fault of the camera can come to light any more.", 600.0, why="staff leave a counter for minutes, not for ten"),
        Key("grace_s", Number(0, 86_400), "So long after opening time nobody is called late.", 900.0, why="clocks and people differ by a quarter of an hour"),
    ),
    "queue": (_ZONE, _ALERT, _FOR),
    "congestion": (
        _ZONE,
        Key("length_m", Number(1, 1000), "What the zone measures along the lane, in metres; speeds are then given in m/s as well.", None),
        Key("for_s", Number(1, 86_400), "A jam lasts at least so long.", 60.0, why="most red lights are shorter"),
    ),
    "stopped_vehicle": (
        _ZONE,
        Key("after_s", Number(1, 86_400), "Stands for so long.", 15.0, why="longer than a driver hesitates"),
        Key("red_light_s", Number(0, 3600), "A traffic light holds vehicles here for up to so long; 0 where there is none.", 0.0,
            why="where traffic lights stand is not seen; places where vehicles keep stopping are learned as well"),
    ),
    "line_crossing": (Key("line", Name(), "A line of this camera.", required=True),),
    "intrusion": (
        _ZONE,
        Key("when", Choice(("closed", "always")), "`closed`: outside the opening hours, or always where there are no hours.", "closed"),
        Key("after_s", Number(0, 86_400), "Is there for so long.", 2.0, why="one picture may err"),
    ),
    "loitering": (
        _ZONE,
        Key("after_s", Number(1, 86_400), "Stays for so long.", 120.0, why="longer than a phone call"),
    ),
    "crowd": (_ZONE, _ALERT, _FOR),
    "tamper": (),
    "camera": (),
}  # fmt: skip

# Names a camera may give as `template` without the site file saying more; rules/templates.py says what they look for.
BUILT_IN_TEMPLATES = ("service-office", "traffic", "public-space")

# Where a key belongs that was written elsewhere.
BELONGS: dict[str, str] = {
    **{key.name: f"the site file's first level: {key.name}:" for key in SITE},
    **{key.name: f"storage.{key.name}" for key in STORAGE if key.name != "path"},
    **{key.name: f"web.{key.name}" for key in WEB},
    **{key.name: f"cameras.NAME.{key.name}" for key in CAMERA},
    **{key.name: f"cameras.NAME.main.{key.name}" for keys in SOURCES.values() for key in keys},
}


# -- docs/settings.md --------------------------------------------------------------------------------

_INTRODUCTION = """\
# Settings

<!-- Made by `make docs` from nvr/site_keys.py; changes here are lost. -->

One site file describes one box. `nvr site check FILE` reads it completely and names each fault with its line and what to
write instead; `nvr run` refuses a file with faults. A quantity carries its unit in its name: `_gb` are 1,000,000,000
bytes, `_s` seconds, `_days` days, `_mbit` Mbit/s.

A complete one is [`docs/example-site.yaml`](example-site.yaml).
"""


def settings_document() -> str:
    """All of docs/settings.md."""
    parts = [_INTRODUCTION]
    parts.append(_table("The file", "", SITE))
    parts.append(_table("storage", "", STORAGE))
    parts.append(_table("web", "", WEB))
    parts.append(_table("hub", "", HUB))
    templates = ", ".join(f"`{name}`" for name in BUILT_IN_TEMPLATES)
    parts.append(
        "## templates\n\nWhat a camera says itself counts more than its template. A template holds any of the keys "
        f"of a camera except `place`, `template`, `main` and `small`. Known without being written: {templates}; a camera "
        "that takes one of these and has no `rules` gets those of docs/detection.md.\n"
    )
    parts.append(
        _table("cameras.NAME", f"NAME: {Name().form()}. A stream is called `NAME/main` or `NAME/small`.", CAMERA)
    )
    meanings = {
        "rtsp": "A camera on the network.",
        "replay": "A file, played as if it were a camera.",
        "usb": "A camera at a USB port.",
        "picamera": "A camera at the ribbon connector of a Raspberry Pi.",
    }
    for name, keys in SOURCES.items():
        parts.append(_table(f"main, small: source: {name}", meanings[name], keys))
    parts.append(
        "## cameras.NAME.rules\n\nA rule is given with its keys, or with a list of such groups to have it several times. "
        "`service_open` needs `hours`. `tamper` and `camera` look after every camera without being written.\n"
    )
    for name, keys in RULES.items():
        parts.append(_table(f"rule: {name}", "" if keys else "Has no keys: write `{}`.", keys))
    return "\n".join(parts)


def _table(title: str, introduction: str, keys: tuple[Key, ...]) -> str:
    lines = [f"## {title}", ""]
    if introduction:
        lines += [introduction, ""]
    if keys:
        lines += ["| key | value | default | meaning |", "| --- | --- | --- | --- |"]
    for key in keys:
        form = key.kind.form().replace("|", "\\|")
        lines.append(f"| `{key.name}` | {form} | {_default_text(key)} | {key.meaning} |")
    return "\n".join([*lines, ""])


def _default_text(key: Key) -> str:
    if key.required:
        return "needed"
    if key.default is None or key.default == "":
        return f"none{f': {key.why}' if key.why else ''}"
    default = key.default
    if isinstance(default, bool):
        text = str(default).lower()
    elif isinstance(default, tuple):
        text = "x".join(map(str, default))
    else:
        text = f"{default:g}" if isinstance(default, float) else str(default)
    return f"`{text}`{f': {key.why}' if key.why else ''}"


if __name__ == "__main__":
    print(settings_document(), end="")
