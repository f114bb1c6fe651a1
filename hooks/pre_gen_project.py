"""Refuses answers that can't become a project: all of them at once, a line each."""

import json
import keyword
import re
import sys
import unicodedata

# What the rendered project imports, or stands beside, under these names.
TAKEN = {
    *(
        "aiosmtpd",
        "billiard",
        "amqp",
        "annotated_types",
        "anyio",
        "asgi_correlation_id",
        "celery",
        "click",
        "dotenv",
    ),
    *("email_validator", "fastapi", "filelock", "h11", "httptools", "httpx2", "jinja2", "kombu"),
    *("mypy", "packaging", "prometheus_client", "pydantic", "pydantic_core", "pydantic_settings"),
    *("pytest", "redis", "ruff", "src", "starlette", "structlog", "tests", "typing_extensions"),
    *("typing_inspection", "uvicorn", "uvloop", "vine", "watchfiles", "websockets", "yaml"),
}
DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{name}{n}" for name in ("com", "lpt") for n in range(10)
}
LONGEST = {"project_name": 60, "project_short_description": 200, "full_name": 100}
BIDIRECTIONAL = set("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def text_problem(text: str, longest: int) -> str:
    """Return what is wrong with a free text, or nothing."""
    if not text.strip():
        return "must not be blank"
    if text != text.strip():
        return "must not begin or end with a space"
    if len(text) > longest:
        return f"has {len(text)} characters; {longest} is the most"
    for character in text:
        if (
            unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")
            or character in BIDIRECTIONAL
        ):
            return f"must not hold the control character U+{ord(character):04X}"
    return ""


def slug_problem(slug: str) -> str:
    """Return what is wrong with the name of the package, or nothing."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", slug):
        words = re.sub(r"[^a-z0-9]+", "_", slug.lower()).strip("_").lstrip("0123456789_")[:40]
        return (
            "must be a letter and up to 39 more of a-z, 0-9 and _"
            f"; try {words.rstrip('_') or 'task_service'}"
        )
    if keyword.iskeyword(slug) or keyword.issoftkeyword(slug):
        return f"is a word of Python; try {slug}_service"
    if slug in sys.stdlib_module_names:
        return f"is a module of Python's standard library; try {slug}_service"
    if slug in TAKEN:
        return f"is a package that the project uses; try {slug}_service"
    if slug in DEVICES:
        return f"is a device on Windows; try {slug}_service"
    return ""


def problems(answers: dict[str, object]) -> list[str]:
    """Return one line for each bad answer: its name, its value, and what would be right."""
    found = {name: text_problem(str(answers[name]), most) for name, most in LONGEST.items()}
    found["project_slug"] = slug_problem(str(answers["project_slug"]))
    email = str(answers["email"])
    if len(email) > 254 or not re.fullmatch(r"[\w.+%-]+@[\w-]+(\.[\w-]+)+", email, re.ASCII):
        found["email"] = "must be an address like you@example.com"
    for name in ("include_email_task", "include_log_task"):
        if not isinstance(answers[name], bool):
            found[name] = "must be yes or no, and needs cookiecutter 2.7 or newer"
    return [f"{name}: {answers[name]!r} {problem}" for name, problem in found.items() if problem]


def main(answers: dict[str, object]) -> None:
    """Exit with 1, having said why, unless every answer is good."""
    lines = problems(answers)
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    if lines:
        sys.exit(1)


if __name__ == "__main__":
    main(json.loads(r"""{{ cookiecutter | jsonify }}"""))
