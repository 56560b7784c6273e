from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from nvr.media import ClockReading, ClockState
from nvr.web import access
from nvr.web.access import (
    ADDRESSES_KEPT,
    FREE_TRIES,
    LINK_VALID_S,
    SESSION_VALID_S,
    SESSIONS_KEPT,
    Access,
    NotAllowed,
    PasswordTooWeak,
    Throttle,
    TooManyTries,
    create_one_time_link,
    has_password,
)

PASSWORD = "kopi di tepi laut"
WALL_S = 1_780_000_000


@dataclass
class HandClock:
    """A clock that a test sets; both sides move together unless it says otherwise."""

    mono_s: float = 100.0
    wall_s: float = WALL_S

    def mono_ns(self) -> int:
        return int(self.mono_s * 1e9)

    def read(self) -> ClockReading:
        return ClockReading(self.mono_ns(), int(self.wall_s * 1e9), ClockState.PLAUSIBLE, 0)

    def sleep_until(self, mono_ns: int) -> None:
        self.mono_s = max(self.mono_s, mono_ns / 1e9)

    def pass_s(self, seconds: float) -> None:
        self.mono_s += seconds
        self.wall_s += seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def guard(tmp_path: Path, clock: HandClock) -> Access:
    return Access(tmp_path, clock)


def token_for(data_dir: Path, clock: HandClock) -> str:
    return create_one_time_link(data_dir, "http://box:8080/", clock).split("#")[1]


def enter(guard: Access, data_dir: Path, clock: HandClock) -> str:
    return guard.set_password(token_for(data_dir, clock), PASSWORD, "192.0.2.1")


def test_the_secret_of_a_link_stands_behind_the_hash_and_is_stored_only_hashed(tmp_path, clock):
    link = create_one_time_link(tmp_path, "http://box:8080", clock)
    assert link.startswith("http://box:8080/enter#")
    token = link.split("#")[1]
    assert len(token) >= 43
    stored = (tmp_path / "web" / "link").read_text()
    assert token not in stored
    assert stat.S_IMODE((tmp_path / "web" / "link").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "web").stat().st_mode) == 0o700


def test_a_link_sets_the_password_once(tmp_path, guard, clock):
    token = token_for(tmp_path, clock)
    assert not has_password(tmp_path)
    assert guard.session(guard.set_password(token, PASSWORD, "192.0.2.1"))
    assert has_password(tmp_path)
    with pytest.raises(NotAllowed):
        guard.set_password(token, "another good one", "192.0.2.1")
    assert guard.session(guard.log_in(PASSWORD, "192.0.2.1"))


def test_a_newer_link_replaces_the_older_one(tmp_path, guard, clock):
    old, new = token_for(tmp_path, clock), token_for(tmp_path, clock)
    with pytest.raises(NotAllowed):
        guard.set_password(old, PASSWORD, "192.0.2.1")
    assert guard.set_password(new, PASSWORD, "192.0.2.1")


def test_a_link_ends_after_24_hours(tmp_path, guard, clock):
    token = token_for(tmp_path, clock)
    clock.pass_s(LINK_VALID_S + 1)
    with pytest.raises(NotAllowed):
        guard.set_password(token, PASSWORD, "192.0.2.1")


def test_a_link_made_in_1970_still_works_after_the_clock_was_set(tmp_path, guard, clock):
    """A box without a battery clock prints its first link in 1970; then NTP answers."""
    clock.wall_s = 30.0
    token = token_for(tmp_path, clock)
    clock.pass_s(60)
    clock.wall_s = WALL_S
    assert guard.set_password(token, PASSWORD, "192.0.2.1")


def test_a_link_of_another_boot_is_judged_by_the_wall_clock(tmp_path, guard, clock, monkeypatch):
    token = token_for(tmp_path, clock)
    monkeypatch.setattr(access, "boot_id", lambda: bytes(16))
    clock.pass_s(LINK_VALID_S / 2)
    clock.mono_s = 20.0
    guard = Access(tmp_path, clock)
    assert guard.set_password(token, PASSWORD, "192.0.2.1")
    token = token_for(tmp_path, clock)
    monkeypatch.setattr(access, "boot_id", lambda: b"\1" * 16)
    clock.wall_s -= 3600  # set back: nobody knows how old the link is
    with pytest.raises(NotAllowed):
        guard.set_password(token, PASSWORD, "192.0.2.1")


@pytest.mark.parametrize("password", ["", "short", "nine char", "x" * 257])
def test_a_weak_password_is_refused_and_the_link_stays_good(tmp_path, guard, clock, password):
    token = token_for(tmp_path, clock)
    with pytest.raises(PasswordTooWeak):
        guard.set_password(token, password, "192.0.2.1")
    assert guard.set_password(token, PASSWORD, "192.0.2.1")


@pytest.mark.parametrize("password", ["", "wrong", "kopi di tepi lauT", "x" * 100_000, "\ud800 half a pair"])
def test_a_wrong_password_opens_nothing(tmp_path, guard, clock, password):
    enter(guard, tmp_path, clock)
    with pytest.raises(NotAllowed):
        guard.log_in(password, "192.0.2.1")


