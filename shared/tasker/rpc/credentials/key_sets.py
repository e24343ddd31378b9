"""JSON Web Key Sets: the public keys of an identity provider, fetched anew when they may have changed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jwt import PyJWK, PyJWTError

from tasker.domain.errors import UnavailableError
from tasker.rpc.credentials.fetching import fetch
from tasker.rpc.credentials.locations import KeySetError, KeySetLocation
from tasker.rpc.credentials.public_keys import PublicKey, check_public_key
from tasker.rpc.credentials.refusals import CredentialRefusedError
from tasker.telemetry.logs import get_logger

#: Anybody can make up a `kid`: so often, at most, one that is not known is asked for, and so is a server that failed.
_PAUSE_SECONDS: Final = 10

_log = get_logger(__name__)

Fetch = Callable[[KeySetLocation], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class KeySetTimes:
    """How long fetched keys are good for, in seconds.

    Attributes:
        refresh_seconds: Afterwards they are fetched again.
        max_stale_seconds: For so much longer they are used if that fails.
    """

    refresh_seconds: float = 3600
    max_stale_seconds: float = 300


class KeySet:
    """The keys that an identity provider publishes, by their `kid`.

    A key that it adds is found by the first token that names it; one that it takes away is refused after the next
    refresh. One call to it is under way at a time, whoever waits for it.
    """

    def __init__(
        self,
        location: KeySetLocation,
        times: KeySetTimes,
        algorithms: Collection[str],
        *,
        fetch: Fetch = fetch,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        location.check()
        self._location = location
        self._times = times
        self._algorithms = frozenset(algorithms)
        self._fetch = fetch
        self._clock = clock
        self._keys: Mapping[str, PublicKey] = {}
        self._fetched_at: float | None = None
        self._failed_at: float | None = None
        self._unknown_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Fetch the keys once; a provider that does not answer is asked again when the first token comes."""
        await self._refresh()

    async def stop(self) -> None:
        """Give up what is under way."""
        if (fetching := self._fetching) is not None:
            fetching.cancel()
            await asyncio.wait((fetching,))

    async def candidates(self, key_id: str | None) -> Sequence[PublicKey]:
        """Return the key with a `kid`.

        Raises:
            CredentialRefusedError: The provider has no such key, or none was named.
            UnavailableError: The provider does not answer, and what it said is too old.
        """
        if key_id is None:
            raise CredentialRefusedError("invalid", "it names no key (kid)")
        await self._keep_fresh()
        if key_id not in self._keys and self._may_ask_for_unknown():
            await self._refresh()
        if key_id not in self._keys:
            raise CredentialRefusedError("invalid", "it names a key that there is not (kid)")
        return (self._keys[key_id],)

    async def _keep_fresh(self) -> None:
        """See to it that the keys are not too old; those that are merely due are used while they are fetched."""
        age = self._age()
        if age < self._times.refresh_seconds:
            return
        usable = age < self._times.refresh_seconds + self._times.max_stale_seconds
        if self._failed_at is None or self._clock() - self._failed_at >= _PAUSE_SECONDS:
            fetching = self._begin()
            if not usable:
                await asyncio.shield(fetching)
        if self._age() >= self._times.refresh_seconds + self._times.max_stale_seconds:
            raise UnavailableError(
                "tokens cannot be verified: the identity provider does not answer; try again later",
                retry_after_seconds=_PAUSE_SECONDS,
            )

    def _may_ask_for_unknown(self) -> bool:
        """Return whether to ask for a key that is not known, or to wait for an answer that is under way."""
        if self._fetching is not None:
            return True
        now = self._clock()
        if self._unknown_at is not None and now - self._unknown_at < _PAUSE_SECONDS:
            return False
        self._unknown_at = now
        return True

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    async def _refresh(self) -> None:
        await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        """Return the fetching that is under way, or begin one."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._replace())
            self._fetching.add_done_callback(self._ended)
        return self._fetching

    def _ended(self, fetching: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _replace(self) -> None:
        try:
            keys = _keys(await self._fetch(self._location), self._algorithms)
        except KeySetError as error:
            self._failed_at = self._clock()
            _log.error("key_set_not_fetched", problem=str(error), keys_known=len(self._keys))
            return
        if set(keys) != set(self._keys):
            _log.info("key_set_fetched", key_ids=sorted(keys))
        self._keys = keys
        self._fetched_at = self._clock()
        self._failed_at = None


def _keys(document: bytes, algorithms: frozenset[str]) -> dict[str, PublicKey]:
    """Return the keys of a set that tokens may be verified with.

    Raises:
        KeySetError: It is no key set, or none of its keys will do.
    """
    try:
        entries = json.loads(document)["keys"]
        keys = dict(found for entry in entries if (found := _key(entry, algorithms)))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise KeySetError("what the key set's URL answers is no key set") from None
    if not keys:
        wanted = ", ".join(sorted(algorithms))
        raise KeySetError(
            f"none of the {len(entries)} keys of the key set has a kid and is public and for {wanted}"
        )
    return keys


def _key(entry: Any, algorithms: frozenset[str]) -> tuple[str, PublicKey] | None:
    """Return one key with its `kid`; None for those that are for something else."""
    key_id = entry.get("kid") if isinstance(entry, dict) else None
    if not isinstance(key_id, str) or entry.get("kty") not in ("RSA", "EC"):
        return None
    if entry.get("use", "sig") != "sig" or ("alg" in entry and entry["alg"] not in algorithms):
        return None
    try:
        return key_id, check_public_key(PyJWK(entry).key)
    except (PyJWTError, ValueError):
        return None
