"""How it is measured: wrk, the lines of a file, /proc."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx2

from harness.project import SLUG, Project, bake
from harness.servers import missing

from .contenders import PLAIN, Server

SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Load:
    """What came of a load; an answer of 400 or more is an error, not an answer."""

    rate: float  # answers per second
    p50: float  # ms
    p99: float  # ms
    errors: int
    answers: int
    lines: float = 0.0  # per second, in the same time


def need(*programs: str) -> None:
    """Exit with a line that names the programs which are missing."""
    if names := " ".join(missing(*programs)):
        sys.exit(f"error: {names} not found; on Debian: apt-get install {names}")


def progress(text: str) -> None:
    """Say what goes on, beside the tables."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def install(folder: Path, backend: str) -> Project:
    """Render a project, with one endpoint more, and make its environment."""
    progress(f"rendering a project on {backend}")
    project = bake(folder, task_backend=backend)
    with (project.path / "src" / SLUG / "main.py").open("a", encoding="utf-8") as file:
        file.write(PLAIN)
    project.sync()
    return project


def wrk(url: str, connections: int, seconds: float, method: str = "POST") -> Load:
    """Put one page under load, from one thread."""
    result = subprocess.run(
        [
            *("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"),
            *("-s", str(SCRIPT), url, "--", method),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    got = json.loads(result.stderr)
    return Load(
        got["answers"] / got["seconds"], got["p50"], got["p99"], got["errors"], got["answers"]
    )


def items(server: Server, connections: int, seconds: float) -> Load:
    """Put ``POST /items/`` under load, and count the effects in the same time."""
    before, start = server.lines(), time.monotonic()
    load = wrk(f"{server.url}/items/?name=Lamp", connections, seconds)
    lines = (server.lines() - before) / (time.monotonic() - start)
    return replace(load, lines=lines)


def send(server: Server, mails: int) -> None:
    """Have mails accepted, each to an address of its own."""
    with httpx2.Client(base_url=server.url, timeout=30) as client:
        for number in range(mails):
            query = {"email": f"user{number}@example.com"}
            client.post("/send-email/", params=query).raise_for_status()


def drain(effects: Callable[[], int], total: int, seconds: float = 60) -> int:
    """Wait for the effects of so many tasks; returns how many have come when no more do in 10 s."""
    deadline = time.monotonic() + seconds
    seen, since = effects(), time.monotonic()
    while seen < total and time.monotonic() < deadline and time.monotonic() < since + 10:
        time.sleep(0.1)
        if (now := effects()) > seen:
            seen, since = now, time.monotonic()
    return seen


def settle(server: Server) -> None:
    """Wait until no more tasks have their effect."""
    lines = -1
    while (now := server.lines()) > lines:
        lines = now
        time.sleep(0.3)


def to_effect(server: Server, times: int) -> list[float]:
    """Return the milliseconds from an answer to its task's effect, one task at a time."""
    delays = []
    with httpx2.Client(base_url=server.url, timeout=10) as client:
        for _ in range(times):
            size = server.log.stat().st_size
            client.post("/items/", params={"name": "Lamp"}).raise_for_status()
            start = time.monotonic()
            while server.log.stat().st_size == size and time.monotonic() < start + 10:
                time.sleep(0.0005)
            delays.append((time.monotonic() - start) * 1000)
    return delays


def memory(pid: int) -> float:
    """Return the MB of a process and its children, each shared page counted once."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    own = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return own / 1024 + sum(memory(int(child)) for child in children)


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return the median, and the lowest and highest in brackets."""
    texts = (f"{v:,.{digits}f}" for v in (statistics.median(values), min(values), max(values)))
    return "{} ({} to {})".format(*texts)
