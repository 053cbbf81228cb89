//! Rules that are written to be expensive, and ordinary ones for comparison.

use serde_json::json;

use crate::alarm::AlarmMachine;
use crate::facts::{Facts, PAYLOAD_BYTES_MAX, RuleInput};
use crate::fuel::{self, UNITS_MAX, UNITS_OF_VALUE};
use crate::tests::{evaluate, message, set, verdict};
use crate::{Action, HOPS_MAX, Memory, MessageRules, RuleResult};

/// Letters a and b in random order.
fn random(bytes: usize) -> String {
    let mut seed = 1_u32;
    let letters = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if seed >> 31 == 0 { 'a' } else { 'b' }
    });
    letters.take(bytes).collect()
}

fn repeated(part: &str, times: usize, by: &str) -> String {
    vec![part; times].join(by)
}

fn is_too_much(verdict: &RuleResult) -> bool {
    matches!(verdict, RuleResult::Failed(why) if why.contains("too much work"))
}

/// Each of these took longer than a second, and one of them 41 s.
#[test]
fn no_expression_is_much_work() {
    let text = random(65_000);
    let list = json!(vec![0; 30_000]).to_string();
    let members: serde_json::Map<String, serde_json::Value> =
        (0..5_000).map(|at| (format!("m{at}"), json!(1))).collect();
    let members = serde_json::Value::Object(members).to_string();
    let patterns = (230..243).map(|at| format!("x.matches('a[ab]{{{at}}}[cd]')"));
    let patterns: Vec<String> = patterns.collect();
    let sum = repeated("payload", 15, "+");
    let copies = format!("size([{}]) > 0", repeated("payload", 60, ","));
    for (when, payload) in [
        (
            format!("[{sum}].exists(x, {})", patterns.join(" || ")),
            &text,
        ),
        ("payload.matches('(a|b)*a(a|b){90}[cd]')".to_owned(), &text),
        (
            "true || payload.matches('a[ab]{150}[cd]')".to_owned(),
            &text,
        ),
        (copies.clone(), &list),
        (copies, &members),
        (
            format!("[payload].all(x, size([{}]) > 0)", repeated("x", 30, ",")),
            &list,
        ),
        (
            format!(
                "size([{0}].map(x, [x, x, x, x])) > 0",
                repeated("payload", 40, ",")
            ),
            &list,
        ),
        (repeated("size(json(payload)) > 0", 40, " && "), &list),
        (repeated("payload == payload", 30, " && "), &list),
        (repeated("!(1.5 in payload)", 40, " && "), &list),
    ] {
        let found = verdict(&when, payload);
        let is_true_at_once = when.starts_with("true");
        // The right side of `||` is not evaluated if the left one is true.
        assert_eq!(is_too_much(&found), !is_true_at_once, "{when}: {found:?}");
    }
}

/// Exceeding the limit is an error even if the value is not needed in the end.
#[test]
fn nothing_hides_that_it_was_too_much() {
    let text = random(65_000);
    assert!(is_too_much(&verdict(
        "payload.matches('a[ab]{150}[cd]') || true",
        &text
    )));
    let all = json!({
        "topics": ["#"],
        "actions": [
            { "publish": { "topic": "x", "payload": repeated("{{ payload }}", 3, "") } },
            { "telemetry": { "device": "d", "key": "k", "value": "payload.matches('a[ab]{60}[cd]')" } },
            { "telemetry": { "device": "d", "key": "k", "value": "payload.matches('a[ab]{60}[cd]')" } },
        ],
    });
    let set = set(&[("r", all)]);
    // Each alone is within the limit; all together exceed it.
    let found = evaluate(&set, &message("t", &text.as_bytes()[..40_000]));
    assert!(is_too_much(&found[0].verdict));
}

