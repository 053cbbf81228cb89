//! Rules and messages, and rules that loop, explode or divide by zero.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use crate::facts::{DeviceFacts, Facts, PAYLOAD_BYTES_MAX, RuleInput};
use crate::{
    Action, Definition, Evaluator, HOPS_MAX, Memory, MessageRule, MessageRules, Outcome,
    RuleResult, TaggedRule,
};

pub(crate) fn set(rules: &[(&str, serde_json::Value)]) -> MessageRules {
    let evaluator = Evaluator::default();
    let rules = rules.iter().map(|(name, definition)| {
        let definition: Definition =
            serde_json::from_value(definition.clone()).expect("a definition");
        let rule = MessageRule::new(&evaluator, name, definition).expect("a rule");
        TaggedRule {
            tenant: 0,
            rule: Arc::new(rule),
        }
    });
    let rules = rules.collect();
    MessageRules::new(evaluator, rules)
}

fn refused(definition: serde_json::Value) -> String {
    let definition: Definition = serde_json::from_value(definition).expect("a definition");
    let refused = MessageRule::new(&Evaluator::default(), "r", definition);
    refused.expect_err("it is refused").to_string()
}

pub(crate) fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Facts<'a> {
    Facts {
        tenant: 0,
        topic,
        payload,
        source: RuleInput::Message,
        device: None,
        time_ms: 1_000,
        received_ms: 1_000,
        hops: 0,
        told_hops: 0,
        by_rule: None,
    }
}

pub(crate) fn evaluate(set: &MessageRules, facts: &Facts<'_>) -> Vec<Outcome> {
    set.evaluate(facts, &|_| None, &mut Memory::default())
}

pub(crate) fn verdict(when: &str, payload: &str) -> RuleResult {
    let set = set(&[(
        "r",
        json!({ "topics": ["#"], "when": when, "actions": ["stop"] }),
    )]);
    let outcomes = evaluate(&set, &message("plant/7/temperature", payload.as_bytes()));
    outcomes.into_iter().next().expect("it matches").verdict
}

fn is_true(when: &str, payload: &str) -> bool {
    match verdict(when, payload) {
        RuleResult::Matched(_) => true,
        RuleResult::Unmatched => false,
        other => panic!("{when}: {other:?}"),
    }
}

#[test]
fn the_value_of_another_type_is_named() {
    let begin = "a value has another type than the expression expects: ";
    for (when, payload, said) in [
        (
            "payload > 80",
            "12 cm",
            "payload is the text \"12 cm\", and is compared with a number",
        ),
        (
            "payload.a.level * 2 > 10",
            r#"{"a":{"level":"high"}}"#,
            "payload.a.level is the text \"high\", and is combined with a number",
        ),
        (
            "payload.name == 'x' || payload.temp > 1",
            r#"{"name":"y","temp":true}"#,
            "payload.temp is true, and is compared with a number",
        ),
        (
            "payload.password > 1",
            r#"{"password":"known"}"#,
            "payload.password is a text, and is compared with a number",
        ),
    ] {
        let expected = RuleResult::Failed(format!("{begin}{said}"));
        assert_eq!(verdict(when, payload), expected, "{when}");
    }
    let long = "x".repeat(1_000);
    let RuleResult::Failed(why) = verdict("payload > 80", &long) else {
        panic!("it has not failed");
    };
    assert!(why.len() < 200, "{why}");
}

