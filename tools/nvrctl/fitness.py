"""Is what a camera sends fit to be recorded, looked at and proved? Pure: measured facts in, findings with advice out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GOP_LONG_S = 4.0  # a clip can begin at keyframes only, and a power cut loses what follows the last one
GOP_WISHED_S = 2.0
CLOCK_WRONG_S = 2.0
CLOCK_ZONE_S = 900.0  # off by whole quarters of an hour: a time zone, not a bad clock
FPS_LOW, FPS_HIGH = 5.0, 30.5
GOP_VARIES = 1.5  # longest against usual


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen of a stream in some seconds."""

    seconds: float
    pictures: int = 0
    keyframes: int = 0
    payload_bytes: int = 0
    sizes: tuple[tuple[int, int], ...] = ()  # each that came, in order
    fps: float = 0.0  # by the camera's time stamps
    gops: tuple[float, ...] = ()  # seconds between keyframes
    b_pictures: int = 0
    lost_packets: int = 0
    interruptions: tuple[str, ...] = ()  # why the stream stopped in between
    trouble: str = ""  # why nothing came
    codecs_refused: str = ""  # "H265", when that is all the camera offers
    clock_ahead_s: float | None = None  # of the camera against this laptop; None: it does not say
    transport: str = ""

    @property
    def bits_per_s(self) -> float:
        return self.payload_bytes * 8 / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    kind: str  # codec, b-frames, gop, clock, size, rate, losses, bitrate, no stream
    is_unfit: bool  # False: worth knowing
    what: str
    how: str  # to set it


def findings(found: Measured, *, rate_limit_mbit: float = 8.0) -> list[Finding]:
    """What is wrong with a stream, worst first."""
    if found.codecs_refused:
        return [
            Finding(
                "codec",
                True,
                f"the camera sends {found.codecs_refused}; recorded is H.264, which every browser and player shows",
                "Video settings: encoding H.264 instead of H.265, and no `+` or `Smart Codec`.",
            )
        ]
    if found.trouble or not found.pictures:
        return [
            Finding(
                "no stream",
                True,
                found.trouble or "no picture came",
                "Check the address, user and password; `nvrctl camera find` shows the camera's own addresses.",
            )
        ]
    made = [
        *_b_frames(found), *_gops(found), *_sizes(found), *_clock(found), *_losses(found), *_rate(found, rate_limit_mbit),
    ]  # fmt: skip
    return sorted(made, key=lambda each: not each.is_unfit)


def _b_frames(found: Measured) -> list[Finding]:
    if not found.b_pictures:
        return []
    return [
        Finding(
            "b-frames",
            True,
            f"{found.b_pictures} of {found.pictures} pictures are B-frames: live pictures come late, and cheap players stumble",
            "Profile `Main` or `Baseline` without B-frames (on some cameras: B-frames 0, or `Low latency`).",
        )
    ]


