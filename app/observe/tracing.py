"""Spans, where somebody wants them; by itself nobody does, and a span costs nothing.

`app.observe.otel` has the tracing that is on. Attributes never hold a payload, and errors only their kind.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self


class Span:
    """A span that nobody sees."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def set(self, **attributes: str | int | bool) -> None:
        """Add attributes; ``port.`` is put before their names."""

    def fail(self, kind: str) -> None:
        """Say that what the span is about went wrong."""


NO_SPAN = Span()


class Tracing:
    """Makes no spans.

    Attributes:
        provider: What a framework makes its own spans with, for the same traces; None: it is to make none.
    """

    provider: Any = None

    def span(self, name: str, *, calls_out: bool = False, **attributes: str | int | bool) -> Span:
        """Return a span inside the current one, to be used in a `with`.

        Args:
            name: What happens in it.
            calls_out: It waits for somebody else's answer.
            attributes: See `Span.set`.
        """
        return NO_SPAN

    def deliver(self, parents: Sequence[str | None], **attributes: str | int | bool) -> Span:
        """Return the span of a delivery, to be used in a `with`: it goes on in the first change's trace.

        Args:
            parents: The `traceparent` of each change that is told of.
            attributes: See `Span.set`.
        """
        return NO_SPAN

    @property
    def traceparent(self) -> str | None:
        """The current span, as W3C's header of that name writes it; None: there is none."""
        return None

    @property
    def trace_id(self) -> str | None:
        """The current trace; None: there is none."""
        return None

    async def close(self) -> None:
        """Export what there still is, in a moment."""


OFF = Tracing()
