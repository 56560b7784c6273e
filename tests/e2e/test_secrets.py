"""A whole box with passwords that are right, wrong and written into addresses: none of them is found anywhere afterwards."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli.recorded_box import film, program
from e2e.running import RunningBox, children_of, free_port
from pretend import PretendCamera

RIGHT, WRONG, INLINE, CODE = "Kora-Kora-7341", "Pattimura-9982", "Sirimau-5518", "4T8N-RM3C-VK6H"
SITE = f"""\
site: test
box: test-1
time_zone: Asia/Jayapura
web: {{{{listen: 127.0.0.1, port: {{port}}}}}}
storage: {{{{reserve_gb: 0.1}}}}
hub: {{{{url: "https://127.0.0.1:{{hub}}", code: {CODE}}}}}
cameras:
  street: {{{{main: {{{{source: rtsp, url: "{{url}}", user: viewer, password: {RIGHT}}}}}, ring_gb: 0.05}}}}
  gate: {{{{main: {{{{source: rtsp, url: "{{url}}", user: viewer, password: {WRONG}}}}}, ring_gb: 0.05}}}}
  dead: {{{{main: {{{{source: rtsp, url: "rtsp://127.0.0.1:{{nobody}}/x", user: viewer, password: {INLINE}}}}}, ring_gb: 0.05}}}}
"""
SECRETS = (RIGHT, WRONG, INLINE, CODE)


def places_of(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, footage included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def leaked(text: bytes) -> list[str]:
    return [
        secret
        for secret in SECRETS
        for form in (secret, secret.lower(), secret.replace("-", ""))
        if form.encode() in text
    ]


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_no_secret_is_in_logs_files_command_lines_or_environments(tmp_path, scheme):
    pytest.importorskip("av", reason="PyAV makes the film")
    clip = film(tmp_path / "film.mp4", 100)
    site_path, data_dir, log_path = tmp_path / "site.yaml", tmp_path / "data", tmp_path / "log"
    with PretendCamera(clip, user="viewer", password=RIGHT, scheme=scheme) as camera:
        site_path.write_text(SITE.format(port=free_port(), hub=free_port(), url=camera.url, nobody=free_port()))
        site_path.chmod(0o600)
        with RunningBox(site_path, data_dir, log_path) as box:
            box.until(lambda: box.is_recording("street/main"), 60, "the camera with the right password is recorded")
            box.until(lambda: box.stream("gate/main").get("detail"), 60, "the wrong password is noticed")
            box.until(lambda: box.stream("dead/main").get("detail"), 60, "the camera that is not there is noticed")
            told = repr(box.status) + repr(box.page)
            for pid in (box.process.pid, *children_of(box.process.pid)):
                for name in ("cmdline", "environ"):
                    assert leaked(Path(f"/proc/{pid}/{name}").read_bytes()) == [], f"{name} of {pid}"
            assert box.stop() == 0
    assert leaked(told.encode()) == []
    assert leaked(log_path.read_bytes()) == []
    for name, content in places_of(data_dir).items():
        assert leaked(content) == [], name
    for command in (
        ("site", "check", str(site_path)),
        ("ring", "ls", "--site", str(site_path)),
        ("ledger", "--site", str(site_path), "--gaps"),
    ):
        for form in ((), ("--json",)):
            done = program(*command, *form)
            assert leaked((done.stdout + done.stderr).encode()) == [], command


def test_a_faulty_site_file_is_told_without_its_passwords(tmp_path):
    site_path = tmp_path / "site.yaml"
    for text in (
        SITE.format(port=1, hub=2, url="rtsp://127.0.0.1/x", nobody=3).replace("password:", "pasword:"),
        SITE.format(port=1, hub=2, url=f"http://viewer:{INLINE}@127.0.0.1/x", nobody=3),
        SITE.format(port=1, hub=2, url=f"rtsp://viewer:{INLINE}@127.0.0.1:99999/x", nobody=3),
        SITE.format(port=1, hub=2, url="rtsp://127.0.0.1/x", nobody=3).replace(
            f"password: {WRONG}", f"password: [{WRONG}]"
        ),
        SITE.format(port=1, hub=2, url="rtsp://127.0.0.1/x", nobody=3).replace(f"code: {CODE}", f"code: {CODE}!"),
    ):
        site_path.write_text(text)
        os.chmod(site_path, 0o600)
        done = program("site", "check", str(site_path))
        assert done.returncode == 1, text
        assert leaked((done.stdout + done.stderr).encode()) == [], done.stdout
