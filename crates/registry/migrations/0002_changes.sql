-- What has changed since the tables were last read, so that a node with a hundred thousand devices
-- need not read them all when one is disabled. Triggers write it, whoever changes the tables. The
-- mark tells a row from one of the same number in another copy of the database. Of the last 100,000
-- or so; who missed more reads everything.

CREATE TABLE changes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    mark TEXT NOT NULL DEFAULT (hex(randomblob(8)))
);

CREATE TRIGGER changes_kept AFTER INSERT ON changes WHEN NEW.number % 1000 = 0 BEGIN
    DELETE FROM changes WHERE number <= NEW.number - 100000;
END;

CREATE TRIGGER users_added AFTER INSERT ON users BEGIN
    INSERT INTO changes (kind, name) VALUES ('user', NEW.name);
END;

CREATE TRIGGER users_changed AFTER UPDATE ON users BEGIN
    INSERT INTO changes (kind, name) VALUES ('user', OLD.name), ('user', NEW.name);
END;

CREATE TRIGGER users_removed AFTER DELETE ON users BEGIN
    INSERT INTO changes (kind, name) VALUES ('user', OLD.name);
END;

CREATE TRIGGER devices_added AFTER INSERT ON devices BEGIN
    INSERT INTO changes (kind, name) VALUES ('device', NEW.id);
END;

CREATE TRIGGER devices_changed AFTER UPDATE ON devices BEGIN
    INSERT INTO changes (kind, name) VALUES ('device', OLD.id), ('device', NEW.id);
END;

CREATE TRIGGER devices_removed AFTER DELETE ON devices BEGIN
    INSERT INTO changes (kind, name) VALUES ('device', OLD.id);
END;

CREATE TRIGGER device_credentials_added AFTER INSERT ON device_credentials BEGIN
    INSERT INTO changes (kind, name) VALUES ('device', NEW.device_id);
END;

CREATE TRIGGER device_credentials_changed AFTER UPDATE ON device_credentials BEGIN
    INSERT INTO changes (kind, name) VALUES ('device', OLD.device_id), ('device', NEW.device_id);
END;

CREATE TRIGGER device_credentials_removed AFTER DELETE ON device_credentials BEGIN
    INSERT INTO changes (kind, name) VALUES ('device', OLD.device_id);
END;

-- What is of many at once is read anew with everything.

CREATE TRIGGER rules_added AFTER INSERT ON rules BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER rules_changed AFTER UPDATE ON rules BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER rules_removed AFTER DELETE ON rules BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER roles_added AFTER INSERT ON roles BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER roles_changed AFTER UPDATE ON roles BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER roles_removed AFTER DELETE ON roles BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER device_types_added AFTER INSERT ON device_types BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER device_types_changed AFTER UPDATE ON device_types BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER device_types_removed AFTER DELETE ON device_types BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER settings_added AFTER INSERT ON settings BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER settings_changed AFTER UPDATE ON settings BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER settings_removed AFTER DELETE ON settings BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;
