-- When a device last sent something: a message, such as a heartbeat, and telemetry; 0: never. Neither
-- is a change that nodes read.
ALTER TABLE devices ADD COLUMN last_message_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN last_telemetry_ms BIGINT NOT NULL DEFAULT 0;
