"""BackgroundTasks hurt on purpose: nothing that was accepted is lost, and nothing else suffers."""

import fcntl
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from harness.mail import mail_server
from harness.project import SLUG, Project
from harness.service import Process, Service, free_port, refusal, running, until, uvicorn

from .conftest import Bake, lack, reason

CLIENTS = 8


@pytest.fixture(scope="session")
def project(probed: Callable[[str], Project]) -> Project:
    """Return a project on BackgroundTasks with a task that does what a test asks for."""
    return probed("BackgroundTasks")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def processes(number: int) -> list[str]:
    """Return the options for uvicorn to run so many processes."""
    return ["--workers", str(number)]


def probe(service: Service, *what: str) -> list[str]:
    """Enqueue probes in one request; returns their ids."""
    response = service.client.post("/probes/", params={"what": what})
    assert response.status_code == 202, response.text
    ids: list[str] = response.json()
    return ids


def lines(data_dir: Path) -> Counter[str]:
    """Count what the probes wrote: 'ID begins' and 'ID ends'."""
    path = data_dir / "probe.log"
    return Counter(path.read_text().splitlines() if path.exists() else [])


def stored(data_dir: Path) -> int:
    """Return how many tasks the journal holds."""
    with closing(sqlite3.connect(data_dir / "tasks" / "journal.db")) as connection:
        count: int = connection.execute("SELECT count(*) FROM tasks").fetchone()[0]
        return count


def refused(service: Service) -> None:
    """See that a task is refused as promised: a 503 with Retry-After, within 2 s."""
    begin = time.monotonic()
    response = service.client.post("/probes/", params={"what": "sleep 0"})
    assert response.status_code == 503, response.text
    assert int(response.headers["Retry-After"]) > 0
    assert time.monotonic() - begin < 2
    assert service.client.get("/health/ready").status_code == 503
    assert service.client.get("/health/live").status_code == 200


