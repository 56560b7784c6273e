"""The RTSP source with real sockets, against the pretend camera: the suite, and what goes wrong on networks."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time

import pytest
from pretend import Film, PretendCamera, nal_units
from source_suite import CLOCK, Drained, Rig, SourceSuite, bytes_of, drain_together

from nvr.arena import Arena
from nvr.media import AccessUnit, Cause, RunEnded, RunStarted
from nvr.rtsp.messages import BadRtsp
from nvr.source import dial
from nvr.source.backoff import Backoff
from nvr.source.rtsp import Rtsp

PASSWORD = "s3cret-of-the-camera"


def rtsp(camera: PretendCamera, transport: str = "tcp", *, password: str = PASSWORD, **options: object) -> Rtsp:
    return Rtsp(camera.url, "viewer", password, transport, arena=Arena(), **options)


def rig_of(film: Film, camera: PretendCamera, transport: str) -> Rig:
    return Rig(
        make=lambda: rtsp(camera, transport),
        size=(film.width, film.height),
        pictures=lambda: film.pictures,
        interrupt=lambda: camera.switch(cut=1),
        secrets=(PASSWORD,),
    )


@pytest.fixture(scope="module")
def one_camera(film):
    with PretendCamera(film.path, user="viewer", password=PASSWORD, rewind=True, speed=16) as camera:
        yield camera


@pytest.fixture
def camera(one_camera):
    one_camera.reset()
    return one_camera


@pytest.fixture
def drained(request):
    """Makes a Drained of a source and closes that at the end."""
    made: list[Rtsp] = []

    def of(source: Rtsp) -> Drained:
        made.append(source)
        return Drained(source)

    yield of
    for source in made:
        source.close()


class TestRtspOverTcp(SourceSuite):
    @pytest.fixture
    def rig(self, film, camera):
        return rig_of(film, camera, "tcp")


class TestRtspOverUdp(SourceSuite):
    @pytest.fixture
    def rig(self, film, camera):
        return rig_of(film, camera, "udp")


@pytest.mark.parametrize("scheme", ["basic", "digest", "both"])
def test_it_logs_in_as_the_camera_wants(camera, drained, scheme):
    camera.switch(scheme=scheme)
    drained(rtsp(camera)).until_pictures(2)


@pytest.mark.parametrize("switches", [{"qop": ""}, {"algorithm": "SHA-256"}, {"nonce_uses": 1}])
def test_it_logs_in_to_cameras_with_old_new_and_impatient_digest(camera, drained, switches):
    camera.switch(**switches)
    drained(rtsp(camera)).until_pictures(2)


def test_a_wrong_password_is_named_once_and_tried_again_only_after_minutes(camera, drained, caplog):
    """Cameras lock an account after a handful of wrong passwords; a hasty recorder would lock out everybody."""
    caplog.set_level(logging.DEBUG)
    source = rtsp(camera, password="wr0ng-password")
    seen = drained(source)
    seen.until(lambda: bool(seen.of(RunEnded)), "refusal")
    (ended,) = seen.events
    assert ended.cause is Cause.CAMERA and "refuses user viewer" in ended.detail
    now_ns = CLOCK.mono_ns()
    for second in range(30):
        seen.events += source.drain(now_ns + second * 1_000_000_000)
    assert len(seen.events) == 1 and source.facts()["connections"] == 1
    assert "wr0ng" not in ended.detail + repr(source) + str(source.facts()) + caplog.text


def test_a_refused_connection_is_the_networks_fault_in_the_systems_words(drained):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can get it
        source = Rtsp(f"rtsp://127.0.0.1:{taken.getsockname()[1]}/x", arena=Arena())
        seen = drained(source)
        seen.until(lambda: bool(seen.events), "refusal")
    assert seen.events[0].cause is Cause.NETWORK and "Connection refused" in seen.events[0].detail
    seen.events += source.drain(CLOCK.mono_ns() + 5_000_000_000)
    seen.events += source.drain(CLOCK.mono_ns() + 60_000_000_000)
    assert len(seen.events) == 1, "the same reason again is no news"


def test_a_camera_that_never_answers_is_given_up(drained):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        source = Rtsp(f"rtsp://127.0.0.1:{listening.getsockname()[1]}/x", arena=Arena())
        seen = drained(source)
        now_ns = CLOCK.mono_ns()
        for tenth in range(150):
            seen.events += source.drain(now_ns + tenth * 100_000_000)
        assert [type(each) for each in seen.events] == [RunEnded]
        assert "no answer to OPTIONS for 10 s" in seen.events[0].detail


def test_a_name_server_that_does_not_answer_holds_up_nobody(monkeypatch, drained):
    """getaddrinfo blocks for half a minute when the link is down; it has its own thread."""
    asked = threading.Event()
    release = threading.Event()

    def slow(host, port, *more, **named):
        if named.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        asked.set()
        release.wait(30)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(dial.socket, "getaddrinfo", slow)
    source = Rtsp("rtsp://camera.example/x", arena=Arena())
    seen = drained(source)
    before = time.monotonic()
    assert source.drain(CLOCK.mono_ns()) == []
    assert asked.wait(10)
    assert source.drain(CLOCK.mono_ns()) == []
    assert time.monotonic() - before < 10, "drain did not wait for the thread"
    seen.rate = 20.0
    seen.until(lambda: bool(seen.events), "reason")
    (ended,) = seen.events
    assert ended.cause is Cause.NETWORK and "camera.example" in ended.detail
    release.set()
    seen.until(
        lambda: any("Temporary failure" in each.detail for each in seen.of(RunEnded)), "the resolver's own words"
    )


def test_the_last_address_is_used_when_the_name_server_is_gone(monkeypatch, camera, drained):
    real = socket.getaddrinfo
    is_gone = False

    def resolver(host, port, *more, **named):
        if host != "camera.example":
            return real(host, port, *more, **named)
        if named.get("flags") or is_gone:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real("127.0.0.1", port, *more, **named)

    monkeypatch.setattr(dial.socket, "getaddrinfo", resolver)
    source = Rtsp(camera.url.replace("127.0.0.1", "camera.example"), "viewer", PASSWORD, "tcp", arena=Arena())
    seen = drained(source)
    seen.until_pictures(2)
    is_gone = True
    camera.switch(cut=1)
    seen.until(lambda: len(seen.of(RunStarted)) == 2, "second run")


def test_silence_ends_the_run_though_the_connection_stays(camera, drained):
    source = rtsp(camera, stall_s=2.0)
    seen = drained(source)
    seen.rate = 3.0
    seen.until_pictures(3)
    camera.switch(silent=1)
    seen.until(lambda: bool(seen.of(RunEnded)), "end of the run")
    ended = seen.of(RunEnded)[0]
    assert ended.cause is Cause.CAMERA and "no access unit for" in ended.detail
    camera.switch(silent=0)
    seen.until(lambda: len(seen.of(RunStarted)) == 2, "second run")
    assert source.facts()["reconnects"] >= 1


def test_udp_that_is_blocked_on_the_way_is_named(camera, drained):
    camera.switch(udp_lost=1)
    seen = drained(rtsp(camera, "udp", stall_s=2.0))
    seen.rate = 3.0
    seen.until(lambda: bool(seen.of(RunEnded)), "reason")
    assert "no UDP packet arrived" in seen.of(RunEnded)[0].detail


def test_auto_falls_back_between_transports(film, drained):
    """A camera without TCP gets UDP; one whose UDP does not arrive gets TCP again."""
    with PretendCamera(film.path, rewind=True, speed=16) as camera:
        camera.switch(only="udp")
        source = Rtsp(camera.url, transport="auto", arena=Arena())
        seen = drained(source)
        seen.rate = 4.0
        seen.until_pictures(2)
        assert source.facts()["transport"] == "udp"
        camera.switch(udp_lost=1, only="", cut=1)
        seen.until(lambda: len(seen.of(RunStarted)) == 2, "second run")
        assert source.facts()["transport"] == "tcp"


def test_lost_packets_are_counted_and_the_run_goes_on(camera, drained):
    source = rtsp(camera)
    seen = drained(source)
    seen.until_pictures(10)
    camera.switch(drop=3)
    seen.until(lambda: sum(unit.lost_packets for unit in seen.units()) == 3, "loss of 3 packets")
    seen.until_pictures(len(seen.units()) + 20)
    assert source.facts()["lost"] == 3 and not seen.of(RunEnded)


def test_datagrams_in_the_wrong_order_are_put_right(film, camera, drained):
    camera.switch(swap_every=5)
    source = rtsp(camera, "udp")
    units = drained(source).until_pictures(60)
    assert [nal_units(bytes_of(unit)) for unit in units[:60]] == [list(each) for each in film.pictures[:60]]
    assert source.facts()["lost"] == 0 and source.facts()["reordered"] > 0


def test_datagrams_of_somebody_else_are_not_recorded(camera, drained):
    """Anybody in the network can send to an open port; only the camera's address counts. Here 127.0.0.2 is the stranger."""
    source = rtsp(camera, "udp")
    seen = drained(source)
    seen.until_pictures(3)
    port = source._pair[0].getsockname()[1]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.2", 0))
        for number in range(50):
            stranger.sendto(b"\x80\xe0" + number.to_bytes(2, "big") + bytes(8) + b"\x65" * 100, ("127.0.0.1", port))
    seen.until_pictures(len(seen.units()) + 20)
    facts = source.facts()
    assert (facts["lost"], facts["malformed"], facts["late"]) == (0, 0, 0)
    assert not any(b"\x65" * 50 in bytes_of(unit) for unit in seen.units())


