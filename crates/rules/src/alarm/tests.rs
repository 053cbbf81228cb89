//! The states of alarms.

use super::*;
use crate::alarm::machine::About;
use crate::definition::Severity;

const HOT: Check = Check::Threshold(Limit {
    side: LimitSide::Above,
    raise: 80.0,
    clear: 75.0,
});

fn about(name: &str, for_ms: i64, inhibited_by: &[&str]) -> About {
    About {
        key: AlarmKey {
            tenant: 0,
            name: name.to_owned(),
            subject: "pump".to_owned(),
        },
        device: Some("pump".to_owned()),
        severity: Severity::Major,
        message: format!("{name} is bad"),
        for_ms,
        inhibited_by: inhibited_by.iter().map(|&name| name.to_owned()).collect(),
        hops: 0,
    }
}

fn value(machine: &mut AlarmMachine, value: f64, now_ms: i64) -> Option<ChangeKind> {
    let observation = Observation::Value(value, HOT);
    let change = machine.take(about("hot", 0, &[]), &observation, now_ms);
    change.map(|change| change.kind)
}

#[test]
fn a_value_between_both_limits_changes_nothing() {
    let mut machine = AlarmMachine::default();
    assert_eq!(value(&mut machine, 78.0, 1), None);
    assert_eq!(value(&mut machine, 80.0, 2), None);
    assert_eq!(value(&mut machine, 80.5, 3), Some(ChangeKind::Raised));
    assert_eq!(value(&mut machine, 90.0, 4), None);
    assert_eq!(value(&mut machine, 76.0, 5), None);
    assert_eq!(value(&mut machine, 75.0, 6), Some(ChangeKind::Cleared));
    assert_eq!(machine.counts().0, 0);
}

#[test]
fn a_message_has_no_control_characters() {
    let mut machine = AlarmMachine::default();
    let message = "hot\r\nBcc: all\u{1b}[2J".to_owned();
    let about = About {
        message,
        ..about("hot", 0, &[])
    };
    let change = machine.take(about, &Observation::Value(90.0, HOT), 1);
    assert_eq!(
        change.map(|change| change.alarm.message).as_deref(),
        Some("hot  Bcc: all [2J")
    );
}

#[test]
fn a_condition_holds_for_its_time_before_the_alarm_is_raised() {
    let mut machine = AlarmMachine::default();
    let take = |machine: &mut AlarmMachine, value, now_ms| {
        let observation = Observation::Value(value, HOT);
        machine.take(about("hot", 60_000, &[]), &observation, now_ms)
    };
    assert_eq!(take(&mut machine, 90.0, 0), None);
    assert!(machine.tick(59_999).is_empty());
    // The value was good for a moment: the time starts again.
    assert_eq!(take(&mut machine, 70.0, 59_999), None);
    assert_eq!(take(&mut machine, 90.0, 60_000), None);
    assert!(machine.tick(119_999).is_empty());
    let changes = machine.tick(120_000);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].alarm.raised_ms, 120_000);
    assert!(machine.tick(200_000).is_empty());
}

#[test]
fn a_rate_is_the_change_in_its_time() {
    let mut machine = AlarmMachine::default();
    let limit = Limit {
        side: LimitSide::Above,
        raise: 5.0,
        clear: 5.0,
    };
    let check = Check::Rate {
        limit,
        per_ms: 60_000,
    };
    let mut take = |value, now_ms| {
        let observation = Observation::Value(value, check);
        let change = machine.take(about("fast", 0, &[]), &observation, now_ms);
        change.map(|change| change.kind)
    };
    assert_eq!(take(20.0, 0), None);
    // 1 in 30 s equals 2 in a minute.
    assert_eq!(take(21.0, 30_000), None);
    assert_eq!(take(24.0, 60_000), Some(ChangeKind::Raised));
    assert_eq!(take(24.0, 60_000), None);
    assert_eq!(take(24.0, 90_000), Some(ChangeKind::Cleared));
}

#[test]
fn silence_is_an_alarm_and_the_next_message_ends_it() {
    let mut machine = AlarmMachine::default();
    let seen = Observation::Seen { after_ms: 10_000 };
    assert_eq!(machine.take(about("silent", 0, &[]), &seen, 0), None);
    assert!(machine.tick(9_999).is_empty());
    let raised = machine.tick(10_000);
    assert_eq!(raised[0].kind, ChangeKind::Raised);
    assert!(machine.tick(11_000).is_empty());
    let cleared = machine.take(about("silent", 0, &[]), &seen, 12_000);
    assert_eq!(cleared.map(|change| change.kind), Some(ChangeKind::Cleared));
}

