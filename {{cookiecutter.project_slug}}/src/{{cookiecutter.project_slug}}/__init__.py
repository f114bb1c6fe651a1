import contextlib
import hashlib
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from functools import cache
from itertools import count
from pathlib import Path

from .settings import refuse


def _metrics_folder() -> str:
    """Return a folder named after a secret that the processes of a service alone share."""
    secret = hashlib.sha256(multiprocessing.current_process().authkey).hexdigest()
    # In memory where Linux has it: a write to a mapped file on a full disk kills the process.
    in_memory = not os.environ.get("TMPDIR") and os.access("/dev/shm", os.W_OK)  # noqa: S108
    place = "/dev/shm" if in_memory else tempfile.gettempdir()  # noqa: S108
    folder = Path(place, f"{__name__}-metrics-{secret}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if sys.platform != "win32":
        import fcntl

        # Each locks it while it lives. What nobody locks was left: uvicorn ends by SIGTERM, without
        # atexit. A minute, as another service may have made its own and not locked it yet.
        fcntl.flock(os.open(folder / "lock", os.O_CREAT, 0o600), fcntl.LOCK_SH)
        for left in folder.parent.glob(f"{__name__}-metrics-*"):
            with contextlib.suppress(OSError):
                if left.lstat().st_uid != os.getuid():
                    continue  # a trap, perhaps: a pipe to wait at, or a tree too deep to remove
                with (left / "lock").open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if left.stat().st_mtime < time.time() - 60:
                        shutil.rmtree(left)
    return str(folder)


# They count together, in files; prometheus_client must know where before anything imports it.
try:
    _folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR") or _metrics_folder()
    os.makedirs(_folder, exist_ok=True)
except OSError as error:
    refuse(f"PROMETHEUS_MULTIPROC_DIR: {error}")
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _folder

if sys.platform != "win32":
    import fcntl

    from prometheus_client import values

    @cache
    def _number(pid: int) -> int:
        """Return the first number that no live process has: those of dead ones are taken over."""
        return next(filter(_take, count()))

    def _take(number: int) -> bool:
        lock = os.open(Path(_folder, f"{number}.lock"), os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return False
        return True

    # By pid, as is the default, a file of each process that ever was would fill the disk.
    number = values.MultiProcessValue(lambda: _number(os.getpid()))  # type: ignore[no-untyped-call]
    values.ValueClass = number