def test_other_parameter_sets_end_the_run_and_start_another(film, other_film, drained):
    with PretendCamera(f"{film.path}+{other_film.path}", rewind=True, speed=16) as camera:
        seen = drained(Rtsp(camera.url, arena=Arena()))
        seen.until_pictures(3)
        camera.switch(footage=1)
        seen.until(lambda: len(seen.of(RunStarted)) == 2, "second run")
        seen.until_pictures(len(seen.units()) + 3)
    first, second = seen.of(RunStarted)
    assert (first.width, second.width) == (film.width, other_film.width)
    at = seen.events.index(second)
    assert isinstance(seen.events[at - 1], RunEnded) and "parameter sets" in seen.events[at - 1].detail
    assert seen.events[at + 1].is_keyframe and seen.events[at + 1].decode_ticks == 0
    assert nal_units(bytes_of(seen.events[at + 1])) == list(other_film.pictures[0])


def test_nonsense_between_packets_is_skipped(camera, drained):
    source = rtsp(camera)
    seen = drained(source)
    seen.until_pictures(5)
    camera.switch(garbage=3000)
    seen.until_pictures(len(seen.units()) + 40)
    assert source.facts()["garbage_bytes"] > 0 and not seen.of(RunEnded)


@pytest.mark.parametrize("switches", [{"early": 1}, {"inband": 0}, {"sprop": 0}, {"reports": 0}])
def test_peculiar_cameras_are_recorded(film, camera, drained, switches):
    """Packets before the answer to PLAY; parameter sets in only one place; no sender reports."""
    camera.switch(**switches)
    units = drained(rtsp(camera)).until_pictures(30)
    assert nal_units(bytes_of(units[0])) == list(film.pictures[0])
    assert (units[29].camera_wall_ns == 0) == ("reports" in switches)


