-- What is compared with Port: the last known state of the entities of which rules name the blueprint.

CREATE TABLE known (
    blueprint TEXT    NOT NULL,
    entity    TEXT    NOT NULL,
    at        INTEGER NOT NULL,                -- when it last changed
    moved_at  INTEGER NOT NULL,                -- when that was stored here, or learned
    version   INTEGER NOT NULL,
    gone      INTEGER NOT NULL,                -- it was deleted; kept for a while, because changes may come late
    state     TEXT    NOT NULL,                -- JSON: the watched values
    marks     TEXT    NOT NULL,                -- JSON: when each changed, and what comparisons told of them
    PRIMARY KEY (blueprint, entity)
) STRICT, WITHOUT ROWID;
CREATE INDEX gone_entities ON known (moved_at) WHERE gone;

-- The blueprints that were read to the end once: what is not known of them since then is new.
CREATE TABLE learned (
    blueprint TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE reconciles (
    id          INTEGER PRIMARY KEY,
    reason      TEXT    NOT NULL,
    token       TEXT    NOT NULL,              -- of whoever carries it out
    started_at  INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,              -- if it has not ended by then, its process has
    ended_at    INTEGER,
    entities    INTEGER NOT NULL DEFAULT 0,
    learned     INTEGER NOT NULL DEFAULT 0,
    differences INTEGER NOT NULL DEFAULT 0,
    missed      INTEGER NOT NULL DEFAULT 0,    -- differences of which Port should have called us
    error       TEXT    NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX reconciles_by_time ON reconciles (started_at);
