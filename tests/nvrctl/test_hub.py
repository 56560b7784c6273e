"""The hub's API as `nvrctl hub` uses it, against a pretend hub over real HTTP and TLS; against the real one where it is installed."""

from __future__ import annotations

import importlib.util
import json
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
from click.testing import CliRunner

from tools.nvrctl import hub_folder
from tools.nvrctl.hub_client import HubClient, HubUnreachable
from tools.nvrctl.program import nvrctl

CODES = {
    "version": 1,
    "codes": [
        {
            "code_hash": "a" * 64,
            "site": "s",
            "box": "one",
            "hub": "URL",
            "expires_at": "2027-01-01T00:00:00+00:00",
            "is_revoked": False,
        },
        {
            "code_hash": "b" * 64,
            "site": "s",
            "box": "two",
            "hub": "URL",
            "expires_at": "2027-01-01T00:00:00+00:00",
            "is_revoked": True,
        },
        {
            "code_hash": "c" * 64,
            "site": "s",
            "box": "three",
            "hub": "https://elsewhere.example",
            "expires_at": "2027-01-01T00:00:00+00:00",
            "is_revoked": False,
        },
    ],
}


class PretendHub:
    """Knows one administrator, by token and by password; keeps what it is told. Use it in a `with` statement."""

    def __init__(self, tls: tuple[Path, Path] | None = None, page: bytes | None = None) -> None:
        hub = self
        self.codes: dict[str, dict] = {}
        self.seen: list[tuple[str, str, dict]] = []
        self.session = ""

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else {}
                status, content = (
                    (200, page) if page is not None else hub.answer(self.command, self.path, body, self.headers)
                )
                data = (
                    content
                    if isinstance(content, bytes)
                    else json.dumps(content).encode()
                    if content is not None
                    else b""
                )
                self.send_response(status)
                self.send_header("content-length", str(len(data)))
                if hub.session and self.path.endswith("/session"):
                    self.send_header("set-cookie", f"nvr_hub={hub.session}; Path=/")
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> PretendHub:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: dict, headers) -> tuple[int, object]:
        self.seen.append((method, path, body))
        if path == "/api/v1/session" and method == "POST":
            if (body["name"], body["password"]) != ("admin", "secret"):
                return 401, {
                    "error": "name or password is wrong",
                    "hint": "An administrator can give you a new link.",
                    "key": "x",
                }
            self.session = "s3ss10n"
            return 200, {"user": "admin", "csrf": "c5rf"}
        by_session = bool(self.session) and self.session in headers.get("cookie", "")
        if headers.get("authorization") != "Bearer t0ken" and not by_session:
            return 401, {"error": "not logged in", "hint": ""}
        if by_session and method != "GET" and headers.get("x-csrf") != "c5rf":
            return 403, {"error": "the page is from another session", "hint": "Reload it."}
        if path == "/api/v1/codes" and method == "POST":
            if body.get("revoke"):
                return (
                    (201, {"code": None})
                    if self.codes.pop(body["code_hash"], None)
                    else (404, {"error": "there is no such code", "hint": ""})
                )
            if "code_hash" in body:
                if body["code_hash"] in self.codes:
                    return 409, {"error": "this code is known", "hint": ""}
                self.codes[body["code_hash"]] = body
                return 201, {"expires_ms": 0}
            return 201, {"code": "7F3K-QM2P-XW9D", "expires_ms": 1_800_000_000_000}
        if path == "/api/v1/codes":
            return 200, {
                "codes": [
                    {
                        "box": "one",
                        "site": "s",
                        "by": "admin",
                        "created_ms": 1,
                        "expires_ms": 1_800_000_000_000,
                        "used_by": None,
                        "used_ms": None,
                    }
                ]
            }
        if path == "/api/v1/users" and method == "POST":
            if not by_session:
                return 403, {"error": "a person does this", "hint": "Log in."}
            return 201, {"user": {"name": body["name"]}, "link_code": "l1nk"}
        if path == "/api/v1/users":
            return 200, {
                "users": [
                    {
                        "name": "admin",
                        "full_name": "",
                        "roles": [{"role": "administrator", "place": None}],
                        "has_password": True,
                        "disabled": False,
                    }
                ]
            }
        if path == "/api/v1/tokens" and method == "POST":
            return 201, {"id": 7, "token": "nvr_abc"}
        if path == "/api/v1/tokens":
            return 200, {
                "tokens": [
                    {
                        "id": 7,
                        "user": "admin",
                        "title": "laptop",
                        "scopes": ["administer"],
                        "expires_ms": None,
                        "used_ms": 1,
                    }
                ]
            }
        if path == "/api/v1/boxes":
            return 200, {
                "boxes": [
                    {
                        "id": "0" * 32,
                        "name": "one",
                        "site": "s",
                        "state": "here",
                        "software": "1.0",
                        "cameras": [{"name": "gate", "place": "s", "state": "fresh", "why": ""}],
                    }
                ]
            }
        return 422, {"detail": [{"loc": ["body", "roles"], "msg": "field required"}]}


