"""Celery while its broker is frozen, stopped, killed or full, and while its workers are killed.

Each test has servers of its own, but for a RabbitMQ that it leaves in peace. The same is done to a
textbook service by ``benchmarks/faults.py``.
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import httpx2
import pytest

from harness.mail import mail_server
from harness.project import SLUG, Project
from harness.servers import RabbitMQ, Redis, Server
from harness.service import LIMITS, Service, free_port, running, until

from .conftest import forged, in_peace, started
from .test_celery import add, first_answer, probes, those_that, urls

__all__ = ["probes"]

WORK = "/probes/?what=sleep+0"
BOUND = 2.0  # seconds to a 503; the README promises 1.3, on a machine that does nothing else
on_each_broker = pytest.mark.parametrize("broker", ["Redis", "RabbitMQ"], indirect=True)
RABBITMQ_IN_PEACE = pytest.param("RabbitMQ in peace", marks=in_peace)
on_each_broker_in_peace = pytest.mark.parametrize(
    "broker", ["Redis", RABBITMQ_IN_PEACE], indirect=True
)


@pytest.fixture
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    if request.param == "RabbitMQ in peace":
        shared: RabbitMQ = request.getfixturevalue("rabbitmq")
        yield shared.apart()
        return
    with started((Redis if request.param == "Redis" else RabbitMQ)(tmp_path / "broker")) as server:
        yield server


@pytest.fixture
def results(broker: Server, tmp_path: Path) -> Iterator[Redis]:
    """Return where records are kept: the broker if it is Redis, else a Redis beside it."""
    if isinstance(broker, Redis):
        yield broker
        return
    with started(Redis(tmp_path / "results")) as server:
        yield server


@pytest.fixture
def service(probes: Project, broker: Server, results: Redis, tmp_path: Path) -> Iterator[Service]:
    with running(probes, tmp_path / "data", **urls(broker, results)) as service:
        yield service


def work(service: Service) -> tuple[int, float]:
    """Enqueue one task; returns the answer's status and the seconds that it took."""
    response = service.client.post(WORK)
    return response.status_code, response.elapsed.total_seconds()


def refuses(service: Service) -> str:
    """Ask for one task: a 503 in time; returns why, as readiness says."""
    response = service.client.post(WORK)
    assert response.status_code == 503, response.text
    assert int(response.headers["Retry-After"]) > 0
    assert response.elapsed.total_seconds() < BOUND
    ready = service.client.get("/health/ready")
    assert ready.status_code == 503
    assert ready.elapsed.total_seconds() < BOUND
    reason: str = ready.json()["detail"]
    assert "broker" in reason
    return reason


async def crowd(
    service: Service, clients: int, freeze: Callable[[], None]
) -> tuple[list[httpx2.Response], list[float]]:
    """Enqueue with many clients at once; returns the answers, and how long /health/live took."""
    async with httpx2.AsyncClient(base_url=service.url, timeout=30, limits=LIMITS) as client:
        freeze()
        # Once before, so that opening the connections is not in the measure.
        await asyncio.gather(*[client.get("/health/live") for _ in range(clients)])
        posts = [asyncio.create_task(client.post(WORK)) for _ in range(clients)]
        waits = []
        while not all(post.done() for post in posts):
            waits.append((await client.get("/health/live")).elapsed.total_seconds())
            await asyncio.sleep(0.05)
        return [await post for post in posts], waits


