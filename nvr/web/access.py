"""Who may look at the page: one-time links, the password, sessions, and how often one may try.

Everything lies in DATA/web (0700), so the process can be killed at any moment: `link` and `password` hold
hashes only, `sessions` the hashes of the session names given out. There is no default password: before the first
one is set, only a one-time link opens the page. Ages are taken by the monotonic clock within one boot and by the
wall clock across boots, because a box without a battery clock starts in 1970 and then jumps.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from nvr import durable
from nvr.clock import Clock, SystemClock, boot_id
from nvr.errors import NvrError

LINK_VALID_S = 24 * 3600
SESSION_VALID_S = 30 * 24 * 3600
SESSIONS_KEPT = 64  # the oldest is logged out; a box is looked at by a handful of people
PASSWORD_MIN_LENGTH = 10
PASSWORD_MAX_LENGTH = 256  # nobody types more, and hashing megabytes would be a way to stop the box

# Each wrong password makes the next try from the same address wait longer; the first few are free, for typing errors.
FREE_TRIES = 4
WAIT_S = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0)
ADDRESSES_KEPT = 1024
FORGIVEN_AFTER_S = 3600.0
# All addresses together: someone with many addresses gets no more than this, someone with the password waits little.
GLOBAL_TRIES = 30
GLOBAL_PER_S = 60.0


class NotAllowed(NvrError):
    """The link, the password or the session does not open this page."""


class TooManyTries(NvrError):
    """Wait `wait_s` seconds before the next password."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"too many wrong passwords; next try in {wait_s:.0f} s", hint="Wait, then try again.")
        self.wait_s = wait_s


class PasswordTooWeak(NvrError):
    """The new password is too short or too long."""


@dataclass(frozen=True, slots=True)
class Moment:
    """An instant by both clocks, kept on disk."""

    boot_id: str
    mono_s: float
    wall_s: float

    @classmethod
    def now(cls, clock: Clock) -> Moment:
        reading = clock.read()
        return cls(boot_id().hex(), reading.mono_ns / 1e9, reading.wall_ns / 1e9)

    def age_s(self, now: Moment) -> float:
        """Seconds since then; in the same boot exactly, otherwise as far as the wall clock can be believed."""
        if self.boot_id == now.boot_id:
            return now.mono_s - self.mono_s
        return now.wall_s - self.wall_s

    def to_json(self) -> dict[str, Any]:
        return {"boot_id": self.boot_id, "mono_s": self.mono_s, "wall_s": self.wall_s}


def _moment_of(fields: Any) -> Moment:
    return Moment(str(fields["boot_id"]), float(fields["mono_s"]), float(fields["wall_s"]))


def _hashed(token: str) -> str:
    """Tokens are 256 random bits, so one fast hash is enough; passwords get argon2."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _write(path: Path, text: str) -> None:
    """Replace `path` as a whole, readable by us alone, there after a power cut."""
    path.parent.mkdir(mode=0o700, exist_ok=True)  # DATA itself is never made here: it may be a disk that is away
    new_path = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    durable.write_new(new_path, text.encode())
    os.replace(new_path, path)
    durable.sync_folder(path.parent)


def _read_json(path: Path) -> Any:
    """What is in `path`; None where there is nothing readable: then nobody is let in by it."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None


def create_one_time_link(data_dir: Path, base_url: str, clock: Clock | None = None) -> str:
    """A new address that opens the page once, within 24 hours, to set the password. An older one stops working.

    The secret stands behind `#`, so browsers send it to nobody and no log or link preview ever sees it.
    """
    token = secrets.token_urlsafe(32)
    created = Moment.now(clock or SystemClock())
    _write(data_dir / "web" / "link", json.dumps({"hash": _hashed(token), "created": created.to_json()}))
    return f"{base_url.rstrip('/')}/enter#{token}"


def has_password(data_dir: Path) -> bool:
    """Whether somebody has set a password; before that `nvr run` prints a one-time link."""
    return (data_dir / "web" / "password").exists()


class Throttle:
    """How often passwords may be tried, for each address and for all together. Bounded memory."""

    def __init__(self, mono_s: Callable[[], float]) -> None:
        self._mono_s = mono_s
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()  # address -> count, time of the last
        self._tokens = float(GLOBAL_TRIES)
        self._tokens_s = mono_s()

    @staticmethod
    def key(address: str) -> str:
        """One subscriber: an IPv4 address, or the /64 that an IPv6 host can choose from."""
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return "unknown"
        if isinstance(ip, ipaddress.IPv6Address):
            if ip.ipv4_mapped is not None:
                return str(ip.ipv4_mapped)
            return str(ipaddress.ip_network((ip, 64), strict=False))
        return str(ip)

    def take(self, address: str) -> None:
        """Count one try before it is made, so that tries at the same time count too. Raises TooManyTries."""
        now_s, key = self._mono_s(), self.key(address)
        count, last_s = self._failures.get(key, (0, now_s))
        if now_s - last_s > FORGIVEN_AFTER_S:
            count = 0
        if count >= FREE_TRIES:
            wait_s = last_s + WAIT_S[min(count - FREE_TRIES, len(WAIT_S) - 1)] - now_s
            if wait_s > 0:
                raise TooManyTries(wait_s)
        self._tokens = min(GLOBAL_TRIES, self._tokens + (now_s - self._tokens_s) * GLOBAL_TRIES / GLOBAL_PER_S)
        self._tokens_s = now_s
        if self._tokens < 1:
            raise TooManyTries((1 - self._tokens) * GLOBAL_PER_S / GLOBAL_TRIES)
        self._tokens -= 1
        self._failures[key] = (count + 1, now_s)
        self._failures.move_to_end(key)
        while len(self._failures) > ADDRESSES_KEPT:
            self._failures.popitem(last=False)

    def forgive(self, address: str) -> None:
        """The password was right."""
        self._failures.pop(self.key(address), None)


