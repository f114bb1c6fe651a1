"""Settings: a bad one stops the start with a line that names it."""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.project_slug }}.main import create_app
from {{ cookiecutter.project_slug }}.settings import Settings, get_settings

on_posix = pytest.mark.skipif(os.name == "nt", reason="no /proc there, and links are a privilege")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TASK_HISTORY", "soon"),
        ("TASK_HISTORY", "0"),
        ("TASK_HISTORY", "1" * 20),
        ("TASK_CONCURRENCY", "0"),
        ("TASK_CONCURRENCY", "100000"),
        ("SHUTDOWN_GRACE", "0"),
        ("SHUTDOWN_GRACE", "inf"),
        ("LOG_LEVEL", "loud"),
        ("DATA_DIR", f"{__file__}/data"),
        pytest.param("DATA_DIR", "/proc", marks=on_posix),
        ("SECRETS_DIR", "/dev/null/secrets"),
        ("API_KEY", "schlüssel"),
        ("API_KEY", "sesame "),
        ("API_KEY", " sesame"),
        ("ALLOWED_HOSTS", "https://api.example.com"),
        ("ALLOWED_HOSTS", "api.example.com:8000"),
        ("ALLOWED_HOSTS", "api.example.com/v1"),
        ("ALLOWED_HOSTS", "api.example.com, www.example.com"),
        ("ALLOWED_HOSTS", '"api.example.com"'),  # Docker's --env-file leaves quotes where they are
        ("ALLOWED_HOSTS", "api.example.com\n"),
{% if cookiecutter.include_email_task %}
        ("EMAIL_FROM", "ada@"),
        ("EMAIL_FROM", ".<ada"),  # Python's parser fails at it
        ("EMAIL_FROM", "ada@example.com."),
        ("EMAIL_FROM", "ada@exa(mple"),
        ("EMAIL_FROM", '"Ada <ada@example.com>'),
        ("EMAIL_FROM", "Lovelace, Ada <ada@example.com>"),
        ("MAILS_PER_MINUTE", "0"),
        ("MAILS_PER_MINUTE", "1" * 20),
        ("SMTP_HOST", "localhost"),  # without EMAIL_FROM
        ("SMTP_PASSWORD", "Größe"),
        ("SMTP_USERNAME", "Größe"),
        ("SMTP_PORT", "0"),
        ("SMTP_PORT", "65536"),
{% endif %}
{% if cookiecutter.__celery %}
        ("METRICS_PORT", "-1"),
        ("METRICS_PORT", "65536"),
{% endif %}
    ],
)
def test_a_bad_setting_is_named(
    name: str,
    value: str,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        get_settings()
    told = capsys.readouterr().err
    assert name in told
    assert "pattern" not in told  # nobody should have to read one


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (b"TASK_HISTROY=60", "TASK_HISTROY: there is no such setting"),
        (b"TASK_HISTORY is 60", ".env"),
        (b"API_KEY=\xff", ".env"),
    ],
)
def test_a_bad_line_of_the_env_file_is_named(
    line: bytes,
    named: str,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = data_dir / "bad.env"
    file.write_bytes(line)
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    with pytest.raises(SystemExit):
        get_settings()
    assert f"error: {named}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "make", [Path.mkdir, pytest.param(lambda env: env.symlink_to("gone"), marks=on_posix)]
)
def test_an_env_file_that_is_none_is_named(
    make: Callable[[Path], None],
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / ".env")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        get_settings()
    assert "error: .env" in capsys.readouterr().err


@pytest.mark.parametrize("make", [lambda secret: secret.write_bytes(b"\xff"), Path.mkdir])
def test_a_secret_that_cannot_be_read_is_named(
    make: Callable[[Path], None],
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / "api_key")
    warnings.simplefilter("default")  # as for a service: in tests each is an error
    monkeypatch.setenv("SECRETS_DIR", str(tmp_path))
    with pytest.raises(SystemExit):
        get_settings()
    assert "api_key" in capsys.readouterr().err


def test_the_folder_for_data_is_made(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(data_dir)
    monkeypatch.setenv("DATA_DIR", "deep/down")
    assert get_settings().data_dir == data_dir / "deep" / "down"
    assert (data_dir / "deep" / "down").is_dir()


def test_the_example_has_each_setting_with_its_default(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_dir)
    monkeypatch.delenv("DATA_DIR")
    example = Path(__file__).parents[1] / ".env.example"
    names = re.findall(r"^(\w+)=", example.read_text("utf-8"), re.MULTILINE)
    assert {name.lower() for name in names} == Settings.model_fields.keys()
    defaults = get_settings()
    monkeypatch.setitem(Settings.model_config, "env_file", example)
    get_settings.cache_clear()
    assert get_settings() == defaults


def test_production_needs_an_api_key(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(SystemExit):
        get_settings()
    assert "API_KEY" in capsys.readouterr().err


def test_an_api_key_guards_all_but_health_and_metrics(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "open sesame")
    with TestClient(create_app()) as client:
        paths = client.get("/openapi.json").json()["paths"]
        for path in paths:
            expected = 200 if path in ("/health/live", "/health/ready", "/metrics") else 401
            for method in paths[path]:
                for headers in ({}, {"X-API-Key": "open"}):
                    answer = client.request(method, path, headers=headers)
                    assert answer.status_code == expected, path
        answer = client.get("/tasks/x", headers={"X-API-Key": "open sesame"})
        assert answer.status_code == 404
{% if cookiecutter.__celery %}


@pytest.mark.parametrize(
    ("broker", "missing"),
    [("", "CELERY_BROKER_URL"), ("amqp://localhost", "CELERY_RESULT_BACKEND")],
)
def test_production_needs_a_broker_and_a_place_for_records(
    broker: str,
    missing: str,
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("API_KEY", "open sesame")
    monkeypatch.setenv("CELERY_BROKER_URL", broker)
    with pytest.raises(SystemExit):
        get_settings()
    assert f"{missing} must be set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("broker", "given", "used"),
    [
        ("amqp://a", "", ""),
        ("redis://a", "", "redis://a"),
        ("redis://a", "redis://b", "redis://b"),
        ("rediss://a", "", "rediss://a?ssl_cert_reqs=required"),
        ("amqp://a", "rediss://b?timeout=1", "rediss://b?timeout=1&ssl_cert_reqs=required"),
        ("amqp://a", "rediss://b?ssl_cert_reqs=none", "rediss://b?ssl_cert_reqs=none"),
    ],
)
def test_records_are_kept_where_they_are_told_to_be(
    broker: str, given: str, used: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", broker)
    monkeypatch.setenv("CELERY_RESULT_BACKEND", given)
    assert get_settings().celery_result_backend == used
{% endif %}
