"""What of the catalog is a channel or a person, and how Slack is asked who somebody is."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from structlog.testing import capture_logs

from app.errors import DeliveryFailed, Scope
from app.model.notification import Message
from app.notifier.base import Parcel
from app.notifier.slack.catalog import CatalogBot, channel_queue, person_queue
from app.notifier.slack.people import KEPT, People
from app.notifier.slack.session import SlackSession
from app.notifier.slack.web_api import ApiAnswer, SlackApi
from tests.conftest import NOW
from tests.notifier.helpers import APP
from tests.notifier.slack.bots import LONG_AGO, failure, opened, reply, told
from tests.notifier.slack.helpers import item, parcel
from tests.notifier.slack.stand_in_api import StandInSlackApi

ALLOW = ("team-*", "#Oncall", "C0123456789", "search", "تیم-*")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("team-rocket", "#team-rocket"),
        ("#Team-Rocket", "#team-rocket"),
        ("# team-rocket", "#team-rocket"),
        ("oncall", "#oncall"),
        ("تیم-موشک", "#تیم-موشک"),
        ("C0123456789", "#C0123456789"),
        ("<#C0123456789|anything>", "#C0123456789"),
        ("https://acme.slack.com/archives/C0123456789", "#C0123456789"),
        ("https://acme.slack.com/archives/C0123456789/p17?thread_ts=1", "#C0123456789"),
        ("SEARCH", "#search"),
        ("general", "its `allow` does not name #general"),
        ("C0000000000", "its `allow` does not name #C0000000000"),
        ("c0123456789", "its `allow` does not name #c0123456789"),
        ("GENERALS", "its `allow` does not name #generals"),
        ("Team Rocket", "Team Rocket is no channel's name"),
        ("team-rocket, team-star", "team-rocket, team-star is no channel's name"),
        ("#", "# is no channel's name"),
        ("team-" + "x" * 90, "is no channel's name"),
        ("<!channel>", "<!channel> is no channel's name"),
        ("@ada", "@ada is no channel's name"),
        ("team-a/updates", "team-a/updates is no channel's name"),
        ("https://evil.example/archives/", "is no channel's name"),
    ],
)
def test_a_channel(value: str, expected: str) -> None:
    """By its name in any case, its ID or its link; `allow` decides, and nothing else is one."""
    try:
        found = channel_queue(value, ALLOW)
    except ValueError as error:
        found = str(error)
    assert found.endswith(expected), found


@pytest.mark.parametrize(
    ("value", "allow", "expected"),
    [
        ("Ada@Example.com", None, "@ada@example.com"),
        ("mailto:ada@example.com", ("*@example.com",), "@ada@example.com"),
        ("U0ADA00001", None, "@U0ADA00001"),
        ("ada@other.example", ("*@example.com",), "its `allow` does not name ada@other.example"),
        ("Ada Lovelace", None, "Ada Lovelace is no e-mail address"),
        ("ada@example.com, bob@example.com", None, "ada@example.com, bob@example.com is no e-mail address"),
        ("UPSTAIRS", None, "UPSTAIRS is no e-mail address"),
        ("<!here>@example.com", None, "is no e-mail address"),
    ],
)
def test_a_person(value: str, allow: Any, expected: str) -> None:
    """By an e-mail address in any case, or an ID."""
    try:
        found = person_queue(value, allow)
    except ValueError as error:
        found = str(error)
    assert found.endswith(expected), found


@pytest.fixture
async def bot(api: StandInSlackApi) -> AsyncIterator[CatalogBot]:
    """A bot of the catalog's channels, whose default is another destination."""
    bot = CatalogBot(api.token, "", APP, to_people=True, api_url=api.url, calls_people=True)
    yield bot
    await bot.close()


async def test_slack_that_does_not_say_who_it_is(api: StandInSlackApi, bot: CatalogBot) -> None:
    """At first the alert waits; the second time it goes out, and says whom it did not call."""
    wanted = parcel(item("1", people=("ada@example.com",)))
    for _ in range(2):
        api.answers["users.lookupByEmail"].append(Response("busy", 503))
    there = bot.of_queue("#oncall")
    assert (await failure(there, wanted)).scope is Scope.TRANSIENT
    assert api.channel("oncall").posted == []
    await there.send(wanted)
    (posted,) = api.channel("oncall").posted
    assert "Not called: ada@example.com (Slack did not say who that is)" in str(posted)


async def test_one_person_in_two_alerts(api: StandInSlackApi, bot: CatalogBot) -> None:
    """The second time neither of the alerts waits for an answer about the person."""
    wanted = parcel(item("1", people=("ada@example.com",)), item("2", people=("ada@example.com",)))
    for _ in range(2):
        api.answers["users.lookupByEmail"].append(Response("busy", 503))
    there = bot.of_queue("#oncall")
    assert (await failure(there, wanted)).scope is Scope.TRANSIENT
    assert (await there.send(wanted)).delivered == told("1", "2")
    assert len(api.answers["users.lookupByEmail"]) == 1