@on_each_broker
def test_a_frozen_broker_delays_nobody_and_nothing_refused_is_run(
    service: Service, broker: Server, results: Redis
) -> None:
    accepted = add(service, "sleep 0")
    service.wait_for_task(accepted[0])
    broker.freeze()
    refuses(service)
    broker.release()  # what was refused is still on its way

    def delays_nobody() -> bool:
        ready = partial(service.client.get, "/health/ready")
        until(lambda: ready().status_code == 200, 15, "it is ready again")
        accepted.extend(add(service, "sleep 0"))
        service.wait_for_task(accepted[-1])
        answers, waits = asyncio.run(crowd(service, 50, broker.freeze))
        assert {answer.status_code for answer in answers} == {503}
        # What another endpoint waits for as well is a busy machine.
        assert max(answer.elapsed.total_seconds() for answer in answers) < BOUND + max(waits)
        if max(waits) < 1:
            return True
        broker.release()
        return False

    # A neighbour on the machine slows some rounds down, a broker would slow them all.
    until(delays_nobody, 60, "another endpoint takes less than a second")
    frozen_at = time.monotonic()
    refuses(service)
    status = service.client.get(f"/tasks/{accepted[0]}")
    assert status.elapsed.total_seconds() < BOUND
    assert status.status_code == (503 if broker is results else 200)
    until(lambda: time.monotonic() > frozen_at + 20, 30, "frozen for 20 s")
    broker.release()
    until(broker.answers, 60, "the broker is back")

    def freeze_again() -> None:
        broker.freeze()
        refuses(service)
        broker.release()
        until(broker.answers, 60, "the broker is back")

    first = first_answer(lambda: service.client.post(WORK), freeze_again)
    assert first.status_code == 202
    accepted += [*first.json(), *add(service, "sleep 0")]
    assert service.wait_for_task(accepted[-1], 15)["status"] == "succeeded"
    until(lambda: set(accepted) <= set(those_that(service, "ends")), 15, "all accepted has run")
    time.sleep(3)  # what was refused would come now
    assert sorted(those_that(service, "begins")) == sorted(accepted)


@on_each_broker
def test_a_worker_stops_in_time_though_its_broker_is_frozen(
    probes: Project, broker: Server, results: Redis, tmp_path: Path
) -> None:
    settings = urls(broker, results) | {"SHUTDOWN_GRACE": "3"}
    with running(probes, tmp_path / "data", **settings) as service:
        (task_id,) = add(service, "sleep 1")
        until(lambda: those_that(service, "begins"), 60, "it runs")
        broker.freeze()
        time.sleep(5)  # in which a worker that sent events would wait for it, for ever
        assert service.worker
        assert "mingle" not in service.worker.output()  # it can't outlast a broker lost meanwhile
        service.worker.stop(seconds=20)
        assert those_that(service, "ends") == [task_id]
        broker.release()


@pytest.mark.parametrize("broker", ["Redis"], indirect=True)
def test_a_worker_stops_in_time_though_it_had_lost_its_broker(
    service: Service, broker: Redis
) -> None:
    worker = service.worker
    assert worker
    children = worker.children()
    for child in children:
        os.kill(child, signal.SIGSTOP)
    (task_id,) = add(service, "sleep 0")  # one has it, and does not say so yet
    until(lambda: ":0" in broker.ask("LLEN", SLUG), 30, "the worker has taken it")
    broker.ask("CLIENT", "KILL", "TYPE", "normal")
    until(lambda: worker.output().count("Connected to") == 2, 15, "it connects anew")
    os.kill(worker.pid, signal.SIGTERM)
    until(lambda: "shutting down" in worker.output(), 30, "it stops")
    for child in children:
        os.kill(child, signal.SIGCONT)
    worker.stop(seconds=20)
    service.restart_worker()  # the child may have had no time for it
    assert service.wait_for_task(task_id, 60)["status"] == "succeeded"