def test_without_a_password_nobody_logs_in(guard):
    for password in ("", "admin", PASSWORD):
        with pytest.raises(NotAllowed):
            guard.log_in(password, "192.0.2.1")


def test_a_new_password_ends_every_session(tmp_path, guard, clock):
    name = enter(guard, tmp_path, clock)
    assert guard.session(name)
    guard.set_password(token_for(tmp_path, clock), "another good one", "192.0.2.1")
    assert guard.session(name) is None
    with pytest.raises(NotAllowed):
        guard.log_in(PASSWORD, "192.0.2.9")


def test_logging_out_ends_one_session_everywhere(tmp_path, guard, clock):
    name, other = enter(guard, tmp_path, clock), guard.log_in(PASSWORD, "192.0.2.1")
    guard.log_out(guard.session(name))
    assert guard.session(name) is None
    assert guard.session(other) is not None


def test_a_session_outlives_the_process_and_ends_after_thirty_days(tmp_path, guard, clock):
    name = enter(guard, tmp_path, clock)
    assert Access(tmp_path, clock).session(name)
    assert name not in (tmp_path / "web" / "sessions").read_text()
    clock.pass_s(SESSION_VALID_S + 1)
    assert Access(tmp_path, clock).session(name) is None


def test_a_session_outlives_a_disk_that_goes_right_after_it_began(tmp_path, clock):
    """A USB disk was pulled before the page was asked again: whoever was logged in was sent away instead of being told of the disk."""
    data_dir = tmp_path / "disk" / "data"
    data_dir.mkdir(parents=True)
    guard = Access(data_dir, clock)
    name = enter(guard, data_dir, clock)
    (tmp_path / "disk").rename(tmp_path / "pulled")
    assert guard.session(name)


def test_sessions_are_bounded_and_the_oldest_goes(tmp_path, guard, clock):
    names = [enter(guard, tmp_path, clock)]
    names += [guard._start_session() for _ in range(SESSIONS_KEPT)]
    assert guard.session(names[0]) is None
    assert all(guard.session(name) for name in names[1:])


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '[{"hash": 3}]', '[{"hash": "x", "created": {}}]', "\0" * 4096, "[" * 9999]
)
def test_damaged_files_let_nobody_in(tmp_path, guard, clock, content):
    name = enter(guard, tmp_path, clock)
    for file in ("sessions", "link", "password"):
        (tmp_path / "web" / file).write_text(content)
    assert guard.session(name) is None
    with pytest.raises(NotAllowed):
        guard.log_in(PASSWORD, "192.0.2.1")
    with pytest.raises(NotAllowed):
        guard.set_password("x", PASSWORD, "192.0.2.1")


def test_a_stored_password_is_argon2id(tmp_path, guard, clock):
    enter(guard, tmp_path, clock)
    assert (tmp_path / "web" / "password").read_text().startswith("$argon2id$")
    assert json.loads((tmp_path / "web" / "sessions").read_text())


def test_wrong_passwords_from_one_address_wait_longer_and_longer(tmp_path, guard, clock):
    enter(guard, tmp_path, clock)
    waits = []
    for _ in range(FREE_TRIES + 4):
        try:
            guard.log_in("wrong", "192.0.2.7")
        except TooManyTries as error:
            waits.append(error.wait_s)
            clock.pass_s(error.wait_s + 0.01)
            with pytest.raises(NotAllowed):
                guard.log_in("wrong", "192.0.2.7")
        except NotAllowed:
            pass
    assert waits == sorted(waits)
    assert len(waits) >= 3
    assert waits[-1] > 4
    # The right password must wait too, or the waiting would tell which one it is.
    with pytest.raises(TooManyTries):
        guard.log_in(PASSWORD, "192.0.2.7")
    # Others are not punished for it.
    assert guard.log_in(PASSWORD, "192.0.2.8")


def test_many_addresses_together_get_no_more_tries_than_one_minute_allows():
    now_s = 0.0
    throttle = Throttle(lambda: now_s)
    allowed = 0
    for number in range(5000):
        try:
            throttle.take(f"2001:db8:{number:x}::1")
            allowed += 1
        except TooManyTries:
            pass
    assert allowed == access.GLOBAL_TRIES
    assert len(throttle._failures) <= ADDRESSES_KEPT


def test_an_ipv6_host_cannot_choose_a_new_address_for_each_try():
    assert Throttle.key("2001:db8::1") == Throttle.key("2001:db8::ffff:1")
    assert Throttle.key("2001:db8::1") != Throttle.key("2001:db8:0:1::1")
    assert Throttle.key("::ffff:192.0.2.1") == Throttle.key("192.0.2.1")
    assert Throttle.key("fe80::1%eth0") == Throttle.key("fe80::2%eth0")
    assert Throttle.key("' OR 1") == "unknown"
