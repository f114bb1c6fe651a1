"""Celery on a real Redis and a real RabbitMQ: the contract, and what becomes of a task that fails.

The servers here serve many tests and are left in peace; test_celery_faults.py hurts its own.
"""

import os
import re
import shutil
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from harness.mail import mail_server
from harness.project import SLUG, Project
from harness.servers import RabbitMQ, Redis, Server
from harness.service import Process, Service, celery, free_port, refusal, running, until, uvicorn

from .conftest import DELIVERY, Bake, forged, in_peace, reason, refusals, started
from .test_service import keep_the_http_contract
from .variants import VARIANTS, Variant

CELERY = [variant for variant in VARIANTS if variant.celery]


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with started(Redis(tmp_path_factory.mktemp("calm") / "redis")) as server:
        yield server


def urls(broker: Server, results: Server) -> dict[str, str]:
    """Return the settings that name both."""
    return {"CELERY_BROKER_URL": broker.url, "CELERY_RESULT_BACKEND": results.url}


# Each worker has a Redis, see in_peace for RabbitMQ.
@pytest.fixture(params=["redis", pytest.param("rabbitmq", marks=in_peace)])
def settings(request: pytest.FixtureRequest, redis: Server, tmp_path: Path) -> dict[str, str]:
    broker: Server = request.getfixturevalue(request.param)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    # Not in the environment, as they are in test_celery_faults.py: there Celery looks by itself.
    for name, url in urls(broker, redis).items():
        (secrets / name.lower()).write_text(url, "utf-8")
    return {"SECRETS_DIR": str(secrets)}


@pytest.fixture(scope="session")
def probes(probed: Callable[[str], Project]) -> Project:
    """Return a Celery project with a task that does what it is told."""
    return probed("Celery")


@pytest.fixture(scope="module")
def aside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Run a Redis for the shared service, whose queue no other service has."""
    with started(Redis(tmp_path_factory.mktemp("aside") / "redis")) as server:
        yield server


ON_REDIS = pytest.param("redis", marks=pytest.mark.xdist_group("redis"))
on_redis = pytest.mark.parametrize("shared", [ON_REDIS], indirect=True)


@pytest.fixture(scope="module", params=[ON_REDIS, pytest.param("rabbitmq", marks=in_peace)])
def shared(
    request: pytest.FixtureRequest,
    probes: Project,
    aside: Redis,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Run a service and a worker for many tests: to start them takes longer than most of these."""
    rabbitmq = request.param == "rabbitmq"
    broker = request.getfixturevalue("rabbitmq").apart() if rabbitmq else aside
    own = {"TASK_CONCURRENCY": "3", "METRICS_PORT": str(free_port())}
    data_dir = tmp_path_factory.mktemp("shared") / "data"
    with running(probes, data_dir, **urls(broker, aside), **own) as service:
        yield service


@pytest.fixture(name="service")
def emptied(shared: Service) -> Service:
    """Return the shared service, with nothing of earlier tests in its files."""
    assert shared.worker
    (shared.data_dir / "gate").unlink(missing_ok=True)
    for path in (shared.data_dir / "probe.log", shared.worker.log):
        path.write_bytes(b"")
    return shared


@pytest.mark.parametrize("variant", CELERY, indirect=True, ids=lambda variant: variant.id)
def test_keeps_the_http_contract_on_a_real_broker(
    installed: Project, variant: Variant, settings: dict[str, str], tmp_path: Path
) -> None:
    with (
        mail_server() as mailbox,
        running(installed, tmp_path / "data", **settings, **mailbox.settings) as service,
    ):
        keep_the_http_contract(service, variant, mailbox)


def add(service: Service, *what: str) -> list[str]:
    """Enqueue tasks in one request; returns their ids."""
    response = service.post("/probes/", params={"what": what})
    assert response.status_code == 202, response.text
    ids: list[str] = response.json()
    return ids


def first_answer(
    ask: Callable[[], httpx2.Response], outage: Callable[[], object]
) -> httpx2.Response:
    """Return what a service answers to the first request after an outage, which it accepts.

    If that waited for the broker in vain, as on a busy machine it may, after another outage.
    """

    def accepted() -> httpx2.Response | None:
        response = ask()
        if response.is_success:
            return response
        assert response.elapsed.total_seconds() > 0.2, response.text  # it did wait
        outage()
        return None

    return until(accepted, 60, "the first request is accepted")


def events(service: Service) -> list[str]:
    """Return a line for each begin and each end of a task."""
    path = service.data_dir / "probe.log"
    return path.read_text("utf-8").splitlines() if path.exists() else []


def those_that(service: Service, word: str) -> list[str]:
    """Return the ids of the tasks in the order in which they began, or ended."""
    return [line.split()[0] for line in events(service) if line.endswith(word)]


def test_a_task_that_fails_says_so_and_leaves_the_others_alone(service: Service) -> None:
    poison, permanent, transient = add(service, "die", "refuse", "heal")
    others = add(service, *["sleep 0"] * 20)
    status = service.wait_for_task(permanent)
    assert (status["status"], status["attempts"]) == ("failed", 1)
    assert status["error"] == "ValueError: no"
    status = service.wait_for_task(transient)
    assert (status["status"], status["attempts"]) == ("succeeded", 3)
    begin, end = (datetime.fromisoformat(status[f"{at}_at"]) for at in ("enqueued", "finished"))
    assert end - begin > timedelta(seconds=0.29)  # two waits
    status = service.wait_for_task(poison, 90)
    assert (status["status"], status["attempts"]) == ("failed", 3)
    assert "died" in status["error"]
    assert {service.wait_for_task(task_id)["status"] for task_id in others} == {"succeeded"}
    assert service.worker
    assert service.worker.output().count("task failed: ValueError") == 1
    deaths = [line for line in service.worker.output().splitlines() if "exited with" in line]
    assert all("multiprocessing" in line for line in deaths), deaths  # in the format of all
    assert len(deaths) == 3
    assert service.worker.output().count(transient) == 3  # a line for each attempt
    begun = those_that(service, "begins")
    assert [begun.count(task_id) for task_id in (poison, permanent, transient)] == [3, 1, 3]


