"""Celery: the rendered project and the textbook's ``.delay()``, and the two brokers."""

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from harness.project import Project
from harness.servers import RabbitMQ, Redis, started
from harness.service import until

from .contenders import CELERY_MAIN, CELERY_TASKS, Contender
from .measure import Load, drain, items, memory, progress, settle, spread, to_effect
from .report import table

ROUNDS = 3
SECONDS = 4
CONNECTIONS = 32
FIGURES = {  # with their digits after the point
    "requests/s": 0,
    "p50, ms": 1,
    "p99, ms": 1,
    "tasks/s": 0,
    "to effect, ms": 1,
    "API, MB": 0,
    "worker, MB": 0,
}


@dataclass(frozen=True)
class Run:
    """What came of one run: the load without a worker, then one worker's work."""

    load: Load
    tasks: float  # per second
    delays: list[float]  # ms
    api: float  # MB
    worker: float  # MB


def run(project: Project, folder: Path) -> None:
    """Measure both on Redis, then the rendered project on RabbitMQ as well."""
    contenders = [
        Contender("textbook", project, {"tasks.py": CELERY_TASKS, "main.py": CELERY_MAIN}),
        Contender("rendered", project),
    ]
    runs: dict[str, list[Run]] = defaultdict(list)
    with (
        started(Redis(folder / "redis")) as redis,
        started(RabbitMQ(folder / "rabbitmq")) as rabbit,
    ):
        places: list[tuple[str, Contender, Redis | RabbitMQ]] = [
            ("textbook, Redis", contenders[0], redis),
            ("rendered, Redis", contenders[1], redis),
            ("rendered, RabbitMQ", contenders[1], rabbit),
        ]
        for number in range(ROUNDS):
            for name, contender, broker in places:
                settings = {
                    "CELERY_BROKER_URL": broker.url,
                    "CELERY_RESULT_BACKEND": redis.url if contender.name == "rendered" else "",
                }
                progress(f"round {number + 1} of {ROUNDS}, {name}")
                got = measure(contender, folder / f"{name}-{number}", settings)
                redis.ask("FLUSHALL")
                runs[name].append(got)
                progress(f"{got.load.rate:,.0f} requests/s, {got.tasks:,.0f} tasks/s of one worker")
    table(
        f"`POST /items/`, {CONNECTIONS} connections; then one worker with two processes",
        ["", *FIGURES, "errors"],
        [row(name, each) for name, each in runs.items()],
    )


def figures(runs: list[Run]) -> list[list[float]]:
    """Return each figure of all runs."""
    loads = [run.load for run in runs]
    return [
        [load.rate for load in loads],
        [load.p50 for load in loads],
        [load.p99 for load in loads],
        [run.tasks for run in runs],
        [delay for run in runs for delay in run.delays],
        [run.api for run in runs],
        [run.worker for run in runs],
    ]


def row(name: str, runs: list[Run]) -> list[str]:
    """Return one line of the table."""
    pairs = zip(figures(runs), FIGURES.values(), strict=True)
    cells = [spread(*pair) for pair in pairs]
    return [name, *cells, f"{sum(run.load.errors for run in runs):,}"]


def measure(contender: Contender, folder: Path, settings: dict[str, str]) -> Run:
    """Fill the queue without a worker, start one, and time its work."""
    with contender.serve(folder, **settings) as server:
        waiting = items(server, 8, 1).answers  # to warm up
        load = items(server, CONNECTIONS, SECONDS)
        api = memory(server.api.pid)
        worker = server.start_worker()
        until(server.lines, 60, "the worker has begun")
        done, start = server.lines(), time.monotonic()
        tasks = drain(server.lines, waiting + load.answers) - done
        rate = tasks / (time.monotonic() - start)
        settle(server)  # requests that were under way at the end of the load are tasks too
        delays = to_effect(server, 50)[5:]
        return Run(load, rate, delays, api, memory(worker.pid))
