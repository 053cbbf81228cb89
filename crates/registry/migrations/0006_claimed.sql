-- Since when somebody has administered the node, or 0: whoever did may be gone, and the door that is
-- open on a node that is nobody's stays shut.
INSERT INTO counters (name, last)
    SELECT 'claimed', COALESCE(MAX(created_ms), 0) FROM users WHERE api_role = 'administrator';

-- For people of the panel, who are no clients. Whoever has a role of that name keeps it as it is.
INSERT INTO roles (name, is_builtin, created_ms)
    SELECT 'none', 1, 0 WHERE NOT EXISTS (SELECT name FROM roles WHERE name = 'none');
