-- Dead letters that are to be sent again, also after a restart: 1.

ALTER TABLE dead_letters ADD COLUMN sends_again BIGINT NOT NULL DEFAULT 0;
