"""`nvr ledger`: every second recorded, or missing with its cause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nvr.cli.options import (
    Place,
    camera_option,
    json_option,
    place_options,
    print_json,
    span_options,
    stream_name,
)

if TYPE_CHECKING:
    from nvr.errors import NvrError
    from nvr.ledger import StreamLedger

_NS_PER_S = 1_000_000_000
_GAPS_SHOWN = 20  # of each stream; the newest, because those are asked about


@click.command()
@span_options
@camera_option(required=False)
@click.option(
    "--gaps", "with_gaps", is_flag=True, help="List every gap, and with --json from when to when each account goes."
)
@place_options
@json_option
def ledger(
    place: Place, from_text: str | None, to_text: str | None, camera: str | None, with_gaps: bool, as_json: bool
) -> None:
    """Account for every second of every stream: recorded, or missing with its cause. The sum is 100 %.

    Without --from it begins when a stream was first recorded, without --to it ends now, or when the recorder was stopped.
    What is just being written is not accounted for yet.

    \b
    Examples:
        nvr ledger --site site.yaml --from "yesterday 00:00" --to "today 00:00"
        nvr ledger --site site.yaml --from -24h --camera street --gaps
    """
    from nvr import ledger as ledger_room
    from nvr.clock import SystemClock, boot_id

    only = [stream_name(camera)] if camera else None
    from_ns, to_ns = place.span_ns(from_text, to_text)
    try:
        accounts = ledger_room.ledger(
            place.data_dir, only, from_ns, to_ns, now=SystemClock().read(), boot_id=boot_id(), on_unreadable=_warn
        )
    except KeyError as error:
        raise click.UsageError(f"There is no ring of {error.args[0]} in {place.data_dir}.") from None
    if as_json:
        print_json({"streams": [_fields(place, each, with_gaps) for each in accounts]})
        return
    if not accounts:
        click.echo(
            f"Nothing was recorded in {place.data_dir} yet. If it should have been: is the recording disk mounted?"
        )
    for each in accounts:
        _print(place, each, None if with_gaps else _GAPS_SHOWN)


def _warn(stream: str, error: NvrError) -> None:
    click.echo(f"nvr: {stream}: {error}", err=True)
    click.echo(f"     {error.hint}", err=True)


def _fields(place: Place, account: StreamLedger, with_gaps: bool) -> dict[str, Any]:
    if not with_gaps:
        return account.to_json()
    gaps = [
        {
            "from": place.iso(gap.from_ns),
            "to": place.iso(gap.to_ns),
            "seconds": round(gap.length_ns / _NS_PER_S, 3),
            "cause": gap.cause.value if gap.cause else None,
            "detail": gap.detail,
        }
        for gap in account.gaps()
    ]
    return {**account.to_json(), "from": place.iso(account.from_ns), "to": place.iso(account.to_ns), "gaps": gaps}


def _print(place: Place, account: StreamLedger, gaps_shown: int | None) -> None:
    """One stream: a line for each fate with its part of 100 %, then the gaps."""
    begin, end = place.iso(account.from_ns), place.iso(account.to_ns)
    if not account.total_ns and not account.unplaced_ns:
        click.echo(f"{account.stream}  nothing was recorded in this span yet")
        return
    click.echo(f"{account.stream}  {begin} to {end}  {_duration(account.total_ns)}")
    fates = [("recorded", account.recorded_ns), *((cause.value, ns) for cause, ns in account.by_cause_ns().items())]
    for (name, length_ns), percent in zip(fates, percents([ns for _, ns in fates]), strict=True):
        click.echo(f"  {name:<14}{percent:>9} %  {_duration(length_ns):>10}")
    if account.unplaced_ns:
        click.echo(
            f"  and {_duration(account.unplaced_ns)} recorded by a box that did not know the time, not counted here"
        )
    gaps = account.gaps()
    hidden = 0 if gaps_shown is None else max(len(gaps) - gaps_shown, 0)
    if hidden:
        click.echo(f"    {hidden} earlier gaps: --gaps lists them")
    for gap in gaps[hidden:]:
        cause = f"{gap.cause.value if gap.cause else ''}{': ' if gap.detail else ''}{gap.detail}"
        click.echo(f"    {place.iso(gap.from_ns)} to {place.iso(gap.to_ns)}  {_duration(gap.length_ns):>10}  {cause}")


def percents(parts: list[int]) -> list[str]:
    """Each part of the sum with two decimals, so that they add up to 100.00; rounding goes where it shows least."""
    total = sum(parts)
    if not total:
        return ["100.00", *("0.00" for _ in parts[1:])]
    hundredths = [10_000 * part // total for part in parts]
    by_rest = sorted(range(len(parts)), key=lambda number: -(10_000 * parts[number] % total))
    for number in by_rest[: 10_000 - sum(hundredths)]:
        hundredths[number] += 1
    return [f"{value / 100:.2f}" for value in hundredths]


def _duration(ns: int) -> str:
    seconds = ns / _NS_PER_S
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
