-- What was committed and is not in blocks yet, in order.
CREATE TABLE journal (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    data BLOB NOT NULL
);
-- Consecutive values of a series and of one day (UTC). Blocks of a series do not overlap. `time` and
-- `origin` are those of its first value, `last_time` is that of its last one.
CREATE TABLE blocks (
    series INTEGER NOT NULL,
    time INTEGER NOT NULL,
    origin INTEGER NOT NULL,
    last_time INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (series, time, origin)
) WITHOUT ROWID;
-- What a series has on a day, in blocks. `rolled`: 1 if its roll-ups are as the blocks are, 2 if it
-- has none because a block is damaged.
CREATE TABLE days (
    series INTEGER NOT NULL,
    day INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    rolled INTEGER NOT NULL,
    PRIMARY KEY (series, day)
) WITHOUT ROWID;
CREATE INDEX days_to_roll ON days (day, series) WHERE rolled = 0;
-- Roll-ups of a series and day, per minute (level 0), hour (1) and day (2). A row is there only while
-- it is as the blocks are.
CREATE TABLE rollups (
    series INTEGER NOT NULL,
    level INTEGER NOT NULL,
    day INTEGER NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (series, level, day)
) WITHOUT ROWID;
