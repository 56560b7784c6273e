"""Every door of the page: session, origin and CSRF token are checked here, and errors become answers."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from nvr.clips import ClipFailed, NothingRecorded, PicturesChange
from nvr.errors import NvrError
from nvr.web.access import Access, NotAllowed, PasswordTooWeak, Session, TooManyTries
from nvr.web.answers import NotFound, Unavailable, WrongQuestion, error_answer

log = logging.getLogger(__name__)

COOKIE = "nvr_session"
SAFE_COOKIE = "__Host-nvr_session"  # over TLS the browser itself refuses one set by another host or without Secure

Handler = Callable[[Request], Awaitable[Response]]
STATUS_OF: tuple[tuple[type[NvrError], int], ...] = (
    (WrongQuestion, 400),
    (PasswordTooWeak, 400),
    (NotAllowed, 403),
    (NotFound, 404),
    (TooManyTries, 429),
    (Unavailable, 503),
    (NothingRecorded, 404),
    (PicturesChange, 409),
    (ClipFailed, 503),
)


def is_tls(connection: HTTPConnection) -> bool:
    return connection.url.scheme in ("https", "wss")


def address_of(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


def is_same_origin(connection: HTTPConnection) -> bool:
    """Whether the browser says that the request comes from a page of this box; browsers cannot be made to lie.

    Requests without an Origin come from programs, which must bring a cookie or a password anyway.
    """
    origin = connection.headers.get("origin")
    if origin is None:
        return connection.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    try:
        return urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower() != ""
    except ValueError:
        return False


class Guard:
    def __init__(self, access: Access) -> None:
        self.access = access

    def session(self, connection: HTTPConnection) -> Session | None:
        return self.access.session(connection.cookies.get(SAFE_COOKIE if is_tls(connection) else COOKIE))

    def set_cookie(self, request: Request, response: Response, name: str, max_age_s: int) -> None:
        secure = is_tls(request)
        response.set_cookie(
            SAFE_COOKIE if secure else COOKIE,
            name,
            max_age=max_age_s,
            path="/",
            secure=secure,
            httponly=True,
            samesite="strict",
        )

    def open(self, handler: Handler) -> Handler:
        """For log-in: no session needed, but the page must be ours."""

        async def answer(request: Request) -> Response:
            if request.method not in ("GET", "HEAD") and not is_same_origin(request):
                return error_answer("this request came from another site", "Open the page of the box itself.", 403)
            return await _answered(handler, request)

        return answer

    def closed(self, handler: Handler) -> Handler:
        """For everything else: a session, and for changes the token that only our page knows."""

        async def answer(request: Request) -> Response:
            session = self.session(request)
            if session is None:
                return error_answer("not logged in", "Open /login.", 401)
            if request.method not in ("GET", "HEAD"):
                token = request.headers.get("x-csrf-token", "")
                if not is_same_origin(request) or not hmac.compare_digest(token.encode(), session.csrf.encode()):
                    return error_answer("this request did not come from our page", "Reload the page.", 403)
            request.state.session = session
            return await _answered(handler, request)

        return answer


async def _answered(handler: Handler, request: Request) -> Response:
    try:
        return await handler(request)
    except NvrError as error:
        status = next((status for kind, status in STATUS_OF if isinstance(error, kind)), 500)
        headers = {"retry-after": str(int(error.wait_s) + 1)} if isinstance(error, TooManyTries) else None
        if status == 500:
            log.warning("%s %s: %s", request.method, request.url.path, error)
        return error_answer(str(error), error.hint, status, headers)
    except OSError as error:  # the disk of the footage: gone, failing, or recycled under our hands
        log.warning("%s %s: %s", request.method, request.url.path, error)
        return error_answer(
            f"the disk did not answer: {error.strerror}", "Look at the disk on the health page, then try again.", 503
        )
