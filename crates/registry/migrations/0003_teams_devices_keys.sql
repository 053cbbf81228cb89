-- Teams, and devices as fleets need them. Portable as 0001. `revision` is raised with every change
-- that somebody makes who may have read the row before; `deleted_ms` is 0 for what is there.

-- Numbers that are never used again.
CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    last BIGINT NOT NULL
);

CREATE TABLE teams (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    -- 0 is shared by all teams that own none.
    tenant BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    deleted_ms BIGINT NOT NULL
);

ALTER TABLE users ADD COLUMN api_role TEXT NOT NULL DEFAULT 'none';
-- Whoever administers the broker administers the node.
UPDATE users SET api_role = 'administrator' WHERE role = 'administrator';
ALTER TABLE users ADD COLUMN email TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN full_name TEXT NOT NULL DEFAULT '';
-- In whose tenant they are when they connect; none is the common one.
ALTER TABLE users ADD COLUMN team TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN tenant BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE users ADD COLUMN updated_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN deleted_ms BIGINT NOT NULL DEFAULT 0;

CREATE TABLE team_members (
    team TEXT NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    user_name TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    role TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (team, user_name)
);

CREATE INDEX team_members_user_name ON team_members (user_name);

ALTER TABLE roles ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE device_types ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;

CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    -- Separated by spaces.
    scopes TEXT NOT NULL,
    team TEXT NOT NULL,
    owner TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    last_used_ms BIGINT NOT NULL,
    uses BIGINT NOT NULL,
    revoked_ms BIGINT NOT NULL
);

CREATE TABLE devices_numbered (
    number INTEGER NOT NULL PRIMARY KEY,
    tenant BIGINT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    type TEXT NOT NULL REFERENCES device_types (name),
    status TEXT NOT NULL,
    description TEXT NOT NULL,
    location TEXT NOT NULL,
    firmware_version TEXT NOT NULL,
    hardware_version TEXT NOT NULL,
    owner TEXT NOT NULL,
    team TEXT NOT NULL,
    -- What a text is looked for in: id, name, description and location, in small letters.
    search TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL,
    deleted_ms BIGINT NOT NULL,
    UNIQUE (tenant, id)
);

INSERT INTO devices_numbered (number, tenant, id, name, type, status, description, location,
        firmware_version, hardware_version, owner, team, search, revision, created_ms, updated_ms,
        last_seen_ms, deleted_ms)
    SELECT ROW_NUMBER() OVER (ORDER BY created_ms, id), 0, id, name, type, status, '', '', '', '',
        '', '', lower(id || ' ' || name), 1, created_ms, created_ms, 0, 0
    FROM devices;

INSERT INTO counters (name, last)
    SELECT 'device', COALESCE(MAX(number), 0) FROM devices_numbered;
INSERT INTO counters (name, last) VALUES ('tenant', 0);

CREATE TABLE credentials (
    id TEXT NOT NULL PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES devices_numbered (number) ON DELETE CASCADE,
    name TEXT NOT NULL,
    -- A secret is found by its digest, a certificate by its fingerprint.
    kind TEXT NOT NULL,
    digest TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    revoked_ms BIGINT NOT NULL,
    last_used_ms BIGINT NOT NULL,
    uses BIGINT NOT NULL
);

INSERT INTO credentials (id, device, name, kind, digest, created_ms, expires_ms, revoked_ms,
        last_used_ms, uses)
    SELECT held.id, devices_numbered.number, '', 'secret', held.digest, held.created_ms,
        held.expires_ms, held.revoked_ms, 0, 0
    FROM device_credentials AS held JOIN devices_numbered ON devices_numbered.id = held.device_id;

DROP TABLE device_credentials;
DROP TABLE devices;
ALTER TABLE devices_numbered RENAME TO devices;
ALTER TABLE credentials RENAME TO device_credentials;

CREATE INDEX device_credentials_device ON device_credentials (device);
CREATE INDEX device_credentials_digest ON device_credentials (digest);

CREATE TABLE device_tags (
    tag TEXT NOT NULL,
    device INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    PRIMARY KEY (tag, device)
);

CREATE INDEX device_tags_device ON device_tags (device, tag);

CREATE TABLE device_groups (
    id TEXT NOT NULL PRIMARY KEY,
    team TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    colour TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    UNIQUE (team, name)
);

CREATE TABLE group_devices (
    group_id TEXT NOT NULL REFERENCES device_groups (id) ON DELETE CASCADE,
    device INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    PRIMARY KEY (group_id, device)
);

CREATE INDEX group_devices_device ON group_devices (device, group_id);

CREATE TABLE device_configuration (
    device INTEGER NOT NULL REFERENCES devices (number) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    data_type TEXT NOT NULL,
    is_active BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    updated_ms BIGINT NOT NULL,
    PRIMARY KEY (device, key)
);

CREATE TABLE provisioning_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    digest TEXT NOT NULL UNIQUE,
    device_type TEXT NOT NULL REFERENCES device_types (name),
    team TEXT NOT NULL,
    -- Ids of groups, separated by spaces.
    groups_joined TEXT NOT NULL,
    id_pattern TEXT NOT NULL,
    devices_max BIGINT NOT NULL,
    devices_made BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    revoked_ms BIGINT NOT NULL
);

CREATE TABLE bans (
    id TEXT NOT NULL PRIMARY KEY,
    tenant BIGINT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    why TEXT NOT NULL,
    made_by TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    until_ms BIGINT NOT NULL,
    UNIQUE (tenant, kind, value)
);

CREATE TABLE presence (
    tenant BIGINT NOT NULL,
    client_id TEXT NOT NULL,
    online BIGINT NOT NULL,
    since_ms BIGINT NOT NULL,
    last_seen_ms BIGINT NOT NULL,
    why_offline TEXT NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (tenant, client_id)
);

CREATE TABLE idempotency_keys (
    principal TEXT NOT NULL,
    key TEXT NOT NULL,
    request_digest TEXT NOT NULL,
    -- 0 while the request is being answered.
    status BIGINT NOT NULL,
    answer TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (principal, key)
);

CREATE INDEX idempotency_keys_created_ms ON idempotency_keys (created_ms);

-- Lists are of those that are there, or of those that are deleted. By id: in 0004.
CREATE INDEX devices_created_ms ON devices (deleted_ms, created_ms, number);
CREATE INDEX devices_last_seen_ms ON devices (deleted_ms, last_seen_ms, number);
CREATE INDEX devices_team ON devices (team, deleted_ms, id, number);
CREATE INDEX devices_owner ON devices (owner, deleted_ms, id, number);
CREATE INDEX devices_type ON devices (type, deleted_ms, id, number);
