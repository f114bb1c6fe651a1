"""What stands around the code: the files for engines, clusters, CI and editors, each by its own
checker, and the commands in them run."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import editorconfig
import pytest
import yaml

from harness.container import instructions
from harness.project import SLUG, TEMPLATE, Project, environment
from harness.servers import Redis

from .conftest import Bake, need, started
from .variants import VARIANTS

ENGINE = ("docker ",)  # no engine here: the Dockerfile is carried out by test_container.py


@pytest.fixture(params=["BackgroundTasks", "Celery"])
def backend(request: pytest.FixtureRequest) -> str:
    """Return each backend in turn."""
    name: str = request.param
    return name


def check(project: Project, *command: str, fails: bool = False) -> str:
    """Run a tool of this environment on the project; returns what it says."""
    program = Path(sys.executable).with_name(command[0])
    result = subprocess.run(
        [program, *command[1:]],
        cwd=project.path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert bool(result.returncode) == fails, result.stdout
    return result.stdout


def schema(project: Project, name: str, *files: str) -> None:
    check(project, "check-jsonschema", "--builtin-schema", f"vendor.{name}", *files)


def load(project: Project, name: str) -> Any:
    return yaml.safe_load(project.read(name))


def documents(project: Project) -> dict[str, dict[str, Any]]:
    """Return the workloads of kubernetes.yaml by the name of their container."""
    found = {}
    for document in yaml.safe_load_all(project.read("kubernetes.yaml")):
        if document["kind"] != "Service":
            found[document["spec"]["template"]["spec"]["containers"][0]["name"]] = document
    return found


def default(project: Project, setting: str) -> str:
    """Return a setting's default, as .env.example has it."""
    found = re.search(rf"^{setting}=(.*)$", project.read(".env.example"), re.MULTILINE)
    assert found, f"there is no setting {setting}"
    return found.group(1)


# The image.


def dockerfile(project: Project) -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage."""
    stages: dict[str, list[tuple[str, str]]] = {}
    for word, argument in instructions(project.read("Dockerfile")):
        if word == "FROM":
            stages[argument.rpartition(" AS ")[2]] = []
        else:
            stages[list(stages)[-1]].append((word, argument))
    return stages


@pytest.mark.parametrize("licence", ["MIT", "None"])
def test_the_dockerfile_passes_hadolint(bake: Bake, backend: str, licence: str) -> None:
    project = bake(task_backend=backend, open_source_license=licence)
    text = project.read("Dockerfile")
    check(project, "hadolint", "--failure-threshold", "style", "Dockerfile")
    named = licence != "None"
    assert ("LICENSE" in project.read(".dockerignore")) == named
    labels = re.findall(r'^LABEL org\.opencontainers\.image\.(.+)="(.+)"$', text, re.M)
    assert labels == [("title", SLUG), *([("licenses", licence)] if named else [])]


def test_a_change_of_the_code_installs_no_dependency_again(bake: Bake, backend: str) -> None:
    """Docker's cache ends where a file that is copied changed: the code is copied later."""
    steps = dockerfile(bake(task_backend=backend))["build"]
    install = next(i for i, (_, rest) in enumerate(steps) if "--no-install-project" in rest)
    copied = [rest for word, rest in steps[:install] if word == "COPY"]
    assert copied == ["--from=uv /uv /usr/local/bin/", "pyproject.toml uv.loc[k] ./"]
    assert ("COPY", ". .") in steps[install:]
    # The README has an owner change both.
    assert len([rest for _, rest in steps if " uv sync " in rest]) == 2


