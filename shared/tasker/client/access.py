"""How a client gets in: over TLS or in plaintext, with a token or an API key, and never by a detour on this machine."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import grpc
from grpc import aio

from tasker.domain.addresses import is_local

File: TypeAlias = str | PathLike[str]

_log = logging.getLogger(__name__)


class AccessOptions(TypedDict, total=False):
    """What a service may ask of its clients; nothing of it by default.

    Attributes:
        token: Proves who calls: a JSON Web Token. A function is asked for one before every call, so that it may change.
        api_key: Proves it, too; sent if there is no token.
        api_key_header: Which entry of the metadata carries the API key; `x-api-key` by default.
        tls: Whether to speak TLS; by default if `ca` or `cert` is given. Without `ca` the authorities are trusted that
            gRPC knows.
        ca: File of the authorities, in PEM, that vouch for the service.
        cert: File of the client's own certificate, in PEM, for services that ask for one (mutual TLS).
        key: File of its private key, in PEM.
        allow_plaintext: Send a token or API key even where everybody on the way can read it.
    """

    token: str | Callable[[], str] | None
    api_key: str | None
    api_key_header: str
    tls: bool | None
    ca: File | None
    cert: File | None
    key: File | None
    allow_plaintext: bool


class Access:
    """The way to one service.

    Raises:
        ValueError: What is given does not go together, or is not what it should be; a token or API key would be sent in
            plaintext to another machine.
        OSError: A file cannot be read.
    """

    def __init__(
        self,
        address: str,
        *,
        token: str | Callable[[], str] | None = None,
        api_key: str | None = None,
        api_key_header: str = "x-api-key",
        tls: bool | None = None,
        ca: File | None = None,
        cert: File | None = None,
        key: File | None = None,
        allow_plaintext: bool = False,
    ) -> None:
        self._address = address
        self._token = _sendable("token", token) if isinstance(token, str) else token
        self._api_key = _sendable("API key", api_key) if api_key and not token else None
        self._api_key_header = api_key_header.lower()
        uses_tls = (ca is not None or cert is not None or key is not None) if tls is None else tls
        if not uses_tls and (ca is not None or cert is not None or key is not None):
            raise ValueError("certificates are given, and TLS is switched off; leave out one of the two")
        if (cert is None) != (key is None):
            raise ValueError("a client's certificate needs its private key: give both, cert and key")
        self._tls = _channel_credentials(ca, cert, key) if uses_tls else None
        if (token or api_key) and self._tls is None and not is_local(address):
            if not allow_plaintext:
                raise ValueError(
                    f"a token or API key would go to {address} in plaintext, where everybody on the way can read it; "
                    "use TLS (ca or tls), or say allow-plaintext if nobody else is on the way"
                )
            _log.warning("credentials go to %s in plaintext: everybody on the way can read them", address)

    def open_channel(self, options: Sequence[tuple[str, Any]]) -> aio.Channel:
        """Return a channel to the service.

        Args:
            options: As grpc takes them.
        """
        if is_local(
            self._address
        ):  # whatever http_proxy says: a proxy would look for the service on its own machine
            options = (*options, ("grpc.enable_http_proxy", 0))
        if self._address.startswith("unix"):  # no certificate names a socket
            options = (*options, ("grpc.default_authority", "localhost"))
        interceptors: list[Any] = []  # whose type the stub does not tell
        if self._token or self._api_key:
            interceptors = [_OnUnary(self._credentials), _OnStreams(self._credentials)]
        if self._tls is None:
            return aio.insecure_channel(self._address, options=options, interceptors=interceptors)
        return aio.secure_channel(self._address, self._tls, options=options, interceptors=interceptors)

    def _credentials(self) -> tuple[str, str]:
        """Return the entry of the metadata that proves who calls."""
        if self._token:
            token = self._token if isinstance(self._token, str) else _sendable("token", self._token())
            return "authorization", f"Bearer {token}"
        return self._api_key_header, self._api_key or ""


def _sendable(what: str, value: str) -> str:
    """Return a credential without the blanks around it; one that no header can carry is refused, not shown."""
    value = value.strip()
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"the {what} holds characters that none has; it may be the wrong file")
    return value


def _channel_credentials(ca: File | None, cert: File | None, key: File | None) -> grpc.ChannelCredentials:
    """Return what grpc makes of the files; looked at here, because it would only say that no handshake succeeds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authorities = Path(ca).read_bytes() if ca is not None else None
    if authorities is not None:
        try:
            context.load_verify_locations(cadata=authorities.decode())
        except (ssl.SSLError, ValueError):
            raise ValueError(f"{ca} holds no certificate in PEM that can be used") from None
    if cert is None or key is None:
        return grpc.ssl_channel_credentials(authorities)
    chain, private = Path(cert).read_bytes(), Path(key).read_bytes()
    try:
        context.load_cert_chain(cert, key, password="")  # or it would ask the terminal
    except (ssl.SSLError, ValueError):
        raise ValueError(f"{key} holds no private key in PEM of the certificate in {cert}") from None
    return grpc.ssl_channel_credentials(authorities, private, chain)


# grpc takes an interceptor for one kind of call only, whatever it inherits from.


class _OnUnary(aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Adds credentials to calls with one answer."""

    def __init__(self, credentials: Callable[[], tuple[str, str]]) -> None:
        self._credentials = credentials

    async def intercept_unary_unary(
        self,
        continuation: Callable[[aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Make the call with them."""
        return await continuation(_with(client_call_details, self._credentials()), request)


class _OnStreams(aio.UnaryStreamClientInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Adds credentials to calls with many answers."""

    def __init__(self, credentials: Callable[[], tuple[str, str]]) -> None:
        self._credentials = credentials

    async def intercept_unary_stream(
        self,
        continuation: Callable[[aio.ClientCallDetails, Any], Any],
        client_call_details: aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """Make the call with them."""
        return await continuation(_with(client_call_details, self._credentials()), request)


def _with(details: aio.ClientCallDetails, entry: tuple[str, str]) -> aio.ClientCallDetails:
    metadata = aio.Metadata(*(details.metadata or ()), entry)
    return aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )
