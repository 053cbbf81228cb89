//! Arbitrary expressions and payloads through the rules: reading and evaluating them ends soon, and
//! what comes out is bounded.

use std::sync::Arc;

use martlet_rules::{
    Action, AlarmMachine, Definition, DeviceFacts, Evaluator, Facts, Memory, MessageRule,
    MessageRules, RuleInput, RuleResult, TaggedRule,
};
use serde_json::json;

use crate::choices::Choices;

/// Parts of generated expressions. Texts that are no expressions come from arbitrary bytes.
const PARTS: &[&str] = &[
    "payload",
    "payload",
    "payload.a",
    "payload.l",
    "previous",
    "topic",
    "levels",
    "device",
    "device.tags",
    "time",
    "key",
    "value",
    "event",
    "x",
    "0",
    "-1",
    "1.5",
    "1e308",
    "1u",
    "9223372036854775807",
    "-9223372036854775808",
    "'x'",
    "\"\\\"\"",
    "b'\\xff'",
    "r'\\'",
    "true",
    "null",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " > ",
    " == ",
    " != ",
    " in ",
    " && ",
    " || ",
    " ? ",
    " : ",
    "!",
    "-",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ", ",
    ".",
    ": ",
    "size(",
    "int(",
    "double(",
    "string(",
    "bytes(",
    "number(",
    "json(",
    "lower(",
    "abs(",
    "round(",
    "distance(1, 2, ",
    "inside(1, 1, ",
    ".all(x, x > 0)",
    ".exists(x, x == 'x')",
    ".map(x, x)",
    ".map(x, x + x)",
    ".filter(x, x != 0)",
    ".exists_one(x, x > 1)",
    ".matches('(a*)*b')",
    ".matches('",
    ".startsWith(",
    ".contains('x')",
    "[0]",
    "[payload]",
    "['a']",
    "has(payload.a)",
    "dyn(",
    "type(",
    "timestamp('9999-12-31T23:59:59Z')",
    "duration('999999999h')",
];

/// Parts of generated payloads.
const PAYLOADS: &[&str] = &[
    "0",
    "-1",
    "1e308",
    "-1e308",
    "1e400",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "0.1",
    "true",
    "null",
    "\"\"",
    "\"x\"",
    "\"\\\"\\\\\"",
    "\"\\u0000\"",
    "[]",
    "[1,2]",
    "[[1,2],[3,4],[5,6]]",
    "{}",
    "{\"a\":1}",
    "{\"a\":{\"a\":[1]},\"l\":[1,\"x\"]}",
    "{\"l\":[0,0,0,0,0,0,0,0,0]}",
    "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]",
    "not json",
];

/// Bytes of all texts that follow from a message, at most: each of a template, and there are 5.
const TEXTS_MAX: usize = 5 * 300 * 1024;

fn expression(choices: &mut Choices<'_>) -> String {
    if choices.one_of(4) {
        return String::from_utf8_lossy(choices.bytes(120)).into_owned();
    }
    let parts = 1 + choices.below(14);
    (0..parts).map(|_| choices.pick(PARTS)).collect()
}

fn payload(choices: &mut Choices<'_>) -> Vec<u8> {
    match choices.below(8) {
        0 => choices.bytes(200).to_vec(),
        1 => {
            let part = choices.pick(PAYLOADS);
            let times = 1 << choices.below(14);
            let list = vec![part; (60_000 / part.len()).min(times)];
            format!("[{}]", list.join(",")).into_bytes()
        }
        2 => format!("\"{}\"", "\\\"".repeat(1 << choices.below(15))).into_bytes(),
        _ => choices.pick(PAYLOADS).into(),
    }
}

fn definition(choices: &mut Choices<'_>) -> Definition {
    let when = expression(choices);
    let mut rule = json!({ "topics": ["#"], "when": when, "actions": ["stop"] });
    if choices.one_of(2) {
        let of = expression(choices);
        rule["when"] = json!("true");
        rule["actions"] = json!([
            { "publish": { "topic": "a/{{ topic }}", "payload": format!("{{{{ {of} }}}}") } },
            { "telemetry": { "device": "d", "key": "k", "value": of } },
        ]);
    }
    if choices.one_of(3) {
        let kind = match choices.below(3) {
            0 => json!({ "threshold": { "value": when, "above": 1 } }),
            1 => json!({ "rate": { "value": when, "above": 1 } }),
            _ => json!({ "condition": { "raise_when": when } }),
        };
        rule["alarm"] = kind;
    }
    if choices.one_of(4) {
        rule["device"] = json!(format!("{{{{ {} }}}}", expression(choices)));
    }
    serde_json::from_value(rule).unwrap_or_default()
}

/// Reads a rule of these choices, and has it look at messages.
pub fn rules_evaluate(data: &[u8]) {
    let mut choices = Choices::new(data);
    let evaluator = Evaluator::default();
    let Ok(rule) = MessageRule::new(&evaluator, "r", definition(&mut choices)) else {
        return;
    };
    let rule = Arc::new(rule);
    let set = MessageRules::new(evaluator, vec![TaggedRule { tenant: 0, rule }]);
    let (mut memory, mut machine) = (Memory::default(), AlarmMachine::default());
    for at in 1..4_i64 {
        let payload = payload(&mut choices);
        let facts = Facts {
            tenant: 0,
            topic: "plant/7/temperature",
            payload: &payload,
            source: RuleInput::Message,
            device: None,
            time_ms: at * 1_000,
            received_ms: at * 1_000,
            hops: 0,
            told_hops: 0,
            by_rule: None,
        };
        memory.next_message();
        set.devices_of(&facts);
        let lookup = |id: &str| {
            Some(DeviceFacts {
                id: id.to_owned(),
                device_type: "pump".to_owned(),
                tags: vec!["north".to_owned()],
            })
        };
        for outcome in set.evaluate(&facts, &lookup, &mut memory) {
            match outcome.verdict {
                RuleResult::Matched(actions) | RuleResult::Withheld(actions) => {
                    follow(actions, &mut machine);
                }
                RuleResult::Failed(why) | RuleResult::Missing(why) => {
                    assert!(why.len() < 2_000, "an error of {} bytes", why.len());
                }
                RuleResult::Unmatched
                | RuleResult::OtherDevice
                | RuleResult::Loop
                | RuleResult::Stopped(_) => {}
            }
        }
        machine.tick(at * 1_000);
    }
}

fn follow(actions: Vec<Action>, machine: &mut AlarmMachine) {
    let mut bytes = 0;
    for action in actions {
        match action {
            Action::Publish { topic, payload, .. } => bytes += topic.len() + payload.len(),
            Action::Alarm(input) => {
                let change = input.apply(machine);
                bytes += change.map_or(0, |change| change.alarm.message.len());
            }
            _ => {}
        }
    }
    assert!(bytes < TEXTS_MAX, "{bytes} bytes follow from a message");
}
