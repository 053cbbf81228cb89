-- Which node says so, by which listener it came, and whether its status topics say the same. Of those
-- that are no devices only some are kept.

ALTER TABLE presence ADD COLUMN node TEXT NOT NULL DEFAULT '';
ALTER TABLE presence ADD COLUMN listener TEXT NOT NULL DEFAULT '';
ALTER TABLE presence ADD COLUMN is_told BIGINT NOT NULL DEFAULT 1;
ALTER TABLE presence ADD COLUMN is_device BIGINT NOT NULL DEFAULT 0;

CREATE INDEX presence_open ON presence (node) WHERE online = 1 OR is_told = 0;
CREATE INDEX presence_passing ON presence (since_ms) WHERE online = 0 AND is_device = 0;
