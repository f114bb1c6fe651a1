"""What an attacker tries: keys, headers, sizes, paths, hosts, bursts, messages on the broker."""

import ast
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trustme

from harness.project import SLUG, Project
from harness.servers import RabbitMQ, Redis, Server
from harness.service import UPGRADE, Process, Service, free_port, refusal, running, until, uvicorn

from .conftest import Install, forged, started
from .variants import FULL

# The fixtures are costly: one worker makes them once.
pytestmark = pytest.mark.xdist_group("security")

KEY = "open sesame"
only_background_tasks = pytest.mark.parametrize("project", ["BackgroundTasks"], indirect=True)
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@pytest.fixture(scope="module", params=["BackgroundTasks", "Celery"])
def project(request: pytest.FixtureRequest, install: Install) -> Project:
    """Return the fullest project on each backend."""
    (variant,) = [each for each in FULL if each.celery == (request.param == "Celery")]
    return install(variant)


@pytest.fixture(scope="module")
def service(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Run it on a folder that others made, as a volume is; its client has the key."""
    data_dir = tmp_path_factory.mktemp("safe") / "data"
    data_dir.mkdir(0o755)
    settings = {"API_KEY": KEY, "ALLOWED_HOSTS": "[::1],*.example.org,www.example.com"}
    settings |= {"FORWARDED_ALLOW_IPS": "10.0.0.2", "MAILS_PER_MINUTE": "3"}  # the README's proxy
    with running(project, data_dir, **settings) as service:
        service.client.headers.update([(b"X-API-Key", KEY.encode())])
        yield service


@pytest.mark.parametrize("key", [b"", b"schl\xfcssel", b"\xff\x80", b"open", KEY.encode() * 2])
def test_a_wrong_key_is_refused_whatever_its_bytes(service: Service, key: bytes) -> None:
    assert service.client.get("/tasks/x", headers={b"X-API-Key": key}).status_code == 401
    assert service.client.get("/tasks/x").status_code == 404


def test_the_key_is_compared_in_constant_time(project: Project) -> None:
    tree = ast.parse(project.read(f"src/{SLUG}/api/security.py"))
    (check,) = [
        node
        for node in tree.body
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "require_api_key"
    ]
    calls = [ast.unparse(node) for node in ast.walk(check) if isinstance(node, ast.Call)]
    assert any(call.startswith("secrets.compare_digest(") for call in calls)
    assert not [node for node in ast.walk(check) if isinstance(node, ast.Compare)]


def test_every_answer_carries_the_security_headers(service: Service) -> None:
    client = service.client
    answers = {
        200: client.get("/health/live"),
        400: client.get("/health/live", headers={"Host": "evil.example"}),
        401: client.get("/tasks/x", headers={"X-API-Key": "guess"}),
        404: client.get("/nothing"),
        405: client.put("/health/live"),
        413: client.post("/items/", content=b"x" * 65_537),
        422: client.post("/items/"),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        for name, value in HEADERS.items():
            assert answer.headers.get_list(name) == [value]


def test_the_docs_of_development_may_load_what_they_need(service: Service) -> None:
    for path in ("/docs", "/redoc"):
        page = service.client.get(path)
        assert "https://cdn.jsdelivr.net/" in page.text
        assert page.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert page.headers["X-Content-Type-Options"] == "nosniff"


def test_a_host_that_is_not_allowed_is_refused(service: Service) -> None:
    hosts = {"127.0.0.1:1": 200, "[::1]:1": 200, "api.example.org": 200, "x.example.org:1": 200}
    # The last one is not led to its www. either, as no path leads to another.
    for host, status in (hosts | {"example.org.evil": 400, "": 400, "example.com": 400}).items():
        response = service.client.get("/health/live", headers={"Host": host})
        assert response.status_code == status, host


def test_prometheus_has_to_use_a_host_that_is_allowed(service: Service, project: Project) -> None:
    address = {"Host": "10.0.0.7:8000"}  # a pod's; Prometheus sends no other Host than its target
    assert service.client.get("/metrics", headers=address).status_code == 400
    assert "including those that Prometheus calls" in project.read("README.md")


def test_only_the_proxy_that_uvicorn_is_told_of_is_believed(service: Service) -> None:
    assert service.client.get("/", headers=UPGRADE | {"X-Forwarded-For": "6.6.6.6"}).is_error
    until(lambda: '"WebSocket /" 403' in service.api.output(), 30, "it is in the log")
    assert "6.6.6.6" not in service.api.output()


def test_no_path_leads_to_another(service: Service) -> None:
    """A redirect may be to http:// where a proxy has TLS, and a client sends its key there too."""
    for method, path in (("POST", "/items?name=x"), ("GET", "/health/live/"), ("GET", "/docs/")):
        assert service.client.request(method, path).status_code == 404


def test_a_body_that_is_too_large_is_refused(service: Service) -> None:
    query = {"name": "too large"}
    response = service.client.post("/items/", params=query, content=b"x" * 65_537)
    assert response.status_code == 413
    assert "Location" not in response.headers
    response = service.post("/items/", params=query, content=b"x" * 65_536)
    assert response.status_code == 202
    service.wait_for_task(response.json()["task_id"])
    assert (service.data_dir / "log.txt").read_text().count("too large") == 1
    chunked = service.client.post("/items/", params={"name": "Lamp"}, content=iter([b"x" * 65_537]))
    assert chunked.status_code == 202  # nobody reads it


@pytest.mark.parametrize(
    "task_id",
    [
        "..%2F..%2Fetc%2Fpasswd",
        "..%5C..%5Cetc",
        "%2e%2e",
        "%00",
        "%FF",
        "%E2%80%A8",
        "a" * 5000,
        "A" * 32,
        "a" * 31 + "%0A",
        "a" * 32 + "%0A",
    ],
)
def test_an_id_that_is_none_is_not_looked_for(service: Service, task_id: str) -> None:
    assert service.client.get(f"/tasks/{task_id}").status_code == 404


def test_nothing_that_is_sent_forges_a_line_of_a_log(service: Service) -> None:
    client = service.client
    service.wait_for_task(service.post("/items/?name=Lamp").json()["task_id"])
    forged = "x%0d%0aFORGED"
    assert client.get(f"/tasks/{forged}").status_code == 404
    assert client.get(f"/{forged}?{forged}").status_code == 404
    for line_break in ("%0a", "%0d", "%0b", "%0c", "%1c", "%c2%85", "%e2%80%a8", "%e2%80%a9"):
        assert client.post(f"/items/?name=x{line_break}FORGED").status_code == 422
        assert client.post(f"/send-email/?email=a@example.com{line_break}FORGED").status_code == 422
    response = client.get("/health/live", headers={"X-Request-ID": "x FORGED"})
    assert "FORGED" not in response.headers["X-Request-ID"]
    for log in [service.api.output(), (service.data_dir / "log.txt").read_text("utf-8")]:
        assert not [line for line in log.splitlines() if line.startswith("FORGED")]


def test_mails_are_bounded_and_bad_requests_cost_none(service: Service) -> None:
    client = service.client
    for _ in range(5):
        assert client.post("/send-email/", params={"email": "nobody"}).status_code == 422
    email = {"email": "ada@example.com"}
    answers = [client.post("/send-email/", params=email) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 429]
    assert answers[4].headers["Retry-After"] == "60"
    assert "Location" not in answers[4].headers
    for answer in answers[:3]:
        service.wait_for_task(answer.json()["task_id"])
    assert (service.data_dir / "emails.log").read_text().count("To: ") == 3


def test_nobody_else_can_read_what_is_kept(service: Service) -> None:
    response = service.post("/items/", params={"name": "private"})
    service.wait_for_task(response.json()["task_id"])
    assert (service.data_dir / "log.txt").stat().st_mode & 0o777 == 0o600
    for path in service.data_dir.rglob("*"):
        inside = [path, *path.parents][: len(path.relative_to(service.data_dir).parts)]
        assert any(part.stat().st_mode & 0o077 == 0 for part in inside), path


@only_background_tasks
def test_production_hides_the_docs_and_reads_its_key_from_a_file(
    project: Project, tmp_path: Path
) -> None:
    (tmp_path / "api_key").write_text("")
    settings = {"ENVIRONMENT": "production", "SECRETS_DIR": str(tmp_path)}
    settings["DATA_DIR"] = str(tmp_path / "data")
    output = refusal(uvicorn(project), project.path, tmp_path / "log", **settings)
    assert "error: API_KEY must be set" in output
    (tmp_path / "api_key").write_text("from a file\n")
    for pages, status in [("", 404), ("true", 200)]:
        code = (
            f"import json; from starlette.testclient import TestClient as C;"
            f"from {SLUG}.main import app; c = C(app, headers={{'X-API-Key': 'from a file'}});"
            "paths = ('/docs', '/redoc', '/openapi.json', '/tasks/x');"
            "answers = [c.get(path) for path in paths];"
            "print([answer.status_code for answer in answers]);"
            "print('default-src' in answers[0].headers['Content-Security-Policy'])"
        )
        output = project.run(project.bin("python"), "-c", code, PAGES=pages, **settings)
        assert output.splitlines()[-2:] == [str([status] * 3 + [404]), str(status == 404)]


@only_background_tasks
@pytest.mark.parametrize(
    ("name", "value"),
    [("LOG_LEVEL", "loud"), ("PROMETHEUS_MULTIPROC_DIR", "/dev/null/metrics")],
)
def test_a_bad_setting_ends_several_processes_too(
    project: Project, tmp_path: Path, name: str, value: str
) -> None:
    settings = {"DATA_DIR": str(tmp_path / "data"), name: value}
    process = Process(
        uvicorn(project, "--workers", "2"), project.path, tmp_path / "log", **settings
    )
    try:
        until(lambda: not process.alive(), 60, "it stops")  # with uvicorn's code, which is 0
    finally:
        process.stop()
    assert f"error: {name}: " in process.output()


def test_settings_are_read_from_a_file_and_never_show_a_secret(
    project: Project, tmp_path: Path
) -> None:
    secrets = ["API_KEY", "SMTP_PASSWORD"]
    values = dict.fromkeys(secrets, "hidden")
    if "celery" in project.read("pyproject.toml"):
        values |= dict.fromkeys(
            ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"), "redis://:hidden@localhost/0"
        )
    code = f"from {SLUG}.settings import get_settings; print(get_settings())"
    values["LOG_LEVEL"] = "DEBUG"
    (tmp_path / ".env").write_text("".join(f"{name}={values[name]}\n" for name in values))
    output = Project(tmp_path).run(project.bin("python"), "-c", code)
    assert "log_level='DEBUG'" in output
    assert "hidden" not in output
    (elsewhere := tmp_path / "elsewhere").mkdir()
    output = Project(elsewhere).run(project.bin("python"), "-c", code)
    assert "log_level='INFO'" in output
    assert f"'{elsewhere / 'data'}'" in output
    assert "`WorkingDirectory`" in project.read("README.md")


@only_background_tasks
def test_no_level_of_the_log_shows_a_key(project: Project, tmp_path: Path) -> None:
    with running(project, tmp_path / "data", LOG_LEVEL="DEBUG", API_KEY=KEY) as service:
        assert service.client.get("/tasks/x", headers={"X-API-Key": KEY}).status_code == 404
        assert service.client.get("/", headers=UPGRADE | {"X-API-Key": KEY}).status_code == 403
        until(lambda: "rejected" in service.api.output(), 30, "it is in the log")
        assert KEY not in service.api.output()


@only_background_tasks
def test_headers_are_bounded_where_the_readme_says(project: Project, tmp_path: Path) -> None:
    assert "`--http h11`" in project.read("README.md")
    with running(project, tmp_path / "data", "--http", "h11") as service:
        for start in (b"GET /health/live HTTP/1.1\r\nHost: x\r\nX-Long: ", b"GET /health/live?"):
            with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
                connection.sendall(start + b"a" * 100_000)
                try:
                    answer = connection.recv(100)
                except ConnectionResetError:
                    answer = b""
                assert answer == b"" or b" 400 " in answer
        assert service.client.get("/health/live").status_code == 200


FORGE = """
import os
import pickle
import sys
import uuid

from {slug}.settings import get_settings
from {slug}.taskqueue.celery import create_celery

PICKLE = "application/x-python-serialize"

class Evil:
    def __reduce__(self):
        return open, (sys.argv[1], "w")

app = create_celery(get_settings())
headers = lambda: {{"task": "write_log", "id": uuid.uuid4().hex, "lang": "py"}}
with app.connection_for_write() as connection, connection.Producer() as producer:
    for body, content_type, encoding in [
        (pickle.dumps([[], {{"message": Evil()}}, {{}}]), PICKLE, "binary"),
        (pickle.dumps(Evil()), "application/json", "binary"),
        (b"!!python/object/apply:os.system ['id']", "application/x-yaml", "utf-8"),
        (b"not json, for ada@example.com", "application/json", "utf-8"),
        (b"\\xff, for ada@example.com", "application/json", "utf-8"),
        (b"[1, 2, 3]", "application/json", "utf-8"),
        (b"[]", "application/json", "utf-8"),
        (b"[1]", "application/json", "utf-8"),
    ]:
        producer.publish(
            body, content_type=content_type, content_encoding=encoding, headers=headers(),
            routing_key="{slug}", exchange="{slug}", serializer=None,
        )
    body = [[], {{"message": "ada@example.com"}}, {{}}]
    for odd in ({{"eta": "soon"}}, {{"expires": "soon"}}):
        producer.publish(body, headers=headers() | odd, routing_key="{slug}", exchange="{slug}")
    limit = {{"timelimit": ["a", "b"]}}
    for odd in ({{"task": ["write_log"]}}, {{"id": {{"x": 1}}}}, {{"stamped_headers": 1}}, limit):
        producer.publish(
            [[], {{}}, {{}}], headers=headers() | odd, routing_key="{slug}", exchange="{slug}"
        )
    producer.publish(
        headers() | limit | {{"args": [], "kwargs": {{}}}}, routing_key="{slug}", exchange="{slug}"
    )
    producer.publish({{"no": "task"}}, routing_key="{slug}", exchange="{slug}", serializer="json")
    producer.publish({{"task": "x"}}, routing_key="{slug}", exchange="{slug}", serializer="json")
    producer.publish([], headers={{"task": "write_log"}}, routing_key="{slug}", exchange="{slug}")
    producer.publish([], headers={{"task": "x"}}, routing_key="{slug}", exchange="{slug}")
app.send_task("os.system", kwargs={{"command": "id"}}, task_id=uuid.uuid4().hex)
app.send_task("write_log", args=['{{"evil": 1}}'], task_id="e" * 32)
app.send_task("write_log", args=["a", "b"], task_id="f" * 32)
app.send_task("write_log", args=['{{"message": {{"not": "text"}}}}'], task_id="d" * 32)
app.send_task("write_log", args=[{{"not": "text"}}], task_id="c" * 32)
"""


@pytest.mark.parametrize("project", ["Celery"], indirect=True)
@pytest.mark.parametrize("broker", ["embedded", "redis"])
def test_forged_messages_do_no_harm(project: Project, tmp_path: Path, broker: str) -> None:
    settings: dict[str, str] = {}
    with ExitStack() as stack:
        if broker == "redis":
            redis = stack.enter_context(started(Redis(tmp_path / "redis")))
            settings["CELERY_BROKER_URL"] = redis.url
        service = stack.enter_context(running(project, tmp_path / "data", **settings))
        script = tmp_path / "forge.py"
        script.write_text(FORGE.format(slug=SLUG))
        evil = tmp_path / "evil"
        forge = [project.bin("python"), str(script), str(evil)]
        project.run(*forge, DATA_DIR=str(service.data_dir), **settings)
        if broker == "redis":
            redis.ask("LPUSH", SLUG, forged(body=None))
        response = service.post("/items/", params={"name": "honest"})
        assert service.wait_for_task(response.json()["task_id"])["status"] == "succeeded"
        assert service.worker
        assert service.worker.alive()
        assert not evil.exists()
        assert "honest" in (service.data_dir / "log.txt").read_text()
        for task_id in ("c" * 32, "d" * 32, "e" * 32):
            assert service.wait_for_task(task_id)["status"] == "failed"
        refused = "ffffffff] raised unexpected: TypeError"  # before it began: it has no status
        output = service.worker.output
        until(lambda: refused in output(), 30, "the arguments are refused")
        assert "ada@example.com" not in output()
        assert service.client.get(f"/tasks/{'f' * 32}").status_code == 404


@contextmanager
def over_tls(broker: Server) -> Iterator[dict[str, str]]:
    """Run a broker with a certificate for 127.0.0.1; gives the settings that lead to it."""
    authority = trustme.CA()
    files = {name: str(broker.folder / f"{name}.pem") for name in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(files["ca"])
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(files["cert"])
    certificate.private_key_pem.write_to_path(files["key"])
    port = free_port()
    if isinstance(broker, RabbitMQ):
        with (broker.folder / "rabbitmq.conf").open("a") as configuration:
            configuration.write(
                f"listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {files['ca']}\n"
                f"ssl_options.certfile = {files['cert']}\nssl_options.keyfile = {files['key']}\n"
            )
    with started(broker):
        if isinstance(broker, Redis):
            options = {"cert-file": files["cert"], "key-file": files["key"], "port": str(port)}
            options = {"ca-cert-file": files["ca"], "auth-clients": "no"} | options
            words = [word for name, value in options.items() for word in (f"tls-{name}", value)]
            assert broker.ask("CONFIG", "SET", *words) == "+OK\r\n"
        url = broker.url.replace("://", "s://").replace(str(broker.port), str(port))
        yield {"CELERY_BROKER_URL": url, "SSL_CERT_FILE": files["ca"]}


FAIL_OVER = f"""
from {SLUG}.worker import app

with app.connection_for_read() as connection:
    connection.ensure_connection(max_retries=1)
"""


@pytest.mark.parametrize("project", ["Celery"], indirect=True)
@pytest.mark.parametrize("kind", [Redis, RabbitMQ])
def test_a_broker_over_tls_must_have_a_certificate_of_its_name(
    project: Project, tmp_path: Path, kind: type[Redis] | type[RabbitMQ]
) -> None:
    broker = kind(tmp_path / "broker")
    with over_tls(broker) as settings:
        with running(project, tmp_path / "data", **settings) as service:
            response = service.post("/items/", params={"name": "sealed"})
            assert service.wait_for_task(response.json()["task_id"])["status"] == "succeeded"
            if isinstance(broker, Redis):  # and not by kombu's own transport
                assert "blmove" in broker.ask("INFO", "commandstats")
        if isinstance(broker, RabbitMQ):  # each server of a cluster has a certificate of its own
            assert "with `;` between them" in project.read("README.md")
            first = f"amqps://guest:guest@127.1:{free_port()}//"  # which is down
            cluster = settings | {"CELERY_BROKER_URL": f"{first};{settings['CELERY_BROKER_URL']}"}
            project.run(project.bin("python"), "-c", FAIL_OVER, **cluster)
        if isinstance(broker, Redis):  # in the open, so that it is as a broker that it is refused
            settings["CELERY_RESULT_BACKEND"] = broker.url
        url = settings["CELERY_BROKER_URL"].replace("127.0.0.1", "127.1")  # another name of it
        service = Service(project, tmp_path / "refused", **settings | {"CELERY_BROKER_URL": url})
        try:
            worker = service.worker
            assert worker
            until(lambda: "certificate" in service.api.output(), 60, "the service refuses it")
            until(lambda: "certificate" in worker.output(), 60, "and so does its worker")
            until(lambda: "running on" in service.api.output(), 60, "it serves")
            assert service.client.post("/items/", params={"name": "open"}).status_code == 503
        finally:
            service.stop()
