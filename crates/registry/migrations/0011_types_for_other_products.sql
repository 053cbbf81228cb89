-- The topics of other products have types of their own. A type or role that somebody has made under
-- one of these names stays theirs.
INSERT INTO device_types (name, is_builtin, created_ms) VALUES
    ('iotflow', 1, 0), ('service-mqtt', 1, 0), ('tls-guide', 1, 0) ON CONFLICT DO NOTHING;

INSERT INTO roles (name, is_builtin, created_ms) VALUES ('iotflow', 1, 0) ON CONFLICT DO NOTHING;

-- Devices of the type `device`, and those that its provisioning keys let in, had these topics too.
-- They keep them.
INSERT INTO device_types (name, is_builtin, created_ms)
    SELECT 'device-before-v11', 0, 0
    WHERE EXISTS (SELECT 1 FROM devices WHERE type = 'device')
    OR EXISTS (SELECT 1 FROM provisioning_keys WHERE device_type = 'device');

INSERT INTO rules (owner_kind, owner, position, allows, actions, filter)
    SELECT 'device_type', device_types.name, line.position, 1, line.actions, line.filter
    FROM device_types CROSS JOIN (
    SELECT 0 AS position, 'publish,subscribe,receive' AS actions, 'd/%c/#' AS filter UNION ALL
    SELECT 1, 'publish', 'device/data/%c' UNION ALL
    SELECT 2, 'publish', 'raw.%u' UNION ALL
    SELECT 3, 'publish', 'iotflow/devices/%c/telemetry' UNION ALL
    SELECT 4, 'publish', 'iotflow/devices/%c/telemetry/#' UNION ALL
    SELECT 5, 'publish', 'iotflow/devices/%c/status' UNION ALL
    SELECT 6, 'publish', 'iotflow/devices/%c/status/#' UNION ALL
    SELECT 7, 'publish', 'iotflow/devices/%c/heartbeat' UNION ALL
    SELECT 8, 'publish', 'iotflow/devices/%c/events/#' UNION ALL
    SELECT 9, 'publish', 'iotflow/devices/%c/commands/+/response' UNION ALL
    SELECT 10, 'subscribe,receive', 'iotflow/devices/%c/commands/#' UNION ALL
    SELECT 11, 'subscribe,receive', 'iotflow/devices/%c/config/#' UNION ALL
    SELECT 12, 'subscribe,receive', 'iotflow/fleet/commands/#' UNION ALL
    SELECT 13, 'subscribe,receive', 'iotflow/commands/device-type/+/%c' UNION ALL
    SELECT 14, 'publish', 'iotflow/discovery/register/%c' UNION ALL
    SELECT 15, 'subscribe,receive', 'iotflow/discovery/response/%c' UNION ALL
    SELECT 16, 'publish', 'iotflow/status/devices/%c/+' UNION ALL
    SELECT 17, 'publish', 'iotflow/lwt/devices/%c' UNION ALL
    SELECT 18, 'publish', 'response/api/+') AS line
    WHERE device_types.name = 'device-before-v11';

UPDATE devices SET type = 'device-before-v11', revision = revision + 1 WHERE type = 'device';

UPDATE provisioning_keys SET device_type = 'device-before-v11', revision = revision + 1
    WHERE device_type = 'device';
