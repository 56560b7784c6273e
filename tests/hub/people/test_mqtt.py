"""MQTT to a real broker, mosquitto: discovery as Home Assistant reads it, states, what a dead hub looks like."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from sqlalchemy import insert

from nvr.hub import tables as core
from nvr.hub.people import mqtt

PROGRAM = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
needs_broker = pytest.mark.skipif(PROGRAM is None, reason="mosquitto is not installed (Debian: mosquitto)")


class Broker:
    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert PROGRAM is not None
        self.process = subprocess.Popen(
            [PROGRAM, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait(lambda: _is_open(self.port), "the broker listens")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=60)
            self.process = None


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait(is_so: Callable[[], Any], what: str, timeout_s: float = 90.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < end_s, f"waited {timeout_s} s in vain until {what}"
        time.sleep(0.05)


class Reader:
    """Somebody who subscribes to everything, as Home Assistant does."""

    def __init__(self, port: int) -> None:
        self.topics: dict[str, str] = {}
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_message = self._heard
        self.client.reconnect_delay_set(1, 2)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _heard(self, client: Any, userdata: Any, message: Any) -> None:
        if message.payload:
            self.topics[message.topic] = message.payload.decode()
        else:
            self.topics.pop(message.topic, None)

    def json(self, topic: str) -> dict[str, Any]:
        return json.loads(self.topics[topic])

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


def judged(world, state: str = "closed") -> None:
    rows = [
        {"kind": "service_open", "state": state, "body": {"words": {"due": "open"}, "numbers": {}, "detail": ""}},
        {
            "kind": "queue",
            "state": "3",
            "body": {"words": {}, "numbers": {"waiting": 3.0, "longest_s": 65.0}, "detail": ""},
        },
    ]
    table = core.state_now
    with world.hub.store.writing() as connection:
        connection.execute(table.delete())
        for row in rows:
            connection.execute(
                insert(table).values(
                    camera_id=world.own.camera,
                    zone="counter",
                    slot="",
                    open=1,
                    since_ms=world.clock.now,
                    event_id=None,
                    **row,
                )
            )


@pytest.mark.broker
@needs_broker
def test_home_assistant_finds_the_places_and_sees_them_change(world, broker):
    judged(world)
    reader = Reader(broker.port)
    publisher = mqtt.Publisher(mqtt.MqttSettings("127.0.0.1", broker.port), "hub-1")
    publisher.start()
    place = f"nvr/city/place/{world.own.place}"
    try:

        def publish_until(is_so: Callable[[], Any], what: str) -> None:
            def look() -> Any:
                mqtt.publish(world.hub, publisher)
                return is_so()

            wait(look, what)

        publish_until(lambda: place in reader.topics and "nvr/status" in reader.topics, "the state of a place arrives")
        assert reader.json(place) == {"service": "closed", "due": "open", "waiting": 3, "wait_s": 65, "incidents": 0}
        wait(lambda: f"nvr/second/place/{world.other.place}" in reader.topics, "the last tenant arrives")
        assert reader.topics["nvr/status"] == "online"
        name = f"nvr_city_{world.own.place}_service"
        config = reader.json(f"homeassistant/sensor/{name}/config")
        assert (config["state_topic"], config["unique_id"], config["availability_topic"]) == (place, name, "nvr/status")
        assert config["options"] == ["open", "closed", "cannot tell"]
        problem = reader.json(f"homeassistant/binary_sensor/nvr_city_camera_{world.own.camera}/config")
        assert problem["device_class"] == "problem"
        assert reader.json(problem["state_topic"])["problem"] == "OFF"

        # Nothing changed: nothing is said again.
        mqtt.publish(world.hub, publisher)
        said = publisher.published
        mqtt.publish(world.hub, publisher)
        assert publisher.published == said

        # The box falls silent: what it said is not repeated as if it were true.
        world.clock.pass_s(60)
        publish_until(lambda: reader.json(place)["service"] == "cannot tell", "the silence arrives")
        assert reader.json(place)["waiting"] is None
        wait(lambda: reader.json(problem["state_topic"])["problem"] == "ON", "the camera's trouble arrives")
        assert reader.json(problem["state_topic"]) == {"state": "silent", "why": "box silent", "problem": "ON"}

        # What is there no more is taken away, also from the broker's memory.
        with world.hub.store.writing() as connection:
            connection.execute(core.state_now.delete())
        publish_until(lambda: f"homeassistant/sensor/{name}/config" not in reader.topics, "the sensor is taken away")

        # A broker that was away, and has forgotten everything, is told everything again.
        broker.stop()
        reader.topics.clear()
        mqtt.publish(world.hub, publisher)
        broker.start()
        publish_until(
            lambda: place in reader.topics and reader.topics.get("nvr/status") == "online", "all is told again"
        )
    finally:
        publisher.stop()
    wait(lambda: reader.topics["nvr/status"] == "offline", "a hub that stops says so")
    reader.close()


@pytest.mark.broker
@needs_broker
def test_the_broker_says_offline_for_a_hub_that_died(world, broker):
    reader = Reader(broker.port)
    publisher = mqtt.Publisher(mqtt.MqttSettings("127.0.0.1", broker.port), "hub-1")
    publisher.start()
    wait(lambda: reader.topics.get("nvr/status") == "online", "the hub is there")
    connection = publisher._client.socket()
    publisher._client.on_connect = None
    assert connection is not None
    connection.shutdown(socket.SHUT_RDWR)  # as the kernel does for a process that was killed: no DISCONNECT was said
    wait(lambda: reader.topics.get("nvr/status") == "offline", "the last will arrives")
    publisher._client.loop_stop()
    reader.close()


@pytest.mark.parametrize(
    "told",
    [
        {}, {"port": 1883}, "broker", {"host": 5}, {"host": "a", "port": "1883"}, {"host": "a", "port": True}, {"host": "a", "port": 0},
        {"host": "a", "base": "a/#"}, {"host": "a", "secret": "x"}, {"host": "a", "tls": "yes"},
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_at_start(told):
    with pytest.raises(mqtt.MqttFaulty):
        mqtt.MqttSettings.of(told)


def test_without_a_broker_in_the_settings_there_is_none():
    assert mqtt.MqttSettings.of(None) is None
    assert mqtt.MqttSettings.of({"host": "a", "password": "p"}) == mqtt.MqttSettings("a", password="p")
