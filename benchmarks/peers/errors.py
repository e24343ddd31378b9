"""Why a peer is left out."""

from __future__ import annotations


class PeerError(Exception):
    """A peer cannot take part, or can no longer."""


class PeerMissingError(PeerError):
    """A peer cannot be installed here."""


class PeerFailedError(PeerError):
    """A program of a peer failed."""

    def __init__(self, what: str, last_words: str) -> None:
        """Join what happened and the last line that the program wrote."""
        super().__init__(f"{what}: {last_words}" if last_words else what)