def test_the_cameras_wrong_clock_is_measured(film, drained):
    with PretendCamera(film.path, rewind=True) as camera:
        camera.switch(clock_s=-3600)
        source = Rtsp(camera.url, arena=Arena())
        seen = drained(source)
        seen.until(lambda: source.facts()["camera_clock_offset_s"] is not None, "sender report")
        units = seen.until_pictures(10)
        assert -3605 < source.facts()["camera_clock_offset_s"] < -3595
        hour_ago_ns = CLOCK.read().wall_ns - 3_600_000_000_000
        assert abs(units[-1].camera_wall_ns - hour_ago_ns) < 60_000_000_000


def test_the_camera_hears_reports_and_signs_of_life(film, drained):
    """A camera that hears nothing for its session timeout hangs up; this one after 3 s."""
    with PretendCamera(film.path, session_s=3) as camera:
        both = [drained(Rtsp(camera.url, transport=transport, arena=Arena())) for transport in ("tcp", "udp")]
        for seen in both:
            seen.rate = 4.0
        end = time.monotonic() + 5
        drain_together(both, lambda: time.monotonic() > end, "end of five seconds")
        for seen in both:
            assert len(seen.of(RunStarted)) == 1 and not seen.of(RunEnded)
        for watcher in camera.state()["watchers"]:
            assert watcher["requests"]["GET_PARAMETER"] >= 2 and watcher["receiver_reports"] >= 1
        assert len(camera.state()["watchers"]) == 2


