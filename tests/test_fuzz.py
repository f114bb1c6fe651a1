"""Each variant asks for its API key; to Schemathesis, which has it, every answer is as promised."""

import subprocess
import sys
from pathlib import Path

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


def test_asks_for_its_key_and_bears_whatever_its_schema_allows_and_forbids(
    installed: Project, variant: Variant, tmp_path: Path
) -> None:
    settings = {"API_KEY": KEY, "MAILS_PER_MINUTE": "1000000"}
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", "--no-color"),
        *("--phases=coverage,fuzzing,stateful", "--max-examples=8", "--seed=1"),
        "--warnings=off",  # where no task can be made, every id is unknown
        *("--header", f"X-API-Key: {KEY}"),
    ]
    if variant.email:  # which addresses are reserved, no schema can say
        command.append("--exclude-checks=positive_data_acceptance")
    with running(installed, tmp_path / "data", **settings) as service:
        guards_all_but_health(service)
        result = subprocess.run(
            [*command, f"{service.url}/openapi.json"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        output = service.api.output()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "No issues found" in result.stdout
    assert "Traceback" not in output
