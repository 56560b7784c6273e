"""The box's key and what it signs."""

import stat
import subprocess
import sys

import pytest

from nvr import evidence
from nvr.evidence import Identity, IdentityFailed

# RFC 8032, 7.1, test 3
RFC_PRIVATE = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
RFC_PUBLIC = bytes.fromhex("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025")
RFC_SIGNATURE = bytes.fromhex(
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


@pytest.fixture(params=["libcrypto", "cryptography"])
def backend(request, monkeypatch):
    if request.param == "libcrypto":
        if evidence._libcrypto is None:
            pytest.skip("this machine has no libcrypto.so.3")
    else:
        pytest.importorskip("cryptography")
        monkeypatch.setattr(evidence, "_libcrypto", None)
    return request.param


def test_signatures_are_those_of_rfc_8032(backend):
    identity = Identity(RFC_PRIVATE)
    assert identity.public_bytes == RFC_PUBLIC
    assert identity.sign(b"\xaf\x82") == RFC_SIGNATURE
    assert evidence.is_signed_by(RFC_PUBLIC, b"\xaf\x82", RFC_SIGNATURE)


def test_another_message_another_key_and_garbage_are_not_signed(backend):
    assert not evidence.is_signed_by(RFC_PUBLIC, b"\xaf\x83", RFC_SIGNATURE)
    assert not evidence.is_signed_by(Identity.create().public_bytes, b"\xaf\x82", RFC_SIGNATURE)
    assert not evidence.is_signed_by(RFC_PUBLIC, b"\xaf\x82", b"")
    assert not evidence.is_signed_by(b"", b"\xaf\x82", RFC_SIGNATURE)
    assert not evidence.is_signed_by(b"\xff" * 32, b"\xaf\x82", RFC_SIGNATURE)


def test_the_first_start_makes_a_key_and_every_later_one_finds_it(tmp_path):
    path = tmp_path / "identity" / "key"
    first = Identity.load_or_create(path)
    assert Identity.load_or_create(path).public_bytes == first.public_bytes
    assert len(first.box_id) == 16
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == ["key"]  # no draft stays behind


def test_two_boxes_have_different_names():
    assert Identity.create().box_id != Identity.create().box_id


def test_processes_that_start_together_get_one_identity(tmp_path):
    path = tmp_path / "identity" / "key"
    program = f"from nvr.evidence import Identity; print(Identity.load_or_create({str(path)!r}).box_id.hex())"
    started = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1
    assert [process.returncode for process in started] == [0] * 4


def test_the_key_file_is_what_openssl_reads(tmp_path):
    path = tmp_path / "key"
    identity = Identity.load_or_create(path)
    try:
        der = subprocess.run(
            ["openssl", "pkey", "-in", str(path), "-pubout", "-outform", "DER"], capture_output=True, check=True
        ).stdout
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    assert der[-32:] == identity.public_bytes


def test_any_damaged_byte_of_the_key_is_an_error_and_the_file_stays_as_it_is(tmp_path):
    path = tmp_path / "key"
    Identity.load_or_create(path)
    good = path.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(IdentityFailed) as failed:
            Identity.load_or_create(path)
        assert "damaged" in str(failed.value) and failed.value.hint
        assert path.read_bytes() == bad


@pytest.mark.parametrize("kept_bytes", [0, 1, 60, 150])
def test_a_key_cut_short_is_an_error_and_is_not_replaced(tmp_path, kept_bytes):
    path = tmp_path / "key"
    Identity.load_or_create(path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(IdentityFailed):
        Identity.load_or_create(path)
    assert path.stat().st_size == kept_bytes


def test_an_unreadable_key_is_an_error_and_is_not_replaced(tmp_path):
    (tmp_path / "key").mkdir()
    with pytest.raises(IdentityFailed, match="cannot read"):
        Identity.load_or_create(tmp_path / "key")


def test_a_place_where_no_key_can_be_kept_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(IdentityFailed) as failed:
        Identity.load_or_create(tmp_path / "file" / "key")
    assert failed.value.hint


def test_a_key_that_others_can_read_is_reported(tmp_path, caplog):
    path = tmp_path / "key"
    Identity.load_or_create(path)
    path.chmod(0o644)
    Identity.load_or_create(path)
    assert "others can read" in caplog.text


def test_canonical_json_is_one_text_for_one_value():
    assert evidence.canonical_json({"b": [1, None, True], "a": "Straße"}) == '{"a":"Straße","b":[1,null,true]}'.encode()
    with pytest.raises(ValueError):
        evidence.canonical_json(float("nan"))


def test_a_seal_names_box_stream_segment_lap_and_every_fragment():
    facts = {
        "box_id": bytes(16), "stream": "porch/main", "segment": 3, "lap": 7, "first_sequence": 100, "last_sequence": 180,
        "hashes_digest": bytes(32),
    }  # fmt: skip
    others = {
        "box_id": b"x" * 16, "stream": "porch/small", "segment": 4, "lap": 8, "first_sequence": 99, "last_sequence": 181,
        "hashes_digest": b"y" * 32,
    }  # fmt: skip
    message = evidence.seal_message(**facts)
    assert message.startswith(b"nvr segment seal 1\n")
    assert len({message} | {evidence.seal_message(**{**facts, name: value}) for name, value in others.items()}) == 8


def test_a_seal_cannot_pass_for_a_manifest():
    assert not evidence.CLIP_PURPOSE.startswith(evidence.SEAL_PURPOSE)
    assert not evidence.SEAL_PURPOSE.startswith(evidence.CLIP_PURPOSE)


def test_recording_does_not_pay_for_the_cryptography_package():
    """Importing it costs 10 MB, half of what `record` may have."""
    if evidence._libcrypto is None:
        pytest.skip("this machine has no libcrypto.so.3")
    program = "import sys; from nvr.evidence import Identity; Identity.create().sign(b''); print('cryptography' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program]) == b"False\n"
