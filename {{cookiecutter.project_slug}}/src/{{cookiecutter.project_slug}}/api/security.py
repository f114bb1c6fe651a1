"""The API key: who has none can neither start tasks nor read of them."""

import secrets
from typing import Annotated

from fastapi import HTTPException, Security
from fastapi.security import APIKeyHeader

from ..settings import get_settings

api_key_header = APIKeyHeader(name="X-API-Key", auto_error=False)


async def require_api_key(given: Annotated[str | None, Security(api_key_header)]) -> None:
    """Raise a 401 unless the request carries ``API_KEY``; compared in constant time."""
    api_key = get_settings().api_key
    expected = api_key.get_secret_value() if api_key else ""
    if not given or not secrets.compare_digest(given.encode(), expected.encode()):
        raise HTTPException(401, "The X-API-Key header is missing or wrong.")