class Clients:
    """Clients that ask for mails until they are stopped; ``accepted`` has the ids of the 202s."""

    def __init__(self, url: str) -> None:
        self.accepted: list[str] = []
        self._stop = threading.Event()
        self._client = httpx2.Client(base_url=url, timeout=5, verify=False)
        self._threads = [threading.Thread(target=self._ask) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._stop.is_set():
            try:
                response = self._client.post("/send-email/", params={"email": "ada@example.com"})
            except httpx2.TransportError:
                return  # it was killed
            if response.status_code == 202:
                self.accepted.append(response.json()["task_id"])
            self._stop.wait(0.04)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()


def kill_one(service: Service) -> None:
    """Kill one of uvicorn's processes; it starts another one."""
    os.kill(random.choice(service.api.children("-f", "spawn_main")), signal.SIGKILL)  # noqa: S311


@pytest.mark.parametrize("workers", [1, 2])
def test_fifty_kills_lose_no_accepted_mail(project: Project, data_dir: Path, workers: int) -> None:
    rounds, concurrency = 25, 4
    accepted: list[str] = []
    with mail_server(delay=0.04) as mailbox:
        settings = mailbox.settings | {"TASK_CONCURRENCY": str(concurrency)}

        def start() -> Service:
            return Service(project, data_dir, *processes(workers), **settings)

        def started() -> bool:
            return service.api.output().count("startup complete") >= begun

        service, begun = start(), workers
        try:
            for number in range(rounds):
                service.wait_until_ready()
                until(started, 60, "all processes serve")
                clients = Clients(service.url)
                time.sleep(random.uniform(0.05, 0.4))  # noqa: S311
                if one := workers > 1 and number % 5 > 0:
                    kill_one(service)
                else:
                    service.kill()
                clients.stop()
                accepted += clients.accepted
                begun += 1 if one else workers
                service = service if one else start()
            until(lambda: set(accepted) <= set(mailbox.ids()), 60, "every accepted mail has come")
        finally:
            service.kill()
        arrived = Counter(mailbox.ids())
    duplicates = arrived.total() - len(arrived)
    print(f"{workers} workers: {len(accepted)} accepted, 0 lost, {duplicates} came twice")
    assert len(accepted) > rounds
    assert duplicates <= rounds * workers * concurrency  # what was in flight at the kills


def test_a_live_process_takes_over_from_a_dead_one(project: Project, data_dir: Path) -> None:
    settings = {"TASK_CONCURRENCY": "2"}
    with running(project, data_dir, **settings) as heir:
        dead = Service(project, data_dir, **settings)
        try:
            dead.wait_until_ready()
            dead.client.headers["X-Request-ID"] = "order-42"
            ids = [probe(dead, "sleep 0.5")[0] for _ in range(8)]
        finally:
            dead.kill()
        killed = time.monotonic()
        for task_id in ids:
            assert heir.wait_for_task(task_id)["status"] == "succeeded"
        taken = heir.api.output().partition("taking over")[2]  # the log of both
        assert "request_id=order-42" in taken  # it is in the journal too
        # 8 tasks of 0.5 s, two at a time, and a look each second; the rest is for a busy machine.
        assert time.monotonic() - killed < 15


def test_a_disk_that_is_full_is_a_503_until_there_is_room(project: Project, data_dir: Path) -> None:
    with running(project, data_dir) as service:
        (before,) = probe(service, "sleep 0")
        service.wait_for_task(before)
        with limited_files(service.api.pid):
            refused(service)
            assert service.client.get(f"/tasks/{before}").status_code == 200
        until(lambda: service.client.get("/health/ready").status_code == 200, 10, "it is ready")
        (after,) = probe(service, "sleep 0")
        assert service.wait_for_task(after)["status"] == "succeeded"
        assert stored(data_dir) == 2
    assert lines(data_dir).total() == 4


def test_what_a_process_maps_has_its_place_before_the_disk_is_full(
    project: Project, data_dir: Path
) -> None:
    """On a full disk, the first write to a part of a mapped file that has none is a SIGBUS."""
    if sys.platform != "linux":
        lack("/proc is Linux's")
    with running(project, data_dir, TMPDIR="") as service:
        maps = Path(f"/proc/{service.api.pid}/maps").read_text().splitlines()
        mapped = {Path(line.split()[-1]) for line in maps if " rw-s " in line and "/" in line}
        on_disk = {path for path in mapped if not path.is_relative_to("/dev/shm")}  # noqa: S108
        assert {path.name for path in on_disk} == {"journal.db-shm", "slot-0.running"}
        assert all(path.stat().st_blocks for path in on_disk)


def test_many_tasks_are_taken_over_without_a_disk_for_temporary_files(
    project: Project, data_dir: Path
) -> None:
    """By default SQLite sorts them in a file in /var/tmp or /tmp: full, perhaps, or read-only."""
    with running(project, data_dir):
        pass
    with closing(sqlite3.connect(data_dir / "tasks" / "journal.db")) as journal, journal:
        now = time.time()  # they wait to be tried again
        rest = "probe", "{}".ljust(1000), "", now, now + 60, 0
        waiting = ((f"{number:032}", *rest) for number in range(9_999))
        columns = "task_id, name, arguments, request_id, enqueued_at, run_at, slot"
        sql = f"INSERT INTO tasks ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
        journal.executemany(sql, waiting)
    with limited_files(os.getpid(), 1_000_000), running(project, data_dir):
        pass  # it is ready: it has read them


@contextmanager
def limited_files(pid: int, size: int = 0) -> Iterator[None]:
    """Let no file of a process grow beyond so many bytes; beyond none, as on a full disk."""
    if sys.platform != "linux":
        lack("prlimit is Linux's")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        unlimited = resource.RLIM_INFINITY, resource.RLIM_INFINITY
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)


