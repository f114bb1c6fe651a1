"""The page at ``/``: there in development only, whole, small, and in step with the API."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from {{ cookiecutter.project_slug }}.main import create_app


class Forms(HTMLParser):
    """The forms of a page: for each action the names of its fields; and all it links to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = self.fields.setdefault(values.get("action", ""), [])
        elif "name" in values and tag in ("input", "select", "textarea"):
            self._form.append(values["name"])
        self.links += [values[name] for name in ("href", "src") if name in values]


@pytest.fixture
def page(data_dir: Path) -> TestClient:
    """Talk to a service whose tasks do not run: the page needs none."""
    return TestClient(create_app())


def test_all_it_links_to_is_here_and_small(
    page: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starlette.responses.guess_type", lambda *_: ("text/plain", None))
    answers = [page.get(link) for link in ("/", "/page.css", "/page.js")]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    types = [answer.headers["Content-Type"].partition(";")[0] for answer in answers]
    assert types == ["text/html", "text/css", "text/javascript"]
    assert sum(len(answer.content) for answer in answers) < 15_000
    links = Forms(answers[0].text).links
    assert {"page.css", "page.js"} < set(links)
    assert not [link for link in links if re.match(r"/|\w+://", link)]  # a proxy may add a prefix
    assert page.get("/page.py").status_code == 422


def test_the_browser_is_told_to_trust_nothing_else(page: TestClient) -> None:
    headers = page.get("/").headers
    (policy,) = headers.get_list("Content-Security-Policy")
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_every_form_fits_an_endpoint(page: TestClient) -> None:
    forms = Forms(page.get("/").text).fields
    paths = page.get("/openapi.json").json()["paths"]
    for action in forms.keys() - {""}:  # the API key's has none
        parameters = paths[f"/{action}"]["post"]["parameters"]
        assert forms[action] == [each["name"] for each in parameters if each["in"] == "query"]


@pytest.mark.parametrize(
    ("environment", "setting", "status"),
    [
        ("development", "", 200),
        ("development", "false", 404),
        ("production", "", 404),
        ("production", "true", 200),
    ],
)
def test_it_is_there_in_development_or_where_it_is_switched_on(
    environment: str, setting: str, status: int, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in [
        ("ENVIRONMENT", environment),
        ("API_KEY", "open sesame"),
{% if cookiecutter.__celery %}
        ("CELERY_BROKER_URL", "redis://127.0.0.1:1"),
{% endif %}
        ("PAGES", setting),
    ]:
        monkeypatch.setenv(name, value)
    page = TestClient(create_app())
    answers = [page.get(path).status_code for path in ("/", "/page.css", "/page.js", "/docs")]
    assert answers == [status] * 4
