-- Secrets of other systems, which integrations use. The values are sealed: the key is in a file.

CREATE TABLE secrets (
    -- Id of the team that it belongs to; empty: the common tenant.
    team TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Base64 of the sealed value.
    sealed TEXT NOT NULL,
    -- Names the key of the file that it was sealed with.
    key_id TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    -- Who changed it last, as in the audit log.
    changed_by TEXT NOT NULL,
    PRIMARY KEY (team, name)
);
