"""The template as a git repository that tests may tag and change."""

import subprocess
from pathlib import Path

from .project import TEMPLATE


def git(folder: Path, *arguments: str) -> str:
    """Run git in ``folder``; returns its output, raises CalledProcessError (git says why)."""
    return subprocess.check_output(["git", "-C", str(folder), *arguments], text=True).strip()


def begin(folder: Path) -> None:
    """Put a project under git, as it came."""
    git(folder, "init", "--quiet")
    commit(folder, "As the template made it")


def commit(folder: Path, message: str, tree: Path | None = None) -> str:
    """Commit all of ``tree``, by default the repository's own files; returns the commit's hash."""
    git(folder, f"--work-tree={tree or folder}", "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)
    return git(folder, "rev-parse", "HEAD")


def snapshot(folder: Path) -> Path:
    """Make a repository of the template as it stands, changes and all, with its released tags."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    if (TEMPLATE / ".git").exists():
        git(folder, "fetch", "--quiet", str(TEMPLATE), "refs/tags/*:refs/tags/*")
    commit(folder, "The present", tree=TEMPLATE)
    git(folder, "reset", "--quiet", "--hard")
    return folder
