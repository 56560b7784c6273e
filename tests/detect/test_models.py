"""Model files of strangers: read, or refused with what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvr.detect import models
from nvr.detect.tflite_file import POST_PROCESS, BadModel, labels_of, read


@pytest.fixture(scope="module")
def model_bytes(shared_data: Path) -> bytes:
    return (shared_data / "model" / "ssd_mobilenet_v1_1_metadata.tflite").read_bytes()


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_by_our_own_error(data):
    for text in (data, b"\x10\0\0\0TFL3" + data):
        with pytest.raises(BadModel):
            models.describe(text, "x")


def test_a_model_says_what_it_is(model_bytes):
    card = models.describe(model_bytes, "ssd")
    assert (card.width, card.height, card.input_type) == (300, 300, "uint8")
    assert card.licence.startswith("Apache License")
    assert card.kind(0) == "person"
    assert card.kind(2) == "car"
    assert card.kind(3) == card.kind(1) == "two-wheeler"
    assert card.kind(71) is None  # a television is not told
    assert card.kind(-1) is card.kind(9999) is None


def test_a_damaged_model_is_read_or_refused(model_bytes):
    """Cut anywhere, or with any bytes of its tables overwritten: never another error."""
    small = model_bytes[-120_000:]  # tables of this file lie at its end, behind the weights
    for size in (0, 7, 8, 100, 5000, 3_000_000, len(model_bytes) - 2000):
        with pytest.raises(BadModel):
            models.describe(model_bytes[:size], "x")
    for place in range(0, len(small), 5003):
        data = bytearray(model_bytes)
        start = len(data) - len(small) + place
        data[start : start + 64] = b"\xff" * 64
        try:
            read(bytes(data))
        except BadModel as error:
            assert error.hint


def test_a_model_without_post_processing_is_refused_by_name(model_bytes):
    name = POST_PROCESS.encode()
    other = model_bytes.replace(
        len(name).to_bytes(4, "little") + name + b"\0", len(name).to_bytes(4, "little") + name[:-1] + b"X\0"
    )
    assert other != model_bytes
    with pytest.raises(
        BadModel, match=f"lacks: the operator {POST_PROCESS} with its outputs boxes, classes, scores, count"
    ):
        models.describe(other, "x")


def test_missing_labels_and_licence_are_named_together(shared_data):
    data = (shared_data / "model" / "coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite").read_bytes()
    with pytest.raises(BadModel, match=r"labels: .* a licence"):
        models.describe(data, "x")
    text = (shared_data / "model" / "labelmap_coco_90_with_background.txt").read_text()
    card = models.describe(data, "x", labels=text, licence="Apache-2.0")
    assert card.kind(0) == "person"
    assert card.labels[:3] == labels_of((shared_data / "model" / "coco_labels_indexed.txt").read_text())[:3]


def test_a_changed_model_is_noticed(model_bytes, tmp_path):
    file = tmp_path / "given.tflite"
    file.write_bytes(model_bytes)
    added = models.add(tmp_path / "models", file, "ssd")
    card, data = models.load(tmp_path / "models", "ssd")
    assert card == added
    assert data == model_bytes
    with (tmp_path / "models" / "ssd.tflite").open("r+b") as changed:
        changed.write(b"\1")
    with pytest.raises(BadModel, match="is not the one its card describes"):
        models.load(tmp_path / "models", "ssd")
    with pytest.raises(BadModel, match=r"there is no model other .*"):
        models.load(tmp_path / "models", "other")


CARD = {
    "name": "m", "sha256": "0" * 64, "size_bytes": 1, "licence": "MIT", "origin": "", "labels": ["person"], "kinds": {"person": "person"},
    "width": 300, "height": 300, "input_type": "uint8", "scale": 1.0, "zero": 0, "input_tensor": 0, "output_tensors": [1, 2, 3, 4],
    "version": 1, "notes": "",
}  # fmt: skip


def test_a_card_is_what_it_was_written_from():
    card = models.card_of(json.dumps(CARD).encode(), "m")
    assert models.card_of(models.card_text(card).encode(), "m") == card


@pytest.mark.parametrize("key", CARD)
@pytest.mark.parametrize("value", [None, [], {}, -1, "", "x" * 10])
def test_a_wrong_card_is_refused_or_harmless(key, value):
    try:
        models.card_of(json.dumps({**CARD, key: value}).encode(), "m")
    except BadModel as error:
        assert error.hint


@given(st.binary(max_size=200))
def test_any_bytes_are_no_card(data):
    with pytest.raises(BadModel):
        models.card_of(data, "m")
