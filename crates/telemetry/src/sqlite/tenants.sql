-- Devices of a tenant: their series count for its share. Files of version 1 have no such table.
CREATE TABLE IF NOT EXISTS tenants (
    device INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS devices_of_tenants ON tenants (tenant);
