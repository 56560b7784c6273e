"""`nvrctl camera`: find cameras, judge what they send, set them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from nvr.errors import NvrError
from tools.nvrctl import secret
from tools.nvrctl.output import FILE, confirm, json_option, many, print_json, print_table, printable, yes_option

if TYPE_CHECKING:
    from tools.nvrctl.onvif_client import CameraFound, OnvifCamera


@click.group()
def camera() -> None:
    """Find cameras, judge what they send, and set them.

    \b
    Examples:
        nvrctl camera find --user admin --password-file camera-password
        nvrctl camera check rtsp://10.0.0.11/main
    """


def _login_options(command):  # type: ignore[no-untyped-def]
    command = click.option(
        "--password-file", type=FILE, help="File that holds the password; on the command line everybody would see it."
    )(command)
    return click.option("--user", default="", help="User at the cameras.")(command)


def _password(user: str, path: Path | None) -> str:
    return secret.password(f"Password of {user}", path, "--user") if user or path else ""


# -- find ----------------------------------------------------------------------------------------------


@camera.command()
@click.option(
    "--interface", metavar="NAME", help="Look on this interface (eth0, or its address) only; else on all but loopback."
)
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="A.B.C.D/N",
    help="Knock at these addresses; must be a network of this machine. Else the interface's, or the /24 around us.",
)
@click.option("--no-knock", is_flag=True, help="Only listen to who answers by itself (WS-Discovery).")
@click.option(
    "--port",
    "ports",
    type=click.IntRange(1, 65535),
    multiple=True,
    help="Ports to knock at.  [default: 80, 8080, 8000, 8899, 2020]",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0.2, 60),
    default=3.0,
    show_default=True,
    help="Seconds to wait for answers.",
)
@_login_options
@click.option(
    "--table",
    "table_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write what was found as a table for `nvrctl site new --table`.",
)
@click.option("--box", default="box-1", show_default=True, help="Name of the box in the table and the proposal.")
@json_option
@click.pass_context
def find(
    context: click.Context, interface: str | None, networks: tuple[str, ...], no_knock: bool, ports: tuple[int, ...], wait_s: float, user: str, password_file: Path | None,
    table_path: Path | None, box: str, as_json: bool,
) -> None:  # fmt: skip
    """Find the cameras on the networks of this machine, and tell what each is and sends.

    Cameras are asked to answer (ONVIF WS-Discovery); then every address of the network is knocked at, for those that do not. Of each:
    maker, model, firmware, how wrong its clock is, and its streams with codec, size, rate, bit rate and keyframe interval, as it is
    set. User and password are tried once on each camera, in a form that does not reveal them, and are never logged.

    Ends with a proposal for the site file. Exit status 1 when there is no camera.

    \b
    Examples:
        nvrctl camera find
        nvrctl camera find --interface eth0 --user admin --password-file camera-password --table cameras.csv
    """
    from tools.nvrctl import discovery

    if table_path is not None and table_path.exists():
        raise NvrError(
            f"{table_path} is there already", hint="Another name, or move it away: somebody may have worked on it."
        )
    password = _password(user, password_file)
    known = discovery.interfaces()
    own = discovery.chosen(known, interface)
    hosts = [] if no_knock else discovery.hosts_to_knock(own, networks)
    sightings = discovery.answered(own, wait_s=wait_s)
    if hosts:
        click.echo(f"{len(sightings)} answered; knocking at {many(len(hosts), 'host')}", err=True)
        sightings += discovery.knocked(hosts, ports or discovery.PORTS)
    found, silent = _asked(sightings, user, password)
    is_written = table_path is not None and bool(found)  # an empty one would only stand in the way of the next try
    if table_path is not None and is_written:
        _write_table(table_path, box, found, user)
    if as_json:
        print_json(
            {"cameras": [_camera_json(each) for each in found], "rtsp_only": silent, "proposal": proposal(found, user)}
        )
    else:
        _print_found(found, silent, user)
        if is_written:
            click.echo(f"Next: look over {table_path}, then nvrctl site new --table {table_path}")
    context.exit(0 if found or silent else 1)


def _asked(sightings: Sequence[Any], user: str, password: str) -> tuple[list[CameraFound], list[str]]:
    """Every camera once, by host; and hosts that only have RTSP."""
    from tools.nvrctl.onvif_client import NoAnswer, look

    by_host: dict[str, list[str]] = {}
    for each in sightings:
        services = by_host.setdefault(each.host, [])
        if each.service and each.service not in services:
            services.append(each.service)

    def ask(services: list[str]) -> CameraFound | None:
        for service in services:
            try:
                return look(service, user, password)
            except NoAnswer:
                continue
        return None

    with ThreadPoolExecutor(16) as pool:
        answers = dict(zip(by_host, pool.map(ask, by_host.values()), strict=True))
    found = [answer for answer in answers.values() if answer is not None]
    rtsp = {each.host for each in sightings if not each.service}
    silent = [host for host, answer in answers.items() if answer is None and host in rtsp]
    return sorted(found, key=lambda each: [int(part) for part in re.findall(r"\d+", each.host)]), silent


def _camera_json(each: CameraFound) -> dict[str, Any]:
    return {
        "host": each.host, "service": each.service, **(asdict(each.device) if each.device else {}),
        "clock_error_s": each.clock_error_s, "uses_ntp": each.clock.is_ntp if each.clock else None,
        "streams": [{"url": stream.url, **asdict(stream.profile)} for stream in each.streams], "trouble": each.trouble or None,
    }  # fmt: skip


def _print_found(found: Sequence[CameraFound], silent: Sequence[str], user: str) -> None:
    from tools.nvrctl.fitness import clock_text

    if not found and not silent:
        click.echo("no camera answered")
        click.echo(
            "        Are they on, and on this network? Many need ONVIF switched on on their own page. --interface chooses another network."
        )
        return
    for each in found:
        what = (
            f"{each.device.maker} {each.device.model}, firmware {each.device.firmware}" if each.device else "a camera"
        )
        click.echo(printable(f"{each.host}: {what}"))
        if each.clock_error_s is not None:
            source = "set by a time server" if each.clock and each.clock.is_ntp else "set by hand"
            is_wrong = abs(each.clock_error_s) > 2
            click.echo(
                click.style(f"    clock: {clock_text(each.clock_error_s)}, {source}", fg="yellow")
                if is_wrong
                else f"    clock: right, {source}"
            )
        if each.trouble:
            click.echo(click.style(f"    {printable(each.trouble)}", fg="yellow"))
        rows = [
            ["    " + (stream.profile.name or stream.profile.token), stream.profile.codec or "?", f"{stream.profile.width}x{stream.profile.height}", f"{stream.profile.fps:g}/s",
             f"{stream.profile.kbit / 1000:g} Mbit/s" if stream.profile.kbit else "-", _gop_text(stream.profile), stream.url or "-"]
            for stream in each.streams
        ]  # fmt: skip
        if rows:
            print_table(["    stream", "codec", "size", "rate", "at most", "keyframe every", "address"], rows)
    for host in silent:
        click.echo(
            f"{host}: speaks RTSP and no ONVIF: its address stands in its manual; then `nvrctl camera check rtsp://{host}/...`"
        )
    text = proposal(found, user)
    if text:
        click.echo("\nFor the site file:\n")
        click.echo(text)


def _gop_text(profile: Any) -> str:
    if not profile.gop:
        return "-"
    return f"{profile.gop:g} ({profile.gop / profile.fps:.1f} s)" if profile.fps else f"{profile.gop:g}"


def best_streams(found: CameraFound) -> tuple[Any, Any]:
    """The streams to record and to look at: the largest H.264, and the smallest if that is another."""
    usable = [each for each in found.streams if each.url and each.profile.codec in ("H264", "")]
    usable.sort(key=lambda each: each.profile.width * each.profile.height, reverse=True)
    if not usable:
        return None, None
    return usable[0], usable[-1] if usable[-1].url != usable[0].url else None


def _name(found: CameraFound) -> str:
    return f"camera-{found.host.rpartition('.')[2] if '.' in found.host else re.sub(r'[^a-z0-9]+', '-', found.host.lower()).strip('-')}"


def proposal(found: Sequence[CameraFound], user: str) -> str:
    """The `cameras:` of a site file; the password is left to the person."""
    from tools.nvrctl.site_draft import quoted

    lines = []
    for each in found:
        main, small = best_streams(each)
        if main is None:
            continue
        login = f", user: {quoted(user)}, password: ..." if user else ""
        comment = f"   # {each.device.maker} {each.device.model}" if each.device else ""
        lines += [
            f"  {_name(each)}:{printable(comment)}",
            f"    main: {{source: rtsp, url: {quoted(main.url)}{login}}}",
        ]
        if small is not None:
            lines.append(f"    small: {{source: rtsp, url: {quoted(small.url)}}}")
        lines.append("    ring_gb: 20")
    return "\n".join(["cameras:", *lines]) if lines else ""


def _write_table(path: Path, box: str, found: Sequence[CameraFound], user: str) -> None:
    import csv

    with open(path, "x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["box", "camera", "url", "small", "user", "password", "template", "place"])
        for each in found:
            main, small = best_streams(each)
            if main is not None:
                writer.writerow([box, _name(each), main.url, small.url if small else "", user, "", "", ""])


# -- check ---------------------------------------------------------------------------------------------


@camera.command()
@click.argument("url")
@_login_options
@click.option("--seconds", type=click.FloatRange(2, 300), default=10.0, show_default=True, help="How long to listen.")
@click.option("--transport", type=click.Choice(["auto", "tcp", "udp"]), default="auto", show_default=True)
@click.option("--no-tls-verify", is_flag=True, help="Accept any certificate (rtsps).")
@json_option
@click.pass_context
def check(
    context: click.Context,
    url: str,
    user: str,
    password_file: Path | None,
    seconds: float,
    transport: str,
    no_tls_verify: bool,
    as_json: bool,
) -> None:
    """Listen to a camera's stream with the recorder's own client, and say what is unfit about it and how to set it.

    Looks at codec, B-frames, keyframe interval, a picture size that changes, losses, rate, bit rate, and the camera's clock. Exit
    status 1 when something is unfit.

    \b
    Examples:
        nvrctl camera check rtsp://10.0.0.11/main
        nvrctl camera check rtsp://10.0.0.11/main --user viewer --password-file camera-password --seconds 30
    """
    from tools.nvrctl import fitness, measure

    secret.warn_of_address(url, "--user NAME --password-file FILE")
    url, user, password = _split_login(url, user, password_file)
    found = measure.measured(url, user, password, seconds=seconds, transport=transport, tls_verify=not no_tls_verify)
    made = fitness.findings(found)
    unfit = [each for each in made if each.is_unfit]
    if as_json:
        print_json(
            {
                "url": url,
                "is_fit": not unfit,
                **asdict(found),
                "bits_per_s": round(found.bits_per_s),
                "findings": [asdict(each) for each in made],
            }
        )
    else:
        if found.pictures:
            size = "x".join(map(str, found.sizes[-1])) if found.sizes else "?"
            gop = (
                f"keyframe every {sum(found.gops) / len(found.gops):.1f} s"
                if found.gops
                else "keyframes: too few to tell"
            )
            click.echo(
                f"{url}: H.264 {size}, {found.fps:.1f} pictures a second, {found.bits_per_s / 1e6:.2f} Mbit/s, {gop}, by {found.transport}, {found.pictures} pictures in {found.seconds:.1f} s"
            )
        for each in made:
            mark = click.style("unfit", fg="red") if each.is_unfit else "note "
            click.echo(f"{mark}  {printable(each.what)}")
            click.echo(f"       {each.how}")
        click.echo(f"{'unfit: ' + ', '.join(each.kind for each in unfit) if unfit else 'fit to be recorded'}")
    context.exit(1 if unfit else 0)


def _split_login(url: str, user: str, password_file: Path | None) -> tuple[str, str, str]:
    """A user and a password in the address are taken out of it. Raises click.UsageError."""
    from urllib.parse import unquote, urlunsplit

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise click.BadParameter("This address cannot be read.", param_hint="URL") from None
    if parts.scheme.lower() not in ("rtsp", "rtsps") or not parts.hostname or port == 0:
        raise click.BadParameter("An address such as rtsp://10.0.0.11/main is wanted.", param_hint="URL")
    login, _, host = parts.netloc.rpartition("@")
    if login:
        name, _, password = login.partition(":")
        return urlunsplit(parts._replace(netloc=host)), unquote(name), unquote(password)
    return url, user, _password(user, password_file)


# -- setup ---------------------------------------------------------------------------------------------


@camera.command()
@click.argument("host")
@_login_options
@click.option(
    "--ntp", metavar="SERVER", default="", help="Time server the camera should ask: the box's address, or the router's."
)
@click.option(
    "--time-zone",
    default="",
    metavar="POSIX-TZ",
    help="The camera's time zone, as POSIX writes it (WIT-9 in Ambon); only its own picture text shows it.",
)
@click.option(
    "--clock",
    "set_clock",
    is_flag=True,
    help="Set its clock from this laptop's; one that asks a time server keeps that.",
)
@click.option("--profile", metavar="TOKEN", help="Stream to set; else the largest H.264 one.")
@click.option(
    "--gop", type=click.IntRange(1, 1000), help="Pictures from keyframe to keyframe.  [default: two seconds of them]"
)
@click.option("--fps", type=click.IntRange(1, 60), help="Pictures a second.")
@click.option("--kbit", type=click.IntRange(64, 50_000), help="Limit of the bit rate.")
@json_option
@yes_option
def setup(
    host: str,
    user: str,
    password_file: Path | None,
    ntp: str,
    time_zone: str,
    set_clock: bool,
    profile: str | None,
    gop: int | None,
    fps: int | None,
    kbit: int | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Set a camera's clock, time server and stream through ONVIF, after showing what would change and asking.

    HOST is an address, or host:port, or the whole address of its ONVIF service.

    \b
    Examples:
        nvrctl camera setup 10.0.0.11 --user admin --password-file camera-password --clock --ntp 10.0.0.1
        nvrctl camera setup 10.0.0.11:8000 --user admin --password-file camera-password --gop 50 --kbit 3000
    """
    from tools.nvrctl.discovery import PATH
    from tools.nvrctl.onvif_client import OnvifCamera

    service = host if "://" in host else f"http://{host}{PATH}"
    with OnvifCamera(service, user, _password(user, password_file)) as found:
        plan = _Plan(found, ntp=ntp, time_zone=time_zone, clock=set_clock, profile=profile, gop=gop, fps=fps, kbit=kbit)
        if plan.note:
            click.echo(printable(f"note: {plan.note}"), err=True)
        if not plan.changes:
            click.echo("nothing to change" if not as_json else '{"changed": []}')
            return
        for what, before, after in plan.changes:
            click.echo(printable(f"{what}: {before} -> {after}"), err=True)
        confirm(f"Change this on {host}?", yes=yes)
        plan.do()
    if as_json:
        print_json(
            {"changed": [{"what": what, "before": before, "after": after} for what, before, after in plan.changes]}
        )
    else:
        click.echo(f"{host}: set. Next: nvrctl camera check {plan.url or 'rtsp://...'}")


