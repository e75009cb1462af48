"""Reads the rules file, and reads it again when it has changed."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr

from app.errors import SettingsError
from app.jq.runner import checking
from app.model.incident import ALL_STEPS, CATALOG_QUEUES, EVERY_STEP, Step
from app.rules.destination import SettingsModels
from app.rules.file import Rules, RulesFile, load_rules
from app.rules.rule import RuleSet
from app.rules.rulebook import Queues, Rulebook
from app.rules.targets import DEFAULT_DESTINATION
from app.rules.watched import watched_by

Reload = Callable[[], Coroutine[None, None, bool]]
"""Reads the rules file again; False: try again, though it stays as it is."""

RULES_LOOK_SECONDS = 1.0  # how late a change of the rules file is seen
LOOKS_BEFORE_RETRY = 10


def read_rules(file: Path | None, environment: Mapping[str, str], models: SettingsModels) -> Rules:
    """Read the configured rules file; without one the built-in rule holds.

    Raises:
        RulesError: Something is wrong with it.
        SettingsError: It cannot be read.
    """
    if file is None:
        return Rules(RulesFile(version=1, destinations={}, hours={}))
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise SettingsError(f"the rules file {file} cannot be read: {reason}") from None
    with checking() as check_jq:
        return load_rules(text, environment, models=models, name=str(file), check_jq=check_jq)


def secrets_of(rules: Rules) -> tuple[str, ...]:
    """Collect every text of a rules file that must never be shown."""
    secrets = set(rules.hidden)
    for destination in rules.file.destinations.values():
        for _, value in destination:
            values = value.values() if isinstance(value, dict) else (value,)
            texts = [text.get_secret_value() for text in values if isinstance(text, SecretStr)]
            # A header's token may be shown without the word before it: Bearer …
            secrets.update(texts, *(text.split() for text in texts))
    return tuple(secret for secret in secrets if secret)


def make_rulebook(file: RulesFile, default_webhook: str = "") -> Rulebook:
    """Make the rulebook of a file; destinations that are the same Slack channel share a queue.

    The destination `default`, whose webhook is given apart, needs no entry in the file.
    """
    # Two names of one Slack channel must not overtake each other there.
    channels = {default_webhook: DEFAULT_DESTINATION}
    queues = {DEFAULT_DESTINATION: Queues(DEFAULT_DESTINATION)}
    for name, destination in file.destinations.items():
        routing = destination.routing()
        queue = name if routing.channel is None else channels.setdefault(routing.channel, name)
        # An alert without an incident is no step of one: it counts as a beginning.
        steps = EVERY_STEP if routing.acknowledged else ALL_STEPS
        steps = steps if routing.steps is None else frozenset([*map(Step, routing.steps), Step.NOTICED])
        queues[name] = Queues(queue, routing.queues, steps, routing.fallback, routing.catalog)
    rules = RuleSet(file.rules)
    # A job's own templates see the whole event.
    wide = {name for name, settings in file.destinations.items() if settings.reads_event}
    sources = {name: ways.catalog.source for name, ways in queues.items() if ways.catalog}
    # Not the webhooks, which are secrets: nothing in the catalog is one.
    named = {channel: name for channel, name in channels.items() if channel.startswith(CATALOG_QUEUES)}
    hours = {name: hours.week for name, hours in file.hours.items()}
    return Rulebook(rules, queues, watched_by(rules, wide, sources), named, hours, file.slack)


@contextmanager
def reload_on_sighup(reload_rules: Reload) -> Iterator[None]:
    """Reload on SIGHUP, as long as the context lasts."""
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[bool]] = set()

    def reload() -> None:
        # Kept until it is done: the loop itself holds tasks only weakly.
        reloads.add(task := asyncio.create_task(reload_rules()))
        task.add_done_callback(reloads.discard)

    try:
        loop.add_signal_handler(signal.SIGHUP, reload)
    except (ValueError, RuntimeError, NotImplementedError, AttributeError):
        yield  # not the main thread, or Windows: reload_on_change still sees a changed file
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


async def reload_on_change(
    file: Path, last: bytes | None, reload_rules: Reload, look_seconds: float = RULES_LOOK_SECONDS
) -> None:
    """Reload whenever a file's content has changed, and until it could be read; until cancelled.

    Args:
        file: The rules file.
        last: Its content, by `content_of`, from before the rules in force were read.
        reload_rules: Reads it again.
        look_seconds: How often it is looked at.
    """
    # Events of its folder would come sooner, but the database is often there and is written all the time.
    settled, looks = True, 0
    while True:
        await asyncio.sleep(look_seconds)
        content, looks = content_of(file), looks + 1
        # None: it is just being replaced, so look again
        if content not in (None, last) or (not settled and looks >= LOOKS_BEFORE_RETRY):
            last, looks = content, 0
            settled = await reload_rules()


def content_of(file: Path) -> bytes | None:
    """Read a file; None: it is not there, or cannot be read."""
    try:
        return file.read_bytes()
    except (OSError, MemoryError):
        return None