#[test]
fn what_is_too_much_is_so_for_the_same_message_always() {
    let list = json!(vec![0; 20_000]).to_string();
    let when = |copies: usize| format!("size([{}]) > 0", repeated("payload", copies, ","));
    let enough = (1..60).find(|copies| is_too_much(&verdict(&when(*copies), &list)));
    let again = (1..60).find(|copies| is_too_much(&verdict(&when(*copies), &list)));
    assert!(enough.is_some_and(|copies| copies > 10), "{enough:?}");
    assert_eq!(enough, again);
}

#[test]
fn ordinary_rules_are_far_from_too_much() {
    let reading =
        r#"{"temp":81.5,"name":"pump-1","list":[1,2,3],"text":"all is well","lat":1,"lon":2}"#;
    let elements: Vec<serde_json::Value> = (0..500)
        .map(|at| json!({ "id": format!("sensor-{at}"), "value": at, "state": "ok" }))
        .collect();
    let many = json!({ "list": elements }).to_string();
    let log = "2026-01-01 12:00:00 pump-7 info: all is well here\n".repeat(1_200);
    assert!(many.len() < PAYLOAD_BYTES_MAX && log.len() < PAYLOAD_BYTES_MAX);
    let mut most = 0;
    for (when, payload, part) in [
        (
            "payload.temp > 80 && payload.name.matches('^pump-[0-9]+$')",
            reading,
            1_000,
        ),
        (
            "payload.list.exists(x, x > 2) && size(payload.text) > 3",
            reading,
            1_000,
        ),
        (
            "inside(payload.lat, payload.lon, [[0, 0], [0, 9], [9, 9], [9, 0]])",
            reading,
            1_000,
        ),
        (
            "payload.text.lower().contains('well') && json(payload) != ''",
            reading,
            1_000,
        ),
        (
            "payload.list.exists(x, x.value > 400 && x.state != 'ok')",
            &many,
            10,
        ),
        (
            "payload.list.filter(x, x.id.matches('^sensor-[0-9]{1,3}$'))[0].value == 0",
            &many,
            8,
        ),
        (
            "payload.contains('error') || payload.startsWith('x')",
            &log,
            100,
        ),
        (
            r"payload.matches('(error|fatal|panic): .* [0-9]{1,4}')",
            &log,
            2,
        ),
        (r"payload.matches('(?i)\\bfailed\\b')", &log, 2),
    ] {
        let _ = verdict(when, payload);
        let used = UNITS_MAX - fuel::left();
        assert!(used < UNITS_MAX / part, "{when}: {used}");
        most = most.max(used);
    }
    assert!(most > 0);
}

fn value(key: &str, value: serde_json::Value) -> Facts<'static> {
    Facts {
        source: RuleInput::Telemetry {
            key: key.to_owned(),
            value,
        },
        ..message("", b"")
    }
}

/// A message may have many values. The cost of all of them is bounded together.
#[test]
fn all_values_of_a_message_share_what_a_rule_may_cost() {
    let text = random(4_000);
    let when = "value.matches('a[ab]{200}[cd]') || true";
    let set = set(&[(
        "r",
        json!({ "telemetry": "k", "when": when, "actions": ["stop"] }),
    )]);
    let mut memory = Memory::default();
    let failed = |set: &MessageRules, memory: &mut Memory| {
        let facts = value("k", json!(text));
        let outcomes = set.evaluate(&facts, &|_| None, memory);
        is_too_much(&outcomes[0].verdict)
    };
    memory.next_message();
    let first = (0..50).position(|_| failed(&set, &mut memory));
    assert!(first.is_some_and(|first| first > 1), "{first:?}");
    // A small value is examined nevertheless, and the next message has the full limit again.
    let small = value("k", json!("a"));
    let outcomes = set.evaluate(&small, &|_| None, &mut memory);
    assert!(matches!(outcomes[0].verdict, RuleResult::Matched(_)));
    assert!(UNITS_OF_VALUE - fuel::left() > 0);
    assert!(failed(&set, &mut memory));
    memory.next_message();
    assert!(!failed(&set, &mut memory));
}

