"""The mail: encrypted and logged in, in two forms, with the headers of an honest machine."""

import re
import signal
import time
from datetime import UTC
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from harness.mail import mail_server, strict_mail_server
from harness.project import SLUG, Project
from harness.service import Process, Service, free_port, running, until

from .conftest import Install, refusals
from .variants import VARIANTS

(MAILING,) = [each for each in VARIANTS if each.id == "BackgroundTasks-email_task"]


@pytest.fixture(scope="module")
def project(install: Install) -> Project:
    """Return a project with the email task."""
    return install(MAILING)


def send(service: Service, email: str = "ada@example.com") -> str:
    """Ask for a mail; returns the id of its task."""
    response = service.client.post("/send-email/", params={"email": email})
    assert response.status_code == 202, response.text
    task_id: str = response.json()["task_id"]
    return task_id


def test_a_mail_is_sent_by_starttls_and_login(project: Project, tmp_path: Path) -> None:
    sender = {"EMAIL_FROM": "Zoë Größe <zoe@example.com>"}
    with (
        strict_mail_server(tmp_path) as mailbox,
        running(project, tmp_path / "data", **mailbox.settings | sender) as service,
    ):
        task_id = send(service)
        end = service.wait_for_task(task_id)
        assert (end["status"], end["attempts"]) == ("succeeded", 1)
    mail = message_from_bytes(mailbox.mails[0].as_bytes(), policy=policy.default)
    assert isinstance(mail, EmailMessage)
    (author,) = mail["From"].addresses
    assert (author.display_name, author.addr_spec) == ("Zoë Größe", "zoe@example.com")
    assert (mail["To"], mail["Subject"]) == ("ada@example.com", "Welcome!")
    assert mail["Message-ID"] == f"<{task_id}@example.com>"
    assert mail["Auto-Submitted"] == "auto-generated"
    sent = parsedate_to_datetime(mail["Date"]).replace(tzinfo=UTC)  # RFC 5322's -0000
    assert abs(time.time() - sent.timestamp()) < 60
    assert mail.get_content_type() == "multipart/alternative"
    text, html = (part.get_content() for part in mail.iter_parts())
    assert text == "Thank you for signing up!\n"
    assert html.startswith("<!doctype html>")
    assert "Thank you for signing up!" in html


@pytest.mark.filterwarnings("ignore:Requiring AUTH")  # for want of STARTTLS
def test_tls_comes_first_on_the_port_that_is_for_it(project: Project, tmp_path: Path) -> None:
    with strict_mail_server(tmp_path, tls_first=True) as mailbox:
        port = mailbox.settings["SMTP_PORT"]
        code = f"""
from {SLUG}.tasks import email

email.SUBMISSIONS = {port}  # 465 is root's
for name in ("ada", "grace"):
    email.send_email(f"{{name}}@example.com", "Hello", "Hello!")
"""
        python = project.bin("python")
        project.run(python, "-c", code, **mailbox.settings)
        with pytest.raises(AssertionError, match="CERTIFICATE_VERIFY_FAILED"):
            project.run(python, "-c", code, **mailbox.settings | {"SSL_CERT_FILE": ""})
    assert [mail["To"] for mail in mailbox.mails] == ["ada@example.com", "grace@example.com"]
    assert len(mailbox.connections) == 1


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("SSL_CERT_FILE", "", "CERTIFICATE_VERIFY_FAILED"),
        ("SMTP_PASSWORD", "guess", "535"),
        ("SMTP_STARTTLS", "false", "STARTTLS|AUTH"),
    ],
)
def test_a_server_that_is_not_ours_or_not_willing_gets_no_mail(
    project: Project, tmp_path: Path, setting: str, value: str, reason: str
) -> None:
    with strict_mail_server(tmp_path) as mailbox:
        settings = mailbox.settings | {setting: value}
        with running(project, tmp_path / "data", **settings, SHUTDOWN_GRACE="0.1") as service:
            task_id = send(service)

            def error() -> str | None:
                text: str | None = service.get(f"/tasks/{task_id}").json()["error"]
                return text

            assert re.search(reason, until(error, 20, "an attempt has failed"))
            assert "guess" not in service.api.output()
    assert mailbox.mails == []


def test_a_burst_of_mails_takes_one_connection_of_each_thread(
    project: Project, tmp_path: Path
) -> None:
    with (
        strict_mail_server(tmp_path) as mailbox,
        running(project, tmp_path / "data", **mailbox.settings, TASK_CONCURRENCY="2") as service,
    ):
        for task_id in [send(service) for _ in range(20)]:
            assert service.wait_for_task(task_id)["attempts"] == 1
    assert len(mailbox.mails) == 20
    assert len(mailbox.connections) <= 2