def test_a_task_that_is_to_be_tried_again_says_so(service: Service) -> None:
    (task_id,) = add(service, "heal late")
    until(lambda: events(service), 60, "it runs")
    assert service.worker
    os.kill(service.worker.pid, signal.SIGSTOP)  # its child runs on, but none tries it again
    try:
        (service.data_dir / "gate").touch()
        url = f"/tasks/{task_id}"
        until(lambda: "retrying" in service.client.get(url).text, 30, "it is to be tried again")
    finally:
        os.kill(service.worker.pid, signal.SIGCONT)
    assert service.wait_for_task(task_id)["attempts"] == 3


def test_a_task_adds_another_once_it_has_succeeded(service: Service) -> None:
    parents = add(service, "add", "add again")
    for task_id in parents:
        assert service.wait_for_task(task_id)["status"] == "succeeded"
    until(lambda: len(those_that(service, "ends")) == 4, 30, "theirs have run")
    added = {*those_that(service, "ends")} - {*parents}
    assert [service.wait_for_task(task_id)["attempts"] for task_id in added] == [1, 1]


@on_redis
def test_a_worker_runs_as_many_tasks_at_a_time_as_it_is_told(service: Service) -> None:
    ids = add(service, *["wait"] * 4)
    until(lambda: len(events(service)) == 3, 60, "three have begun")
    time.sleep(1)  # in which the fourth would
    (service.data_dir / "gate").touch()
    for task_id in ids:
        service.wait_for_task(task_id)
    assert [line.split()[-1] for line in events(service)[:4]] == ["begins"] * 3 + ["ends"]
    assert those_that(service, "begins")[-1] == ids[-1]  # the first to come is the first to run


CONTROL = f"""
import sys

from {SLUG}.worker import app

waits, runs = sys.argv[1:]
print(app.control.inspect().active())
app.control.revoke(waits)
app.control.terminate(runs, signal="KILL")
"""


def test_a_revoked_task_has_failed_and_remote_control_leaves_nothing(
    probes: Project, redis: Redis, tmp_path: Path
) -> None:
    rights = re.search(r"Redis needs no more rights than `(.*)`", probes.read("README.md"))
    assert rights  # they do for remote control too
    assert redis.ask("ACL", "SETUSER", "ada", "on", ">secret", *rights[1].split()) == "+OK\r\n"
    url = redis.url.replace("//", "//ada:secret@")
    settings = {"CELERY_BROKER_URL": url, "TASK_CONCURRENCY": "1"}
    with running(probes, tmp_path / "data", **settings) as service:
        runs, waits, after = add(service, "stay", "sleep 0", "sleep 0")
        until(lambda: those_that(service, "begins"), 60, "the first one runs")
        assert redis.ask("HLEN", f"{SLUG}.unacked") == ":1\r\n"  # another worker could run the rest
        fresh = redis.ask("ZCOUNT", f"{SLUG}.unacked_index", str(time.time() - 20), "inf")
        assert fresh == ":1\r\n"  # and none gives it away
        assert redis.ask("PUBSUB", "NUMPAT") == ":1\r\n"  # it listens to no other worker's events
        service.run("python", "-c", CONTROL, waits, runs)
        assert service.wait_for_task(after)["status"] == "succeeded"
        for task_id in (runs, waits):
            status = service.wait_for_task(task_id)
            assert (status["status"], status["error"]) == ("failed", "revoked")
        assert those_that(service, "begins") == [runs, after]
        until(lambda: redis.ask("HLEN", f"{SLUG}.unacked") == ":0\r\n", 30, "nothing is held")