#[test]
fn an_active_alarm_silences_those_that_it_inhibits_until_it_ends() {
    let mut machine = AlarmMachine::default();
    let bad = Observation::Condition {
        raise: true,
        clear: false,
    };
    let good = Observation::Condition {
        raise: false,
        clear: true,
    };
    assert!(machine.take(about("off", 0, &[]), &bad, 0).is_some());
    assert_eq!(machine.take(about("hot", 0, &["off"]), &bad, 1), None);
    assert!(machine.tick(2).is_empty());
    assert!(machine.take(about("off", 0, &[]), &good, 3).is_some());
    let raised = machine.tick(4);
    assert_eq!(raised.len(), 1);
    assert_eq!(raised[0].alarm.key.name, "hot");
}

#[test]
fn somebody_acknowledges_shelves_and_clears_an_alarm() {
    let mut machine = AlarmMachine::default();
    assert!(value(&mut machine, 90.0, 1).is_some());
    let id = machine.open().next().map_or(0, |alarm| alarm.id);
    let change = machine.acknowledge(id, "eva", 2).expect("it is active");
    assert_eq!(change.alarm.state, AlarmState::Acknowledged);
    assert_eq!(change.alarm.changed_by, "eva");
    assert!(machine.acknowledge(id, "eva", 3).is_err());
    assert!(machine.unshelve(id, "eva", 3).is_err());
    machine.shelve(id, 1_000, "eva", 4).expect("it is open");
    assert!(machine.tick(999).is_empty());
    let over = machine.tick(1_000);
    // An acknowledged alarm needs no second acknowledgement.
    assert_eq!(over[0].alarm.state, AlarmState::Acknowledged);
    let change = machine.clear(id, "eva", 1_001).expect("it is open");
    assert_eq!(change.alarm.state, AlarmState::Cleared);
    assert_eq!(
        machine.clear(id, "eva", 1_002),
        Err(AlarmError::NotFound(id))
    );
    // Its condition is still true.
    assert_eq!(value(&mut machine, 90.0, 1_003), Some(ChangeKind::Raised));
    let later = machine.open().next().map_or(0, |alarm| alarm.id);
    assert!(later > id);
}

#[test]
fn alarms_of_an_earlier_run_are_cleared_as_others_are() {
    let mut machine = AlarmMachine::default();
    assert!(value(&mut machine, 90.0, 5).is_some());
    let open: Vec<Alarm> = machine.open().cloned().collect();
    let mut later = AlarmMachine::default();
    later.restore(open);
    assert_eq!(value(&mut later, 90.0, 10), None);
    assert_eq!(value(&mut later, 60.0, 11), Some(ChangeKind::Cleared));
}

#[test]
fn alarms_of_rules_that_are_gone_are_cleared() {
    let mut machine = AlarmMachine::default();
    assert!(value(&mut machine, 90.0, 1).is_some());
    let changes = machine.retain_rules(|key| key.name != "hot", 2);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].kind, ChangeKind::Cleared);
    assert_eq!(machine.counts().0, 0);
}

/// The machine of the next run, restored from the rows of this one.
fn restarted(machine: &mut AlarmMachine, now_ms: i64) -> AlarmMachine {
    let mut later = AlarmMachine::default();
    later.restore(machine.open().cloned().collect());
    let kept = machine.take_changed_watches(100).into_iter();
    let kept = kept.filter_map(|(key, state)| {
        let text = serde_json::to_string(&state?).expect("JSON");
        Some((key, serde_json::from_str(&text).expect("the same")))
    });
    later.restore_watches(kept.collect::<Vec<_>>(), now_ms);
    later
}

#[test]
fn a_restart_changes_nothing_of_what_alarms_wait_for() {
    let mut machine = AlarmMachine::default();
    let hot = Observation::Value(90.0, HOT);
    let seen = Observation::Seen { after_ms: 600_000 };
    let limit = Limit {
        side: LimitSide::Above,
        raise: 5.0,
        clear: 5.0,
    };
    let fast = Check::Rate {
        limit,
        per_ms: 60_000,
    };
    assert_eq!(machine.take(about("hot", 60_000, &[]), &hot, 0), None);
    assert_eq!(machine.take(about("silent", 0, &[]), &seen, 0), None);
    let first = Observation::Value(1.0, fast);
    assert_eq!(machine.take(about("fast", 0, &[]), &first, 0), None);
    let mut later = restarted(&mut machine, 50_000);
    // 20 in a minute.
    let second = Observation::Value(21.0, fast);
    let change = later.take(about("fast", 0, &[]), &second, 59_000);
    assert_eq!(change.map(|change| change.kind), Some(ChangeKind::Raised));
    assert!(later.tick(59_999).is_empty());
    let raised = later.tick(60_000);
    assert_eq!((raised.len(), &*raised[0].alarm.key.name), (1, "hot"));
    assert!(later.tick(599_999).is_empty());
    let raised = later.tick(600_000);
    assert_eq!((raised.len(), &*raised[0].alarm.key.name), (1, "silent"));
}

