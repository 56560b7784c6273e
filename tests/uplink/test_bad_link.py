"""Box and hub over a link that is shaped packet by packet: everything arrives, once, byte for byte, and hardly anything is sent twice.

The figures of the long runs are in docs/bench.md (tools/bench/uplink.py); here only what must hold on any machine is asserted.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.bench.shaped_link import Shape, checksum, reset_packet
from tools.bench.uplink import Figures, Plan, measure


def over_a_bad_link(test):  # type: ignore[no-untyped-def]
    test = pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="needs TUN")(test)
    return pytest.mark.slow(pytest.mark.root(test))


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> Figures:
    """1 Mbit/s, 100 ms there and back, 8 % lost in each direction; 6 breaks, and 8 s without a link."""
    plan = Plan(
        Shape(kbit_s=1000, delay_s=0.05), clips=12, alarms=3, resets=6, outage_s=8.0, reset_every_s=10.0, alarm_every_s=15.0, longest_s=400.0,
    )  # fmt: skip
    return measure(tmp_path_factory.mktemp("link"), plan, name=f"t{os.getpid() % 10000}")


@over_a_bad_link
def test_every_clip_arrives_byte_for_byte_and_exactly_once(figures):
    assert (figures.stored_once, figures.identical) == (figures.clips, figures.clips)


@over_a_bad_link
def test_the_box_lets_go_of_everything_once_it_has_heard_that_the_hub_holds_it(figures):
    """The last confirmations may be lost with their connection: then they are asked for, within the bound of `measure`.

    A measurement that looked at the box's own status 8 s after the hub had stored the last clip saw two of them waiting:
    that status is as old as the last heartbeat, and a new connection over this link takes seconds.
    """
    assert (figures.waiting, figures.given_up) == (0, {})


@over_a_bad_link
def test_every_event_arrives_once(figures):
    assert figures.events == figures.clips


@over_a_bad_link
def test_at_most_two_percent_of_the_clips_is_sent_again(figures):
    assert figures.resets >= 6 and figures.breaks >= 3, "the connections did break"
    assert 0.05 < figures.lost_share < 0.6
    assert figures.resent_share <= 0.02


@over_a_bad_link
def test_heartbeats_go_on(figures):
    """By the hub's own rule a box is silent after 30 s; a slow machine may add to that."""
    assert len(figures.heartbeat_gaps_s) >= 2 and max(figures.heartbeat_gaps_s) < 60


def test_a_packet_that_breaks_a_connection_has_right_checksums_and_the_same_sequence_number():
    ip = bytes.fromhex("4500003c1c4640004006b1e6ac100a63ac100a0c")
    tcp = bytes.fromhex("d431005000000001000000028018ffff00000000") + b"payload"
    packet = reset_packet(ip, tcp)
    assert len(packet) == 40 and packet[33] == 0x14 and packet[24:28] == tcp[4:8]
    assert checksum(packet[:20]) == 0
    assert checksum(packet[12:20] + bytes((0, 6, 0, 20)) + packet[20:]) == 0
