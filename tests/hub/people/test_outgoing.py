"""What leaves the hub: grouped, in order, signed, retried, never lost with a process, never at night unless it is an alarm."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from nvr.hub.people import dialling, notify, outgoing, quiet, roles, signing, tables, webhooks, words
from nvr.hub.people.quiet import QuietHours, Waiting
from tests.hub.people.receiver import Receiver
from tests.hub.people.world import World

ZONE = ZoneInfo("Asia/Jayapura")
NIGHT_MS = 1_795_615_200_000  # 2026-11-25 23:00 there


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


# -- decisions -----------------------------------------------------------------------------------------------------


def test_quiet_hours_go_over_midnight_and_an_alarm_passes_them():
    hours = quiet.quiet_hours("22:00-06:00")
    assert hours == QuietHours(22 * 60, 6 * 60)
    assert quiet.send_at_ms(NIGHT_MS, 1, hours, ZONE) == NIGHT_MS + 7 * 3_600_000
    assert quiet.send_at_ms(NIGHT_MS, 0, hours, ZONE) == NIGHT_MS
    assert quiet.send_at_ms(NIGHT_MS + 7 * 3_600_000, 1, hours, ZONE) == NIGHT_MS + 7 * 3_600_000
    assert quiet.send_at_ms(NIGHT_MS, 1, quiet.quiet_hours(""), ZONE) == NIGHT_MS
    assert quiet.send_at_ms(NIGHT_MS, 1, QuietHours(600, 600), ZONE) == NIGHT_MS


@pytest.mark.parametrize("text", ["22-06", "24:00-06:00", "22:00-06:60", "x", "22:00-06:00 "])
def test_what_are_no_quiet_hours_is_refused(text):
    with pytest.raises(ValueError):
        quiet.quiet_hours(text)


def test_what_one_cause_sets_off_is_one_message_and_an_alarm_waits_for_nothing():
    storm = [Waiting(number, 1, 1000 * number, 0) for number in range(30)]
    assert quiet.batch(storm, 29_000) == []
    assert [each.id for each in quiet.batch(storm, 61_000)] == list(range(20))
    alarm = Waiting(99, 0, 29_000, 0)
    assert quiet.batch([*storm[:3], alarm], 29_500)[0] == alarm
    assert quiet.batch([Waiting(1, 1, 0, 10**9)], 61_000) == []  # quiet hours
    later = [Waiting(number, 1, 0, 10**9) for number in range(3)]
    assert len(quiet.batch(later, 10**9 + 60_000)) == 3  # all that waited for the morning


def test_retries_back_off_for_days_and_then_give_up():
    waits = [quiet.retry_at_ms(0, tries) for tries in range(1, 14)]
    known = [each for each in waits if each is not None]
    assert known == sorted(known)
    assert 3 * 24 * 3_600_000 < sum(known) < 5 * 24 * 3_600_000
    assert waits[-1] is None


def test_a_signature_holds_for_these_bytes_and_this_time():
    header = signing.signature("secret", b"{}", 1000)
    assert signing.is_genuine("secret", b"{}", header, 1010)
    assert not signing.is_genuine("secret", b"{ }", header, 1010)
    assert not signing.is_genuine("other", b"{}", header, 1010)
    assert not signing.is_genuine("secret", b"{}", header, 1000 + signing.VALID_S + 1)
    for wrong in ("", "t=1000", "t=1000,v1=00", header.replace("t=1000", "t=1001"), "t=९,v1=" + "0" * 64):
        assert not signing.is_genuine("secret", b"{}", wrong, 1000)


def test_every_alert_is_told_in_both_languages():
    body = {
        "what": "opened",
        "kind": "service_open",
        "state_of_event": "closed",
        "first_ms": NIGHT_MS,
        "numbers": {},
        "count": 1,
    }
    assert (
        words.line(body, "Puskesmas Waihaong", ZONE, "id")
        == "Tutup pada jam layanan · Puskesmas Waihaong, sejak Rab 25.11. 23:00"
    )
    assert (
        words.line(body, "Puskesmas Waihaong", ZONE, "en")
        == "Closed in opening hours · Puskesmas Waihaong, since Wed 25.11. 23:00"
    )
    overdue = {**body, "what": "overdue", "count": 3}
    assert words.line(overdue, "X", ZONE, "id").startswith("LEWAT BATAS WAKTU: Tutup")
    for known in words._HAPPENED.values():
        assert set(known) == {"id", "en"}
    title, text = words.message(["a · x", "b · y"], True, "Ambon", "https://hub.example/", "id", 3)
    assert (title, text) == ("ALARM Ambon: 5 peringatan", "a · x\nb · y\ndan 3 lainnya\n\nhttps://hub.example/alerts")


@pytest.mark.parametrize(
    ("url", "is_taken"),
    [
        ("https://example.org/x", True), ("http://10.1.2.3:8080/", True), ("http://169.254.169.254/latest", False), ("http://[fe80::1]/", False),
        ("http://[::ffff:169.254.169.254]/", False), ("http://0.0.0.0/", False), ("http://user:pw@example.org/", False), ("http://[::1", False), ("https://:443/", False), ("http://224.0.0.1/", False),
    ],
)  # fmt: skip
def test_a_webhook_cannot_be_pointed_at_addresses_of_the_link_itself(world, url, is_taken):
    answer = world.as_role(roles.ADMINISTRATOR).post("/api/v1/webhooks", json={"title": "t", "url": url})
    assert answer.status_code == (201 if is_taken else 422)


# -- where the hub calls -----------------------------------------------------------------------------------------------


def own_address() -> str:
    """Of this machine on its network; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("may", [False, True])
