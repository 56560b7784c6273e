"""Two cards never share an identity, and a site file changes nowhere but where it must."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import zlib

import pytest
import segno
from cards import SITE

from firmware import firstboot
from nvr import site as site_room
from nvr.errors import NvrError
from tools.nvrctl import identity, labels
from tools.nvrctl.records import AlreadyGiven, Records, RecordsUnreadable


@pytest.fixture
def site_path(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SITE)
    return path


def test_a_code_looks_as_the_site_file_wants_it_and_is_never_the_same():
    codes = {identity.new_code() for _ in range(2000)}
    assert len(codes) == 2000
    assert all(len(code) == 14 and set(code) <= set(identity.ALPHABET + "-") for code in codes)
    assert not set(identity.ALPHABET) & set("01OILUV")  # mistaken for others on a wet label


@pytest.mark.parametrize(
    ("name", "count", "names"),
    [
        ("harbour", 1, ["harbour"]),
        ("harbour", 2, ["harbour-1", "harbour-2"]),
        ("harbour-9", 3, ["harbour-9", "harbour-10", "harbour-11"]),
        ("b7", 2, ["b7", "b8"]),
    ],
)
def test_one_site_file_for_several_cards_counts_its_box_on(name, count, names):
    assert identity.box_names(name, count) == names


def test_ten_cards_of_one_file_have_ten_names_and_ten_codes(site_path):
    found = identity.identities([site_path], 10)
    assert len({each.box for each in found}) == 10
    assert len({each.code for each in found}) == 10
    assert len({each.code_hash for each in found}) == 10


def test_the_site_file_of_a_card_differs_in_box_and_code_only(site_path):
    first, second = identity.identities([site_path], 2)
    assert second.text.replace("waihaong-2", "waihaong-1").replace(second.code, first.code) == first.text
    assert first.text.replace(f"code: {first.code}\n  ", "") == SITE
    checked = site_room.check_text(second.text.encode(), site_path)
    assert checked.site.box == "waihaong-2" and checked.site.hub.code == second.code


@pytest.mark.parametrize(
    "hub",
    [
        "hub: {url: https://h.example}", "hub: {url: https://h.example, code: 7F3K-QM2P-XW9D}", "hub:\n  url: https://h.example\n  code:   # none yet",
        'hub:\n    code: "7F3K-QM2P-XW9D"   # old\n    url: https://h.example', "hub:\n  # why\n  url: https://h.example",
    ],
)  # fmt: skip
def test_a_code_finds_its_place_however_the_hub_is_written(tmp_path, hub):
    path = tmp_path / "site.yaml"
    path.write_text(SITE.replace("hub:\n  url: https://hub.example.org   # ours", hub))
    found = identity.prepared(path, "waihaong-1", "AAAA-BBBB-CCCC")
    checked = site_room.check_text(found.text.encode(), path)
    assert checked.site.hub.code == "AAAA-BBBB-CCCC"
    assert found.text.count("code:") == 1


def test_a_site_without_a_hub_gets_no_code(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SITE.replace("hub:\n  url: https://hub.example.org   # ours\n", ""))
    found = identity.identities([path], 1)[0]
    assert (found.code, found.code_hash, found.hub) == ("", "", "")


def test_as_many_files_as_cards_or_one(site_path, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(SITE.replace("waihaong-1", "mardika-1"))
    assert [each.box for each in identity.identities([site_path, other], 2)] == ["waihaong-1", "mardika-1"]
    with pytest.raises(NvrError, match="2 site files for 3 cards"):
        identity.identities([site_path, other], 3)


def test_two_files_for_one_box_are_refused(site_path, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text(SITE)
    with pytest.raises(NvrError, match="waihaong-1"):
        identity.identities([site_path, other], 2)


def test_a_faulty_site_file_is_refused_with_its_line(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text(SITE.replace("ring_gb: 0.02", "ring_gb: plenty"))
    with pytest.raises(site_room.SiteFaulty, match=r"site\.yaml:9"):
        identity.identities([path], 1)


# -- records -------------------------------------------------------------------------------------------

DEVICE, IMAGE = {"device": "/dev/sdx"}, {"name": "box.img"}


def test_a_box_gets_one_card_and_another_only_when_that_is_said(site_path, tmp_path):
    records = Records(tmp_path / "cards")
    first = identity.identities([site_path], 1)
    records.check_new(first)
    records.begin(first[0], DEVICE, IMAGE)
    records.check_new(first)  # it may have failed: nobody knows yet
    records.end(first[0], "good")
    with pytest.raises(AlreadyGiven, match="waihaong-1"):
        records.check_new(first)
    assert [code["is_revoked"] for code in records.codes()] == [False]
    second = identity.identities([site_path], 1)
    records.begin(second[0], DEVICE, IMAGE)
    records.end(second[0], "good")
    assert {code["code_hash"]: code["is_revoked"] for code in records.codes()} == {
        first[0].code_hash: True,
        second[0].code_hash: False,
    }


def test_a_card_that_failed_has_no_code_that_counts(site_path, tmp_path):
    records = Records(tmp_path / "cards")
    own = identity.identities([site_path], 1)
    records.begin(own[0], DEVICE, IMAGE)
    records.end(own[0], "drops writes")
    records.check_new(own)
    assert records.codes() == []


def test_no_code_and_no_password_stands_in_the_records(site_path, tmp_path):
    records = Records(tmp_path / "cards")
    own = identity.identities([site_path], 1)[0]
    records.begin(own, DEVICE, IMAGE)
    records.end(own, "good")
    for path in (tmp_path / "cards").iterdir():
        text = path.read_text()
        assert own.code not in text and "secret" not in text
        assert path.stat().st_mode & 0o077 == 0
    assert own.code not in repr(own) and "secret" not in repr(own)
    assert json.loads((tmp_path / "cards" / "codes.json").read_text())["codes"][0]["code_hash"] == own.code_hash


@pytest.mark.parametrize(
    "garbage", ["", "{", "[]", '{"cards": 3}', '{"cards": [{}]}', '{"cards": [{"box": 1, "written_at": 2}]}']
)
def test_a_damaged_record_is_named(site_path, tmp_path, garbage):
    (tmp_path / "waihaong-1.json").write_text(garbage)
    with pytest.raises(RecordsUnreadable, match=r"waihaong-1\.json"):
        Records(tmp_path).cards_of("waihaong-1")


# -- labels --------------------------------------------------------------------------------------------


def test_the_code_on_the_label_is_the_one_on_the_card(site_path):
    own = identity.identities([site_path], 1)[0]
    text = labels.qr_text(own)
    for fact in (own.box, own.site, own.code, own.hub, "waihaong-1.local:8080"):
        assert fact in text
    assert own.code in own.text


def test_the_page_on_the_label_is_the_host_name_that_the_box_gives_itself(site_path, tmp_path):
    site_path.write_text(SITE.replace("waihaong-1", "nord_1"))
    own = identity.identities([site_path], 1)[0]
    places = firstboot.Places(tmp_path / "card", tmp_path / "data", tmp_path / "run", tmp_path / "iwd")
    firstboot.put(places.site, own.text.encode(), mode=0o640)
    firstboot.prepare(places)
    host = (places.run / "nvr-setup/hostname").read_text().strip()
    assert labels.page_address(own) == f"http://{host}.local:8080/" == "http://nord-1.local:8080/"
    assert labels.page_address(own) in labels.qr_text(own) and "BOX nord_1" in labels.qr_text(own)


def test_two_boxes_that_differ_in_an_underscore_only_are_refused(site_path, tmp_path):
    site_path.write_text(SITE.replace("waihaong-1", "nord_1"))
    (tmp_path / "other.yaml").write_text(SITE.replace("waihaong-1", "nord-1"))
    with pytest.raises(NvrError, match="nord-1"):
        identity.identities([site_path, tmp_path / "other.yaml"], 2)


def test_labels_are_a_pdf_with_a_page_for_each_card(site_path):
    made = labels.labels_pdf(identity.identities([site_path], 3))
    assert made.startswith(b"%PDF-") and made.count(b"/Type /Page\n") == 3


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="needs pdftoppm: apt install poppler-utils")
def test_the_qr_code_as_it_is_printed_says_what_the_label_says(site_path, tmp_path):
    """Each module of the page, as a label printer of 300 dpi gets it, is the encoder's of this text."""
    from PIL import Image

    own = identity.identities([site_path], 1)[0]
    (tmp_path / "label.pdf").write_bytes(labels.labels_pdf([own]))
    subprocess.run(
        ["pdftoppm", "-gray", "-r", "300", "-png", "-singlefile", "label.pdf", "label"], cwd=tmp_path, check=True
    )
    matrix = segno.make(labels.qr_text(own), micro=False, error="m").matrix
    with Image.open(tmp_path / "label.png") as picture:
        page = picture.convert("L")
    dots_per_mm = page.width / labels.WIDTH_MM
    module_mm = labels.QR_MM / (len(matrix) + 2)  # a module of margin on each side
    left_mm = labels.WIDTH_MM - labels.MARGIN_MM - labels.QR_MM

    def is_dark(row: int, column: int) -> bool:
        x_mm, y_mm = left_mm + (column + 1.5) * module_mm, labels.MARGIN_MM + (row + 1.5) * module_mm
        return page.getpixel((round(x_mm * dots_per_mm), round(y_mm * dots_per_mm))) < 128

    seen = [[is_dark(row, column) for column in range(len(matrix))] for row in range(len(matrix))]
    assert seen == [[bool(module) for module in row] for row in matrix]


