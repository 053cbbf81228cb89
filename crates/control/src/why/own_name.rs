//! Rules that permit a topic with the client's own name in it.

use super::facts::OwnNameRule;

/// A level that takes the place of a wildcard of a Topic Filter.
pub(super) const ANY_LEVEL: &str = "_";

/// What the rule permits.
pub(super) fn permits(own_name: &OwnNameRule) -> String {
    let OwnNameRule {
        rule,
        filter,
        other_name,
    } = own_name;
    match &**other_name {
        ANY_LEVEL => format!("{rule} permits {filter}, which has its own name"),
        _ => format!("{rule} permits {filter}, with its own name instead of {other_name:?}"),
    }
}
