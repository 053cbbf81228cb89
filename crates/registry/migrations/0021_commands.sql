-- Commands to devices, until some time after they have ended.

CREATE TABLE commands (
    number BIGINT NOT NULL PRIMARY KEY,
    -- Unique among the commands of a device.
    id TEXT NOT NULL,
    device INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    -- The command to several devices that it is of, and their group; empty: none.
    fleet TEXT NOT NULL,
    fleet_group TEXT NOT NULL,
    -- The last level of its topic.
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    -- JSON.
    parameters TEXT NOT NULL,
    qos BIGINT NOT NULL,
    asked_by TEXT NOT NULL,
    state TEXT NOT NULL,
    -- It is to be published now, not only when the device subscribes.
    due BIGINT NOT NULL,
    -- The message that it was last published with; 0: none.
    message BIGINT NOT NULL,
    -- The device was connected with a subscription of QoS 0 when it was published.
    reached BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    -- Percent; -1: not known.
    progress BIGINT NOT NULL,
    -- What the device answered, or why it ended.
    result TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    sent_ms BIGINT NOT NULL,
    delivered_ms BIGINT NOT NULL,
    acknowledged_ms BIGINT NOT NULL,
    finished_ms BIGINT NOT NULL,
    UNIQUE (device, id)
);

CREATE INDEX commands_of_device ON commands (device, number);
CREATE INDEX commands_due ON commands (number) WHERE due = 1;
CREATE INDEX commands_open ON commands (expires_ms) WHERE finished_ms = 0;
CREATE INDEX commands_sent ON commands (message) WHERE message <> 0;
CREATE INDEX commands_finished ON commands (finished_ms) WHERE finished_ms > 0;
CREATE INDEX commands_of_fleet ON commands (fleet_group, fleet) WHERE fleet <> '';

INSERT INTO counters (name, last) VALUES ('command', 0);
