"""What is behind "Kelola", in a real browser: tokens, webhooks, holds, requests of persons, updates; each leaves its line in the audit log."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from nvr.hub.pages import serve
from tests.hub.pages.living import Living, living
from tests.hub.pages.test_in_browser import fill
from tests.hub.people.receiver import Receiver
from tests.web.browser import CHROMIUM, Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: chromium)"),
    pytest.mark.skipif(not serve.files(serve.BUILT_PATH), reason="the hub's pages are not built: make pages"),
]

BOXES = ("poka-1", "galala-1")
PAGES = ("/users", "/holds", "/requests", "/tokens", "/notifications", "/webhooks", "/updates", "/audit")


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    with living(tmp_path_factory.mktemp("city"), boxes=BOXES) as made:
        yield made


@pytest.fixture
def browser(city: Living) -> Iterator[Browser]:
    with Browser(width=1280, height=900, language="id") as opened:
        city.log_in(opened, "admin")
        opened.wait("document.querySelectorAll('.tile[data-state=live]').length > 0", "the first live tile", 60)
        opened.run("window.confirm = () => true")
        yield opened


def go(city: Living, browser: Browser, page: str) -> None:
    browser.open(city.hub.url + page)
    browser.wait("!!document.querySelector('main h1, main h2') && !document.querySelector('main .loading')", page, 60)
    browser.run("window.confirm = () => true")


def press(browser: Browser, words: str, within: str = "main") -> None:
    found = f"[...document.querySelectorAll('{within} button')].find((each) => each.innerText.trim() === {words!r} && !each.disabled)"
    browser.wait(f"!!{found}", f"the button {words}")
    browser.run(f"{found}.click()")


def last_said(city: Living, browser: Browser, what: str) -> None:
    go(city, browser, "/audit")
    browser.wait(f"document.querySelector('main table')?.innerText.includes({what!r})", f"the audit log says: {what}")


def test_a_token_is_shown_once_works_and_is_revoked(city, browser):
    go(city, browser, "/tokens")
    press(browser, "Token baru")
    fill(browser, ("dialog input[name=title]", "papan informasi"))
    press(browser, "Buat token", "dialog")
    token = browser.wait("document.querySelector('[data-secret]')?.innerText.trim()", "the token")
    headers = {"Authorization": f"Bearer {token}"}
    assert httpx.get(f"{city.hub.url}/api/v1/wall", headers=headers, timeout=60).status_code == 200
    assert httpx.get(f"{city.hub.url}/api/v1/boxes", headers=headers, timeout=60).status_code == 403
    press(browser, "Sudah saya simpan", "dialog")
    browser.wait("!document.querySelector('dialog')", "the dialog is closed")
    assert token not in browser.run("document.documentElement.outerHTML")
    browser.wait("document.querySelector('[data-token]')?.innerText.includes('papan informasi')", "it is listed")
    press(browser, "Cabut")
    browser.wait("!document.querySelector('[data-token]')", "it is gone")
    assert httpx.get(f"{city.hub.url}/api/v1/wall", headers=headers, timeout=60).status_code == 401
    last_said(city, browser, "mencabut token")


def test_a_webhook_is_tried_and_says_what_its_receiver_said_last(city, browser):
    receiver = Receiver()
    try:
        go(city, browser, "/webhooks")
        press(browser, "Webhook baru")
        fill(browser, ("dialog input[name=title]", "Dinas Kominfo"))
        browser.run("document.querySelector('dialog input[name=url]').value = ''")
        fill(browser, ("dialog input[name=url]", f"{receiver.url}/kamera"))
        press(browser, "Buat webhook", "dialog")
        browser.wait("!!document.querySelector('[data-secret]')", "its secret")
        press(browser, "Sudah saya simpan", "dialog")
        browser.wait(
            "document.querySelector('[data-webhook]')?.innerText.includes('Belum pernah dipanggil')", "it is listed"
        )
        press(browser, "Kirim percobaan")
        browser.wait("document.querySelector('[data-webhook]').innerText.includes('Diterima')", "it was taken")
        assert [body["what"] for body in receiver.bodies] == ["test"]
        receiver.answers = [503]
        press(browser, "Kirim percobaan")
        browser.wait(
            "document.querySelector('[data-webhook]').innerText.includes('answered 503')", "the trouble is shown"
        )
    finally:
        receiver.close()
    press(browser, "Hapus")
    browser.wait("!document.querySelector('[data-webhook]')", "it is gone")
    last_said(city, browser, "mencoba webhook")


def test_a_notification_is_made_tried_and_changed_and_its_address_is_not_shown_again(city, browser):
    receiver = Receiver()
    try:
        go(city, browser, "/notifications")
        assert "Belum ada pemberitahuan" in browser.run("document.querySelector('main').innerText")
        press(browser, "Pemberitahuan baru")
        fill(
            browser,
            ("dialog input[name=title]", "Petugas jaga"),
            ("dialog input[name=address]", f"json://127.0.0.1:{receiver.port}/kunci-layanan"),
        )
        browser.run("document.querySelector('dialog input[name=places][value=some]').click()")
        browser.wait("document.querySelectorAll('dialog .scrolling input').length > 1", "the places to choose from")
        press(browser, "Simpan pemberitahuan", "dialog")
        browser.wait(
            "document.querySelector('dialog')?.innerText.includes('Pilih paling sedikit satu.')", "none is not all"
        )
        browser.run("document.querySelector('dialog input[name=places-jembatan-poka]').click()")
        press(browser, "Simpan pemberitahuan", "dialog")
        card = "document.querySelector('[data-notification]')"
        browser.wait(f"!document.querySelector('dialog') && {card}?.innerText.includes('Petugas jaga')", "it is listed")
        said = browser.run(f"{card}.innerText")
        assert "Jembatan Merah Putih" in said and "22:00–06:00" in said and "semua peringatan" in said
        press(browser, "Kirim pesan percobaan")
        browser.wait(f"{card}.innerText.includes('menerima pesan percobaan')", "the service took it")
        assert "Pesan percobaan." in receiver.bodies[0]["message"]
        receiver.answers = [503]
        press(browser, "Kirim pesan percobaan")
        browser.wait(f"{card}.innerText.includes('503')", "what the service said is shown")
        press(browser, "Ubah")
        browser.wait("!!document.querySelector('dialog input[name=quiet]:checked')", "the form holds what was chosen")
        browser.run("document.querySelector('dialog input[name=quiet]').click()")
        browser.run("document.querySelector('dialog input[name=families][value=some]').click()")
        browser.wait("!!document.querySelector('dialog input[name=families-box]')", "the kinds to choose from")
        browser.run("document.querySelector('dialog input[name=families-box]').click()")
        assert browser.run("document.querySelector('dialog input[name=address]')") is None
        press(browser, "Simpan", "dialog")
        browser.wait(
            f"!document.querySelector('dialog') && {card}.innerText.includes('kotak diam, disk')", "it is changed"
        )
        assert "kunci-layanan" not in browser.run("document.documentElement.outerHTML")
    finally:
        receiver.close()
    press(browser, "Hapus")
    browser.wait("!document.querySelector('[data-notification]')", "it is gone")
    last_said(city, browser, "mengubah pemberitahuan")


def test_footage_is_held_and_released_with_a_reason(city, browser):
    go(city, browser, "/holds")
    press(browser, "Tahan rekaman")
    fill(browser, ("dialog textarea[name=reason]", "laporan polisi 214"))
    press(browser, "Tahan", "dialog")
    browser.wait("document.querySelector('[data-hold]')?.innerText.includes('laporan polisi 214')", "it is listed")
    press(browser, "Lepaskan")
    press(browser, "Lepaskan", "dialog")  # without a reason the browser refuses
    browser.wait("document.querySelector('dialog textarea:invalid') !== null", "a reason is asked for")
    fill(browser, ("dialog textarea[name=reason]", "perkara selesai"))
    press(browser, "Lepaskan", "dialog")
    browser.wait(
        "document.querySelector('[data-released=true]')?.innerText.includes('perkara selesai')", "it is released"
    )
    last_said(city, browser, "melepas penahanan")


def test_a_request_of_a_person_is_entered_looked_at_and_refused_with_a_reason(city, browser):
    go(city, browser, "/requests")
    press(browser, "Catat permintaan")
    fill(browser, ("dialog input[name=person]", "Ibu Maria"), ("dialog textarea[name=reason]", "mohon dihapus"))
    press(browser, "Catat", "dialog")
    browser.wait(
        "location.pathname.startsWith('/requests/') && !!document.querySelector('.head[data-state=received]')",
        "its page",
    )
    assert "Jawab dalam" in browser.run("document.querySelector('.head').innerText")
    fill(browser, ("textarea[name=answer]", "diperlukan untuk penyidikan"))
    press(browser, "Tolak")
    browser.wait("document.querySelector('.head')?.dataset.state === 'refused'", "it is refused")
    assert "diperlukan untuk penyidikan" in browser.run("document.querySelector('main').innerText")
    last_said(city, browser, "menolak penghapusan")


def test_an_update_begins_with_one_box_and_stops_by_itself_where_that_fails(city, browser, tmp_path):
    city.story.update_fails.add("poka-1")
    bundle = tmp_path / "nvr-2.0.raucb"
    bundle.write_bytes(b"hsqs" + bytes(2_000_000))
    go(city, browser, "/updates")
    press(browser, "Simpan pembaruan")
    browser.wait("!!document.querySelector('dialog input[type=file]')", "the form")
    document = browser.call("DOM.getDocument")["root"]["nodeId"]
    field = browser.call("DOM.querySelector", nodeId=document, selector="dialog input[type=file]")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=field, files=[str(bundle)])
    browser.wait(
        "document.querySelector('dialog input[name=version]').value === '2.0'", "the version is read from the name"
    )
    press(browser, "Simpan", "dialog")
    browser.wait("!!document.querySelector('[data-bundle=\"2.0\"]')", "it is stored", 60)
    press(browser, "Sebarkan")
    browser.wait("document.querySelectorAll('dialog option').length > 1", "the boxes that are here")
    browser.run(
        "const first = document.querySelector('dialog select[name=first]');"
        "first.value = [...first.options].find((each) => each.text === 'poka-1').value;"
        "first.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    press(browser, "Mulai", "dialog")
    browser.wait("!!document.querySelector('[data-rollout][data-state=running]')", "it is under way")
    browser.wait(
        "document.querySelector('[data-box=poka-1][data-state=busy]')?.innerText.includes('MiB')", "how far it is", 60
    )
    browser.wait("!!document.querySelector('[data-rollout][data-state=stopped]')", "it stopped by itself", 90)
    said = browser.run("document.querySelector('[data-rollout]').innerText")
    assert "its cameras did not record" in said and "Berhenti" in said
    assert browser.run("document.querySelector('[data-box=galala-1]').dataset.state") == "waiting"
    city.story.update_fails.clear()
    press(browser, "Coba lagi yang gagal")
    browser.wait("!!document.querySelector('[data-box=poka-1][data-state=good]')", "the second try works", 90)
    last_said(city, browser, "menghentikan pembaruan")


@pytest.mark.parametrize("page", PAGES)
def test_every_page_of_it_opens_without_a_fault_and_fits_a_phone_in_both_languages(city, browser, page):
    browser.size(390, 800, phone=True)
    for language in ("id", "en"):
        browser.run(f"localStorage.setItem('nvr.language', '{language}')")
        browser.faults.clear()
        go(city, browser, page)
        assert browser.faults == []
        assert browser.run("document.documentElement.lang") == language
        widest = browser.run(
            "Math.max(...[...document.querySelectorAll('main *:not(.scroll *):not(.tabs *)')].map((each) => each.getBoundingClientRect().right))"
        )
        assert widest <= 391, f"{page} in {language} is {widest} wide"
        chosen = browser.run("document.querySelector('.tabs [aria-current]').getBoundingClientRect().toJSON()")
        assert -1 <= chosen["left"] < 391, "the chosen tab is seen"
