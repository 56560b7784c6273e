"""The score as a page for people, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tools.city.simulator.score import AlarmScore, CameraScore, Score
from tools.city.simulator.script import Script

EXAMPLES = 5  # of what is wrong, for each thing; the JSON has all


def script_lines(script: Script) -> list[str]:
    counts = Counter(f"{fault.kind} {fault.how}" for fault in script.faults)
    lines = [
        f"script {script.digest()}: seed {script.seed}, {script.length_s:g} s, {len(script.faults)} faults, {len(script.asks)} wishes"
    ]
    lines.append("  " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return lines


def timetable(script: Script) -> list[str]:
    return [
        f"{fault.at_s:7.1f} s  {fault.for_s:5.1f} s  {fault.kind:<7} {fault.how:<11} {fault.target}"
        for fault in script.faults
    ] + [
        f"{ask.at_s:7.1f} s           asked for {ask.camera}, {ask.from_s:.0f} to {ask.to_s:.0f} s"
        for ask in script.asks
    ]


def page(script: Script, score: Score, boxes: Mapping[str, str], began_s: float) -> str:
    """`boxes`: real and light ones, and how often each was started."""
    lines = ["", "SCORE", *script_lines(script), ""]
    lines += [f"{name:<18} {what}" for name, what in boxes.items()]
    lines += [
        "",
        f"{'camera':<34}{'seconds':>8}{'recorded':>9}{'right cause':>12}{'wrong':>6}{'quiet':>6}  {'pictures':>15}   missing for",
    ]
    for each in score.cameras:
        quiet = len(each.lost) + len(each.unsaid) + len(each.invented)
        causes = ", ".join(f"{cause} {seconds}" for cause, seconds in each.excused.most_common())
        lines.append(
            f"{each.camera:<34}{each.seconds:>8}{each.recorded:>9}{sum(each.excused.values()):>12}{len(each.wrong):>6}{quiet:>6}"
            f"  {each.pictures_recorded:>7}/{each.pictures_sent:<7}   {causes}"
        )
    lines += [
        "",
        *_alarms("alarms of real boxes", score.real_alarms),
        *_alarms("alarms of light boxes", score.light_alarms),
    ]
    clips, beats = score.clips, score.heartbeats
    lines.append(f"clips at the hub: {clips.clips}; wishes {clips.asked}, answered {clips.answered}")
    lines.append(
        f"looks at the hub: {beats.looks}, of which {beats.silences_due} at a box that had to be shown as silent; cards in trouble that were named: {beats.named}"
    )
    lines.append("")
    lines += [f"{'kept  ' if is_kept else 'BROKEN'}  {promise}" for promise, is_kept in score.verdicts().items()]
    wrong = findings(score, began_s)
    if wrong:
        lines += ["", "what is wrong (seconds since the measured time began):"]
        for what, found in wrong.items():
            lines += [f"  {what}: {each}" for each in found[:EXAMPLES]]
            if len(found) > EXAMPLES:
                lines.append(f"  {what}: and {len(found) - EXAMPLES} more")
    lines += [
        "",
        {
            0: "Everything was kept.",
            1: "FOOTAGE WAS LOST QUIETLY.",
            2: "No footage was lost quietly; something else was not kept.",
        }[score.exit_status()],
    ]
    return "\n".join(lines)


def _alarms(name: str, score: AlarmScore) -> Sequence[str]:
    return [
        f"{name}: due {score.due}, recall {score.recall:.0%}; told {score.told}, precision {score.precision:.0%}; delay {score.delay_text()}"
    ]


def findings(score: Score, began_s: float) -> dict[str, list[str]]:
    """What is wrong, in words, by promise; empty when nothing is."""
    found: dict[str, list[str]] = {}

    def put(what: str, lines: Sequence[str]) -> None:
        if lines:
            found.setdefault(what, []).extend(lines)

    for each in score.cameras:
        for what, seconds in _wrong_seconds(each).items():
            put(what, [f"{each.camera} at {second.second - began_s:.0f}: {second.what}" for second in seconds])
    put("on the disk", score.check_faults)
    for alarms in (score.real_alarms, score.light_alarms):
        put(
            "missed",
            [
                f"{each.camera}: {each.kind} {each.state} from {each.from_s - began_s:.0f} to {each.to_s - began_s:.0f}"
                for each in alarms.missed
            ],
        )
        put(
            "false",
            [
                f"{each.camera}: {each.kind} {each.state} from {each.from_s - began_s:.0f}, came at {each.received_s - began_s:.0f}"
                for each in alarms.false
            ],
        )
        put(
            "twice",
            [f"{each.camera}: {each.kind} {each.state} from {each.from_s - began_s:.0f}" for each in alarms.twice],
        )
    put("clips", score.clips.wrong)
    put("shown", score.heartbeats.lies + score.heartbeats.false_silence)
    put("not named", score.heartbeats.unnamed)
    return found


def _wrong_seconds(camera: CameraScore) -> dict[str, list[Any]]:
    return {
        "wrong cause": camera.wrong, "lost": camera.lost, "no word": camera.unsaid, "invented": camera.invented, "pictures": camera.pictures_wrong,
    }  # fmt: skip


def as_json(script: Script, score: Score, began_s: float) -> dict[str, Any]:
    """`verdicts` and `script` are the same for the same seed; seconds and delays are of this run."""
    return {
        "script": {"digest": script.digest(), **asdict(script)},
        "verdicts": score.verdicts(),
        "exit_status": score.exit_status(),
        "findings": findings(score, began_s),
        "cameras": {
            each.camera: {
                "seconds": each.seconds, "recorded": each.recorded, "missing": dict(each.excused), "pictures_sent": each.pictures_sent,
                "pictures_recorded": each.pictures_recorded,
            }
            for each in score.cameras
        },
        "alarms": {
            name: {"due": alarms.due, "told": alarms.told, "recall": alarms.recall, "precision": alarms.precision, "delays_s": alarms.delays_s}
            for name, alarms in (("real", score.real_alarms), ("light", score.light_alarms))
        },
        "clips": {"clips": score.clips.clips, "asked": score.clips.asked, "answered": score.clips.answered},
        "heartbeats": {"looks": score.heartbeats.looks, "silences_due": score.heartbeats.silences_due, "named": score.heartbeats.named},
    }  # fmt: skip