def test_one_python_everywhere(bake: Bake) -> None:
    project, gitlab = bake(ci="GitHub Actions"), bake(ci="GitLab CI")
    found = re.search(r"^FROM python:([\d.]+)-slim AS python$", project.read("Dockerfile"), re.M)
    assert found
    workflow = load(project, ".github/workflows/ci.yml")
    assert workflow["jobs"]["check"]["env"]["UV_PYTHON"] == found.group(1)
    assert load(gitlab, ".gitlab-ci.yml")["check"]["image"] == f"python:{found.group(1)}"
    container = json.loads(project.read(".devcontainer/devcontainer.json"))
    assert container["image"] == f"mcr.microsoft.com/devcontainers/python:{found.group(1)}"


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_that_python_needs_no_compiler(bake: Bake, machine: str) -> None:
    project = bake(task_backend="Celery")  # it has the most dependencies
    python = load(project, ".github/workflows/ci.yml")["jobs"]["check"]["env"]["UV_PYTHON"]
    check(
        project,
        *("uv", "pip", "compile", "--quiet", "--only-binary", ":all:", "pyproject.toml"),
        *("--python-version", python, "--python-platform", f"{machine}-manylinux_2_28"),
    )


# Compose.


CONFINED = {
    "restart": "unless-stopped",
    "read_only": True,
    "tmpfs": ["/tmp"],  # noqa: S108, the container's
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
}


