"""From a camera's address to an open connection, step by step, without ever waiting.

    a name -> addresses (in a thread of its own: a name server may take half a minute) -> TCP -> TLS -> connected

Also the pair of UDP sockets that RTP over UDP needs. What is said over the connection is `rtsp.py`'s business.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nvr.errors import NvrError

if TYPE_CHECKING:
    import ssl

_SO_RCVBUFFORCE = 33  # Linux; Python has no name for it
RECEIVE_BUFFER_BYTES = 1 << 20  # two seconds of a 4 Mbit/s camera, should the recorder be late
_NS = 1_000_000_000
_RESOLVE_NS = 15 * _NS  # glibc gives up after 5 s for each try and server
_CONNECT_NS = 5 * _NS  # for each address; a camera in the same building answers in a millisecond
_TLS_NS = 10 * _NS
_PORTS = {"rtsp": 554, "rtsps": 322}  # as registered with IANA

# (family, sockaddr) as getaddrinfo gives them
Address = tuple[int, tuple]  # type: ignore[type-arg]


class DialFailed(NvrError):
    """There is no connection. `is_camera`: something answered, but not as a camera of ours should."""

    def __init__(self, message: str, *, hint: str = "", is_camera: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_camera = is_camera


@dataclass(frozen=True, slots=True)
class Tls:
    """How a camera proves who it is. Cameras rarely have certificates that anybody signed."""

    fingerprint: str = ""  # SHA-256 of the only certificate that is accepted, in hex; "": verified as browsers do
    verify: bool = True


class Names:
    """Looks names up beside the recorder; keeps the last answer for the time when no name server answers."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._asked: tuple[str, int] = ("", 0)
        self._answer: list[Address] | str | None = None  # a text when it failed
        self._known: dict[tuple[str, int], list[Address]] = {}

    def addresses(self, host: str, port: int) -> list[Address] | None:
        """None while it is being looked up: ask again at the next drain. Raises DialFailed."""
        if numeric := _numeric(host, port):
            return numeric
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            if self._asked == (host, port):
                return self._answered(host, port)
        self._asked, self._answer = (host, port), None
        self._thread = threading.Thread(target=self._look_up, args=(host, port), name="names", daemon=True)
        self._thread.start()
        return None

    def last_known(self, host: str, port: int) -> list[Address]:
        return self._known.get((host, port), [])

    def _look_up(self, host: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
            self._answer = [(family, address) for family, _, _, _, address in found]
        except (OSError, UnicodeError) as error:
            self._answer = getattr(error, "strerror", None) or str(error)

    def _answered(self, host: str, port: int) -> list[Address]:
        answer = self._answer
        if isinstance(answer, list) and answer:
            self._known[host, port] = answer
            return answer
        if known := self.last_known(host, port):
            return known
        raise DialFailed(
            f"no address for {host}: {answer or 'nothing was found'}", hint="Use the camera's IP address, or check DNS."
        )


def _numeric(host: str, port: int) -> list[Address]:
    try:
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=flags)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]


