"""Boxes: found by real multicast DNS on loopback, asked over the page of a box that really records, entered by a real sshd."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest
from boxes_here import free_port
from click.testing import CliRunner

from tools.nvrctl import aim, lan
from tools.nvrctl.box_care import wipe_script
from tools.nvrctl.program import nvrctl
from tools.nvrctl.ssh import Shell, SshFailed


def call(*arguments: str, status: int = 0):
    result = CliRunner().invoke(nvrctl, ["box", *map(str, arguments)])
    assert result.exit_code == status, result.output
    return result


# -- multicast DNS


def test_a_box_on_the_network_is_found_with_its_page(announced):
    found = json.loads(call("find", "--interface", "127.0.0.1", "--wait", "2", "--json").stdout)["boxes"]
    assert found == [
        {
            "box": "waihaong-1",
            "address": "127.0.0.1",
            "port": 8080,
            "page": "http://127.0.0.1:8080",
            "site": "puskesmas-waihaong",
        }
    ]


def test_no_box_is_exit_1_with_what_to_look_at():
    assert "RESULT.txt" in call("find", "--interface", "127.0.0.1", "--wait", "0.5", status=1).stdout


def test_a_name_nobody_has_is_said():
    with pytest.raises(lan.NoLan, match="no box"):
        lan.address_of("nosuch.invalid")


def test_a_box_with_an_underscore_is_looked_for_by_its_host_name(monkeypatch):
    """The box calls itself nord-1, for a host name has no `_`; its label and `box status` looked for nord_1. No name server plays this here."""

    def answers(host, *_, **__):
        if host != "nord-1.local":
            raise OSError("nobody has this name")
        return [(2, 1, 6, "", ("10.0.0.21", 0))]

    monkeypatch.setattr("socket.getaddrinfo", answers)
    assert lan.address_of("nord_1") == "10.0.0.21"


# -- the page of a box that records


def eventually(*arguments: str):
    """A box that has just begun records within seconds; a busy machine takes longer."""
    end = time.monotonic() + 60
    while True:
        result = CliRunner().invoke(nvrctl, ["box", *arguments])
        if result.exit_code == 0 or time.monotonic() > end:
            assert result.exit_code == 0, result.output
            return result
        time.sleep(0.5)


def test_status_tells_what_a_box_records(running):
    found = json.loads(eventually("status", *running, "--json").stdout)
    assert found["ok"] and found["box"] == "waihaong-1" and found["streams"]["gate/main"]["recording"]
    text = call("status", *running).stdout
    assert "records 1 of 1 streams" in text and "gate/main" in text and "320x192" in text


def test_aim_shows_a_figure_and_keeps_the_picture(running, tmp_path):
    eventually("status", *running, "--json")
    out = tmp_path / "now.jpg"
    end = time.monotonic() + 30
    while (
        result := CliRunner().invoke(
            nvrctl,
            ["box", "aim", *running, "--camera", "gate", "--count", "2", "--every", "0.2", "--json", "--out", str(out)],
        )
    ).exit_code:
        assert time.monotonic() < end, result.output
        time.sleep(0.5)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 2 and all(
        each["sharpness"] > 0 and (each["width"], each["height"]) == (320, 192) for each in lines
    )
    assert out.read_bytes()[:2] == b"\xff\xd8"


def test_a_wrong_password_is_tried_once_and_said(running, tmp_path):
    (tmp_path / "wrong").write_text("not the password")
    result = call("status", *running[:3], "--password-file", str(tmp_path / "wrong"), status=1)
    assert "the password is wrong" in result.output and "not the password" not in result.output


def test_somebody_else_at_the_address_is_told_apart(tmp_path):
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>router</html>")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "pw").write_text("x")
    assert (
        "no page of a box"
        in call(
            "status", "127.0.0.1", "--port", server.server_address[1], "--password-file", tmp_path / "pw", status=1
        ).output
    )
    server.shutdown()


def test_a_sharper_picture_has_a_higher_figure():
    numpy = pytest.importorskip("numpy")
    picture = numpy.random.default_rng(1).integers(0, 255, (120, 160, 3), numpy.uint8)
    picture = picture.repeat(2, 0).repeat(2, 1)
    blurred = picture.astype(float)
    figures = [aim.sharpness(picture)]
    for _ in range(3):
        blurred = (
            blurred
            + numpy.roll(blurred, 1, 0)
            + numpy.roll(blurred, 1, 1)
            + numpy.roll(blurred, -1, 0)
            + numpy.roll(blurred, -1, 1)
        ) / 5
        figures.append(aim.sharpness(blurred.astype(numpy.uint8)))
    assert figures == sorted(figures, reverse=True) and figures[0] > 2 * figures[-1]
    assert aim.sharpness(numpy.full((100, 100, 3), 90, numpy.uint8)) == 0


def test_a_picture_is_drawn_no_larger_than_the_terminal():
    numpy = pytest.importorskip("numpy")
    text = aim.drawn(numpy.zeros((192, 320, 3), numpy.uint8), 80, 20)
    assert len(text.splitlines()) <= 20 and all(line.count("▀") <= 80 for line in text.splitlines())


def test_what_is_no_picture_is_said():
    pytest.importorskip("av")
    for data in (b"", b"garbage" * 100, b"\0\0\0\x18ftypisom" + bytes(16)):
        with pytest.raises(aim.NoPicture):
            aim.frame_of(data)


# -- SSH


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    """A real one, on loopback, for whoever runs the tests."""
    program = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
    if program is None or shutil.which("ssh") is None:
        pytest.skip("needs openssh-server: apt install openssh-server")
    folder = tmp_path_factory.mktemp("sshd")
    folder.chmod(0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    port = free_port()
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\nUsePAM no\nPasswordAuthentication no\nStrictModes no\n"
        f"PidFile {folder}/pid\nPermitRootLogin yes\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            if process.poll() is not None or time.monotonic() > end:
                pytest.skip("sshd does not start here")
            time.sleep(0.1)
    yield port, folder / "user"
    process.terminate()
    process.wait(10)


@pytest.fixture
def shell(sshd, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    port, key = sshd
    return Shell("127.0.0.1", getpass.getuser(), port, key)


def test_a_command_runs_on_the_box_and_its_words_stay_apart(shell):
    assert shell.run(["printf", "%s|", "a b", "$HOME", "'x'"]) == "a b|$HOME|'x'|"


def test_a_command_that_fails_says_what_it_said(shell):
    with pytest.raises(SshFailed, match="no such thing"):
        shell.run("echo no such thing >&2; exit 3")


def test_a_file_is_sent_whole(shell, tmp_path):
    bundle, target = tmp_path / "nvr.raucb", tmp_path / "there"
    bundle.write_bytes(os.urandom(3_000_000))
    shell.send(bundle, str(target))
    assert target.read_bytes() == bundle.read_bytes() and not target.with_name("there.part").exists()


def test_a_key_the_box_does_not_know_is_said_with_the_way_to_mend_it(shell, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")], check=True)
    with pytest.raises(SshFailed) as error:
        Shell(shell.host, shell.user, shell.port, tmp_path / "other").run("true")
    assert "--ssh-key" in error.value.hint


def test_a_box_that_shows_another_key_than_last_time_is_not_entered(shell, tmp_path):
    shell.run("true")
    known = tmp_path / "nvrctl" / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "another")], check=True)
    kind, key, *_ = (tmp_path / "another.pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{shell.port} {kind} {key}\n")
    with pytest.raises(SshFailed, match="another key"):
        shell.run("true")


def test_nobody_at_the_port_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(SshFailed, match="no way into"):
        Shell("127.0.0.1", "root", free_port()).run("true")


@pytest.mark.parametrize("footage_only", [True, False])
def test_wiping_deletes_below_the_data_directory_and_nowhere_else(tmp_path, footage_only):
    """The script itself, in a shell of this machine, with its absolute paths led into a folder of the test and systemctl played by `true`."""
    data, other = tmp_path / "data" / "nvr", tmp_path / "other"
    for folder in (data / "rings" / "gate", data / "identity", other, tmp_path / "data" / "site"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    (data / "rings" / "link").symlink_to(other)
    (data / "rings.disk").write_text("which disk the rings are on")
    (tmp_path / "environment").write_text(f"NVR_DATA={data}\n")
    script = (
        wipe_script(footage_only=footage_only)
        .replace("/run/nvr-setup/environment", str(tmp_path / "environment"))
        .replace("/data/", f"{tmp_path}/data/")
        .replace("systemctl", "true")
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (other / "file").exists() and data.is_dir()
    assert not (data / "rings").exists()
    assert not (data / "rings.disk").exists(), "with it the recorder waits for a disk that is not mounted"
    assert (data / "identity").exists() == (tmp_path / "data" / "site").exists() == footage_only


@pytest.mark.parametrize("value", ["", "/", "//", "/nosuch", "/data/", "/data/../etc", "/home/x", "/data/nosuch"])
def test_wiping_refuses_a_data_directory_that_is_none(tmp_path, value):
    (tmp_path / "environment").write_text(f"NVR_DATA={value}\n")
    script = (
        wipe_script(footage_only=True)
        .replace("/run/nvr-setup/environment", str(tmp_path / "environment"))
        .replace("systemctl", "true")
        .replace("rm -rf", "echo would delete")
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "would delete" not in done.stdout


def test_wiping_wants_the_name_typed():
    assert "say --name-again BOX" in call("wipe", "127.0.0.1", "--yes", status=2).output
    assert "nothing was deleted" in call("wipe", "127.0.0.1", "--name-again", "other", status=2).output
