"""Puts the parts together that take a change from its body to its destinations; it reads no settings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from opentelemetry.trace import Tracer

from app.deliver.dispatcher import Dispatcher
from app.deliver.message import Messages
from app.deliver.turn import Sender
from app.jq.runner import Jq
from app.notifier.base import Notifier
from app.observe.tracing import OFF
from app.observe.watch import NOBODY, Watch
from app.receive.intake import Intake, Wake
from app.receive.routing import LookUp
from app.rules.rulebook import Rulebook
from app.store.kin.shown import affected
from app.store.store import Store


@dataclass(frozen=True, slots=True)
class Parts:
    """What decides, and what delivers."""

    intake: Intake
    messages: Messages
    sender: Sender
    dispatcher: Dispatcher


def put_together(
    store: Store,
    book: Rulebook,
    notifiers: Mapping[str, Notifier],
    *,
    conditions: Jq,
    templates: Jq,
    look_up: LookUp,
    jitter: Callable[[], float],
    new_token: Callable[[], str],
    wake: Wake | None = None,
    reports: bool = False,
    watch: Watch = NOBODY,
    tracer: Tracer = OFF,
) -> Parts:
    """Put the parts together, by the store's clock.

    Args:
        store: Where everything is kept.
        book: The rules in force.
        notifiers: The destinations by name.
        conditions: Runs the jq of conditions.
        templates: Runs the jq of templates.
        look_up: Asks Port.
        jitter: Gives random numbers from -1 to 1, which spread retries.
        new_token: Makes texts that no other process has.
        wake: Starts the delivery of what waits; None: the dispatcher made here delivers.
        reports: Whether runs in Port that wait for a report get one.
        watch: Counts what happens.
        tracer: Makes spans of it.
    """
    messages = Messages(store.body, templates, book.rules, lambda *about: store.read(affected, *about))
    sender = Sender(
        store,
        notifiers,
        prepare=messages.prepare,
        complete=messages.with_affected,
        clock=store.clock,
        jitter=jitter,
        fallbacks=book.fallbacks,
        defaults=book.defaults,
        why_not=messages.why_not,
        held=book.held,
        tracer=tracer,
    )
    dispatcher = Dispatcher(store, sender, clock=store.clock, new_token=new_token, watch=watch, tracer=tracer)
    intake = Intake(
        store=store,
        book=book,
        clock=store.clock,
        evaluate=conditions.evaluate,
        look_up=look_up,
        wake=wake or dispatcher.wake,
        reports=reports,
        watch=watch,
        tracer=tracer,
    )
    return Parts(intake, messages, sender, dispatcher)
