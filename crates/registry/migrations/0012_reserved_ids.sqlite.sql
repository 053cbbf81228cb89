-- Device ids that are also words of the HTTP API's paths: such a device could not be read back. Each
-- gets the next free number, as `summary-1`, and the audit log tells of it.

CREATE TABLE devices_renamed AS
    WITH RECURSIVE suffix (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM suffix WHERE n < 1000000)
    SELECT number, tenant, team, id AS old_id, id || '-' || (
        SELECT n FROM suffix
        WHERE NOT EXISTS (SELECT 1 FROM devices AS other
            WHERE other.tenant = devices.tenant AND other.id = devices.id || '-' || n)
        AND NOT EXISTS (SELECT 1 FROM users WHERE users.name = devices.id || '-' || n)
        LIMIT 1) AS new_id
    FROM devices WHERE id IN ('register', 'status', 'statuses', 'telemetry', 'config', 'heartbeat',
        'credentials', 'mqtt-credentials', 'summary', 'export', 'import', 'bulk');

UPDATE devices SET id = renamed.new_id, revision = revision + 1,
    search = renamed.new_id || substr(search, length(renamed.old_id) + 1)
    FROM devices_renamed AS renamed WHERE renamed.number = devices.number;

-- What is known of the client, and bans of it, follow the device.
UPDATE presence SET client_id = renamed.new_id FROM devices_renamed AS renamed
    WHERE renamed.tenant = presence.tenant AND renamed.old_id = presence.client_id
    AND NOT EXISTS (SELECT 1 FROM presence AS other
        WHERE other.tenant = renamed.tenant AND other.client_id = renamed.new_id);

UPDATE bans SET value = renamed.new_id FROM devices_renamed AS renamed
    WHERE renamed.tenant = bans.tenant AND renamed.old_id = bans.value
    AND bans.kind IN ('client_id', 'user_name')
    AND NOT EXISTS (SELECT 1 FROM bans AS other WHERE other.tenant = renamed.tenant
        AND other.kind = bans.kind AND other.value = renamed.new_id);

INSERT INTO audit (at_ms, who, by_what, address, request_id, team, action, object_kind, object_id,
        changed, outcome)
    SELECT CAST(unixepoch('subsec') * 1000 AS BIGINT), 'martlet', 'migration 12', '', '',
        team, 'device.rename', 'device', new_id,
        '{"id":["' || old_id || '","' || new_id || '"]}', 'done'
    FROM devices_renamed ORDER BY number;

DROP TABLE devices_renamed;