@pytest.mark.parametrize("email", [True, False])
def test_compose_is_valid_and_fits_the_image(bake: Bake, backend: str, email: bool) -> None:
    project = bake(task_backend=backend, include_email_task=email)
    schema(project, "compose-spec", "compose.yaml", "compose.override.yaml")
    compose, extra = load(project, "compose.yaml"), load(project, "compose.override.yaml")
    stages = dockerfile(project)
    services = compose["services"]
    assert set(extra["services"]) - set(services) == ({"mail"} if email else set())
    built = {name: service for name, service in services.items() if "build" in service}
    assert set(built) == ({"api", "worker"} if backend == "Celery" else {"api"})
    grace = 5 + float(default(project, "SHUTDOWN_GRACE"))
    for name, service in built.items():
        assert service["build"] in (".", {"context": ".", "target": name})
        assert service["build"] != "." or list(stages)[-1] == name
        assert float(service["stop_grace_period"].removesuffix("s")) > grace
        assert service["volumes"] == ["data:/data"]
        assert service.items() >= CONFINED.items()
        assert service["env_file"] == [{"path": ".env", "required": False}]  # the README's
        assert service["environment"]["ENVIRONMENT"] == "production"
        assert service["environment"]["DATA_DIR"] == "/data"  # .env.example has another
        assert extra["services"][name]["environment"]["ENVIRONMENT"] == "development"
        for setting in (*service["environment"], *extra["services"][name]["environment"]):
            default(project, setting)
        healthy = {"broker": {"condition": "service_healthy"}} if backend == "Celery" else {}
        assert service.get("depends_on", {}) == healthy
    port = dict(stages["api"])["EXPOSE"]
    assert services["api"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    used = {volume.partition(":")[0] for s in services.values() for volume in s["volumes"]}
    assert used == set(compose["volumes"])
    if backend == "Celery":
        assert services["broker"]["command"].split() == ["redis-server", "--appendonly", "yes"]
        assert services["broker"]["restart"] == "unless-stopped"
        assert services["broker"]["volumes"] == ["broker:/data"]  # where Redis' image keeps it
        for service in built.values():
            assert service["environment"]["CELERY_BROKER_URL"].startswith("redis://broker:")
        # Where the README has Prometheus look.
        settings = built["worker"]["environment"]
        assert settings["METRICS_HOST"] == "0.0.0.0"  # noqa: S104, a container's
        place = f"127.0.0.1:{settings['METRICS_PORT']}"
        assert built["worker"]["ports"] == [f"{place}:{settings['METRICS_PORT']}"]
        assert f'"{place}"' in project.read("README.md")
    if email:
        # As Mailpit listens: https://mailpit.axllent.org/docs/install/docker/
        smtp = {"HOST": "mail", "PORT": "1025", "STARTTLS": "false", "USERNAME": ""}
        for name in built:
            settings = extra["services"][name]["environment"]
            assert settings.items() >= {f"SMTP_{key}": smtp[key] for key in smtp}.items()
            assert settings["EMAIL_FROM"]  # or the service does not start
        assert extra["services"]["mail"].keys() == {"image", "ports"}
        assert extra["services"]["mail"]["ports"] == ["127.0.0.1:8025:8025"]
        assert "mails are caught at <http://127.0.0.1:8025>" in project.read("README.md")
    # Nothing is open to the network but through what the operator puts before it.
    ports = [
        p for s in (*services.values(), *extra["services"].values()) for p in s.get("ports", [])
    ]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_a_broker_that_answers_with_an_error_is_not_healthy(bake: Bake, tmp_path: Path) -> None:
    need("redis-cli")
    compose = load(bake(task_backend="Celery"), "compose.yaml")
    program, *arguments = compose["services"]["broker"]["healthcheck"]["test"][1:]
    with started(Redis(tmp_path / "redis")) as redis:
        client = [program, "-p", str(redis.port)]
        assert subprocess.run([*client, *arguments], check=False).returncode == 0
        subprocess.run([*client, "config", "set", "requirepass", "secret"], check=True)
        assert subprocess.run([*client, *arguments], check=False).returncode != 0


def test_every_reader_of_env_files_takes_the_same_values(bake: Bake, backend: str) -> None:
    """kubectl takes a value as it is; Compose and the service itself take some things off."""
    text = bake(task_backend=backend).read(".env.example")
    assert "without quotes, ~, $ or a comment" in text
    values = [line.partition("=")[2] for line in text.splitlines() if not line.startswith("#")]
    assert not re.search(r"[\"'~$#]", "".join(values))


# Kubernetes.


def test_the_manifest_is_valid_and_fits_the_image(bake: Bake, backend: str) -> None:
    project = bake(task_backend=backend, project_slug="a_service")
    check(project, "kubernetes-validate", "--strict", "--quiet", "kubernetes.yaml")
    text = project.read("kubernetes.yaml")
    service, *_ = yaml.safe_load_all(text)
    workloads = documents(project)
    stages = dockerfile(project)
    commands = {
        stage: dict(steps) for stage, steps in stages.items() if any(w == "CMD" for w, _ in steps)
    }
    assert set(workloads) == set(commands)
    shared = len(workloads) == 1
    readme = project.read("README.md")
    assert ("keep what they share" in readme) != shared
    for steps in commands.values():
        assert f"\nuv run --no-dev {' '.join(json.loads(steps['CMD']))}\n" in readme
    base = dict(stages["base" if backend == "Celery" else "api"])
    for role, document in workloads.items():
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", document["metadata"]["name"])
        pod = document["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        labels = document["spec"]["template"]["metadata"]["labels"]
        assert document["spec"]["selector"]["matchLabels"] == labels
        assert (service["spec"]["selector"].items() <= labels.items()) == (role == "api")
        user = int(base["USER"])
        owner = {"runAsNonRoot": True, "runAsUser": user, "fsGroup": user}
        profile = {"seccompProfile": {"type": "RuntimeDefault"}}
        assert pod["securityContext"] == owner | profile
        assert pod["enableServiceLinks"] is pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["image"].endswith(":0.1.0")
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"memory"}
        asked, most = (
            int(it["memory"].removesuffix("Mi")) for it in container["resources"].values()
        )
        assert asked < most
        written = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert written == {base["VOLUME"], "/tmp"}  # noqa: S108, the image's
        claims = document["spec"].get("volumeClaimTemplates", [])
        names = {v["name"] for v in pod["volumes"]} | {c["metadata"]["name"] for c in claims}
        assert names == {mount["name"] for mount in container["volumeMounts"]}
        quiet = container["lifecycle"]["preStop"]["sleep"]["seconds"] if role == "api" else 0
        grace = quiet + 5 + float(default(project, "SHUTDOWN_GRACE"))
        assert pod["terminationGracePeriodSeconds"] > grace
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        assert env.items() >= {"ENVIRONMENT": "production", "DATA_DIR": base["VOLUME"]}.items()
        for name in env:
            default(project, name)
        (source,) = container["envFrom"]
        created = f"\n# kubectl create secret generic {source['secretRef']['name']} --from-env-file"
        assert created in f"\n{text}"
    api = workloads["api"]["spec"]["template"]["spec"]["containers"][0]
    assert api["livenessProbe"]["httpGet"]["path"] in commands["api"]["HEALTHCHECK"]
    (start,) = re.findall(r"--start-period=(\d+)s", commands["api"]["HEALTHCHECK"])
    assert api["livenessProbe"]["initialDelaySeconds"] == int(start)
    assert api["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    (port,) = api["ports"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert api[probe]["httpGet"]["port"] == port["name"]
        assert api[probe]["timeoutSeconds"] > 2  # in which the service answers
        (host,) = api[probe]["httpGet"]["httpHeaders"]
        assert host == {"name": "Host", "value": "127.0.0.1"}
    assert str(port["containerPort"]) == dict(stages["api"])["EXPOSE"]
    if backend == "Celery":
        worker = workloads["worker"]["spec"]["template"]["spec"]["containers"][0]
        assert worker["command"] == json.loads(commands["worker"]["CMD"])
        updated = f"deployment/{workloads['worker']['metadata']['name']}"
        assert re.findall(r"kubectl set image (.*)=IMAGE", text) == [f"{updated} {worker['name']}"]
        assert re.findall(r"kubectl rollout status (.*)", text) == [updated]
        settings = {variable["name"]: variable["value"] for variable in worker["env"]}
        assert settings["METRICS_HOST"] == "0.0.0.0"  # noqa: S104, a container's
        assert worker["ports"] == [
            {"name": "metrics", "containerPort": int(settings["METRICS_PORT"])}
        ]
        probe = json.loads(commands["worker"]["HEALTHCHECK"].partition(" CMD ")[2])
        assert worker["readinessProbe"]["exec"]["command"] == probe
        (told,) = re.findall(r"^ +(find .*)$", project.read("README.md"), re.MULTILINE)
        assert probe[-1] == told.replace("${DATA_DIR:-data}", base["VOLUME"]).replace('"', "")
        assert "livenessProbe" not in worker  # it would end what runs as the broker is away
        assert all(document["spec"]["replicas"] > 1 for document in workloads.values())
    else:  # the journal is one machine's
        assert workloads["api"]["kind"] == "StatefulSet"
        assert workloads["api"]["spec"]["replicas"] == 1
        assert workloads["api"]["spec"]["serviceName"] == service["metadata"]["name"]
        (claim,) = workloads["api"]["spec"]["volumeClaimTemplates"]
        assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]
        assert {"name": claim["metadata"]["name"], "mountPath": base["VOLUME"]} in (
            api["volumeMounts"]
        )
        # https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
        assert workloads["api"]["spec"]["podManagementPolicy"] == "Parallel"


# CI.


def commands(project: Project) -> list[str]:
    """Return every command of the project's CI."""
    if "renovate.json" in project.files():
        jobs = load(project, ".gitlab-ci.yml").values()
        return [command for job in jobs for command in job.get("script", [])]
    jobs = load(project, ".github/workflows/ci.yml")["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_the_workflow_passes_the_linters(bake: Bake, backend: str) -> None:
    project = bake(task_backend=backend)
    schema(project, "github-workflows", ".github/workflows/ci.yml")
    schema(project, "dependabot", ".github/dependabot.yml")
    updates = load(project, ".github/dependabot.yml")["updates"]
    excluded = {each["package-ecosystem"]: each.get("exclude-paths", []) for each in updates}
    assert excluded.keys() == {"uv", "github-actions", "docker", "docker-compose"}
    assert excluded["docker"] == ["kubernetes.yaml"]
    subprocess.run(["git", "init", "--quiet"], cwd=project.path, check=True)
    check(project, "jactionlint", "--strict-exit")
    check(project, "zizmor", "--offline", "--persona=pedantic", ".")
    workflow = project.read(".github/workflows/ci.yml")
    actions = re.findall(r"uses: (.*)", workflow)
    assert {action.partition("@")[0] for action in actions} == {
        "actions/checkout",
        "astral-sh/setup-uv",
    }
    for action in actions:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    parsed = load(project, ".github/workflows/ci.yml")
    # YAML 1.1 reads `on` as a boolean. The README has `git init -b main`.
    assert parsed[True] == {"push": {"branches": ["main"]}, "pull_request": None}
    assert parsed["permissions"] == {"contents": "read"}
    assert parsed["concurrency"]["cancel-in-progress"]
    assert "github.ref" in parsed["concurrency"]["group"]  # nobody else's runs
    built = [command for command in commands(project) if command.startswith(ENGINE)]
    worker = ["docker build --target worker ."] if backend == "Celery" else []
    assert built == [*worker, "docker build ."]
    for job in parsed["jobs"].values():
        (checkout,) = (s for s in job["steps"] if "checkout" in s.get("uses", ""))
        assert checkout["with"] == {"persist-credentials": False}
        assert job["timeout-minutes"] <= 15  # six hours otherwise


def test_the_templates_own_workflow_passes_the_linters() -> None:
    template = Project(TEMPLATE)
    schema(template, "github-workflows", ".github/workflows/ci.yml")
    check(template, "jactionlint", "--strict-exit")
    check(template, "zizmor", "--offline", "--persona=pedantic", ".github")


def test_the_pipeline_fits_the_published_schema(bake: Bake, backend: str) -> None:
    project = bake(task_backend=backend, ci="GitLab CI")
    schema(project, "gitlab-ci", ".gitlab-ci.yml")
    schema(project, "renovate", "renovate.json")
    pipeline = load(project, ".gitlab-ci.yml")
    runs = [rule["if"] for rule in pipeline["workflow"]["rules"]]
    assert runs == [
        '$CI_PIPELINE_SOURCE == "merge_request_event"',
        "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH",
    ]
    # No timeout: https://gitlab.com/gitlab-org/gitlab/-/work_items/213634
    assert pipeline["default"] == {"interruptible": True}
    assert pipeline["check"]["timeout"] == pipeline["build"]["timeout"] == "15 minutes"
    assert pipeline["build"]["services"] == [f"{pipeline['build']['image']}-dind"]
    renovate = load(project, "renovate.json")
    assert renovate["extends"] == ["config:recommended", "group:all", "schedule:weekly"]
    assert renovate["lockFileMaintenance"]["enabled"]  # else uv.lock is never updated
    # Else what tells no time waits for ever: uv.lock, and images that are not Docker Hub's.
    # https://docs.renovatebot.com/key-concepts/minimum-release-age/
    assert renovate["minimumReleaseAge"] == "7 days"  # as Dependabot's cooldown
    assert renovate["minimumReleaseAgeBehaviour"] == "timestamp-optional"
    # What is run for the other CI below is all that this one runs.
    rest = commands(bake(task_backend=backend))
    assert commands(project) == ["pip install uv", *rest]


class Advisories(HTTPServer):
    """An OSV server on this machine, with an advisory for each package in ``bad``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Osv)
        self.bad: set[str] = set()


class Osv(BaseHTTPRequestHandler):
    """Speaks as much of https://google.github.io/osv.dev/api/ as uv asks for."""

    server: Advisories

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["queries"]
        known = {"vulns": [{"id": "TEST-1", "modified": "2026-01-01T00:00:00Z"}]}
        names = [query["package"]["name"] for query in queries]
        self._answer({"results": [known if name in self.server.bad else {} for name in names]})

    def do_GET(self) -> None:
        self._answer({"id": "TEST-1", "modified": "2026-01-01T00:00:00Z", "summary": "bad"})

    def _answer(self, answer: object) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    """Run an OSV server: the real one can't be reached from everywhere."""
    with Advisories() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


# One is enough: these files are the same in all, but for images.
one_variant = pytest.mark.parametrize(
    "variant",
    [VARIANTS[0]],
    indirect=True,
    ids=lambda variant: variant.id,
)


@one_variant
@pytest.mark.usefixtures("variant")
@pytest.mark.xdist_group("mypy")
def test_every_command_of_ci_works(installed: Project, advisories: Advisories) -> None:
    done = [command for command in commands(installed) if not command.startswith(ENGINE)]
    assert len(done) == 4
    for command in done:
        words = command.split()
        if words[:2] == ["uv", "audit"]:
            words += ["--no-cache", "--service-url", f"http://127.0.0.1:{advisories.server_port}"]
            installed.run(*words)
            advisories.bad = {"starlette"}
            with pytest.raises(AssertionError, match="TEST-1"):
                installed.run(*words)
        else:  # of the tests a few: test_quality.py runs them all
            installed.run(*words, PYTEST_ADDOPTS="-k page")


def test_ci_insists_on_a_lock_file(bake: Bake) -> None:
    project = bake()
    first = commands(project)[0].split()
    with pytest.raises(AssertionError, match=r"lockfile at `uv\.lock`"):
        project.run(*first)


# What developers have.


@pytest.mark.xdist_group("mypy")
def test_the_hooks_of_git_pass_and_catch(bake: Bake) -> None:
    project = bake()
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=project.path, check=True)
    check(project, "pre-commit", "validate-config")
    told = re.search(r"To have git run (.*?) before", project.read("README.md"))
    assert told
    hooks = [
        hook["entry"] for hook in load(project, ".pre-commit-config.yaml")["repos"][0]["hooks"]
    ]
    assert re.findall("`(.*?)`", told[1]) == [entry.removeprefix("uv run ") for entry in hooks]
    said = check(project, "pre-commit", "run", "--all-files")
    assert said.count("Passed") == said.count("\n"), said
    (project.path / "src" / "bad.py").write_text("import os\nx: int = 'a'\n")
    subprocess.run(["git", "add", "--all"], cwd=project.path, check=True)
    said = check(project, "pre-commit", "run", "--all-files", fails=True)
    assert said.count("Failed") == 3, said  # unused import, quotes, type


def test_its_files_keep_to_its_editorconfig(project: Project) -> None:
    for name in project.files():
        rules = editorconfig.get_properties(str(project.path / name))
        data = (project.path / name).read_bytes()
        data.decode(rules["charset"])
        assert rules["end_of_line"] == "lf"
        assert b"\r" not in data
        assert not data or (rules["insert_final_newline"] == "true" and data.endswith(b"\n")), name
        for line in data.decode().splitlines():
            indent = line[: len(line) - len(line.lstrip())]
            if rules["indent_style"] == "tab":
                assert " " not in indent, f"{name}: {line}"
            else:
                assert "\t" not in indent, f"{name}: {line}"
                assert len(indent) % int(rules["indent_size"]) == 0, f"{name}: {line}"
            assert line == line.rstrip(), f"{name}: {line}"


def test_the_development_container_installs_what_the_readme_says(bake: Bake) -> None:
    project = bake()
    container = json.loads(project.read(".devcontainer/devcontainer.json"))
    assert container["onCreateCommand"] == "pipx install uv"
    assert container["postCreateCommand"] == "uv sync"
    assert container["forwardPorts"] == [8000]
    assert "\nuv sync\n" in project.read("README.md")