@on_each_broker
def test_a_full_broker_is_said_and_what_it_holds_is_run(
    service: Service, broker: Server, results: Redis
) -> None:
    accepted = add(service, "sleep 1", "add late")
    until(lambda: len(those_that(service, "begins")) == 2, 60, "both are running")
    if isinstance(broker, RabbitMQ):
        broker.control("set_disk_free_limit", "1000000000000000")
    else:
        results.ask("CONFIG", "SET", "maxmemory", "1")
    refuses(service)
    refuses(service)
    (service.data_dir / "gate").touch()
    worker = service.worker
    assert worker
    until(lambda: "publish is tried again" in worker.output(), 30, "one can't add another")
    if isinstance(broker, RabbitMQ):
        broker.control("set_disk_free_limit", "1000000")
        service.wait_until_ready()  # RabbitMQ says in its own time that its disk is well again
    else:
        results.ask("CONFIG", "SET", "maxmemory", "0")
    accepted += add(service, "sleep 0")
    for task_id in accepted:
        assert service.wait_for_task(task_id, 60)["status"] == "succeeded"
    if not isinstance(broker, RabbitMQ):
        return
    results.freeze()  # the broker is well, but no status can be kept
    refuses(service)
    code = f"from {SLUG}.worker import app; app.send_task('renamed', ignore_result=True)"
    service.run("python", "-c", code)
    until(lambda: "there is no task" in worker.output(), 30, "an unknown one has come")
    status = service.client.get(f"/tasks/{accepted[0]}")
    assert (status.status_code, status.elapsed.total_seconds() < BOUND) == (503, True)
    results.release()
    accepted += add(service, "sleep 0")
    assert service.wait_for_task(accepted[-1])["status"] == "succeeded"
    time.sleep(2)
    begun = those_that(service, "begins")
    assert len({*begun} - {*accepted}) == 1  # what was added, and nothing that was refused
    assert [begun.count(each) for each in accepted] == [1] * len(accepted)


@on_each_broker
def test_a_broker_that_restarts_loses_nothing(
    service: Service, probes: Project, broker: Server
) -> None:
    lines = (line.strip() for line in probes.read("README.md").splitlines())
    (alive,) = [line for line in lines if line.startswith("find ")]

    def is_well() -> bool:
        environment = os.environ | {"DATA_DIR": str(service.data_dir)}
        return not subprocess.run(alive, shell=True, env=environment, check=False).returncode  # noqa: S602

    def restart(end: Callable[[], None]) -> None:
        end()
        broker.start()

    for end in (broker.stop, broker.kill):
        ids = add(service, *["sleep 0.5"] * 12)
        until(lambda ids=ids: set(ids) & set(those_that(service, "ends")), 30, "work has begun")  # type: ignore[misc]
        assert is_well()
        end()
        if end == broker.stop:
            until(lambda: "onnection refused" in refuses(service), 10, "it tries again at once")
            until(lambda: not is_well(), 15, "the worker's probe says that its broker is gone")
        broker.start()
        first = first_answer(lambda: service.client.post(WORK), partial(restart, end))
        assert first.status_code == 202
        (after,) = add(service, "sleep 0")
        assert service.wait_for_task(after, 15 + 12 * 0.5)["status"] == "succeeded"
        for task_id in ids:
            assert service.wait_for_task(task_id, 60)["status"] == "succeeded"
    assert service.worker
    os.kill(service.worker.pid, signal.SIGSTOP)
    (file,) = service.data_dir.glob("*.alive")
    os.utime(file, (time.time() - 61,) * 2)
    assert not is_well()  # a worker that hangs, for a minute
    os.kill(service.worker.pid, signal.SIGCONT)
    until(is_well, 30, "it lives on")
    assert "tasks can be stored again" in service.api.output()


@pytest.mark.parametrize("broker", ["Redis"], indirect=True)
def test_what_runs_as_its_machine_sleeps_runs_on_and_not_again(
    probes: Project, broker: Server, results: Redis, tmp_path: Path
) -> None:
    settings = urls(broker, results) | {"SHUTDOWN_GRACE": "0.1"}
    with running(probes, tmp_path / "data", **settings) as service:
        (task_id,) = add(service, "sleep 30")
        until(lambda: those_that(service, "begins"), 60, "it runs")
        assert service.worker
        service.worker.send(signal.SIGSTOP)
        time.sleep(21)  # longer than a claim lasts: 20.1 s
        service.worker.send(signal.SIGCONT)
        assert service.wait_for_task(task_id, 30)["status"] == "succeeded"
        assert those_that(service, "begins") == [task_id]