@pytest.mark.parametrize("folder", [".", "tasks"])
def test_a_read_only_folder_is_a_clear_line_at_the_start(
    project: Project, data_dir: Path, folder: str
) -> None:
    with running(project, data_dir) as service:
        probe(service, "sleep 0")
    log = data_dir.parent / "log"
    with read_only(data_dir / folder):
        output = refusal(uvicorn(project), project.path, log, DATA_DIR=str(data_dir))
    assert "DATA_DIR" in reason(output)
    assert str(data_dir) in reason(output)


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Make a folder read-only; root heeds no mode, but a mount."""
    if os.geteuid():
        path.chmod(0o555)
        yield
        path.chmod(0o755)
        return
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(path)], check=True)


def test_a_locked_journal_is_a_503_until_it_is_free(project: Project, data_dir: Path) -> None:
    with running(project, data_dir) as service:
        with closing(sqlite3.connect(data_dir / "tasks" / "journal.db")) as other:
            other.execute("BEGIN IMMEDIATE")
            refused(service)
        (task_id,) = probe(service, "sleep 0")
        assert service.wait_for_task(task_id)["status"] == "succeeded"
        assert stored(data_dir) == 1


def test_a_process_waits_while_others_look_at_a_large_journal(
    project: Project, data_dir: Path
) -> None:
    """Ten processes that take 1.5 s each, for 4 million tasks, began to refuse after 10 s."""
    (data_dir / "tasks").mkdir(parents=True)
    with (data_dir / "tasks" / "journal.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        timer = threading.Timer(16, lock.close)
        timer.start()
        with running(project, data_dir):
            assert timer.finished.is_set()


def test_the_journal_is_all_of_its_folder(project: Project, data_dir: Path, tmp_path: Path) -> None:
    assert "`journal.db` alone may lack tasks" in project.read("README.md")
    with running(project, data_dir) as service:
        probe(service, "sleep 30")
        service.kill()
    shutil.copytree(data_dir / "tasks", tmp_path / "whole" / "tasks")
    (tmp_path / "part" / "tasks").mkdir(parents=True)
    shutil.copy(data_dir / "tasks" / "journal.db", tmp_path / "part" / "tasks")
    assert stored(tmp_path / "whole") == 1
    assert stored(tmp_path / "part") == 0


def test_two_services_on_one_folder_fail_each_others_tasks(
    project: Project, bake: Bake, data_dir: Path, tmp_path: Path
) -> None:
    assert "be this service's alone" in project.read("README.md")
    with running(project, data_dir) as service:
        probe(service, "sleep 30")
        service.kill()
    other = bake(project_slug="other_service")
    command = [project.bin("uvicorn"), "other_service.main:app", "--port", str(free_port())]
    settings = {"PYTHONPATH": str(other.path / "src"), "DATA_DIR": str(data_dir)}
    process = Process(command, other.path, tmp_path / "log", **settings)
    try:
        until(lambda: "task failed" in process.output(), 60, "it takes it over, and fails it")
    finally:
        process.stop()


def test_a_corrupt_journal_is_set_aside_as_it_is(project: Project, data_dir: Path) -> None:
    with running(project, data_dir) as service:
        probe(service, *["sleep 0"] * 200)
        # All, or the next start would run the rest, and write every page anew, to the WAL.
        until(lambda: lines(data_dir).total() == 400, 30, "they have begun and ended")
    with running(project, data_dir) as service:
        probe(service, "sleep 30")
        service.kill()
    path = data_dir / "tasks" / "journal.db"
    spoiled = path.read_bytes()[:4096] + b"spoiled" * 1000
    path.write_bytes(spoiled)
    latest = (data_dir / "tasks" / "journal.db-wal").read_bytes()
    with running(project, data_dir) as service:
        (task_id,) = probe(service, "sleep 0")
        assert service.wait_for_task(task_id)["status"] == "succeeded"
        (line,) = [line for line in service.api.output().splitlines() if "is corrupt" in line]
        assert "set aside" in line
    (aside,) = path.parent.glob("journal.db.corrupt-*[0-9]")
    assert aside.read_bytes() == spoiled
    assert Path(f"{aside}-wal").read_bytes() == latest


def test_a_full_backlog_is_a_503_until_there_is_room(project: Project, data_dir: Path) -> None:
    settings = {"TASK_BACKLOG": "5", "TASK_CONCURRENCY": "1"}
    with running(project, data_dir, **settings) as service:
        ids = probe(service, "wait", *["sleep 0"] * 4)
        refused(service)
        assert stored(data_dir) == 5
        (data_dir / "gate").touch()
        for task_id in ids:
            service.wait_for_task(task_id)
        probe(service, "sleep 0")


def test_tasks_end_as_they_are_declared_to(project: Project, data_dir: Path) -> None:
    with running(project, data_dir) as service:
        url = f"{service.url}/probes/"  # not the client's connection: an error closes it
        response = httpx2.post(url, params={"what": ["sleep 0", "raise"]})
        assert response.status_code == 500
        refuse, after, heal, never = probe(service, "refuse", "sleep 0", "heal", "never")
        ends = {task_id: service.wait_for_task(task_id) for task_id in (refuse, after, heal, never)}
        log = service.api.output()
    assert [(end["status"], end["attempts"], end["error"]) for end in ends.values()] == [
        ("failed", 1, "ValueError: no"),
        ("succeeded", 1, None),
        ("succeeded", 3, None),
        ("failed", 3, "OSError: never"),
    ]
    # The endpoint that raised, the two tasks that failed: one traceback each.
    assert log.count("Traceback (most recent call last)") == 3
    assert stored(data_dir) == 4


def test_a_task_that_kills_its_process_is_given_up_and_no_other(
    project: Project, data_dir: Path
) -> None:
    settings = {"TASK_CONCURRENCY": "2"}
    with running(project, data_dir, **settings) as service:
        # It must not die before its client has the answer, nor before what runs beside it.
        poison, *others = probe(service, "die 0.5", "sleep 2", "sleep 0")
        until(lambda: not service.api.alive(), 60, "it dies")
    for _ in range(2):
        dying = Service(project, data_dir, **settings)
        try:
            until(lambda dying=dying: not dying.api.alive(), 60, "it dies again")  # type: ignore[misc]
        finally:
            dying.kill()
    with running(project, data_dir, **settings) as service:
        end = service.wait_for_task(poison)
        assert (end["status"], end["attempts"]) == ("failed", 3)
        assert "its process died" in end["error"]
        for other in others:
            assert service.wait_for_task(other)["status"] == "succeeded"


def test_a_process_that_is_forked_ignores_sigterm(project: Project, data_dir: Path) -> None:
    with running(project, data_dir) as service:
        forked, spawned = probe(service, "terminate fork", "terminate spawn")
        assert service.wait_for_task(forked)["error"] == "ValueError: ended by -9"  # not by SIGTERM
        assert service.wait_for_task(spawned)["error"] == "ValueError: ended by -15"
    assert "or by `multiprocessing` with `spawn`" in project.read("README.md")


def test_slow_mails_leave_other_endpoints_alone(project: Project, data_dir: Path) -> None:
    def latency(service: Service) -> float:
        begin = time.perf_counter()
        assert service.client.get("/health/live").status_code == 200
        return time.perf_counter() - begin

    with (
        mail_server(delay=30) as mailbox,
        # A hundred are accepted by default.
        running(
            project,
            data_dir,
            **mailbox.settings | {"MAILS_PER_MINUTE": "", "SHUTDOWN_GRACE": "0.1"},
        ) as service,
        running(project, data_dir.parent / "idle") as idle,  # on the same machine, in turn
    ):

        def takes_at_most_twice() -> bool:
            pairs = [(latency(service), latency(idle)) for _ in range(200)]
            busy, normal = (statistics.median(each) for each in zip(*pairs, strict=True))
            return bool(busy < 2 * normal)

        for _ in range(100):
            response = service.client.post("/send-email/", params={"email": "ada@example.com"})
            assert response.status_code == 202
        # A neighbour on the machine slows some rounds down, mails would slow them all.
        until(takes_at_most_twice, 20, "an unrelated endpoint takes at most twice its time")


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_finishes_or_keeps_and_repeats_nothing(
    project: Project, data_dir: Path, workers: int
) -> None:
    settings = {"TASK_CONCURRENCY": "2", "SHUTDOWN_GRACE": "5"}
    with running(project, data_dir, *processes(workers), **settings) as service:
        ids = probe(service, *["sleep 0.7"] * 12)
        until(lambda: lines(data_dir), 30, "the first ones run")
    first = lines(data_dir)
    assert 0 < len(first) < 2 * len(ids)
    assert {task for task in first if task.endswith("begins")} == {
        task.replace("ends", "begins") for task in first if task.endswith("ends")
    }
    with running(project, data_dir, *processes(workers), **settings) as service:
        for task_id in ids:
            assert service.wait_for_task(task_id)["attempts"] == 1
    assert lines(data_dir) == Counter(f"{i} {what}" for i in ids for what in ("begins", "ends"))


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])  # Ctrl-C waits for threads
def test_a_task_that_outlasts_the_grace_is_run_again(
    project: Project, data_dir: Path, sig: signal.Signals
) -> None:
    with running(project, data_dir, SHUTDOWN_GRACE="0.2") as service:
        (task_id,) = probe(service, "wait")
        until(lambda: lines(data_dir), 30, "it begins")
        service.api.stop(sig, seconds=9)  # less than the default
    (data_dir / "gate").touch()
    with running(project, data_dir) as service:
        end = service.wait_for_task(task_id)
        assert (end["status"], end["attempts"]) == ("succeeded", 2)


def test_a_reload_keeps_what_waits(project: Project, data_dir: Path) -> None:
    with running(project, data_dir, "--reload", TASK_CONCURRENCY="1") as service:
        ids = probe(service, "wait", *["sleep 0"] * 4)
        (project.path / "src" / "task_service" / "main.py").touch()
        until(lambda: "application shutdown" in service.api.output(), 60, "it reloads")
        (data_dir / "gate").touch()
        until(lambda: "taking over" in service.api.output(), 60, "it recovers")
        for task_id in ids:
            assert service.wait_for_task(task_id)["status"] == "succeeded"
    assert lines(data_dir) == Counter(f"{i} {what}" for i in ids for what in ("begins", "ends"))


def test_processes_that_log_at_once_tear_no_line(project: Project, data_dir: Path) -> None:
    code = """
