//! Rules and integrations, by the Client Identifiers of their parts.

use martlet_integrate::CLIENT_IDS;

use crate::integrations::part_of;
use crate::rules::publish::BY_RULE;

/// The integration whose part has that Client Identifier: its kind and name, such as `file/audit`.
pub(super) fn integration_of(client_id: &str) -> Option<&str> {
    part_of(client_id).strip_prefix(CLIENT_IDS)
}

/// The rule or integration whose part has that Client Identifier, in words.
pub(super) fn part_in_words(client_id: &str) -> Option<String> {
    let rule = client_id.strip_prefix(BY_RULE);
    let rule = rule.map(|rule| format!("the rule {rule}"));
    rule.or_else(|| integration_of(client_id).map(|name| format!("the integration {name}")))
}
