"""`nvr ledger`: every second recorded, or missing with its cause."""

from __future__ import annotations

import time
from typing import Any

import click

from nvr.cli.options import (
    Place,
    camera_option,
    json_option,
    place_options,
    print_json,
    print_table,
    span_options,
    stream_name,
)

_NS_PER_S = 1_000_000_000


@click.command()
@span_options
@camera_option(required=False)
@click.option("--gaps", "with_gaps", is_flag=True, help="Also list each gap.")
@place_options
@json_option
def ledger(
    place: Place, from_text: str | None, to_text: str | None, camera: str | None, with_gaps: bool, as_json: bool
) -> None:
    """Account for every second of every stream: recorded, or missing with its cause. The sum is 100 %.

    Without --from it begins with the oldest footage, without --to it ends now.

    \b
    Examples:
        nvr ledger --site site.yaml --from "yesterday 00:00" --to "today 00:00"
        nvr ledger --site site.yaml --from -24h --camera street --gaps
    """
    from nvr import journal
    from nvr.cli.rings import opened, timeline_of
    from nvr.ledger import account, unbroken

    only = stream_name(camera) if camera else None
    from_ns, to_ns = place.span_ns(from_text, to_text)
    now_ns = time.time_ns()
    accounts = []
    with opened(place) as found:
        found.warn()
        timeline = timeline_of(place, found.rings)
        story = journal.read(place.data_dir / "journal")
        for stream, ring in found.rings.items():
            if only is not None and stream != only:
                continue
            recorded = unbroken(row.record for row in ring.rows())
            placed = timeline.place(recorded)
            # A film that was played faster than real time reaches beyond the present.
            end_ns = max(now_ns, placed[-1].to_ns) if placed else now_ns
            begin_ns = from_ns if from_ns is not None else (placed[0].from_ns if placed else now_ns)
            accounts.append(account(stream, recorded, story, timeline, begin_ns, to_ns or end_ns, now_ns=end_ns))
        if only is not None and not accounts:
            raise click.UsageError(f"There is no ring of {only} in {place.data_dir}.")
    streams = []
    for each in accounts:
        fields = {**each.to_json(), "from": place.iso(each.from_ns), "to": place.iso(each.to_ns)}
        if with_gaps:
            fields["gaps"] = [_gap(place, gap) for gap in each.gaps()]
        streams.append(fields)
    if as_json:
        print_json({"streams": streams})
    else:
        _print(streams)


def _gap(place: Place, gap: Any) -> dict[str, Any]:
    return {
        "from": place.iso(gap.from_ns),
        "to": place.iso(gap.to_ns),
        "seconds": round(gap.length_ns / _NS_PER_S, 3),
        "cause": gap.cause.value,
        "detail": gap.detail,
    }


def _print(streams: list[dict[str, Any]]) -> None:
    rows = []
    for stream in streams:
        total_s = stream["total_s"]
        part = 100 * stream["recorded_s"] / total_s if total_s else 100.0
        causes = ", ".join(f"{cause} {_duration(seconds)}" for cause, seconds in stream["by_cause"].items())
        rows.append((stream["stream"], _duration(total_s), _duration(stream["recorded_s"]), f"{part:.2f} %", _duration(stream["missing_s"]), causes))  # fmt: skip
    if not rows:
        click.echo("nothing is recorded yet")
        return
    print_table(("stream", "total", "recorded", "", "missing", "cause"), rows, right=(1, 2, 3, 4))
    for stream in streams:
        for gap in stream.get("gaps", ()):
            detail = f" ({gap['detail']})" if gap["detail"] else ""
            click.echo(
                f"{stream['stream']}  {gap['from']}  {gap['to']}  {_duration(gap['seconds'])}  {gap['cause']}{detail}"
            )


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
