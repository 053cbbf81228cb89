-- What has changed since the tables were last read, as in SQLite. Numbers have no gaps, whatever is
-- rolled back, and are seen in their order: whoever takes one holds the counter's row until the end
-- of the transaction. The triggers stand in 0004, on the tables as they are then.

CREATE TABLE changes (
    number BIGINT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    mark TEXT NOT NULL DEFAULT (md5(random()::text || clock_timestamp()::text))
);

CREATE TABLE change_counter (
    last BIGINT NOT NULL
);

INSERT INTO change_counter (last) VALUES (0);

CREATE FUNCTION changes_add(of_kind TEXT, names TEXT[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    added BIGINT := coalesce(array_length(names, 1), 0);
    latest BIGINT;
BEGIN
    IF added = 0 THEN
        RETURN;
    END IF;
    UPDATE change_counter SET last = last + added RETURNING last INTO latest;
    INSERT INTO changes (number, kind, name)
        SELECT latest - added + place, of_kind, name
        FROM unnest(names) WITH ORDINALITY AS given (name, place);
    IF latest / 1000 <> (latest - added) / 1000 THEN
        DELETE FROM changes WHERE number <= latest - 100000;
    END IF;
END
$$;

-- A database made anew at the same place is another one.
INSERT INTO settings (name, value) VALUES ('database', gen_random_uuid()::text);