@dataclass(frozen=True, slots=True)
class Session:
    """One browser that is logged in; its name is only in the cookie, its CSRF token only in that page."""

    name_hash: str
    csrf: str


class Access:
    """The guard of one page; safe to use from several threads of the one web process."""

    def __init__(self, data_dir: Path, clock: Clock | None = None) -> None:
        self._dir = data_dir / "web"
        self._clock = clock or SystemClock()
        self._throttle = Throttle(lambda: self._clock.mono_ns() / 1e9)
        # 19 MiB and two passes: OWASP's figure for argon2id; a Cortex-A53 takes about a second.
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._lock = threading.Lock()  # one hash at a time: memory and CPU of the box belong to recording
        self._sessions_lock = threading.Lock()
        self._remembered = ""  # the sessions as they were last read
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    @property
    def has_password(self) -> bool:
        return (self._dir / "password").exists()

    def set_password(self, token: str, password: str, address: str) -> str:
        """Use up a one-time link: set the password, end all sessions, start one; returns its name for the cookie.

        Raises NotAllowed (used, wrong or too old link), PasswordTooWeak (the link stays good), TooManyTries.
        """
        with self._lock:
            self._throttle.take(address)
            link = _read_json(self._dir / "link")
            try:
                is_right = hmac.compare_digest(str(link["hash"]), _hashed(token))
                age_s = _moment_of(link["created"]).age_s(Moment.now(self._clock))
            except (KeyError, TypeError, ValueError):
                is_right, age_s = False, 0.0
            if not is_right or not 0 <= age_s < LINK_VALID_S:
                raise NotAllowed(
                    "this link was used already, or is older than 24 hours",
                    hint="Make a new one on the box: nvr web link --site FILE",
                )
            self._throttle.forgive(address)
            if not PASSWORD_MIN_LENGTH <= len(password) <= PASSWORD_MAX_LENGTH:
                raise PasswordTooWeak(
                    f"the password has {len(password)} characters, "
                    f"{PASSWORD_MIN_LENGTH} to {PASSWORD_MAX_LENGTH} are needed",
                    hint="Four unrelated words are easy to remember and hard to guess.",
                )
            hashed = self._hasher.hash(password.encode("utf-8", "surrogatepass"))
            (self._dir / "link").unlink(missing_ok=True)  # first: a power cut here costs a link, never opens it twice
            _write(self._dir / "password", hashed)
            with self._sessions_lock:
                _write(self._dir / "sessions", "[]")
            return self._start_session()

    def log_in(self, password: str, address: str) -> str:
        """The name of a new session. Raises NotAllowed or TooManyTries; takes as long for any wrong password."""
        with self._lock:
            self._throttle.take(address)
            try:
                hashed, is_set = (self._dir / "password").read_text().strip(), True
            except OSError:
                hashed, is_set = self._nobody, False
            try:
                if len(password) > PASSWORD_MAX_LENGTH:
                    raise VerificationError
                self._hasher.verify(hashed, password.encode("utf-8", "surrogatepass"))
            except (VerificationError, InvalidHashError):
                is_set = False
            if not is_set:
                raise NotAllowed(
                    "the password is wrong", hint="A new one can be set on the box: nvr web link --site FILE"
                )
            self._throttle.forgive(address)
            return self._start_session()

    def _start_session(self) -> str:
        name = secrets.token_urlsafe(32)
        with self._sessions_lock:
            sessions = self._sessions()
            sessions.append({"hash": _hashed(name), "created": Moment.now(self._clock).to_json()})
            remembered = json.dumps(sessions[-SESSIONS_KEPT:])
            _write(self._dir / "sessions", remembered)
            self._remembered = remembered  # also for the disk that goes away before it was read back
        return name

    def session(self, name: str | None) -> Session | None:
        """The session a cookie names, or None."""
        if not name or len(name) > 128:
            return None
        hashed, now = _hashed(name), Moment.now(self._clock)
        for entry in self._sessions():
            if hmac.compare_digest(entry["hash"], hashed):
                # A wall clock that was set back across boots makes ages negative: still the same person.
                if _moment_of(entry["created"]).age_s(now) < SESSION_VALID_S:
                    csrf = hmac.new(name.encode("utf-8", "surrogatepass"), b"csrf", "sha256").hexdigest()
                    return Session(hashed, csrf)
        return None

    def log_out(self, session: Session) -> None:
        """Forget the session; its cookie opens nothing any more, wherever it was copied to."""
        with self._sessions_lock:
            left = [entry for entry in self._sessions() if entry["hash"] != session.name_hash]
            self._remembered = json.dumps(left)
            _write(self._dir / "sessions", self._remembered)

    def _sessions(self) -> list[dict[str, Any]]:
        # Whoever is logged in while the disk goes away must be able to see that it is away.
        try:
            self._remembered = (self._dir / "sessions").read_text()
        except FileNotFoundError:
            if self._dir.parent.is_dir():
                self._remembered = ""
        except ValueError:  # damaged: then nobody is let in by it
            self._remembered = ""
        except OSError:
            pass
        try:
            entries = json.loads(self._remembered)
        except (ValueError, RecursionError):
            entries = []
        if not isinstance(entries, list):
            return []
        good = []
        for entry in entries:
            try:
                _moment_of(entry["created"])
                if isinstance(entry["hash"], str):
                    good.append(entry)
            except (KeyError, TypeError, ValueError):
                continue
        return good
