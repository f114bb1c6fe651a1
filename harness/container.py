"""Builds and runs a Dockerfile without Docker: its own instructions, on copy-on-write views of this
machine, which stands for the base image. Needs root, for namespaces and mounts (Linux)."""

import contextlib
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .service import Process, until

UV = Path(sys.executable).with_name("uv")
# Docker's own; and what this machine needs to reach the package registries.
BASE_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
NETWORK = {k: v for k, v in os.environ.items() if re.search(r"^(UV|SSL)_|_proxy$", k, re.I)}


@dataclass(frozen=True)
class Stage:
    """An image: what it adds to the machine's root, and how a container of it starts."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(BASE_ENVIRONMENT))
    folder: str = "/"
    user: str = "0"
    volumes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    health: tuple[str, ...] = ()


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return each instruction and its argument; they stand on a line each."""
    lines = [line for line in dockerfile.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def sent_to_docker(context: Path) -> list[Path]:
    """Return the files that .dockerignore lets through; its last line that fits decides."""
    rules = [
        (line.lstrip("!"), line.startswith("!"))
        for line in (context / ".dockerignore").read_text("utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    sent = []
    for path in context.rglob("*"):
        name, kept = path.relative_to(context).as_posix(), True
        parents = [name, *(parent.as_posix() for parent in Path(name).parents)]
        for pattern, again in rules:
            if any(fnmatch.fnmatch(p, pattern.replace("**/", "*")) for p in parents):
                kept = again
        if kept and path.is_file():
            sent.append(path)
    return sent


def _copy(sources: list[tuple[Path, str]], target: str, stage: Stage) -> None:
    path = os.path.join(stage.folder, target)  # as in the image, where / is the stage's root
    for source, name in sources:
        into = stage.root / os.path.join(path, name if target.endswith("/") else "").lstrip("/")
        into.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            subprocess.run(["cp", "-a", str(source), str(into)], check=True)
        else:
            shutil.copy(source, into)


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def build(context: Path, work: Path) -> dict[str, Stage]:
    """Carry out the Dockerfile of ``context``; returns the image of each stage by its name.

    Raises CalledProcessError when an instruction fails.
    """
    stages: dict[str, Stage] = {}
    name = ""
    for word, argument in instructions((context / "Dockerfile").read_text("utf-8")):
        if word == "FROM":
            base, _, name = argument.partition(" AS ")
            root = work / name
            if base in stages:
                subprocess.run(["cp", "-a", str(stages[base].root), str(root)], check=True)
                stages[name] = replace(stages[base], root=root)
            else:
                root.mkdir(mode=0o755)
                stages[name] = Stage(root)
                if "/uv:" in base:
                    shutil.copy(UV, root)
            continue
        stage = stages[name]
        match word:
            case "COPY":
                flag, *rest = argument.split()
                if flag.startswith("--from="):
                    source, target = rest
                    origin = stages[flag.removeprefix("--from=")].root / source.lstrip("/")
                    _copy([(origin, origin.name)], target, stage)
                    continue
                *patterns, target = argument.split()
                found = [(p, p.relative_to(context).as_posix()) for p in sent_to_docker(context)]
                if patterns != ["."]:
                    found = [f for f in found if any(fnmatch.fnmatch(f[1], p) for p in patterns)]
                _copy(found, target.rstrip("/") + "/", stage)
            case "ENV":
                pairs = (pair.partition("=") for pair in shlex.split(argument))
                new = {k: v.replace("$PATH", stage.environment["PATH"]) for k, _, v in pairs}
                stage = replace(stage, environment=stage.environment | new)
            case "WORKDIR":
                (stage.root / argument.lstrip("/")).mkdir(parents=True, exist_ok=True)
                stage = replace(stage, folder=argument)
            case "USER":
                stage = replace(stage, user=argument)
            case "VOLUME":
                stage = replace(stage, volumes=(*stage.volumes, argument))
            case "CMD":
                stage = replace(stage, command=tuple(json.loads(argument)))
            case "HEALTHCHECK":
                stage = replace(stage, health=tuple(json.loads(argument.partition(" CMD ")[2])))
            case "RUN":
                command = re.sub(r"--mount=\S+ ", "", argument)
                script = _script(stage, ["sh", "-c", command], NETWORK)
                _run("unshare", "--mount", "sh", "-ec", script).check_returncode()
            case "LABEL" | "EXPOSE":
                pass
            case _:
                raise NotImplementedError(word)
        stages[name] = stage
    return stages


def _script(
    stage: Stage, command: Sequence[str], settings: dict[str, str], final: Sequence[str] = ()
) -> str:
    """Return what turns a new namespace into a container of ``stage`` that runs ``command``."""
    merged, scratch = (stage.root.with_suffix(suffix) for suffix in (".merged", ".scratch"))
    merged.mkdir(exist_ok=True)
    scratch.mkdir(exist_ok=True)
    environment = {**stage.environment, **settings, "HOME": "/root"}
    program = [
        *("chroot", f"--userspec={stage.user}:{stage.user}", str(merged)),
        *("env", "-i", "--chdir", stage.folder, *(f"{k}={v}" for k, v in environment.items())),
        *command,
    ]
    return "\n".join(
        [
            f"mount -t overlay none -o lowerdir=/,upperdir={stage.root},workdir={scratch} {merged}",
            f"mount -t proc none {merged}/proc",
            f"mount --rbind /dev {merged}/dev",
            *(line.format(merged) for line in final),
            f"exec {shlex.join(program)}",
        ]
    )


class Container(Process):
    """A running image: process 1 of its own, no network but a loopback, its root read-only.

    The loopback is shared with the container that it is ``beside``.
    """

    def __init__(
        self,
        stage: Stage,
        log: Path,
        *,
        beside: "Container | None" = None,
        tmpfs: Sequence[str] = (),
        **settings: str,
    ) -> None:
        self._stage = stage
        self._environment = stage.environment | settings
        final = ["ip link set lo up", "mount -o remount,ro {}"]
        final += [f"mount -t tmpfs none {{}}{folder}" for folder in tmpfs]
        for number, folder in enumerate(stage.volumes):  # new ones, filled from the image
            volume = log.with_suffix(f".volume{number}")
            _run("cp", "-a", f"{stage.root}{folder}", str(volume)).check_returncode()
            final.append(f"mount --bind {volume} {{}}{folder}")
        script = _script(stage, stage.command, settings, final)
        network = ["nsenter", f"--target={beside.first()}", "--net"] if beside else []
        unshare = ["unshare", "--mount", "--pid", "--fork", *([] if beside else ["--net"])]
        super().__init__([*network, *unshare, "sh", "-ec", script], Path("/"), log)

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container, as its user."""
        user = self._stage.user
        entered = ["nsenter", f"--target={self.first()}", "--mount", "--net", "--pid", "--root"]
        return _run(
            *(*entered, "--setuid", user, "--setgid", user, "env", "-i"),
            *(f"{key}={value}" for key, value in self._environment.items()),
            *command,
        )

    def healthy(self) -> bool:
        """Run the image's HEALTHCHECK."""
        return self.exec(*self._stage.health).returncode == 0

    def stop(self, sig: signal.Signals = signal.SIGTERM, seconds: float = 60) -> int:
        """Do as ``docker stop``: the signal goes to process 1, not to ``unshare``."""
        if self.alive():
            os.kill(self.first(), sig)
        return self.wait(seconds)

    def kill(self) -> None:
        """End it at once: process 1, and the kernel all others of the container."""
        with contextlib.suppress(AssertionError, ProcessLookupError):  # it has ended
            os.kill(self.first(), signal.SIGKILL)
        self._process.wait()

    def first(self) -> int:
        """Return the id of its process 1, as the machine has it."""

        def child() -> list[int]:
            if not self.alive():
                raise AssertionError(f"the container has ended:\n{self.output()}")
            return self.children()

        return until(child, 60, "process 1 exists")[0]
