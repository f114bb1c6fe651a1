"""``make losses``: what a fault costs the tutorial's code, and what the rendered project."""

import tempfile
import time
from pathlib import Path

import httpx2

from harness.mail import Mailbox, mail_server
from harness.probes import add_probes

from .contenders import PLAIN, TUTORIAL_MAIL, Contender
from .measure import drain, install, progress, send
from .report import judge, machine, table

MAILS = 100
PAIRS = 10
SLOW = 40  # as many as AnyIO has threads for plain endpoints and for tasks

FAULTY = """

def fail():
    raise ValueError("no")


def succeed():
    with open("probe.log", "a") as log_file:
        log_file.write("done ends\\n")


@app.post("/probes/")
async def create_probes(background_tasks: BackgroundTasks):
    background_tasks.add_task(fail)
    background_tasks.add_task(succeed)
"""


def killed(contender: Contender, folder: Path) -> str:
    """Kill a service that has accepted mails, and start it again."""
    with mail_server(delay=1) as mailbox:
        with contender.serve(folder, **mailbox.settings) as server:
            send(server, MAILS)
        with contender.serve(folder, **mailbox.settings):
            arrived = drain(lambda: len(addresses(mailbox)), MAILS)
        return f"{MAILS - arrived} lost, {len(mailbox.mails) - arrived} sent twice"


def addresses(mailbox: Mailbox) -> set[str]:
    """Return whom mails have reached."""
    return {mail["To"] for mail in mailbox.mails}


def failed(contender: Contender, folder: Path) -> str:
    """Have two tasks accepted with each request, of which the first raises."""
    with contender.serve(folder) as server:
        for _ in range(PAIRS):
            # The tutorial's code takes no heed of the query.
            query = {"what": ["refuse", "succeed"]}
            httpx2.post(f"{server.url}/probes/", params=query).raise_for_status()
        log = folder / "probe.log"
        done = drain(lambda: log.read_text("utf-8").count(" ends") if log.exists() else 0, PAIRS)
        return f"{PAIRS - done} lost"


def stalled(contender: Contender, folder: Path) -> str:
    """Time a plain endpoint while mails wait for a slow server."""
    with (
        mail_server(delay=5) as mailbox,
        contender.serve(folder, **mailbox.settings, SMTP_TIMEOUT="30") as server,
        httpx2.Client(base_url=server.url, timeout=60) as client,
    ):
        send(server, SLOW)
        start = time.monotonic()
        client.get("/plain").raise_for_status()
        return f"{time.monotonic() - start:.2f} s"


# How a service is hurt, and what is promised of the rendered one.
FAULTS = {
    f"`kill -9` with {MAILS} mails accepted (1 s each), then a start": (killed, "0 lost"),
    f"{PAIRS} requests with two tasks, of which the first raises": (failed, "0 lost"),
    f"A plain `def` endpoint's answer while {SLOW} mails take 5 s each": (stalled, r"0\."),
}


def main() -> None:
    """Hurt both, and print what came of it; exits with 1 where it is not as promised."""
    with tempfile.TemporaryDirectory(prefix="losses-") as name:
        folder = Path(name)
        project = install(folder, "BackgroundTasks")
        add_probes(project)
        contenders = [
            Contender("tutorial", project, {"main.py": TUTORIAL_MAIL + PLAIN + FAULTY}),
            Contender("rendered", project),
        ]
        rows = []
        for fault, (hurt, _) in FAULTS.items():
            cells = []
            for contender in contenders:
                progress(f"{contender.name}: {fault}")
                cells.append(hurt(contender, folder / f"{contender.name}-{hurt.__name__}"))
                progress(cells[-1])
            rows.append([fault, *cells])
        print(f"\n{machine(project)}")
        table("What a fault costs on BackgroundTasks", ["", "tutorial", "rendered"], rows)
        judge(rows, [promised for _, promised in FAULTS.values()])


if __name__ == "__main__":
    main()
