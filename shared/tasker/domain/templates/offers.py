"""What a worker has to offer so that it may claim a step."""

from __future__ import annotations

from typing import Final

#: What runs unless a template names another method.
DEFAULT_METHOD: Final = "call"


def offer(callable_name: str, method: str = DEFAULT_METHOD, resolver: str | None = None) -> str:
    """Return how a step calls what it asks of a worker: `shop.payments`, `shop.payments#refund`, `mail.receipt@mails`.

    A step that names a method or a resolver asks for more than the handler: a worker of an older version may have the
    handler and lack those. Whoever offers the same text can run the step.
    """
    wanted = callable_name if method == DEFAULT_METHOD else f"{callable_name}#{method}"
    return wanted if resolver is None else f"{wanted}@{resolver}"
