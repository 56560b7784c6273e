"""`nvrctl box update --hub`: the bundle goes to the hub, and to one box; what became of it is told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import httpx
import pytest
from nvrctl.test_hub import PretendHub, call, real_hub, token  # noqa: F401

from tools.nvrctl import update_by_hub

BOX = "0" * 32


@pytest.fixture
def bundle(tmp_path) -> Path:
    """Begins as a bundle does; a hub asks no more of it (boxes do)."""
    path = tmp_path / "nvr-virt-9.8.1.raucb"
    path.write_bytes(b"hsqs" + bytes(700_000))
    return path


class HubThatUpdates(PretendHub):
    """The box is waiting, then busy, then at `end`: one step each time it is asked for."""

    def __init__(self, end: str) -> None:
        super().__init__()
        self.states = ["waiting", "busy", end]
        self.stored: list[str] = []
        self.begun: list[dict] = []

    def answer(self, method: str, path: str, body: dict, headers) -> tuple[int, object]:
        if headers.get("authorization") != "Bearer t0ken" or not path.startswith(
            ("/api/v1/bundles", "/api/v1/rollouts")
        ):
            return super().answer(method, path, body, headers)
        if path.startswith("/api/v1/bundles"):
            return 200, {"bundles": [{"sha256": each} for each in self.stored]}
        if method == "POST":
            self.begun.append(body)
            return 201, {"id": 7}
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        ended = {"good": "done", "failed": "stopped"}.get(state, "running")
        box = {"id": BOX, "name": "one", "state": state, "detail": "return: no camera" if state == "failed" else ""}
        return 200, {"rollouts": [{"id": 7, "state": ended, "why": "", "boxes": [box]}]}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(update_by_hub, "LOOK_S", 0.01)


@pytest.mark.parametrize(
    ("end", "status", "said"), [("good", 0, "one runs 9.8.1 and records."), ("failed", 1, "was not updated: return: no camera")]
)  # fmt: skip
def test_one_box_is_updated_and_its_end_is_told(bundle, token, quick, end, status, said):  # noqa: F811
    with HubThatUpdates(end) as hub:
        hub.stored = [hashlib.sha256(bundle.read_bytes()).hexdigest()]  # so that nothing is sent
        done = call("box", "update", "one", bundle, "--yes", "--hub", hub.url, "--token-file", token, status=status)
    assert said in done.output
    assert hub.begun == [{"sha256": hub.stored[0], "boxes": [BOX], "first": BOX}]
    assert [line for line in done.output.splitlines() if line.startswith("one: ")][1:3] == ["one: waiting", "one: busy"]


def test_a_bundle_whose_name_has_no_version_needs_one(tmp_path, token, quick):  # noqa: F811
    (tmp_path / "update.raucb").write_bytes(b"hsqs")
    with HubThatUpdates("good") as hub:
        arguments = (
            "box",
            "update",
            "one",
            tmp_path / "update.raucb",
            "--yes",
            "--hub",
            hub.url,
            "--token-file",
            token,
        )
        assert "--version" in call(*arguments, status=1).output
        assert "is no version" in call(*arguments, "--version", "1 2", status=1).output
        assert hub.begun == []
    assert update_by_hub.version_of(Path("nvr-rpi-1.2.raucb"), None) == "1.2"


@pytest.mark.slow
def test_a_real_hub_stores_it_once_and_orders_it(real_hub, bundle, tmp_path):  # noqa: F811
    from nvr import evidence, wire
    from nvr.hub.identity import enrolment_signed
    from tools.nvrctl.identity import new_code

    address, laptop = real_hub
    code = new_code()
    entry = {"code_hash": wire.code_hash(code), "site": "s", "box": "far-1", "hub": address, "expires_at": "2036-01-01T00:00:00+00:00", "is_revoked": False}  # fmt: skip
    (tmp_path / "codes.json").write_text(json.dumps({"version": 1, "codes": [entry]}))
    hub = ("--hub", address, "--token-file", laptop)
    call("hub", "code", "import", tmp_path / "codes.json", *hub)
    own = evidence.Identity.load_or_create(tmp_path / "key")
    proof = own.sign(enrolment_signed(wire.code_hash(code), own.public_bytes)).hex()
    body = {"v": wire.VERSION, "code": code, "public_key": own.public_bytes.hex(), "proof": proof, "box": "far-1", "site": "s", "software": "test"}  # fmt: skip
    assert httpx.post(f"{address}/box/v1/enrol", json=body).status_code == 200

    ordered = ("box", "update", "far-1", bundle, "--yes", "--no-wait", *hub)
    told = json.loads(call(*ordered, "--json").stdout)
    assert (told["version"], told["state"]) == ("9.8.1", "ordered")
    headers = {"authorization": f"Bearer {Path(laptop).read_text().strip()}"}
    (stored,) = httpx.get(f"{address}/api/v1/bundles", headers=headers).json()["bundles"]
    assert (stored["sha256"], stored["size_bytes"], stored["version"]) == (
        told["sha256"],
        bundle.stat().st_size,
        "9.8.1",
    )
    (rollout,) = httpx.get(f"{address}/api/v1/rollouts", headers=headers).json()["rollouts"]
    assert [box["name"] for box in rollout["boxes"]] == ["far-1"]
    assert "another update is under way" in call(*ordered, status=1).output
    assert "knows no box" in call("box", "update", "nobody", bundle, "--yes", *hub, status=1).output
    bundle.write_bytes(b"not a bundle at all")
    assert "no update bundle" in call(*ordered, status=1).output