class _Plan:
    """What would change on one camera: (what, before, after)."""

    def __init__(
        self,
        found: OnvifCamera,
        *,
        ntp: str,
        time_zone: str,
        clock: bool,
        profile: str | None,
        gop: int | None,
        fps: int | None,
        kbit: int | None,
    ) -> None:
        from tools.nvrctl.fitness import GOP_WISHED_S, clock_text
        from tools.nvrctl.onvif import Wanted

        self._camera, self._ntp, self._time_zone = found, ntp, time_zone
        self.changes: list[tuple[str, str, str]] = []
        setting, ahead_s = found.clock()
        self._setting, self.note = setting, ""
        asks_server = bool(ntp) or setting.is_ntp
        if ntp or ((clock or time_zone) and not asks_server):
            before = "unknown" if ahead_s is None else "right" if abs(ahead_s) < 1 else clock_text(ahead_s)
            self.changes.append(("clock", before, f"from {ntp}" if ntp else "this laptop's time"))
        if clock and asks_server:
            self.note = (
                f"--clock does nothing: this camera takes its time from {ntp or 'a time server'}, and goes on doing so"
            )
        self._sets_clock = bool(ntp or time_zone or (clock and not asks_server))
        if ntp:
            self.changes.append(("time server", found.ntp_server() or "none", ntp))
        if time_zone:
            self.changes.append(("time zone", setting.time_zone or "none", time_zone))
        self._profile, self.url = None, ""
        if profile or gop or fps or kbit:
            _, profiles = found.profiles()
            usable = [each for each in profiles if (each.token == profile if profile else each.codec == "H264")]
            if not usable:
                names = ", ".join(f"{each.token} ({each.codec})" for each in profiles) or "none"
                raise NvrError(
                    f"the camera has no {'profile ' + profile if profile else 'H.264 stream'}",
                    hint=f"It has: {names}. Change the codec on its own page.",
                )
            best = max(usable, key=lambda each: each.width * each.height)
            wished = gop or round((fps or best.fps or 25) * GOP_WISHED_S)
            self._profile, self._wanted = best, Wanted(gop=wished, fps=fps, kbit=kbit)
            for what, before, after in (
                ("keyframe every", best.gop, wished),
                ("pictures a second", best.fps, fps),
                ("kbit/s at most", best.kbit, kbit),
            ):
                if after is not None and after != before:
                    self.changes.append((f"{best.name or best.token}: {what}", f"{before:g}", str(after)))
            self.url = found.stream_url(best)

    def do(self) -> None:
        if self._sets_clock:
            self._camera.set_clock(self._setting, ntp_server=self._ntp, time_zone=self._time_zone)
        if self._profile is not None:
            self._camera.set_stream(self._profile, self._wanted)
