"""BackgroundTasks: the rendered project, the tutorial's code, and an endpoint without a task."""

import statistics
import time
from collections import defaultdict
from pathlib import Path

from harness.mail import mail_server
from harness.project import Project
from harness.service import until

from .contenders import BARE, PLAIN, TUTORIAL, TUTORIAL_MAIL, Contender, Server
from .measure import Load, drain, items, memory, progress, send, settle, spread, wrk
from .report import plot, table

ROUNDS = 3
SECONDS = 4
CONNECTIONS = (1, 32, 128)
MAILS = 100
WAITING = 100_000
MILLION = 1_000_000
# The tutorial refuses nobody, so the backlog is to refuse nobody either.
SETTINGS = {"TASK_BACKLOG": "1000000"}

Results = dict[tuple[str, int], list[Load]]


def run(project: Project, folder: Path, machine: str) -> None:
    """Measure everything but the million."""
    rendered = Contender("rendered", project)
    contenders = [
        Contender("tutorial", project, {"main.py": TUTORIAL}),
        rendered,
        Contender("bare endpoint", project, {"main.py": BARE}),
    ]
    mailing = Contender("tutorial", project, {"main.py": TUTORIAL_MAIL + PLAIN})
    loads, memories = throughput(contenders, folder)
    for connections in CONNECTIONS:
        rows = [
            row(name, loads[name, connections], memories[name] if connections == 128 else [])
            for name in (contender.name for contender in contenders)
        ]
        header = ["", "requests/s", "p50, ms", "p99, ms", "tasks done/s", "errors", "memory, MB"]
        table(f"`POST /items/`, {connections} connections", header, rows)
    isolation([mailing, rendered], folder)
    recovery(rendered, folder)
    at_32 = {c.name: loads[c.name, 32] for c in contenders}
    panels = [
        ("requests/s", {name: middle(each, "rate") for name, each in at_32.items()}),
        ("tasks done/s", {name: middle(at_32[name], "lines") for name in ("tutorial", "rendered")}),
        ("p99, ms", {name: middle(each, "p99") for name, each in at_32.items()}),
    ]
    caption = f"POST /items/, 32 connections; medians of {ROUNDS} runs; {machine}"
    progress(f"plot: {plot(panels, caption)}")


def middle(loads: list[Load], name: str) -> float:
    """Return the median of one of the figures."""
    return statistics.median(float(getattr(load, name)) for load in loads)


def row(name: str, loads: list[Load], memories: list[float]) -> list[str]:
    """Return one contender's line of the table."""
    return [
        name,
        spread([load.rate for load in loads]),
        spread([load.p50 for load in loads], 1),
        spread([load.p99 for load in loads], 1),
        spread([load.lines for load in loads]) if any(load.lines for load in loads) else "",
        f"{sum(load.errors for load in loads):,}",
        spread(memories) if memories else "",
    ]


def throughput(contenders: list[Contender], folder: Path) -> tuple[Results, dict[str, list[float]]]:
    """Put each under load in turn, several times, each time as a new process."""
    loads: Results = defaultdict(list)
    memories: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS):
        for contender in contenders:
            with contender.serve(folder / f"{contender.name}{number}", **SETTINGS) as server:
                items(server, 8, 1)  # to warm up
                for connections in CONNECTIONS:
                    if contender.name != "bare endpoint":
                        settle(server)
                    load = items(server, connections, SECONDS)
                    loads[contender.name, connections].append(load)
                    progress(
                        f"round {number + 1} of {ROUNDS}, {contender.name}, {connections}"
                        f" connections: {load.rate:,.0f} requests/s, {load.lines:,.0f} tasks/s"
                    )
                memories[contender.name].append(memory(server.api.pid))
    return loads, memories


