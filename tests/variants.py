"""The variants, derived from ``cookiecutter.json``: every backend with every set of booleans."""

import itertools
import json
from dataclasses import dataclass

from harness.project import TEMPLATE

CONTEXT: dict[str, object] = json.loads((TEMPLATE / "cookiecutter.json").read_text("utf-8"))
BACKENDS = CONTEXT["task_backend"]
FLAGS = [name for name, default in CONTEXT.items() if isinstance(default, bool)]
OPTIONS = {name: default for name, default in CONTEXT.items() if not name.startswith("_")}


@dataclass(frozen=True)
class Variant:
    """A backend, and which of the optional parts are chosen."""

    backend: str
    chosen: frozenset[str]

    @property
    def id(self) -> str:
        """Return a readable name."""
        parts = [flag.removeprefix("include_") for flag in FLAGS if flag in self.chosen]
        return "-".join([self.backend, *(parts or ["bare"])])

    @property
    def answers(self) -> dict[str, object]:
        """Return the answers that render it."""
        return {"task_backend": self.backend} | {flag: flag in self.chosen for flag in FLAGS}

    @property
    def celery(self) -> bool:
        """Tell whether tasks run on Celery."""
        return self.backend == "Celery"

    @property
    def email(self) -> bool:
        """Tell whether the email task is chosen."""
        return "include_email_task" in self.chosen

    @property
    def log(self) -> bool:
        """Tell whether the log task is chosen."""
        return "include_log_task" in self.chosen


def _variants() -> list[Variant]:
    assert isinstance(BACKENDS, list)
    return [
        Variant(backend, frozenset(itertools.compress(FLAGS, bits)))
        for backend in BACKENDS
        for bits in itertools.product([True, False], repeat=len(FLAGS))
    ]


VARIANTS = _variants()
FULL = [variant for variant in VARIANTS if len(variant.chosen) == len(FLAGS)]
