import logging
import os
import socket
import subprocess
import sys

from nvr import systemd


def test_ready_and_status_arrive_as_one_datagram(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.notify(READY="1", STATUS="4 cameras recording")
        assert listener.recv(4096) == b"READY=1\nSTATUS=4 cameras recording"


def test_without_systemd_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    systemd.notify(WATCHDOG="1")
    assert systemd.watchdog_interval_s() is None


def test_a_notification_socket_that_is_gone_does_not_stop_the_recorder(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    systemd.notify(WATCHDOG="1")
    assert "does not take notifications" in caplog.text


def test_the_watchdog_wants_a_sign_of_life_twice_per_timeout(monkeypatch):
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_interval_s() == 15
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert systemd.watchdog_interval_s() is None


def test_a_line_about_a_stream_carries_camera_and_stream_as_fields():
    record = logging.LogRecord("nvr", logging.INFO, __file__, 1, "text", None, None)
    record.stream = "porch/main"
    assert systemd.StreamField().filter(record)
    assert (record.CAMERA, record.STREAM) == ("porch", "porch/main")


def test_a_child_whose_parent_died_before_it_could_ask_ends_at_once():
    code = "from nvr import systemd; systemd.end_with_parent(); print('lives')"
    for parent, told in ((str(os.getpid()), "lives\n"), ("1", "")):
        environment = {**systemd.environment_for_children(), "NVR_BOX_PID": parent}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout == told
