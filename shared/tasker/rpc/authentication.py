"""Decides for each call who makes it and whether they may, before a byte of the request is read."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import grpc
from grpc import aio

from tasker.domain.errors import PermissionDeniedError, UnauthenticatedError
from tasker.rpc.credentials.refusals import Cause, CredentialRefusedError
from tasker.rpc.key_files import Reloaded
from tasker.rpc.permissions import NOBODY, Caller, is_public, permission_of, set_caller
from tasker.telemetry.logs import get_logger

if TYPE_CHECKING:
    # The verifiers stand on libraries that take time to import, and a service that asks nobody needs none of them.
    from tasker.rpc.credentials.api_keys import ApiKeys
    from tasker.rpc.credentials.tokens import TokenVerifier

DEFAULT_API_KEY_HEADER: Final = "x-api-key"

_BEARER: Final = ("Bearer ", "bearer ")
_NO_METHOD: Final = "there is no method '%s', or nobody may call it; check the names of service and method"
#: At least so long lie between two lines of the log about refusals of one kind.
_QUIET_SECONDS: Final = 10.0

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_log = get_logger(__name__)


class Authenticator:
    """Finds out who calls, by the metadata of the call.

    Args:
        tokens: Verifies bearer tokens; without it none is good.
        api_keys: Those that are accepted; without it none is.
        api_key_header: Which entry of the metadata holds one; in lower case.
        enforce_context_read: Whether replies hold the context of tasks only for callers who may read contexts.
    """

    def __init__(
        self,
        *,
        tokens: TokenVerifier | None = None,
        api_keys: Reloaded[ApiKeys] | None = None,
        api_key_header: str = DEFAULT_API_KEY_HEADER,
        enforce_context_read: bool = True,
    ) -> None:
        self._tokens = tokens
        self._api_keys = api_keys
        self._api_key_header = api_key_header.lower()
        self._context_is_open = not enforce_context_read
        self._refusals = _Refusals()
        # One text, whatever is wrong: it tells those who try what to send, and nothing of how near they came.
        self._refusal = (
            "Invalid or expired credentials, or none: send 'authorization: Bearer TOKEN' or "
            f"'{self._api_key_header}: KEY' with the call"
        )

    @property
    def api_key_count(self) -> int:
        """How many API keys are accepted now."""
        return len(self._api_keys.current()) if self._api_keys is not None else 0

    async def start(self) -> None:
        """Get ready; what cannot be fetched yet does not keep the service from starting."""
        if self._tokens is not None:
            await self._tokens.start()

    async def stop(self) -> None:
        """Let go of everything."""
        if self._tokens is not None:
            await self._tokens.stop()

    async def identify(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Return who calls.

        Args:
            metadata: Of the call. A bearer token is looked at first, and nothing else if there is one.

        Raises:
            UnauthenticatedError: Nobody knows. The text is the same for every reason.
            UnavailableError: That cannot be told now.
        """
        try:
            who = await self._verify(metadata)
        except CredentialRefusedError as error:
            raise UnauthenticatedError(self._refusal) from error
        return replace(who, context_is_open=True) if self._context_is_open else who

    def log_refusal(self, error: Exception, method: str, peer: str) -> None:
        """Tell the log of a call that was refused; who called is known only once there is a call to end.

        Args:
            error: Why; others than those of this module are none of its business.
            method: Full name of the rpc.
            peer: From where it came, as grpc names it.
        """
        if isinstance(error, PermissionDeniedError):
            needed = permission_of(method)
            _log.info("call_denied", method=method, subject=error.subject, permission=needed, peer=peer)
        elif isinstance(error.__cause__, CredentialRefusedError):
            self._refusals.note(error.__cause__, method, peer)

    async def _verify(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        token = key = None
        for name, value in metadata:
            if name == "authorization" and token is None and isinstance(value, str):
                token = value[7:] if value.startswith(_BEARER) else None
            elif name == self._api_key_header and key is None and isinstance(value, str):
                key = value
        if token is not None:
            if self._tokens is None:
                raise CredentialRefusedError("invalid", "this service accepts no tokens")
            return await self._tokens.verify(token)
        if key is not None:
            if self._api_keys is None:
                raise CredentialRefusedError("invalid", "this service accepts no API keys")
            return self._api_keys.current().verify(key)
        raise CredentialRefusedError("missing", "neither a token nor an API key came")


class AuthenticationInterceptor(aio.ServerInterceptor):  # type: ignore[type-arg]  # not generic at run time
    """Refuses calls of those who are unknown or may not make them; servicers learn from `caller()` who calls.

    It raises like a servicer, so `ErrorInterceptor` lies around it.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler:
        """Return the handler, if the caller may use it; called by grpc for each call, in the task that serves it."""
        method = handler_call_details.method
        if is_public(method):
            set_caller(NOBODY)
        else:
            who = await self._authenticator.identify(handler_call_details.invocation_metadata or ())
            needed = permission_of(method)
            if needed is None or not who.may(needed):
                raise PermissionDeniedError(
                    needed or method,
                    subject=who.subject,
                    message=_NO_METHOD % method if needed is None else None,
                )
            set_caller(who)
        return await continuation(handler_call_details)


class _Refusals:
    """Tells the log why credentials were refused: a line now and then, however many, and never what was sent."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_at: dict[Cause, float] = {}
        self._untold: Counter[Cause] = Counter()

    def note(self, refused: CredentialRefusedError, method: str, peer: str) -> None:
        cause = refused.cause
        now = self._clock()
        self._untold[cause] += 1
        last = self._told_at.get(cause)
        if last is not None and now - last < _QUIET_SECONDS:
            return
        self._told_at[cause] = now
        _log.warning(
            "credentials_refused",
            cause=cause,
            detail=refused.detail,
            method=method,
            peer=peer,
            times=self._untold.pop(cause),
        )
