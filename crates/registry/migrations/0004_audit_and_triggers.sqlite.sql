-- The audit log, whose numbers are never used again, and what is a change for nodes: only what
-- decides who is let in and what they may do. When somebody was last seen is none.

CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms BIGINT NOT NULL,
    who TEXT NOT NULL,
    by_what TEXT NOT NULL,
    address TEXT NOT NULL,
    request_id TEXT NOT NULL,
    team TEXT NOT NULL,
    action TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id TEXT NOT NULL,
    changed TEXT NOT NULL,
    outcome TEXT NOT NULL
);

CREATE INDEX audit_at_ms ON audit (at_ms);
CREATE INDEX audit_object ON audit (object_kind, object_id, number);
CREATE INDEX audit_who ON audit (who, number);
CREATE INDEX audit_team ON audit (team, number);

-- What is searched stands in it too, so that rows are read only of those that are found.
CREATE INDEX devices_id ON devices (deleted_ms, id, number, search);

DROP TRIGGER users_changed;

CREATE TRIGGER users_changed
AFTER UPDATE OF name, role, password_hash, password_set_ms, scram_verifier, enabled, tenant,
    deleted_ms
ON users WHEN
    (OLD.name, OLD.role, OLD.password_hash, OLD.password_set_ms, OLD.scram_verifier, OLD.enabled,
        OLD.tenant, OLD.deleted_ms)
    <> (NEW.name, NEW.role, NEW.password_hash, NEW.password_set_ms, NEW.scram_verifier, NEW.enabled,
        NEW.tenant, NEW.deleted_ms)
BEGIN
    INSERT INTO changes (kind, name) VALUES ('user', OLD.name), ('user', NEW.name);
END;

CREATE TRIGGER devices_added AFTER INSERT ON devices BEGIN
    INSERT INTO changes (kind, name) VALUES ('device', NEW.tenant || '/' || NEW.id);
END;

CREATE TRIGGER devices_changed AFTER UPDATE OF number, tenant, id, type, status, deleted_ms
ON devices WHEN
    (OLD.number, OLD.tenant, OLD.id, OLD.type, OLD.status, OLD.deleted_ms)
    <> (NEW.number, NEW.tenant, NEW.id, NEW.type, NEW.status, NEW.deleted_ms)
BEGIN
    INSERT INTO changes (kind, name) VALUES
        ('device', OLD.tenant || '/' || OLD.id), ('device', NEW.tenant || '/' || NEW.id);
END;

CREATE TRIGGER devices_removed AFTER DELETE ON devices BEGIN
    INSERT INTO changes (kind, name) VALUES ('device', OLD.tenant || '/' || OLD.id);
END;

-- Where the device has gone, its own trigger has said so.

CREATE TRIGGER device_credentials_added AFTER INSERT ON device_credentials BEGIN
    INSERT INTO changes (kind, name)
        SELECT 'device', tenant || '/' || id FROM devices WHERE number = NEW.device;
END;

CREATE TRIGGER device_credentials_changed
AFTER UPDATE OF id, device, kind, digest, expires_ms, revoked_ms ON device_credentials BEGIN
    INSERT INTO changes (kind, name)
        SELECT 'device', tenant || '/' || id FROM devices WHERE number IN (OLD.device, NEW.device);
END;

CREATE TRIGGER device_credentials_removed AFTER DELETE ON device_credentials BEGIN
    INSERT INTO changes (kind, name)
        SELECT 'device', tenant || '/' || id FROM devices WHERE number = OLD.device;
END;

CREATE TRIGGER group_devices_added AFTER INSERT ON group_devices BEGIN
    INSERT INTO changes (kind, name)
        SELECT 'device', tenant || '/' || id FROM devices WHERE number = NEW.device;
END;

CREATE TRIGGER group_devices_changed AFTER UPDATE ON group_devices BEGIN
    INSERT INTO changes (kind, name)
        SELECT 'device', tenant || '/' || id FROM devices WHERE number IN (OLD.device, NEW.device);
END;

CREATE TRIGGER group_devices_removed AFTER DELETE ON group_devices BEGIN
    INSERT INTO changes (kind, name)
        SELECT 'device', tenant || '/' || id FROM devices WHERE number = OLD.device;
END;

CREATE TRIGGER bans_added AFTER INSERT ON bans BEGIN
    INSERT INTO changes (kind, name) VALUES ('ban', NEW.id);
END;

CREATE TRIGGER bans_changed AFTER UPDATE ON bans BEGIN
    INSERT INTO changes (kind, name) VALUES ('ban', NEW.id);
END;

CREATE TRIGGER bans_removed AFTER DELETE ON bans BEGIN
    INSERT INTO changes (kind, name) VALUES ('ban', OLD.id);
END;

-- In which order a group's rules come goes by its name; without rules it is of no account.

CREATE TRIGGER device_groups_changed AFTER UPDATE OF id, name ON device_groups
WHEN (OLD.id, OLD.name) <> (NEW.id, NEW.name) BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

-- A team's tenant is the one that it was made with; who knows it by name is told of all names.

CREATE TRIGGER teams_added AFTER INSERT ON teams BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER teams_changed AFTER UPDATE OF name, tenant, deleted_ms ON teams
WHEN (OLD.name, OLD.tenant, OLD.deleted_ms) <> (NEW.name, NEW.tenant, NEW.deleted_ms) BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER teams_removed AFTER DELETE ON teams BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;
