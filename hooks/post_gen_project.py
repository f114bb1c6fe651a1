"""Says what to do next."""

import contextlib
import json
import os


def remove_empty_folders() -> None:
    """Remove the folders of a CI that was not chosen: cookiecutter can't leave a folder out."""
    for folder in (".github/workflows", ".github"):
        with contextlib.suppress(OSError):  # it holds a file, or is not there
            os.rmdir(folder)


def next_steps(answers: dict[str, object]) -> list[str]:
    """Return the next commands, fit to the answers."""
    steps = [f"cd {answers['project_slug']}", "uv sync", "make run"]
    if answers["task_backend"] == "Celery":
        steps[2] += "        # and, in a second terminal: make worker"
    if not answers["include_email_task"] and not answers["include_log_task"]:
        steps.append("# then add a first task: README.md says how")
    return steps


def main(answers: dict[str, object]) -> None:
    """Tidy up, and print the next steps."""
    remove_empty_folders()
    print("\n".join(["", "Next:", *(f"  {step}" for step in next_steps(answers)), ""]))


if __name__ == "__main__":
    main(json.loads(r"""{{ cookiecutter | jsonify }}"""))
