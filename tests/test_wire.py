"""What the other side sends is a message or a WireError; ids, codes and tokens are the same on both sides."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr import wire
from nvr.evidence import Identity


@given(st.one_of(st.text(), st.binary()))
def test_any_input_is_a_message_or_a_wire_error(data):
    try:
        message = wire.parse(data, wire.UP | wire.DOWN)
    except wire.WireError:
        return
    assert message.kind in wire.UP | wire.DOWN


@given(
    st.dictionaries(
        st.sampled_from(["v", "kind", "id", "n"]), st.recursive(st.none() | st.integers() | st.text(), st.lists)
    )
)
def test_any_object_is_a_message_or_a_wire_error(fields):
    try:
        message = wire.parse(json.dumps(fields), wire.UP)
    except wire.WireError:
        return
    assert fields["v"] == wire.VERSION and fields["kind"] == message.kind


@given(payload=st.binary(max_size=300), kind=st.sampled_from(sorted(wire.UP)))
def test_what_is_written_is_read_back(payload, kind):
    message = wire.Message(kind, {"id": wire.new_id(), "camera": "gate"}, payload)
    assert wire.parse(message.to_bytes(), wire.UP) == message
    text = wire.Message(kind, message.body)
    assert wire.parse(text.to_text(), wire.UP) == text


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("[]", "not a JSON object"),
        ('{"v":2,"kind":"hello"}', "another version"),
        ('{"v":1,"kind":"welcome"}', "no message is called 'welcome'"),
        ('{"v":1,"kind":[]}', r"no message is called '\[\]'"),  # ended a hub's channel before its type was looked at
        ('{"v":1,"kind":"hello","load":NaN}', "no number"),
        ("[" * 100_000, "not JSON"),
        (b"", "shorter"),
        (struct.pack(">I", 2**31) + b"{}", "a header of"),
        ("x" * (wire.TEXT_BYTES_MOST + 1), "at most"),
    ],
)
def test_what_is_wrong_is_named(data, says):
    with pytest.raises(wire.WireError, match=says):
        wire.parse(data, wire.UP)


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda message: message.whole("n", most=5), "reply.n must be a whole number from 0 to 5"),
        (lambda message: message.text("id", most=3), "reply.id must be text"),
        (lambda message: message.id("id"), "reply.id must be 32 hexadecimal digits"),
        (lambda message: message.object("id"), "reply.id must be an object"),
        (lambda message: message.stream(), "reply.stream must be a stream"),
    ],
)
def test_a_key_of_another_kind_is_named(ask, says):
    with pytest.raises(wire.WireError, match=says):
        ask(wire.Message("reply", {"n": True, "id": "nonsense", "stream": "gate/../etc"}))


def test_a_code_is_the_same_however_it_is_typed():
    assert wire.code_hash("7f3k qm2p xw9d") == wire.code_hash("7F3K-QM2P-XW9D") != wire.code_hash("7F3K-QM2P-XW9E")


def test_a_token_says_who_signed_it_and_ends_soon():
    identity = Identity.create()
    to_sign = wire.token_to_sign(identity.box_id, 1_800_000_000)
    token = wire.parse_token(wire.signed_token(to_sign, identity.sign(to_sign)))
    assert (token.box_id, token.signed, token.signature) == (identity.box_id.hex(), to_sign, identity.sign(to_sign))
    assert wire.is_in_time(token, 1_800_000_000 + wire.TOKEN_VALID_S)
    assert not wire.is_in_time(token, 1_800_000_000 + wire.TOKEN_VALID_S + wire.TOKEN_SKEW_S + 1)
    assert not wire.is_in_time(token, 1_800_000_000 - wire.TOKEN_SKEW_S - 1)


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"alg": "none"}, {}),
        ({"alg": "HS256"}, {}),
        ({}, {"aud": "somebody else"}),
        ({}, {"exp": 4_000_000_000}),
        ({}, {"exp": 1}),
        ({"kid": "0" * 32}, {}),
    ],
)
def test_a_token_of_another_kind_is_refused(header, claims):
    box = "a" * 32
    parts = (
        {"alg": "EdDSA", "kid": box} | header,
        {"iss": box, "aud": wire.AUDIENCE, "iat": 1_000, "exp": 1_200, "jti": "b" * 32} | claims,
    )
    text = b".".join([*(wire.base64url(json.dumps(part).encode()) for part in parts), b"c2ln"]).decode()
    with pytest.raises(wire.WireError):
        wire.parse_token(text)


@given(st.text(max_size=200))
def test_any_text_is_a_token_or_a_wire_error(text):
    with pytest.raises(wire.WireError):
        wire.parse_token(text)


def test_an_event_keeps_its_id_and_shares_it_with_no_other():
    box = bytes(16)
    assert wire.event_id(box, "a", 1) == wire.event_id(box, "a", 1)
    assert len({wire.event_id(box, life, number) for life in ("a", "a1") for number in (1, 11, 111)}) == 6
