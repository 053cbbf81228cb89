-- Checksum of what does not change of a dead letter; -1: it is from before there were any.

ALTER TABLE dead_letters ADD COLUMN checksum BIGINT NOT NULL DEFAULT -1;
