-- The number of its team is told of a user who logs in.

CREATE TRIGGER users_given AFTER UPDATE OF team ON users WHEN OLD.team <> NEW.team BEGIN
    INSERT INTO changes (kind, name) VALUES ('user', NEW.name);
END;
