"""The answer to a request that is refused."""

from pydantic import BaseModel


class Refusal(BaseModel):
    """What FastAPI makes of an ``HTTPException``."""

    detail: str