def test_a_camera_is_told_goodbye(camera, drained):
    source = rtsp(camera)
    drained(source).until_pictures(1)
    source.close()
    for _ in range(100):
        if not camera.state()["watchers"]:
            break
        time.sleep(0.05)
    assert camera.state()["watchers"] == []


def test_a_camera_that_boots_is_found_again(camera, drained):
    seen = drained(rtsp(camera))
    seen.rate = 4.0
    seen.until_pictures(3)
    camera.switch(down_s=1)
    seen.until(lambda: any("refused" in each.detail for each in seen.of(RunEnded)), "refusal")
    seen.until(lambda: len(seen.of(RunStarted)) == 2, "second run")


def test_ipv6_cameras_are_recorded(film, drained):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    for transport in ("tcp", "udp"):
        with PretendCamera(film.path, bind="::1", rewind=True, speed=16) as camera:
            drained(Rtsp(camera.url, transport=transport, arena=Arena())).until_pictures(3)


def test_an_address_with_user_and_password_keeps_them_to_itself(camera):
    source = Rtsp(camera.url.replace("//", f"//viewer:{PASSWORD}@"), arena=Arena())
    assert PASSWORD not in repr(source)
    source.close()


@pytest.mark.parametrize(
    ("url", "transport"), [("http://x/", "auto"), ("rtsp://x/", "sctp"), ("rtsps://x/", "udp"), ("rtsp:///x", "tcp")]
)
def test_what_cannot_work_is_refused_at_once(url, transport):
    with pytest.raises(BadRtsp):
        Rtsp(url, transport=transport, arena=Arena())