def isolation(contenders: list[Contender], folder: Path) -> None:
    """Print the latency of other endpoints, idle and while mails wait for a slow server."""
    rows = []
    for contender in contenders:
        with mail_server(delay=30) as mailbox:
            settings = SETTINGS | mailbox.settings | {"SMTP_TIMEOUT": "60"}
            with contender.serve(folder / f"mails-{contender.name}", **settings) as server:
                idle = others(server)
                send(server, MAILS)
                waiting = others(server)
        for kind in idle:
            rows.append([f"{contender.name}, {kind}", idle[kind], waiting[kind]])
            progress(f"{contender.name}, {kind}: {idle[kind]} idle, {waiting[kind]} waiting")
    table(
        f"Other endpoints while {MAILS} mails wait for a slow server (30 s each); p50, p99 in ms",
        ["", "idle", "mails wait"],
        rows,
    )


def others(server: Server) -> dict[str, str]:
    """Return the latency of an endpoint that starts no task, on the event loop and on a thread."""
    found = {}
    for kind, path in (("`async def`", "/health/live"), ("`def`", "/plain")):
        load = wrk(f"{server.url}{path}", 1, SECONDS, "GET")
        found[kind] = (
            f"{load.p50:.2f}, {load.p99:.2f}" if load.answers else f"no answer in {SECONDS} s"
        )
        if load.errors:
            found[kind] += f", {load.errors} errors"
    return found


def accept(server: Server, total: int) -> int:
    """Send requests until so many tasks are accepted; returns how many are."""
    accepted = 0
    while accepted < total:
        load = wrk(f"{server.url}/items/?name=Lamp", 32, 2)
        if not load.answers:
            raise AssertionError(f"{load.errors} errors: {server.api.output()[-2000:]}")
        accepted += load.answers
        progress(f"{accepted:,} of {total:,} tasks accepted")
    return accepted


def recovery(rendered: Contender, folder: Path) -> None:
    """Print how long a start after ``kill -9`` takes with many tasks waiting."""
    data = folder / "recovery"
    with mail_server(delay=3600) as mailbox:
        # The only task thread is kept by a mail server that never answers: all others wait.
        stuck = {"TASK_CONCURRENCY": "1", "SMTP_TIMEOUT": "3600"} | mailbox.settings
        with rendered.serve(data, **SETTINGS, **stuck) as server:
            send(server, 1)
            time.sleep(0.5)
            accepted = accept(server, WAITING)
            done = server.lines()
    start = time.monotonic()
    with rendered.serve(data, **SETTINGS) as server:
        up = time.monotonic() - start
        until(lambda: server.lines() > done, 60, "the first waiting task has run")
        first = time.monotonic() - start
        seen = drain(server.lines, accepted, 300)
        every = time.monotonic() - start
        used = memory(server.api.pid)
    rows = [
        ["first answer", f"{up:.1f} s"],
        ["first waiting task done", f"{first:.1f} s"],
        ["all done", f"{every:.1f} s"],
        ["tasks lost", f"{max(0, accepted - seen):,}"],
        ["memory", f"{used:.0f} MB"],
    ]
    table(f"A start after `kill -9` with {accepted:,} tasks waiting", ["", ""], rows)


def million(project: Project, folder: Path) -> None:
    """Print memory and file size while a million small tasks pass through."""
    settings = {"TASK_HISTORY": "10"}  # seconds: what is kept for a day is kept on purpose
    rows = []
    errors = done = 0
    start, step = time.monotonic(), 0
    with Contender("rendered", project).serve(folder / "million", **settings) as server:
        while done < MILLION:
            errors += wrk(f"{server.url}/items/?name=Lamp", 32, 2).errors
            done = server.lines()
            progress(f"{done:,} of {MILLION:,} tasks done")
            if done >= step:
                step += MILLION // 10
                kept = [p for p in server.folder.rglob("*") if p.suffix not in {".txt", ".log"}]
                rows.append(
                    [
                        f"{done:,}",
                        f"{time.monotonic() - start:.0f} s",
                        f"{memory(server.api.pid):.0f} MB",
                        f"{sum(p.stat().st_size for p in kept if p.is_file()) / 2**20:.0f} MB",
                        f"{errors:,}",
                    ]
                )
    header = ["tasks done", "after", "memory", "files of the queue", "errors (503)"]
    table("A million small tasks; records kept 10 s", header, rows)
