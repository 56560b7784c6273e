"""Uploads to a real hub process: by content, resumable, confirmed only when stored."""

from __future__ import annotations

import base64
import hashlib
import os

import pytest

from nvr.hub import tables, uploads
from nvr.hub.uploads import UploadRefused

CLIP = os.urandom(200_000)  # no clip at all: it is stored with a verdict that says so


def object_of(hub, box) -> dict:
    (row,) = hub.rows(tables.object_, tables.object_.c.box_id == box.id)
    return row


def test_what_arrived_is_byte_identical_and_confirmed_once_it_is_stored(hub, box, client):
    answer = box.begin_upload(client, CLIP)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "0")
    place = answer.headers["location"]
    half = box.send_piece(client, place, CLIP[:100_000], 0)
    assert half.status_code == 204 and "nvr-stored" not in half.headers
    whole = box.send_piece(client, place, CLIP[100_000:], 100_000)
    digest = hashlib.sha256(CLIP).hexdigest()
    assert whole.headers["nvr-stored"] == digest
    row = object_of(hub, box)
    assert b"".join(hub.blobs.read(row["blob"])) == CLIP
    assert b"".join(hub.blobs.read(row["blob"], 1000, 3000)) == CLIP[1000:3000]
    assert row["genuine"] is False and "no manifest" in row["proof"]["reasons"][0]
    assert not list(hub.blobs.keys(f"pieces/{place.rpartition('/')[2]}"))


def test_an_upload_that_broke_off_goes_on_where_it_was(own_hub, client):
    hub, box = own_hub, own_hub.box()
    place = box.begin_upload(client, CLIP).headers["location"]
    box.send_piece(client, place, CLIP[:70_000], 0)
    hub.kill()
    hub.start()
    again = box.begin_upload(client, CLIP)  # a box that forgot everything but the clip
    assert (again.headers["location"], again.headers["upload-offset"]) == (place, "70000")
    assert box.send_piece(client, place, CLIP[70_000:], 70_000).headers["nvr-stored"]


def test_what_the_hub_has_is_not_sent_again(hub, box, client):
    box.upload(client, CLIP)
    answer = box.begin_upload(client, CLIP)
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, str(len(CLIP)))
    assert answer.headers["nvr-stored"] == hashlib.sha256(CLIP).hexdigest()
    object_of(hub, box)


def test_a_damaged_piece_is_refused_and_may_come_again(hub, box, client):
    place = box.begin_upload(client, CLIP).headers["location"]
    digest = base64.b64encode(hashlib.sha256(b"something else").digest()).decode()
    headers = box.headers(**{
        "tus-resumable": "1.0.0", "upload-offset": "0", "content-type": "application/offset+octet-stream", "upload-checksum": f"sha256 {digest}",
    })  # fmt: skip
    assert client.patch(hub.url + place, headers=headers, content=CLIP[:1000]).status_code == 460
    assert box.send_piece(client, place, CLIP[:5000], 0, algorithm="sha1").status_code == 204


def test_a_clip_does_not_come_in_crumbs_but_its_end_may_be_short(hub, box, client):
    place = box.begin_upload(client, CLIP).headers["location"]
    for size_bytes in (1, 4095):
        assert box.send_piece(client, place, CLIP[:size_bytes], 0).status_code == 400
    assert not list(hub.blobs.keys(f"pieces/{place.rpartition('/')[2]}"))
    assert box.send_piece(client, place, CLIP[:-1], 0).status_code == 204
    assert box.send_piece(client, place, CLIP[-1:], len(CLIP) - 1).headers["nvr-stored"]


def test_a_piece_at_the_wrong_place_is_told_the_right_one(hub, box, client):
    place = box.begin_upload(client, CLIP).headers["location"]
    box.send_piece(client, place, CLIP[:5000], 0)
    answer = box.send_piece(client, place, CLIP[:5000], 0)
    assert (answer.status_code, answer.headers["upload-offset"]) == (409, "5000")


