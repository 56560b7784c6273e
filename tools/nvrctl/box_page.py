"""A box's own page, as a program reads it (docs/guide/page.md). httpx talks; the password is tried once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from nvr.errors import NvrError

TIMEOUT_S = 15.0
FRAGMENT_BYTES = 8 << 20


class PageFailed(NvrError):
    """The page does not answer, or not as asked."""


@dataclass(slots=True)
class BoxPage:
    """Use it in a `with` statement; log_in() first."""

    address: str  # http://host:port
    _client: httpx.Client = field(init=False, repr=False)
    _csrf: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        self._client = httpx.Client(base_url=self.address, timeout=TIMEOUT_S, trust_env=False, follow_redirects=False)

    def __enter__(self) -> BoxPage:
        return self

    def __exit__(self, *_: object) -> None:
        if self._csrf:
            try:
                self._client.post("/api/logout", headers={"x-csrf-token": self._csrf})
            except httpx.HTTPError:
                pass  # the session ends by itself
        self._client.close()

    def log_in(self, password: str) -> dict[str, Any]:
        """A session; what the page says of its box. Raises PageFailed."""
        self._ask("POST", "/api/login", json={"password": password})
        session = self.get("/api/session")
        self._csrf = str(session.get("csrf", ""))
        return session

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        return self._ask("GET", path, params=parameters)

    def bytes_of(self, path: str, first: int, last: int) -> bytes:
        """A range of a segment. Raises PageFailed."""
        if last - first >= FRAGMENT_BYTES:
            raise PageFailed(f"a fragment of {last - first + 1} bytes")
        answer = self._request("GET", path, headers={"range": f"bytes={first}-{last}"})
        if answer.status_code != 206:
            raise PageFailed(
                f"{self.address} does not give a part of a segment ({answer.status_code})",
                hint="It may have been overwritten meanwhile.",
            )
        return answer.content

    def latest_keyframe(self, stream: str) -> bytes:
        """The newest fragment that begins with a keyframe, as an MP4 file. Raises PageFailed."""
        now_ms = int(self.get("/api/status")["now_ms"])
        found = self.get("/api/fragments", stream=stream, **{"from": str(now_ms - 60_000), "to": str(now_ms + 10_000)})[
            "fragments"
        ]
        newest = next((each for each in reversed(found) if each["is_keyframe"]), None)
        if newest is None:
            raise PageFailed(f"{stream} was not recorded within the last minute", hint="`nvrctl box status` says why.")
        path = f"/media/{stream}/{newest['segment']}/{newest['lap']}"
        init = self.bytes_of(path, 0, newest["init_bytes"] - 1)
        return init + self.bytes_of(path, newest["offset"], newest["offset"] + newest["size_bytes"] - 1)

    def _ask(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answer = self._request(method, path, **more)
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise PageFailed(
                f"{self.address} answers, but is no page of a box", hint="`nvrctl box find` lists those that are."
            )
        if not answer.is_success:
            raise PageFailed(f"{self.address}: {content.get('error')}", hint=str(content.get("hint") or ""))
        return content

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PageFailed(
                f"no answer from {self.address}: {type(error).__name__} {error}".rstrip(),
                hint="Is the box on, and on this network? `nvrctl box find` lists those that are.",
            ) from None
