"""What happens is seen: in the logs, by a real Prometheus, in traces; and no address leaks."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from aiosmtpd.controller import Controller

from harness.probes import add_probes
from harness.project import SLUG, Project
from harness.servers import Redis
from harness.service import LIMITS, UPGRADE, Process, Service, free_port, refusal, running, until

from .conftest import Bake, need, started

ADDRESS = "ada.lovelace@example.com"
REQUEST_ID = "0af7651916cd43dd8448eb211c80319c"
# httpx2.get would read the machine's certificates each time.
get = httpx2.Client(verify=False, limits=LIMITS).get


class RefusesEveryone:
    """A mail server's answers, which quote the address as real ones do."""

    async def handle_RCPT(self, _s: Any, _n: Any, _e: Any, address: str, _o: Any) -> str:
        """Refuse for good (the name is aiosmtpd's)."""
        return f"550 no {address} here"


class Collector(ThreadingHTTPServer):
    """An OTLP collector that keeps what it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Collect)
        self.received: list[tuple[str, bytes]] = []


class _Collect(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@dataclass
class Watched:
    """A service in production with everything that watches it."""

    project: Project
    service: Service
    collector: Collector
    prometheus: str  # its URL
    metrics: list[str]  # the URLs that Prometheus scrapes
    ends: dict[str, dict[str, Any]] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)  # before other tests add to it
    redis: Redis | None = None

    @property
    def celery(self) -> bool:
        """Tell whether tasks run on Celery."""
        return self.service.worker is not None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that Prometheus has for an expression."""
        response = get(f"{self.prometheus}/api/v1/query", params={"query": expression})
        assert response.status_code == 200, response.text
        result: list[dict[str, Any]] = response.json()["data"]["result"]
        return result

    def samples(self) -> Counter[str]:
        """Return the metrics as the processes tell them, without what is not the service's."""
        total: Counter[str] = Counter()
        for url in self.metrics:
            for line in get(url).text.splitlines():
                if not line.startswith("#"):
                    name, _, value = line.rpartition(" ")
                    total[name] += float(value)  # type: ignore[assignment]
        return total


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(backend, id=backend, marks=pytest.mark.xdist_group(f"observe-{backend}"))
        for backend in ("BackgroundTasks", "Celery")
    ],
)
def project(request: pytest.FixtureRequest, bake: Bake) -> Project:
    project = bake(task_backend=request.param)
    add_probes(project)
    project.sync("--extra", "otel")
    return project


@pytest.fixture(scope="module")
def watched(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    need("prometheus")
    with ExitStack() as stack:
        smtp = Controller(
            RefusesEveryone(),
            hostname="127.0.0.1",
            port=free_port(),
            server_hostname="localhost",  # else it asks a DNS, which can take seconds
        )
        smtp.start()
        stack.callback(smtp.stop)
        collector = Collector()
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        stack.callback(collector.shutdown)
        settings = {
            "ENVIRONMENT": "production",
            "API_KEY": "open sesame",
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(smtp.port),
            "SMTP_STARTTLS": "false",
            "EMAIL_FROM": "service@example.com",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_SERVICE_NAME": "Shop",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BLRP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
        }
        redis = None
        if (project.path / "src" / SLUG / "worker.py").exists():
            redis = stack.enter_context(started(Redis(folder / "redis")))
            settings["CELERY_BROKER_URL"] = redis.url
            settings["METRICS_PORT"] = str(free_port())
        else:
            settings["TASK_BACKLOG"] = "4"
        service = stack.enter_context(
            running(project, folder / "data", "--workers", "2", **settings)
        )
        service.client.headers["X-API-Key"] = "open sesame"
        # As the README says, but for the ports and the time between two looks.
        (config,) = re.findall(r"^```yaml\n(.*?)^```$", project.read("README.md"), re.M | re.S)
        config = config.replace("8000", str(service.port))
        config = config.replace("9808", settings.get("METRICS_PORT", ""))
        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 2s, evaluation_interval: 2s}\n"
            f"rule_files: [{project.path}/monitoring/alerts.yml]\n{config}"
        )
        targets = yaml.safe_load(config)["scrape_configs"][0]["static_configs"][0]["targets"]
        port = free_port()
        prometheus = Process(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/tsdb",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            folder,
            folder / "prometheus.log",
        )
        stack.callback(prometheus.stop)
        watched = Watched(
            project,
            service,
            collector,
            f"http://127.0.0.1:{port}",
            [f"http://{target}/metrics" for target in targets],
            redis=redis,
        )
        drive(watched)
        yield watched


