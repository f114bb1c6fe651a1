"""A mail server that keeps what it gets."""

import asyncio
import contextlib
import math
import ssl
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from .service import free_port


class Mailbox:
    """The mails that arrived; each is answered after ``delay`` seconds, with ``reply``.

    One for which there is no ``room`` waits until there is.
    """

    def __init__(self, port: int, delay: float) -> None:
        self.mails: list[Message] = []
        self.connections: set[object] = set()  # over which they came
        self.settings = {
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_STARTTLS": "false",
            "EMAIL_FROM": "service@example.com",
            "MAILS_PER_MINUTE": "1000000",  # bursts are what many tests are about
        }
        self.delay = delay
        self.room = math.inf
        self.reply = "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep a mail (the name is aiosmtpd's)."""
        self.connections.add(session.peer)
        self._last = server
        if self.delay:
            await asyncio.sleep(self.delay)
        while len(self.mails) >= self.room:
            await asyncio.sleep(0.02)
        if self.reply.startswith("250"):
            self.mails.append(message_from_bytes(envelope.content))
        return self.reply

    async def handle_NOOP(self, server: Any, session: Any, envelope: Any, word: str) -> str:
        """Refuse what Exim takes for abuse between mails (the name is aiosmtpd's)."""
        return "554 Too many nonmail commands"

    def hang_up(self, farewell: bytes) -> None:
        """Close the connection over which the last mail came."""

        def close() -> None:
            self._last.transport.write(farewell)
            self._last.transport.close()

        self._last.loop.call_soon_threadsafe(close)

    def ids(self) -> list[str]:
        """Return the task ids in the ``Message-ID`` of each mail."""
        return [mail["Message-ID"].strip("<>").partition("@")[0] for mail in self.mails]


@contextlib.contextmanager
def mail_server(delay: float = 0) -> Iterator[Mailbox]:
    """Run a mail server on a free port until the block ends."""
    mailbox = Mailbox(free_port(), delay)
    with _serving(mailbox):
        yield mailbox


@contextlib.contextmanager
def strict_mail_server(folder: Path, *, tls_first: bool = False) -> Iterator[Mailbox]:
    """Run a mail server that takes nothing without TLS and login; its CA is in ``folder``.

    It wants STARTTLS, unless TLS comes first.
    """
    mailbox = Mailbox(free_port(), 0)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    del mailbox.settings["SMTP_STARTTLS"]  # it is on by default
    mailbox.settings |= {
        "SMTP_USERNAME": "ada",
        "SMTP_PASSWORD": "analytical engine",
        "SSL_CERT_FILE": str(folder / "ca.pem"),
    }
    login = LoginPassword(b"ada", b"analytical engine")

    def authenticate(
        server: Any, session: Any, envelope: Any, mechanism: str, given: object
    ) -> AuthResult:
        return AuthResult(success=given == login, handled=False)  # False: the reply is ours to make

    with _serving(
        mailbox,
        **{"ssl_context" if tls_first else "tls_context": context},
        require_starttls=not tls_first,
        auth_require_tls=not tls_first,  # of STARTTLS' it knows alone
        auth_required=True,
        authenticator=authenticate,
    ):
        yield mailbox


@contextlib.contextmanager
def _serving(mailbox: Mailbox, **options: Any) -> Iterator[None]:
    port = int(mailbox.settings["SMTP_PORT"])
    options["server_hostname"] = "localhost"  # else it asks a DNS, which can take seconds
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield
    finally:
        controller.stop()
