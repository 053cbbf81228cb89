CREATE SCHEMA IF NOT EXISTS martlet_telemetry;
CREATE TABLE IF NOT EXISTS martlet_telemetry.version (number BIGINT NOT NULL);
-- A device and a key; its number is never used again.
CREATE TABLE martlet_telemetry.series (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device BIGINT NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    UNIQUE (device, key)
);
-- `time`: microseconds since 1970. `kind`: 0 integer, 1 number, 2 bool, 3 text, 4 JSON. `number` is
-- the value as a number. `whole` is there only for an integer that `number` cannot represent.
CREATE TABLE martlet_telemetry.points (
    series BIGINT NOT NULL,
    time BIGINT NOT NULL,
    origin BIGINT NOT NULL,
    kind SMALLINT NOT NULL,
    number DOUBLE PRECISION,
    whole BIGINT,
    text TEXT,
    PRIMARY KEY (series, time, origin)
);
-- Days (UTC) of a series that have had values. `rolled`: the roll-ups are as the points are.
CREATE TABLE martlet_telemetry.days (
    series BIGINT NOT NULL,
    day BIGINT NOT NULL,
    rolled BOOLEAN NOT NULL,
    PRIMARY KEY (series, day)
);
CREATE INDEX days_to_roll ON martlet_telemetry.days (day, series) WHERE NOT rolled;
-- Roll-ups of a series and day, per minute (level 0), hour (1) and day (2). A row is there only while
-- it is as the points are.
CREATE TABLE martlet_telemetry.rollups (
    series BIGINT NOT NULL,
    level BIGINT NOT NULL,
    day BIGINT NOT NULL,
    data BYTEA NOT NULL,
    PRIMARY KEY (series, level, day)
);
-- For other programs that read the values.
CREATE VIEW martlet_telemetry.samples AS
    SELECT device, key, timestamptz 'epoch' + time * interval '1 microsecond' AS at, time,
        number, text
    FROM martlet_telemetry.points JOIN martlet_telemetry.series ON series.id = points.series;
INSERT INTO martlet_telemetry.version (number) VALUES (1);
