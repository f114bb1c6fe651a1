"""Health: is the process alive, can it take work, and what does it do?"""

import asyncio

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from ..metrics import exposition
from ..taskqueue import TaskBackend, Unavailable
from .refusal import Refusal

router = APIRouter(tags=["health"])
scraping = asyncio.Lock()  # one at a time: a scrape takes processor time, and anyone may ask


@router.get("/health/live")
async def live() -> dict[str, str]:
    """Answer while the process serves requests."""
    return {"status": "ok"}


@router.get(
    "/health/ready",
    responses={503: {"description": "Tasks can't be stored; says why", "model": Refusal}},
)
async def ready(backend: TaskBackend) -> dict[str, str]:
    """Answer 503 while a task could not be stored."""
    await backend.check()
    return {"status": "ok"}


@router.get("/metrics", response_class=Response)
async def read_metrics(backend: TaskBackend) -> Response:
    """Answer Prometheus; open like health, as it tells of numbers only."""
    async with scraping:
        try:
            gauges = await backend.waiting()
        except Unavailable:
            gauges = {}  # better none than old ones
        text = await asyncio.to_thread(exposition, gauges)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
