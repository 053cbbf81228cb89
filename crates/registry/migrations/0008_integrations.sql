-- Integrations of nodes: their states, and the messages that they have refused.

CREATE TABLE integration_states (
    node TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    -- `running`, `paused` or `stopped`.
    state TEXT NOT NULL,
    -- Why it has stopped.
    reason TEXT NOT NULL,
    changed_ms BIGINT NOT NULL,
    PRIMARY KEY (node, kind, name)
);

CREATE TABLE dead_letters (
    id BIGINT NOT NULL PRIMARY KEY,
    node TEXT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    tenant BIGINT NOT NULL,
    -- Decimal: it has 64 bits, without a sign.
    message_id TEXT NOT NULL,
    topic TEXT NOT NULL,
    -- What it counts for in the limit of bytes.
    bytes BIGINT NOT NULL,
    payload_bytes BIGINT NOT NULL,
    qos BIGINT NOT NULL,
    retain BIGINT NOT NULL,
    retained BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    refused_ms BIGINT NOT NULL,
    reason TEXT NOT NULL,
    refusals BIGINT NOT NULL,
    -- JSON: client id, user, device.
    publisher TEXT NOT NULL,
    -- Base64.
    properties TEXT NOT NULL,
    -- Base64.
    payload TEXT NOT NULL
);

CREATE UNIQUE INDEX dead_letters_by_message
    ON dead_letters (node, kind, name, message_id, received_ms);
CREATE INDEX dead_letters_by_integration ON dead_letters (node, kind, name, id);
CREATE INDEX dead_letters_by_size ON dead_letters (node, id, bytes);

INSERT INTO counters (name, last) VALUES ('dead_letter', 0);
