"""An identity provider as far as we ask one: an HTTP server on loopback that publishes keys."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.support.credentials import Certificate


class KeySetServer:
    """Answers every request with its keys.

    Attributes:
        keys: What it publishes.
        status: The status of its answers.
        headers: Of its answers.
        body: Answered instead of the keys.
        requests: How many came.
        may_answer: Answers wait for it.
        url: Where it is.
    """

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.keys = list(keys)
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None
        self.requests = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.url = ""
        self._server: asyncio.Server | None = None

    async def start(self, certificate: Certificate | None = None, *, host: str = "127.0.0.1") -> None:
        """Begin to listen; with a certificate, to HTTPS."""
        context = None
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate.cert, certificate.key)
        self._server = await asyncio.start_server(self._answer, host, 0, ssl=context)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if context else 'http'}://{host}:{port}/keys"

    async def stop(self) -> None:
        """Answer nobody any more."""
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.requests += 1
            await self.may_answer.wait()
            body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
            headers = {"content-length": str(len(body)), "connection": "close"} | self.headers
            lines = [
                f"HTTP/1.1 {self.status} As asked",
                *(f"{name}: {value}" for name, value in headers.items()),
            ]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def key_set_server(
    *keys: Mapping[str, Any], certificate: Certificate | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[KeySetServer]:
    """Run one."""
    server = KeySetServer(*keys)
    await server.start(certificate, host=host)
    try:
        yield server
    finally:
        server.may_answer.set()
        await server.stop()
