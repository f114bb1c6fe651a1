"""Every setting, from the environment or ``.env``; ``.env.example`` explains them to operators."""

import logging
import os
import re
import sys
import warnings
{% if cookiecutter.include_email_task %}
from email.errors import InvalidHeaderDefect
from email.headerregistry import Address
from email.message import EmailMessage
{% endif %}
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Literal, NoReturn, Self

{% if cookiecutter.include_email_task %}
from email_validator import validate_email
{% endif %}
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

# api.example.com,*.example.org,[::1]: without a scheme and a port, which no host would match.
HOSTS = r"^((^|,)(\*|(\*\.)?[\w.-]+|\[[0-9A-Fa-f:.]+\]))+$"
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
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

{% if cookiecutter.include_email_task %}

def mailbox(text: str) -> str:
    """Return an address, or a name and an address, with a domain that every mail server takes.

    Raises ValueError where the text is not exactly one.
    """
    message = EmailMessage()
    try:
        message["To"] = text
        (address,) = message["To"].addresses
        if any(isinstance(each, InvalidHeaderDefect) for each in message["To"].defects):
            raise ValueError  # it was read as something else; without a domain, for one
        domain = address.domain
        if not domain.isascii():
            domain = validate_email(f"x@{domain}", check_deliverability=False).ascii_domain
    except Exception:  # Python's parser has many of its own: an AttributeError for ".<ada"
        raise ValueError("must be one address, or: name <address>") from None
    return str(Address(address.display_name, address.username, domain))

{% endif %}

class Settings(BaseSettings):
    """The settings, with their units and defaults; raises ValidationError for a bad one."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True)

    environment: Literal["development", "production"] = "development"
    data_dir: Annotated[Path, AfterValidator(writable)] = Path("data")
    api_key: SecretStr = SecretStr("")  # empty: the API asks for none, in development only
    allowed_hosts: Annotated[str, Field(pattern=HOSTS)] = "*"  # names by which it may be called
    pages: bool | None = None  # /, /docs, /redoc, /openapi.json; None: in development only
    task_concurrency: Annotated[int, Field(ge=1, le=1_000)] = 4  # tasks that run at the same time
    task_history: Count = 86_400  # seconds that a finished task's status is kept
    shutdown_grace: Seconds = 10.0  # seconds that running tasks get after SIGTERM
{% if cookiecutter.__celery %}
    task_time_limit: Seconds = 300.0  # seconds that a task may run, before it is ended
    celery_broker_url: BrokerUrl = ""  # empty: folders in DATA_DIR, in development only
    celery_result_backend: Url = ""  # empty: the broker if Redis, else a folder in DATA_DIR
    metrics_host: str = "127.0.0.1"  # where workers serve their metrics; port 0: they do not
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 0
{% else %}
    task_backlog: Count = 10_000  # unfinished tasks that are accepted before a 503
    # FULL: not even a power cut loses an accepted task, at the price of an fsync for each batch.
    journal_synchronous: Literal["NORMAL", "FULL"] = "NORMAL"
{% endif %}
{% if cookiecutter.include_email_task %}
    smtp_host: str = ""  # empty: mails go to emails.log
    smtp_port: Annotated[int, Field(ge=1, le=65_535)] = 587
    smtp_username: str = ""
    smtp_password: SecretStr = SecretStr("")
    smtp_starttls: bool = True
    smtp_timeout: Seconds = 60.0  # seconds
    email_from: Annotated[str, AfterValidator(mailbox)] | None = None  # or: name <address>
    mails_per_minute: Annotated[int, Field(ge=1, le=1_000_000)] = 300  # of a process; then a 429
{% endif %}
    {# Last, so that an owner's are added far from the lines that an option changes. #}
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        production = self.environment == "production"
        if self.pages is None:
            self.pages = not production
        if production and not self.api_key:
            raise ValueError("API_KEY must be set when ENVIRONMENT=production")
        if self.api_key and not re.fullmatch("[!-~]( *[!-~])*", self.api_key.get_secret_value()):
            raise ValueError("API_KEY must be printable ASCII, with no blank at an end")
{% if cookiecutter.__celery %}
        if production and not self.celery_broker_url:
            raise ValueError("CELERY_BROKER_URL must be set when ENVIRONMENT=production")
        if self.celery_broker_url.startswith("redis"):
            self.celery_result_backend = self.celery_result_backend or self.celery_broker_url
        if production and not self.celery_result_backend:
            raise ValueError("CELERY_RESULT_BACKEND must be set: CELERY_BROKER_URL is not Redis")
        if self.celery_result_backend.startswith(("rpc", "disabled", "cache+memory")):
            raise ValueError("CELERY_RESULT_BACKEND must keep records for all, as Redis does")
        if self.celery_broker_url.startswith("amqp") and self.task_time_limit > 1_700:
            # https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
            raise ValueError("TASK_TIME_LIMIT must be at most 1700: RabbitMQ takes tasks back then")
{% endif %}
{% if cookiecutter.include_email_task %}
        if self.smtp_host and not self.email_from:
            raise ValueError("EMAIL_FROM must be set when SMTP_HOST is set")
        if not f"{self.smtp_username}{self.smtp_password.get_secret_value()}".isascii():
            raise ValueError("SMTP_USERNAME and SMTP_PASSWORD must be ASCII")  # smtplib's limit
{% endif %}
        return self


def refuse(*problems: str) -> NoReturn:
    """Exit with a line for each; uvicorn's ``--workers`` tries again after any code but 3."""
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    raise SystemExit(3)


def _raise(warning: logging.LogRecord) -> bool:
    raise ValueError(warning.getMessage())


@lru_cache
def get_settings() -> Settings:
    """Return the settings; where one is bad, exit with a line for each."""
    os.umask(0o077)  # nobody else can read what is written to DATA_DIR
    logging.getLogger("dotenv.main").addFilter(_raise)  # it warns of lines that it can't read
    # So does pydantic-settings, of a secret that is a folder and of a folder that is missing.
    warnings.filterwarnings("error", category=UserWarning, module="pydantic_settings")
    docker = "/run/secrets" if os.path.isdir("/run/secrets") else None  # with a file for each
    secrets = os.environ.get("SECRETS_DIR") or docker
    try:
        # Neither would be read, without a word: Docker makes a folder of a file that is missing.
        if os.path.isdir(".env") or (os.path.islink(".env") and not os.path.exists(".env")):
            raise OSError(".env is a folder, or a link to nothing")
        return Settings(_secrets_dir=secrets)  # type: ignore[call-arg]  # mypy knows the fields only
    except ValidationError as error:
        problems = []
        for problem in error.errors():
            name = "_".join(str(part) for part in problem["loc"]).upper()
            text = problem["msg"].removeprefix("Value error, ")
            if problem["type"] == "extra_forbidden":
                text = "there is no such setting (see .env.example)"
            elif problem["type"] == "string_pattern_mismatch":
                text = "does not have the form that .env.example shows"
            problems.append(f"{name}: {text}" if name else text)
        refuse(*problems)
    except (OSError, ValueError, UserWarning) as error:  # of a file; or pydantic's, with its cause
        why = f"{error}: {error.__cause__}" if error.__cause__ else error
        refuse(f".env or SECRETS_DIR: {why}")
