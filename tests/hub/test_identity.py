"""Who gets in: codes, enrolment, tokens, blocked boxes."""

from __future__ import annotations

import time

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from nvr import wire
from nvr.evidence import Identity
from nvr.hub import identity, tables
from nvr.hub.identity import JTI_PER_BOX, TRIES_MOST, SeenTokens, Tries
from tests.hub.simulated import SimulatedBox


def test_a_code_works_once_and_for_one_key(hub):
    code, first, second = hub.code(), SimulatedBox(hub.url), SimulatedBox(hub.url)
    answer = first.enrol(code)
    assert answer.json()["box_id"] == first.id
    assert (
        first.enrol(code.lower().replace("-", " ")).json()["box_id"] == first.id
    )  # the answer was lost, a person typed it
    assert second.enrol(code).status_code == 403


def test_two_boxes_with_one_code_at_the_same_moment_are_one(own_hub):
    hub = own_hub
    from concurrent.futures import ThreadPoolExecutor

    code = hub.code()
    boxes = [SimulatedBox(hub.url, f"twin-{number}") for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda box: box.enrol(code).status_code, boxes))
    assert sorted(answers) == [200, 403, 403, 403, 403, 403]


@pytest.mark.parametrize("more", [{"proof": "00" * 64}, {"public_key": "00" * 32}])
def test_who_does_not_hold_the_key_is_refused(hub, more):
    assert SimulatedBox(hub.url).enrol(hub.code(), **more).status_code == 403


def test_a_code_for_another_box_or_out_of_date_is_refused(hub):
    assert SimulatedBox(hub.url, "one").enrol(hub.code(box="other")).status_code == 403
    assert SimulatedBox(hub.url, "one").enrol(hub.code(valid_ms=-1)).status_code == 403


def test_guessing_codes_is_slowed_down(own_hub):
    box = SimulatedBox(own_hub.url)
    answers = [box.enrol(f"AAAA-AAAA-{number:04d}").status_code for number in range(TRIES_MOST + 1)]
    assert answers == [403] * TRIES_MOST + [429]


def test_the_time_needs_no_token(hub):
    told = httpx.get(f"{hub.url}/box/v1/time", timeout=60).json()
    assert abs(told["wall_ms"] - time.time() * 1000) < 60_000


def closed_with(box: SimulatedBox, token: str | None = None) -> int:
    socket = box.connect(token)
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            socket.recv(timeout=60)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code


def test_a_box_that_nobody_enrolled_is_not_known(hub):
    assert closed_with(SimulatedBox(hub.url)) == 4401


@pytest.mark.parametrize("offset_s", [-3600, 3600])
def test_a_token_of_another_time_is_refused(hub, box, offset_s):
    assert closed_with(box, box.token(int(time.time()) + offset_s)) == 4401


def test_a_token_opens_the_channel_once(hub, box):
    token = box.token()
    socket = box.connect(token)
    assert closed_with(box, token) == 4401
    socket.close()


def test_a_token_signed_by_another_key_is_refused(hub, box):
    to_sign = wire.token_to_sign(box.identity.box_id, int(time.time()))
    assert closed_with(box, wire.signed_token(to_sign, Identity.create().sign(to_sign))) == 4401
    none = wire.base64url(b'{"alg":"none"}') + b"." + to_sign.split(b".")[1]
    assert closed_with(box, wire.signed_token(none, b"")) == 4401


def test_without_the_subprotocol_there_is_no_channel(hub, box):
    from websockets.sync.client import connect

    with pytest.raises(InvalidStatus):
        connect(
            hub.url.replace("http", "ws") + "/box/v1/control",
            additional_headers=box.headers(),
            open_timeout=60,
            legacy=True,
        )


def test_a_blocked_box_is_thrown_out_and_stays_out(hub, box):
    from nvr.hub.changes import Changes

    box.join()
    changes = Changes(hub.store, lambda: int(time.time() * 1000))
    with hub.store.writing() as connection:
        identity.block(connection, changes, box.id, True)
    with pytest.raises(ConnectionClosed) as closed:
        box.hear("never")
    assert closed.value.rcvd.code == 4403
    assert closed_with(box) == 4403
    assert box.enrol(hub.code()).status_code == 409
    headers = box.headers(**{"tus-resumable": "1.0.0"})
    assert httpx.post(f"{hub.url}/box/v1/uploads", headers=headers, timeout=60).status_code == 403


def test_a_box_of_another_tenant_does_not_change_sides(hub, box):
    with hub.store.writing() as connection:
        if identity.tenant_id(connection, "harbour") is None:
            connection.execute(tables.tenant.insert().values(name="harbour", title=""))
        tenant_id = identity.tenant_id(connection, "harbour")
        code = identity.add_code(connection, tenant_id=tenant_id, now_ms=int(time.time() * 1000))
    assert box.enrol(code).status_code == 409


def test_seen_tokens_are_bounded():
    seen = SeenTokens()

    def token(number: int) -> wire.Token:
        return wire.Token("ab" * 16, 1000, 1300, f"{number:032x}", b"", b"")

    assert all(seen.is_new(token(number), 1000.0) for number in range(3 * JTI_PER_BOX))
    assert not seen.is_new(token(3 * JTI_PER_BOX - 1), 1000.0)
    assert len(seen._of_box["ab" * 16]) == JTI_PER_BOX


def test_tries_are_forgotten_after_a_minute():
    now_s = 0.0
    tries = Tries(lambda: now_s)
    for _ in range(TRIES_MOST):
        tries.failed("10.0.0.1")
    assert tries.too_many("10.0.0.1") and not tries.too_many("10.0.0.2")
    now_s = 61.0
    assert not tries.too_many("10.0.0.1")
