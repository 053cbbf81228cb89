-- Messages that follow from changes of the tables. They are written with the change, published from here, and removed
-- once the node has stored them.

CREATE TABLE outbox (
    -- Name of the node that publishes it.
    node TEXT NOT NULL,
    -- They are published in this order.
    number BIGINT NOT NULL,
    tenant BIGINT NOT NULL,
    -- What has changed, such as the name of an alarm.
    subject TEXT NOT NULL,
    topic TEXT NOT NULL,
    payload TEXT NOT NULL,
    hops BIGINT NOT NULL,
    PRIMARY KEY (node, number)
);
