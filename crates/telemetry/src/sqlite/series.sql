-- A device and a key; its number is never used again. `sum` is the checksum of the other columns.
-- The index has it too, so that table and index are two copies that mend each other. A device and
-- a key have one number.
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    device INTEGER NOT NULL,
    key TEXT NOT NULL,
    sum INTEGER NOT NULL,
    UNIQUE (device, key, sum)
);