def drive(watched: Watched) -> None:
    """Have tasks succeed, heal, fail, and be mailed to an address that nobody has."""
    client = watched.service.client
    header = {"X-Request-ID": REQUEST_ID}
    ids: dict[str, str] = {}
    for what in ("sleep 0", "heal", "refuse"):
        response = watched.service.post("/probes/", params={"what": what}, headers=header)
        assert response.headers["X-Request-ID"] == REQUEST_ID
        (ids[what],) = response.json()
    response = watched.service.post("/send-email/", params={"email": ADDRESS}, headers=header)
    ids["mail"] = response.json()["task_id"]
    # Not the client's connection: an error closes it.
    url = f"{watched.service.url}/probes/"
    error = httpx2.post(url, params={"what": ["sleep 0", "raise"]}, headers=client.headers)
    assert (error.status_code, error.text) == (500, "Internal Server Error")
    assert error.headers["X-Content-Type-Options"] == "nosniff"
    assert len(error.headers["X-Request-ID"]) == 32
    assert client.get("/no/such/page").status_code == 404
    assert client.get("/send-email/", params={"email": ADDRESS}, headers=UPGRADE).status_code == 403
    watched.ends = {what: watched.service.wait_for_task(ids[what]) for what in ids}
    unknown = 'http_request_duration_seconds_count{method="GET",route="",status="404"}'
    until(lambda: watched.samples()[unknown], 30, "the last request is counted, after its answer")
    watched.counted = watched.samples()


def lines(watched: Watched) -> list[dict[str, Any]]:
    """Return the log's lines of the service and of its workers, which are JSON."""
    service = watched.service
    text = service.api.output() + (service.worker.output() if service.worker else "")
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_the_log_tells_each_end_of_a_task_once(watched: Watched) -> None:
    ids = {end["task_id"]: what for what, end in watched.ends.items()}
    told = [line for line in lines(watched) if line.get("task_id") in ids]
    found = Counter((ids[line["task_id"]], line["level"], line["attempt"]) for line in told)
    assert found == {
        ("sleep 0", "info", 1): 1,
        ("heal", "warning", 1): 1,
        ("heal", "warning", 2): 1,
        ("heal", "info", 3): 1,
        ("refuse", "error", 1): 1,
        ("mail", "error", 1): 1,
    }
    for line in told:
        assert line["task"] == ("send_email" if ids[line["task_id"]] == "mail" else "probe")
        assert 0 <= line["duration"] < 30
        assert "Traceback" in line.get("exception", "") or line["level"] != "error"
        assert line["request_id"] == REQUEST_ID


def test_the_log_tells_of_each_request_without_its_query(watched: Watched) -> None:
    requests = [line for line in lines(watched) if line["logger"] == "uvicorn.access"]
    ours = [line for line in requests if line["request_id"] == REQUEST_ID or line["status"] == 500]
    found = Counter((line["method"], line["path"], line["status"]) for line in ours)
    assert found["POST", "/probes/", 202] == 3  # other tests have ids of their own
    assert found["POST", "/probes/", 500] == found["POST", "/send-email/", 202] == 1
    assert all(len(line["request_id"]) == 32 for line in requests)
    (error,) = [
        line
        for line in lines(watched)
        if line["logger"] == "uvicorn.error" and line["level"] == "error"
    ]
    assert "RuntimeError" in error["exception"]


def test_only_uvicorns_parent_logs_in_text(watched: Watched) -> None:
    text = watched.service.api.output().splitlines()
    found = [re.sub(r"\W*\[.*|http.*", "", line) for line in text if not line.startswith("{")]
    assert found == ["INFO:     Uvicorn running on ", "INFO:     Started parent process"]


def test_no_line_of_the_log_holds_an_address_or_a_key(watched: Watched) -> None:
    assert ADDRESS in watched.ends["mail"]["error"]  # it is told to who asks with the key
    service = watched.service
    text = service.api.output() + (service.worker.output() if service.worker else "")
    assert "lovelace" not in text
    assert "sesame" not in text