/// Any client can write into a message that rules have passed it on.
#[test]
fn a_message_that_tells_of_many_hops_is_kept_from_being_published_alone() {
    let publish = json!({ "publish": { "topic": "x" } });
    let threshold = json!({ "threshold": { "above": 80 } });
    let set = set(&[
        (
            "publishes",
            json!({ "topics": ["#"], "actions": [publish] }),
        ),
        ("alarm", json!({ "topics": ["#"], "alarm": threshold })),
        (
            "both",
            json!({ "topics": ["#"], "alarm": threshold, "actions": [publish, {
                "command": { "device": "d", "command": "off" } }] }),
        ),
    ]);
    let verdicts = |hops, told_hops| {
        let facts = Facts {
            hops,
            told_hops,
            ..message("t", b"81")
        };
        let outcomes = evaluate(&set, &facts).into_iter();
        outcomes.map(|one| one.verdict).collect::<Vec<_>>()
    };
    let told = verdicts(0, HOPS_MAX);
    assert_eq!(told[0], RuleResult::Loop);
    assert!(matches!(
        &told[1],
        RuleResult::Matched(actions) if matches!(actions[..], [Action::Alarm(_)])
    ));
    let RuleResult::Withheld(actions) = &told[2] else {
        panic!("{told:?}");
    };
    assert!(matches!(
        actions[..],
        [Action::Alarm(_), Action::Command { .. }]
    ));
    let before = verdicts(0, HOPS_MAX - 1);
    assert!(
        before
            .iter()
            .all(|one| matches!(one, RuleResult::Matched(_)))
    );
    let counted_here = verdicts(HOPS_MAX, 0);
    assert!(counted_here.iter().all(|one| *one == RuleResult::Loop));
}

#[test]
fn a_value_that_is_not_finite_is_an_error() {
    for kind in ["threshold", "rate"] {
        let alarm = json!({ kind: { "above": 80, "value": "double(payload)" } });
        let set = set(&[("r", json!({ "topics": ["#"], "alarm": alarm }))]);
        for payload in ["inf", "-inf", "NaN"] {
            let found = evaluate(&set, &message("t", payload.as_bytes()));
            assert!(
                matches!(&found[0].verdict, RuleResult::Failed(why) if why.contains("finite")),
                "{payload}: {found:?}"
            );
        }
    }
    let stores = json!({ "telemetry": { "device": "d", "key": "k", "value": "double(payload)" } });
    let set = set(&[("r", json!({ "topics": ["#"], "actions": [stores] }))]);
    let found = evaluate(&set, &message("t", b"inf"));
    assert!(
        matches!(&found[0].verdict, RuleResult::Failed(_)),
        "{found:?}"
    );
}

#[test]
fn alarms_show_numbers_in_short() {
    let rate = json!({ "rate": { "above": 5, "per_secs": 60 } });
    let set = set(&[("r", json!({ "topics": ["#"], "alarm": rate }))]);
    let mut machine = AlarmMachine::default();
    let mut raised = Vec::new();
    for (at, payload) in [(0, "-1e308"), (1_000, "1e308")] {
        let facts = Facts {
            received_ms: at,
            ..message("t", payload.as_bytes())
        };
        let RuleResult::Matched(actions) = evaluate(&set, &facts).remove(0).verdict else {
            panic!("it matches");
        };
        for action in actions {
            let Action::Alarm(input) = action else {
                panic!("{action:?}");
            };
            raised.extend(input.apply(&mut machine));
        }
    }
    let [change] = &raised[..] else {
        panic!("{raised:?}");
    };
    assert!(change.alarm.value.is_some_and(f64::is_finite));
    assert!(change.alarm.message.contains("1e308"), "{change:?}");
    assert!(change.alarm.message.len() < 120, "{change:?}");
}