@pytest.mark.parametrize(
    ("broker", "task"),
    # Longer than a claim in Redis, which worker.py renews; and shorter than RabbitMQ's restart.
    [("Redis", "sleep 28"), ("RabbitMQ", "sleep 2")],
    indirect=["broker"],
)
def test_what_runs_as_its_broker_restarts_runs_on_and_not_again(
    probes: Project, broker: Server, results: Redis, tmp_path: Path, task: str
) -> None:
    settings = urls(broker, results) | {"SHUTDOWN_GRACE": "1"}
    with running(probes, tmp_path / "data", **settings) as service:
        (before,) = add(service, task)
        until(lambda: those_that(service, "begins"), 60, "it runs")
        worker = service.worker
        assert worker
        if isinstance(broker, Redis):  # which stands, and could be given back what runs
            broker.ask("CLIENT", "KILL", "TYPE", "normal")
            until(lambda: worker.output().count("Connected to") == 2, 15, "it connects anew")

        def restart() -> None:
            broker.kill()
            broker.start()

        restart()
        status = service.wait_for_task(before, 60)
        assert (status["status"], status["attempts"]) == ("succeeded", 1)
        ready = first_answer(lambda: service.client.get("/health/ready"), restart)
        assert ready.status_code == 200  # it had no need to fail
        assert first_answer(lambda: service.client.post(WORK), restart).status_code == 202
        (after,) = add(service, "sleep 0")
        service.wait_for_task(after)
        assert those_that(service, "begins").count(before) == 1
        assert worker.alive()