@pytest.fixture
def hub():
    with PretendHub() as running:
        yield running


@pytest.fixture
def token(tmp_path):
    path = tmp_path / "token"
    path.write_text("t0ken\n")
    return str(path)


def call(*arguments: str, status: int = 0):
    result = CliRunner().invoke(nvrctl, [str(each) for each in arguments])
    assert result.exit_code == status, result.output
    return result


def codes_file(tmp_path, url: str) -> Path:
    path = tmp_path / "codes.json"
    path.write_text(json.dumps(CODES).replace('"URL"', json.dumps(url)))
    return path


def test_codes_are_told_once_and_revoked_ones_taken_back(hub, token, tmp_path):
    hub.codes["b" * 64] = {"box": "two"}
    path = codes_file(tmp_path, hub.url)
    first = json.loads(call("hub", "code", "import", path, "--hub", hub.url, "--token-file", token, "--json").stdout)
    assert first == {"new": ["one"], "known": [], "revoked": ["two"], "other hub": ["three"]}
    assert hub.codes == {
        "a" * 64: {"code_hash": "a" * 64, "site": "s", "box": "one", "expires_at": "2027-01-01T00:00:00+00:00"}
    }
    again = call("hub", "code", "import", path, "--hub", hub.url, "--token-file", token).stdout
    assert "1 code known there already: one" in again


@pytest.mark.parametrize(
    "garbage", ["", "{", "[]", '{"codes": 5}', '{"codes": [{"code_hash": "x"}]}', '{"codes": [null]}']
)
def test_a_file_that_holds_no_codes_is_named(hub, token, tmp_path, garbage):
    path = tmp_path / "codes.json"
    path.write_text(garbage)
    assert (
        "codes.json holds no codes"
        in call("hub", "code", "import", path, "--hub", hub.url, "--token-file", token, status=1).output
    )


def test_a_wrong_token_says_what_to_do(hub, tmp_path):
    (tmp_path / "t").write_text("wrong")
    result = call("hub", "code", "ls", "--hub", hub.url, "--token-file", tmp_path / "t", status=1)
    assert "not logged in" in result.output and "wrong, was revoked" in result.output and "Bearer" not in result.output


def test_people_are_made_by_a_person_and_get_a_link(hub, tmp_path):
    (tmp_path / "pw").write_text("secret\n")
    result = call(
        "hub",
        "user",
        "add",
        "ibu-ani",
        "--role",
        "operator",
        "--role",
        "viewer@waihaong",
        "--hub",
        hub.url,
        "--as",
        "admin",
        "--password-file",
        tmp_path / "pw",
    )
    assert f"{hub.url}/enter#l1nk" in result.stdout
    made = next(body for method, path, body in hub.seen if path == "/api/v1/users")
    assert made["roles"] == [{"role": "operator", "place": None}, {"role": "viewer", "place": "waihaong"}]
    assert ("DELETE", "/api/v1/session", {}) in hub.seen  # logged out again