@pytest.mark.parametrize(
    ("answer", "scope", "asked"),
    [
        (Response("<html>log in", 200), Scope.STRANGE, 2),
        (JSONResponse({"ok": False, "error": "missing_scope"}), Scope.DESTINATION, 2),
        (JSONResponse({"ok": False, "error": "users_not_found"}), Scope.PLACE, 1),
    ],
)
async def test_only_slacks_word_on_a_person_is_kept(
    api: StandInSlackApi, bot: CatalogBot, answer: Response, scope: Scope, asked: int
) -> None:
    """What else comes in place of an answer is no answer: the next try asks again."""
    api.people.users["ada@example.com"] = "U0ADA00001"
    api.answers["users.lookupByEmail"].append(answer)
    ada = bot.of_queue("@ada@example.com")
    assert (await failure(ada)).scope is scope
    if asked > 1:
        await ada.send(parcel(item("1")))
    else:
        await failure(ada)
    assert [method for method, _ in api.calls].count("users.lookupByEmail") == asked


@pytest.mark.parametrize("step", [timedelta(days=-1), timedelta(minutes=11), timedelta(minutes=9)])
async def test_what_is_known_of_people_ages(api: StandInSlackApi, step: timedelta) -> None:
    """After 10 minutes it is asked anew, and at once where the clock was set back by more."""
    times = [NOW]
    session = SlackSession("test", api.url, lambda: times[-1], answer=ApiAnswer)
    people = People(SlackApi(api.token, api.url, session), lambda: times[-1])
    api.people.groups["sre"] = "S0SRE00001"
    assert await people.group("SRE") == "S0SRE00001"
    api.people.groups["sre"] = "S0SRE00002"
    times.append(NOW + step)
    assert (await people.group("sre") == "S0SRE00002") is (abs(step) > KEPT)
    await session.close()


async def test_scopes_that_are_missing(api: StandInSlackApi, bot: CatalogBot) -> None:
    """They are named: without one a person gets no messages, and an alert goes out without its mention."""
    api.people.users["ada@example.com"] = "U0ADA00001"
    assert (await bot.probe()).note == ""
    api.scopes -= {"usergroups:read"}
    assert (await bot.probe()).note == "without usergroups:read the app cannot find whom alerts call"
    await bot.of_queue("#oncall").send(parcel(item("1", people=("@rocket",))))
    assert "@rocket (missing_scope: add usergroups:read to" in str(api.channel("oncall").posted)
    api.scopes -= {"users:read.email", "im:write"}
    with pytest.raises(DeliveryFailed, match=r"missing_scope: add users:read\.email and im:write to"):
        await bot.probe()
    failed = await failure(bot.of_queue("@ada@example.com"))
    assert (failed.scope, "users:read.email" in failed.reason) == (Scope.DESTINATION, True)


async def test_each_failure_is_one_of_its_own(bot: CatalogBot) -> None:
    """One error for all alerts would keep what each of them was about, for as long as the process lives."""
    failures = []
    for _ in range(2):
        with pytest.raises(DeliveryFailed) as failed:
            await bot._people.group("nobody")  # noqa: SLF001 - an alert that it calls nobody for shows no error
        failures.append(failed.value)
    assert failures[0] is not failures[1]


@pytest.mark.parametrize(
    ("queue", "scope", "reason"),
    [
        ("#nowhere", Scope.PLACE, "channel_not_found"),
        ("#secret", Scope.PLACE, "channel_not_found"),
        ("#old", Scope.PLACE, "is_archived"),
        ("#others", Scope.PLACE, "not_in_channel"),
        ("@eve@example.com", Scope.PLACE, "users_not_found"),
        ("@U0GONE0001", Scope.PLACE, "user_not_found"),
    ],
)
async def test_a_place_that_cannot_be_reached(
    api: StandInSlackApi, bot: CatalogBot, queue: str, scope: Scope, reason: str
) -> None:
    """It is the channel's or the person's failure alone, not the destination's."""
    api.add("secret", private=True, member=False)
    api.add("old", archived=True)
    api.add("others", member=False)
    api.scopes -= {"chat:write.public"}
    failed = await failure(bot.of_queue(queue))
    assert (failed.scope, failed.reason.partition(":")[0]) == (scope, reason)


async def test_what_has_arrived_is_not_sent_again(api: StandInSlackApi, bot: CatalogBot) -> None:
    """In a channel that is known by its name, and to a person."""
    api.people.users["ada@example.com"] = "U0ADA00001"
    for queue in ("#oncall", "@ada@example.com"):
        await bot.of_queue(queue).send(parcel(item("1")))
        found = await bot.of_queue(queue).find(parcel(item("1"), item("2")), LONG_AGO)
        assert found is not None
        assert found.delivered == frozenset({"1"})


async def test_each_turn_knows_what_the_last_one_found(api: StandInSlackApi, bot: CatalogBot) -> None:
    """That a channel cannot be read is logged once, and its ID is not looked for among all channels."""
    await bot.of_queue("#oncall").send(parcel(item("1")))
    api.scopes -= {"channels:history"}
    with capture_logs() as logs:
        for _ in range(2):
            assert await bot.of_queue("#oncall").find(parcel(item("2")), LONG_AGO) is None
    assert [line["event"] for line in logs].count("channel_unreadable") == 1
    assert "conversations.list" not in [method for method, _ in api.calls]


