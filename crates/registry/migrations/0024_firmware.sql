-- Firmware for devices, and rollouts of it.

CREATE TABLE firmware (
    number BIGINT NOT NULL PRIMARY KEY,
    -- Whose it is; empty: of no team.
    team TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    -- Type of the devices that it is for.
    device_type TEXT NOT NULL,
    -- Bytes of the file.
    size BIGINT NOT NULL,
    -- Of the file, in hexadecimal digits. Files in the data directory have it as name.
    sha256 TEXT NOT NULL,
    -- Base64; empty: none was given.
    signature TEXT NOT NULL,
    -- The signature was verified with the key of the configuration.
    verified BIGINT NOT NULL,
    -- Where the file is; empty: in the data directory.
    url TEXT NOT NULL,
    added_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    UNIQUE (team, name, version)
);

CREATE INDEX firmware_files ON firmware (sha256);

CREATE TABLE rollouts (
    number BIGINT NOT NULL PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    team TEXT NOT NULL,
    firmware BIGINT NOT NULL,
    -- Copies of the firmware's, which may be deleted after the rollout.
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    -- Which devices, as it was asked for: JSON.
    target TEXT NOT NULL,
    -- Waves, gate and timeout: JSON.
    plan TEXT NOT NULL,
    -- Number of waves that have devices, and of devices.
    waves BIGINT NOT NULL,
    devices BIGINT NOT NULL,
    state TEXT NOT NULL,
    -- Why it is paused; empty: it is not.
    reason TEXT NOT NULL,
    -- The wave that has begun last, from 0.
    wave BIGINT NOT NULL,
    wave_since_ms BIGINT NOT NULL,
    deadline_ms BIGINT NOT NULL,
    accepted_failed BIGINT NOT NULL,
    accepted_silent BIGINT NOT NULL,
    asked_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    started_ms BIGINT NOT NULL,
    finished_ms BIGINT NOT NULL
);

CREATE INDEX rollouts_open ON rollouts (number) WHERE finished_ms = 0;
CREATE INDEX rollouts_of_firmware ON rollouts (firmware);

CREATE TABLE rollout_devices (
    rollout BIGINT NOT NULL REFERENCES rollouts (number) ON DELETE CASCADE,
    -- A device that is deleted stays in the sums.
    device BIGINT NOT NULL,
    device_id TEXT NOT NULL,
    tenant BIGINT NOT NULL,
    wave BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- What the device said.
    detail TEXT NOT NULL,
    -- Percent; -1: not known.
    progress BIGINT NOT NULL,
    -- Number of the command that offers the firmware; 0: none.
    command BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    since_ms BIGINT NOT NULL,
    heard_ms BIGINT NOT NULL,
    PRIMARY KEY (rollout, device)
);

CREATE INDEX rollout_devices_by_state ON rollout_devices (rollout, wave, state);
CREATE INDEX rollout_devices_of_command ON rollout_devices (command) WHERE command <> 0;

INSERT INTO counters (name, last) VALUES ('firmware', 0);
INSERT INTO counters (name, last) VALUES ('rollout', 0);
