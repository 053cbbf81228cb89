-- Names of rules, and of integrations that were added through the API, are names within a team. Where a name is kept for
-- all teams together, the name of one of a team is TEAM/NAME.

UPDATE integration_states SET name = (SELECT teams.name || '/' || one.name FROM added_integrations one JOIN teams
    ON teams.id = one.team WHERE one.node = integration_states.node AND one.kind = integration_states.kind
    AND one.name = integration_states.name)
WHERE EXISTS (SELECT 1 FROM added_integrations one JOIN teams ON teams.id = one.team
    WHERE one.node = integration_states.node AND one.kind = integration_states.kind
    AND one.name = integration_states.name);

UPDATE dead_letters SET name = (SELECT teams.name || '/' || one.name FROM added_integrations one JOIN teams
    ON teams.id = one.team WHERE one.node = dead_letters.node AND one.kind = dead_letters.kind
    AND one.name = dead_letters.name)
WHERE EXISTS (SELECT 1 FROM added_integrations one JOIN teams ON teams.id = one.team
    WHERE one.node = dead_letters.node AND one.kind = dead_letters.kind AND one.name = dead_letters.name);

UPDATE bridge_subscriptions SET bridge = (SELECT teams.name || '/' || one.name FROM added_integrations one JOIN teams
    ON teams.id = one.team WHERE one.node = bridge_subscriptions.node AND one.kind = 'bridge'
    AND one.name = bridge_subscriptions.bridge)
WHERE EXISTS (SELECT 1 FROM added_integrations one JOIN teams ON teams.id = one.team
    WHERE one.node = bridge_subscriptions.node AND one.kind = 'bridge' AND one.name = bridge_subscriptions.bridge);

-- The webhooks of a rule are called RULE.NUMBER.
UPDATE dead_letters SET name = (SELECT teams.name || '/' || dead_letters.name FROM message_rules one JOIN teams
    ON teams.id = one.team WHERE substr(dead_letters.name, 1, length(one.name) + 1) = one.name || '.'
    ORDER BY length(one.name) DESC LIMIT 1)
WHERE kind = 'rule-webhook' AND tenant > 0 AND EXISTS (SELECT 1 FROM message_rules one JOIN teams
    ON teams.id = one.team WHERE substr(dead_letters.name, 1, length(one.name) + 1) = one.name || '.');

CREATE TABLE added_integrations_of_teams (
    node TEXT NOT NULL,
    -- `bridge` or `webhook`.
    kind TEXT NOT NULL,
    -- Id of the team whose messages it takes; empty: the common tenant.
    team TEXT NOT NULL,
    name TEXT NOT NULL,
    -- JSON: the keys of its table in the configuration. Secrets are references alone.
    settings TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    -- Who changed it last, as in the audit log.
    changed_by TEXT NOT NULL,
    PRIMARY KEY (node, kind, team, name)
);

INSERT INTO added_integrations_of_teams (node, kind, team, name, settings, created_ms, changed_ms, changed_by)
    SELECT node, kind, team, name, settings, created_ms, changed_ms, changed_by FROM added_integrations;

DROP TABLE added_integrations;

ALTER TABLE added_integrations_of_teams RENAME TO added_integrations;

CREATE TABLE message_rules_of_teams (
    -- Id of the team whose messages it looks at; empty: the common tenant.
    team TEXT NOT NULL,
    name TEXT NOT NULL,
    -- JSON, as it was written.
    definition TEXT NOT NULL,
    -- Counts its changes.
    revision BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    changed_ms BIGINT NOT NULL,
    -- Who changed it last, as in the audit log.
    changed_by TEXT NOT NULL,
    PRIMARY KEY (team, name)
);

INSERT INTO message_rules_of_teams (team, name, definition, revision, created_ms, changed_ms, changed_by)
    SELECT team, name, definition, revision, created_ms, changed_ms, changed_by FROM message_rules;

DROP TABLE message_rules;

ALTER TABLE message_rules_of_teams RENAME TO message_rules;
