-- Portable: text for names and ids, BIGINT for milliseconds since the Unix epoch, 0 where there is
-- none, and for truth values 0 and 1. No NULL.

CREATE TABLE settings (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE roles (
    name TEXT NOT NULL PRIMARY KEY,
    is_builtin BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE device_types (
    name TEXT NOT NULL PRIMARY KEY,
    is_builtin BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);

-- Of roles and of device types; the first that matches decides.
CREATE TABLE rules (
    owner_kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    position BIGINT NOT NULL,
    allows BIGINT NOT NULL,
    actions TEXT NOT NULL,
    filter TEXT NOT NULL,
    PRIMARY KEY (owner_kind, owner, position)
);

CREATE TABLE users (
    name TEXT NOT NULL PRIMARY KEY,
    role TEXT NOT NULL REFERENCES roles (name),
    password_hash TEXT NOT NULL,
    password_set_ms BIGINT NOT NULL,
    scram_verifier TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE devices (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    type TEXT NOT NULL REFERENCES device_types (name),
    status TEXT NOT NULL,
    created_ms BIGINT NOT NULL
);

CREATE TABLE device_credentials (
    id TEXT NOT NULL PRIMARY KEY,
    device_id TEXT NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    revoked_ms BIGINT NOT NULL
);

CREATE INDEX device_credentials_device_id ON device_credentials (device_id);

INSERT INTO roles (name, is_builtin, created_ms) VALUES ('administrator', 1, 0), ('user', 1, 0);

INSERT INTO device_types (name, is_builtin, created_ms) VALUES ('device', 1, 0);
