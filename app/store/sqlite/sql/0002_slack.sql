-- Storms, threads, silences.

ALTER TABLE incidents ADD COLUMN severity TEXT NOT NULL DEFAULT 'warning';
ALTER TABLE incidents ADD COLUMN moves TEXT NOT NULL DEFAULT '[]';     -- JSON: when it moved lately
ALTER TABLE incidents ADD COLUMN flapping INTEGER NOT NULL DEFAULT 0;
CREATE INDEX incidents_of_entity ON incidents (blueprint, entity, resolved_at);

ALTER TABLE queues ADD COLUMN unsure_since INTEGER;                     -- what was sent since may have arrived
ALTER TABLE queues ADD COLUMN delivered_at INTEGER;

CREATE TABLE silences (
    id         INTEGER PRIMARY KEY,
    rule       TEXT    NOT NULL,
    blueprint  TEXT    NOT NULL,
    entity     TEXT    NOT NULL,
    team       TEXT    NOT NULL,
    starts_at  INTEGER NOT NULL,
    ends_at    INTEGER NOT NULL,
    author     TEXT    NOT NULL,
    comment    TEXT    NOT NULL,
    settled    INTEGER NOT NULL DEFAULT 0     -- it has ended, and what is still open was told
) STRICT;
CREATE INDEX unsettled_silences ON silences (ends_at) WHERE NOT settled;

-- The messages that can be found again and changed, and what they tell of.
CREATE TABLE messages (
    id        INTEGER PRIMARY KEY,
    queue      TEXT    NOT NULL,
    channel   TEXT    NOT NULL,
    ts        TEXT    NOT NULL,
    posted_at INTEGER NOT NULL,
    UNIQUE (queue, ts)
) STRICT;
CREATE INDEX messages_by_time ON messages (posted_at);
CREATE TABLE incident_messages (
    incident_id TEXT    NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    queue        TEXT    NOT NULL,
    message_id  INTEGER NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    PRIMARY KEY (incident_id, queue)
) STRICT, WITHOUT ROWID;
CREATE INDEX incidents_of_message ON incident_messages (message_id);

-- The same table with a further state, which SQLite cannot change in place.
CREATE TABLE new_deliveries (
    id            INTEGER PRIMARY KEY,
    change_id     INTEGER NOT NULL REFERENCES changes (id) ON DELETE CASCADE,
    incident_id   TEXT,
    queue          TEXT    NOT NULL REFERENCES queues (name),
    destination   TEXT    NOT NULL,
    notification  TEXT    NOT NULL,
    state         TEXT    NOT NULL DEFAULT 'pending'
                  CHECK (state IN ('pending', 'dead', 'delivered', 'cancelled', 'silenced')),
    due_at        INTEGER NOT NULL,            -- not before this time; 0: it was never to wait
    repeat_after  INTEGER,                     -- microseconds; null: once
    created_at    INTEGER NOT NULL,
    waiting_since INTEGER NOT NULL,
    ended_at      INTEGER,
    silence_id    INTEGER,                     -- the last silence that kept it back
    message_id    INTEGER REFERENCES messages (id) ON DELETE CASCADE   -- it changes this message; null: it is one
) STRICT;
INSERT INTO new_deliveries (id, change_id, incident_id, queue, destination, notification, state, due_at,
                            repeat_after, created_at, waiting_since, ended_at)
    SELECT id, change_id, incident_id, queue, destination, notification, state, due_at,
           repeat_after, created_at, waiting_since, ended_at FROM deliveries;
DROP TABLE deliveries;
ALTER TABLE new_deliveries RENAME TO deliveries;
CREATE INDEX pending_deliveries ON deliveries (queue, id, due_at) WHERE state = 'pending';
CREATE INDEX dead_deliveries ON deliveries (id) WHERE state = 'dead';
CREATE INDEX silenced_deliveries ON deliveries (silence_id) WHERE silence_id IS NOT NULL;
CREATE INDEX deliveries_of_change ON deliveries (change_id);
CREATE INDEX deliveries_of_incident ON deliveries (incident_id, queue) WHERE incident_id IS NOT NULL;
-- To delete a message is to look for what changes it; without this, among all that was ever delivered.
CREATE INDEX deliveries_of_message ON deliveries (message_id) WHERE message_id IS NOT NULL;