class Dial:
    """One attempt at one camera. Call step() at every drain until it returns the socket."""

    def __init__(self, url: str, names: Names, tls: Tls, now_ns: int) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.port = parts.port or _PORTS[parts.scheme.lower()]
        self._is_tls = parts.scheme.lower() == "rtsps"
        self._names, self._tls = names, tls
        self._since_ns = now_ns
        self._addresses: list[Address] | None = None
        self._socket: socket.socket | None = None
        self._address: Address | None = None
        self._handshake: ssl.SSLSocket | None = None
        self._failure = ""

    def step(self, now_ns: int) -> socket.socket | None:
        """The connected, non-blocking socket, or None: not yet. Raises DialFailed; nothing is left open then."""
        try:
            return self._step(now_ns)
        except DialFailed:
            self.close()
            raise

    def close(self) -> None:
        for each in (self._handshake, self._socket):
            if each is not None:
                each.close()
        self._handshake = self._socket = None

    def _step(self, now_ns: int) -> socket.socket | None:
        if self._addresses is None:
            self._addresses = self._names.addresses(self.host, self.port)
            if self._addresses is None:
                if now_ns - self._since_ns <= _RESOLVE_NS:
                    return None
                self._addresses = self._names.last_known(self.host, self.port)
                if not self._addresses:
                    raise DialFailed(
                        f"no answer to the question for {self.host}'s address",
                        hint="Use the camera's IP address, or check DNS.",
                    )
            self._addresses = list(self._addresses)
        if self._handshake is not None:
            return self._shake_hands(now_ns)
        while True:
            if self._socket is None and not self._open_next(now_ns):
                continue
            assert self._socket is not None and self._address is not None
            error = self._socket.connect_ex(self._address[1])
            if error in (0, errno.EISCONN):
                break
            if error in (errno.EINPROGRESS, errno.EALREADY):
                if now_ns - self._since_ns <= _CONNECT_NS:
                    return None
                error = errno.ETIMEDOUT
            self._failure = os.strerror(error)
            self._socket.close()
            self._socket = None
        if not self._is_tls:
            connected, self._socket = self._socket, None
            return connected
        self._since_ns = now_ns
        self._handshake = self._wrapped(self._socket)
        self._socket = None
        return self._shake_hands(now_ns)

    def _open_next(self, now_ns: int) -> bool:
        """A socket for the next address; False when there can be none. Raises DialFailed after the last address."""
        if not self._addresses:
            raise DialFailed(
                f"no connection to {self.host}:{self.port}: {self._failure}",
                hint="Is the camera on, and on this network?",
            )
        self._address = self._addresses.pop(0)
        self._since_ns = now_ns
        try:
            self._socket = socket.socket(self._address[0], socket.SOCK_STREAM)
        except OSError as error:  # no IPv6 on this machine, or no descriptor left
            self._failure = error.strerror or str(error)
            return False
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        widen(self._socket)
        return True

    def _wrapped(self, plain: socket.socket) -> ssl.SSLSocket:
        import ssl

        context = _tls_context(self._tls.verify and not self._tls.fingerprint)
        try:
            return context.wrap_socket(plain, server_hostname=self.host, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            plain.close()
            raise DialFailed(
                f"no TLS with {self.host}:{self.port}: {error}", is_camera=not isinstance(error, ssl.SSLError)
            ) from None

    def _shake_hands(self, now_ns: int) -> socket.socket | None:
        import ssl

        connection = self._handshake
        assert connection is not None
        try:
            connection.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if now_ns - self._since_ns <= _TLS_NS:
                return None
            raise DialFailed(f"{self.host}:{self.port} does not finish the TLS handshake", is_camera=True) from None
        except ssl.SSLCertVerificationError as error:
            raise DialFailed(
                f"{self.host}'s certificate is not accepted: {error.verify_message}",
                hint="Most cameras sign their own: give its SHA-256 as tls_fingerprint.", is_camera=True,
            ) from None  # fmt: skip
        except OSError as error:
            raise DialFailed(
                f"no TLS with {self.host}:{self.port}: {error.strerror or error}", is_camera=True
            ) from None
        if self._tls.fingerprint:
            seen = hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
            if seen != self._tls.fingerprint.replace(":", "").lower():
                raise DialFailed(
                    f"{self.host} shows another certificate, with fingerprint {seen}",
                    hint="If the camera was reset or replaced, put the new one in the site file; otherwise find out who answers there.",
                    is_camera=True,
                )
        self._handshake = None
        return connection


@functools.cache
def _tls_context(verify: bool) -> ssl.SSLContext:
    """Made once: reading the system's authorities takes tens of milliseconds."""
    import ssl

    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


@functools.cache
def _may_widen() -> bool:
    """A buffer that is set no longer grows by itself, so a smaller one than the kernel would allow does harm."""
    try:
        return int(Path("/proc/sys/net/core/rmem_max").read_text()) >= RECEIVE_BUFFER_BYTES
    except (OSError, ValueError):
        return False


def widen(connection: socket.socket, *, even_if_less: bool = False) -> None:
    """Ask for a large receive buffer. `even_if_less`: for UDP, whose buffers never grow by themselves."""
    try:
        connection.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
        return
    except OSError:
        pass  # not privileged: what the kernel allows everybody
    if _may_widen() or even_if_less:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


def udp_pair(family: int) -> tuple[socket.socket, socket.socket]:
    """Sockets for RTP and RTCP on an even port and the odd one above it (RFC 3550, 11). Raises DialFailed."""
    error: OSError | None = None
    for _ in range(32):
        pair: list[socket.socket] = []
        try:
            pair += (socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM))
            media, control = pair
            for each in (media, control):
                each.setblocking(False)
            widen(media, even_if_less=True)
            media.bind(("", 0))
            port = media.getsockname()[1]
            if port % 2 == 0 and port < 65535:
                control.bind(("", port + 1))
                return media, control
        except OSError as failed:
            error = failed
        for each in pair:
            each.close()
    raise DialFailed(f"no pair of free UDP ports: {error.strerror if error else 'none was even'}")
