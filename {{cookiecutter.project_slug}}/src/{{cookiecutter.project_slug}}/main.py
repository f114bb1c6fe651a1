"""The HTTP service: ``uvicorn {{ cookiecutter.project_slug }}.main:app``."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import metadata

from asgi_correlation_id import CorrelationIdMiddleware
from fastapi import FastAPI, Security

from .api import {{ "emails, " if cookiecutter.include_email_task }}health, {{ "items, " if cookiecutter.include_log_task }}tasks
from .api.security import require_api_key
from .settings import get_settings
from .taskqueue import open_backend


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold the task backend open while the service runs."""
    async with app.state.backend:
        yield


def create_app() -> FastAPI:
    """Build the service; exits with a line for what keeps it from its work."""
    settings = get_settings()
    logging.basicConfig(level=settings.log_level, format="%(levelname)s %(name)s: %(message)s")
    package = metadata("{{ cookiecutter.project_slug }}")
    app = FastAPI(
        title={{ cookiecutter.__project_name_python }},
        summary=package["Summary"],
        version=package["Version"],
        lifespan=lifespan,
    )
    app.add_middleware(CorrelationIdMiddleware)  # X-Request-ID, which a request's tasks carry on
    app.state.backend = open_backend(settings)
    protected = [Security(require_api_key)] if settings.api_key else []
{% if cookiecutter.include_log_task %}
    app.include_router(items.router, dependencies=protected)
{% endif %}
{% if cookiecutter.include_email_task %}
    app.include_router(emails.router, dependencies=protected)
{% endif %}
    app.include_router(tasks.router, dependencies=protected)
    app.include_router(health.router)
    return app


app = create_app()
