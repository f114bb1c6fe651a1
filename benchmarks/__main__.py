"""``make bench``: measure and print tables; ``ONLY`` is one of the parts."""

import argparse
import tempfile
import time
from pathlib import Path

from . import background, bake, celery
from .measure import install, need, progress
from .report import machine, wrk_version

PARTS = ("bake", "background", "celery", "million")


def main() -> None:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parts = parser.parse_args().parts
    if set(parts) - {"bake"}:
        need("wrk")
    if "celery" in parts:
        need("redis-server", "rabbitmq-server")
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        for part in parts:
            if part == "bake":
                bake.run()
                continue
            folder = Path(name) / part
            project = install(folder, "Celery" if part == "celery" else "BackgroundTasks")
            described = f"{machine(project)}, {wrk_version()}"
            print(f"\n## {part}: {described}", flush=True)
            match part:
                case "background":
                    background.run(project, folder / "data", described)
                case "celery":
                    celery.run(project, folder / "data")
                case "million":
                    background.million(project, folder / "data")
    progress(f"done in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
