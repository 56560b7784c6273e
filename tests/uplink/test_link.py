"""Which hub is believed, and by what clock its certificate is judged."""

from __future__ import annotations

import asyncio

import pytest
from clocks import ManualClock

from nvr.evidence import Identity
from nvr.media import ClockState
from nvr.uplink.link import HubFailed, Link, asked
from tests.uplink.small_hub import certificate, served

UNKNOWN = ManualClock(mono_ns=1, wall_ns=1, state=ClockState.UNKNOWN)
IN_2026 = ManualClock(wall_ns=1_790_000_000 * 10**9)


def ask(url: str, fingerprint: str, clock) -> int:
    async def run() -> int:
        link = Link(url, fingerprint, Identity(b"k" * 32), clock)
        async with link.client() as client:
            return (await asked(client, "GET", "/box/v1/time")).status

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("years", "clock", "is_taken"),
    [
        ((2026, 2036), IN_2026, True),
        ((2026, 2036), UNKNOWN, True),
        ((2027, 2037), UNKNOWN, True),  # a box of 1970 cannot say that this begins later; everything else was checked
        ((2027, 2037), IN_2026, False),
        ((2015, 2020), UNKNOWN, False),  # older than the software itself
        ((2015, 2020), IN_2026, False),
    ],
)
def test_a_certificate_of_an_authority_is_judged_by_the_best_clock_there_is(
    tmp_path, monkeypatch, years, clock, is_taken
):
    with served(tmp_path, years=years) as listening:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "hub.crt"))
        if is_taken:
            assert ask(listening.url, "", clock) == 200
        else:
            with pytest.raises(HubFailed, match="out of date"):
                ask(listening.url, "", clock)


def test_a_certificate_that_nobody_vouches_for_is_refused_without_a_fingerprint(tmp_path, monkeypatch):
    other, _, _ = certificate(tmp_path / "other")
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    with served(tmp_path) as listening, pytest.raises(HubFailed, match=r"(?i)certificate"):
        ask(listening.url, "", IN_2026)


def test_a_pinned_certificate_is_enough_and_another_one_is_not(tmp_path):
    with served(tmp_path, years=(2015, 2020)) as listening:
        assert ask(listening.url, listening.fingerprint, UNKNOWN) == 200
        with pytest.raises(HubFailed, match="the site file wants"):
            ask(listening.url, "00" * 32, UNKNOWN)


def test_no_token_is_signed_before_the_time_is_known():
    with pytest.raises(HubFailed, match="time"):
        Link("https://127.0.0.1:1", "00" * 32, Identity(b"k" * 32), UNKNOWN).token()
