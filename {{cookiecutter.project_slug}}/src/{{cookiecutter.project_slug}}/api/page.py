"""Development's front door: a page that starts tasks and shows what becomes of them."""

from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse

router = APIRouter(include_in_schema=False)

FOLDER = Path(__file__).parent.parent / "page"
# It loads its own files and asks this service: nothing inline, nobody else (CSP Level 3).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


# No API key: nothing is told here, and what the page asks for needs the key all the same.
@router.get("/")
@router.get("/page.{kind}")
async def page(kind: Literal["html", "css", "js"] = "html") -> FileResponse:
    """Return the page, its style or its script."""
    headers = {"Content-Security-Policy": POLICY}
    # Not guessed: what Windows' registry may call a script's type, a browser does not run.
    media_type = f"text/{'javascript' if kind == 'js' else kind}"
    return FileResponse(FOLDER / f"page.{kind}", headers=headers, media_type=media_type)
