-- Integrations of nodes that were added by the API, and what named connections are subscribed to.

CREATE TABLE added_integrations (
    node TEXT NOT NULL,
    -- `bridge` or `webhook`.
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Id of the team whose messages it takes; empty: the common tenant.
    team TEXT NOT NULL,
    -- JSON: the keys of its table in the configuration. Secrets are references alone.
    settings TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    -- Who changed it last, as in the audit log.
    changed_by TEXT NOT NULL,
    PRIMARY KEY (node, kind, name)
);

CREATE TABLE bridge_subscriptions (
    node TEXT NOT NULL,
    -- Name of the bridge, which may be one of the configuration.
    bridge TEXT NOT NULL,
    filter TEXT NOT NULL,
    qos BIGINT NOT NULL,
    PRIMARY KEY (node, bridge, filter)
);
