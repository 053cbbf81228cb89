-- After how many seconds without a message a device of a type is inactive; 0: never.
ALTER TABLE device_types ADD COLUMN inactive_after_secs BIGINT NOT NULL DEFAULT 0;
-- When a device last sent a heartbeat; 0: never. Until now the last message was just that.
ALTER TABLE devices ADD COLUMN last_heartbeat_ms BIGINT NOT NULL DEFAULT 0;
UPDATE devices SET last_heartbeat_ms = last_message_ms WHERE last_message_ms > 0;
-- Since when a device is inactive; 0: it is not. That is no change that nodes read.
ALTER TABLE devices ADD COLUMN inactive_since_ms BIGINT NOT NULL DEFAULT 0;
-- Active devices that have sent something, the most silent ones of a type first.
CREATE INDEX devices_heard ON devices (type, last_message_ms)
    WHERE inactive_since_ms = 0 AND last_message_ms > 0 AND deleted_ms = 0;
