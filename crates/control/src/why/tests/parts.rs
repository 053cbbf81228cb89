//! Verdicts on what changed the rights of a device, and on the memory of the node.

use super::{NOW, connected, expect, facts, judge, run};
use crate::cause::Cause;
use crate::event_kind::EventKind;
use crate::presence::ClientPresence;
use crate::why::State;
use crate::why::gather::permits::GroupMissing;

#[test]
fn a_device_that_left_a_group_is_told_so() {
    let mut refused = run(
        EventKind::PublishRefused,
        "Not authorized",
        "no rule",
        1,
        1_000,
    );
    refused.last.command = Some("martlet group member add hall d1".to_owned().into());
    let facts = {
        let mut of = facts(None);
        of.asked.session = Some(connected());
        of.asked.runs = vec![refused.clone()];
        of.asked.groups_missing = vec![GroupMissing {
            name: "hall".to_owned(),
            command: refused.last.command,
            left_ms: Some(NOW),
            ..GroupMissing::default()
        }];
        of
    };
    let expected = "it left the group hall, whose rules permit that";
    expect(
        &judge(&facts),
        Cause::NotPermitted,
        State::Connected,
        expected,
    );
}

#[test]
fn a_start_has_made_a_node_forget_what_it_kept_in_memory() {
    let facts = |since_ms, started_ms| {
        let mut of = facts(None);
        of.node.in_memory_since = Some(started_ms);
        of.asked.registered_as = Some("device".to_owned());
        of.asked.presence = Some(ClientPresence {
            since_ms,
            last_seen_ms: since_ms,
            ..ClientPresence::default()
        });
        of
    };
    let expected = "keeps messages in memory only";
    let diagnosis = judge(&facts(NOW - 9_000, NOW - 5_000));
    expect(&diagnosis, Cause::KeptInMemory, State::Away, expected);
    let diagnosis = judge(&facts(NOW - 5_000, NOW - 9_000));
    expect(&diagnosis, Cause::Away, State::Away, "");
}

#[test]
fn who_was_connected_when_a_backup_was_made_is_away() {
    let facts = {
        let mut of = facts(None);
        of.asked.registered_as = Some("device".to_owned());
        of.asked.presence = Some(ClientPresence {
            online: true,
            last_seen_ms: NOW - 60_000,
            ..ClientPresence::default()
        });
        of
    };
    let diagnosis = judge(&facts);
    let expected = "when the backup was made";
    expect(&diagnosis, Cause::Away, State::Away, expected);
    assert!(diagnosis.wrong);
}