def test_a_worker_whose_metrics_were_removed_loses_no_task(
    probes: Project, redis: Redis, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics"
    settings = {"CELERY_BROKER_URL": redis.url, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    with running(probes, tmp_path / "data", **settings) as service:
        shutil.rmtree(metrics)  # as logind does in /dev/shm when the account's person logs out
        for task_id in add(service, "die-once", "sleep 0"):  # a new process opens its files anew
            assert service.wait_for_task(task_id)["status"] == "succeeded"


def test_tasks_of_an_old_broker_end_on_it_and_purged_ones_stay_queued(
    probes: Project, redis: Redis, tmp_path: Path
) -> None:
    data, old = tmp_path / "data", {"CELERY_BROKER_URL": redis.url}
    with running(probes, data, **old) as service:
        assert service.worker
        service.worker.stop()
        (purged,) = add(service, "sleep 0")
        assert '"argsrepr": ""' in redis.ask("LINDEX", SLUG, "0")  # what events would tell
        probes.run(*celery(probes, "purge", "-f"), **service.settings)
        (task_id,) = add(service, "heal")
    new = {"CELERY_BROKER_URL": redis.url[:-1] + "1", "CELERY_RESULT_BACKEND": redis.url}
    with running(probes, data, **new) as service:
        settings = {"DATA_DIR": str(data), **old}
        command = celery(probes, "worker", "-E")  # for monitors; its tasks come all the same
        worker = Process(command, probes.path, tmp_path / "log", **settings)
        try:
            assert service.wait_for_task(task_id)["status"] == "succeeded"
            assert service.get(f"/tasks/{purged}").json()["status"] == "queued"
        finally:
            worker.stop()


GIVE_AWAY = f"""
from {SLUG}.worker import app

with app.connection_for_read() as connection:
    for _ in range(2):  # the first look of a connection is skipped
        connection.default_channel.qos.restore_visible()
        print("looked", flush=True)
"""


def test_a_stopping_worker_keeps_its_tasks_from_all_but_those_that_the_readme_warns_of(
    probes: Project, redis: Redis, tmp_path: Path
) -> None:
    def be_silent(seconds: int) -> None:  # which need not pass
        tag = redis.ask("ZRANGE", f"{SLUG}.unacked_index", "0", "0").split()[2]
        redis.ask("ZADD", f"{SLUG}.unacked_index", str(time.time() - seconds), tag)

    settings = {"CELERY_BROKER_URL": redis.url, "DATA_DIR": str(tmp_path / "data")}
    with running(probes, tmp_path / "data", **settings, SHUTDOWN_GRACE="120") as service:
        assert service.worker
        stopping = service.worker
        (running_on,) = add(service, "stay")
        until(lambda: events(service), 60, "it runs")
        os.kill(stopping.pid, signal.SIGTERM)
        until(lambda: "shutting down" in stopping.output(), 30, "it stops")
        be_silent(90)  # less than 120 + 20: what gives away takes a while to start
        service.run("python", "-c", GIVE_AWAY)
        assert redis.ask("HLEN", f"{SLUG}.unacked") == ":1\r\n"
        settings |= {"SHUTDOWN_GRACE": "1", "CELERY_RESULT_BACKEND": redis.url[:-1] + "1"}
        other = Process(celery(probes, "worker"), probes.path, tmp_path / "log", **settings)
        try:
            (kept_elsewhere,) = add(service, "sleep 0")
            until(lambda: kept_elsewhere in those_that(service, "ends"), 30, "it is run")
            assert service.get(f"/tasks/{kept_elsewhere}").json()["status"] == "queued"
            be_silent(1 + 20 + 1)
            until(lambda: those_that(service, "begins").count(running_on) == 2, 30, "it runs twice")
            assert stopping.alive()
            assert "Traceback" not in stopping.output()
        finally:
            other.kill()
            stopping.kill()
            redis.ask("FLUSHALL")


DIE = f"""
import os

from {SLUG}.taskqueue.redis import QoS

QoS.restore_by_tag = lambda *_: os._exit(0)
{GIVE_AWAY}"""


def test_a_worker_that_dies_as_it_gives_tasks_away_stops_no_other_for_long(
    probes: Project, redis: Redis
) -> None:
    redis.ask("ZADD", f"{SLUG}.unacked_index", "1", "lost")
    told = probes.run(probes.bin("python"), "-c", DIE, CELERY_BROKER_URL=redis.url)
    assert told.count("looked") == 1  # workers that were all cut off renew their claims first
    assert 0 < int(redis.ask("PTTL", f"{SLUG}.unacked_mutex")[1:]) <= 10_000
    redis.ask("FLUSHALL")


def test_services_on_one_broker_run_their_own_tasks_only(
    service: Service, probes: Project, bake: Bake, aside: Redis, tmp_path: Path
) -> None:
    other = bake(task_backend="Celery", project_slug="other_task_service")
    own = {"PYTHONPATH": str(other.path / "src"), "DATA_DIR": str(tmp_path), "METRICS_PORT": ""}
    worker = Process(
        [probes.bin("celery"), "-A", "other_task_service.worker", "worker", "-n", "other"],
        other.path,
        tmp_path / "log",
        **service.settings | own,
    )
    try:
        until(lambda: " ready." in worker.output(), 60, "the other service's worker is ready")
        ids = add(service, "sleep 3", *["sleep 0"] * 20)
        until(lambda: those_that(service, "begins"), 60, "one is running")
        # Celery's own: of others' tasks there, one that runs for long would be run again.
        assert "\nunacked" not in aside.ask("KEYS", "unacked*")

        def ping() -> str | None:
            with suppress(AssertionError):  # on a busy machine none may answer within its second
                return probes.run(*celery(probes, "inspect", "ping"), **service.settings)
            return None

        told = until(ping, 60, "a worker answers")
        assert "1 node online" in told  # not the other's, which could be told to stop
        statuses = [service.wait_for_task(task_id)["status"] for task_id in ids]
        assert statuses == ["succeeded"] * len(ids)
    finally:
        worker.stop()


def test_sigterm_lets_tasks_end_and_gives_the_rest_back(
    probes: Project, settings: dict[str, str], tmp_path: Path
) -> None:
    with running(probes, tmp_path / "data", **settings, SHUTDOWN_GRACE="5") as service:
        worker = service.worker
        assert worker
        (long,) = add(service, "again 60")
        until(lambda: those_that(service, "begins").count(long) == 2, 60, "it is tried again")
        short, *rest = add(service, "wait", *["sleep 0"] * 5)
        until(lambda: short in those_that(service, "begins"), 60, "both are running")
        start = time.monotonic()
        os.kill(worker.pid, signal.SIGTERM)
        until(lambda: "shutting down" in worker.output(), 30, "it stops")
        (service.data_dir / "gate").touch()
        assert worker.wait(60) == 0
        assert time.monotonic() - start < 5 + 10
        assert those_that(service, "ends") == [short]
        service.restart_worker()
        until(lambda: those_that(service, "begins").count(long) == 3, 20, "the long one runs again")
        assert [service.wait_for_task(task_id)["attempts"] for task_id in [short, *rest]] == [1] * 6
        status = service.wait_for_task(long)
        assert (status["status"], status["attempts"]) == ("succeeded", 3)


LATER = f"""
import sys

from {SLUG}.worker import app

countdown, *ids = sys.argv[1:]
for task_id in ids:
    arguments = ['{{"what": "sleep 1"}}']
    app.send_task("probe", arguments, None, int(countdown), task_id=task_id, ignore_result=True)
"""


def later(service: Service, seconds: int, *ids: str) -> None:
    """Publish tasks that wait for so long, as those do that are tried again."""
    service.run("python", "-c", LATER, str(seconds), *ids)


def test_tasks_that_wait_to_be_tried_again_hold_up_no_other(service: Service) -> None:
    later(service, 3600, *(new * 32 for new in "cdef"))  # more than the worker runs at a time
    time.sleep(1)  # in which it takes them, if it is to wait itself
    (task_id,) = add(service, "sleep 0")
    assert service.wait_for_task(task_id)["status"] == "succeeded"


AHEAD = f"""
from datetime import timedelta

from {SLUG}.worker import app

now = app.now
app.now = lambda: now() + timedelta(hours=1)
{LATER}"""


@pytest.mark.parametrize("shared", [pytest.param("rabbitmq", marks=in_peace)], indirect=True)
def test_on_rabbitmq_a_retry_of_another_clock_comes_in_time(service: Service) -> None:
    ids = [new * 32 for new in "4567"]  # more than the worker runs at a time
    service.run("python", "-c", AHEAD, "1", *ids)
    (task_id,) = add(service, "sleep 0")
    assert service.wait_for_task(task_id, 20)["status"] == "succeeded"
    assert {service.wait_for_task(task_id, 20)["attempts"] for task_id in ids} == {1}


def test_a_long_task_keeps_its_worker_and_an_endless_one_is_ended(
    probes: Project, redis: Redis, tmp_path: Path
) -> None:
    settings = {"CELERY_BROKER_URL": redis.url, "SHUTDOWN_GRACE": "1", "TASK_CONCURRENCY": "3"}
    with running(probes, tmp_path / "data", **settings, TASK_TIME_LIMIT="31") as service:
        redis.ask("CONFIG", "RESETSTAT")
        # Redis gives away what no worker claims for 21 s.
        long, endless = add(service, "sleep 26", "sleep 300")
        later(service, 28, waits := "b" * 32)
        status = service.wait_for_task(endless, 90)
        assert (status["status"], status["attempts"]) == ("failed", 1)
        assert "SoftTimeLimitExceeded" in status["error"]
        until(lambda: waits in those_that(service, "ends"), 30, "the later one has run")
        for task_id in (long, waits):
            status = service.wait_for_task(task_id)
            assert (status["status"], status["attempts"]) == ("succeeded", 1)
        assert sorted(those_that(service, "begins")) == sorted([long, endless, waits])
        asked = redis.ask("INFO", "commandstats")
        assert "cmdstat_subscribe" not in asked  # nobody waits for what a task returns
        assert "cmdstat_publish" not in asked  # nor does the worker tell others that it lives
        looks = re.search(r"cmdstat_zrange:calls=(\d+)", asked)
        assert looks
        assert int(looks[1]) >= 28 // 5  # what a dead worker has left is looked for each 5 s
    assert "for longer than `TASK_TIME_LIMIT`" in probes.read("README.md")


@on_redis
def test_a_task_starts_processes_by_subprocess_alone(service: Service, probes: Project) -> None:
    run, fork = add(service, "run", "fork")
    assert service.wait_for_task(run)["status"] == "succeeded"
    assert "daemonic processes" in service.wait_for_task(fork)["error"]
    assert "by `subprocess`: `multiprocessing` does not work" in probes.read("README.md")


def test_a_task_that_ignores_its_time_limit_is_killed_and_in_the_end_given_up(
    probes: Project, settings: dict[str, str], tmp_path: Path
) -> None:
    with running(probes, tmp_path / "data", **settings, TASK_TIME_LIMIT="1") as service:
        (stubborn,) = add(service, "stay")
        status = service.wait_for_task(stubborn, 120)
        assert (status["status"], status["attempts"]) == ("failed", 3)
        assert "died" in status["error"]

        def works() -> bool:  # at last: on a busy machine a second may be too little for anything
            (other,) = add(service, "sleep 0")
            return bool(service.wait_for_task(other)["status"] == "succeeded")

        until(works, 30, "its worker works on")


def test_old_records_in_a_folder_are_forgotten_as_a_worker_starts(
    probes: Project, tmp_path: Path
) -> None:
    with running(probes, tmp_path / "data", TASK_HISTORY="60", SHUTDOWN_GRACE="60") as service:
        assert service.worker
        old, new = add(service, "sleep 0", "sleep 0")
        for task_id in (old, new):
            service.wait_for_task(task_id)
        service.worker.stop(seconds=30)  # nothing runs: it waits for nothing
        (record,) = (service.data_dir / "results").glob(f"*{old}")
        os.utime(record, (time.time() - 61,) * 2)
        service.restart_worker()
        codes = [service.get(f"/tasks/{task_id}").status_code for task_id in (old, new)]
        assert codes == [404, 200]


def test_a_folder_of_records_on_windows_has_a_url_that_a_worker_can_show(probes: Project) -> None:
    code = f"""
from pathlib import PureWindowsPath
from types import SimpleNamespace

from kombu.utils.url import maybe_sanitize_url
from {SLUG}.taskqueue.celery import _result_backend

Folder = type("Folder", (PureWindowsPath,), {{"mkdir": lambda *_, **__: None}})
settings = SimpleNamespace(celery_result_backend="", data_dir=Folder(r"C:\\data"))
scheme, _, url = _result_backend(settings).partition("+")
print(maybe_sanitize_url(url), url)
"""
    shown, url = probes.run(probes.bin("python"), "-c", code).split()
    assert shown  # in its banner; it ends where that can't be made
    assert url == "file://C:/data/results"


def test_a_message_is_taken_from_a_folder_without_a_way_round(
    probes: Project, tmp_path: Path
) -> None:
    # By the folder for temporary files, on another disk, two workers took it at the same time.
    code = f"""
import tempfile

from {SLUG}.taskqueue.task import Call
from {SLUG}.worker import app, publish

tempfile.tempdir = "no/such/folder"
publish(app, [Call("probe", "1", "", "ca11", 0), Call("probe", "2", "", "ca12", 0)], float("inf"))
with app.connection_for_read() as connection:
    for _ in range(2):
        print(connection.default_channel._get("{SLUG}")["headers"]["id"])
"""
    told = probes.run(probes.bin("python"), "-c", code, DATA_DIR=str(tmp_path))
    assert set(told.split()[-2:]) == {"ca11", "ca12"}
    assert not list((tmp_path / "broker").glob("*.*"))


def test_a_record_is_kept_until_its_task_has_ended_and_forgotten_later(
    probes: Project, redis: Redis, tmp_path: Path
) -> None:
    # Named by itself: Celery reads this variable too, and must not take it for another backend.
    settings = {"CELERY_RESULT_BACKEND": redis.url, "CELERY_BROKER_URL": redis.url}
    with running(probes, tmp_path / "data", **settings, TASK_HISTORY="4") as service:
        (task_id,) = add(service, "wait")
        until(lambda: those_that(service, "begins"), 60, "it runs")
        time.sleep(5)  # longer than TASK_HISTORY
        assert service.get(f"/tasks/{task_id}").json()["status"] == "running"
        (service.data_dir / "gate").touch()
        assert service.wait_for_task(task_id)["status"] == "succeeded"
        url = f"/tasks/{task_id}"
        until(lambda: service.client.get(url).status_code == 404, 30, "its record is forgotten")


@on_redis
def test_readiness_leaves_alone_what_others_keep_in_the_broker(
    service: Service, aside: Redis
) -> None:
    aside.ask("RPUSH", "probe", "precious")
    assert service.get("/health/ready").status_code == 200
    assert aside.ask("LLEN", "probe") == ":1\r\n"
    assert aside.ask("LLEN", f"{SLUG}.probe") == ":0\r\n"


PUBLISH = f"""
import sys

from {SLUG}.settings import get_settings
from {SLUG}.taskqueue.celery import create_celery, publish
from {SLUG}.taskqueue.task import Call, new_id

name, *arguments = sys.argv[1:]
calls = [Call(name, each, "", new_id(), 0) for each in arguments]
publish(create_celery(get_settings()), calls, float("inf"))
print(*(call.task_id for call in calls))
"""


def publish(service: Service, name: str, *arguments: str) -> list[str]:
    """Publish what no endpoint does, a task for each of the arguments; returns their ids."""
    return service.run("python", "-c", PUBLISH, name, *arguments).splitlines()[-1].split()


def test_a_task_that_no_worker_knows_fails_and_is_not_quoted(service: Service) -> None:
    # As many as the worker runs at a time: were each held, they would keep all others off.
    for task_id in publish(service, "renamed", *['{"to": "ada@example.com"}'] * 3):
        status = service.wait_for_task(task_id)
        assert (status["status"], status["error"]) == ("failed", "no worker knows this task")
        assert status["finished_at"]
    assert service.worker
    assert "there is no task 'renamed'" in service.worker.output()
    assert "ada@example.com" not in service.worker.output()
    (after,) = add(service, "sleep 0")
    assert service.wait_for_task(after)["status"] == "succeeded"
    metrics = httpx2.get(f"http://127.0.0.1:{service.settings['METRICS_PORT']}/metrics").text
    assert 'task_attempts_total{outcome="failed",task="renamed"} 3.0' in metrics


@on_redis
def test_a_probe_of_a_workers_metrics_leaves_no_traceback(service: Service) -> None:
    port = int(service.settings["METRICS_PORT"])
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", port)) as probe:
            # Kubernetes' TCP probe, and HAProxy's, reset the connection.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert httpx2.get(f"http://127.0.0.1:{port}/metrics").status_code == 200
    assert service.worker
    assert "Traceback" not in service.worker.output()


@on_redis
def test_any_json_reaches_a_task_as_it_is(service: Service) -> None:
    typed = '{"__type__": "datetime", "__value__": "2026-11-26"}'  # kombu would make it one
    deep = "[" * 600 + "]" * 600  # billiard could not pickle it, and the worker would end
    ids = publish(service, "probe", *(f'{{"what": {each}}}' for each in (typed, deep)))
    for task_id, kind in zip(ids, ("dict", "list"), strict=True):
        error = service.wait_for_task(task_id)["error"]
        assert error == f"AttributeError: '{kind}' object has no attribute 'split'"


RETRY = f"""
from types import SimpleNamespace

from {SLUG}.worker import app, run

print(app.tasks["probe"].max_retries)
request = SimpleNamespace(id="a" * 32, get=lambda _: "")
task = SimpleNamespace(request=request, name="probe", retry=lambda countdown, **_: print(countdown))
run(task, '{{"what": "never"}}')
"""


@pytest.mark.parametrize(("url", "shortest"), [("", 0.1), ("amqp://nobody", 1)])
def test_it_is_the_task_that_says_how_often_and_when_it_is_tried(
    probes: Project, tmp_path: Path, url: str, shortest: float
) -> None:
    settings = {"CELERY_BROKER_URL": url, "DATA_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    *_, times, _, wait = probes.run(probes.bin("python"), "-c", RETRY, **settings).splitlines()
    assert times == "None"
    assert shortest <= float(wait) <= shortest * 2  # RabbitMQ waits for whole seconds


def test_remote_control_has_a_new_queue_for_each_connection_to_rabbitmq(
    probes: Project, tmp_path: Path
) -> None:
    # The last one may be locked by a lost connection, or be on a node of a cluster that is down:
    # the worker would end. Later versions refuse one that is neither exclusive nor durable.
    code = f"""from {SLUG}.worker import app
queues = [app.control.mailbox.get_queue("celery@host") for _ in range(2)]
print(len({{queue.name for queue in queues}}), all(queue.exclusive for queue in queues))"""
    settings = {"CELERY_BROKER_URL": "amqp://nobody", "DATA_DIR": str(tmp_path)}
    told = probes.run(probes.bin("python"), "-c", code, **settings)
    assert told.splitlines()[-1] == "2 True"


def test_to_monitors_a_failed_task_is_a_success(probes: Project, tmp_path: Path) -> None:
    code = f"""from {SLUG}.worker import app
task = app.tasks["probe"].apply(['{{"what": "refuse"}}'])
print(app.backend.get_task_meta(f"status-{{task.id}}")["result"]["status"], task.state)"""
    told = probes.run(probes.bin("python"), "-c", code, DATA_DIR=str(tmp_path))
    assert told.splitlines()[-1] == "failed SUCCESS"
    assert "a failed task is a success" in " ".join(probes.read("README.md").split())


def test_celerys_options_for_logs_are_ignored(probes: Project, tmp_path: Path) -> None:
    code = (
        f"import logging; from {SLUG}.worker import app\n"
        f"app.log.setup('DEBUG', {str(tmp_path / 'log')!r}); print(logging.root.level)"
    )
    assert probes.run(probes.bin("python"), "-c", code).splitlines()[-1] == "20"
    assert not (tmp_path / "log").exists()


def refused_worker(probes: Project, tmp_path: Path, **settings: str) -> str:
    """Run a worker that must not start; returns its output."""
    settings |= {"DATA_DIR": str(tmp_path / "data")}
    return refusal(celery(probes, "worker"), probes.path, tmp_path / "log", **settings)


def test_what_would_end_each_worker_in_turn_is_not_noted_to_be_given_back(
    probes: Project, redis: Redis
) -> None:
    code = f"from {SLUG}.taskqueue.redis import TAKE; print(TAKE)"
    take = probes.run(probes.bin("python"), "-c", code)
    kinds: list[tuple[dict[str, object], int]] = [
        ({}, 1),
        ({"body": 5}, 0),
        ({"body": "abc"}, 0),  # base64 comes in fours
        ({"body": "@bcd"}, 0),  # and in letters
        ({"headers": 5}, 0),
        ({"headers": {"task": "write_log", "id": 5}}, 0),
        ({"headers": {"ticket": "b" * 32}}, 0),  # an answer of ``celery inspect``
        ({"content-encoding": 5}, 0),
        ({"properties": {**DELIVERY, "body_encoding": 5}}, 0),
        ({"properties": {**DELIVERY, "body_encoding": "rot13"}}, 0),
        ({"properties": {"body_encoding": "base64"}}, 0),
    ]
    keys = "forged", "forged.noted", "forged.index"
    for odd, noted in kinds:
        redis.ask("LPUSH", "forged", message := forged(**odd))
        assert message in redis.ask("EVAL", take, "3", *keys, "1")
        assert redis.ask("HLEN", "forged.noted") == f":{noted}\r\n", odd
        redis.ask("DEL", "forged.noted", "forged.index")


OUTAGE = f"""
import itertools

from kombu.utils import functional

from {SLUG}.worker import app

seconds = itertools.count()
functional.sleep = lambda _: next(seconds) < 1000 or exit()
app.worker_main(["worker"])
"""


def test_a_worker_looks_often_whether_its_broker_is_back(probes: Project, tmp_path: Path) -> None:
    settings = {"CELERY_BROKER_URL": f"redis://127.0.0.1:{free_port()}", "DATA_DIR": str(tmp_path)}
    told = probes.run(probes.bin("python"), "-c", OUTAGE, **settings)
    waits = [float(wait) for wait in re.findall(r"Trying again in ([\d.]+)", told)]
    assert len(waits) > 100  # and not only as often as Celery by default
    assert max(waits) <= 10  # seconds of the 15 in which it resumes


QUEUES = f"""
from contextlib import suppress

from {SLUG}.worker import app

with app.connection_for_read() as connection:
    channel = connection.default_channel
    queues = [app.amqp.queues[name] for name in ("empty", "second")]
    app.amqp.TaskConsumer(channel, queues, on_message=lambda _: print("taken")).consume()
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.1)
    channel._brpop_sent_at -= 60  # seconds
    channel.connection.cycle.maybe_check_brpop_health()
    print(channel.client.connection._sock)
    app.send_task("probe", queue="second", ignore_result=True)
    connection.drain_events(timeout=5)
"""


def test_a_worker_leaves_a_silent_connection_and_an_empty_queue(
    probes: Project, redis: Redis
) -> None:
    url = f"{redis.url[:-1]}2"
    told = probes.run(probes.bin("python"), "-c", QUEUES, CELERY_BROKER_URL=url)
    assert "\nNone\ntaken\n" in told


CONFIRMS = f"""
from contextlib import suppress

from {SLUG}.worker import app

def send(exchange="", to="{SLUG}.probe", mandatory=True):
    producer.publish({{}}, to, exchange=exchange, mandatory=mandatory)

with app.producer_or_acquire() as producer:
    errors = producer.connection.channel_errors
    producer.channel.queue_declare("{SLUG}.probe", durable=True, auto_delete=False)
    for _ in range(5):
        with suppress(ValueError), producer.batch(9):
            for _ in range(5):
                send()
            raise ValueError  # all five are sent
        send()
        print("after a batch without an end", producer.channel._unconfirmed)
        with suppress(*errors), producer.batch(9):
            for to in ("", "", "nobody", "", ""):
                send(to=f"{SLUG}.probe{{to}}")
        send()
        print("after a message for nobody", producer.channel._unconfirmed)
        with suppress(*errors):
            send(exchange="{SLUG}.gone")
            send()
        with producer.batch(9):
            for _ in range(5):
                send()
        print("after an error that closed the channel", producer.channel._unconfirmed)
"""


@in_peace
def test_a_message_is_confirmed_by_no_other_ones_confirmation(
    probes: Project, rabbitmq: RabbitMQ, redis: Redis
) -> None:
    settings = urls(rabbitmq.apart(), redis)
    told = probes.run(probes.bin("python"), "-c", CONFIRMS, **settings)
    lines = [line for line in told.splitlines() if line.startswith("after")]
    assert len(lines) == 15
    assert all(line.endswith("set()") for line in lines), lines


class OldRedis(Redis):
    """What Debian 11 and Ubuntu 22.04 have, in the one respect that counts."""

    def command(self) -> list[str]:
        return [*super().command(), "--rename-command", "BLMOVE", ""]


def test_a_worker_says_that_a_redis_is_too_old(probes: Project, tmp_path: Path) -> None:
    with started(OldRedis(tmp_path / "redis")) as redis:
        output = refused_worker(probes, tmp_path, CELERY_BROKER_URL=redis.url)
        assert reason(output) == "error: CELERY_BROKER_URL: Redis 6.2 or newer is needed"


@in_peace
def test_the_first_request_after_a_rabbitmq_was_reset_is_accepted(
    probes: Project, rabbitmq: RabbitMQ, redis: Redis, tmp_path: Path
) -> None:
    broker = rabbitmq.apart()
    with running(probes, tmp_path / "data", **urls(broker, redis)) as service:
        assert service.worker
        service.worker.stop()  # it would declare the queue too

        def reset() -> None:
            rabbitmq.control("delete_vhost", broker.vhost)
            broker.define()

        reset()
        first = first_answer(lambda: service.client.post("/probes/?what=sleep 0"), reset)
        assert first.status_code == 202


CLASSIC = """
from kombu import Connection

with Connection("{url}") as connection:
    connection.default_channel.queue_declare("{slug}", durable=True, auto_delete=False)
"""


@in_peace
def test_a_queue_that_cannot_be_used_is_told_by_readiness_and_by_the_worker(
    probes: Project, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    def told(refused: httpx2.Response) -> bool:
        return refused.status_code == 503 and "x-queue-type" in refused.text

    url = rabbitmq.apart().url
    probes.run(probes.bin("python"), "-c", CLASSIC.format(url=url, slug=SLUG))
    service = Service(probes, tmp_path / "data", CELERY_BROKER_URL=url)
    try:
        # "startup complete" is written before it listens.
        until(lambda: "running on" in service.api.output(), 30, "it serves")
        # On a busy machine the first answer may be of a broker that is slow.
        until(lambda: told(service.client.post("/probes/?what=sleep+0")), 30, "an endpoint tells")
        until(lambda: told(service.client.get("/health/ready")), 30, "readiness tells")
        worker = service.worker
        assert worker
        until(lambda: not worker.alive(), 60, "the worker ends")
        assert "x-queue-type" in reason(worker.output())
    finally:
        service.stop()


@in_peace
def test_a_worker_that_could_keep_no_retry_ends_with_one_line(
    probes: Project, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    url = rabbitmq.apart().url  # where another service has delays of another kind
    probes.run(probes.bin("python"), "-c", CLASSIC.format(url=url, slug="celery_delayed_27"))
    output = refused_worker(probes, tmp_path, CELERY_BROKER_URL=url)
    assert "celery_delayed_27" in reason(output)
    assert f"RabbitMQ than `{rabbitmq.rights}` to" in probes.read("README.md")  # which sufficed


@in_peace
def test_a_task_that_no_queue_takes_is_refused_and_a_retry_is_kept(
    probes: Project, rabbitmq: RabbitMQ, redis: Redis, tmp_path: Path
) -> None:
    broker = rabbitmq.apart()

    def enqueue() -> httpx2.Response:
        return service.client.post("/probes/?what=sleep+0")

    with running(probes, tmp_path / "data", **urls(broker, redis)) as service:
        service.wait_for_task(add(service, "sleep 0")[0])
        worker = service.worker
        assert worker
        worker.stop()  # it would declare the queue again
        assert "Traceback" not in worker.output()
        broker.control("delete_queue", "-p", broker.vhost, SLUG)
        assert enqueue().status_code == 503
        (task_id,) = add(service, "sleep 0")  # the queue is there again
        full = '{"max-length": 1, "overflow": "reject-publish"}'
        broker.control("set_policy", "-p", broker.vhost, "full", SLUG, full)
        until(lambda: "MessageNacked" in enqueue().text, 30, "the queue is full, and that is told")
        service.restart_worker()
        assert service.wait_for_task(task_id)["status"] == "succeeded"
        until(lambda: enqueue().status_code == 202, 30, "the queue has room again")
        broker.control("delete_queue", "-p", broker.vhost, "celery_delayed_0")
        (task_id,) = add(service, "again 0")
        until(lambda: "NO_ROUTE" in worker.output(), 30, "nothing keeps its retry")
        assert service.wait_for_task(task_id)["status"] == "succeeded"


BROADCAST = f"""
from {SLUG}.worker import app

for app.control.mailbox.serializer in "pickle", "pickle", "json":
    app.control.broadcast("ping")
print(len(app.control.ping(timeout=10, limit=1)))"""


@in_peace
def test_a_broadcast_that_cannot_be_read_ends_no_worker(
    probes: Project, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    settings = {"CELERY_BROKER_URL": rabbitmq.apart().url, "DATA_DIR": str(tmp_path / "data")}
    worker = Process(celery(probes, "worker"), probes.path, tmp_path / "log", **settings)
    try:
        until(lambda: "ready." in worker.output(), 30, "it is ready")
        answers = probes.run(probes.bin("python"), "-c", BROADCAST, **settings)
        assert answers.splitlines()[-1] == "1", worker.output()
    finally:
        worker.stop()


@in_peace
@pytest.mark.parametrize(
    ("right", "wrong", "why"),
    [("guest:guest", "guest:hidden", "Login was refused"), ("//", "/lost", "vhost lost not found")],
)
def test_what_rabbitmq_refuses_to_open_ends_the_worker_with_one_line(
    probes: Project, rabbitmq: RabbitMQ, tmp_path: Path, right: str, wrong: str, why: str
) -> None:
    url = wrong.join(rabbitmq.url.rsplit(right, 1))
    output = refused_worker(probes, tmp_path, CELERY_BROKER_URL=url)
    assert reason(output).startswith("error: CELERY_BROKER_URL: ")
    assert why in reason(output)
    assert "hidden" not in output


@in_peace
def test_a_worker_waits_where_rabbitmq_has_too_many_connections(
    probes: Project, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    broker = rabbitmq.apart()
    broker.control("set_vhost_limits", "-p", broker.vhost, '{"max-connections": 0}')
    settings = {"CELERY_BROKER_URL": broker.url, "DATA_DIR": str(tmp_path / "data")}
    worker = Process(celery(probes, "worker"), probes.path, tmp_path / "log", **settings)
    try:
        until(lambda: "(0) is reached" in worker.output(), 60, "it is turned away")
        broker.control("clear_vhost_limits", "-p", broker.vhost)
        until(lambda: "ready." in worker.output(), 30, "it is let in")
        assert "Traceback" not in worker.output()
    finally:
        worker.stop()


@pytest.mark.parametrize("right", ["eval", "sadd"])  # to take a task; before that
def test_a_right_that_is_missing_in_redis_ends_the_worker_with_one_line(
    probes: Project, redis: Redis, tmp_path: Path, right: str
) -> None:
    rights = ("+@all", f"-{right}", "-info")  # one that is not needed
    redis.ask("ACL", "SETUSER", "eve", "on", ">secret", "~*", "&*", *rights)
    redis.ask("LPUSH", SLUG, forged())
    url = redis.url.replace("//", "//eve:secret@")
    assert f"'{right}'" in reason(refused_worker(probes, tmp_path, CELERY_BROKER_URL=url))
    redis.ask("FLUSHALL")


UNREADABLE = "redis://:hidden/word@localhost:6379/0"


@pytest.mark.parametrize(
    ("name", "value"), [("CELERY_BROKER_URL", "redis://.svc"), ("METRICS_HOST", ".svc")]
)
def test_a_name_that_nobody_can_look_up_ends_the_worker_with_one_line(
    probes: Project, tmp_path: Path, name: str, value: str
) -> None:
    settings = {name: value, "METRICS_PORT": str(free_port())}
    assert name in reason(refused_worker(probes, tmp_path, **settings))


def test_a_url_that_cannot_be_used_stops_the_start(probes: Project, tmp_path: Path) -> None:
    settings = {"DATA_DIR": str(tmp_path / "data"), "CELERY_BROKER_URL": UNREADABLE}
    output = refusal(uvicorn(probes), probes.path, tmp_path / "log", **settings)
    assert "CELERY_BROKER_URL" in reason(output)
    assert "hidden" not in output


def test_each_url_that_cannot_be_used_is_named(probes: Project, tmp_path: Path) -> None:
    urls = [
        ("CELERY_BROKER_URL", "memory://"),  # it would keep tasks where no worker finds them
        ("CELERY_BROKER_URL", "redis://localhost/first"),
        ("CELERY_BROKER_URL", "amqp://localhost:123456//"),
        ("CELERY_RESULT_BACKEND", "nothing://localhost"),
        ("CELERY_RESULT_BACKEND", "rpc://"),  # these would keep no record
        ("CELERY_RESULT_BACKEND", "disabled"),
        ("CELERY_RESULT_BACKEND", "cache+memory://"),
        ("CELERY_RESULT_BACKEND", "db+sqlite:///results.db"),  # SQLAlchemy is not installed
    ]
    told = refusals(probes, tmp_path, [{name: url} for name, url in urls])
    for (name, url), line in zip(urls, told, strict=True):
        assert name in line, url
    assert "sqlalchemy" in told[-1]


def test_such_a_url_stops_the_worker_too_and_is_not_quoted(probes: Project, tmp_path: Path) -> None:
    output = refused_worker(probes, tmp_path, CELERY_BROKER_URL=UNREADABLE)
    assert "CELERY_BROKER_URL" in reason(output)
    assert "hidden" not in output


def test_tasks_that_are_late_do_not_go_out_in_part(probes: Project, redis: Redis) -> None:
    script = f"""
from itertools import count
from types import SimpleNamespace

from {SLUG}.taskqueue import celery
from {SLUG}.taskqueue.task import Call, new_id
from {SLUG}.worker import app

calls = [Call("probe", '{{"what": "sleep 0"}}', "", new_id(), 0) for _ in range(1001)]
for late, deadline in ((calls[:1], 0.5), (calls[1:], 998.5)):  # too late to tell; for the last one
    celery.time = SimpleNamespace(monotonic=count().__next__)
    try:
        celery.publish(app, late, deadline)
    except TimeoutError:
        print(celery.load_status(app, late[0].task_id).error)
"""
    before = int(redis.ask("LLEN", SLUG)[1:])
    told = probes.run("uv", "run", "python", "-c", script, CELERY_BROKER_URL=redis.url)
    assert told.endswith("not accepted\nnot accepted\n")
    assert int(redis.ask("LLEN", SLUG)[1:]) == before + 1  # which no worker runs


def test_a_taken_port_for_metrics_stops_the_worker(probes: Project, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "METRICS_PORT" in reason(refused_worker(probes, tmp_path, METRICS_PORT=port))


def test_a_worker_works_on_where_the_disk_takes_no_sign_of_its_life(
    probes: Project, redis: Redis, tmp_path: Path
) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    # A file in a folder that is not there, for what a disk that became read-only does.
    (data_dir / f"celery@{socket.gethostname()}.alive").symlink_to("gone/alive")
    settings = {"CELERY_BROKER_URL": redis.url, "ENVIRONMENT": "production", "API_KEY": "x"}
    with running(probes, data_dir, **settings) as service:
        service.client.headers["X-API-Key"] = "x"
        (task_id,) = add(service, "sleep 0")
        assert service.wait_for_task(task_id)["status"] == "succeeded"
    assert service.worker
    output = service.worker.output()
    assert "broker lost" not in output
    assert all(line.startswith("{") for line in output.splitlines()), output  # no banner, no bye
