-- Team tokens, by which the devices of a team log in. Each token and each team has a number that no
-- other one gets, for programs that know them by numbers.

CREATE TABLE team_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    team TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Of the key, by which it is found, and of the secret.
    key_digest TEXT NOT NULL UNIQUE,
    secret_digest TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    revoked_ms BIGINT NOT NULL
);

CREATE INDEX team_tokens_team ON team_tokens (team, created_ms);

CREATE TABLE team_numbers (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    team TEXT NOT NULL UNIQUE
);

INSERT INTO team_numbers (team) SELECT id FROM teams ORDER BY created_ms, id;
INSERT INTO counters (name, last) VALUES ('team_token', 0);

CREATE TRIGGER teams_numbered AFTER INSERT ON teams BEGIN
    INSERT INTO team_numbers (team) VALUES (NEW.id);
END;

CREATE TRIGGER team_tokens_added AFTER INSERT ON team_tokens BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER team_tokens_changed AFTER UPDATE ON team_tokens BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

CREATE TRIGGER team_tokens_removed AFTER DELETE ON team_tokens BEGIN
    INSERT INTO changes (kind, name) VALUES ('all', '');
END;

-- By which token a device may log in goes by its team.
CREATE TRIGGER devices_given AFTER UPDATE OF team ON devices WHEN OLD.team <> NEW.team BEGIN
    INSERT INTO changes (kind, name) VALUES ('device', NEW.tenant || '/' || NEW.id);
END;