def test_metrics_add_up_over_all_processes(watched: Watched) -> None:
    found = watched.counted
    requests = "http_request_duration_seconds_count"
    for method, route, status, number in [
        ("POST", "/probes/", 202, 3),
        ("POST", "/probes/", 500, 1),
        ("POST", "/send-email/", 202, 1),
        ("GET", "", 404, 1),
    ]:
        labels = f'{{method="{method}",route="{route}",status="{status}"}}'
        assert found[requests + labels] == number, labels
    assert not [name for name in found if watched.ends["mail"]["task_id"] in name]
    for task, outcome, number in [
        ("probe", "succeeded", 2),
        ("probe", "retrying", 2),
        ("probe", "failed", 1),
        ("send_email", "failed", 1),
        ("send_email", "succeeded", 0),
        ("write_log", "failed", 0),
    ]:
        assert found[f'task_attempts_total{{outcome="{outcome}",task="{task}"}}'] == number
    assert found['task_duration_seconds_count{task="probe"}'] == 5
    assert found["tasks_waiting"] == 0


def test_metrics_are_named_and_explained_as_prometheus_asks(watched: Watched) -> None:
    need("promtool")
    for url in watched.metrics:
        subprocess.run(["promtool", "check", "metrics"], input=get(url).content, check=True)


def test_prometheus_fills_every_panel_of_the_dashboard(watched: Watched) -> None:
    text = watched.project.read("monitoring/dashboard.json")
    dashboard = json.loads(text)
    told = re.findall(r"^# TYPE (\w+)", get(watched.metrics[0]).text, re.MULTILINE)
    assert [name for name in told if name not in text] == []
    (source,) = dashboard["templating"]["list"]
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] == f"${{{source['name']}}}"
        for target in panel["targets"]:
            query = target["expr"].replace("$__rate_interval", "1m")
            until(lambda query=query: watched.query(query), 60, panel["title"])  # type: ignore[misc]
            seconds = panel["fieldConfig"]["defaults"]["unit"] == "s"
            assert seconds == bool(re.search(r"seconds(_bucket)?\{", query)), panel["title"]
            assert ("quantile(0.95" in query) == ("Slowest 5 %" in panel["title"])
    places = [tuple(panel["gridPos"].values()) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
    up = until(lambda: watched.query("up == 1"), 60, "all is up")
    assert len(up) == len(watched.metrics)


def test_prometheus_evaluates_the_alerts_and_a_failed_task_fires_one(watched: Watched) -> None:
    def rules() -> list[dict[str, Any]]:
        response = get(f"{watched.prometheus}/api/v1/rules").json()
        found: list[dict[str, Any]] = response["data"]["groups"][0]["rules"]
        return found

    until(lambda: all(rule["health"] == "ok" for rule in rules()), 30, "all are evaluated")
    # Of a task that failed before Prometheus first looked nobody saw the increase.
    failed = 'task_attempts_total{outcome="failed", task="probe"}'
    until(lambda: watched.query(failed), 30, "Prometheus has looked")
    response = watched.service.post("/probes/", params={"what": "refuse"})
    assert response.status_code == 202, response.text
    firing = until(
        lambda: watched.query('ALERTS{alertname="TasksFail", alertstate="firing", task="probe"}'),
        60,
        "the alert fires",
    )
    assert len(firing) == 1


def test_traces_go_to_the_collector(watched: Watched) -> None:
    def traced(*texts: bytes) -> bool:
        bodies = b"".join(body for path, body in watched.collector.received if "trace" in path)
        return all(text in bodies for text in texts)

    until(lambda: traced(b"Shop", b"POST /probes/", b"/send-email/"), 30, "the spans arrive")
    watched.service.client.get("/last")
    until(lambda: traced(b"/last"), 30, "all that was due before it is sent")
    # Not the texts of errors, as logs, nor metrics beside Prometheus'.
    assert {path for path, _ in watched.collector.received} == {"/v1/traces"}


def test_nothing_of_opentelemetrys_sdk_is_imported_without_its_endpoint(
    project: Project, tmp_path: Path
) -> None:
    code = (
        f"import sys; from starlette.testclient import TestClient; from {SLUG}.main import app\n"
        "with TestClient(app): print([name for name in sys.modules if 'opentelemetry.sdk' in name])"
    )
    told = project.run(project.bin("python"), "-c", code, DATA_DIR=str(tmp_path))
    assert told.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("configures", "added"), [("True", 1), ("False", 0)])
