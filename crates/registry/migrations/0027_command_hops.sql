-- Hops of the message with the command: more than 0 if a rule has sent it, so that loops end.

ALTER TABLE commands ADD COLUMN hops BIGINT NOT NULL DEFAULT 0;
