"""Development's front door: a page that starts tasks and shows what becomes of them."""

from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent.parent / "page"
# It loads its own files and asks this service: nothing inline, nobody else (CSP Level 3).
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


@router.get("/")
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(FOLDER / "page.html", headers=HEADERS)


@router.get("/page.{kind}")
async def page_file(kind: Literal["css", "js"]) -> FileResponse:
    """Return the page's style or script."""
    return FileResponse(FOLDER / f"page.{kind}", headers=HEADERS)
