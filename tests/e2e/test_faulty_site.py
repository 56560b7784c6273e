"""A box whose site file was torn by the power cut: it records, says so everywhere, and takes the file again when it is good."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.recorded_box import film
from e2e.running import RunningBox, free_port

from nvr import site_kept, troubles
from nvr.uplink import health

SITE = """\
site: test
box: test-1
time_zone: UTC
web: {{listen: 127.0.0.1, port: {port}}}
storage: {{reserve_gb: 0.1}}
cameras:
  film:
    main: {{source: replay, file: "{film}", loop: true}}
    ring_gb: 0.05
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    pytest.importorskip("av", reason="PyAV makes the film")
    return SITE.format(port=free_port(), film=film(tmp_path / "film.mp4", 100))


def told(data_dir: Path) -> list[str]:
    return [each.detail for each in troubles.read(data_dir / "run")]


def test_a_box_that_recorded_yesterday_records_today_with_a_torn_site_file(text, tmp_path):
    site, data, log = tmp_path / "site.yaml", tmp_path / "data", tmp_path / "log"
    site.write_text(text)
    with RunningBox(site, data, log) as box:
        box.until(lambda: (data / site_kept.KEPT).exists(), seconds=60, what="the file that records is kept")
        assert told(data) == []
        site.write_text(text[:-60])
        box.until(lambda: told(data), what="a file that becomes faulty is told while it runs")
        assert box.is_recording("film/main")
        assert box.stop() == 0
    with RunningBox(site, data, log) as box:
        box.until(lambda: box.is_recording("film/main"), what="it records with the torn file")
        box.until(lambda: any("not in force" in each for each in told(data)), what="and says so")
        box.until(lambda: box.page, what="its page is up")
        assert "not in force" in box.log()
        site.write_text(text.replace("film:\n", "other:\n"))
        box.until(lambda: box.is_recording("other/main"), seconds=60, what="a good file is taken without a hand")
        box.until(lambda: told(data) == [], what="and nothing is wrong any more")
        assert box.stop() == 0


def test_a_first_start_with_a_faulty_file_is_refused(text, tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text(text[:-60])
    with RunningBox(site, tmp_path / "data", tmp_path / "log") as box:
        assert box.process.wait(30) == 1
        assert f"{site}:" in box.log()


def test_a_box_that_records_says_on_its_page_what_is_wrong_with_its_card(text, tmp_path, monkeypatch):
    """The installer of a box that records put a second, faulty site.yaml on its card: only the card itself said so."""
    site, data, setup = tmp_path / "site.yaml", tmp_path / "data", tmp_path / "setup"
    site.write_text(text)
    setup.mkdir()
    wrong = "not taken: site.yaml, line 8: 'vierzig' is not a number"
    troubles.write(setup, [troubles.Trouble(troubles.CARD, wrong, 0)])
    monkeypatch.setenv(troubles.TOLD_BY, str(setup))
    with RunningBox(site, data, tmp_path / "log") as box:
        box.until(lambda: box.is_recording("film/main"), what="it records")
        box.until(lambda: told(data) == [wrong], what="and says what is wrong with its card, to page and hub")
        box.until(lambda: box.page, what="its page is up")
        assert box.stop() == 0
    assert health.troubles_of(data / "run", {}, 0)[0]["kind"] == troubles.CARD  # what the heartbeat takes
