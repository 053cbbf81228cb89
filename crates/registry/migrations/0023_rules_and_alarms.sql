-- Rules about messages, and alarms.

CREATE TABLE message_rules (
    name TEXT NOT NULL PRIMARY KEY,
    -- Id of the team whose messages it looks at; empty: the common tenant.
    team TEXT NOT NULL,
    -- JSON, as it was written.
    definition TEXT NOT NULL,
    -- Counts its changes.
    revision BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    -- Who changed it last, as in the audit log.
    changed_by TEXT NOT NULL
);

CREATE TABLE alarms (
    -- Name of the node that has raised it.
    node TEXT NOT NULL,
    id BIGINT NOT NULL,
    tenant BIGINT NOT NULL,
    name TEXT NOT NULL,
    -- What it is about: a device, a topic, or a part of the node.
    subject TEXT NOT NULL,
    -- Id of the device; empty: none.
    device TEXT NOT NULL,
    severity TEXT NOT NULL,
    state TEXT NOT NULL,
    message TEXT NOT NULL,
    -- The value that has raised it, as JSON; empty: none.
    value TEXT NOT NULL,
    raised_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    -- Who changed it last; empty: the node.
    changed_by TEXT NOT NULL,
    -- Until when it is shelved; 0: it is not.
    shelved_until_ms BIGINT NOT NULL,
    was_acknowledged BIGINT NOT NULL,
    -- 0: it is not cleared.
    cleared_ms BIGINT NOT NULL,
    PRIMARY KEY (node, id)
);

CREATE INDEX alarms_by_id ON alarms (id);
CREATE INDEX alarms_open ON alarms (node, id) WHERE cleared_ms = 0;
CREATE INDEX alarms_cleared ON alarms (cleared_ms) WHERE cleared_ms > 0;
