//! Changes of the rights of a device: its type, and the groups that it left.

use super::Finding;
use super::asked::Asked;
use super::found::Found;
use super::gather::permits::GroupMissing;
use crate::cause::Cause;
use crate::remedy::form;
use crate::rfc3339;

/// Adds to what no rule permits that the rules of a group do, which the device may have left.
pub(super) fn with_group(asked: &Asked, finding: &mut Finding) {
    let mut groups = asked.groups_missing.iter();
    let is_it = |group: &&GroupMissing| group.command.is_some() && group.command == finding.command;
    let Some(group) = groups.find(is_it) else {
        return;
    };
    let name = &group.name;
    finding.sentence.push_str(&match group.left_ms {
        Some(ms) => format!(
            "; it left the group {name}, whose rules permit that, on {}",
            rfc3339::in_words(ms)
        ),
        None => format!("; the rules of the group {name} permit that, and it is not in that group"),
    });
}

/// Adds to what the device may not do, or does not get, since its type was changed.
pub(super) fn with_type_change(asked: &Asked, found: &mut Found) {
    let Some(change) = &asked.type_change else {
        return;
    };
    let is_since = |finding: &Finding| {
        let last_ms = finding.last_ms.or(finding.since_ms);
        last_ms.is_none_or(|ms| ms >= change.at_ms)
    };
    for (_, finding) in found.iter_mut().filter(|(_, finding)| is_since(finding)) {
        let is_of_rights = matches!(finding.cause, Cause::NotPermitted | Cause::WrongTopic);
        let is_of_topics = matches!(
            finding.cause,
            Cause::CommandWaits | Cause::RolloutWaits | Cause::NotSubscribed
        );
        // What a group forbids, no type permits.
        let command = finding.command.as_ref();
        let is_by_group = command.is_some_and(|line| form::GROUP_MEMBER_RM.is_form_of(line));
        if !is_of_rights && !is_of_topics || is_by_group {
            continue;
        }
        let (from, to, by) = (&change.from, &change.to, &change.by);
        finding.sentence.push_str(&format!(
            "; its type was changed from {from} to {to} on {} by {by}, whose rules and topics \
             differ",
            rfc3339::in_words(change.at_ms)
        ));
        if is_of_rights && finding.remedy.is_some() {
            finding.remedy = Some(format!(
                "have the device use the topics of the type {to}, or give it the type {from} again"
            ));
            finding.command.clone_from(&change.command);
        }
    }
}
