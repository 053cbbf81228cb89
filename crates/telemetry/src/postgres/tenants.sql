-- Devices of a tenant: their series count for its share. Databases of older versions have no such
-- table.
CREATE TABLE martlet_telemetry.tenants (
    device BIGINT PRIMARY KEY,
    tenant BIGINT NOT NULL
);
CREATE INDEX devices_of_tenants ON martlet_telemetry.tenants (tenant);
