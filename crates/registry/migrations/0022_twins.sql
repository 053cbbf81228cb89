-- Values that a device is to have, and values that it has reported, as JSON objects.

CREATE TABLE twins (
    device INTEGER NOT NULL PRIMARY KEY REFERENCES devices (number) ON DELETE CASCADE,
    desired TEXT NOT NULL,
    -- One larger with each change; 0: never set.
    desired_version BIGINT NOT NULL,
    desired_ms BIGINT NOT NULL,
    reported TEXT NOT NULL,
    reported_version BIGINT NOT NULL,
    reported_ms BIGINT NOT NULL
);
