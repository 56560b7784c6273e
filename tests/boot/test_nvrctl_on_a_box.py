"""From the installer's table to a box in the field: nvrctl writes the card, a virtual PC starts from it, and nvrctl looks after it."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from boot import vm as vms
from boot.conftest import DISK_MIB, SITE, port_of
from tools.nvrctl.program import nvrctl

pytestmark = pytest.mark.boot

PASSWORD = "only for this test"


@dataclass(frozen=True)
class InTheField:
    vm: vms.Vm
    folder: Path

    def call(self, *arguments: object, status: int = 0) -> str:
        """What `nvrctl box ...` prints of this box."""
        result = CliRunner().invoke(nvrctl, ["box", *map(str, arguments)])
        assert result.exit_code == status, result.output
        return result.stdout if status == 0 else result.output

    @property
    def by_ssh(self) -> list[object]:
        return ["127.0.0.1", "--ssh-port", self.vm.ssh_port, "--ssh-key", self.vm.key]

    @property
    def by_page(self) -> list[object]:
        return ["127.0.0.1", "--port", self.vm.page_port, "--password-file", self.folder / "password"]

    def status(self, status: int | None = 0) -> dict:
        result = CliRunner().invoke(nvrctl, ["box", "status", *map(str, self.by_page), "--json"])
        if status is not None:
            assert result.exit_code == status, result.output
        try:
            return json.loads(result.stdout)
        except ValueError:  # it does not answer
            return {}

    def records_again(self) -> dict:
        return eventually(lambda: (found := self.status(None)).get("ok") and found, "it records")


def eventually(condition: Callable[[], object], what: str, limit_s: float = vms.BOOT_S):
    end_s = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < end_s, f"not within {limit_s:.0f} s: {what}"
        time.sleep(2)
    return found


@pytest.fixture(scope="module")
def box(builder, camera, logs, tmp_path_factory) -> InTheField:
    folder = tmp_path_factory.mktemp("field")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))  # the known hosts of nvrctl
    (folder / "site.yaml").write_text(SITE)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o600)
    key = vms.make_key(folder)
    image = folder / "box.img"
    shutil.copyfile(builder.built.disk.path / "disk.img", image)
    written = CliRunner().invoke(
        nvrctl,
        ["card", "write", str(image), str(folder / "card.img"), "--site", str(folder / "site.yaml"), "--ssh-key",
         str(key.with_suffix(".pub")), "--records", str(folder / "cards"), "--yes"],
    )  # fmt: skip
    assert written.exit_code == 0, written.output
    assert "good, read back" in written.output
    image.unlink()
    with open(folder / "card.img", "r+b") as card:
        card.truncate(DISK_MIB << 20)
    kernel = next(builder.built.boot.path.parents[1].glob("kernel/*/vmlinuz"))
    vm = vms.Vm(
        builder.built.toolbox, folder / "card.img", logs / "nvrctl.log", accel=vms.accelerator(builder.built.toolbox, kernel),
        cameras=[port_of(camera)], key=key,
    )  # fmt: skip
    vm.log.unlink(missing_ok=True)
    try:
        vm.start().wait_for("nvr: slot A committed")
        vm.wait_for_shell()
        yield InTheField(vm, folder)
    finally:
        vm.kill()
        monkeypatch.undo()


def test_the_page_is_opened_by_a_link_that_works_once_and_says_that_the_box_records(box):
    link = box.call("page", *box.by_ssh, "--link").strip()
    token = re.fullmatch(r"http://127\.0\.0\.1:8080/enter#(\S+)", link)[1]
    answer = httpx.post(
        f"http://127.0.0.1:{box.vm.page_port}/api/password",
        json={"password": PASSWORD, "token": token},
        trust_env=False,
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    found = box.records_again()
    assert (found["box"], list(found["streams"])) == ("test-1", ["gate/main"])


def test_its_log_is_read_over_the_network(box):
    lines = box.call("logs", *box.by_ssh, "-n", "2000").splitlines()
    assert any("nvr" in line for line in lines)
    assert "secret-word-7" not in "".join(lines)


def test_a_picture_for_aiming_comes_with_its_sharpness(box):
    pytest.importorskip("av")
    told = json.loads(box.call("aim", *box.by_page, "--camera", "gate", "--count", "1", "--json"))
    assert told["sharpness"] > 0


def test_a_restart_is_ordered_and_the_box_records_again(box):
    before = len(box.vm.text())
    assert "restarts" in box.call("reboot", *box.by_ssh, "--yes")
    box.vm.wait_for(r"nvr: slot A \(state", after=before)
    box.vm.wait_for_shell()
    box.records_again()


def test_an_update_is_sent_installed_and_committed(box, builder, tmp_path):
    bundle = builder.changed(lambda firmware: None, "1.1", tmp_path)
    before = len(box.vm.text())
    assert "restarts" in box.call("update", *box.by_ssh, bundle, "--yes")
    box.vm.wait_for("nvr: slot B committed", after=before)
    box.vm.wait_for_shell()
    box.records_again()
    status = box.vm.update_status()
    assert (status["slot"], status["version"], status["last"]["state"]) == ("B", "1.1", "committed")
    assert "No such file" in box.vm.ssh("ls /data/system/update.raucb 2>&1", check=False)


def test_a_bundle_that_is_none_is_refused_with_the_reason_and_nothing_restarts(box, tmp_path):
    bundle = tmp_path / "wrong.raucb"
    bundle.write_bytes(b"no bundle" * 1000)
    before = len(box.vm.text())
    told = box.call("update", *box.by_ssh, bundle, "--yes", status=1)
    assert "bundle" in told.lower() or "signature" in told.lower(), told
    assert "nvr: slot" not in box.vm.text()[before:]


def test_footage_is_wiped_and_the_box_goes_on(box):
    earliest = "nvr ring ls --data /data/nvr --json"
    assert json.loads(box.vm.ssh(earliest))["streams"][0]["pictures"] > 0
    box.call("wipe", *box.by_ssh, "--footage-only", "--name-again", "127.0.0.1")
    found = box.records_again()
    assert list(found["streams"]) == ["gate/main"]
    assert box.vm.ssh("test -e /data/site/site.yaml && echo there").strip() == "there"
