"""A mail server that keeps what it gets."""

import asyncio
import contextlib
from collections.abc import Iterator
from email import message_from_bytes
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller

from .service import free_port


class Mailbox:
    """The mails that arrived; each is answered after ``delay`` seconds, with ``reply``."""

    def __init__(self, port: int, delay: float) -> None:
        self.mails: list[Message] = []
        self.settings = {
            "SMTP_HOST": "127.0.0.1",
            "SMTP_PORT": str(port),
            "SMTP_STARTTLS": "false",
            "EMAIL_FROM": "service@example.com",
        }
        self.delay = delay
        self.reply = "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """Keep a mail (the name is aiosmtpd's)."""
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.reply.startswith("250"):
            self.mails.append(message_from_bytes(envelope.content))
        return self.reply

    def ids(self) -> list[str]:
        """Return the task ids in the ``Message-ID`` of each mail."""
        return [mail["Message-ID"].strip("<>").partition("@")[0] for mail in self.mails]


@contextlib.contextmanager
def mail_server(delay: float = 0) -> Iterator[Mailbox]:
    """Run a mail server on a free port until the block ends."""
    mailbox = Mailbox(free_port(), delay)
    port = int(mailbox.settings["SMTP_PORT"])
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()