class Proxy:
    """A way to a server that can break as a load balancer's does: the server is not told."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._silent: set[socket.socket] = set()
        self.delay = 0.0  # seconds, each way
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, port: int) -> None:
        """Have new connections lead to another server, as a name does after a failover."""
        self._to = port

    def break_connections(self) -> None:
        """Hang up on the clients; new connections are served."""
        for client, _server in self._pairs:
            with suppress(OSError):  # it has hung up itself
                client.shutdown(socket.SHUT_RDWR)

    def forget_connections(self) -> None:
        """Keep them, but carry nothing any more, as a firewall does; new ones are served."""
        self._silent.update(*self._pairs)

    def close(self) -> None:
        """End it, and its connections on both sides."""
        for end in (self._listener, *sum(self._pairs, ())):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                pair = self._listener.accept()[0], socket.create_connection(("127.0.0.1", self._to))
                self._pairs.append(pair)
                for source, to in (pair, pair[::-1]):
                    threading.Thread(target=self._copy, args=(source, to), daemon=True).start()

    def _copy(self, source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                time.sleep(self.delay)
                if source not in self._silent:
                    to.sendall(data)


@pytest.fixture
def proxy(broker: Server) -> Iterator[Proxy]:
    with closing(Proxy(broker.port)) as proxy:
        yield proxy


@pytest.fixture
def beyond(
    probes: Project, broker: Server, results: Redis, proxy: Proxy, tmp_path: Path
) -> Iterator[Service]:
    """Run a service and a worker that have the proxy between them and their broker."""
    settings = urls(broker, results)
    settings["CELERY_BROKER_URL"] = broker.url.replace(str(broker.port), str(proxy.port))
    with running(probes, tmp_path / "data", **settings) as service:
        yield service


@on_each_broker_in_peace
def test_a_worker_outlasts_a_connection_that_its_broker_still_holds(
    beyond: Service, proxy: Proxy
) -> None:
    (before,) = add(beyond, "sleep 0")
    beyond.wait_for_task(before)
    proxy.break_connections()
    (after,) = add(beyond, "sleep 0")
    # RabbitMQ has sent it to the worker that it takes to be there, for 30 s at most.
    assert beyond.wait_for_task(after, 60)["status"] == "succeeded"
    assert beyond.worker
    assert beyond.worker.alive()


@pytest.mark.parametrize("broker", [RABBITMQ_IN_PEACE], indirect=True)
def test_a_silent_node_of_a_cluster_is_passed_by(
    probes: Project, broker: Server, results: Redis, tmp_path: Path
) -> None:
    # It lets one connect and never answers, as it does while its machine hangs.
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        settings = urls(broker, results)
        first = broker.url.replace(str(broker.port), str(silent.getsockname()[1]))
        settings["CELERY_BROKER_URL"] = f"{first};{broker.url}"
        with running(probes, tmp_path / "data", **settings) as service:
            (task_id,) = add(service, "sleep 0")
            assert service.wait_for_task(task_id)["status"] == "succeeded"


@pytest.mark.parametrize("broker", [RABBITMQ_IN_PEACE], indirect=True)
def test_a_node_of_a_cluster_that_has_lost_its_majority_is_told(
    service: Service, broker: RabbitMQ
) -> None:
    assert work(service)[0] == 202
    broker.control("delete_queue", f"{SLUG}.probe", "--vhost", broker.vhost)
    until(lambda: service.client.get("/health/ready").status_code == 200, 15, "it is made anew")
    # Each queue has a second member now that answers nobody: its node is down.
    broker.control(
        "eval",
        f"[ra:add_member(P, {{element(1, P), down@localhost}}, 100)"
        f' || Q <- rabbit_amqqueue:list(<<"{broker.vhost}">>), P <- [amqqueue:get_pid(Q)],'
        f' {{_, _, _, <<"{SLUG}", _/binary>>}} <- [amqqueue:get_name(Q)]].',
    )
    refuses(service)


@on_each_broker_in_peace
def test_a_service_gives_up_connections_that_went_silent(
    probes: Project, broker: Server, results: Redis, tmp_path: Path
) -> None:
    with closing(Proxy(broker.port)) as proxy, closing(Proxy(results.port)) as aside:
        settings = urls(broker, results)
        for server, way in ((results, aside), (broker, proxy)):
            for name, url in settings.items():
                settings[name] = url.replace(f":{server.port}", f":{way.port}")
        with running(probes, tmp_path / "data", **settings) as service:
            for _ in range(5):  # more often than it has threads, which would wait for an answer
                add(service, "sleep 0")
                proxy.forget_connections()
                aside.forget_connections()
                until(lambda: work(service)[0] == 202, 10, "the service connects anew")


@on_each_broker_in_peace
def test_a_broker_that_is_far_away_takes_many_tasks_at_once(beyond: Service, proxy: Proxy) -> None:
    proxy.delay = 0.03
    ids = add(beyond, *["sleep 0"] * 50)  # one by one they would take 3 s
    for task_id in ids:
        assert beyond.wait_for_task(task_id)["status"] == "succeeded"
    assert sorted(those_that(beyond, "begins")) == sorted(ids)
    proxy.delay = 0.08
    metrics = partial(beyond.client.get, "/metrics")
    until(lambda: "\ntasks_waiting " in metrics().text, 15, "it knows how many wait")


@on_each_broker_in_peace
def test_no_firewall_takes_a_connection_for_an_idle_one(service: Service, broker: Server) -> None:
    add(service, "sleep 0")

    def kept_alive() -> bool:
        lines = Path("/proc/net/tcp").read_text("utf-8").splitlines()
        # Of what is connected (01) to it: the timer that keeps it alive (02), within 82 s.
        timers = [line.split()[5] for line in lines if f":{broker.port:04X} 01 " in line]
        return bool(timers) and all(re.match("02:0000[01]", timer) for timer in timers)

    until(kept_alive, 15, "all connections to the broker are kept alive")


@pytest.mark.parametrize("broker", ["Redis"], indirect=True)
@pytest.mark.parametrize("fails", ["ack", "reject"])
def test_a_worker_that_could_not_tell_its_broker_takes_the_next_task(
    probes: Project, broker: Redis, fails: str, tmp_path: Path
) -> None:
    with (
        started(Redis(tmp_path / "results")) as results,
        running(
            probes,
            tmp_path / "data",
            **urls(broker, results),
            TASK_CONCURRENCY="1",
            SHUTDOWN_GRACE="1",  # what is not given back runs again 25 s later
        ) as service,
    ):
        worker = service.worker
        assert worker
        (file,) = service.data_dir.glob("*.alive")
        beat = file.stat().st_mtime
        until(lambda: file.stat().st_mtime > beat, 10, "for 5 s it does not look for its broker")
        (first,) = add(service, "sleep 1")
        until(lambda: those_that(service, "begins"), 60, "it runs")
        broker.freeze()
        if fails == "reject":  # to run again
            for child in worker.children():
                os.kill(child, signal.SIGKILL)
        said = (f"Couldn't {fails}", "onnection to broker lost")  # it did look
        until(lambda: any(text in worker.output() for text in said), 30, "it can't tell its broker")
        broker.release()
        assert service.wait_for_task(first)["status"] == "succeeded"
        (next_,) = add(service, "sleep 0")
        assert service.wait_for_task(next_)["status"] == "succeeded"


def test_a_broker_that_lets_nobody_connect_delays_no_status(
    probes: Project, tmp_path: Path
) -> None:
    with (
        started(Redis(tmp_path / "results")) as results,
        socket.create_server(("127.0.0.1", 0), backlog=0) as hole,
        socket.create_connection(hole.getsockname()),  # which fills it: others get no answer
    ):
        url = f"amqp://guest:guest@127.0.0.1:{hole.getsockname()[1]}//"
        settings = {"CELERY_BROKER_URL": url, "CELERY_RESULT_BACKEND": results.url}
        service = Service(probes, tmp_path / "data", **settings)
        try:
            until(lambda: "running on" in service.api.output(), 30, "it serves")
            waits = []
            for _ in range(30):
                refuses(service)
                response = service.client.get(f"/tasks/{'a' * 32}")
                assert response.status_code == 404
                # What another endpoint waits for as well is a busy machine.
                waited = response.elapsed - service.client.get("/health/live").elapsed
                waits.append(waited.total_seconds())
            assert sorted(waits)[15] < 0.3
        finally:
            service.stop()


def test_service_and_worker_follow_a_redis_that_fails_over(probes: Project, tmp_path: Path) -> None:
    with (
        started(Redis(tmp_path / "first")) as first,
        started(Redis(tmp_path / "second")) as second,
        closing(Proxy(first.port)) as proxy,
    ):
        second.ask("REPLICAOF", "127.0.0.1", str(first.port))
        until(lambda: "link_status:up" in second.ask("INFO", "replication"), 60, "a replica")
        url = first.url.replace(str(first.port), str(proxy.port))
        with running(probes, tmp_path / "data", CELERY_BROKER_URL=url) as service:
            ids = add(service, *["sleep 12"] * 2, *["sleep 0"] * 2)
            until(lambda: len(those_that(service, "begins")) == 2, 60, "two are running")
            begun_at = time.time()
            second.ask("REPLICAOF", "NO", "ONE")
            first.ask("REPLICAOF", "127.0.0.1", str(second.port))  # and keeps its connections
            proxy.lead_to(second.port)
            until(lambda: work(service)[0] == 202, 15, "the service follows")
            old = "ZCOUNT", f"{SLUG}.unacked_index", "0", str(begun_at)
            until(lambda: second.ask(*old) == ":0\r\n", 10, "its worker does, though it is busy")
            ids += add(service, "sleep 0")
            for task_id in ids:
                assert service.wait_for_task(task_id)["status"] == "succeeded"
            begun = those_that(service, "begins")
            assert [begun.count(task_id) for task_id in ids] == [1] * 5
            assert service.worker
            assert service.worker.alive()


@pytest.mark.parametrize("broker", ["Redis"], indirect=True)
def test_an_idle_worker_outlasts_a_redis_that_is_a_replica_for_a_while(
    service: Service, broker: Redis
) -> None:
    broker.ask("REPLICAOF", "127.0.0.1", str(free_port()))
    refuses(service)
    broker.ask("REPLICAOF", "NO", "ONE")
    (task_id,) = add(service, "sleep 0")
    assert service.wait_for_task(task_id)["status"] == "succeeded"


PATIENCE = """
application:set_env(rabbit, channel_tick_interval, 1000),
application:set_env(rabbit, consumer_timeout, {}).
"""  # milliseconds


@pytest.mark.parametrize("broker", ["RabbitMQ"], indirect=True)
def test_a_worker_outlasts_a_rabbitmq_that_takes_back_what_it_holds(
    probes: Project, broker: RabbitMQ, results: Redis, tmp_path: Path
) -> None:
    broker.control("eval", PATIENCE.format(1_000))  # as if its clock jumped by half an hour
    with running(probes, tmp_path / "data", **urls(broker, results)) as service:
        add(service, "wait")
        worker = service.worker
        assert worker
        until(lambda: "acknowledgement" in worker.output(), 60, "it takes it back")
        broker.control("eval", PATIENCE.format(1_800_000))
        (service.data_dir / "gate").touch()
        (task_id,) = add(service, "sleep 0")
        assert service.wait_for_task(task_id)["status"] == "succeeded"


@pytest.mark.parametrize("broker", ["Redis"], indirect=True)
def test_a_worker_outlasts_a_redis_that_refuses_writes(service: Service, broker: Redis) -> None:
    ids = add(service, "sleep 1")
    until(lambda: those_that(service, "begins"), 60, "it runs")
    # As it does for a full disk too (stop-writes-on-bgsave-error).
    broker.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    refuses(service)
    until(lambda: those_that(service, "ends"), 30, "it ends, and can't be acknowledged")
    time.sleep(2)
    broker.ask("CONFIG", "SET", "min-replicas-to-write", "0")
    ids += add(service, "sleep 0")
    assert [service.wait_for_task(task_id)["status"] for task_id in ids] == ["succeeded"] * 2
    assert service.worker
    assert service.worker.alive()


# On a Redis that is the broker too, its worker is told of no limit meanwhile.
@pytest.mark.parametrize("broker", [RABBITMQ_IN_PEACE], indirect=True)
def test_a_task_outlasts_its_time_limit_while_its_record_cannot_be_kept(
    probes: Project, broker: Server, results: Redis, tmp_path: Path
) -> None:
    with running(
        probes, tmp_path / "data", **urls(broker, results), TASK_TIME_LIMIT="3"
    ) as service:
        (task_id,) = add(service, "sleep 1")
        until(lambda: those_that(service, "begins"), 60, "it runs")
        results.ask("CONFIG", "SET", "min-replicas-to-write", "1")
        time.sleep(5)  # longer than it may run, not than that and the 10 s to its end
        results.ask("CONFIG", "SET", "min-replicas-to-write", "0")
        assert service.wait_for_task(task_id)["status"] == "succeeded"


@on_each_broker_in_peace
def test_a_task_is_kept_when_its_worker_dies_as_it_takes_it(service: Service) -> None:
    assert service.worker
    os.kill(service.worker.pid, signal.SIGSTOP)  # it waits for a task, and will never see it
    (task_id,) = add(service, "sleep 0")
    service.worker.kill()
    service.restart_worker()
    assert service.wait_for_task(task_id, 60)["status"] == "succeeded"


@pytest.mark.parametrize("broker", ["Redis"], indirect=True)
def test_a_worker_takes_what_a_full_redis_holds(service: Service, broker: Redis) -> None:
    assert service.worker
    broker.ask("CONFIG", "SET", "maxmemory", "1")
    full_since = time.time()
    time.sleep(1.5)  # the worker's wait for a task, which had begun before, ends
    os.kill(service.worker.pid, signal.SIGSTOP)
    broker.ask("CONFIG", "SET", "maxmemory", "0")
    ids = add(service, "sleep 0")
    broker.ask("CONFIG", "SET", "maxmemory", "1")
    os.kill(service.worker.pid, signal.SIGCONT)
    until(lambda: ":0" in broker.ask("LLEN", SLUG), 30, "the worker has taken it")
    time.sleep(3)  # it has room for one more, and waits
    looks = re.search(r"cmdstat_eval:calls=(\d+)", broker.ask("INFO", "commandstats"))
    assert looks
    assert int(looks[1]) < 200  # for some 5 s, in which a busy loop has thousands
    (file,) = service.data_dir.glob("*.alive")  # what ends a worker here, a new one can't mend
    until(lambda: file.stat().st_mtime > full_since + 2, 10, "it says that it lives")
    broker.ask("CONFIG", "SET", "maxmemory", "0")
    ids += add(service, "sleep 0")
    for task_id in ids:
        assert service.wait_for_task(task_id, 60)["status"] == "succeeded"
    assert sorted(those_that(service, "begins")) == sorted(ids)
    assert service.worker.alive()


@pytest.mark.parametrize("broker", ["Redis"], indirect=True)
def test_a_worker_that_starts_on_a_full_redis_leaves_no_connection_open(
    service: Service, broker: Redis
) -> None:
    assert service.worker
    service.worker.kill()
    broker.ask("CONFIG", "SET", "maxmemory", "1")
    worker = service.worker = service.start_worker()

    def open_files(fives: int) -> int:
        until(lambda: worker.output().count("5 in 1s") >= fives, 30, "it tries again and again")
        return len(os.listdir(f"/proc/{worker.pid}/fd"))

    before = open_files(1)
    assert open_files(4) < before + 10
    assert "Heartbeat" not in worker.output()  # which has not begun, nor fails to end
    broker.ask("CONFIG", "SET", "maxmemory", "0")
    (task_id,) = add(service, "sleep 0")
    assert service.wait_for_task(task_id)["status"] == "succeeded"


@pytest.mark.parametrize("broker", ["Redis"], indirect=True)
def test_a_worker_tells_that_its_redis_drops_tasks_when_it_is_full(
    service: Service, broker: Redis
) -> None:
    assert service.worker
    assert "maxmemory-policy" not in service.worker.output()
    service.worker.kill()
    broker.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    service.restart_worker()
    assert "maxmemory-policy allkeys-lru" in service.worker.output()  # before it is ready


@pytest.mark.parametrize("broker", ["Redis"], indirect=True)
def test_what_is_no_message_does_not_stop_the_queue_for_ever(
    service: Service, broker: Redis
) -> None:
    def send(message: str) -> None:
        worker = service.worker
        assert worker
        broker.ask("LPUSH", SLUG, message)
        until(lambda: not worker.alive(), 20, f"kombu refuses {message!r}")
        assert broker.ask("HLEN", f"{SLUG}.unacked") == ":0\r\n", message  # it is not given back
        service.restart_worker()

    for message in ("", forged(body=5)):
        send(message)
    (task_id,) = add(service, "sleep 0")
    assert service.wait_for_task(task_id, 30)["status"] == "succeeded"


@on_each_broker_in_peace
def test_no_mail_is_lost_when_workers_are_killed(
    probes: Project, broker: Server, results: Redis, tmp_path: Path
) -> None:
    with (
        mail_server(delay=0.1) as box,
        running(
            probes, tmp_path / "data", **urls(broker, results), **box.settings, SHUTDOWN_GRACE="1"
        ) as service,
    ):
        ids = [
            service.post("/send-email/", params={"email": f"a{n}@example.com"}).json()["task_id"]
            for n in range(120)
        ]
        for share in (20, 50, 80):
            until(lambda share=share: len(box.mails) >= share, 60, f"{share} mails")  # type: ignore[misc]
            assert service.worker
            if share == 50:
                service.worker.stop(signal.SIGKILL)  # and leaves its children
            else:
                service.worker.kill()
            killed = time.monotonic()
            service.restart_worker()
        assert service.worker
        until(lambda: len(box.mails) >= 100, 60, "100 mails")
        os.kill(service.worker.children()[0], signal.SIGKILL)
        for task_id in ids:
            assert service.wait_for_task(task_id, 60)["status"] == "succeeded"
        # On Redis SHUTDOWN_GRACE + 25 s at most, on RabbitMQ at once; and a while for the work.
        assert time.monotonic() - killed < (1 + 25 if broker is results else 0) + 20
    assert set(box.ids()) == set(ids)
    assert len(box.mails) <= 120 + 4 * 2  # a kill repeats what was running, no more
