"""Finding other boxes: what packets say, whom to believe, and who of several fetches a bundle."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as some

from nvr.uplink import neighbours
from nvr.uplink.bundles import Neighbour, to_wait_for
from nvr.uplink.neighbours import PTR, SERVICE, SRV, Answer, NotDns, question, read
from tools.fuzz.targets import _mdns_seeds


def test_an_answer_names_boxes_and_the_ports_of_their_pages():
    """The second name points back to the first, as every responder writes it."""
    assert read(_mdns_seeds()[0]) == Answer(frozenset({f"a.{SERVICE}"}), {f"a.{SERVICE}": 8080})


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (b"", "cut off"),
        (question(SERVICE, PTR), "a question"),
        (_mdns_seeds()[0][:-1], "cut off"),
        (struct.pack(">6H", 0, 0x8400, 0, 65535, 65535, 65535), "records"),
        (struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + b"\xc0\x0c" + bytes(10), "circle"),
        (struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + b"\1a" * 40 + bytes(11), "without end"),
        (struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + b"\x41a" + bytes(11), "unknown kind"),
    ],
)
def test_what_is_no_answer_is_refused_by_name(packet, why):
    with pytest.raises(NotDns, match=why):
        read(packet)


def test_boxes_that_announce_themselves_are_found_where_they_answer_from():
    """zeroconf plays systemd-resolved. It says that the box is at 10.9.9.9, which nobody has to believe."""
    from zeroconf import IPVersion, ServiceInfo, Zeroconf

    try:
        other = Zeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    except OSError:
        pytest.skip("no multicast on loopback here")
    info = ServiceInfo(
        f"{SERVICE}.",
        f"Waihaong-2.{SERVICE}.",
        port=8085,
        addresses=[socket.inet_aton("10.9.9.9")],
        server="w-2.local.",
    )
    other.register_service(info)
    try:
        found = neighbours.pages()
    finally:
        other.unregister_service(info)
        other.close()
    assert "http://127.0.0.1:8085" in found
    assert not any("10.9.9.9" in page for page in found)


def test_a_service_whose_port_was_not_said_is_asked_for(monkeypatch):
    """Played on a pair of sockets: the first answer has the name only."""
    ours, theirs = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for each in (ours, theirs):
        each.bind(("127.0.0.1", 0))
    whole = _mdns_seeds()[0]
    name_only = struct.pack(">6H", 0, 0x8400, 0, 1, 0, 0) + whole[12:]
    asked: list[bytes] = []

    def ask(asking, interfaces, packet):
        asked.append(packet)
        theirs.sendto(name_only if len(asked) == 1 else whole, ours.getsockname())

    monkeypatch.setattr(neighbours, "_open", lambda: (ours, []))
    monkeypatch.setattr(neighbours, "_ask", ask)
    assert neighbours.pages(0.3) == ["http://127.0.0.1:8080"]
    assert asked == [question(SERVICE, PTR), question(f"a.{SERVICE}", SRV)]
    theirs.close()


def test_where_multicast_does_not_work_there_are_no_neighbours(monkeypatch):
    def refused():
        raise OSError

    monkeypatch.setattr(neighbours, "_open", refused)
    assert neighbours.pages() == []


boxes = some.dictionaries(some.text("abc", min_size=1, max_size=3), some.integers(-1, 3), min_size=2, max_size=6)


@given(boxes)
def test_of_any_number_of_boxes_exactly_one_fetches_it_for_all(here_bytes):
    """Each decides by itself from the same facts; nobody waits in a circle, and somebody goes."""
    told = [Neighbour(f"http://{box}", box, size) for box, size in here_bytes.items()]
    fetching = [box for box, size in here_bytes.items() if to_wait_for(box, size, told) is None]
    assert len(fetching) == 1
    assert here_bytes[fetching[0]] == max(here_bytes.values())


def test_a_box_does_not_wait_for_itself():
    assert to_wait_for("gate", 0, [Neighbour("http://10.0.0.5:8080", "gate", 500)]) is None