def test_content_that_is_not_what_it_said_is_forgotten(hub, box, client):
    place = box.begin_upload(client, CLIP).headers["location"]
    answer = box.send_piece(client, place, b"x" * len(CLIP), 0)
    assert answer.status_code == 422
    assert client.head(hub.url + place, headers=box.headers(**{"tus-resumable": "1.0.0"})).status_code == 404
    assert box.upload(client, CLIP).headers["nvr-stored"]


def test_another_boxs_upload_is_not_there(hub, box, client):
    other = hub.box("waihaong-2")
    place = box.begin_upload(client, CLIP).headers["location"]
    for method in ("HEAD", "DELETE"):
        assert (
            client.request(method, hub.url + place, headers=other.headers(**{"tus-resumable": "1.0.0"})).status_code
            == 404
        )
    assert other.send_piece(client, place, CLIP[:10], 0).status_code == 404


def test_an_upload_can_be_ended(hub, box, client):
    place = box.begin_upload(client, CLIP).headers["location"]
    box.send_piece(client, place, CLIP[:5000], 0)
    assert client.delete(hub.url + place, headers=box.headers(**{"tus-resumable": "1.0.0"})).status_code == 204
    assert box.begin_upload(client, CLIP).headers["upload-offset"] == "0"


def test_the_clip_of_an_event_is_named_by_it(hub, box, client):
    box.join()
    event = box.event()
    box.send("event", **event)
    box.hear_acks(event["id"])
    box.upload(client, CLIP, event=event["id"])
    (row,) = hub.rows(tables.event, tables.event.c.id == event["id"])
    assert row["clip_sha256"] == hashlib.sha256(CLIP).hexdigest()


@pytest.mark.parametrize("length", [None, "", "-1", "1e3", "99999999999999999999", "0"])
def test_a_length_that_is_none_is_refused(hub, box, client, length):
    headers = box.headers(**{"tus-resumable": "1.0.0", "upload-metadata": box.upload_metadata(CLIP)})
    if length is not None:
        headers["upload-length"] = length
    assert client.post(f"{hub.url}/box/v1/uploads", headers=headers).status_code == 400


def test_what_is_too_large_is_refused_before_it_is_sent(hub, box, client):
    headers = box.headers(
        **{"tus-resumable": "1.0.0", "upload-length": str(10**12), "upload-metadata": box.upload_metadata(CLIP)}
    )
    assert client.post(f"{hub.url}/box/v1/uploads", headers=headers).status_code == 413
    place = box.begin_upload(client, bytes(3_000_000)).headers["location"]
    assert box.send_piece(client, place, bytes(uploads.PIECE_BYTES_MOST + 1), 0).status_code == 413


@pytest.mark.parametrize(
    "header", ["", "sha256", "sha256 !!", "a b,c d", "sha256 " + base64.b64encode(b"/../../etc").decode()]
)
def test_metadata_that_is_none_is_refused(header):
    with pytest.raises(UploadRefused):
        uploads.checked_metadata(header)


def test_a_request_whose_connection_died_without_a_word_does_not_take_a_place_for_ever(monkeypatch):
    """Found over a link whose connections broke at the box's end only: eight of them, and the hub answered 429 to that box from then on."""
    import asyncio

    from starlette.requests import Request

    from nvr.hub import box_routes
    from nvr.hub.uploads import UploadRefused

    monkeypatch.setattr(box_routes, "BODY_SILENT_S", 0.05)
    told = iter(({"type": "http.request", "body": b"half of", "more_body": True},))

    async def receive() -> dict:
        try:
            return next(told)
        except StopIteration:
            await asyncio.Event().wait()
            raise AssertionError from None

    with pytest.raises(UploadRefused, match="nothing of the body came") as refused:
        asyncio.run(box_routes.bounded_body(Request({"type": "http", "headers": [], "method": "PATCH"}, receive), 1000))
    assert refused.value.status == 408
