"""Sends every method that reflection lists what nobody would send, and notes answers that nobody may give."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Self

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode, aio

from tests.support.fuzzed_messages import MOST_BYTES, Lore, RequestMaker
from tests.support.strangers import Stranger

#: How a call may end whatever it asks for.
DOCUMENTED: Final = frozenset(
    {
        StatusCode.OK,
        StatusCode.INVALID_ARGUMENT,
        StatusCode.NOT_FOUND,
        StatusCode.ALREADY_EXISTS,
        StatusCode.FAILED_PRECONDITION,
        StatusCode.ABORTED,
        StatusCode.RESOURCE_EXHAUSTED,
        StatusCode.UNAVAILABLE,
    }
)
#: Far longer than any call takes: what is not answered by then hangs.
_ANSWER_SECONDS: Final = 60.0
#: Of a stream that goes on, this many messages, or as many as come in this time, are enough.
_MESSAGES: Final = 20
_STREAM_SECONDS: Final = 0.5
_IN_FLIGHT: Final = 8
_METADATA: Final[tuple[tuple[tuple[str, str | bytes], ...], ...]] = (
    (("authorization", "Bearer x"),),
    (("authorization", "Basic eDp5"), ("x-api-key", "k" * 1000)),
    (("traceparent", "00-zz-zz-01"), ("x-correlation-id", "not-a-uuid"), ("x-request-id", "")),
    (("some-bin", b"\0\xff"), ("grpc-accept-encoding", "gzip,br")),
)


@dataclass(frozen=True, slots=True)
class _Manner:
    """How a call is made: taken back at once or not, in what time, with what metadata."""

    cancelled: bool
    hasty: bool
    metadata: tuple[tuple[str, str | bytes], ...]

    @classmethod
    def by(cls, chance: random.Random) -> Self:
        """Return one; most callers wait for what they asked."""
        said = chance.choice(_METADATA) if chance.random() < 0.1 else ()
        return cls(chance.random() < 0.03, chance.random() < 0.03, said)

    @property
    def seconds(self) -> float:
        """When the call is given up."""
        return 0.003 if self.hasty else _ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class Finding:
    """An answer that nobody may give.

    Attributes:
        method: Who gave it.
        code: The status.
        message: Its text.
        seed: Of the run, with the number of the call: what the request is made from.
        request: The request; its beginning if it is long.
    """

    method: str
    code: StatusCode
    message: str
    seed: str
    request: bytes


@dataclass(slots=True)
class Report:
    """What a run came to.

    Attributes:
        answers: How often each method gave each status.
        findings: What must not be.
    """

    answers: Counter[tuple[str, StatusCode]] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """How many calls were answered."""
        return self.answers.total()

    def summary(self) -> list[str]:
        """Return a line for each kind of finding, with the seed of one."""
        kinds = {(found.method, found.code, found.message[:60]): found for found in self.findings}
        return [
            f"{found.method}: {found.code.name} {found.message} ({found.seed})" for found in kinds.values()
        ]

    def codes(self) -> Counter[StatusCode]:
        """Return how often each status was given."""
        codes: Counter[StatusCode] = Counter()
        for (_, code), times in self.answers.items():
            codes[code] += times
        return codes


class Fuzzer:
    """Calls the methods of one server in turns, each time with another request.

    Args:
        address: Of the server.
        seed: Decides every request, as far as it does not use what answers told.
        lore: What is known of the server.
        allowed: Statuses that are no finding.

    Attributes:
        methods: All that reflection lists.
        report: What came of them.
    """

    def __init__(
        self, address: str, seed: str, lore: Lore, allowed: frozenset[StatusCode] = DOCUMENTED
    ) -> None:
        # As any client: with what grpc sets for sizes of answers.
        self._channel = aio.insecure_channel(address)
        self._seed = seed
        self._lore = lore
        self._allowed = allowed
        self.report = Report()
        self.methods: list[MethodDescriptor] = []

    async def __aenter__(self) -> Fuzzer:
        stranger = Stranger(self._channel)
        for service in sorted(await stranger.services()):
            self.methods += await stranger.methods(service)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close(None)

    async def run(self, go_on: Callable[[int], bool]) -> None:
        """Call until told not to; another run begins with the same requests again.

        Args:
            go_on: Asked before each call with the number of those that this run has begun.
        """
        numbers = count()

        async def caller() -> None:
            while go_on(number := next(numbers)):
                await self._call(self.methods[number % len(self.methods)], f"{self._seed}:{number}")

        await asyncio.gather(*(caller() for _ in range(_IN_FLIGHT)))

    async def _call(self, method: MethodDescriptor, seed: str) -> None:
        chance = random.Random(seed)
        maker = RequestMaker(chance, self._lore)
        messages = chance.choice((0, 1, 1, 3)) if method.client_streaming else 1
        requests = [maker.request(method.input_type) for _ in range(messages)]
        manner = _Manner.by(chance)
        try:
            if method.client_streaming or method.server_streaming:
                await self._stream(method, requests, manner)
            else:
                await self._unary(method, requests[0], manner)
        except aio.AioRpcError as error:
            if not (manner.hasty and error.code() is StatusCode.DEADLINE_EXCEEDED):
                self._note(method, error.code(), error.details() or "", seed, b"".join(requests))
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            self._note(method, StatusCode.CANCELLED, "by the server", seed, b"".join(requests))
        else:
            code = StatusCode.CANCELLED if manner.cancelled else StatusCode.OK
            self.report.answers[method.full_name, code] += 1

    async def _unary(self, method: MethodDescriptor, request: bytes, manner: _Manner) -> None:
        answers = GetMessageClass(method.output_type)
        call = self._channel.unary_unary(_path(method), _as_is, answers.FromString)
        answer = call(request, timeout=manner.seconds, metadata=manner.metadata)
        if manner.cancelled:
            await asyncio.sleep(0)  # so that it has begun
            answer.cancel()
        try:
            self._learn(await answer)
        except asyncio.CancelledError:
            if not manner.cancelled:
                raise

    async def _stream(self, method: MethodDescriptor, requests: list[bytes], manner: _Manner) -> None:
        answers = GetMessageClass(method.output_type)
        stream: Any
        if method.client_streaming:
            call = self._channel.stream_stream(_path(method), _as_is, answers.FromString)
            stream = call(_each(requests), timeout=manner.seconds, metadata=manner.metadata)
        else:
            opened = self._channel.unary_stream(_path(method), _as_is, answers.FromString)
            stream = opened(requests[0], timeout=manner.seconds, metadata=manner.metadata)
        seen = 0
        try:
            async with asyncio.timeout(0 if manner.cancelled else _STREAM_SECONDS):
                async for answer in stream:
                    self._learn(answer)
                    seen += 1
                    if seen == _MESSAGES:
                        break
        except TimeoutError:
            pass
        finally:
            stream.cancel()

    def _learn(self, answer: Message) -> None:
        self._lore.learn(answer)

    def _note(
        self, method: MethodDescriptor, code: StatusCode, message: str, seed: str, request: bytes
    ) -> None:
        if method.client_streaming and (
            message == "Internal error from Core" or code is StatusCode.CANCELLED
        ):
            return  # this client's words for what it could not send, since the call was over before
        self.report.answers[method.full_name, code] += 1
        # Said by this client of an answer, unless the request was too large for the server.
        unreadable = "larger than max" in message and len(request) <= MOST_BYTES
        if code not in self._allowed or unreadable:
            finding = Finding(method.full_name, code, message[:300], seed, request[:2000])
            self.report.findings.append(finding)


def _path(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def _as_is(data: bytes) -> bytes:
    return data


async def _each(requests: list[bytes]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request