#[test]
fn what_time_raises_has_the_hops_of_the_message_that_it_waits_since() {
    let after = |name: &str, for_ms, hops| About {
        hops,
        ..about(name, for_ms, &[])
    };
    let mut machine = AlarmMachine::default();
    let hot = Observation::Value(90.0, HOT);
    let seen = Observation::Seen { after_ms: 60_000 };
    assert_eq!(machine.take(after("hot", 60_000, 4), &hot, 0), None);
    assert_eq!(machine.take(after("hot", 60_000, 0), &hot, 1), None);
    assert_eq!(machine.take(after("silent", 0, 0), &seen, 0), None);
    assert_eq!(machine.take(after("silent", 0, 6), &seen, 0), None);
    let hops = |changes: Vec<AlarmChange>| -> Vec<(String, u8)> {
        let changes = changes.into_iter();
        changes
            .map(|change| (change.alarm.key.name, change.hops))
            .collect()
    };
    let expected = vec![("hot".to_owned(), 4), ("silent".to_owned(), 6)];
    let mut later = restarted(&mut machine, 1);
    assert_eq!(hops(later.tick(60_001)), expected);
    assert_eq!(hops(machine.tick(60_001)), expected);
    let cold = Observation::Value(70.0, HOT);
    let cleared = machine.take(after("hot", 60_000, 8), &cold, 60_002);
    assert_eq!(cleared.map(|change| change.hops), Some(8));
}

#[test]
fn after_a_restart_a_silent_device_has_a_while_to_tell_that_it_lives() {
    let mut machine = AlarmMachine::default();
    let seen = Observation::Seen { after_ms: 100_000 };
    machine.take(about("silent", 0, &[]), &seen, 0);
    let mut later = restarted(&mut machine, 1_000_000);
    assert!(later.tick(1_059_999).is_empty());
    assert_eq!(later.tick(1_060_000).len(), 1);
}

#[test]
fn few_rows_are_written_and_none_stays_behind() {
    let mut machine = AlarmMachine::default();
    let seen = Observation::Seen { after_ms: 40_000 };
    let mut take = |at_ms| {
        machine.take(about("silent", 0, &[]), &seen, at_ms);
        machine.take_changed_watches(100).len()
    };
    assert_eq!((take(0), take(9_000), take(9_999)), (1, 0, 0));
    assert_eq!((take(10_000), take(10_001)), (1, 0));
    machine.retain_rules(|_| false, 20_000);
    let removed = machine.take_changed_watches(100);
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].1, None);
    assert!(machine.take_changed_watches(100).is_empty());
    // A value that raises the alarm at once leaves no row.
    assert!(value(&mut machine, 90.0, 30_000).is_some());
    assert!(machine.take_changed_watches(100).is_empty());
}

#[test]
fn conditions_that_become_true_or_end_are_written_at_once_and_values_are_not() {
    let mut machine = AlarmMachine::default();
    let mut rows = |observation: &Observation, at_ms| {
        machine.take(about("hot", 1_000, &[]), observation, at_ms);
        assert_eq!(machine.has_changed_conditions(), at_ms != 2 && at_ms != 4);
        let rows = machine.take_changed_conditions().into_iter();
        rows.map(|(_, state)| state.map(|state| state.holds_since))
            .collect::<Vec<_>>()
    };
    let (hot, cold) = (Observation::Value(90.0, HOT), Observation::Value(60.0, HOT));
    assert_eq!(rows(&hot, 1), [Some(Some(1))]);
    assert!(rows(&hot, 2).is_empty());
    assert_eq!(rows(&cold, 3), [None]);
    assert!(rows(&cold, 4).is_empty());
    // Nothing is written twice, and an alarm that is raised leaves no row.
    assert_eq!(rows(&hot, 5), [Some(Some(5))]);
    assert!(machine.take_changed_watches(100).is_empty());
    assert_eq!(machine.tick(1_005).len(), 1);
    assert_eq!(machine.take_changed_conditions().len(), 1);
    assert!(machine.take_changed_watches(100).is_empty());
}

#[test]
fn a_clock_that_is_set_neither_raises_an_alarm_nor_delays_it() {
    let (hour, minute) = (3_600_000, 60_000);
    for by_ms in [hour, -hour] {
        let mut machine = AlarmMachine::default();
        let start = 10 * hour;
        let seen = Observation::Seen { after_ms: minute };
        machine.take(about("silent", 0, &[]), &seen, start);
        let hot = Observation::Value(90.0, HOT);
        assert_eq!(machine.take(about("hot", minute, &[]), &hot, start), None);
        machine.clock_was_set(by_ms);
        let set = start + by_ms;
        assert!(machine.tick(set + minute - 1).is_empty());
        let raised = machine.tick(set + minute);
        let names: Vec<&str> = raised.iter().map(|one| &*one.alarm.key.name).collect();
        assert_eq!(names, ["hot", "silent"]);
    }
}
