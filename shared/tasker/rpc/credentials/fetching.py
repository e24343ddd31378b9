"""Fetches a key set over HTTPS from where it is published, and from nowhere else."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

import httpcore
from httpcore import AnyIOBackend, AsyncConnectionPool, AsyncNetworkBackend, AsyncNetworkStream

from tasker.rpc.credentials.locations import KeySetError, KeySetLocation

#: For connecting, for the answer, and for all of it together.
_SECONDS: Final = 10.0
_MAX_BYTES: Final = 1024 * 1024


async def fetch(location: KeySetLocation) -> bytes:
    """Return what is published; follows no redirect, and takes neither proxies nor credentials from the environment.

    Raises:
        KeySetError: It cannot be had.
    """
    location.check()
    try:
        async with (
            asyncio.timeout(_SECONDS),
            _pool(location) as pool,
            pool.stream("GET", location.url, headers={"accept": "application/json"}) as response,
        ):
            if response.status != 200:
                raise KeySetError(f"the key set's server answered {response.status}, not 200")
            return await _whole(response)
    except TimeoutError:
        raise KeySetError(f"the key set's server did not answer within {_SECONDS:g} s") from None
    except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
        raise KeySetError(
            f"the key set's server cannot be reached: {str(error) or type(error).__name__}"
        ) from None


async def _whole(response: httpcore.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_stream():
        body += piece
        if len(body) > _MAX_BYTES:
            raise KeySetError(f"the key set is larger than {_MAX_BYTES} bytes")
    return bytes(body)


def _pool(location: KeySetLocation) -> AsyncConnectionPool:
    return AsyncConnectionPool(
        ssl_context=ssl.create_default_context(),  # SSL_CERT_FILE adds an authority
        network_backend=_Guarded(location),
        max_connections=1,
    )


class _Guarded(AsyncNetworkBackend):
    """Connects only to addresses that it has looked at itself, so that a name cannot lead elsewhere afterwards."""

    def __init__(self, location: KeySetLocation) -> None:
        self._location = location
        self._inner = AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        """Connect to the first of a host's addresses that answers."""
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            self._location.check_address(ip_address(address))
        for address in addresses[:-1]:
            try:
                return await self._inner.connect_tcp(address, port, _SECONDS / 3)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return await self._inner.connect_tcp(addresses[-1], port, _SECONDS)

    async def sleep(self, seconds: float) -> None:
        """Wait, as the pool does between attempts."""
        await self._inner.sleep(seconds)
