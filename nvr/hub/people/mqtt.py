"""States for an MQTT broker, with Home Assistant's discovery; the only file that imports paho.

    homeassistant/COMPONENT/nvr_TENANT_NAME/config      retained: what there is (discovery)
    BASE/TENANT/place/NAME                              retained JSON: service, waiting, traffic, incidents
    BASE/TENANT/camera/ID                               retained JSON: state, still_ms
    BASE/TENANT/alert                                   each step of an alert, not retained
    BASE/status                                         online / offline (the broker says offline for a hub that died)

Published by the one worker. A broker that is away is no reason for anything else to wait: everything is published anew when it is back.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from sqlalchemy import select

from nvr.errors import NvrError
from nvr.hub import tables as core
from nvr.hub.parts import Hub
from nvr.hub.people import current, tile
from nvr.hub.people.api_places import places_now

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 30
RETRY_LEAST_S, RETRY_MOST_S = 2, 60
DISCOVERY = "homeassistant"


class MqttFaulty(NvrError):
    """`people.mqtt` in hub.yaml says something that cannot be."""


@dataclass(frozen=True, slots=True)
class MqttSettings:
    host: str
    port: int = 1883
    user: str = ""
    password: str = ""
    tls: bool = False
    base: str = "nvr"

    @classmethod
    def of(cls, told: object) -> MqttSettings | None:
        """From `people: {mqtt: {host: ...}}`; None where there is none. Raises MqttFaulty."""
        if told is None:
            return None
        kinds: dict[str, type] = {"host": str, "port": int, "user": str, "password": str, "tls": bool, "base": str}
        if not isinstance(told, Mapping) or not set(told) <= set(kinds) or not told.get("host"):
            raise MqttFaulty(
                "people.mqtt needs host, and may have port, user, password, tls, base",
                hint="docs/hub.md has an example.",
            )
        for key, value in told.items():
            if not isinstance(value, kinds[key]) or (kinds[key] is int and isinstance(value, bool)):
                raise MqttFaulty(f"people.mqtt.{key} must be {kinds[key].__name__}", hint="docs/hub.md has an example.")
        settings = cls(**told)
        if not 1 <= settings.port <= 65535 or any(letter in settings.base for letter in "#+") or not settings.base:
            raise MqttFaulty(
                "people.mqtt: port from 1 to 65535, base without # and +", hint="docs/hub.md has an example."
            )
        return settings


# -- what is said, pure ------------------------------------------------------------------------------------------


def place_message(place: Mapping[str, Any]) -> dict[str, Any]:
    """What holds at a place; a thing that is not judged there is absent."""
    found: dict[str, Any] = {"incidents": len(place["incidents"])}
    if place["service"]:
        found["service"] = place["service"]["state"]
        found["due"] = place["service"]["due"]
    if place["queue"]:
        found["waiting"] = place["queue"]["waiting"]
        found["wait_s"] = place["queue"]["wait_s"]
    if place["traffic"]:
        found["traffic"] = place["traffic"]["state"]
    return found


def place_discovery(
    place: Mapping[str, Any], settings: MqttSettings, tenant: str, language: str
) -> dict[str, dict[str, Any]]:
    """Topic -> configuration of Home Assistant, for what is judged at a place."""
    topic = f"{settings.base}/{tenant}/place/{place['name']}"
    device = {
        "identifiers": [f"nvr_{tenant}_{place['name']}"],
        "name": place["title"][language],
        "manufacturer": "nvr",
        "model": place["kind"],
    }
    found: dict[str, dict[str, Any]] = {}

    def sensor(key: str, names: dict[str, str], **more: Any) -> None:
        name = f"nvr_{tenant}_{place['name']}_{key}"
        found[f"{DISCOVERY}/sensor/{name}/config"] = {
            "name": names[language], "unique_id": name, "state_topic": topic, "value_template": f"{{{{ value_json.{key} }}}}",
            "availability_topic": f"{settings.base}/status", "device": device, **more,
        }  # fmt: skip

    if place["service"]:
        sensor(
            "service",
            {"id": "Layanan", "en": "Service"},
            device_class="enum",
            options=["open", "closed", "cannot tell"],
        )
    if place["queue"]:
        sensor("waiting", {"id": "Menunggu", "en": "Waiting"}, state_class="measurement", icon="mdi:account-group")
        sensor("wait_s", {"id": "Waktu tunggu", "en": "Waiting time"}, device_class="duration", unit_of_measurement="s")
    if place["traffic"]:
        sensor(
            "traffic",
            {"id": "Lalu lintas", "en": "Traffic"},
            device_class="enum",
            options=["free", "dense", "jam", "cannot tell"],
        )
    sensor("incidents", {"id": "Kejadian", "en": "Incidents"}, state_class="measurement", icon="mdi:alert")
    return found


def camera_message(each: current.CameraNow, now_ms: int) -> dict[str, Any]:
    found = tile.tile(each.camera, now_ms)
    return {
        "state": found.state,
        "why": found.why.get("key", ""),
        "problem": "OFF" if found.state == tile.LIVE else "ON",
    }


def camera_discovery(
    each: current.CameraNow, settings: MqttSettings, tenant: str, language: str
) -> dict[str, dict[str, Any]]:
    name = f"nvr_{tenant}_camera_{each.id}"
    topic = f"{settings.base}/{tenant}/camera/{each.id}"
    device = {
        "identifiers": [name],
        "name": f"{each.place_title[language]} / {each.title[language]}",
        "manufacturer": "nvr",
    }
    common = {"availability_topic": f"{settings.base}/status", "device": device, "state_topic": topic}
    return {
        f"{DISCOVERY}/binary_sensor/{name}/config": {
            **common, "name": {"id": "Masalah", "en": "Problem"}[language], "unique_id": f"{name}_problem", "device_class": "problem",
            "value_template": "{{ value_json.problem }}", "json_attributes_topic": topic,
        }
    }  # fmt: skip


# -- saying it ---------------------------------------------------------------------------------------------------


class Publisher:
    """Keeps one connection and says only what changed since the broker last took it."""

    def __init__(self, settings: MqttSettings, client_id: str) -> None:
        self.settings = settings
        self.published = 0
        self._said: dict[str, str] = {}
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=client_id)
        if settings.user:
            self._client.username_pw_set(settings.user, settings.password)
        if settings.tls:
            self._client.tls_set_context(ssl.create_default_context())
        self._client.will_set(f"{settings.base}/status", "offline", qos=1, retain=True)
        self._client.reconnect_delay_set(RETRY_LEAST_S, RETRY_MOST_S)
        self._client.on_connect = self._connected

    def start(self) -> None:
        self._client.connect_async(self.settings.host, self.settings.port, KEEP_ALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        if self._client.is_connected():
            self._client.publish(f"{self.settings.base}/status", "offline", qos=1, retain=True).wait_for_publish(5.0)
        self._client.disconnect()
        self._client.loop_stop()

    def _connected(self, client: paho.Client, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            log.warning("mqtt: the broker refuses: %s", reason)
            return
        log.info("mqtt: connected to %s:%d", self.settings.host, self.settings.port)
        self._said.clear()  # a broker that was away may have forgotten
        client.publish(f"{self.settings.base}/status", "online", qos=1, retain=True)

    def say(self, topic: str, message: Mapping[str, Any] | None, *, is_retained: bool = True) -> None:
        """None takes a retained message away. Does nothing while the broker is away: it is said when it is back."""
        text = "" if message is None else json.dumps(message, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
        if not self._client.is_connected() or (is_retained and self._said.get(topic) == text):
            return
        if self._client.publish(topic, text, qos=1, retain=is_retained).rc == paho.MQTT_ERR_SUCCESS:
            self.published += 1
            if is_retained:
                self._said[topic] = text

    def say_all(self, messages: Mapping[str, Mapping[str, Any]], kept_under: tuple[str, ...]) -> None:
        """All that is there now; what was said before under one of these prefixes and is there no more is taken away."""
        for topic in [
            each for each, text in self._said.items() if text and each.startswith(kept_under) and each not in messages
        ]:
            self.say(topic, None)
        for topic, message in messages.items():
            self.say(topic, message)


def publish(hub: Hub, publisher: Publisher) -> None:
    """Everything as it stands now; only differences travel."""
    settings, language, now_ms = publisher.settings, hub.settings.city.language, hub.now_ms()
    messages: dict[str, Mapping[str, Any]] = {}
    with hub.store.reading() as connection:
        tenants = connection.execute(select(core.tenant.c.id, core.tenant.c.name)).all()
        for tenant in tenants:
            for place in places_now(connection, tenant.id, None, now_ms):
                messages |= place_discovery(place, settings, tenant.name, language)
                messages[f"{settings.base}/{tenant.name}/place/{place['name']}"] = place_message(place)
            for each in current.cameras_now(connection, tenant.id, None):
                messages |= camera_discovery(each, settings, tenant.name, language)
                messages[f"{settings.base}/{tenant.name}/camera/{each.id}"] = camera_message(each, now_ms)
    publisher.say_all(messages, (f"{DISCOVERY}/", f"{settings.base}/"))
