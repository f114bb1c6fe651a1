"""Each variant asks for its API key; to Schemathesis, which has it, every answer is as promised."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from harness.project import Project
from harness.service import Service, running

from .variants import Variant

KEY = "open sesame"


def guards_all_but_health(service: Service) -> None:
    client = service.client
    assert client.get("/health/ready").status_code == 200
    for keys in ({}, {"X-API-Key": "open"}):
        refused = client.get("/tasks/x", headers=keys)
        assert (refused.status_code, refused.headers["WWW-Authenticate"]) == (401, "APIKey")
    assert client.get("/tasks/x", headers={"X-API-Key": KEY}).status_code == 404
    schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["APIKeyHeader"]["name"] == "X-API-Key"
    for path in schema["paths"]:
        if path.endswith("/") and path != "/":
            assert client.post(path).status_code == 401
    assert "401" in schema["paths"]["/tasks/{task_id}"]["get"]["responses"]


@pytest.mark.xdist_group("schemathesis")  # in one process, as what it imports takes a while
def test_asks_for_its_key_and_bears_whatever_its_schema_allows_and_forbids(
    installed: Project, variant: Variant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from schemathesis.cli import schemathesis  # half a second, in each of xdist's workers

    settings = {"API_KEY": KEY, "MAILS_PER_MINUTE": "1000000"}
    options = [
        *("--phases=coverage,fuzzing,stateful", "--max-examples=8", "--seed=1", "--no-color"),
        "--warnings=off",  # where no task can be made, every id is unknown
        *("--header", f"X-API-Key: {KEY}"),
    ]
    if variant.email:  # which addresses are reserved, no schema can say
        options.append("--exclude-checks=positive_data_acceptance")
    monkeypatch.chdir(tmp_path)  # where it keeps its examples
    with running(installed, tmp_path / "data", **settings) as service:
        guards_all_but_health(service)
        arguments = ["run", *options, f"{service.url}/openapi.json"]
        result = CliRunner().invoke(schemathesis, arguments)
        output = service.api.output()
    assert result.exit_code == 0, result.output
    assert "No issues found" in result.output
    assert "Traceback" not in output
