"""Two hub processes behind nginx, which sends all of one box to one of them: docs/nginx-hub.conf as it stands."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from nvr.hub import tables
from tests.hub.conftest import BACKENDS, HubProcess, hub_on, wait_for
from tests.hub.engines import free_port
from tests.hub.simulated import SimulatedBox
from tests.hub.test_control import ask

pytestmark = pytest.mark.nginx
CONF = Path(__file__).parents[2] / "docs" / "nginx-hub.conf"


@pytest.fixture(params=BACKENDS)
def two(request, tmp_path):
    """(address of nginx, the two hubs)."""
    with hub_on(request.param, tmp_path / "data", request) as first:
        second = HubProcess(first.data_dir, *first.options, environment=first.environment)
        first.start()
        second.start()
        port = free_port()
        text = re.sub(r"^\s*ssl_.*\n", "", CONF.read_text(), flags=re.MULTILINE).replace(
            "listen 443 ssl", f"listen 127.0.0.1:{port}"
        )
        text = text.replace("127.0.0.1:8443", first.listen).replace("127.0.0.1:8444", second.listen)
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; pid {tmp_path}/nginx.pid; error_log {tmp_path}/error.log warn;\n"
            + ("user root;\n" if os.geteuid() == 0 else "")
            + "events { worker_connections 1024; }\nhttp { access_log off;\n"
            + "".join(
                f"{name}_temp_path {tmp_path}/{name};\n"
                for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            + text
            + "}\n"
        )
        nginx = subprocess.Popen(
            ["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.DEVNULL
        )
        url = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return httpx.get(f"{url}/healthz", timeout=30).status_code == 200
            return False

        try:
            wait_for(answers, "nginx answers")
            yield url, (first, second)
        finally:
            nginx.terminate()
            nginx.wait(timeout=60)
            second.stop()


def connected_to(hub: HubProcess) -> int:
    return httpx.get(f"{hub.url}/healthz", timeout=60).json()["boxes"]


def test_boxes_are_shared_out_and_each_has_its_process(two, client):
    url, hubs = two
    boxes = []
    for number in range(12):
        box = SimulatedBox(url, f"waihaong-{number}")
        assert box.enrol(hubs[0].code()).status_code == 200
        boxes.append(box)
    for box in boxes:
        box.join()
    shared = [connected_to(hub) for hub in hubs]
    assert sum(shared) == 12 and all(shared)
    for box in boxes:  # each comes back to where it was
        box.close()
        box.join()
    assert [connected_to(hub) for hub in hubs] == shared
    for box in boxes:
        event = box.event()
        box.send("event", **event)
        box.hear_acks(event["id"])
        command_id = ask(
            hubs[0], box, "still", camera="street"
        )  # told by one process, heard by the one that has the box
        assert box.hear("command")["id"] == command_id
    data = os.urandom(300_000)
    assert boxes[0].upload(client, data).headers["nvr-stored"]


def test_one_process_that_is_killed_loses_nothing_and_its_boxes_go_to_the_other(two):
    url, hubs = two
    boxes = [SimulatedBox(url, f"waihaong-{number}") for number in range(8)]
    confirmed = []
    for box in boxes:
        assert box.enrol(hubs[0].code()).status_code == 200
        box.join()
        event = box.event()
        box.send("event", **event)
        box.hear_acks(event["id"])
        confirmed.append(event["id"])
    hubs[1].kill()
    for box in boxes:
        end_s = time.monotonic() + 120
        while True:
            with contextlib.suppress(ConnectionClosed, InvalidHandshake, OSError, TimeoutError):
                box.join()
                event = box.event()
                box.send("event", **event)
                box.hear_acks(event["id"])
                confirmed.append(event["id"])
                break
            assert time.monotonic() < end_s
            time.sleep(0.2)
    assert connected_to(hubs[0]) == 8
    assert set(confirmed) <= {row["id"] for row in hubs[0].rows(tables.event)}


def test_a_box_on_two_processes_keeps_the_newer_connection(two):
    _, hubs = two
    box = SimulatedBox(hubs[0].url)
    assert box.enrol(hubs[0].code()).status_code == 200
    box.join()
    old, box.url = box.socket, hubs[1].url
    box.join()
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            old.recv(timeout=60)
    assert closed.value.rcvd.code == 4409
    event = box.event()
    box.send("event", **event)
    box.hear_acks(event["id"])
