-- Which Client Identifiers devices of a type may use: `id`, their own, or `any`. With `any` each may
-- have so many sessions.
ALTER TABLE device_types ADD COLUMN client_id TEXT NOT NULL DEFAULT 'id';
ALTER TABLE device_types ADD COLUMN max_sessions BIGINT NOT NULL DEFAULT 10;

UPDATE device_types SET client_id = 'any' WHERE name = 'service-mqtt' AND is_builtin = 1;