def test_who_exports_spans_already_has_main_add_no_exporter(
    project: Project, tmp_path: Path, configures: str, added: int
) -> None:
    says = '"auto_configure": {}'.format
    code = f"""if True:
        from unittest.mock import patch
        from fastapi.testclient import TestClient
        from opentelemetry import trace
        from opentelemetry.sdk.trace import TracerProvider

        trace.set_tracer_provider(TracerProvider())  # as opentelemetry-instrument has done by now
        from {SLUG} import main
        with patch.object(TracerProvider, "add_span_processor") as add, TestClient(main.app):
            print(add.call_count)
    """
    project.replace(f"src/{SLUG}/main.py", says("True"), says(configures))
    try:
        settings = {"DATA_DIR": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
        told = project.run(project.bin("python"), "-c", code, **settings)
    finally:
        project.replace(f"src/{SLUG}/main.py", says(configures), says("True"))
    assert told.splitlines()[-1] == str(added)
    assert f"`{says('False')}`" in project.read("README.md")


def test_what_cannot_be_stored_is_counted_and_what_waits_is_seen(watched: Watched) -> None:
    client = watched.service.client
    before = watched.samples()["tasks_refused_total"]
    if watched.redis:
        watched.redis.kill()
        assert client.post("/probes/", params={"what": "sleep 0"}).status_code == 503
        assert "tasks_waiting" not in watched.samples()  # nobody knows
        watched.redis.start()
    else:
        slow = {"what": ["sleep 4"] * 4}
        answers = [client.post("/probes/", params=slow).status_code for _ in range(8)]
        assert 503 in answers  # each of the two processes has its own backlog
    assert watched.samples()["tasks_refused_total"] > before


JOB = 'job="task_service"'
HTTP = f'http_request_duration_seconds_count{{{JOB}, route="/items/", status="%s"}}'
ATTEMPTS = f'task_attempts_total{{{JOB}, task="probe", outcome="%s"}}'
REFUSED = f"tasks_refused_total{{{JOB}}}"
WAITING = {
    "BackgroundTasks": (f"tasks_waiting_oldest_seconds{{{JOB}}}", "280+60x30"),
    "Celery": (f"tasks_waiting{{{JOB}}}", "3x30"),
}
IDLE = {ATTEMPTS % "succeeded": "5x30", ATTEMPTS % "retrying": "5x30"}
HEALTHY = {
    f"up{{{JOB}}}": "1x30",
    HTTP % 202: "0+600x30",
    HTTP % 500: "0+12x30",  # two of a hundred
    HTTP % 422: "0+60x30",  # the clients' errors
    ATTEMPTS % "succeeded": "0+10x30",
    ATTEMPTS % "retrying": "0+1x30",
    ATTEMPTS % "failed": "0x30",
    REFUSED: "0x30",
}
# What differs from a healthy service; when the alert is quiet still, when it fires, what it names.
SICK: dict[str, tuple[dict[str, str], str, str, dict[str, str]]] = {
    "ServiceDown": ({f"up{{{JOB}}}": "0x30"}, "1m", "3m", {"job": SLUG}),
    "RequestsFail": ({HTTP % 500: "0+60x30"}, "4m", "8m", {"route": "/items/"}),
    "TasksRefused": ({REFUSED: "0x10 1x19"}, "10m", "12m", {"job": SLUG}),
    "TasksFail": ({ATTEMPTS % "failed": "0x10 1x19"}, "10m", "12m", {"task": "probe"}),
    "TasksRetry": ({ATTEMPTS % "retrying": "0+30x30"}, "9m", "15m", {"task": "probe"}),
    "TasksWait": (IDLE, "4m", "25m", {}),
}


@pytest.mark.parametrize("backend", ["BackgroundTasks", "Celery"])
def test_each_alert_fires_when_it_should_and_not_before(
    backend: str, bake: Bake, tmp_path: Path
) -> None:
    need("promtool")
    path = bake(task_backend=backend).path / "monitoring" / "alerts.yml"
    subprocess.run(["promtool", "check", "rules", str(path)], check=True, capture_output=True)
    rules = {rule["alert"]: rule for rule in yaml.safe_load(path.read_text())["groups"][0]["rules"]}
    assert rules.keys() == SICK.keys()
    assert all(rule["annotations"]["summary"] for rule in rules.values())
    name, values = WAITING[backend]
    healthy = HEALTHY | {name: "0x30"}

    def test(changed: dict[str, str], *expected: tuple[str, str, bool]) -> dict[str, Any]:
        series = [{"series": each, "values": text} for each, text in (healthy | changed).items()]
        checks = []
        for alert, at, fires in expected:
            labels = SICK[alert][3] | rules[alert]["labels"]
            fired = {"exp_labels": labels, "exp_annotations": rules[alert]["annotations"]}
            checks.append({"alertname": alert, "eval_time": at, "exp_alerts": [fired] * fires})
        return {"interval": "1m", "input_series": series, "alert_rule_test": checks}

    tests = [test({}, *((alert, "29m", False) for alert in SICK))]
    for alert, (changed, quiet, late, _) in SICK.items():
        waits = {name: values} if alert == "TasksWait" else {}
        tests.append(test(changed | waits, (alert, quiet, False), (alert, late, True)))
    unknown = {f"up{{{JOB}}}": "_x30"}  # Prometheus has no such job, or finds nobody in it
    tests.append(test(unknown, ("ServiceDown", "1m", False), ("ServiceDown", "3m", True)))
    # Tasks, or seconds, that wait though attempts end: 11 a minute.
    tests.append(test({name: "1000x30"}, ("TasksWait", "4m", False), ("TasksWait", "25m", True)))
    tests.append(test({name: "100x30"}, ("TasksWait", "29m", False)))
    file = tmp_path / "alerts_test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(path)], "tests": tests}))
    result = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


CROWD = """
import asyncio
from {slug}.api import health

now = []

class Backend:
    async def waiting(self):
        now.append(None)
        await asyncio.sleep(0)
        assert len(now) == 1
        return {{}}

def exposition(gauges):
    now.pop()
    return b"numbers"

async def crowd():
    return await asyncio.gather(*[health.read_metrics(Backend()) for _ in range(5)])

health.exposition = exposition
print({{answer.body for answer in asyncio.run(crowd())}})
"""


def test_scrapes_take_turns(project: Project, tmp_path: Path) -> None:
    code = CROWD.format(slug=SLUG)
    output = project.run(project.bin("python"), "-c", code, DATA_DIR=str(tmp_path))
    assert "{b'numbers'}" in output


def test_folders_of_metrics_last_as_long_as_their_services(
    project: Project, tmp_path: Path
) -> None:
    def start_another(age: float = 61, user: int = os.getuid()) -> set[Path]:
        for folder in tmp_path.glob("*metrics-*"):
            os.utime(folder, (0, time.time() - age))
        code = f"import os; os.getuid = lambda: {user}; import {SLUG}"
        project.run(project.bin("python"), "-c", code, TMPDIR=str(tmp_path))
        return set(tmp_path.glob("*metrics-*"))

    foreign, trap = (tmp_path / f"{SLUG}-metrics-{name}" for name in ("foreign", "trap"))
    for folder in (foreign, trap):
        folder.mkdir()
    os.mkfifo(trap / "lock")
    (foreign / "lock").touch()
    assert start_another(user=os.getuid() + 1) > {foreign, trap}
    shutil.rmtree(trap)
    first = start_another()
    assert foreign not in first
    left = start_another(age=20)
    assert left > first  # it may not be locked yet
    data = tmp_path / "data"
    with running(project, data, "--workers", "2", TMPDIR=str(tmp_path)) as service:
        held = set(tmp_path.glob("*metrics-*")) - left
        assert len(held) == 1 + bool(service.worker)
        assert not any(folder.stat().st_mode & 0o077 for folder in held)  # nobody else can look
        found = start_another()
        assert found >= held
        assert not found & left
        assert service.client.get("/metrics").status_code == 200
    assert not start_another() & held


GENERATIONS = """
import os
from {slug}.metrics import REFUSED, exposition

for _ in range(9):
    if not os.fork():
        REFUSED.inc()
        os._exit(0)
    os.wait()
REFUSED.inc(0.5)
REFUSED.inc(0.5)  # into the same file
print(exposition({{}}).decode())
"""


def test_a_process_takes_over_the_metrics_of_a_dead_one(project: Project, tmp_path: Path) -> None:
    code = GENERATIONS.format(slug=SLUG)
    command = project.bin("python"), "-c", code
    for total in (10.0, 20.0):
        output = project.run(*command, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
        assert f"tasks_refused_total {total}" in output
    assert len(list(tmp_path.glob("counter_*.db"))) == 2


def test_a_folder_of_metrics_that_cannot_be_made_is_named(project: Project, tmp_path: Path) -> None:
    command = [project.bin("python"), "-c", f"import {SLUG}"]
    project.run(*command, PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "new"))  # it is made
    settings = {"PROMETHEUS_MULTIPROC_DIR": "/dev/null/metrics"}
    output = refusal(command, project.path, tmp_path / "log", **settings)
    assert output.startswith("error: PROMETHEUS_MULTIPROC_DIR: ")
    assert len(output.splitlines()) == 1
