-- Bridges of nodes that were added by the API, and what named connections are subscribed to.

CREATE TABLE bridges (
    node TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Id of the team whose messages it carries; empty: the common tenant.
    team TEXT NOT NULL,
    -- JSON: the keys of a table [[bridges]]. Secrets are references alone.
    settings TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    -- Who changed it last, as in the audit log.
    changed_by TEXT NOT NULL,
    PRIMARY KEY (node, name)
);

CREATE TABLE bridge_subscriptions (
    node TEXT NOT NULL,
    -- Name of the bridge, which may be one of the configuration.
    bridge TEXT NOT NULL,
    filter TEXT NOT NULL,
    qos BIGINT NOT NULL,
    PRIMARY KEY (node, bridge, filter)
);
