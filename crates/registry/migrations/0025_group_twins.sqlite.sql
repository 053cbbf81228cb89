-- Values that the devices of a group are to have, as a JSON object. A device's own are laid over them.

CREATE TABLE group_twins (
    group_id TEXT NOT NULL PRIMARY KEY REFERENCES device_groups (id) ON DELETE CASCADE,
    desired TEXT NOT NULL,
    -- One larger with each change.
    version BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL
);

-- What a device is to have changes with its groups, and so does the version that it is told.

CREATE TRIGGER group_twins_joined AFTER INSERT ON group_devices
WHEN EXISTS (SELECT 1 FROM group_twins WHERE group_id = NEW.group_id)
BEGIN
    INSERT INTO twins (device, desired, desired_version, desired_ms, reported, reported_version,
        reported_ms) VALUES (NEW.device, '{}', 1, 0, '{}', 0, 0)
    ON CONFLICT (device) DO UPDATE SET desired_version = desired_version + 1;
END;

CREATE TRIGGER group_twins_left AFTER DELETE ON group_devices
WHEN EXISTS (SELECT 1 FROM group_twins WHERE group_id = OLD.group_id)
BEGIN
    UPDATE twins SET desired_version = desired_version + 1 WHERE device = OLD.device;
END;
