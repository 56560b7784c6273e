"""The hub's API, as far as an administrator needs it on a laptop. httpx talks; nothing is kept here.

Who asks is either a program with a token, or a person with a password (the hub wants a person for making users and tokens). TLS
everywhere but on this machine itself: by public authority, or by the fingerprint of the hub's own certificate.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from nvr.errors import NvrError

TIMEOUT_S = 20.0
SENDING_TIMEOUT_S = 300.0  # for one part over a thin link, and for the hub to store a whole bundle
PART_BYTES = 256 << 10
ANSWER_BYTES = 16 << 20


class HubUnreachable(NvrError):
    """The hub does not answer, or somebody else does."""


class HubRefused(NvrError):
    """The hub answered, and said no."""

    def __init__(self, message: str, *, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.status = status


@dataclass(slots=True)
class HubClient:
    """Use it in a `with` statement."""

    url: str
    token: str = field(default="", repr=False)
    fingerprint: str = ""
    _client: httpx.Client = field(init=False, repr=False)
    _csrf: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        is_here = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.scheme not in (("https", "http") if is_here else ("https",)) or not parts.hostname or parts.username:
            raise HubUnreachable(
                f"{self.url} is no address of a hub", hint="It starts with https://, such as https://hub.example.org."
            )
        verify: ssl.SSLContext | bool = (
            _pinned(parts.hostname, parts.port or 443, self.fingerprint)
            if self.fingerprint and parts.scheme == "https"
            else True
        )
        headers = {"user-agent": "nvrctl", **({"authorization": f"Bearer {self.token}"} if self.token else {})}
        self._client = httpx.Client(
            base_url=self.url.rstrip("/"), verify=verify, timeout=TIMEOUT_S, headers=headers, follow_redirects=False
        )

    def __enter__(self) -> HubClient:
        return self

    def __exit__(self, *_: object) -> None:
        if self._csrf:
            try:
                self.ask("DELETE", "/api/v1/session")
            except NvrError:
                pass  # it ends by itself
        self._client.close()

    def log_in(self, name: str, password: str, *, totp: str = "", tenant: str = "city") -> None:
        """A session of a person, ended with the `with` statement. Raises HubRefused, HubUnreachable."""
        body = {"tenant": tenant, "name": name, "password": password, **({"totp": totp} if totp else {})}
        self._csrf = str(self.ask("POST", "/api/v1/session", body).get("csrf", ""))

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """The JSON of the answer. Raises HubRefused, HubUnreachable."""
        return self._request(method, path, json=body)

    def send(self, path: str, file: Path, on_progress: Callable[[int], None]) -> dict[str, Any]:
        """POST the bytes of `file`, telling how many have gone. Raises HubRefused, HubUnreachable, OSError."""

        def parts() -> Iterator[bytes]:
            sent = 0
            with open(file, "rb") as opened:
                while part := opened.read(PART_BYTES):
                    yield part
                    sent += len(part)
                    on_progress(sent)

        headers = {"content-length": str(file.stat().st_size), "content-type": "application/octet-stream"}
        return self._request("POST", path, content=parts(), headers=headers, timeout=SENDING_TIMEOUT_S)

    def _request(self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
        csrf = {"x-csrf": self._csrf} if self._csrf and method != "GET" else {}
        try:
            answer = self._client.request(method, path, headers={**csrf, **(headers or {})}, **more)
        except httpx.ConnectError as error:
            hint = (
                "Its certificate is not known here: give --fingerprint."
                if "CERTIFICATE_VERIFY" in str(error)
                else "Is the address right, and is this laptop on the internet?"
            )
            raise HubUnreachable(f"no connection to {self.url}: {error}", hint=hint) from None
        except httpx.HTTPError as error:
            raise HubUnreachable(
                f"{self.url} does not answer: {type(error).__name__} {error}".rstrip(),
                hint="Try again; the link may be slow.",
            ) from None
        if len(answer.content) > ANSWER_BYTES:
            raise HubUnreachable(f"{self.url} answers with {len(answer.content)} bytes")
        return self._read(answer, path)

    def _read(self, answer: httpx.Response, path: str) -> dict[str, Any]:
        if answer.status_code == 204:
            return {}
        try:
            content = answer.json()
        except ValueError:
            content = None
        if answer.is_success and isinstance(content, dict):
            return content
        told = content if isinstance(content, dict) else {}
        message = told.get("error") or told.get("detail") or f"status {answer.status_code}"
        hint = str(told.get("hint") or "")
        if answer.is_redirect or (answer.is_success and content is None) or (answer.status_code == 404 and not told):
            raise HubUnreachable(
                f"{self.url} answers, but not as a hub does ({answer.status_code} at {path})",
                hint="Is this the hub's address? Something else may be in front of it.",
            )
        if answer.status_code == 401 and not hint:
            hint = "The token is wrong, was revoked, or has run out; or log in with --as NAME."
        if answer.status_code == 403 and not hint:
            hint = "An administrator may do this; for users and tokens log in with --as NAME."
        raise HubRefused(f"the hub says no: {_text(message)}", hint=hint, status=answer.status_code)


def _text(message: Any) -> str:
    """FastAPI tells what is wrong with a body as a list."""
    if isinstance(message, list):
        return "; ".join(
            f"{'.'.join(map(str, each.get('loc', ())))}: {each.get('msg', '')}" if isinstance(each, dict) else str(each)
            for each in message
        )[:500]
    return str(message)[:500]


def _pinned(host: str, port: int, fingerprint: str) -> ssl.SSLContext:
    """Trusts exactly one certificate: the one with this SHA-256. Raises HubUnreachable when another is shown."""
    wanted = fingerprint.replace(":", "").lower()
    try:
        pem = ssl.get_server_certificate((host, port), timeout=TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise HubUnreachable(
            f"no TLS with {host}:{port}: {error}", hint="Is the address right, and is this laptop on the internet?"
        ) from None
    found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    if found != wanted:
        raise HubUnreachable(
            f"{host} shows another certificate, with fingerprint {found}",
            hint="If the hub has a new one, ask who runs it for its fingerprint; otherwise find out who answers there.",
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the fingerprint says who it is
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=pem)
    return context