import os, resource
from task_service.tasks.log import write_log
resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))  # none is left open
for letter in "abcdefgh":
    if not os.fork():
        for _ in range(2_000):
            write_log(letter * 5_000)
        os._exit(0)
print(*(os.wait()[1] for _ in "abcdefgh"))
"""
    codes = project.run(project.bin("python"), "-c", code, DATA_DIR=str(data_dir))
    assert codes.split() == ["0"] * 8
    written = Counter((data_dir / "log.txt").read_text().splitlines())
    assert written == Counter({letter * 5_000: 2_000 for letter in "abcdefgh"})


def test_a_disk_that_takes_a_part_of_a_line_tears_none(project: Project, data_dir: Path) -> None:
    code = """
import resource
from task_service.tasks.log import write_log
write_log("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
try:
    write_log("during")
except OSError:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    write_log("after")
"""
    project.run(project.bin("python"), "-c", code, DATA_DIR=str(data_dir))
    assert (data_dir / "log.txt").read_text() == "before\nafter\n"


@pytest.mark.parametrize(
    ("declared", "error"),
    [
        ("def probe(): ...", "two tasks are called 'probe'"),
        ("def export(**report): ...", "export: a task's arguments are stored by name"),
        ("def export(report, /): ...", "export: a task's arguments are stored by name"),
    ],
)
def test_a_task_that_could_not_be_found_or_called_again_is_refused_as_it_is_declared(
    project: Project, declared: str, error: str
) -> None:
    code = f"from {SLUG}.tasks import probe\nfrom {SLUG}.taskqueue import task\n@task()\n{declared}"
    with pytest.raises(AssertionError, match=re.escape(error)):
        project.run(project.bin("python"), "-c", code)
