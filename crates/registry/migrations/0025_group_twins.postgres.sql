-- Values that the devices of a group are to have, as in SQLite.

CREATE TABLE group_twins (
    group_id TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES device_groups (id) ON DELETE CASCADE,
    desired TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL
);

CREATE FUNCTION group_twins_joined() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM group_twins WHERE group_id = NEW.group_id) THEN
        INSERT INTO twins (device, desired, desired_version, desired_ms, reported, reported_version,
            reported_ms) VALUES (NEW.device, '{}', 1, 0, '{}', 0, 0)
        ON CONFLICT (device) DO UPDATE SET desired_version = twins.desired_version + 1;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION group_twins_left() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM group_twins WHERE group_id = OLD.group_id) THEN
        UPDATE twins SET desired_version = desired_version + 1 WHERE device = OLD.device;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER group_twins_joined AFTER INSERT ON group_devices
    FOR EACH ROW EXECUTE FUNCTION group_twins_joined();
CREATE TRIGGER group_twins_left AFTER DELETE ON group_devices
    FOR EACH ROW EXECUTE FUNCTION group_twins_left();
