"""Puts the rules file into force again after it was changed, while changes come in and alerts go out."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from app.deliver.dispatcher import Dispatcher
from app.deliver.message import Messages
from app.deliver.notifier_set import NotifierSet
from app.deliver.turn import Sender
from app.errors import ListenerError, RulesError, StoreUnavailable
from app.notifier.base import SEND_TIMEOUT, Notifier
from app.observe.watch import Watch
from app.receive.intake import Intake
from app.rules.file import Rules, RulesFile
from app.rules.rulebook import Rulebook
from app.store import queries
from app.store.follow import follow, follow_escalations, leave
from app.store.store import Store

log = structlog.get_logger(__name__)

RULES_REFUSED = "the rules file is refused: {}"
CLOSED_AT_ONCE = 200  # so that no transaction is long
FOLLOW_AGAIN_SECONDS = 5.0
LEFT = (
    "Alerts for {name} go elsewhere from now on. This channel was told of {number} open incidents, and is not"
    " told their end."
)


@dataclass(slots=True)
class RulesInForce:
    """Everything that works by the rules, and how they are read.

    Attributes:
        load: Reads the rules file and makes a notifier for each destination; it blocks. Raises
            `ListenerError`.
        make_book: Makes what the intake decides by.
        make_at: Makes a notifier by a `Notifier.address`; raises `SettingsError`.
        clock: Gives the time, UTC.
        on_more_watched: Called when the rules watch a blueprint that the rules before did not.
        problem: The reason for which the file was refused when it was read last; None: it was not.
        hints: What the file that was read last could say better.
        again_seconds: How soon `follow` is tried again while the store cannot do it.
    """

    load: Callable[[], tuple[Rules, Mapping[str, Notifier]]]
    make_book: Callable[[RulesFile], Rulebook]
    make_at: Callable[[str], Notifier]
    intake: Intake
    messages: Messages
    sender: Sender
    dispatcher: Dispatcher
    store: Store
    clock: Callable[[], datetime]
    watch: Watch
    on_more_watched: Callable[[], None] = lambda: None
    problem: str | None = None
    hints: Sequence[str] = ()
    again_seconds: float = FOLLOW_AGAIN_SECONDS
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)
    _following: asyncio.Task[None] | None = None

    def warnings(self) -> list[str]:
        """Say what needs attention: a file that is refused, programs that fail; no values of the catalog."""
        refused = [RULES_REFUSED.format(self.problem)] if self.problem else []
        rules = sorted({rule for rule, _ in self.intake.failing})
        return refused + [f"rule {rule!r}: its jq fails; the changes' reasons say why" for rule in rules]

    async def reload(self) -> bool:
        """Read the rules file again; if it is refused, the log says why, and the rules stay as they are.

        Of two at once the second waits, and reads the file after the first: what is newest stays in force.
        The result is False if it should be tried again though the file stays as it is: it could not be read.
        """
        async with self._turn:
            try:
                rules, notifiers = await asyncio.to_thread(self.load)
                await self._put_in_force(rules, notifiers)
            except RulesError as error:
                self._refused(str(error))
                log.error("rules_refused", reason=str(error))
            except ListenerError as error:
                if self._refused(str(error)):
                    log.error("rules_not_read", reason=str(error))
                return False
            except Exception as error:  # whatever it is, the next reload must come
                # Not the error's text: it may hold a part of the file.
                fault = getattr(error, "strerror", None) or type(error).__name__
                if self._refused(f"a fault in this program: {fault}"):
                    log.exception("rules_fault")
                return False
        return True

    def _refused(self, problem: str) -> bool:
        """Keep why the rules stay as they are; tell whether that is news: it may be tried again and again."""
        self.watch.rules_refused()
        is_news, self.problem = problem != self.problem, problem
        return is_news

    async def _put_in_force(self, rules: Rules, notifiers: Mapping[str, Notifier]) -> None:
        book = self.make_book(rules.file)
        # Only from here on is anything replaced: a file that is refused changes nothing.
        self.problem = None
        self.watch.rules_taken([rule.name for rule in rules.file.rules], notifiers)
        # The old ones may be sending: they are closed when that has ended. The reload does not wait for it.
        replaced = self.sender.replace(notifiers)
        watched_before = self.intake.book.watched.keys()
        self.intake.failing.clear()
        self.intake.book, self.messages.rules = book, book.rules
        self.sender.fallbacks, self.sender.defaults = book.fallbacks, book.defaults
        self.sender.held = book.held
        with suppress(StoreUnavailable):  # then they try when their own time has come
            # The person may have changed just what had put a queue on hold.
            await self.store.write(queries.deliveries.probe_on_hold, self.clock())
            await self.store.write(queries.silences.end_hours, self.clock())
        await self.follow(replaced)
        self.dispatcher.wake()
        if book.watched.keys() - watched_before:
            self.on_more_watched()
        self.hints = [hint.at(rules.name) for hint in rules.hints]
        for hint in self.hints:
            log.warning("rules_hint", reason=hint)
        log.info("rules_loaded", rules=len(rules.file.rules), destinations=len(notifiers))

    async def follow(self, replaced: NotifierSet | None = None) -> None:
        """Let what is open follow the rules in force: see `app.store.follow`.

        While the store cannot do it, it is tried again in the background, until it is done. Notifiers that
        were replaced are closed after that.
        """
        if self._following is not None:
            self._following.cancel()
            self._following = None
        if not await self._followed(replaced):
            self._following = asyncio.create_task(self._follow_until_done())

    async def _follow_until_done(self) -> None:
        while True:
            await asyncio.sleep(self.again_seconds)
            if await self._followed():
                self.dispatcher.wake()
                return

    async def _followed(self, replaced: NotifierSet | None = None) -> bool:
        left: Mapping[str, tuple[str, int]] = {}
        try:
            addresses = {name: notifier.address for name, notifier in self.sender.notifiers.items()}
            left = await self.store.write(leave, addresses, self.clock())
            while closed := await self.store.write(
                follow, self.intake.book.rules, self.clock(), limit=CLOSED_AT_ONCE
            ):
                names = sorted({incident.rule for incident in closed})
                log.warning("incidents_closed", rules=names, incidents=len(closed))
            changed = await self.store.write(follow_escalations, self.intake.book, self.clock())
            if changed:
                log.info("escalations_changed", incidents=changed)
        except StoreUnavailable as error:
            log.warning("rules_not_followed", reason=str(error))
            return False
        finally:
            self._closing.add(closing := asyncio.create_task(self._leave(left, replaced)))
            closing.add_done_callback(self._closing.discard)
        return True

    async def _leave(self, left: Mapping[str, tuple[str, int]], replaced: NotifierSet | None) -> None:
        """Say a last word at the places that destinations have left, and close what was replaced.

        By an old address nothing can be sent later: it is in no file any more.
        """
        by_name = replaced.by_name if replaced else {}
        for name, (_, number) in left.items():
            log.warning("destination_moved", destination=name, incidents=number)
        try:
            words = (
                self._say_last(by_name.get(name), address, LEFT.format(name=name, number=number))
                for name, (address, number) in left.items()
            )
            await asyncio.gather(*words)
        finally:
            if replaced is not None:
                await replaced.close()

    async def _say_last(self, old: Notifier | None, address: str, text: str) -> None:
        with suppress(ListenerError, TimeoutError):
            notifier = self.make_at(address) if address else old
            if notifier is None or notifier.batch_limit == 1:  # a job does not run because of this
                return
            try:
                async with asyncio.timeout(SEND_TIMEOUT.total_seconds()):
                    await notifier.probe(text)
            finally:
                if notifier is not old:
                    await notifier.close()

    async def close(self) -> None:
        """Close all notifiers, those too that were replaced."""
        if self._following is not None:
            self._following.cancel()
        await self.sender.close()
        await asyncio.gather(*self._closing)
