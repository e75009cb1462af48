"""Each log event by its id: its meaning, and what to do about it.

Programs and alerts may search for an id, so it never changes; docs/logs.md is made of this and of the calls
in the source. An event's fields are beside its id, never inside it.
"""

EVENTS = {
    "admin_token_wrong": (
        "A request had a wrong admin token. Many from one address are guesses; each makes that address "
        "wait longer."
    ),
    "alert_delivered": (
        "A destination took an alert, or a digest of `deliveries` alerts, after `took_ms`. Nothing to do."
    ),
    "alerts_set_aside": (
        "Alerts in this queue were silenced, or their rule is gone; they were not sent. Nothing to do."
    ),
    "attempt_not_recorded": (
        "An alert was tried, but the store could not record the outcome. It is recorded when the store is "
        "back; after a crash before that, the alert is sent again."
    ),
    "background_ended": (
        "A part of the listener that works in the background has ended by a fault: `part` says which, "
        "`exception` where. Restart the listener, and report it."
    ),
    "blueprint_not_in_port": (
        "A rule names a blueprint that Port does not have, so it is not reconciled. Correct the rule's "
        "`blueprint`."
    ),
    "change_accepted": (
        "A change was stored, or was known already (`duplicate`), and so many `alerts` were queued for "
        "it. Nothing to do."
    ),
    "change_faulty": (
        "This program failed on a signed body; it was put into quarantine and answered 500. Report the "
        "traceback; after an upgrade, replay it."
    ),
    "change_not_stored": (
        "The store was not available, and Port was answered 503. Fix what `reason` says. Port does not "
        "send the change again: reconciling finds it."
    ),
    "change_unreadable": (
        "A signed body is not a change that this release can read (see `path` and `reason`). It is in "
        "quarantine; after an upgrade, replay it."
    ),
    "channel_unreadable": (
        "Slack did not let the bot look for a message that may have arrived, or gave an answer that "
        "nobody knows (`reason`), so an alert may appear twice in `channel`. Check the bot's scopes "
        "(channels:history, groups:history, channels:read), or give the channel by its ID."
    ),
    "click_fault": (
        "This program failed on a click in Slack, which tells the person that it failed. Report the "
        "traceback."
    ),
    "click_not_answered": (
        "A person who clicked could not be told what came of it (`reason`). What they asked for is done "
        "all the same. Nothing to do, unless it lasts."
    ),
    "click_not_stored": (
        "The store was not available, or too slow, for a click in Slack; Slack tells the person that it "
        "failed. Fix what `reason` says; the person can click again."
    ),
    "click_taken": (
        "Somebody clicked a button in Slack (`action`), and this came of it (`outcome`). Nothing to do."
    ),
    "click_unreadable": ("Slack sent of a click what this release cannot read. Nothing was done. Report it."),
    "clock_set": (
        "The clock was set (`how`, `seconds`). What waits was moved by as much: rests, reminders, silences. "
        " Check that the machine's clock is synchronized (NTP)."
    ),
    "database_busy": "Another process is writing to the database; this one waits for it. Nothing to do.",
    "database_copied": (
        "The SQLite file was copied to `copy` before its upgrade. Delete the copy once the upgrade has "
        "proved itself."
    ),
    "database_file_vanished": (
        "The database's file, or its -wal, was moved, replaced or deleted while it was open. Every change is "
        "answered 503. Put the file back, or restore a copy, and restart the listener."
    ),
    "database_log_long": (
        "The write-ahead log of the SQLite file grows, because a program reads the file without end "
        "(`reason`). Nothing is lost, but the disk fills. End that program: an open `sqlite3`, a copy that "
        "hangs. The log is cut within a second."
    ),
    "database_upgraded": (
        "The database has a newer schema now. Older releases cannot be started on it any more."
    ),
    "delivering_here": (
        "The process that delivers cannot start, so `serve` delivers itself until it can. Nothing is lost; "
        "`dispatcher_refused` says why it cannot, or `dispatcher_ended` where it cannot even be made."
    ),
    "delivery_dead": (
        "A destination refused an alert for good, or took none for 24 h; `detail` has its answer. Fix the "
        "cause, then `python -m app deliveries retry`."
    ),
    "delivery_failed": (
        "A destination did not take an alert; it is tried again at `next_at`. Nothing to do unless it "
        "goes on."
    ),
    "delivery_fault": (
        "This program failed while it sent an alert; the alert is treated as failed, or its queue is put on "
        "hold. Report the traceback."
    ),
    "delivery_loop_failed": (
        "The delivery loop failed and goes on. Report the traceback if it is not the store's failure."
    ),
    "destination_moved": (
        "A destination has another `webhook_url` or `url` since the rules were read last, and `incidents`"
        " that are open were told at the old one: their ends are told at the new one only. A Slack channel"
        " is told so."
    ),
    "digest_refused": (
        "A destination refused a digest, so its alerts are sent one by one. Nothing to do; one of them "
        "may be dead next."
    ),
    "dispatcher_ended": (
        "The process that delivers ended by itself, and is started again after `again_in_seconds`. Once may "
        "be an operator's kill; if it repeats, the lines before say why, or the system's log, where memory "
        "ran out."
    ),
    "dispatcher_refused": "The process that delivers cannot start; `reason` says why. It is tried again.",
    "dispatcher_started": "`serve` started a process of its own that delivers. Nothing to do.",
    "entity_unreadable": (
        "An entity in Port could not be read and is left out of reconciling. Look at the entity in Port."
    ),
    "escalations_changed": (
        "The rules file escalates otherwise than before: what was to come of these open incidents was "
        "replaced. Nothing to do."
    ),
    "incidents_closed": (
        "The rules file no longer has the rule of these incidents, or not for their blueprint: they were "
        "closed, and each place that was told of them is told so. The audit trail has each. Nothing to do."
    ),
    "jq_failed": (
        "A rule's jq program began to fail, which counts as no match. The change's reason has the error, and "
        "the rule's destinations are told. Correct `program` in the rules file."
    ),
    "jq_works_again": "A rule's jq program that failed has worked on a change. Nothing to do.",
    "lease_lost": (
        "Another process took the queue over while this one was sending; an alert may be sent twice. "
        "Frequent: this process is starved of CPU, or its clock is wrong."
    ),
    "listening": "The listener takes connections at `addresses`. Nothing to do.",
    "lookup_unavailable": (
        "A rule looks the destination up in Port, but PORT_CLIENT_ID is not set; the default destination "
        "is used. Set PORT_CLIENT_ID."
    ),
    "message_gone": (
        "A message that was to be changed was deleted in Slack; the next step posts a new one. Nothing to do."
    ),
    "message_updated": "A message in Slack was changed to show the incident's new state. Nothing to do.",
    "metrics_file_damaged": (
        "A file in PROMETHEUS_MULTIPROC_DIR cannot be read, so /metrics lacks its process's numbers. Delete "
        "`files`."
    ),
    "nothing_delivered_for": (
        "No dispatcher ran for `seconds`, or the clock was wrong; that time does not count towards the 24 h "
        "after which alerts are given up. Nothing to do."
    ),
    "permalink_unavailable": (
        "Slack did not return a message's link, so the run in Port, or the page, shows none. Nothing to do."
    ),
    "person_unknown": (
        "An alert was to call somebody whom the catalog names, and Slack does not know who that is "
        "(`reason`). The alert was sent, and says whom it did not call. Check the value in Port, and the "
        "app's scopes."
    ),
    "port_lookup_failed": (
        "Port did not answer a look-up in time; the default destination is used, and nobody of the catalog "
        "is called. Check Port's status and the credentials."
    ),
    "queue_given_back": (
        "A queue's turn ended without an attempt, as at a stop; another process goes on. Nothing to do."
    ),
    "queue_not_read": "The store could not be read during a queue's turn; it is tried again. See `reason`.",
    "queue_on_hold": (
        "A destination is broken: its queue waits and nothing is lost. `detail` has its answer: fix it, "
        "then release the queue, or wait for the next try."
    ),
    "queue_released": "A destination works again; its queue sends what waited. Nothing to do.",
    "queue_still_on_hold": (
        "A try to a broken destination failed again; the next one is at `next_at`. Fix the destination."
    ),
    "queues_not_claimed": (
        "The store could not be reached to take queues; nothing is sent until it can. See `reason`."
    ),
    "reconcile_crashed": "This program failed while reconciling; it tries again. Report the traceback.",
    "reconcile_failed": "A reconcile run ended early; the next one begins again. Fix what `reason` says.",
    "reconcile_not_possible": (
        "No reconcile run could begin. Fix what `reason` says; mostly the store or Port is away."
    ),
    "reconcile_off": (
        "Changes whose webhook never comes are not noticed. If that is not intended, set what `reason` names."
    ),
    "reconcile_progress": "A long reconcile run goes on: `entities` of `of` were read. Nothing to do.",
    "reconciled": (
        "A reconcile run succeeded. `missed` above 0 while the listener ran: Port's webhooks do not all "
        "arrive; run `python -m app doctor`."
    ),
    "record_fault": (
        "This program failed while it recorded the outcome of an alert. What was sent is recorded as sent, "
        "but nothing that follows from it, such as reminders; what was not sent waits, on hold. Report the "
        "traceback."
    ),
    "report_not_possible": (
        "Port waits for the result of an action's run, which cannot be reported. Set PORT_CLIENT_ID and "
        "PORT_CLIENT_SECRET."
    ),
    "request_malformed": (
        "What came over a connection is no HTTP request, or its head has more than 64 kB or 100 headers, or "
        "large heads take too much memory (503). It was answered with `status`, and closed. HTTPS that is "
        "sent to this port looks like it, too."
    ),
    "request_refused": (
        "A request was answered 503: bodies that nobody has signed take too much memory or time. Somebody "
        "may be flooding the listener: limit who reaches it, by ALLOWED_SOURCES or a proxy."
    ),
    "rules_fault": (
        "This program failed while it read the rules file; the rules before it stay in force, and it tries "
        "again. Report the traceback."
    ),
    "rules_hint": (
        "Something in the rules file is no mistake, but hardly meant so. `reason` says where, and what to do."
    ),
    "rules_loaded": "The rules file was read and is in force. Nothing to do.",
    "rules_not_followed": (
        "The database did not answer: incidents of rules that are gone stay open. It is tried again every"
        " 5 s, until it is done. Nothing to do, unless the database stays away."
    ),
    "rules_not_read": (
        "The rules file could not be read, or something that it needs could not be used; the rules before it "
        "stay in force, and it is tried again. Fix what `reason` says."
    ),
    "rules_refused": (
        "The rules file has mistakes, so the rules before it stay in force. Correct what `reason` says; "
        "`python -m app rules check` shows all."
    ),
    "run_refuses_report": "Port takes no report for a run, mostly because it ended already. Nothing to do.",
    "run_reported": "The run in Port shows the result of its change. Nothing to do.",
    "signature_rejected": (
        "A request is not proven to come from Port, and was answered 401. If it was Port: check "
        "PORT_CLIENT_SECRET, the clock, and that no proxy reformats the JSON."
    ),
    "slack_signature_rejected": (
        "A request to /api/slack/interactive is not proven to come from Slack (`reason`); it was answered"
        " 401. Check SLACK_SIGNING_SECRET and the clock; else somebody is trying."
    ),
    "slack_socket_connected": ("The connection over which Slack's clicks come is made. Nothing to do."),
    "slack_socket_lost": (
        "The connection over which Slack's clicks come is gone, and cannot be made now (`reason`). It is "
        "tried again, after 5 min at the latest; until then other replicas get the clicks. Check the "
        "network and the proxy if it lasts."
    ),
    "slack_socket_refused": (
        "Slack refuses the connection over which clicks come, and `reason` says what to do: alerts "
        "arrive, but their buttons do nothing. It is asked again every 5 min."
    ),
    "slack_webhook_not_set": (
        "SLACK_WEBHOOK_URL is not set and the rules define no destination `default`: its alerts are printed. "
        "Set it."
    ),
    "source_refused": (
        "A request came from an address that ALLOWED_SOURCES does not name, and was answered 403. If Port "
        "sent it, add the address; behind a proxy, check FORWARDED_ALLOW_IPS."
    ),
    "store_pruned": "Rows older than RETENTION_DAYS were deleted. Nothing to do.",
    "traces_unavailable": (
        "OpenTelemetry is configured but cannot be used, so there are no traces. See `reason`."
    ),
    "unsigned_accepted": (
        "ACCEPT_UNSIGNED is on: anyone who reaches the listener can send changes. Set PORT_CLIENT_SECRET."
    ),
}
"""The meaning of each event as one or more sentences, in the order of the ids."""