def test_a_wrong_password_is_told_and_not_shown(hub, tmp_path):
    (tmp_path / "pw").write_text("geheim99")
    result = call("hub", "user", "ls", "--hub", hub.url, "--as", "admin", "--password-file", tmp_path / "pw", status=1)
    assert "name or password is wrong" in result.output and "geheim99" not in result.output


@pytest.mark.parametrize("arguments", [["user", "ls"], ["token", "ls"], ["code", "ls"]])
def test_lists_are_for_people_and_for_programs(hub, token, arguments):
    asked = ["hub", *arguments, "--hub", hub.url, "--token-file", token]
    assert "admin" in call(*asked).stdout
    assert isinstance(json.loads(call(*asked, "--json").stdout), dict)


def test_a_token_goes_into_a_file_that_others_cannot_read(hub, token, tmp_path):
    out = tmp_path / "new-token"
    result = call(
        "hub", "token", "add", "laptop", "--scope", "administer", "--out", out, "--hub", hub.url, "--token-file", token
    )
    assert out.read_text() == "nvr_abc\n" and out.stat().st_mode & 0o077 == 0 and "nvr_abc" not in result.output


def test_status_of_a_box_through_the_hub(hub, token, tmp_path):
    result = call("box", "status", "one", "--hub", hub.url, "--token-file", token)
    assert "one of s: here, version 1.0" in result.stdout and "gate" in result.stdout
    (tmp_path / "pw").write_text("wrong\n")
    refused = call(
        "box", "status", "one", "--hub", hub.url, "--as", "nobody", "--password-file", tmp_path / "pw", status=1
    )
    assert "name or password is wrong" in refused.output, "it asks as this user"
    found = json.loads(call("box", "status", "one", "--as", "admin", "--json", status=2).stdout)
    assert "--hub" in found["error"]
    assert "knows no box" in call("box", "status", "nosuch", "--hub", hub.url, "--token-file", token, status=1).output


def test_what_the_hub_finds_wrong_with_a_request_is_readable(hub, token):
    assert (
        "body.roles: field required"
        in call("hub", "user", "block", "x", "--yes", "--hub", hub.url, "--token-file", token, status=1).output
    )


def test_somebody_else_at_the_address_is_told_apart(token):
    with PretendHub(page=b"<html>hotel wifi</html>") as other:
        assert (
            "not as a hub does" in call("hub", "code", "ls", "--hub", other.url, "--token-file", token, status=1).output
        )


@pytest.mark.parametrize(
    "url", ["http://hub.example.org", "ftp://x", "hub.example.org", "https://user:pw@hub.example.org", "https://"]
)
def test_an_address_without_tls_is_refused(token, url):
    assert call("hub", "code", "ls", "--hub", url, "--token-file", token, status=1)


def test_who_asks_must_be_said(hub):
    assert "--token-file FILE, or --as NAME" in call("hub", "code", "ls", "--hub", hub.url, status=2).output


def test_a_pinned_certificate_is_the_only_one_that_is_taken(tmp_path):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    hub_folder._write_certificate(certificate, key, "127.0.0.1")
    fingerprint = hub_folder._fingerprint(certificate)
    assert key.stat().st_mode & 0o077 == 0
    with PretendHub((certificate, key)) as running:
        with HubClient(running.url, "t0ken", fingerprint) as client:
            assert client.ask("GET", "/api/v1/users")["users"]
        with pytest.raises(HubUnreachable, match="another certificate"):
            HubClient(running.url, "t0ken", "0" * 64)
        with HubClient(running.url, "t0ken") as client, pytest.raises(HubUnreachable):
            client.ask("GET", "/api/v1/users")
        assert [path for _, path, _ in running.seen] == ["/api/v1/users"]


