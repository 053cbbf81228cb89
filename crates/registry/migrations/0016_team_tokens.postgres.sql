-- Team tokens, as in SQLite.

CREATE TABLE team_tokens (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    number BIGINT NOT NULL UNIQUE,
    team TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    -- Of the key, by which it is found, and of the secret.
    key_digest TEXT COLLATE "C" NOT NULL UNIQUE,
    secret_digest TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    revoked_ms BIGINT NOT NULL
);

CREATE INDEX team_tokens_team ON team_tokens (team, created_ms);

CREATE TABLE team_numbers (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    team TEXT COLLATE "C" NOT NULL UNIQUE
);

INSERT INTO team_numbers (team) SELECT id FROM teams ORDER BY created_ms, id;
INSERT INTO counters (name, last) VALUES ('team_token', 0);

CREATE FUNCTION teams_number() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO team_numbers (team) VALUES (NEW.id);
    RETURN NULL;
END
$$;

CREATE TRIGGER teams_numbered AFTER INSERT ON teams
    FOR EACH ROW EXECUTE FUNCTION teams_number();

CREATE TRIGGER team_tokens_changed AFTER INSERT OR DELETE OR UPDATE ON team_tokens
    FOR EACH ROW EXECUTE FUNCTION changes_of_all();

-- By which token a device may log in goes by its team.
CREATE TRIGGER devices_given AFTER UPDATE OF team ON devices FOR EACH ROW WHEN
    (OLD.team <> NEW.team) EXECUTE FUNCTION changes_of_devices();
