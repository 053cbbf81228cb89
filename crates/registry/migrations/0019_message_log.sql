-- The log of messages that other programs read and confirm. The oldest make room.

CREATE TABLE message_log (
    number BIGINT NOT NULL PRIMARY KEY,
    -- By which other programs name it.
    id TEXT NOT NULL UNIQUE,
    tenant BIGINT NOT NULL,
    topic TEXT NOT NULL,
    -- Base64.
    payload TEXT NOT NULL,
    -- What it counts for in the limit of bytes.
    bytes BIGINT NOT NULL,
    qos BIGINT NOT NULL,
    retain BIGINT NOT NULL,
    received_ms BIGINT NOT NULL,
    confirmed BIGINT NOT NULL
);

CREATE INDEX message_log_by_state ON message_log (tenant, confirmed, number);
CREATE INDEX message_log_by_size ON message_log (tenant, number, bytes);
CREATE INDEX message_log_by_time ON message_log (received_ms);

INSERT INTO counters (name, last) VALUES ('logged_message', 0);