#[test]
fn conditions_look_at_topic_and_payload() {
    for when in [
        "payload.temp > 80",
        "payload.temp == 81",
        "payload.temp * 2 + 1 > 160.5",
        "10 / 4 == 2",
        "payload.temp / 2 == 40.5",
        "levels[1] == '7' && topic.startsWith('plant/')",
        "has(payload.temp) && !has(payload.hum)",
        "payload.name.matches('^pump-[0-9]+$')",
        "matches(payload.name, 'pump')",
        "payload.list.exists(x, x > 2)",
        "payload.list.all(x, x + 1 > 1)",
        "size(payload.list.filter(x, x > 1)) == 2",
        "payload.list.map(x, x * 2)[2] == 6",
        "'temp' in payload",
        "time == 1000",
        "payload.name.lower() == 'pump-1'",
        "abs(0 - 3) == 3 && round(2.5) == 3",
        "number('2.5') == 2.5",
        "json(payload.name) == '\"pump-1\"'",
        "payload.temp > 80 ? true : false",
    ] {
        let payload = r#"{"temp":81,"name":"pump-1","list":[1,2,3]}"#;
        assert!(is_true(when, payload), "{when}");
    }
    assert!(is_true("payload > 21", "21.5"));
    assert!(is_true("payload == 'on'", "on"));
    assert!(is_true(
        "distance(52.52, 13.40, payload.lat, payload.lon) > 800000",
        r#"{"lat":48.86,"lon":2.35}"#
    ));
    let yard = "inside(payload.lat, payload.lon, [[0.0, 0.0], [0.0, 2.0], [2.0, 2.0], [2.0, 0.0]])";
    assert!(is_true(yard, r#"{"lat":1,"lon":1}"#));
    assert!(!is_true(yard, r#"{"lat":3,"lon":1}"#));
}

#[test]
fn a_missing_field_is_no_error_and_division_by_zero_is_one() {
    assert_eq!(
        verdict("payload.temp > 80", r#"{"hum":1}"#),
        RuleResult::Missing("temp".to_owned())
    );
    assert_eq!(
        verdict("previous == 1", "1"),
        RuleResult::Missing("previous".to_owned())
    );
    for when in [
        "1 / 0 == 1",
        "payload.a / payload.b > 1",
        "payload.a % 0 == 1",
    ] {
        assert_eq!(
            verdict(when, r#"{"a":1,"b":0}"#),
            RuleResult::Failed("division by zero".to_owned()),
            "{when}"
        );
    }
    assert!(matches!(
        verdict("payload.a > 'x'", r#"{"a":1}"#),
        RuleResult::Failed(_)
    ));
    assert!(matches!(
        verdict("payload.a", r#"{"a":1}"#),
        RuleResult::Failed(_)
    ));
}

#[test]
fn what_is_not_bounded_is_refused() {
    let nested = "payload.a.all(x, x.b.exists(y, y > 1))";
    let twice = "payload.a.all(x, x > 1) && payload.b.all(x, x > 1)";
    let inner = "payload.a.exists(x, x in payload.a)";
    let sums = ["payload"; 40].join(" + ");
    let deep = format!("{}1{}", "(".repeat(40), ")".repeat(40));
    let long = format!("payload == '{}'", "x".repeat(5_000));
    let chain = ["!"; 600].join("");
    for when in [
        nested,
        twice,
        inner,
        &sums,
        &deep,
        &long,
        &chain,
        "payload.matches(topic)",
        "payload.matches('(')",
        "payload.matches('(a{1000}){1000}')",
        "foo > 1",
        "payload.foo()",
        "size(payload, 1) == 1",
        "distance(1, 2) > 1",
        "payload >",
        "",
        "@add(1, 2) == 3",
    ] {
        let definition = json!({ "topics": ["#"], "when": when, "actions": ["stop"] });
        let why = refused(definition);
        assert!(why.starts_with("when: "), "{when}: {why}");
        assert!(why.len() < 700, "{why}");
    }
}

#[test]
fn texts_do_not_explode() {
    let text = "x".repeat(30_000);
    let list: Vec<String> = vec!["y".repeat(60); 500];
    let payload = json!({ "t": text, "l": list }).to_string();
    assert!(payload.len() <= PAYLOAD_BYTES_MAX);
    let sums = ["payload.t"; 16].join(" + ");
    for when in [
        format!("size({sums}) > 1"),
        "size(payload.l.map(x, x)) == 500".to_owned(),
        "payload.t.matches('(x+x+)+y')".to_owned(),
        "payload.l.exists(x, x.matches('(y*)*z'))".to_owned(),
    ] {
        let _ = verdict(&when, &payload);
    }
    let many: Vec<u32> = (0..2_000).collect();
    let many = json!(many).to_string();
    assert!(matches!(
        verdict("payload.all(x, x >= 0)", &many),
        RuleResult::Failed(_)
    ));
    assert!(matches!(
        verdict("payload.map(x, string(x) + 'x')[0] == 'x'", "[1]"),
        RuleResult::Failed(_)
    ));
    let large = format!("\"{}\"", "x".repeat(PAYLOAD_BYTES_MAX));
    assert!(matches!(
        verdict("payload == 'x'", &large),
        RuleResult::Failed(_)
    ));
}

/// Each `json` doubles the characters that it escapes, and each `+` its operands.
#[test]
fn what_grows_with_each_use_is_bounded() {
    let nested = format!("size({}payload{}) > 0", "json(".repeat(20), ")".repeat(20));
    let quotes = json!("\"".repeat(20_000)).to_string();
    let sums = format!("size({}) > 0", ["payload"; 17].join(" + "));
    let long = json!("x".repeat(65_000)).to_string();
    let list = json!(vec![0; 30_000]).to_string();
    let copies = format!("size(json([{}])) > 0", ["payload"; 60].join(", "));
    for (when, payload) in [
        (&nested, &quotes),
        (&sums, &long),
        (&sums, &list),
        (&copies, &long),
    ] {
        let found = verdict(when, payload);
        let RuleResult::Failed(why) = &found else {
            panic!("{when}: {found:?}");
        };
        assert!(why.contains("at most"), "{when}: {why}");
    }
}

/// Numbers at the ends of their ranges, invalid texts and deep JSON have a result.
#[test]
fn odd_values_have_a_verdict() {
    let deep = format!("{}1{}", "[".repeat(120), "]".repeat(120));
    let payloads = [
        "-9223372036854775808",
        "9223372036854775807",
        "18446744073709551615",
        "1e308",
        "-1e308",
        "0",
        "\"\"",
        "\"2026-99-99T99:99:99Z\"",
        "[]",
        "{}",
        "null",
        deep.as_str(),
    ];
    let expressions = [
        "-payload == 1",
        "payload * payload > 0",
        "payload - 1 > payload",
        "payload % -1 == 0",
        "payload / -1 > 0",
        "abs(payload) >= 0.0",
        "round(payload) == 0.0",
        "int(payload) == 0",
        "int(string(payload)) == 0",
        "double(payload) == 0.0",
        "number(string(payload)) == 0.0",
        "payload[0] == 1",
        "payload[-1] == 1",
        "payload[9223372036854775807] == 1",
        "payload[1.5] == 1",
        "payload['x'] == 1",
        "size(payload) == 0",
        "payload in [payload]",
        "[payload] == [payload]",
        "{'a': payload}.a == payload",
        "{payload: 1}[payload] == 1",
        "distance(payload, payload, payload, payload) >= 0.0",
        "inside(payload, payload, [[payload, 0], [1, 1], [0, 1]])",
        "inside(1, 1, payload)",
        "payload.all(x, x > 0)",
        "payload.map(x, -x)[0] == 0",
        "string(payload).matches('.*')",
        "bytes(payload) == b'x'",
        "json(payload) == ''",
        "levels[int(payload)] == 'x'",
    ];
    for when in expressions {
        for payload in payloads {
            let _ = verdict(when, payload);
        }
    }
    for when in [
        "duration('1000000000000h') > 1",
        "timestamp('9999999-01-01T00:00:00Z') > 1",
    ] {
        let definition = json!({ "topics": ["#"], "when": when, "actions": ["stop"] });
        let why = refused(definition);
        assert!(why.contains("there is no function"), "{when}: {why}");
    }
}

/// Makes the second rule panic.
struct SecondPanics;

impl crate::Guard for SecondPanics {
    fn run(&self, rule: usize, part: &mut dyn FnMut()) -> Result<(), String> {
        match rule {
            1 => Err("it panicked".to_owned()),
            _ => {
                part();
                Ok(())
            }
        }
    }
}

#[test]
fn a_rule_that_panics_fails_alone() {
    let evaluator = Evaluator::default();
    let rules = ["a", "b", "c"].map(|name| {
        let definition = json!({
            "topics": ["#"], "device": "{{ topic }}", "when": "device.id == 't'",
            "actions": [{ "publish": { "topic": "x" } }],
        });
        let definition = serde_json::from_value(definition).expect("a definition");
        let rule = MessageRule::new(&evaluator, name, definition).expect("a rule");
        let rule = Arc::new(rule);
        TaggedRule { tenant: 0, rule }
    });
    let set = MessageRules::guarded(evaluator, rules.into(), Box::new(SecondPanics));
    let facts = message("t", b"1");
    assert_eq!(set.devices_of(&facts), ["t"]);
    let verdicts: Vec<RuleResult> = evaluate(&set, &facts)
        .into_iter()
        .map(|outcome| outcome.verdict)
        .collect();
    assert!(matches!(verdicts[0], RuleResult::Matched(_)));
    assert_eq!(verdicts[1], RuleResult::Failed("it panicked".to_owned()));
    assert!(matches!(verdicts[2], RuleResult::Matched(_)));
}

#[test]
fn actions_are_made_of_the_message() {
    let set = set(&[(
        "hot",
        json!({
            "topics": ["plant/+/temperature"],
            "when": "payload > 80",
            "actions": [
                { "publish": {
                    "topic": "alerts/{{ levels[1] }}",
                    "payload": "{\"t\": {{ payload }}, \"of\": {{ json(topic) }}}",
                    "qos": 2, "retain": true,
                } },
                { "publish": { "topic": "copy" } },
                { "command": { "device": "fan-{{levels[1]}}", "command": "on" } },
                { "telemetry": { "device": "d", "key": "f", "value": "payload * 1.8 + 32" } },
                "stop",
                { "publish": { "topic": "never" } },
            ],
        }),
    )]);
    let outcomes = evaluate(&set, &message("plant/7/temperature", b"90"));
    let [
        Outcome {
            verdict: RuleResult::Matched(actions),
            ..
        },
    ] = &outcomes[..]
    else {
        panic!("{outcomes:?}");
    };
    assert_eq!(actions.len(), 4);
    let Action::Publish {
        topic,
        payload,
        retain: true,
        ..
    } = &actions[0]
    else {
        panic!("{actions:?}");
    };
    assert_eq!(topic, "alerts/7");
    assert_eq!(payload, br#"{"t": 90, "of": "plant/7/temperature"}"#);
    let Action::Telemetry { value, .. } = &actions[3] else {
        panic!("{actions:?}");
    };
    assert_eq!(*value, json!(194));
    assert!(evaluate(&set, &message("plant/7/humidity", b"90")).is_empty());
    assert!(evaluate(&set, &message("$plant/7/temperature", b"90")).is_empty());
}

#[test]
fn stop_keeps_later_rules_from_a_message() {
    let rule = |when: &str, action: serde_json::Value| json!({ "topics": ["a/#"], "when": when, "actions": [action] });
    let set = set(&[
        ("first", rule("payload == 1", json!("stop"))),
        (
            "second",
            rule("true", json!({ "publish": { "topic": "b" } })),
        ),
    ]);
    let outcomes = evaluate(&set, &message("a", b"1"));
    assert_eq!(outcomes.len(), 2);
    assert_eq!(outcomes[1].verdict, RuleResult::Stopped(outcomes[0].rule));
    let outcomes = evaluate(&set, &message("a/x", b"2"));
    assert_eq!(outcomes.len(), 2);
    assert_eq!(outcomes[0].verdict, RuleResult::Unmatched);
}

#[test]
fn loops_end() {
    let rule = |own: bool| json!({ "topics": ["a"], "own": own, "actions": [{ "publish": { "topic": "a" } }] });
    let facts = |hops, by_rule| Facts {
        hops,
        by_rule,
        ..message("a", b"")
    };
    let set_of = |own| set(&[("r", rule(own))]);
    // It does not examine its own message.
    assert!(evaluate(&set_of(false), &facts(1, Some("r"))).is_empty());
    assert_eq!(evaluate(&set_of(false), &facts(1, Some("other"))).len(), 1);
    // If it examines its own messages, it loops only a few times.
    let mut hops = 0;
    loop {
        let outcomes = evaluate(&set_of(true), &facts(hops, Some("r")));
        match &outcomes[0].verdict {
            RuleResult::Matched(_) => hops += 1,
            RuleResult::Loop => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(hops, HOPS_MAX);
}

#[test]
fn rules_look_at_devices_and_the_value_before() {
    let set = set(&[(
        "jump",
        json!({
            "topics": ["d/+"], "device": "{{ levels[1] }}", "device_type": "pump",
            "when": "'north' in device.tags && payload - previous > 5",
            "actions": [{ "alarm": { "raise": "jump", "message": "{{ device.id }}" } }],
        }),
    )]);
    let lookup = |id: &str| {
        Some(DeviceFacts {
            id: id.to_owned(),
            device_type: if id == "p1" { "pump" } else { "fan" }.to_owned(),
            tags: vec!["north".to_owned()],
        })
    };
    let mut memory = Memory::default();
    let mut take = |topic: &str, payload: &[u8]| {
        let facts = message(topic, payload);
        let mut outcomes = set.evaluate(&facts, &lookup, &mut memory);
        outcomes.remove(0).verdict
    };
    assert_eq!(set.devices_of(&message("d/p1", b"1")), ["p1"]);
    assert_eq!(
        take("d/p1", b"1"),
        RuleResult::Missing("previous".to_owned())
    );
    assert_eq!(take("d/p1", b"2"), RuleResult::Unmatched);
    let RuleResult::Matched(actions) = take("d/p1", b"9") else {
        panic!("it matches");
    };
    let Action::Alarm(input) = &actions[0] else {
        panic!("{actions:?}");
    };
    assert_eq!(input.key().subject, "p1");
    assert_eq!(take("d/f1", b"9"), RuleResult::OtherDevice);
}

#[test]
fn telemetry_and_events_are_sources() {
    let set = set(&[
        (
            "warm",
            json!({ "telemetry": "temp", "when": "value > 20 && key == 'temp'", "actions": ["stop"] }),
        ),
        (
            "gone",
            json!({ "events": ["disconnected"], "when": "event.client_id == 'c'", "actions": ["stop"] }),
        ),
    ]);
    let value = Facts {
        source: RuleInput::Telemetry {
            key: "temp".to_owned(),
            value: json!(21.5),
        },
        ..message("", b"")
    };
    assert!(matches!(
        evaluate(&set, &value)[0].verdict,
        RuleResult::Matched(_)
    ));
    let event = Facts {
        source: RuleInput::Event("disconnected"),
        ..message("", br#"{"client_id":"c"}"#)
    };
    assert!(matches!(
        evaluate(&set, &event)[0].verdict,
        RuleResult::Matched(_)
    ));
    assert_eq!(set.events(), ["disconnected"]);
    assert_eq!(set.sources()[&0].len(), 2);
}

#[test]
fn definitions_say_which_key_is_wrong() {
    for (definition, key) in [
        (json!({ "actions": ["stop"] }), "topics"),
        (
            json!({ "topics": ["a"], "events": ["x"], "actions": ["stop"] }),
            "topics",
        ),
        (json!({ "topics": ["a#"], "actions": ["stop"] }), "topics"),
        (
            json!({ "topics": ["$share/g/a"], "actions": ["stop"] }),
            "topics",
        ),
        (json!({ "topics": ["a"] }), "actions"),
        (
            json!({ "topics": ["a"], "actions": [{ "publish": { "topic": "a/#" } }] }),
            "actions[0].publish.topic",
        ),
        (
            json!({ "topics": ["a"], "actions": [{ "publish": { "topic": "a", "qos": 3 } }] }),
            "actions[0].publish.qos",
        ),
        (
            json!({ "topics": ["a"], "actions": [{ "publish": { "topic": "{{ x" } }] }),
            "actions[0].publish.topic",
        ),
        (json!({ "topics": ["a"], "alarm": {} }), "alarm"),
        (
            json!({ "topics": ["a"], "alarm": { "threshold": { "above": 1, "below": 2 } } }),
            "alarm.threshold.above",
        ),
        (
            json!({ "topics": ["a"], "alarm": { "threshold": { "above": 1, "clear": 2 } } }),
            "alarm.threshold.clear",
        ),
        (
            json!({ "topics": ["a"], "alarm": { "no_data": {} } }),
            "alarm.no_data.after_secs",
        ),
    ] {
        let why = refused(definition);
        assert!(why.starts_with(&format!("{key}: ")), "{key}: {why}");
    }
    // In a URL they would name another resource.
    for name in [".", "..", "a/b", ""] {
        let definition = serde_json::from_value(json!({ "topics": ["a"], "actions": ["stop"] }));
        let definition = definition.expect("a definition");
        let refused = MessageRule::new(&Evaluator::default(), name, definition);
        assert!(refused.is_err_and(|error| error.key == "name"), "{name}");
    }
    let unknown = json!({ "topics": ["a"], "then": [] });
    assert!(serde_json::from_value::<Definition>(unknown).is_err());
}

#[test]
fn what_is_no_expression_is_named_without_the_parsers_tokens() {
    for (when, said) in [
        ("payload >> 3", "unexpected '>'"),
        ("payload.a ==", "unexpected end of the expression"),
        ("payload.t = 5", "; write == to compare"),
        ("payload == '=' && topic='a'", "; write == to compare"),
        ("payload => 3", "; write >= to compare"),
        (
            "payload[",
            "line:column 1:9: unexpected end of the expression",
        ),
        ("payload[1", "line:column 1:10: "),
        ("payload.", "line:column 1:9: unexpected '.'"),
        (
            "payload.a(",
            "line:column 1:11: unexpected end of the expression",
        ),
        ("{", "line:column 1:2: "),
        ("payload ? 1", "line:column 1:12: "),
        ("payload == 'a", "line:column 1:12: unexpected "),
        ("'\\u12' == payload", "line:column 1:"),
    ] {
        let why = refused(json!({ "topics": ["#"], "when": when, "actions": ["stop"] }));
        assert!(why.contains(said), "{why}");
        assert!(!why.contains("expecting"), "{why}");
        assert_eq!(why.contains("; write "), said.contains("; write "), "{why}");
    }
}

proptest! {
    /// Parsing any text terminates, and so does its evaluation.
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}", payload in "\\PC{0,40}") {
        let definition = json!({ "topics": ["#"], "when": text, "actions": ["stop"] });
        let definition: Definition = serde_json::from_value(definition).expect("a definition");
        let evaluator = Evaluator::default();
        if let Ok(rule) = MessageRule::new(&evaluator, "r", definition) {
            let rule = TaggedRule { tenant: 0, rule: Arc::new(rule) };
            let set = MessageRules::new(evaluator, vec![rule]);
            evaluate(&set, &message("a", payload.as_bytes()));
        }
    }

    /// Expressions combined from all parts terminate too.
    #[test]
    fn expressions_of_all_parts_end(parts in proptest::collection::vec(0_usize..24, 1..12)) {
        const PARTS: [&str; 24] = [
            "payload", ".a", ".l", " + ", " - ", " / ", " * ", " % ", "0", "1.5", "'x'", " > ",
            " == ", " && ", " || ", "!", "(", ")", "size(", ".exists(x, x > 1)", "[0]", "[1, 2]",
            ".map(x, x)", ".matches('x*')",
        ];
        let text: String = parts.iter().map(|at| PARTS[*at]).collect();
        let definition = json!({ "topics": ["#"], "when": text, "actions": ["stop"] });
        let definition: Definition = serde_json::from_value(definition).expect("a definition");
        let evaluator = Evaluator::default();
        if let Ok(rule) = MessageRule::new(&evaluator, "r", definition) {
            let rule = TaggedRule { tenant: 0, rule: Arc::new(rule) };
            let set = MessageRules::new(evaluator, vec![rule]);
            evaluate(&set, &message("a", br#"{"a":1,"l":[1,"x"]}"#));
            evaluate(&set, &message("a", b"\xff"));
        }
    }
}