def _gops(found: Measured) -> list[Finding]:
    wished = round(found.fps * GOP_WISHED_S) if found.fps else 50
    how = f"I-frame interval (GOP, Gov length): {wished} pictures, that is {GOP_WISHED_S:g} s."
    if found.keyframes < 2:
        return [
            Finding(
                "gop",
                True,
                f"only {found.keyframes} keyframe{'s' if found.keyframes != 1 else ''} in {found.seconds:.0f} s",
                how,
            )
        ]
    longest, usual = max(found.gops), sorted(found.gops)[len(found.gops) // 2]
    if longest > GOP_LONG_S:
        return [
            Finding(
                "gop",
                True,
                f"{longest:.1f} s from keyframe to keyframe: so long a clip begins early, and so much a power cut may cost",
                how,
            )
        ]
    if longest > usual * GOP_VARIES:
        return [
            Finding(
                "gop",
                False,
                f"keyframes come irregularly, every {min(found.gops):.1f} to {longest:.1f} s",
                "Switch off `Smart Codec`, `H.264+` or `Zipstream dynamic GOP`.",
            )
        ]
    return []


def _sizes(found: Measured) -> list[Finding]:
    if len(set(found.sizes)) > 1:
        return [
            Finding(
                "size",
                True,
                f"the picture's size changed: {', '.join(f'{width}x{height}' for width, height in found.sizes)}",
                "Switch off what changes it: adaptive streams, corridor format by schedule, a second viewer's profile.",
            )
        ]
    if found.interruptions:
        return [
            Finding(
                "interrupted",
                True,
                f"interrupted {len(found.interruptions)} times in {found.seconds:.0f} s: {found.interruptions[0]}",
                "Look at the cable and the switch first, then at the camera's log.",
            )
        ]
    return []


def _clock(found: Measured) -> list[Finding]:
    ahead_s = found.clock_ahead_s
    if ahead_s is None:
        return [
            Finding(
                "clock",
                False,
                "the camera does not tell its time in the stream",
                "Nothing needs it: the box's own clock counts. `nvrctl camera find` shows the camera's.",
            )
        ]
    if abs(ahead_s) <= CLOCK_WRONG_S:
        return []
    return [
        Finding(
            "clock",
            True,
            f"its clock is {clock_text(ahead_s)}",
            "`nvrctl camera setup` sets it and names a time server.",
        )
    ]


def clock_text(ahead_s: float) -> str:
    """`3 min 20 s behind`, with a hint where it is a time zone."""
    side, size_s = ("ahead", ahead_s) if ahead_s > 0 else ("behind", -ahead_s)
    if size_s < 120:
        text = f"{size_s:.1f} s"
    elif size_s < 7200:
        text = f"{size_s / 60:.0f} min"
    elif size_s < 172_800:
        text = f"{size_s / 3600:.1f} h"
    else:
        text = f"{size_s / 86_400:.0f} days"
    quarters = size_s / CLOCK_ZONE_S
    is_zone = 1800 <= size_s <= 14 * 3600 + 60 and abs(quarters - round(quarters)) * CLOCK_ZONE_S < 90
    return f"{text} {side}{' (a time zone taken for UTC?)' if is_zone else ''}"


def _losses(found: Measured) -> list[Finding]:
    if not found.lost_packets:
        return []
    return [
        Finding(
            "losses",
            found.lost_packets > found.pictures / 100,
            f"{found.lost_packets} packets were lost on the way, by {found.transport or 'the network'}",
            "Transport TCP; then the cable, the switch port, and the camera's bit rate.",
        )
    ]


def _rate(found: Measured, rate_limit_mbit: float) -> list[Finding]:
    made = []
    if found.fps and not FPS_LOW <= found.fps <= FPS_HIGH:
        made.append(
            Finding(
                "rate",
                False,
                f"{found.fps:.0f} pictures a second",
                "10 to 25 are good for traffic and places; more costs disk, fewer loses what moves fast.",
            )
        )
    if found.bits_per_s > rate_limit_mbit * 1e6:
        made.append(
            Finding(
                "bitrate",
                False,
                f"{found.bits_per_s / 1e6:.1f} Mbit/s, {found.bits_per_s * 86_400 / 8e9:.0f} GB a day",
                "Bit rate control VBR with 2 to 4 Mbit/s at 1080p is what most places need.",
            )
        )
    return made


def is_b_slice(nal: Sequence[int]) -> bool:
    """Whether a NAL unit is a slice of a B picture (H.264, 7.3.3: first_mb_in_slice, slice_type)."""
    if len(nal) < 2 or nal[0] & 31 != 1:
        return False
    bits = "".join(f"{byte:08b}" for byte in bytes(nal[1:9]))
    at = 0
    value = 0
    for _ in range(2):  # two Exp-Golomb codes (9.1)
        zeros = len(bits[at:]) - len(bits[at:].lstrip("0"))
        end = at + 2 * zeros + 1
        if end > len(bits):
            return False
        value = int(bits[at + zeros : end], 2) - 1
        at = end
    return value % 5 == 1
