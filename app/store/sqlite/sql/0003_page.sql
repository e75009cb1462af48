-- The page: what people search by, and what they did.

ALTER TABLE changes ADD COLUMN teams TEXT NOT NULL DEFAULT '[]';       -- JSON: the owning teams
-- Of what came before this release the teams are known where somebody was told.
UPDATE changes SET teams = coalesce(
    (SELECT notification -> '$.teams' FROM deliveries WHERE change_id = changes.id ORDER BY deliveries.id LIMIT 1), '[]'
) WHERE alerts > 0;
CREATE INDEX changes_by_blueprint ON changes (blueprint);
CREATE INDEX changes_by_teams ON changes (teams);

-- Each name once, so that a search by a part of it reads names, not changes.
CREATE TABLE entities (
    entity    TEXT NOT NULL,
    blueprint TEXT NOT NULL,
    PRIMARY KEY (entity, blueprint)
) STRICT, WITHOUT ROWID;
INSERT INTO entities SELECT DISTINCT entity, blueprint FROM changes;
CREATE TRIGGER entity_forgotten AFTER DELETE ON changes BEGIN
    DELETE FROM entities WHERE entity = old.entity AND blueprint = old.blueprint AND NOT EXISTS (
        SELECT 1 FROM changes WHERE entity = old.entity AND blueprint = old.blueprint);
END;

CREATE INDEX deliveries_by_rule ON deliveries (notification ->> 'rule', change_id);
CREATE INDEX deliveries_by_state ON deliveries (state, change_id);
CREATE INDEX deliveries_by_end ON deliveries (ended_at, state, message_id) WHERE ended_at IS NOT NULL;

CREATE INDEX incidents_by_opening ON incidents (opened_at);

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    who     TEXT    NOT NULL,
    what    TEXT    NOT NULL,
    details TEXT    NOT NULL
) STRICT;
