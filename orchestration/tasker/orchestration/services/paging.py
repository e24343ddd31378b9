"""Pages of listings: what a request asks for, what the reply tells, and the token that joins two calls."""

from __future__ import annotations

import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, TypeVar

from tasker.domain.errors import FieldViolation, InvalidArgumentError
from tasker.v1 import common_pb2

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 1000

_DIGEST_BYTES: Final = 16

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page:
    """Which rows are wanted.

    Attributes:
        limit: How many.
        skip: How many to leave out behind `after`.
        after: The key of the last row of the page before; empty at the start.
        position: How many rows lie before the page.
    """

    limit: int
    skip: int = 0
    after: tuple[Any, ...] = ()
    position: int = 0


class PageTokens:
    """Makes listings whose page tokens nobody else can make.

    Attributes:
        key: What signs them. All services of a database use the same one, which they read when they start; until then
            it is one of this process.
    """

    def __init__(self) -> None:
        self.key = secrets.token_bytes(32)

    def listing(self, *facts: bytes, default_limit: int = DEFAULT_LIMIT) -> Listing:
        """Return a listing.

        Args:
            facts: Everything that makes it another listing.
            default_limit: How many rows a page has unless said otherwise.
        """
        return Listing(*facts, key=self.key, default_limit=default_limit)


class Listing:
    """A listing with its filters and its sort, which its page tokens belong to.

    Args:
        facts: Everything that makes it another listing.
        key: What signs the tokens.
        default_limit: How many rows a page has unless said otherwise.
    """

    def __init__(self, *facts: bytes, key: bytes, default_limit: int = DEFAULT_LIMIT) -> None:
        self._key = key
        self._facts = b"".join(sha256(fact).digest() for fact in facts)
        self._default_limit = default_limit

    def page(self, request: common_pb2.PaginationRequest, *, within: str = "pagination.") -> Page:
        """Return the page that a request asks for.

        Args:
            request: What it asks for.
            within: What the names of its fields begin with where the caller looks at them.

        Raises:
            InvalidArgumentError: A limit or offset out of range; a token that is not one of this listing, or that
                comes with an offset.
        """
        violations = []
        limit = request.limit if request.HasField("limit") else self._default_limit
        if not 1 <= limit <= MAX_LIMIT:
            violations.append(FieldViolation(f"{within}limit", f"{limit} not in 1..{MAX_LIMIT}"))
        if request.offset < 0:
            violations.append(FieldViolation(f"{within}offset", f"{request.offset} is negative"))
        if request.offset and request.page_token:
            problem = (
                "does not go with a page_token, which already tells where to go on; leave one of them out"
            )
            violations.append(FieldViolation(f"{within}offset", problem))
        if violations:
            raise InvalidArgumentError(violations)
        if not request.page_token:
            return Page(limit, skip=request.offset, position=request.offset)
        position, *after = self._read(request.page_token, within)
        return Page(limit, after=tuple(after), position=position)

    def reply(
        self, page: Page, total: int, rows: Sequence[Row], *, more: bool, key: Callable[[Row], Sequence[Any]]
    ) -> common_pb2.PaginationResponse:
        """Return what to tell about a page.

        Args:
            page: As asked for.
            total: How many rows match.
            rows: Those of the page.
            more: Whether rows follow.
            key: The values that place a row in the order of the listing, as JSON.
        """
        count = len(rows)
        return common_pb2.PaginationResponse(
            total=total,
            count=count,
            offset=page.position,
            has_more=more,
            next_page_token=self._write([page.position + count, *key(rows[-1])]) if more else None,
        )

    def _write(self, content: list[Any]) -> str:
        body = json.dumps(content, separators=(",", ":")).encode()
        return urlsafe_b64encode(self._digest(body) + body).decode().rstrip("=")

    def _read(self, token: str, within: str) -> list[Any]:
        try:
            data = urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
        except ValueError:
            data = b""
        digest, body = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if not hmac.compare_digest(digest, self._digest(body)):
            raise InvalidArgumentError.of(
                f"{within}page_token",
                "is not a token of this listing: pass the next_page_token of the page before unchanged, with the same "
                "filters and the same sort, or leave it out to begin anew",
            )
        content: list[Any] = json.loads(body)
        return content

    def _digest(self, body: bytes) -> bytes:
        return hmac.digest(self._key, self._facts + body, "sha256")[:_DIGEST_BYTES]
