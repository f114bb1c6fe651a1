"""Health: is the process alive, and can it take work?"""

from fastapi import APIRouter

from ..taskqueue import TaskBackend, Unavailable, unavailable

router = APIRouter(prefix="/health", tags=["health"])


@router.get("/live")
async def live() -> dict[str, str]:
    """Answer while the process serves requests."""
    return {"status": "ok"}


@router.get("/ready", responses={503: {"description": "Tasks can't be stored; says why"}})
async def ready(backend: TaskBackend) -> dict[str, str]:
    """Answer 503 while a task could not be stored."""
    try:
        await backend.check()
    except Unavailable as error:
        raise unavailable(error) from error
    return {"status": "ok"}
