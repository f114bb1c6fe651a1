"""Brokers of one's own, on free ports of 127.0.0.1, to be frozen, stopped, killed and started."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from .project import SLUG
from .service import Process, free_port, until

RABBITMQ = "/usr/lib/rabbitmq/bin"  # Debian's wrapper in /usr/sbin insists on a user of its own


def path() -> str:
    """Return where programs are looked for."""
    return f"{RABBITMQ}:{os.environ['PATH']}"


def missing(*programs: str) -> list[str]:
    """Return those of the programs that this machine lacks."""
    return [name for name in programs if not shutil.which(name, path=path())]


class Server:
    """A server in a process group of its own, with its data in a folder."""

    programs: tuple[str, ...] = ()  # what must be installed
    greeting = b""
    hello = b""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "server.log"
        self._process: Process | None = None
        folder.mkdir(parents=True)

    @property
    def url(self) -> str:
        """Return what ``CELERY_BROKER_URL`` takes."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return what starts it."""
        raise NotImplementedError

    def settings(self) -> dict[str, str]:
        """Return what it is started with, beside this process's environment."""
        return {}

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = Process(self.command(), self.folder, self.log, **self.settings())
        until(self.answers, 180, f"{type(self).__name__} answers (see {self.log})")

    def answers(self) -> bool:
        """Tell whether it does; raises AssertionError with its log when it has ended."""
        assert self._process  # noqa: S101, for the type checker
        if not self._process.alive():
            raise AssertionError(self._process.output())
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.settimeout(1)
            connection.sendall(self.hello)
            return connection.recv(100).startswith(self.greeting)
        return False

    def _signal(self, sig: signal.Signals) -> None:
        assert self._process  # noqa: S101, for the type checker
        self._process.send(sig)

    def freeze(self) -> None:
        """Let it hold its connections and answer nothing, from now on."""
        self._signal(signal.SIGSTOP)
        until(self._frozen, 10, "it is frozen")  # a busy machine takes a while to stop it

    def _frozen(self) -> bool:
        assert self._process  # noqa: S101, for the type checker
        ps = subprocess.run(
            ["ps", "-A", "-o", "pgid=", "-o", "stat="], capture_output=True, text=True, check=True
        )
        processes = map(str.split, ps.stdout.splitlines())
        return all(stat[0] in "TZ" for pgid, stat in processes if int(pgid) == self._process.pid)

    def release(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> None:
        """Stop it in order, or with another signal, and wait for its end."""
        if process := self._process:
            process.send(sig)
            process.send(signal.SIGCONT)
            with suppress(TimeoutError):
                until(lambda: not process.alive(), 30, "it ends")
            process.kill()
            self._process = None

    def kill(self) -> None:
        """End it without warning."""
        self.stop(signal.SIGKILL)

    def end(self) -> None:
        """Stop it for good."""
        self.kill()


class Redis(Server):
    """Redis, keeping its data over a restart as a queue should: appended to a file."""

    programs = ("redis-server",)
    hello, greeting = b"PING\r\n", b"+PONG"

    @property
    def url(self) -> str:
        """Return what ``CELERY_BROKER_URL`` takes."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return what starts it."""
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return ["redis-server", *options, "--save", "", "--appendonly", "yes"]

    def ask(self, *words: str) -> str:
        """Send a command; returns the answer as it comes over the wire."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.settimeout(5)
            arguments = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
            connection.sendall(f"*{len(words)}\r\n{arguments}".encode())
            return connection.recv(65_536).decode()


class RabbitMQ(Server):
    """RabbitMQ, with an Erlang port mapper of its own so that no daemon outlives it."""

    programs = ("rabbitmq-server", "epmd")
    vhost = "/"
    rights = f"{SLUG}|celery_delayed|celeryev|amq.default"  # no more than the README says
    hello, greeting = b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._mapper_port = free_port()
        self._mapper: Process | None = None
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndisk_free_limit.absolute = 1MB\n"
            "vm_memory_high_watermark.relative = 0.9\n",
            encoding="utf-8",
        )

    @property
    def url(self) -> str:
        """Return what ``CELERY_BROKER_URL`` takes."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{self.vhost}"

    def command(self) -> list[str]:
        """Return what starts it."""
        return ["rabbitmq-server"]

    def settings(self) -> dict[str, str]:
        """Return what it is started with: a node name, ports and folders that are its own."""
        return {
            "PATH": path(),
            "HOME": str(self.folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_LOGS": "-",
            # Spare the machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
            "RABBITMQ_CTL_ERL_ARGS": "+S 1:1 +sbwt none",
        }

    def start(self) -> None:
        """Start it and wait until it answers."""
        if not self._mapper:
            command = ["epmd", "-address", "127.0.0.1", "-port", str(self._mapper_port)]
            self._mapper = Process(command, self.folder, self.folder / "epmd.log")
        super().start()

    def control(self, *arguments: str) -> None:
        """Run ``rabbitmqctl``."""
        subprocess.run(
            ["rabbitmqctl", *arguments],
            env=os.environ | self.settings(),
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=180,
        )

    def apart(self) -> "RabbitMQ":
        """Return it with queues of its own, those of a new virtual host."""
        other = copy(self)
        other.vhost = uuid4().hex
        other.define()
        return other

    def define(self) -> None:
        """Make its virtual host."""
        rights = {"user": "guest", "vhost": self.vhost, "configure": self.rights}
        rights |= {"write": self.rights, "read": self.rights}
        exchange: dict[str, object]  # which any other service on Celery has declared there
        exchange = {"name": "celery", "vhost": self.vhost, "type": "direct", "arguments": {}}
        exchange |= {"durable": True, "auto_delete": False}
        vhosts = [{"name": self.vhost}]
        definitions = {"vhosts": vhosts, "permissions": [rights], "exchanges": [exchange]}
        path = self.folder / f"{self.vhost}.json"
        path.write_text(json.dumps(definitions), "utf-8")
        self.control("import_definitions", str(path))  # in one call: each takes a second

    def end(self) -> None:
        """Stop it for good, and its port mapper."""
        super().end()
        if self._mapper:
            self._mapper.kill()


S = TypeVar("S", bound=Server)


@contextmanager
def started(server: S) -> Iterator[S]:
    """Run a server until the block ends."""
    try:
        server.start()
        yield server
    finally:
        server.end()
