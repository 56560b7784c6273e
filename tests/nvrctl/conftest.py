"""A box that announces itself, and a box that records: what several tests of nvrctl look at."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import films
import httpx
import pytest
from boxes_here import PASSWORD, free_port

from tools.nvrctl import lan

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def announced():
    """A box that announces itself on loopback, as systemd-resolved does on the image."""
    from zeroconf import IPVersion, ServiceInfo, Zeroconf

    # All of this machine hear each other on loopback: two at a time would have the same name.
    lock = open(Path(tempfile.gettempdir()) / "nvr-tests-announced.lock", "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        browser = Zeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
    except OSError:
        pytest.skip("no multicast on loopback here")
    info = ServiceInfo(
        lan.SERVICE,
        f"waihaong-1.{lan.SERVICE}",
        port=8080,
        addresses=[socket.inet_aton("127.0.0.1")],
        properties={"site": "puskesmas-waihaong"},
        server="waihaong-1.local.",
    )
    browser.register_service(info)
    yield
    browser.unregister_service(info)
    browser.close()
    lock.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """`nvr run` with one camera; the password of its page is set as a person would."""
    folder = tmp_path_factory.mktemp("box")
    film, port = films.footage("drawn/gate.mp4"), free_port()
    (folder / "site.yaml").write_text(
        f"site: waihaong\nbox: waihaong-1\ntime_zone: Asia/Jayapura\nweb: {{listen: 127.0.0.1, port: {port}}}\nstorage: {{path: data, loss_bound_s: 1, reserve_gb: 0}}\n"
        f"cameras:\n  gate:\n    main: {{source: replay, file: {film}, loop: true}}\n    ring_gb: 0.05\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "nvr", "run", "--site", "site.yaml", "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        page = json.loads(process.stdout.readline())
        token = page["link"].partition("#")[2]
        end = time.monotonic() + 60
        while True:
            try:
                assert (
                    httpx.post(
                        f"{page['address']}/api/password", json={"token": token, "password": PASSWORD}
                    ).status_code
                    == 200
                )
                break
            except httpx.TransportError:
                assert time.monotonic() < end
                time.sleep(0.2)
        (folder / "password").write_text(PASSWORD + "\n")
        subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)  # it goes on talking
        yield ["127.0.0.1", "--port", str(port), "--password-file", str(folder / "password")]
    finally:
        process.terminate()
        process.wait(30)