@pytest.mark.parametrize("farewell", [b"", b"421 timeout exceeded\r\n"])
def test_a_mail_outlives_the_connection_of_the_one_before(
    project: Project, tmp_path: Path, farewell: bytes
) -> None:
    with mail_server() as first:
        settings = first.settings | {"TASK_CONCURRENCY": "1"}
        with running(project, tmp_path / "data", **settings) as service:
            assert service.wait_for_task(send(service))["status"] == "succeeded"
            first.hang_up(farewell)
            assert service.wait_for_task(send(service))["attempts"] == 1
    assert len(first.mails) == 2
    assert len(first.connections) == 2


def test_a_mail_that_is_cut_short_leaves_its_late_reply_to_nobody(
    project: Project, tmp_path: Path
) -> None:
    code = f"""
import signal
from {SLUG}.tasks.email import send_email

def cut(*_):
    raise RuntimeError

signal.signal(signal.SIGALRM, cut)
try:
    send_email("a@example.com", "Hi", "cut short")
except RuntimeError:
    send_email("a@example.com", "Hi", "whole")
else:
    raise AssertionError("it was not cut short")
"""
    with mail_server(delay=10) as mailbox:
        command = [project.bin("python"), "-c", code]
        process = Process(command, project.path, tmp_path / "log", **mailbox.settings)
        try:
            until(lambda: mailbox.connections, 60, "the mail is under way")
            mailbox.delay = 0  # the next one's
            process.send(signal.SIGALRM)
            assert process.wait(20) == 0, process.output()
        finally:
            process.kill()
    assert "whole" in str(mailbox.mails[-1])
    assert len(mailbox.connections) == 2


def test_markup_in_a_body_stays_text(project: Project) -> None:
    with mail_server() as mailbox:
        code = f"from {SLUG}.tasks.email import send_email as s; s('a@example.com', 'Hi', '<b>&')"
        project.run(project.bin("python"), "-c", code, **mailbox.settings)
    _, text, html = (part.get_payload(decode=True) for part in mailbox.mails[0].walk())
    assert text == b"<b>&\r\n"
    assert isinstance(html, bytes)
    assert b"&lt;b&gt;&amp;</p>" in html


def test_a_subject_adds_no_header_in_whichever_form(project: Project) -> None:
    code = f"""
from {SLUG}.tasks.email import send_email

for subject in (
    *("Hi\\nBcc: eve@example.com", "=?utf-8?q?Hi=0ABcc:_eve=40example.com?="),
    *("Hi\\n", "=?utf-8?q?Hi=0D=0A?="),  # the headers that follow would be text
):
    try:
        send_email("a@example.com", subject, "Hello")
    except ValueError:
        print("refused")
"""
    with mail_server() as mailbox:
        output = project.run(project.bin("python"), "-c", code, **mailbox.settings)
    assert output.count("refused") == 4
    assert mailbox.mails == []


def test_a_sender_that_is_no_address_is_refused(project: Project, tmp_path: Path) -> None:
    senders = ["nobody", "a@b@c", "Zoë", "a@example.com, b@example.com"]
    for line in refusals(project, tmp_path, [{"EMAIL_FROM": sender} for sender in senders]):
        assert line.startswith("error: EMAIL_FROM: must be one address")


def test_the_readme_shows_mails_in_a_terminal(project: Project, tmp_path: Path) -> None:
    readme = project.read("README.md")
    command = "uv run python -m aiosmtpd --nosetuid --listen 127.0.0.1:8025"
    settings = "SMTP_HOST=127.0.0.1 SMTP_PORT=8025 SMTP_STARTTLS=false EMAIL_FROM=me@example.com"
    assert f"`{command}`" in readme
    assert f"`{settings}`" in readme
    port = str(free_port())
    terminal = Process(
        command.replace("8025", port).split(),
        project.path,
        tmp_path / "mails",
        PYTHONUNBUFFERED="1",
    )
    try:
        chosen = dict(pair.split("=") for pair in settings.replace("8025", port).split())
        with running(project, tmp_path / "data", **chosen) as service:
            assert service.wait_for_task(send(service))["status"] == "succeeded"
        until(lambda: "Thank you for signing up!" in terminal.output(), 30, "the mail is shown")
    finally:
        terminal.stop()
