"""Every setting, from the environment or ``.env``; ``.env.example`` explains them to operators."""

import os
import sys
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic.functional_validators import AfterValidator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

HOSTS = r"^((^|,)(\*|(\*\.)?[^*, ]+))+$"  # api.example.com,*.example.org
{% if cookiecutter.include_email_task %}
SENDER = r"^([^@<>\r\n]*<[^@<>\s,]+@[^@<>\s,]+>|[^@<>\s,]+@[^@<>\s,]+)?$"
{% endif %}
{% if cookiecutter.__celery %}


def verifying(url: str) -> str:
    """Return a rediss:// URL with what Celery insists on: that certificates must be valid."""
    if not url.startswith("rediss") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


# Its password must not get into a log.
Url = Annotated[str, AfterValidator(verifying), Field(repr=False)]
BrokerUrl = Annotated[Url, Field(pattern=r"^((redis|amqp)s?://.+)?$")]
{% endif %}


def writable(folder: Path) -> Path:
    """Return the absolute path of the folder, made where it was missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return folder.absolute()
    except OSError as error:
        raise ValueError(f"cannot be written to: {error}") from error


class Settings(BaseSettings):
    """The settings, with their units and defaults; raises ValidationError for a bad one."""

    # extra="forbid": a misspelt name in .env is an error, not a setting that silently does nothing.
    model_config = SettingsConfigDict(env_file=".env", extra="forbid", env_ignore_empty=True)

    environment: Literal["development", "production"] = "development"
    data_dir: Annotated[Path, AfterValidator(writable)] = Path("data")
    api_key: SecretStr | None = None
    allowed_hosts: Annotated[str, Field(pattern=HOSTS)] = "*"  # names by which it may be called
    pages: bool | None = None  # /, /docs, /redoc, /openapi.json; None: in development only
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    task_concurrency: PositiveInt = 4  # tasks that run at the same time
    task_history: PositiveInt = 86_400  # seconds that a finished task's status is kept
    shutdown_grace: PositiveFloat = 10.0  # seconds that running tasks get after SIGTERM
{% if cookiecutter.__celery %}
    task_time_limit: PositiveFloat = 300.0  # seconds that a task may run, before it is ended
    celery_broker_url: BrokerUrl = ""  # empty: folders in DATA_DIR, in development only
    celery_result_backend: Url = ""  # empty: the broker if Redis, else a folder in DATA_DIR
    metrics_host: str = "127.0.0.1"  # where workers serve their metrics; port 0: they do not
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
{% else %}
    task_backlog: PositiveInt = 10_000  # unfinished tasks that are accepted before a 503
    # FULL: not even a power cut loses an accepted task, at the price of an fsync for each batch.
    journal_synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
{% endif %}
{% if cookiecutter.include_email_task %}
    smtp_host: str = ""  # empty: mails go to emails.log
    smtp_port: Annotated[int, Field(ge=1, le=65_535)] = 587
    smtp_username: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_starttls: bool = True
    smtp_timeout: PositiveFloat = 10.0  # seconds
    email_from: Annotated[str, Field(pattern=SENDER)] = ""  # address, or: name <address>
    mails_per_minute: PositiveInt = 60  # mails that a process accepts before a 429
{% endif %}

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        production = self.environment == "production"
        if self.pages is None:
            self.pages = not production
        if production and not self.api_key:
            raise ValueError("API_KEY must be set when ENVIRONMENT=production")
{% if cookiecutter.__celery %}
        if production and not self.celery_broker_url:
            raise ValueError("CELERY_BROKER_URL must be set when ENVIRONMENT=production")
        if self.celery_broker_url.startswith("redis"):
            self.celery_result_backend = self.celery_result_backend or self.celery_broker_url
        if production and not self.celery_result_backend:
            raise ValueError("CELERY_RESULT_BACKEND must be set: CELERY_BROKER_URL is not Redis")
        if self.celery_result_backend.startswith("rpc"):
            raise ValueError("CELERY_RESULT_BACKEND must keep records, as Redis does: rpc does not")
        if self.celery_broker_url.startswith("amqp") and self.task_time_limit > 1_700:
            # https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
            raise ValueError("TASK_TIME_LIMIT must be at most 1700: RabbitMQ takes tasks back then")
{% endif %}
{% if cookiecutter.include_email_task %}
        if self.smtp_host and not self.email_from:
            raise ValueError("EMAIL_FROM must be set when SMTP_HOST is set")
{% endif %}
        return self


@lru_cache
def get_settings() -> Settings:
    """Return the settings; where one is bad, exit with a line for each."""
    os.umask(0o077)  # nobody else can read what is written to DATA_DIR
    folder = os.environ.get("SECRETS_DIR", "/run/secrets")  # Docker's: a file for each secret
    secrets = folder if os.path.isdir(folder) else None  # a missing folder gives a warning
    try:
        return Settings(_secrets_dir=secrets)  # type: ignore[call-arg]  # mypy knows the fields only
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in problem["loc"]).upper()
            text = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                text = "there is no such setting (see .env.example)"
            print(f"error: {name}: {text}" if name else f"error: {text}", file=sys.stderr)
        raise SystemExit(1) from None