# -- the real hub, where it is there


def test_a_folder_becomes_a_hub(tmp_path):
    if importlib.util.find_spec("nvr.hub") is None:
        result = call("hub", "init", tmp_path / "hub", "--url", "https://10.0.0.5:8443", status=1)
        assert "has no hub in it" in result.output and not (tmp_path / "hub").exists()
        pytest.skip("nvr.hub is not part of this tree yet")
    folder = tmp_path / "hub"
    made = json.loads(
        call(
            "hub",
            "init",
            folder,
            "--url",
            "https://10.0.0.5:8443",
            "--listen",
            "127.0.0.1:0",
            "--self-signed",
            "--json",
        ).stdout
    )
    assert len(made["fingerprint"]) == 64 and made["told"]
    before = (folder / "hub.yaml").read_text()
    again = json.loads(call("hub", "init", folder, "--url", "https://other.example", "--self-signed", "--json").stdout)
    assert (folder / "hub.yaml").read_text() == before and again["fingerprint"] == made["fingerprint"]
    assert (
        subprocess.run(
            [sys.executable, "-c", f"from nvr.hub.settings import load; print(load({str(folder)!r}).url)"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        == "https://10.0.0.5:8443"
    )


# -- a card's code at the real hub


@pytest.fixture
def real_hub(tmp_path):
    """`nvr hub run` with one administrator and a token for a laptop: (address, token file)."""
    if importlib.util.find_spec("nvr.hub") is None:
        pytest.skip("nvr.hub is not part of this tree yet")
    folder = tmp_path / "hub"

    def nvr(*arguments: str) -> dict:
        done = subprocess.run(
            [sys.executable, "-m", "nvr", "hub", *arguments, "--data", str(folder), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    nvr("init")
    nvr("user", "admin", "--role", "administrator")
    (tmp_path / "laptop").write_text(nvr("token", "admin", "--scope", "administer", "--scope", "health")["token"])
    (tmp_path / "laptop").chmod(0o600)
    process = subprocess.Popen(
        [sys.executable, "-m", "nvr", "hub", "run", "--data", str(folder), "--listen", "127.0.0.1:0", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        address = json.loads(process.stdout.readline())["address"]
        yield address, str(tmp_path / "laptop")
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_the_code_of_a_card_works_once_and_one_that_was_taken_back_never(real_hub, tmp_path):
    from nvr import evidence, wire
    from nvr.hub.identity import enrolment_signed
    from tools.nvrctl.identity import new_code

    address, token = real_hub
    codes = [new_code() for _ in range(2)]
    entries = [
        {
            "code_hash": wire.code_hash(code),
            "site": "waihaong",
            "box": "waihaong-1",
            "hub": address,
            "expires_at": "2036-01-01T00:00:00+00:00",
            "is_revoked": False,
        }
        for code in codes
    ]

    def told() -> dict:
        (tmp_path / "codes.json").write_text(json.dumps({"version": 1, "codes": entries}))
        return json.loads(
            call(
                "hub", "code", "import", tmp_path / "codes.json", "--hub", address, "--token-file", token, "--json"
            ).stdout
        )

    assert len(told()["new"]) == 2
    assert len(told()["known"]) == 2  # again changes nothing
    entries[1]["is_revoked"] = True
    assert told()["revoked"] == ["waihaong-1"]

    def enrol(code: str, folder: str) -> int:
        own = evidence.Identity.load_or_create(tmp_path / folder / "key")
        proof = own.sign(enrolment_signed(wire.code_hash(code), own.public_bytes)).hex()
        body = {
            "v": wire.VERSION,
            "code": code,
            "public_key": own.public_bytes.hex(),
            "proof": proof,
            "box": "waihaong-1",
            "site": "waihaong",
            "software": "test",
        }
        return httpx.post(f"{address}/box/v1/enrol", json=body).status_code

    assert enrol(codes[0], "first") == 200
    assert enrol(codes[0], "second") in (401, 403, 409)
    assert enrol(codes[1], "third") in (401, 403, 404)
    listed = json.loads(call("hub", "code", "ls", "--hub", address, "--token-file", token, "--json").stdout)["codes"]
    assert len(listed) == 1 and listed[0]["used_by"]


def test_a_token_is_taken_back_only_when_that_was_agreed_to(hub, token):
    arguments = ("hub", "token", "revoke", "7", "--hub", hub.url, "--token-file", token)
    assert "--yes" in call(*arguments, status=2).output
    assert not any(method == "DELETE" for method, _, _ in hub.seen)


# -- boxes that are far away


class HubOfOneBox(PretendHub):
    """Its box answers the second time it is asked for its answer, as one over a slow link does."""

    def __init__(self, state: str = "answered") -> None:
        super().__init__()
        self.state, self.looks = state, 0

    def answer(self, method: str, path: str, body: dict, headers) -> tuple[int, object]:
        if path.startswith("/api/v1/boxes/") and headers.get("authorization") == "Bearer t0ken":
            self.seen.append((method, path, body))
            self.looks += method == "GET"
            state = self.state if self.looks > 1 else "sent"
            do = next(sent["do"] for _, _, sent in reversed(self.seen) if sent.get("do"))
            lines = ["gate/main: recon\x1bnecting"] if do == "logs" and state == "answered" else None
            return 202 if method == "POST" else 200, {"id": "c" * 32, "do": do, "state": state, "detail": "why", "lines": lines}  # fmt: skip
        return super().answer(method, path, body, headers)


@pytest.fixture
def far(monkeypatch, token):
    monkeypatch.setattr("tools.nvrctl.box_by_hub.LOOK_S", 0.01)
    with HubOfOneBox() as hub:
        hub.options = ("--hub", hub.url, "--token-file", token)
        yield hub


def test_boxes_are_found_by_the_hub(far):
    assert "one  s     here   1.0" in call("box", "find", *far.options).output
    assert json.loads(call("box", "find", "--json", *far.options).stdout)["boxes"][0]["name"] == "one"


def test_the_log_of_a_box_comes_through_the_hub(far):
    assert call("box", "logs", "one", "-n", "5", *far.options).output.endswith("gate/main: recon?necting\n")
    assert ("POST", f"/api/v1/boxes/{'0' * 32}/ask", {"do": "logs", "lines": 5}) in far.seen
    assert "at most 500 lines" in call("box", "logs", "one", "-f", *far.options, status=2).output


def test_a_box_is_started_anew_through_the_hub_after_asking(far):
    assert "say --yes" in call("box", "reboot", "one", *far.options, status=2).output
    assert not any(body.get("do") for _, _, body in far.seen)
    assert "start anew" in call("box", "reboot", "one", "--yes", *far.options).output
    assert ("POST", f"/api/v1/boxes/{'0' * 32}/ask", {"do": "restart"}) in far.seen


@pytest.mark.parametrize(("state", "said"), [("refused", "one says no: why"), ("sent", "has not answered within")])
def test_a_box_that_says_no_or_nothing_is_told(far, monkeypatch, state, said):
    monkeypatch.setattr("tools.nvrctl.box_by_hub.ANSWER_S", 0.2)
    far.state = state
    assert said in call("box", "reboot", "one", "--yes", *far.options, status=1).output
    assert "knows no box two" in call("box", "logs", "two", *far.options, status=1).output


@pytest.mark.parametrize("command", [("page", "x"), ("wipe", "x"), ("aim", "x", "--camera", "gate")])
def test_what_never_goes_through_the_hub_says_why(command):
    assert "does not go through the hub" in call("box", *command, "--hub", "https://h.example", status=2).output
