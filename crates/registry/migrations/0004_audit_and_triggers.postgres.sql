-- The audit log, and what is a change for nodes, as in SQLite. What comes in bulk is told by statement.

CREATE TABLE audit (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
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

-- Text is ordered by its bytes, as in SQLite, whatever the database's own order is.
DO $$
DECLARE
    found RECORD;
BEGIN
    FOR found IN
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = current_schema() AND data_type = 'text' AND table_name IN
            ('settings', 'roles', 'device_types', 'rules', 'users', 'changes', 'counters', 'teams',
            'team_members', 'api_keys', 'devices', 'device_credentials', 'device_tags',
            'device_groups', 'group_devices', 'device_configuration', 'provisioning_keys', 'bans',
            'presence', 'idempotency_keys', 'audit')
    LOOP
        EXECUTE format('ALTER TABLE %I ALTER COLUMN %I TYPE TEXT COLLATE "C"', found.table_name,
            found.column_name);
    END LOOP;
END
$$;

-- Without what is searched: an index holds no long text.
CREATE INDEX devices_id ON devices (deleted_ms, id, number);

-- Everything is to be read anew.
CREATE FUNCTION changes_of_all() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM changes_add('all', ARRAY['']);
    RETURN NULL;
END
$$;

CREATE FUNCTION changes_of_users() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM changes_add('user', ARRAY[OLD.name]);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM changes_add('user', ARRAY[NEW.name]);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION changes_of_bans() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM changes_add('ban', ARRAY[OLD.id]);
    ELSE
        PERFORM changes_add('ban', ARRAY[NEW.id]);
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION changes_of_devices() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM changes_add('device',
        ARRAY[OLD.tenant || '/' || OLD.id, NEW.tenant || '/' || NEW.id]);
    RETURN NULL;
END
$$;

CREATE FUNCTION changes_of_device_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM changes_add('device', ARRAY(SELECT tenant || '/' || id FROM moved ORDER BY number));
    RETURN NULL;
END
$$;

-- Of what belongs to a device. Where the device has gone, its own trigger has said so. The plan is
-- kept from when there were few devices, and must not read all of them once there are many.
CREATE FUNCTION changes_of_owned_rows() RETURNS trigger LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM changes_add('device', ARRAY(SELECT tenant || '/' || id FROM devices
        WHERE number IN (SELECT device FROM moved) ORDER BY number));
    RETURN NULL;
END
$$;

CREATE FUNCTION changes_of_owned() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM changes_add('device', ARRAY(SELECT tenant || '/' || id FROM devices
        WHERE number IN (OLD.device, NEW.device) ORDER BY number));
    RETURN NULL;
END
$$;

CREATE TRIGGER devices_added AFTER INSERT ON devices REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION changes_of_device_rows();
CREATE TRIGGER devices_removed AFTER DELETE ON devices REFERENCING OLD TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION changes_of_device_rows();
CREATE TRIGGER devices_changed AFTER UPDATE OF number, tenant, id, type, status, deleted_ms
    ON devices FOR EACH ROW WHEN
    ((OLD.number, OLD.tenant, OLD.id, OLD.type, OLD.status, OLD.deleted_ms)
    <> (NEW.number, NEW.tenant, NEW.id, NEW.type, NEW.status, NEW.deleted_ms))
    EXECUTE FUNCTION changes_of_devices();

CREATE TRIGGER users_added AFTER INSERT OR DELETE
    ON users FOR EACH ROW EXECUTE FUNCTION changes_of_users();
CREATE TRIGGER users_changed AFTER UPDATE ON users FOR EACH ROW WHEN
    ((OLD.name, OLD.role, OLD.password_hash, OLD.password_set_ms, OLD.scram_verifier, OLD.enabled,
        OLD.tenant, OLD.deleted_ms)
    <> (NEW.name, NEW.role, NEW.password_hash, NEW.password_set_ms, NEW.scram_verifier, NEW.enabled,
        NEW.tenant, NEW.deleted_ms))
    EXECUTE FUNCTION changes_of_users();

CREATE TRIGGER bans_changed AFTER INSERT OR DELETE OR UPDATE
    ON bans FOR EACH ROW EXECUTE FUNCTION changes_of_bans();

CREATE TRIGGER device_credentials_changed
    AFTER UPDATE OF id, device, kind, digest, expires_ms, revoked_ms
    ON device_credentials FOR EACH ROW EXECUTE FUNCTION changes_of_owned();
CREATE TRIGGER group_devices_changed AFTER UPDATE
    ON group_devices FOR EACH ROW EXECUTE FUNCTION changes_of_owned();

CREATE TRIGGER device_credentials_added AFTER INSERT ON device_credentials REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION changes_of_owned_rows();
CREATE TRIGGER device_credentials_removed AFTER DELETE ON device_credentials REFERENCING OLD TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION changes_of_owned_rows();

CREATE TRIGGER group_devices_added AFTER INSERT ON group_devices REFERENCING NEW TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION changes_of_owned_rows();
CREATE TRIGGER group_devices_removed AFTER DELETE ON group_devices REFERENCING OLD TABLE AS moved
    FOR EACH STATEMENT EXECUTE FUNCTION changes_of_owned_rows();

CREATE TRIGGER rules_changed AFTER INSERT OR DELETE OR UPDATE ON rules
    FOR EACH ROW EXECUTE FUNCTION changes_of_all();
CREATE TRIGGER roles_changed AFTER INSERT OR DELETE OR UPDATE ON roles
    FOR EACH ROW EXECUTE FUNCTION changes_of_all();
CREATE TRIGGER device_types_changed AFTER INSERT OR DELETE OR UPDATE ON device_types
    FOR EACH ROW EXECUTE FUNCTION changes_of_all();
CREATE TRIGGER settings_changed AFTER INSERT OR DELETE OR UPDATE ON settings
    FOR EACH ROW EXECUTE FUNCTION changes_of_all();
CREATE TRIGGER teams_added AFTER INSERT OR DELETE ON teams
    FOR EACH ROW EXECUTE FUNCTION changes_of_all();
CREATE TRIGGER teams_changed AFTER UPDATE ON teams FOR EACH ROW WHEN
    ((OLD.name, OLD.tenant, OLD.deleted_ms) <> (NEW.name, NEW.tenant, NEW.deleted_ms))
    EXECUTE FUNCTION changes_of_all();
CREATE TRIGGER device_groups_changed AFTER UPDATE ON device_groups FOR EACH ROW WHEN
    ((OLD.id, OLD.name) <> (NEW.id, NEW.name))
    EXECUTE FUNCTION changes_of_all();
