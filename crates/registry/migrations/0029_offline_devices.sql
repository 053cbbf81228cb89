-- When a device, or its Will, last said that it is offline; 0: never. That is no change that nodes read.
ALTER TABLE devices ADD COLUMN said_offline_ms BIGINT NOT NULL DEFAULT 0;
