-- What alarms need to know that are not raised, over a restart; and when certificates end.

CREATE TABLE alarm_watches (
    -- Name of the node that watches.
    node TEXT NOT NULL,
    tenant BIGINT NOT NULL,
    -- Name of the alarm.
    name TEXT NOT NULL,
    -- What it is about: a device, a topic, or a part of the node.
    subject TEXT NOT NULL,
    -- JSON: since when the condition holds, the last value, the last message, what would be raised.
    state TEXT NOT NULL,
    PRIMARY KEY (node, tenant, name, subject)
);

CREATE INDEX device_credentials_ends ON device_credentials (expires_ms)
    WHERE kind = 'certificate' AND revoked_ms = 0 AND expires_ms > 0;
