-- The client went with a DISCONNECT of its own. Of those who went before, the words say it.

ALTER TABLE presence ADD COLUMN said_goodbye BIGINT NOT NULL DEFAULT 0;
UPDATE presence SET said_goodbye = 1
    WHERE online = 0 AND why_offline = 'the client sent DISCONNECT';
