"""Refuses answers that can't become a project: all of them at once, a line each."""

import json
import keyword
import re
import sys
import unicodedata

# What the rendered project installs, with extras, or stands beside, under these names; and modules
# that CPython's own tests have, as its linter knows.
TAKEN = """
    aiosmtpd amqp annotated_doc annotated_types anyio asgi_correlation_id
    ast_serialize async_timeout atpublic attr attrs billiard celery celery_types certifi
    charset_normalizer click click_didyoumean click_plugins click_repl colorama
    conftest dateutil django_celery_results dns dnspython dotenv email_validator ephem
    exceptiongroup fastapi filelock google googleapis_common_protos h11 httpcore2 httptools
    httpx2 httpx2_jsfetch idna iniconfig jinja2 kombu librt markupsafe mypy mypy_extensions
    mypyc opentelemetry opentelemetry_api opentelemetry_exporter_http_transport
    opentelemetry_exporter_otlp_common opentelemetry_exporter_otlp_proto_common
    opentelemetry_exporter_otlp_proto_http opentelemetry_proto opentelemetry_sdk
    opentelemetry_semantic_conventions packaging pathspec pip pluggy prometheus_client
    prompt_toolkit protobuf public py pydantic pydantic_core pydantic_settings pygments pytest
    python_dateutil python_dotenv pywin32 pyyaml redis requests ruff setuptools six src
    starlette structlog test tests truststore typing_extensions typing_inspection tzdata tzlocal
    urllib3 uv_build uvicorn uvloop vine watchfiles wcwidth websockets xx xxlimited xxlimited_35
    xxsubtype yaml
""".split()  # noqa: SIM905
# What the standard library has in others of the Pythons on which the project runs.
OTHER_STANDARD = """
    aifc annotationlib asynchat asyncore audioop cgi cgitb chunk compression crypt distutils imghdr
    imp lib2to3 mailcap msilib nis nntplib ossaudiodev pipes profiling smtpd sndhdr spwd sre_compile
    sre_constants sre_parse sunau telnetlib uu xdrlib
""".split()  # noqa: SIM905
DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{name}{n}" for name in ("com", "lpt") for n in range(10)
}
LONGEST = {"project_name": 40, "project_short_description": 200, "full_name": 100}
BIDIRECTIONAL = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# RFC 5322's dot-atom, and a host name with a dot.
ADDRESS = (
    r"(?=.{1,64}@)[\w!#$%&'*+/=?^`{|}~-]+(\.[\w!#$%&'*+/=?^`{|}~-]+)*"
    r"@([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?"
)


def text_problem(text: str, longest: int) -> str:
    """Return what is wrong with a free text, or nothing."""
    if not any(map(str.isalpha, text)):
        return "must hold a letter"
    if text != text.strip():
        return "must not begin or end with a space"
    if len(text) > longest:
        return f"has {len(text)} characters; {longest} is the most"
    if jinja := re.search(r"\{[#%{]", text):  # cruft renders the answers anew
        return f"must not hold {jinja.group()}, which begins an instruction to cookiecutter"
    for character in text:
        if (
            unicodedata.category(character) in ("Cc", "Zl", "Zp", "Cs")
            or character in BIDIRECTIONAL
        ):
            return f"must not hold the control character U+{ord(character):04X}"
    return ""


def taken_by(slug: str) -> str:
    """Return what else has this name, or nothing."""
    if slug in (*keyword.kwlist, *keyword.softkwlist, "type", "lazy"):  # since Python 3.12, 3.15
        return "is a word of Python"
    if slug in sys.stdlib_module_names or slug in OTHER_STANDARD:
        return "is a module of Python's standard library"
    if slug in TAKEN:
        return "is a package that the project uses"
    if slug in DEVICES:
        return "is a device on Windows"
    return ""


def suggestion(slug: str) -> str:
    """Return a name that can be taken, as like this one as can be."""
    plain = unicodedata.normalize("NFKD", slug).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "_", plain).lstrip("0123456789_")[:40].rstrip("_")
    if words and not taken_by(words):
        return words
    return f"{words or 'task'}_service"


def slug_problem(slug: str) -> str:
    """Return what is wrong with the name of the package, or nothing."""
    problem = taken_by(slug)
    if not re.fullmatch(r"[a-z]([a-z0-9_]{0,38}[a-z0-9])?", slug):
        problem = "must be at most 40 of a-z, 0-9 and _, begin with a letter and not end with _"
    return problem and f"{problem}; try {suggestion(slug)}"


def problems(answers: dict[str, object]) -> list[str]:
    """Return one line for each bad answer: its name, its value, and what would be right."""
    found = {name: text_problem(str(answers[name] or ""), most) for name, most in LONGEST.items()}
    if str(answers["project_name"]).startswith("/"):
        found["project_name"] = "must not begin with /"
    found["project_slug"] = slug_problem(str(answers["project_slug"]))
    email = str(answers["email"])
    found["email"] = text_problem(email, 254)
    if not re.fullmatch(ADDRESS, email, re.ASCII | re.IGNORECASE):
        found["email"] = "must be an address like you@example.com"
    for name, answer in answers.items():
        if name.startswith("include_") and not isinstance(answer, bool):
            found[name] = "must be yes or no, and needs cookiecutter 2.7 or newer"
    return [
        f"{name}: {shortened(answers[name])} {problem}"
        for name, problem in found.items()
        if problem
    ]


def shortened(answer: object) -> str:
    """Return an answer on one line, its middle left out where it is long."""
    text = repr(answer)
    return text if len(text) <= 100 else f"{text[:60]}...{text[-20:]}"


def main(answers: dict[str, object]) -> None:
    """Exit with 1, having said why, unless every answer is good."""
    # The folder has another name where cookiecutter.json found that this one could be none.
    if found := problems(answers | {"project_slug": answers["__given_slug"]}):
        sys.exit("\n".join(f"error: {problem}" for problem in found))


if __name__ == "__main__":
    main(json.loads(r"""{{ cookiecutter | jsonify }}"""))
