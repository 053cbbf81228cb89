-- What a device is, in the words of its owner. The type says which topics it may use.
ALTER TABLE devices ADD COLUMN kind TEXT NOT NULL DEFAULT '';

CREATE INDEX devices_kind ON devices (kind, deleted_ms, id, number);
