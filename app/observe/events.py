"""Each log event by its id: its meaning, and what to do about it.

Programs and alerts may search for an id, so it never changes; docs/logs.md is made of this and of the calls
in the source. An event's fields are beside its id, never inside it.
"""

EVENTS = {
    "admin_token_wrong": (
        "A request had a wrong admin token. Many from one address are guesses; each makes that address wait"
        " longer."
    ),
    "change_not_stored": (
        "The store was not available, and Port was answered 503. Fix what `reason` says. Port does not send"
        " the change again: reconciling finds it."
    ),
    "source_refused": (
        "A request came from an address that ALLOWED_SOURCES does not name, and was answered 403. If Port"
        " sent it, add the address; behind a proxy, check FORWARDED_ALLOW_IPS."
    ),
}
"""The meaning of each event as one or more sentences, in the order of the ids."""
