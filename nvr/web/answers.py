"""What requests may say and how answers look: parameters read with suspicion, errors as {error, hint}.

Times in requests are ISO 8601 with an offset, or whole milliseconds since 1970 UTC; the page uses the latter.
"""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from starlette.requests import Request
from starlette.responses import Response

from nvr.errors import NvrError

BODY_BYTES = 16 << 10  # the largest question is a clip with two times
BODY_S = 30.0
LATEST_MS = 253_402_300_799_000  # the last second of the year 9999
STREAM = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?/(?:main|small)", re.ASCII | re.IGNORECASE)

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


class WrongQuestion(NvrError):
    """The request makes no sense; the answer is 400."""


class NotFound(NvrError):
    """What is asked for is not there (any more); the answer is 404."""


class Unavailable(NvrError):
    """The box cannot answer now; the answer is 503."""


def json_answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON that nobody stores: it tells what cameras see."""
    body = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return Response(
        body, status, {"cache-control": "no-store", **SECURITY_HEADERS, **(headers or {})}, "application/json"
    )


def error_answer(error: str, hint: str, status: int, headers: dict[str, str] | None = None) -> Response:
    return json_answer({"error": error, "hint": hint}, status, headers)


def stream_of(text: str | None, known: frozenset[str]) -> str:
    """The stream a request names. Raises WrongQuestion or NotFound; a path can never get through."""
    if not text or not STREAM.fullmatch(text):
        raise WrongQuestion("no stream named as camera/main or camera/small", hint="GET /api/streams lists them.")
    if text not in known:
        raise NotFound(f"there is no stream {text} on this box", hint="GET /api/streams lists them.")
    return text


def time_ns(text: Any, name: str) -> int:
    """A time in a request, as nanoseconds since 1970. Raises WrongQuestion."""
    if isinstance(text, int) and not isinstance(text, bool):
        text = str(text)
    if not isinstance(text, str) or len(text) > 40:
        raise WrongQuestion(f"{name} is missing", hint="Give ISO 8601 with an offset, or milliseconds since 1970.")
    if re.fullmatch(r"\d{1,15}", text, re.ASCII):
        ms = int(text)
    else:
        try:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError
            ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        except (ValueError, OverflowError):
            raise WrongQuestion(
                f"{name} is not a time: {text[:40]!r}",
                hint="Give ISO 8601 with an offset, such as 2026-07-01T09:30:00+09:00, or milliseconds since 1970.",
            ) from None
    if not 0 <= ms <= LATEST_MS:
        raise WrongQuestion(f"{name} lies outside the years 1970 to 9999", hint="Check the year.")
    return ms * 1_000_000


def span_of(question: Any, longest_s: int) -> tuple[int, int]:
    """`from` and `to` of a request, in nanoseconds. Raises WrongQuestion."""
    from_ns, to_ns = time_ns(question.get("from"), "from"), time_ns(question.get("to"), "to")
    if from_ns >= to_ns:
        raise WrongQuestion("`from` must be earlier than `to`", hint="Swap the two times.")
    if to_ns - from_ns > longest_s * 1_000_000_000:
        raise WrongQuestion(
            f"the span is {(to_ns - from_ns) / 1e9:.0f} s long, at most {longest_s} s are answered at once",
            hint="Ask for several shorter spans.",
        )
    return from_ns, to_ns


def day_of(text: str | None, zone: ZoneInfo) -> tuple[int, int]:
    """The day YYYY-MM-DD at the site, as a span in nanoseconds: 23, 24 or 25 hours. Raises WrongQuestion."""
    try:
        if not text or not re.fullmatch(r"\d{4}-\d\d-\d\d", text, re.ASCII):
            raise ValueError
        day = date.fromisoformat(text)
        if not 1970 <= day.year < 9999:
            raise ValueError
        starts = [datetime(d.year, d.month, d.day, tzinfo=zone) for d in (day, day + timedelta(days=1))]
        from_ns, to_ns = (int(start.timestamp()) * 1_000_000_000 for start in starts)
    except (ValueError, OverflowError):
        raise WrongQuestion(f"not a day: {str(text)[:20]!r}", hint="Write it as 2026-07-01.") from None
    return max(0, from_ns), to_ns


def byte_range(header: str | None, size_bytes: int, longest_bytes: int) -> tuple[int, int]:
    """Offset and size of `Range: bytes=a-b` (RFC 9110, 14.1.2). Raises WrongQuestion: ranges are not optional here."""
    match = re.fullmatch(r"bytes=(\d{1,15})-(\d{1,15})", header or "", re.ASCII)
    if match is None:
        raise WrongQuestion("one range of bytes is needed", hint="Send Range: bytes=first-last.")
    first, last = int(match[1]), int(match[2])
    if first > last or last >= size_bytes or last - first >= longest_bytes:
        raise WrongQuestion(
            f"bytes {first} to {last} cannot be read: the file has {size_bytes}, one answer at most {longest_bytes}",
            hint="Take offsets from /api/fragments.",
        )
    return first, last - first + 1


async def json_body(request: Request, most_bytes: int = BODY_BYTES) -> dict[str, Any]:
    """The object a page posted. Raises WrongQuestion."""
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise WrongQuestion("the body is not JSON", hint="Send content-type: application/json.")
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most_bytes:
                    raise WrongQuestion(f"the body is longer than {most_bytes} bytes", hint="Send less.")
    except TimeoutError:
        raise WrongQuestion(f"the body did not come within {BODY_S:.0f} s", hint="Send it again.") from None
    try:
        content = json.loads(bytes(body))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise WrongQuestion("the body is not a JSON object", hint='Send {"name": value}.')
    return content
