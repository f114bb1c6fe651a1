"""The HTTP service: ``uvicorn {{ cookiecutter.project_slug }}.main:app``."""

import contextlib
import gc
import re
from functools import cached_property
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any
from uuid import uuid4

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import APIRouter, FastAPI, Security
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

{% if cookiecutter.include_email_task %}
from .api.emails import router as emails
{% endif %}
from .api.health import router as health
{% if cookiecutter.include_log_task %}
from .api.items import router as items
{% endif %}
from .api.page import router as page
from .api.refusal import Refusal
from .api.security import require_api_key, security_headers
from .api.tasks import router as tasks
from .logs import configure_logging
from .metrics import request_metrics
from .settings import get_settings
from .taskqueue import Backend


def request_id(given: str) -> str:
    """Return the id that a client gave its request; a new one where it is long or odd."""
    return given if re.fullmatch(r"[A-Za-z0-9_.:@#+/=-]{1,128}", given) else uuid4().hex


class Service(FastAPI):
    """FastAPI's, with ``X-Request-ID`` and security headers on every answer, even a 413 or 500."""

    @cached_property
    def _outermost(self) -> ASGIApp:
        configure_logging(get_settings())  # anew: uvicorn.run(app) has set up its own by now
        app = security_headers(super().__call__)
        return CorrelationIdMiddleware(app, validator=None, transformer=request_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        FastAPI sends a 413, and the 500 for an error that nobody caught, from outside of what
        ``add_middleware`` adds; what ``@app.middleware("http")`` adds would hide the id from them.
        """
        await self._outermost(scope, receive, send)


def create_app() -> FastAPI:
    """Build the service; exits with a line for what keeps it from working."""
    settings = get_settings()
    configure_logging(settings)
    backend = Backend(settings)
    app = Service(
        title={{ cookiecutter.__project_name_python }},
        openapi_url="/openapi.json" if settings.pages else None,  # None: no /docs, no /redoc
        max_body_size=65_536,  # bytes; an endpoint that takes more has its own
        redirect_slashes=False,  # behind TLS it may be to http://, with the client's key
        # Where OTEL_EXPORTER_OTLP_ENDPOINT is set. Traces only: logs have the texts of errors.
        telemetry={"auto_configure": True, "metrics": False, "logs": False},
    )
    with contextlib.suppress(PackageNotFoundError):  # run from its sources, not installed
        package = metadata("{{ cookiecutter.project_slug }}")
        app.summary, app.version = package["Summary"], package["Version"]
    hosts = [*settings.allowed_hosts.split(","), "127.0.0.1"]  # by which health checks call it
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)  # see above
    app.add_middleware(request_metrics)
    app.state.backend = backend
    protected: dict[str, Any] = {}
    if settings.api_key:
        protected["dependencies"] = [Security(require_api_key)]
        protected["responses"] = {
            401: {"description": "X-API-Key is missing or wrong", "model": Refusal}
        }
{% if cookiecutter.include_log_task %}
    app.include_router(items, **protected)
{% endif %}
{% if cookiecutter.include_email_task %}
    app.include_router(emails, **protected)
{% endif %}
    app.include_router(tasks, **protected)
    app.include_router(health)
    if settings.pages:
        app.include_router(page)
    # Last: what the other routers open is open while tasks run, from the first to the last.
    app.include_router(APIRouter(lifespan=lambda _: backend))
    return app


app = create_app()
# What is loaded by now stays: a full garbage collection (80 ms) need not look at it again.
gc.freeze()
