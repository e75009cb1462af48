-- Times are whole microseconds since 1970, UTC. PostgreSQL's file has the same tables and columns.

CREATE TABLE changes (
    id          INTEGER PRIMARY KEY,
    key         TEXT    NOT NULL UNIQUE,
    received_at INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    action      TEXT    NOT NULL,
    resource    TEXT    NOT NULL,
    blueprint   TEXT    NOT NULL,
    entity      TEXT    NOT NULL,
    teams       TEXT    NOT NULL,             -- JSON: the owning teams
    reason      TEXT    NOT NULL,
    alerts      INTEGER NOT NULL,
    body        BLOB    NOT NULL,
    traceparent TEXT                          -- the span that it arrived in; null unless traces are kept
) STRICT;
CREATE INDEX changes_by_entity ON changes (blueprint, entity, at);
CREATE INDEX changes_by_arrival ON changes (received_at);
CREATE INDEX changes_by_blueprint ON changes (blueprint);
CREATE INDEX changes_by_teams ON changes (teams);

-- Each name once, so that a search by a part of it reads names, not changes.
CREATE TABLE entities (
    entity    TEXT NOT NULL,
    blueprint TEXT NOT NULL,
    PRIMARY KEY (entity, blueprint)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER entity_forgotten AFTER DELETE ON changes BEGIN
    DELETE FROM entities WHERE entity = old.entity AND blueprint = old.blueprint AND NOT EXISTS (
        SELECT 1 FROM changes WHERE entity = old.entity AND blueprint = old.blueprint);
END;

CREATE TABLE incidents (
    id          TEXT    PRIMARY KEY,
    rule        TEXT    NOT NULL,
    blueprint   TEXT    NOT NULL,
    entity      TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    opened_at   INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    resolved_at INTEGER,
    due_at      INTEGER,                      -- nobody is alerted before this time
    severity    TEXT    NOT NULL,
    moves       TEXT    NOT NULL,             -- JSON: when it moved lately
    flapping    INTEGER NOT NULL,
    told        TEXT    NOT NULL,             -- JSON: where it was alerted: destination, queue, steps if not all
    openings    TEXT    NOT NULL,             -- JSON: when it began within a day
    acknowledged_at INTEGER,                  -- null: nobody looks after it
    acknowledged_by TEXT NOT NULL DEFAULT '', -- JSON: who, and by which way; empty: nobody
    version     INTEGER NOT NULL DEFAULT 1,   -- grows with each step and each acknowledgement
    escalates_from INTEGER,                  -- its escalations count from then; null: it has none
    quiet       TEXT,                         -- the incident that explains it: nobody is alerted meanwhile
    at_least    INTEGER,                      -- a group's: so many open members open it; null: it is none
    until       INTEGER                       -- a group's: it ends when so many are open, or fewer
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX open_incidents ON incidents (blueprint, entity, rule) WHERE resolved_at IS NULL;
CREATE INDEX incidents_of_entity ON incidents (blueprint, entity, resolved_at);
CREATE INDEX resolved_incidents ON incidents (resolved_at) WHERE resolved_at IS NOT NULL;
CREATE INDEX incidents_by_opening ON incidents (opened_at);
CREATE INDEX quiet_incidents ON incidents (quiet) WHERE quiet IS NOT NULL AND resolved_at IS NULL;
-- What an open incident depends on: the incidents, open or not, that may explain it, and its groups.
CREATE TABLE incident_ties (
    incident_id TEXT    NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    rule        TEXT    NOT NULL,
    blueprint   TEXT    NOT NULL,
    entity      TEXT    NOT NULL,
    quiets      INTEGER NOT NULL,            -- nobody is alerted of it while the other one is open
    counts_from INTEGER,                     -- the other one is that of a group, in which it counts from then on
    field       TEXT    NOT NULL,            -- the field of its entity that leads to the other one
    PRIMARY KEY (incident_id, rule, blueprint, entity)
) STRICT, WITHOUT ROWID;
CREATE INDEX incidents_tied_to ON incident_ties (blueprint, entity, rule, counts_from, incident_id);

-- What people did to incidents: each once, however often it arrives.
CREATE TABLE actions (
    id          TEXT    PRIMARY KEY,          -- given by the caller: Slack's envelope, say
    at          INTEGER NOT NULL,
    incident_id TEXT    NOT NULL,
    what        TEXT    NOT NULL,
    who         TEXT    NOT NULL,             -- JSON
    result      TEXT    NOT NULL,             -- JSON: what came of it, to be answered again
    audit_id    INTEGER                       -- its entry in the audit trail; null: nothing was done
) STRICT, WITHOUT ROWID;
CREATE INDEX actions_of_incident ON actions (incident_id, at);
CREATE INDEX actions_by_time ON actions (at);

CREATE TABLE queues (
    name         TEXT    PRIMARY KEY,
    destination  TEXT    NOT NULL,
    next_at      INTEGER NOT NULL DEFAULT 0,
    failures     INTEGER NOT NULL DEFAULT 0,
    on_hold      TEXT,                        -- why it is on hold; null while it is not
    holder       TEXT,                        -- the token of the dispatcher that has the lease
    lease_until  INTEGER NOT NULL DEFAULT 0,
    unsure_since INTEGER,                     -- what was sent since may have arrived
    unsure_sends INTEGER NOT NULL DEFAULT 0,  -- how many such sends would have been repeats
    sent_together TEXT,                       -- JSON: the keys of what was sent so, where a repeat has the same
    delivered_at INTEGER
) STRICT, WITHOUT ROWID;

-- The destinations that have a rate, over all their queues.
CREATE TABLE rates (
    destination TEXT    PRIMARY KEY,
    next_at     INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Where each destination was when a listener last read the rules: a place that it leaves must be told.
CREATE TABLE addresses (
    destination TEXT PRIMARY KEY,
    address     TEXT NOT NULL                 -- a secret, see Notifier.address; empty: what it told can be told to its end
) STRICT, WITHOUT ROWID;

CREATE TABLE silences (
    id        INTEGER PRIMARY KEY,
    rule      TEXT    NOT NULL,
    blueprint TEXT    NOT NULL,
    entity    TEXT    NOT NULL,
    team      TEXT    NOT NULL,
    starts_at INTEGER NOT NULL,
    ends_at   INTEGER NOT NULL,
    author    TEXT    NOT NULL,
    comment   TEXT    NOT NULL,
    settled   INTEGER NOT NULL DEFAULT 0,      -- it has ended, and what is still open was alerted on
    incident_id TEXT,                         -- it ends with this incident, if that is earlier
    hours       TEXT    NOT NULL DEFAULT ''   -- it keeps alerts until these hours begin; empty: a person made it
) STRICT;
CREATE INDEX unsettled_silences ON silences (ends_at) WHERE NOT settled;

-- The messages that can be found again and updated, and the incidents that they are about.
CREATE TABLE messages (
    id        INTEGER PRIMARY KEY,
    queue     TEXT    NOT NULL,
    channel   TEXT    NOT NULL,
    ts        TEXT    NOT NULL,
    posted_at INTEGER NOT NULL,
    UNIQUE (queue, ts)
) STRICT;
CREATE INDEX messages_by_time ON messages (posted_at);
CREATE TABLE incident_messages (
    incident_id TEXT    NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    queue       TEXT    NOT NULL,
    message_id  INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    PRIMARY KEY (incident_id, queue, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX incidents_of_message ON incident_messages (message_id);

-- Checks by OR: for IN with more than two values SQLite makes a temporary table for each row.
CREATE TABLE deliveries (
    id            INTEGER PRIMARY KEY,
    change_id     INTEGER NOT NULL REFERENCES changes (id) ON DELETE CASCADE,
    queue         TEXT    NOT NULL REFERENCES queues (name),
    destination   TEXT    NOT NULL,
    notification  TEXT    NOT NULL,           -- JSON
    rule          TEXT    NOT NULL,           -- empty: the listener itself has something to say
    step          TEXT    NOT NULL,
    severity      TEXT    NOT NULL,
    created_at    INTEGER NOT NULL,
    waiting_since INTEGER NOT NULL,
    kind          TEXT    NOT NULL CHECK (kind = 'alert' OR kind = 'update' OR kind = 'report'),
    due_at        INTEGER NOT NULL,           -- not before this time; 0: it was never to wait
    incident_id   TEXT,
    repeat_after  INTEGER,                    -- microseconds; null: once
    state         TEXT    NOT NULL CHECK (
        state = 'pending' OR state = 'delivered' OR state = 'dead' OR state = 'cancelled' OR state = 'silenced'),
    ended_at      INTEGER,
    message_id    INTEGER REFERENCES messages (id) ON DELETE CASCADE,  -- the message that it updates
    run           TEXT,                       -- the run in Port that it reports to
    silence_id    INTEGER,                    -- the last silence that suppressed it
    copied_at     INTEGER,                    -- when the fallback got it, while its queue was on hold
    sent_at       INTEGER                     -- when it was sent and may have arrived, before it was silenced
) STRICT;
-- Of two indexes that seem equal SQLite takes the one made last: what waits must not be found by its state.
CREATE INDEX deliveries_by_state ON deliveries (state, change_id);
CREATE INDEX pending_deliveries ON deliveries (queue, id, due_at) WHERE state = 'pending';
-- What is to be said later of an incident, found without what waits now or was sent.
CREATE INDEX later_deliveries ON deliveries (incident_id)
    WHERE state = 'pending' AND (due_at > 0 OR repeat_after IS NOT NULL);
CREATE INDEX dead_deliveries ON deliveries (id) WHERE state = 'dead';
CREATE INDEX silenced_deliveries ON deliveries (silence_id) WHERE silence_id IS NOT NULL;
CREATE INDEX deliveries_of_change ON deliveries (change_id);
CREATE INDEX deliveries_of_incident ON deliveries (incident_id, queue) WHERE incident_id IS NOT NULL;
-- To delete a message is to look for its deliveries; without this, among all that there ever were.
CREATE INDEX deliveries_of_message ON deliveries (message_id) WHERE message_id IS NOT NULL;
CREATE INDEX deliveries_of_run ON deliveries (run) WHERE run IS NOT NULL;
CREATE INDEX deliveries_by_rule ON deliveries (rule, change_id);
CREATE INDEX deliveries_by_end ON deliveries (ended_at, state, kind) WHERE ended_at IS NOT NULL;

CREATE TABLE attempts (
    id          INTEGER PRIMARY KEY,
    delivery_id INTEGER NOT NULL REFERENCES deliveries (id) ON DELETE CASCADE,
    outcome     TEXT    NOT NULL,
    detail      TEXT    NOT NULL,
    started_at  INTEGER NOT NULL,
    ended_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX attempts_of_delivery ON attempts (delivery_id, id);

CREATE TABLE quarantine (
    id          INTEGER PRIMARY KEY,
    body        BLOB    NOT NULL,
    digest      TEXT    NOT NULL UNIQUE,
    signed_at   INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    path        TEXT    NOT NULL,
    reason      TEXT    NOT NULL
) STRICT;

-- What people did.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    who     TEXT    NOT NULL,
    what    TEXT    NOT NULL,
    details TEXT    NOT NULL
) STRICT;

-- The last known state of the entities of which rules name the blueprint: what reconciling compares Port with.
CREATE TABLE last_known (
    blueprint TEXT    NOT NULL,
    entity    TEXT    NOT NULL,
    at        INTEGER NOT NULL,               -- when it last changed
    moved_at  INTEGER NOT NULL,               -- when that was stored here
    version   INTEGER NOT NULL,
    gone      INTEGER NOT NULL,               -- it was deleted; kept for a while, because changes may come late
    state     TEXT    NOT NULL,               -- JSON: the watched values
    marks     TEXT    NOT NULL,               -- JSON: when each changed, and what reconciling alerted on
    PRIMARY KEY (blueprint, entity)
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_entities ON last_known (moved_at) WHERE gone;

-- The blueprints of which every entity's state was recorded once: what is not known of them since is new.
CREATE TABLE baselines (
    blueprint TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE reconcile_runs (
    id          INTEGER PRIMARY KEY,
    reason      TEXT    NOT NULL,
    token       TEXT    NOT NULL,             -- of the process that makes it
    started_at  INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,             -- if it has not ended by then, its process has
    ended_at    INTEGER,
    entities    INTEGER NOT NULL DEFAULT 0,
    recorded     INTEGER NOT NULL DEFAULT 0,
    differences INTEGER NOT NULL DEFAULT 0,
    missed      INTEGER NOT NULL DEFAULT 0,   -- differences for which Port should have called us
    error       TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX reconcile_runs_by_time ON reconcile_runs (started_at);

-- The connections over which clicks in Slack come.
CREATE TABLE sockets (
    process TEXT    PRIMARY KEY,
    trouble TEXT    NOT NULL,                 -- why it has none; empty: it has one
    seen_at INTEGER NOT NULL                  -- when it last said so
) STRICT, WITHOUT ROWID;

-- One row: how the clock was set when a dispatcher last looked (app/store/clock.py), and up to where pruning went.
CREATE TABLE clock (
    id        INTEGER PRIMARY KEY,
    seen_at   INTEGER NOT NULL DEFAULT 0,       -- 0: nobody has looked yet
    stepped   INTEGER NOT NULL DEFAULT 0,       -- microseconds by which the clock was set in all
    boot      TEXT    NOT NULL DEFAULT '',      -- which start of which machine `booted_at` is of
    booted_at INTEGER NOT NULL DEFAULT 0,
    pruned_to INTEGER NOT NULL DEFAULT 0,       -- what is older was deleted
    retention INTEGER NOT NULL DEFAULT 0        -- microseconds: RETENTION_DAYS when that was done
) STRICT;
INSERT INTO clock (id) VALUES (1);