def test_site_and_place_stand_on_the_label_also_when_they_are_the_same(site_path):
    made = labels.labels_pdf(identity.identities([site_path], 1))
    streams = re.findall(rb"stream\n(.*?)\nendstream", made, re.DOTALL)
    page = next(text for text in map(zlib.decompress, streams) if b"(waihaong-1)" in text)
    assert page.count(b"(puskesmas-waihaong)") == 2


def test_a_public_key_goes_on_a_card_and_a_private_one_never(tmp_path):
    public, private, other = tmp_path / "id.pub", tmp_path / "id", tmp_path / "notes"
    public.write_text("ssh-ed25519 AAAAC3Nz joe@laptop\n")
    private.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    other.write_text("hello there\n")
    assert identity.authorized_keys([public]) == b"ssh-ed25519 AAAAC3Nz joe@laptop\n"
    for path, words in ((private, "PRIVATE"), (other, "no SSH public key"), (tmp_path / "nosuch", "cannot read")):
        with pytest.raises(identity.CannotPrepare, match=words):
            identity.authorized_keys([path])


@pytest.mark.parametrize(
    "text",
    [
        "ethernet: {addres: 1}\n", "ethernet: {address: 192.168.7.20/24}\n", "wifi: {ssid: x, country: ID, password: short}\n", "wifi: 3\n", "- a\n", "a: [\n",
        "\ufeffwifi: {ssid: Balai, country: ID, password: 'pala dan cengkih'}\r\n", "ntp: [a b]\n", "",
    ],
)  # fmt: skip
def test_a_network_file_is_good_on_the_laptop_when_it_is_good_on_the_box(tmp_path, text):
    """`ethernet: {addres: 1}` went onto the cards, and on the pole the boxes refused it."""
    path = tmp_path / "network.yaml"
    path.write_bytes(text.encode())
    outcome = firstboot.take("network.yaml", firstboot.judged_network, tmp_path, tmp_path / "taken.yaml", mode=0o600)
    path.write_bytes(text.encode())
    if not outcome.faults:
        assert identity.check_network(path) == text.encode()
        return
    with pytest.raises(identity.CannotPrepare) as refused:
        identity.check_network(path)
    for fault in outcome.faults:
        assert f"network.yaml:{fault.line}: " in str(refused.value) and fault.what in str(refused.value)
