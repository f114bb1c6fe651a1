"""The API key, without which nobody starts a task or reads its status; and security headers."""

import secrets
from typing import Annotated

from fastapi import HTTPException, Security
from fastapi.security import APIKeyHeader
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..settings import get_settings

api_key_header = APIKeyHeader(name="X-API-Key", auto_error=False)

UNFRAMED = b"frame-ancestors 'none'"
# For answers that are no web pages; a page brings its own. See
# https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#security-headers
HEADERS = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; " + UNFRAMED),
    (b"referrer-policy", b"same-origin"),  # a form of no-referrer comes from "null"
    (b"x-content-type-options", b"nosniff"),
]


async def require_api_key(given: Annotated[str | None, Security(api_key_header)]) -> None:
    """Raise a 401 unless the request carries ``API_KEY``; compared in constant time."""
    expected = get_settings().api_key.get_secret_value()
    # latin-1 gives the bytes of the header back as they came.
    if not given or not secrets.compare_digest(given.encode("latin-1"), expected.encode()):
        headers = {"WWW-Authenticate": "APIKey"}  # RFC 9110 wants one with each 401
        raise HTTPException(401, "The X-API-Key header is missing or wrong.", headers)


def security_headers(app: ASGIApp) -> ASGIApp:
    """Wrap an application: every response gets the ``HEADERS`` that it does not set itself."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                docs = getattr(scope["app"], "openapi_url", None)  # a mounted one may have none
                if docs and scope["path"].endswith(("/docs", "/redoc")):
                    # They run what they load from a CDN.
                    message["headers"].append((b"content-security-policy", UNFRAMED))
                given = {name for name, _ in message["headers"]}
                message["headers"] += [header for header in HEADERS if header[0] not in given]
            await send(message)

        await app(scope, receive, send_with_headers)

    return wrapped
