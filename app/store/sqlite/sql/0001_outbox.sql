-- Times are whole microseconds since 1970, UTC.

CREATE TABLE changes (
    id          INTEGER PRIMARY KEY,
    key         TEXT    NOT NULL UNIQUE,
    received_at INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    action      TEXT    NOT NULL,
    resource    TEXT    NOT NULL,
    blueprint   TEXT    NOT NULL,
    entity      TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    alerts      INTEGER NOT NULL,
    body        BLOB    NOT NULL
) STRICT;
CREATE INDEX changes_by_entity ON changes (blueprint, entity, at);
CREATE INDEX changes_by_arrival ON changes (received_at);

CREATE TABLE incidents (
    id          TEXT    PRIMARY KEY,
    rule        TEXT    NOT NULL,
    blueprint   TEXT    NOT NULL,
    entity      TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    opened_at   INTEGER NOT NULL,
    changed_at  INTEGER NOT NULL,
    resolved_at INTEGER,
    due_at      INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX open_incidents ON incidents (blueprint, entity, rule) WHERE resolved_at IS NULL;
CREATE INDEX resolved_incidents ON incidents (resolved_at) WHERE resolved_at IS NOT NULL;

CREATE TABLE queues (
    name        TEXT    PRIMARY KEY,
    destination TEXT    NOT NULL,
    next_at     INTEGER NOT NULL DEFAULT 0,
    failures    INTEGER NOT NULL DEFAULT 0,
    on_hold        TEXT,                          -- why it is on hold; null while it is not
    holder      TEXT,                          -- the token of whoever holds the lease
    lease_until INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    id            INTEGER PRIMARY KEY,
    change_id     INTEGER NOT NULL REFERENCES changes (id) ON DELETE CASCADE,
    incident_id   TEXT,
    queue          TEXT    NOT NULL REFERENCES queues (name),
    destination   TEXT    NOT NULL,
    notification  TEXT    NOT NULL,
    state         TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'dead', 'delivered', 'cancelled')),
    due_at        INTEGER NOT NULL,            -- not before this time; 0: it was never to wait
    repeat_after  INTEGER,                     -- microseconds; null: once
    created_at    INTEGER NOT NULL,
    waiting_since INTEGER NOT NULL,
    ended_at      INTEGER
) STRICT;
CREATE INDEX pending_deliveries ON deliveries (queue, id, due_at) WHERE state = 'pending';
CREATE INDEX pending_of_incident ON deliveries (incident_id) WHERE state = 'pending';
CREATE INDEX dead_deliveries ON deliveries (id) WHERE state = 'dead';
CREATE INDEX deliveries_of_change ON deliveries (change_id);

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
