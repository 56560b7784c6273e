"""Where a stream comes from, as a site file says it: `main:` and `small:` of a camera."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import yaml

from nvr import site_keys
from nvr.site_settings import PiCameraSmallSource, PiCameraSource, ReplaySource, RtspSource, SourceSettings, UsbSource
from nvr.site_yaml import Entry, Reader, line_of


class Sources:
    """Reads the sources of one file, and notices what is recorded twice."""

    def __init__(self, reader: Reader, folder: Path) -> None:
        self.reader = reader
        self.folder = folder  # of the site file
        self.seen: dict[tuple[str, ...], str] = {}  # what is recorded -> path of the key that said so first

    def read(self, node: yaml.Node | None, path: str, *, main: SourceSettings | None = None) -> SourceSettings | None:
        """`main`: the same camera's main stream, where this is its small one."""
        if node is None:
            return None
        reader = self.reader
        entries = reader.entries(node, path)
        if "source" not in entries:
            reader.fault(line_of(node), f"{path}.source", "is missing", "source: rtsp (or replay, usb, picamera)")
            return None
        kind = reader.value(site_keys.SOURCES["rtsp"][0].kind, entries["source"])
        if kind is None:
            return None
        keys = site_keys.SOURCES[kind]
        elsewhere = {
            **site_keys.BELONGS,
            **{
                key.name: f"a stream with `source: {other}`"
                for other, known in site_keys.SOURCES.items()
                for key in known
            },
        }
        before = len(reader.faults)
        values = reader.section(entries, keys, path=path, line=line_of(node), elsewhere=elsewhere)
        values.pop("source")
        if "size" in values:
            values["width"], values["height"] = values.pop("size")
        source: SourceSettings | None = None
        if len(reader.faults) > before:
            return None
        if kind == "rtsp":
            source = self._rtsp(values, entries, path)
            same: tuple[str, ...] = ("rtsp", source.url) if source else ()
        elif kind == "replay":
            values["file"] = str(self.folder / Path(values["file"]).expanduser())
            source = ReplaySource(**values)
            if not Path(source.file).is_file():
                reader.warn(  # it may come later, and a laptop checks files of boxes
                    entries["file"].line,
                    f"{path}.file",
                    f"there is no file {source.file} here",
                    "A relative name starts from the folder of the site file.",
                )
            return source  # one film on four cameras is a demo, not a mistake
        elif kind == "usb":
            source = UsbSource(**values)
            same = ("usb", source.device)
        else:
            source = PiCameraSource(**values)
            if isinstance(main, PiCameraSource) and main.number == source.number:
                return self._of_one_sensor(main, source, entries, path)
            same = ("picamera", str(source.number))
        if source is not None and self.seen.setdefault(same, path) != path:
            self._same_source(kind, path, line_of(node), self.seen[same])
        return source

    def _of_one_sensor(
        self, main: PiCameraSource, small: PiCameraSource, entries: Mapping[str, Entry], path: str
    ) -> PiCameraSource | None:
        """The sensor gives one rate of pictures, and its pictures are only made smaller."""
        if "fps" in entries and small.fps != main.fps:
            self.reader.fault(
                entries["fps"].line, f"{path}.fps", f"the sensor gives main {main.fps:g} pictures a second, and so small", "Take it out."
            )  # fmt: skip
            return None
        if small.width > main.width or small.height > main.height:
            line = entries["size" if "size" in entries else "source"].line
            has = f"{small.width}x{small.height} is larger than main, which has {main.width}x{main.height}"
            self.reader.fault(line, f"{path}.size", has, "size: 640x360")
            return None
        return small

    def _same_source(self, kind: str, path: str, line: int, other: str) -> None:
        if kind == "rtsp":
            self.reader.warn(
                line,
                path,
                f"{other} records the same address",
                "Check the address; one camera recorded twice takes twice the disk.",
            )
        else:
            self.reader.fault(
                line, path, f"{other} uses the same device, and only one can have it", "Name another device."
            )

    def _rtsp(self, values: dict[str, Any], entries: Mapping[str, Entry], path: str) -> RtspSource | None:
        parts = urlsplit(values["url"])
        userinfo, _, host = parts.netloc.rpartition("@")
        if userinfo:
            if values["user"] or values["password"]:
                self.reader.fault(
                    entries["url"].line,
                    f"{path}.url",
                    "user and password stand in the address and beside it",
                    "Take them out of the address.",
                )
                return None
            user, _, password = userinfo.partition(":")
            values["user"], values["password"] = unquote(user), unquote(password)
            values["url"] = urlunsplit(parts._replace(netloc=host))
        if values["password"] and not values["user"]:
            self.reader.fault(
                entries.get("password", entries["url"]).line,
                f"{path}.password",
                "there is a password and no user",
                "user: (the camera's user)",
            )
            return None
        if parts.scheme.lower() == "rtsp":
            for name in ("tls_fingerprint", "tls_verify"):
                if name in entries:
                    self.reader.fault(
                        entries[name].line,
                        f"{path}.{name}",
                        "the address says rtsp://, without TLS",
                        "url: rtsps://... , or take this out",
                    )
        return RtspSource(**values)


def of_one_sensor(
    main: SourceSettings | None, small: SourceSettings | None
) -> tuple[SourceSettings | None, SourceSettings | None]:
    """Two streams of one ribbon camera: `main` has both made, `small` is what it offers."""
    if not isinstance(main, PiCameraSource) or not isinstance(small, PiCameraSource) or main.number != small.number:
        return main, small
    both = replace(main, small_size=(small.width, small.height), small_rate_mbit=small.rate_mbit)
    return both, PiCameraSmallSource(small.number)


def with_login_of(main: SourceSettings | None, small: SourceSettings | None) -> SourceSettings | None:
    """Two streams of one camera have one user: `small` takes over what `main` says, if it is the same host."""
    if not isinstance(main, RtspSource) or not isinstance(small, RtspSource) or small.user:
        return small
    if urlsplit(main.url).hostname != urlsplit(small.url).hostname:
        return small
    return replace(small, user=main.user, password=main.password)