@pytest.mark.parametrize("ip", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1", "own"])
def test_the_hub_calls_itself_only_where_its_settings_say_so(ip, may):
    why = dialling.why_refused(ipaddress.ip_address(own_address() if ip == "own" else ip), may)
    assert ("the hub itself" in why) is not may


@pytest.mark.parametrize("may", [False, True])
def test_nobody_may_call_what_belongs_to_the_link(may):
    for ip in ("169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "ff02::1"):
        assert "none of a receiver" in dialling.why_refused(ipaddress.ip_address(ip), may)
    for ip in ("192.0.2.1", "10.255.255.1", "2001:db8::1"):
        assert dialling.why_refused(ipaddress.ip_address(ip), may) == ""


@pytest.fixture
def careful(tmp_path: Path) -> Iterator[World]:
    """A hub as it is by default."""
    world = World(tmp_path / "careful")
    yield world
    world.close()


def taken_by(careful, kind: str, url: str) -> tuple[int, str]:
    """What a test message to `url` comes to, as an administrator sees it."""
    client = careful.as_role(roles.ADMINISTRATOR)
    key = "url" if kind == "webhooks" else "address"
    made = client.post(f"/api/v1/{kind}", json={"title": "t", key: url})
    if made.status_code != 201:
        return made.status_code, made.text
    tried = client.post(f"/api/v1/{kind}/{made.json()['id']}/try")
    return tried.status_code, tried.text


def test_a_name_that_leads_to_the_hub_itself_is_not_dialled(careful, receiver, monkeypatch):
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1"):  # as inet_aton reads it
        status, text = taken_by(careful, "webhooks", f"http://{host}:{receiver.port}/")
        assert status in (422, 502) and "hub itself" in text, (host, text)
        status, text = taken_by(careful, "notifications", f"json://{host}:{receiver.port}/")
        assert (status == 502 and "hub itself" in text) or "no address that Apprise knows" in text, (host, text)
    status, text = taken_by(
        careful, "notifications", f"mailto://ani:pw@example.org?smtp=localhost&port={receiver.port}&mode=insecure"
    )
    assert status == 502 and "hub itself" in text
    told = dialling._look_up
    monkeypatch.setattr(dialling, "_look_up", lambda host, *rest, **more: told("127.0.0.1", *rest, **more))
    status, text = taken_by(careful, "webhooks", f"http://hooks.example.org:{receiver.port}/")
    assert status == 502 and "hooks.example.org leads to the hub itself" in text
    assert receiver.taken == []


def test_a_redirect_to_the_hub_itself_is_not_followed(careful, receiver, monkeypatch):
    """Apprise follows redirects. The first step is to another machine here by name only: there is no second one."""
    asked: list[str] = []
    told = dialling.why_refused

    def by_turns(ip, may_call_itself):
        asked.append(str(ip))
        return "" if len(asked) == 1 else told(ip, may_call_itself)

    monkeypatch.setattr(dialling, "why_refused", by_turns)
    receiver.answers = [307, 307]
    assert taken_by(careful, "notifications", f"json://127.0.0.1:{receiver.port}/")[0] == 502
    assert receiver.taken == []
    assert len(receiver.answers) == 1, "it was asked once, and never at the address it named"


def test_what_others_look_up_meanwhile_is_not_watched():
    with dialling.watched(False):
        assert in_thread(lambda: socket.getaddrinfo("127.0.0.1", 80))
        with pytest.raises(socket.gaierror, match="hub itself"):
            socket.getaddrinfo("127.0.0.1", 80)
    assert socket.getaddrinfo("127.0.0.1", 80)


def in_thread(work):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result(10)


# -- webhooks, to a real server --------------------------------------------------------------------------------------


def hook(world, url: str, what: list[str]) -> tuple[int, str]:
    made = (
        world.as_role(roles.ADMINISTRATOR)
        .post("/api/v1/webhooks", json={"title": "t", "url": url, "what": what})
        .json()
    )
    return made["id"], made["secret"]


def deliver(world) -> int:
    return webhooks.send_waiting(world.hub, world.app.state.seal, world.clock.now)


def of_hook(world, number: int) -> list:
    table = tables.outgoing
    with world.hub.store.reading() as connection:
        return connection.execute(
            select(table).where(table.c.channel == "webhook", table.c.target_id == number).order_by(table.c.id)
        ).all()


def test_a_webhook_is_signed_and_tells_each_step_of_an_alert_in_order(world, receiver):
    _, secret = hook(world, receiver.url, ["alerts"])
    client = world.as_role(roles.OPERATOR)
    row = world.store_event("stopped_vehicle", "stopped")
    alert = next(
        each["id"] for each in client.get("/api/v1/alerts").json()["alerts"] if each["kind"] == "stopped_vehicle"
    )
    client.post(f"/api/v1/alerts/{alert}/acknowledge")
    client.post(f"/api/v1/alerts/{alert}/done", json={"note": "towed"})
    deliver(world)
    assert [(each["what"], each["state"], each["who"]) for each in receiver.bodies] == [
        ("opened", "open", ""), ("acknowledged", "acknowledged", "operator-all"), ("done", "done", "operator-all"),
    ]  # fmt: skip
    assert receiver.bodies[0]["numbers"] == {}
    assert row["id"]
    for headers, body in receiver.taken:
        assert signing.is_genuine(secret, body, headers["nvr-signature"], world.clock.now / 1000)
    assert len({headers["nvr-delivery"] for headers, _ in receiver.taken}) == 3
    assert deliver(world) == 0


def test_events_go_to_who_wants_them_and_passers_by_to_nobody(world, receiver):
    number, _ = hook(world, receiver.url, ["events"])
    world.store_event("line_crossing", "crossed", is_moment=True, body={"words": {}, "numbers": {}})
    world.store_event("congestion", "jam", world.foreign)
    world.store_event("congestion", "jam", world.other)  # of another tenant
    deliver(world)
    assert [(each["what"], each["kind"]) for each in receiver.bodies] == [("event", "congestion")]
    assert len(of_hook(world, number)) == 1


def test_a_receiver_that_fails_is_tried_again_later_and_nothing_overtakes(world, receiver):
    number, _ = hook(world, receiver.url, ["events"])
    for state in ("free", "dense", "jam"):
        world.store_event("congestion", state, world.foreign)
    receiver.answers = [500]
    deliver(world)
    assert receiver.taken == []
    assert {(row.tries, row.trouble) for row in of_hook(world, number)} == {(1, "the receiver answered 500")}
    deliver(world)
    assert receiver.taken == []  # not before its time
    world.clock.pass_s(11)
    receiver.answers = [200, 503]
    deliver(world)
    world.clock.pass_s(60)
    deliver(world)
    assert [each["state"] for each in receiver.bodies] == ["free", "dense", "jam"]


def test_a_redirect_is_no_success_and_is_not_followed(world, receiver):
    number, _ = hook(world, receiver.url, ["events"])
    world.store_event("congestion", "jam", world.foreign)
    receiver.answers = [302]
    deliver(world)
    assert receiver.taken == []
    assert of_hook(world, number)[0].trouble == "the receiver answered 302"


def test_a_receiver_that_never_answers_is_given_up_after_days_and_shown(world):
    number, _ = hook(world, "http://127.0.0.1:9/", ["events"])
    world.store_event("congestion", "jam", world.foreign)
    for _ in range(14):
        deliver(world)
        world.clock.pass_s(24 * 3600)
    row = of_hook(world, number)[0]
    assert row.failed_ms and row.tries == 12
    shown = next(
        each
        for each in world.as_role(roles.ADMINISTRATOR).get("/api/v1/webhooks").json()["webhooks"]
        if each["id"] == number
    )
    assert (shown["failed"], shown["waiting"]) == (1, 0)
    assert "Connect" in shown["trouble"]


def test_a_message_is_in_the_queue_if_and_only_if_its_alert_was_committed(world, receiver):
    number, _ = hook(world, receiver.url, ["alerts"])
    with pytest.raises(RuntimeError), world.hub.store.writing() as connection:
        outgoing.alert_changed(
            connection, 1, {"id": 1, "kind": "k", "what": "w", "family": "f", "place_id": 1, "camera_id": 1, "box_id": "b", "state": "open",
                            "first_ms": 1, "last_ms": 1, "times": 1, "numbers": {}, "value": 1}, "opened", "", {}, 5, zone=None,
        )  # fmt: skip
        raise RuntimeError
    assert of_hook(world, number) == []


# -- messages to people, through Apprise to a real server -------------------------------------------------------------


def target(world, receiver: Receiver, **more) -> int:
    body = {"title": "Dinas", "address": f"json://127.0.0.1:{receiver.port}/secret-key-of-a-service", **more}
    answer = world.as_role(roles.ADMINISTRATOR).post("/api/v1/notifications", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def tell(world) -> int:
    return notify.send_waiting(world.hub, world.app.state.seal, world.clock.now)


def test_a_storm_is_one_message_in_the_language_of_its_reader(world, receiver):
    target(world, receiver, language="id")
    for number in range(12):
        world.store_event("tamper", ("covered", "moved")[number % 2])
    world.store_event("congestion", "jam", world.foreign)
    assert tell(world) == 0
    world.clock.pass_s(61)
    assert tell(world) == 1
    (message,) = receiver.bodies
    assert message["title"] == "Kota: 2 peringatan"
    assert "Kamera tertutup · Puskesmas-Waihaong / hall" in message["message"]
    assert "Macet · Simpang-Mardika / hall" in message["message"]
    assert tell(world) == 0


def test_an_alarm_comes_at_once_and_at_night_and_other_things_in_the_morning(world, receiver):
    target(world, receiver, quiet="08:00-12:00", language="en")  # it is nine
    world.store_event("congestion", "jam", world.foreign)
    world.clock.pass_s(120)
    assert tell(world) == 0
    world.store_event("stopped_vehicle", "stopped", world.foreign)
    assert tell(world) == 1
    assert receiver.bodies[0]["title"] == "ALARM Kota: A vehicle stands in the lane"
    world.clock.pass_s(3 * 3600)
    assert tell(world) == 1
    assert receiver.bodies[1]["title"] == "Kota: Traffic jam"


def test_somebody_is_told_of_their_places_and_families_only(world, receiver):
    target(world, receiver, families=["traffic"], places=[world.foreign.place])
    world.store_event("congestion", "jam", world.own)
    world.store_event("tamper", "covered", world.foreign)
    world.store_event("congestion", "jam", world.foreign)
    world.clock.pass_s(61)
    tell(world)
    assert [each["title"] for each in receiver.bodies] == ["Kota: Macet"]


def test_a_service_that_is_away_gets_its_message_when_it_is_back(world, receiver):
    number = target(world, receiver)
    world.store_event("stopped_vehicle", "stopped")
    receiver.answers = [500]
    assert tell(world) == 0
    world.clock.pass_s(11)
    assert tell(world) == 1
    shown = world.as_role(roles.ADMINISTRATOR).get("/api/v1/notifications").json()["notifications"]
    assert next(each for each in shown if each["id"] == number)["waiting"] == 0


def test_what_somebody_is_told_of_and_when_can_be_changed_without_the_address(world, receiver):
    number = target(world, receiver, families=["box"], quiet="22:00-06:00")
    client = world.as_role(roles.ADMINISTRATOR)

    def shown() -> dict:
        listed = client.get("/api/v1/notifications").json()["notifications"]
        return next(each for each in listed if each["id"] == number)

    def change(**body):
        return client.patch(f"/api/v1/notifications/{number}", json=body).status_code

    assert change(families=["traffic", "asked"], places=[world.own.place], language="en", title="Shift") == 204
    after = shown()
    assert {key: after[key] for key in ("title", "language", "quiet", "families", "places", "is_on")} == {
        "title": "Shift", "language": "en", "quiet": "22:00-06:00", "families": ["asked", "traffic"],
        "places": [world.own.place], "is_on": True,
    }  # fmt: skip
    assert change(places=None, quiet="") == 204
    after = shown()
    assert after["places"] is None and after["quiet"] == "" and after["families"] == ["asked", "traffic"]
    assert (
        change(places=["nowhere"]) == 404 and change(quiet="25:00-06:00") == 422 and change(address="json://x") == 422
    )
    assert world.as_role(roles.OPERATOR).patch(f"/api/v1/notifications/{number}", json={}).status_code == 403
    world.store_event("congestion", "jam", world.own)
    world.clock.pass_s(61)
    tell(world)
    assert receiver.bodies[0]["title"] == "Kota: Traffic jam"
    said = [each["what"] for each in client.get("/api/v1/audit").json()["entries"]]
    assert said.count("notification changed") == 2


def test_the_address_of_a_service_is_neither_stored_in_clear_nor_shown_nor_logged(world, receiver, caplog):
    number = target(world, receiver)
    client = world.as_role(roles.ADMINISTRATOR)
    receiver.answers = [500, 500]
    answer = client.post(f"/api/v1/notifications/{number}/try")
    assert answer.status_code == 502
    text = client.get("/api/v1/notifications").text + client.get("/api/v1/audit").text + answer.text
    with world.hub.store.reading() as connection:
        text += str(connection.execute(select(tables.notification)).all())
    assert "secret-key-of-a-service" not in text
    assert "secret-key-of-a-service" not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("nvr")
    )
    assert client.post(f"/api/v1/notifications/{number}/try").status_code == 204 or receiver.answers == []


@pytest.mark.parametrize(
    "address", ["", "nonsense", "file:///etc/passwd", "syslog://", "dbus://", "http://", "json://a\nb"]
)
def test_what_runs_on_this_machine_or_is_no_address_is_refused(address):
    assert notify.service_of(address) == ""
    assert notify.send(address, "t", "b", False) != ""


def test_a_webhook_is_tried_at_once_and_what_the_receiver_said_last_is_kept(world, receiver):
    client = world.as_role(roles.ADMINISTRATOR)
    made = client.post(
        "/api/v1/webhooks", json={"title": "w", "url": f"{receiver.url}/hook", "what": ["events"]}
    ).json()

    def listed() -> dict[str, object]:
        return next(each for each in client.get("/api/v1/webhooks").json()["webhooks"] if each["id"] == made["id"])

    assert (listed()["last_ms"], listed()["last_trouble"]) == (None, "")
    address = f"/api/v1/webhooks/{made['id']}/try"
    assert client.post(address).status_code == 204
    ((headers, body),) = receiver.taken
    assert signing.is_genuine(made["secret"], body, headers["nvr-signature"], world.clock.now // 1000)
    assert (receiver.bodies[0]["what"], receiver.bodies[0]["who"]) == ("test", "administrator-all")
    assert (listed()["last_ms"], listed()["last_trouble"], listed()["waiting"]) == (world.clock.now, "", 0)
    receiver.answers = [500]
    refused = client.post(address)
    assert (refused.status_code, refused.json()["key"]) == (502, "not delivered") and "500" in refused.json()["error"]
    assert ("500" in listed()["last_trouble"], listed()["waiting"], listed()["failed"]) == (True, 0, 0)
    tried = client.get("/api/v1/audit", params={"what": "webhook tried"}).json()["entries"]
    assert ["500" in each["more"]["trouble"] for each in tried] == [True, False]
    world.clock.pass_s(1)
    world.store_event("service_open", "closed")
    assert webhooks.send_waiting(world.hub, world.app.state.seal, world.clock.now) == 1
    assert (listed()["last_ms"], listed()["last_trouble"]) == (world.clock.now, "")
