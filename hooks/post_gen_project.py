"""Says what to do next."""

import os


def remove_empty_folders() -> None:
    """Remove the folders of a CI that was not chosen: cookiecutter can't leave a folder out."""
    for folder in (".github/workflows", ".github"):
        if not os.listdir(folder):
            os.rmdir(folder)


def next_steps(slug: str, celery: bool, any_task: bool) -> list[str]:
    """Return the next commands, fit to the answers."""
    steps = [f"cd {slug}", "uv sync", f"uv run uvicorn {slug}.main:app --reload"]
    if celery:
        # On a line of its own: Windows' cmd knows no comment after a command.
        steps += ["# and, in a second terminal:", f"uv run celery -A {slug}.worker worker"]
    if not any_task:
        steps.append("# then add a first task: README.md says how")
    return steps


def main(slug: str, celery: bool, any_task: bool) -> None:
    """Tidy up, and print the next steps."""
    remove_empty_folders()
    print(
        "\n".join(["", "Next:", *(f"  {step}" for step in next_steps(slug, celery, any_task)), ""])
    )


if __name__ == "__main__":  # after the other hook the answers need no JSON, which is slow to import
    main(
        "{{ cookiecutter.project_slug }}",
        celery=bool("{{ cookiecutter.__celery }}"),
        any_task=bool("{{ cookiecutter.__any_task }}"),
    )