async def test_a_revoked_token_is_the_destinations(api: StandInSlackApi, bot: CatalogBot) -> None:
    """The default would not be reached either."""
    api.refuse("chat.postMessage", "token_revoked")
    assert (await failure(bot.of_queue("#oncall"))).scope is Scope.DESTINATION
    assert "comes from the catalog" in (await failure(bot)).reason


@pytest.mark.parametrize(
    "word",
    [
        "no_permission",
        "method_not_supported_for_channel_type",
        "restricted_action_read_only_channel",
    ],
)
async def test_words_for_a_channel_that_takes_nothing(
    api: StandInSlackApi, bot: CatalogBot, word: str
) -> None:
    """The channel's alone: the token is good for others."""
    api.refuse("chat.postMessage", word)
    assert (await failure(bot.of_queue("#oncall"))).scope is Scope.PLACE


@pytest.mark.parametrize("word", ["cannot_dm_bot", "invalid_user_combination", "user_not_visible"])
async def test_words_for_a_person_who_cannot_be_told(
    api: StandInSlackApi, bot: CatalogBot, word: str
) -> None:
    """The person's alone."""
    api.refuse("conversations.open", word)
    assert (await failure(bot.of_queue("@U0ADA00001"))).scope is Scope.PLACE


async def test_a_person_with_a_new_account(api: StandInSlackApi, bot: CatalogBot) -> None:
    """Their incident began in other direct messages: Slack is asked once, not without end."""
    api.people.users["ada@example.com"] = "U0ADA00001"
    for _ in range(3):
        api.refuse("chat.postMessage", "channel_not_found")
    failed = await failure(
        bot.of_queue("@ada@example.com"), parcel(reply("1", Message("D0OLD000001", "1.000001")))
    )
    assert (failed.scope, len(api.answers["chat.postMessage"])) == (Scope.PLACE, 2)


async def test_the_old_channel_gets_its_own_alone(bot: CatalogBot) -> None:
    """It names what it has of the parcel, and what waits beyond is left to wait."""
    parent = await opened(bot.of_queue("#oncall"))
    items = (item("1"), reply("2", parent))
    sent = await bot.of_queue("#nowhere").send(Parcel(items, {"of": "the first"}, more=7, counts={"down": 9}))
    assert sent.delivered == told("2")


async def test_another_channel_has_the_name(api: StandInSlackApi, bot: CatalogBot) -> None:
    """What began in the old one is still to be told there, and is: by itself."""
    parent = await opened(bot.of_queue("#oncall"))
    api.channels[parent.channel].name = "oncall-old"
    new = api.add("oncall")
    sent = await bot.of_queue("#oncall").send(parcel(item("1"), reply("2", parent)))
    assert sent.delivered == told("1")
    others = Message(new.id, "1.000001")
    sent = await bot.of_queue("#oncall").send(parcel(reply("2", parent), reply("3", others)))
    assert sent.delivered == told("2")
    assert [body["channel"] for method, body in api.calls][-1] == parent.channel


async def test_what_began_in_the_old_channel_is_not_repeated_in_the_new(
    api: StandInSlackApi, bot: CatalogBot
) -> None:
    """However often something new waits with it: what waits longest goes first, and no sum stands for it."""
    parent = await opened(bot.of_queue("#oncall"))
    api.channels[parent.channel].name = "oncall-old"
    api.add("oncall")
    mixed = parcel(item("1"), reply("2", parent))
    assert (await bot.of_queue("#oncall").send(mixed)).delivered == told("1")
    found = await bot.of_queue("#oncall").find(mixed, LONG_AGO)
    assert found is not None
    assert found.delivered == told("1")
    sums_up = Parcel((item("3"), reply("2", parent)), more=7, counts={"down": 9})
    assert (await bot.of_queue("#oncall").send(sums_up)).delivered == told("3")
    assert "7 more" not in str(api.channel("oncall").posted)
    for archived, expected in ((False, "2"), (True, "4")):
        api.channels[parent.channel].archived = archived
        sent = await bot.of_queue("#oncall").send(parcel(reply("2", parent), item("4")))
        assert sent.delivered == told(expected)
    assert len(api.channel("oncall").posted) == 3


async def test_of_two_channels_one_is_archived(api: StandInSlackApi, bot: CatalogBot) -> None:
    """The other is told what began there: the default gets only what cannot be told where it began."""
    gone = await opened(bot.of_queue("#oncall"))
    api.channels[gone.channel].name = "oncall-old"
    new = api.add("oncall")
    parent = await opened(bot.of_queue("#oncall"))
    api.channels[gone.channel].archived = True
    sent = await bot.of_queue("#oncall").send(parcel(reply("2", gone), reply("3", parent)))
    assert (sent.delivered, new.posted[-1]["thread_ts"]) == (told("3"), parent.ts)
    assert (await failure(bot.of_queue("#oncall"), parcel(reply("2", gone)))).scope is Scope.PLACE
