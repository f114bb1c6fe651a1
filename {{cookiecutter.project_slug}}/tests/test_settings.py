"""Settings: a bad one stops the start with a line that names it."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from {{ cookiecutter.project_slug }}.main import create_app
from {{ cookiecutter.project_slug }}.settings import Settings, get_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [("TASK_HISTORY", "soon"), ("LOG_LEVEL", "loud"), ("DATA_DIR", "/dev/null/data")],
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
    assert name in capsys.readouterr().err


def test_a_misspelt_name_in_the_env_file_is_named(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = data_dir / "misspelt.env"
    file.write_text("TASK_HISTROY=60\n")
    monkeypatch.setitem(Settings.model_config, "env_file", file)
    with pytest.raises(SystemExit):
        get_settings()
    assert "TASK_HISTROY" in capsys.readouterr().err


def test_production_needs_an_api_key(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    with pytest.raises(SystemExit):
        get_settings()
    assert "API_KEY" in capsys.readouterr().err


def test_an_api_key_guards_the_status_of_tasks(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "open sesame")
    with TestClient(create_app()) as client:
        assert client.get("/tasks/x").status_code == 401
        assert client.get("/tasks/x", headers={"X-API-Key": "guess"}).status_code == 401
        assert client.get("/tasks/x", headers={"X-API-Key": "open sesame"}).status_code == 404
        assert client.get("/health/live").status_code == 200
{% if cookiecutter.__celery %}


def test_production_needs_a_broker(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("API_KEY", "open sesame")
    with pytest.raises(SystemExit):
        get_settings()
    assert "CELERY_BROKER_URL" in capsys.readouterr().err
{% endif %}
