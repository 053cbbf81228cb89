-- Numbers of devices that were removed for good, whose telemetry is kept. That is no change that nodes read.
CREATE TABLE kept_telemetry (device BIGINT PRIMARY KEY);