def test_waiting_grows_to_half_a_minute_and_starts_again_after_a_good_run():
    backoff = Backoff(lambda: 0.5)
    waits = [backoff.next_ns(0) // 10**9 for _ in range(8)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert backoff.next_ns(0, played_ns=60 * 10**9) == 1_000_000_000
    assert [backoff.next_ns(0, is_slow=True) // 10**9 for _ in range(4)] == [60, 300, 900, 900]
    assert {Backoff(lambda: 0.0).next_ns(0), Backoff(lambda: 0.999).next_ns(0)} == {750_000_000, 1_249_500_000}


def test_one_mad_camera_does_not_keep_the_others_waiting(drained):
    """A server that sends as fast as it can: one drain takes its bound and returns."""
    stop = threading.Event()

    def flood(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n")
            try:
                while not stop.is_set():
                    connection.sendall(b"$\x05\x03\xe8" + bytes(1000))
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=flood, args=(listening,))
        thread.start()
        source = Rtsp(f"rtsp://127.0.0.1:{listening.getsockname()[1]}/x", arena=Arena())
        seen = drained(source)
        end = time.monotonic() + 1
        seen.until(lambda: time.monotonic() > end, "one second")
        assert seen.longest_s < 2.5
        assert not any(isinstance(each, AccessUnit) for each in seen.events)
        source.close()
        stop.set()
        thread.join(10)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(PEM file, SHA-256): signed by the camera itself, as cameras have it."""
    pytest.importorskip("cryptography")
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "camera")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("camera")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "camera.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path, made.fingerprint(hashes.SHA256()).hex()


@pytest.fixture(scope="module")
def tls_camera(film, certificate):
    with PretendCamera(film.path, tls=certificate[0], rewind=True, speed=16) as camera:
        yield camera


@pytest.mark.parametrize("how", ["fingerprint", "unverified"])
def test_pictures_travel_through_tls_unchanged(film, tls_camera, certificate, drained, how):
    options = {"tls_fingerprint": certificate[1]} if how == "fingerprint" else {"tls_verify": False}
    source = Rtsp(tls_camera.url, arena=Arena(), **options)
    units = drained(source).until_pictures(40)
    assert [nal_units(bytes_of(unit)) for unit in units[:40]] == [list(each) for each in film.pictures[:40]]
    assert source.facts()["transport"] == "tcp"
    source.close()
    time.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, "certificate is not accepted"), ({"tls_fingerprint": "ab" * 32}, "another certificate, with fingerprint")],
)
def test_a_certificate_that_nobody_vouches_for_is_refused(tls_camera, drained, options, said):
    seen = drained(Rtsp(tls_camera.url, arena=Arena(), **options))
    seen.until(lambda: bool(seen.of(RunEnded)), "refusal")
    assert seen.events[0].cause is Cause.CAMERA and said in seen.events[0].detail


def test_a_camera_without_tls_behind_an_address_with_tls_is_named(camera, drained):
    seen = drained(Rtsp(camera.url.replace("rtsp:", "rtsps:"), arena=Arena()))
    seen.rate = 6.0
    seen.until(lambda: bool(seen.of(RunEnded)), "refusal")
    assert seen.events[0].cause is Cause.CAMERA and "TLS" in seen.events[0].detail


def test_a_name_with_several_addresses_is_tried_at_each(camera, drained):
    """localhost is ::1 and 127.0.0.1, and the camera listens on the second only."""
    drained(
        Rtsp(camera.url.replace("127.0.0.1", "localhost"), "viewer", PASSWORD, "tcp", arena=Arena())
    ).until_pictures(1)


def test_a_machine_without_descriptors_says_so_and_recovers(monkeypatch, camera, drained):
    source = rtsp(camera)
    seen = drained(source)
    seen.rate = 8.0
    real = socket.socket
    with monkeypatch.context() as patched:
        patched.setattr(dial.socket, "socket", lambda *_: (_ for _ in ()).throw(OSError(24, "Too many open files")))
        seen.until(lambda: bool(seen.of(RunEnded)), "reason")
    assert dial.socket.socket is real
    assert "Too many open files" in seen.events[0].detail
    seen.until_pictures(1)


def test_whatever_a_server_says_drain_returns(drained):
    """A server that is out of its mind: answers cut, doubled, with other numbers, wrong lengths and noise between."""
    chance = random.Random(11)
    good = [
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nPublic: DESCRIBE, SETUP\r\n\r\n",
        b'RTSP/1.0 401 Unauthorized\r\nCSeq: 2\r\nWWW-Authenticate: Digest realm="x", nonce="y"\r\n\r\n',
        b"RTSP/1.0 302 Found\r\nCSeq: 1\r\nLocation: rtsp://127.0.0.1:99999/x\r\n\r\n",
        b"RTSP/1.0 302 Found\r\nCSeq: 1\r\nLocation: rtsp://[::1/\xff\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: 90\r\n\r\nv=0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:rtsp://[/\xfe\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 3\r\nTransport: RTP/AVP/TCP;interleaved=0-1\r\nSession: 1;timeout=-5\r\n\r\n",
        b"$\0\0\x0e\x80\x60\0\1\0\0\0\1\0\0\0\1\x65\x88",
        b"$\1\xff\xff",
        b"TEARDOWN rtsp://x RTSP/1.0\r\nCSeq: 99999999999999999999\r\n\r\n",
    ]
    stop = threading.Event()

    def serve(listening: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(0.2)
                try:
                    for _ in range(chance.randint(1, 8)):
                        connection.recv(65536)
                        data = bytearray(chance.choice(good)) + chance.randbytes(chance.choice((0, 0, 7)))
                        if chance.random() < 0.4:
                            data[chance.randrange(len(data))] = chance.randrange(256)
                        connection.sendall(data[: chance.choice((len(data), len(data), chance.randrange(len(data))))])
                except OSError:
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        sources = [
            Rtsp(f"rtsp://127.0.0.1:{listening.getsockname()[1]}/x", "u", "p", transport, arena=Arena())
            for transport in ("auto", "tcp", "udp")
        ]
        seen = [drained(source) for source in sources]
        end = time.monotonic() + 3
        for each in seen:
            each.rate = 2000.0  # waits of half a minute and more go by in no time
        drain_together(seen, lambda: time.monotonic() > end, "end of three seconds")
        assert all(each.source.facts()["connections"] >= 3 and each.of(RunEnded) for each in seen)
        stop.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)
