//! Payloads of all forms, their times and policies, and what is rejected.

use proptest::prelude::*;

use super::*;
use crate::Value;

/// 2026-03-01T12:00:00Z, µs.
const RECEIVED: i64 = 1_772_366_400_000_000;
const SECOND: i64 = 1_000_000;

fn decoded(decoder: &Decoder, payload: &str) -> Vec<(String, i64, bool, Value)> {
    let decoded = decoder.decode(payload.as_bytes(), RECEIVED).unwrap();
    let each = decoded.readings.into_iter();
    each.map(|one| (one.key, one.time, one.is_own_time, one.value))
        .collect()
}

fn rejected(decoder: &Decoder, payload: &str) -> &'static str {
    let rejection = decoder.decode(payload.as_bytes(), RECEIVED).unwrap_err();
    assert!(REASONS.contains(&rejection.reason()), "{rejection}");
    rejection.reason()
}

fn own(key: &str, time: i64, value: Value) -> (String, i64, bool, Value) {
    (key.to_owned(), time, true, value)
}

fn given(key: &str, time: i64, value: Value) -> (String, i64, bool, Value) {
    (key.to_owned(), time, false, value)
}

#[test]
fn a_flat_object_has_typed_values_and_never_the_secret() {
    let payload = r#"{"api_key": "s3", "t": 21.5, "n": 7, "ok": true, "s": "on", "x": null,
        "at": {"lat": 1, "api_key": "s4"}, "ts": 1772366399}"#;
    let time = RECEIVED - SECOND;
    let mut found = decoded(&Decoder::default(), payload);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        own("at", time, Value::Json(r#"{"lat":1}"#.into())),
        own("n", time, Value::Integer(7)),
        own("ok", time, Value::Bool(true)),
        own("s", time, Value::Text("on".into())),
        own("t", time, Value::Number(21.5)),
    ];
    assert_eq!(found, expected);
}

#[test]
fn data_and_metadata_are_told_apart() {
    let payload = r#"{"data": {"t": 1}, "metadata": {"fw": "2.1"}, "timestamp":
        "2026-03-01T13:00:00+01:00", "api_key": "s3", "other": 5}"#;
    let expected = [
        own("t", RECEIVED, Value::Integer(1)),
        own("meta_fw", RECEIVED, Value::Text("2.1".into())),
    ];
    assert_eq!(decoded(&Decoder::default(), payload), expected);
}

#[test]
fn arrays_of_all_forms() {
    let payload = r#"[{"ts": 1772366399000, "values": {"a": 1}}, {"a": 2}, {"a": 3}]"#;
    let expected = [
        own("a", RECEIVED - SECOND, Value::Integer(1)),
        // Without times in the payload they stay separate.
        given("a", RECEIVED + 1, Value::Integer(2)),
        given("a", RECEIVED + 2, Value::Integer(3)),
    ];
    assert_eq!(decoded(&Decoder::default(), payload), expected);
}

#[test]
fn each_line_of_json_is_by_itself() {
    let decoder = Decoder {
        format: Format::JsonLines,
        ..Decoder::default()
    };
    let payload = "{\"a\": 1}\n\n[{\"a\": 2}]\r\n";
    let expected = [
        given("a", RECEIVED, Value::Integer(1)),
        given("a", RECEIVED + 1, Value::Integer(2)),
    ];
    assert_eq!(decoded(&decoder, payload), expected);
    let rejection = decoder.decode(b"{\"a\": 1}\n{", RECEIVED).unwrap_err();
    assert!(rejection.to_string().contains("line 2"), "{rejection}");
}

#[test]
fn the_magnitude_of_a_number_or_the_rule_decides_its_unit() {
    let time = |decoder: &Decoder, text: &str| {
        decoded(decoder, &format!(r#"{{"timestamp": {text}, "a": 1}}"#))[0].1
    };
    let auto = Decoder::default();
    let expected = RECEIVED - SECOND / 2;
    assert_eq!(time(&auto, "1772366399.5"), expected);
    assert_eq!(time(&auto, "1772366399500"), expected);
    assert_eq!(time(&auto, "1772366399500000"), expected);
    assert_eq!(time(&auto, "1772366399500000000"), expected);
    assert_eq!(time(&auto, "\"1772366399500\""), expected);
    assert_eq!(time(&auto, "\"2026-03-01T11:59:59.5Z\""), expected);
    // Python writes times without an offset.
    assert_eq!(time(&auto, "\"2026-03-01T11:59:59.500000\""), expected);
    let millis = Decoder {
        time_unit: TimeUnit::Millis,
        ..Decoder::default()
    };
    assert_eq!(time(&millis, "5"), 5_000);
}

#[test]
fn a_rule_names_the_member_with_the_time() {
    let decoder = |unit| Decoder {
        time_member: Some("Time".to_owned()),
        time_unit: unit,
        ..Decoder::default()
    };
    for (payload, unit) in [
        (r#"{"Time": "2024-01-01T00:00:00", "a": 1}"#, TimeUnit::Auto),
        (r#"{"Time": "2024-01-01 00:00:00", "a": 1}"#, TimeUnit::Auto),
        (r#"{"Time": 1704067200, "a": 1}"#, TimeUnit::Auto),
        (r#"{"Time": 1704067200000, "a": 1}"#, TimeUnit::Millis),
    ] {
        let expected = [own("a", 1_704_067_200_000_000, Value::Integer(1))];
        assert_eq!(decoded(&decoder(unit), payload), expected, "{payload}");
    }
    // Another member is a value then.
    let found = decoded(&decoder(TimeUnit::Auto), r#"{"ts": 7}"#);
    assert_eq!(found[0].0, "ts");
}

#[test]
fn policies_of_missing_and_skewed_times() {
    let mut decoder = Decoder {
        missing_time: MissingTime::Reject,
        ahead_max: Some(60 * SECOND),
        behind_max: Some(3_600 * SECOND),
        ..Decoder::default()
    };
    assert_eq!(rejected(&decoder, r#"{"a": 1}"#), "no_time");
    for (decoder, format, said) in [
        (
            &decoder,
            Format::Json,
            "member timestamp or ts, since missing_time is \"reject\"",
        ),
        (
            &decoder.of_past(),
            Format::Json,
            "member timestamp or ts, since each value of the past",
        ),
        (
            &decoder.of_past(),
            Format::Line,
            "add it at the end of the line, since each value",
        ),
    ] {
        let payload = match format {
            Format::Line => "m a=1",
            _ => r#"{"a": 1}"#,
        };
        let of_format = Decoder {
            format,
            ..decoder.clone()
        };
        let why = of_format.decode(payload.as_bytes(), RECEIVED).unwrap_err();
        assert!(why.to_string().contains(said), "{why}");
    }
    let ahead = r#"{"a": 1, "ts": 1772366461}"#;
    let behind = r#"{"a": 1, "ts": 1772362799}"#;
    let near = r#"{"a": 1, "ts": 1772366460}"#;
    for off in [ahead, behind] {
        let found = decoder.decode(off.as_bytes(), RECEIVED).unwrap();
        let one = &found.readings[0];
        assert_eq!(
            (one.time, one.is_own_time, found.retimed),
            (RECEIVED, false, 1)
        );
    }
    assert_eq!(decoded(&decoder, near)[0].1, RECEIVED + 60 * SECOND);
    decoder.skew = Skew::Reject;
    assert_eq!(rejected(&decoder, ahead), "skewed_time");
    decoder.skew = Skew::Keep;
    assert_eq!(decoded(&decoder, behind)[0].1, RECEIVED - 3_601 * SECOND);
}

#[test]
fn nested_objects_become_keys_where_the_rule_says_so() {
    let decoder = Decoder {
        flatten: true,
        ignore: vec!["device_id".to_owned()],
        ..Decoder::default()
    };
    let payload = r#"{"device_id": "x", "a": {"b": {"c": 1}, "device_id": "y"}}"#;
    let expected = [given("a.b.c", RECEIVED, Value::Integer(1))];
    assert_eq!(decoded(&decoder, payload), expected);
}

#[test]
fn members_that_only_hold_others_are_no_values() {
    let decoder = Decoder {
        holders: &[
            Holder {
                name: "telemetry",
                prefix: "",
            },
            Holder {
                name: "detection",
                prefix: "detection_",
            },
        ],
        ignore: vec!["device_id".to_owned()],
        ..Decoder::default()
    };
    let payload = r#"{"device_id": "x", "speed": 1, "gps": {"lat": 2},
        "telemetry": {"cpu_usage": 3, "memory": {"total": 4}, "api_key": "s"},
        "detection": {"label": "drowsy", "timestamp": 5, "device_id": "y"}}"#;
    let mut found = decoded(&decoder, payload);
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        given("cpu_usage", RECEIVED, Value::Integer(3)),
        given("detection_label", RECEIVED, Value::Text("drowsy".into())),
        given("detection_timestamp", RECEIVED, Value::Integer(5)),
        given("gps", RECEIVED, Value::Json(r#"{"lat":2}"#.into())),
        given("memory_total", RECEIVED, Value::Integer(4)),
        given("speed", RECEIVED, Value::Integer(1)),
    ];
    assert_eq!(found, expected);
    let number = decoded(&decoder, r#"{"detection": 7}"#);
    assert_eq!(number, [given("detection", RECEIVED, Value::Integer(7))]);
    let deep = format!(
        r#"{{"telemetry": {}1{}}}"#,
        r#"{"a":"#.repeat(20),
        "}".repeat(20)
    );
    assert_eq!(rejected(&decoder, &deep), "too_deep");
}

#[test]
fn lines_of_influx() {
    let decoder = Decoder {
        format: Format::Line,
        ignore: vec!["host".to_owned()],
        ..Decoder::default()
    };
    let payload = "# comment\n\
        cpu,host=a,cpu=cpu\\ 0 idle=99.5,n=3i,s=\"a \\\"b\\\", =c\n d\",ok=t 1772366399000000000\n\
        \r\nm v=1u\n";
    let time = RECEIVED - SECOND;
    let expected = [
        own("cpu.cpu 0.idle", time, Value::Number(99.5)),
        own("cpu.cpu 0.n", time, Value::Integer(3)),
        own("cpu.cpu 0.s", time, Value::Text("a \"b\", =c\n d".into())),
        own("cpu.cpu 0.ok", time, Value::Bool(true)),
        given("m.v", RECEIVED + 1, Value::Integer(1)),
    ];
    assert_eq!(decoded(&decoder, payload), expected);
    for (line, reason) in [
        ("m", "not_line"),
        ("m v", "not_line"),
        ("m v=", "not_line"),
        ("m v=1 2 3", "not_line"),
        (",a=b v=1", "not_line"),
        ("m,a v=1", "not_line"),
        ("m v=\"x", "not_line"),
        ("m v=1x", "not_line"),
        ("m v=nan", "bad_number"),
        ("m v=1 soon", "bad_time"),
        ("", "no_values"),
    ] {
        assert_eq!(rejected(&decoder, line), reason, "{line}");
    }
}

#[test]
fn a_single_value_is_typed() {
    let decoder = Decoder {
        format: Format::Value,
        ..Decoder::default()
    };
    for (payload, value) in [
        ("21.5", Value::Number(21.5)),
        ("7", Value::Integer(7)),
        ("true", Value::Bool(true)),
        ("on", Value::Text("on".into())),
        ("\"on\"", Value::Text("on".into())),
        ("[1,2]", Value::Json("[1,2]".into())),
        ("\u{feff}21.5\r\n", Value::Number(21.5)),
        ("7\0", Value::Integer(7)),
        ("+7", Value::Integer(7)),
        (".5", Value::Number(0.5)),
        ("-.5", Value::Number(-0.5)),
        ("5.", Value::Number(5.0)),
        ("007", Value::Text("007".into())),
        (" on ", Value::Text(" on ".into())),
        ("\u{feff}on", Value::Text("\u{feff}on".into())),
        ("7 \u{b0}C", Value::Text("7 \u{b0}C".into())),
    ] {
        assert_eq!(
            decoded(&decoder, payload),
            [given("value", RECEIVED, value)]
        );
    }
}

#[test]
fn what_is_nearly_a_value_is_rejected() {
    let decoder = Decoder {
        format: Format::Value,
        ..Decoder::default()
    };
    for (payload, reason) in [
        ("nan", "bad_number"),
        ("1e999", "bad_number"),
        ("18446744073709551615", "bad_number"),
        ("100000000000000000000", "bad_number"),
        ("on\0", "not_text"),
    ] {
        assert_eq!(rejected(&decoder, payload), reason, "{payload}");
    }
}

#[test]
fn one_value_that_cannot_be_stored_is_left_out_alone() {
    let long = format!(r#"{{"a": 1, "t": "{}"}}"#, "x".repeat(20_000));
    let deep = format!(r#"{{"a": 1, "t": {}1{}}}"#, "[".repeat(50), "]".repeat(50));
    for (format, payload, reason) in [
        (
            Format::Json,
            r#"{"a": 1, "b": 18446744073709551615}"#,
            "bad_number",
        ),
        (
            Format::Json,
            r#"[{"b": 18446744073709551615}, {"a": 1}]"#,
            "bad_number",
        ),
        (
            Format::Json,
            r#"{"b": [1, -9223372036854775808000], "a": 1}"#,
            "bad_number",
        ),
        (Format::Json, r#"{"a": 1, "b": 1e400}"#, "bad_number"),
        (
            Format::Json,
            r#"{"a": 1, "b": {"c": [-1.5e999]}}"#,
            "bad_number",
        ),
        (Format::Line, "m b=18446744073709551615u,a=1i", "bad_number"),
        (Format::Json, r#"{"a": 1, "b,d": 1}"#, "bad_key"),
        (Format::Json, r#"{"a": 1, "": 1}"#, "bad_key"),
        (Format::Json, r#"{"a": 1, "b": "x\u0000"}"#, "not_text"),
        (Format::Json, &long, "text_too_long"),
        (Format::Json, &deep, "too_deep"),
    ] {
        let decoder = Decoder {
            format,
            ..Decoder::default()
        };
        let decoded = decoder.decode(payload.as_bytes(), RECEIVED).unwrap();
        let values: Vec<&Value> = decoded.readings.iter().map(|one| &one.value).collect();
        assert_eq!(values, [&Value::Integer(1)], "{payload}");
        let reasons: Vec<_> = decoded.left_out.iter().map(Rejection::reason).collect();
        assert_eq!(reasons, [reason], "{payload}");
    }
}

#[test]
fn a_part_that_is_rejected_is_named() {
    for (format, payload, said, pointer) in [
        (
            Format::Json,
            r#"[{"a": 1}, {"a": 18446744073709551615}]"#,
            "item 2: the integer",
            "/1/a",
        ),
        (
            Format::Json,
            r#"{"data": {"a": 1}, "metadata": {"b/~c": 1e400}}"#,
            "the value of meta_b/~c is not",
            "/metadata/b~1~0c",
        ),
        (
            Format::Json,
            r#"[{"timestamp": "noon", "a": 1}]"#,
            "item 1: \"noon\" is not a valid time",
            "/0/timestamp",
        ),
        (
            Format::Json,
            r#"[{"a": 1}, 7]"#,
            "item 2: expected an object",
            "/1",
        ),
        (
            Format::JsonLines,
            "{\"a\": 1}\n\n{\"b\": [[1,[2]]]}",
            "line 3: the value of b",
            "/2/b",
        ),
        (
            Format::JsonLines,
            "{\"a\": 1}\n[{\"a\": 1}, {\"a\": 1, \"b,\": 1}]",
            "line 2: item 2: the key \"b,\"",
            "/1/1/b,",
        ),
        (Format::Line, "m a=1\nm b=nan", "line 2: ", "/1"),
        (
            Format::Line,
            "m a=1\nm b=99999999999999999999i",
            "line 2: the integer",
            "/1",
        ),
    ] {
        let limits = Limits {
            depth: 2,
            ..Limits::default()
        };
        let decoder = Decoder {
            format,
            limits,
            ..Decoder::default()
        };
        let rejection = decoder
            .decode_whole(payload.as_bytes(), RECEIVED)
            .unwrap_err();
        assert!(rejection.to_string().starts_with(said), "{rejection}");
        assert_eq!(rejection.pointer().as_deref(), Some(pointer));
    }
}

#[test]
fn the_place_of_each_value_is_found_again() {
    for (format, payload, pointers) in [
        (
            Format::Json,
            r#"{"data": {"a": 1}, "metadata": {"b": 2}}"#,
            &["/data/a", "/metadata/b"][..],
        ),
        (
            Format::Json,
            r#"[{"a": 1}, {"b": 2, "c": 3}]"#,
            &["/0/a", "/1/b", "/1/c"],
        ),
        (
            Format::Json,
            r#"{"k9": 1, "k10": 2, "a": 3, "k9": 4}"#,
            &["/k10", "/a", "/k9"],
        ),
        (
            Format::JsonLines,
            "{\"a\": 1}\n\n{\"b\": 2}",
            &["/0/a", "/2/b"],
        ),
        (Format::Line, "m a=1\nm b=2,c=3", &["/0", "/1", "/1"]),
    ] {
        let decoder = Decoder {
            format,
            ..Decoder::default()
        };
        let decoded = decoder.decode_whole(payload.as_bytes(), RECEIVED).unwrap();
        let all = 0..decoded.readings.len();
        let found = all.map(|index| decoder.place_of(payload.as_bytes(), RECEIVED, index));
        let found: Vec<String> = found.flatten().map(|place| place.pointer()).collect();
        assert_eq!(found, pointers, "{payload}");
        let beyond = decoder.place_of(payload.as_bytes(), RECEIVED, pointers.len());
        assert_eq!(beyond, None);
    }
}

#[test]
fn an_error_of_json_is_named_by_its_place_in_the_payload() {
    for (format, payload, said) in [
        (
            Format::JsonLines,
            "{\"a\": 1}\n\n{\"b\":",
            "line 3: the payload is not JSON: EOF while parsing a value at column 5",
        ),
        (
            Format::Json,
            "[{\"a\": 1},\n  {\"b\": 1}, {\"c\": x}]",
            "item 3: the payload is not JSON: expected value at line 2 column 19",
        ),
        (
            Format::Json,
            "{\"a\":\n  x}",
            "the payload is not JSON: expected value at line 2 column 3",
        ),
    ] {
        let decoder = Decoder {
            format,
            ..Decoder::default()
        };
        let rejection = decoder.decode(payload.as_bytes(), RECEIVED).unwrap_err();
        assert_eq!(rejection.to_string(), said);
    }
}

#[test]
fn a_payload_may_begin_with_a_byte_order_mark() {
    for (format, payload) in [
        (Format::Json, "\u{feff}{\"t\": 1}"),
        (Format::JsonLines, "\u{feff}{\"t\": 1}\n"),
        (Format::Line, "\u{feff}t value=1i"),
    ] {
        let decoder = Decoder {
            format,
            ..Decoder::default()
        };
        let decoded = decoder.decode(payload.as_bytes(), RECEIVED).unwrap();
        let [reading] = &*decoded.readings else {
            panic!("{decoded:?}")
        };
        assert!(reading.key.starts_with('t'), "{reading:?}");
        assert_eq!(reading.value, Value::Integer(1));
    }
}

#[test]
fn numbers_are_those_that_were_sent() {
    let decode = |format, payload: &str| {
        let decoder = Decoder {
            format,
            ..Decoder::default()
        };
        decoder.decode_whole(payload.as_bytes(), RECEIVED)
    };
    for text in [
        "0.9163453718085519",
        "920.2542004349991",
        "9007199254740993.0",
        "-9223372036854775808",
        "9223372036854775807",
    ] {
        let expected = match text.parse::<i64>() {
            Ok(whole) => Value::Integer(whole),
            Err(_) => Value::Number(text.parse().unwrap()),
        };
        for (format, payload) in [
            (Format::Json, format!("{{\"value\":{text}}}")),
            (Format::Value, text.to_owned()),
        ] {
            let decoded = decode(format, &payload).unwrap();
            assert_eq!(decoded.readings[0].value, expected, "{payload}");
        }
    }
    for (format, payload) in [
        (Format::Json, "{\"value\":-9223372036854775809}"),
        (Format::JsonLines, "{\"value\":9223372036854775808}"),
        (Format::Value, "-9223372036854775809"),
        (Format::Value, "+9223372036854775808"),
        (Format::Value, "+18446744073709551615"),
    ] {
        let rejection = decode(format, payload).unwrap_err();
        let told = rejection.to_string();
        // A single value has no key in the payload.
        let has_key = format != Format::Value;
        assert!(told.contains(" is not in -922"), "{told}");
        assert_eq!(told.contains(" of value is not in"), has_key, "{told}");
    }
}

#[test]
fn zero_bytes_in_texts_are_no_marks_of_long_integers() {
    let decoded = Decoder::default()
        .decode(
            br#"{"a":"\u0000123","b":{"x":"\u000012345678901234567890"},"c":["\u00005"],"d":1}"#,
            RECEIVED,
        )
        .unwrap();
    let keys: Vec<_> = decoded.readings.iter().map(|one| &*one.key).collect();
    assert_eq!(keys, ["c", "d"]);
    let told: Vec<_> = decoded.left_out.iter().map(ToString::to_string).collect();
    assert!(
        told[0].starts_with("the text of a has a zero byte"),
        "{told:?}"
    );
    let time = br#"{"timestamp":99999999999999999999,"a":1}"#;
    let told = Decoder::default().decode(time, RECEIVED).unwrap_err();
    assert!(
        told.to_string()
            .contains("99999999999999999999\" is not a valid time"),
        "{told}"
    );
}

#[test]
fn common_mistakes_in_json_are_named() {
    let decoder = Decoder::default();
    for (payload, said) in [
        ("{\"t\": 1}\0", "zero byte"),
        ("{'t': 1}", "double quotation marks"),
        ("{\"t\": NaN}", "no NaN"),
        ("{\"t\": -inf}", "no infinity"),
        ("{\"long enough\": 1,\n\"t\": -Infinity}", "no infinity"),
        ("{\"t\": }", "expected value at line 1 column 7"),
    ] {
        let told = decoder
            .decode(payload.as_bytes(), RECEIVED)
            .unwrap_err()
            .to_string();
        assert!(told.contains(said), "{told}");
    }
    let text = r#"{"note": "NaN is bad, as everybody knows" "t": 1}"#;
    let told = decoder
        .decode(text.as_bytes(), RECEIVED)
        .unwrap_err()
        .to_string();
    assert!(!told.contains("NaN"), "{told}");
}

#[test]
fn what_is_invalid_is_rejected_with_its_reason() {
    let decoder = Decoder {
        limits: Limits {
            values: 3,
            key_bytes: 8,
            text_bytes: 10,
            depth: 2,
        },
        ..Decoder::default()
    };
    for (payload, reason) in [
        ("{", "not_json"),
        ("21.5", "not_object"),
        ("[1]", "not_object"),
        ("[[]]", "not_object"),
        ("{}", "no_values"),
        ("[]", "no_values"),
        (r#"{"a": null}"#, "no_values"),
        (r#"{"a": 1, "b": 1, "c": 1, "d": 1}"#, "too_many_values"),
        (r#"{"": 1}"#, "bad_key"),
        (r#"{"123456789": 1}"#, "bad_key"),
        (r#"{"a,b": 1}"#, "bad_key"),
        (r#"{"a\nb": 1}"#, "bad_key"),
        (r#"{"a": "12345678901"}"#, "text_too_long"),
        (r#"{"a": [[[1]]]}"#, "too_deep"),
        (r#"{"a": 1, "ts": "yesterday"}"#, "bad_time"),
        (r#"{"a": 1, "ts": [1]}"#, "bad_time"),
        (r#"{"a": 1, "ts": 1e300}"#, "bad_time"),
        (r#"{"a": 1e999}"#, "bad_number"),
        (r#"{"a": 1, "b": 1.e999}"#, "not_json"),
        (r#"{"a": 1, "b": 099999999999999999999}"#, "not_json"),
        (r#"{99999999999999999999: 1, "a": 1}"#, "not_json"),
    ] {
        assert_eq!(rejected(&decoder, payload), reason, "{payload}");
    }
    let no_text = decoder.decode(b"\xff", RECEIVED).unwrap_err();
    assert_eq!(no_text, Rejection::NotText);
    for format in [Format::JsonLines, Format::Line] {
        let decoder = Decoder {
            format,
            ..decoder.clone()
        };
        let no_text = decoder.decode(b"\n\n{\"a\": \"\xff\"}\n", RECEIVED);
        assert_eq!(no_text.unwrap_err(), Rejection::NotText.in_line(3));
    }
    let gzip = decoder.decode(b"\x1f\x8b\x08\0", RECEIVED).unwrap_err();
    assert_eq!(gzip, Rejection::Gzip);
}

proptest! {
    /// Any payload is decoded within the limits, or rejected.
    #[test]
    fn arbitrary_payloads_stay_within_the_bounds(
        payload in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[a-z{}\\[\\]\":,0-9. =\\\\\n-]{0,80}".prop_map(String::into_bytes),
        ],
        format in prop_oneof![
            Just(Format::Json), Just(Format::JsonLines), Just(Format::Line), Just(Format::Value),
        ],
    ) {
        let limits = Limits { values: 5, key_bytes: 6, text_bytes: 20, depth: 2 };
        let decoder = Decoder { format, limits, ..Decoder::default() };
        if let Ok(decoded) = decoder.decode(&payload, RECEIVED) {
            prop_assert!((1..=5).contains(&decoded.readings.len()));
            for one in decoded.readings {
                prop_assert!((1..=6).contains(&one.key.len()));
                if let Value::Number(number) = one.value {
                    prop_assert!(number.is_finite());
                }
            }
        }
    }
}

#[test]
fn items_of_a_list_are_read_one_by_one() {
    let decoder = Decoder::default();
    let payload = " [ {\"a\": \"],{\\\"\"} ,\r\n{\"b\": [[1], {\"c\": 2}]}\t] ";
    let expected = [
        given("a", RECEIVED, Value::Text("],{\"".into())),
        given("b", RECEIVED + 1, Value::Json("[[1],{\"c\":2}]".into())),
    ];
    assert_eq!(decoded(&decoder, payload), expected);
    for (payload, reason) in [
        ("[]", "no_values"),
        (" [ ] ", "no_values"),
        ("[", "not_json"),
        ("[,]", "not_json"),
        ("[{\"a\": 1},]", "not_json"),
        ("[{\"a\": 1}", "not_json"),
        ("[{\"a\": 1}] x", "not_json"),
        ("[{\"a\": 1}]]", "not_json"),
        ("[{\"a\": 1]}", "not_json"),
        ("[}]", "not_json"),
        ("[{\"a\": 1} {\"a\": 2}]", "not_json"),
        ("[[{\"a\": 1}]]", "not_object"),
        ("[1]", "not_object"),
        ("[\"a", "not_json"),
    ] {
        assert_eq!(rejected(&decoder, payload), reason, "{payload}");
    }
}

proptest! {
    #[test]
    fn a_list_is_read_if_it_is_json(text in "[\\[\\]{},:\"a1 \\\\]{0,12}") {
        let text = format!("[{text}]");
        let parsed = serde_json::from_str::<Vec<serde_json::Map<String, serde_json::Value>>>(&text);
        match Decoder::default().decode(text.as_bytes(), RECEIVED) {
            Ok(_) | Err(Rejection::NoValues) => prop_assert!(parsed.is_ok(), "{}", text),
            Err(Rejection::NotJson(_)) => prop_assert!(parsed.is_err(), "{}", text),
            Err(_) => {}
        }
    }
}

#[test]
fn an_object_with_too_many_parts_is_not_parsed() {
    let limits = Limits {
        values: 10,
        text_bytes: 20,
        ..Limits::default()
    };
    let decoder = Decoder {
        limits,
        ..Decoder::default()
    };
    let payload = |items: usize| format!("{{\"a\": [{}1]}}", "1,".repeat(items));
    let told = |payload: &str| decoder.decode(payload.as_bytes(), RECEIVED).unwrap_err();
    assert_eq!(told(&payload(100)), Rejection::TooManyParts { max: 60 });
    let text = Rejection::TextTooLong {
        key: "a".to_owned(),
        bytes: 43,
        max: 20,
    };
    assert_eq!(told(&payload(20)), text.in_member("a"));
    // Commas in texts do not count as parts.
    let commas = format!(
        "{{\"a\": 1, \"x\": null, \"\": null, \"{}\": null}}",
        ",[{".repeat(90)
    );
    assert_eq!(decoded(&decoder, &commas).len(), 1);
}

#[test]
fn times_that_are_not_stored_are_rejected_with_all_of_the_payload() {
    let decoder = Decoder {
        skew: Skew::Keep,
        ..Decoder::default()
    };
    for time in ["0000-12-31T23:59:59Z", "9998-01-01T00:00:00Z"] {
        let payload = format!(r#"[{{"a": 1, "ts": 7}}, {{"a": 1, "ts": "{time}"}}]"#);
        assert_eq!(rejected(&decoder, &payload), "bad_time", "{time}");
        assert_eq!(rejected(&decoder.of_past(), &payload), "bad_time", "{time}");
    }
    for time in ["2025-07-01T10:00:00+24:00", "2025-07-01 10:00:00-25:00"] {
        assert!(time_of_text(time, TimeUnit::Auto).is_err(), "{time}");
    }
    for time in [
        "2025-07-01T10:00:00+23:59",
        "2025-07-01 10:00:00-23:59",
        "2025-07-01 10:00:00.250000+02",
        "2025-07-01",
        "2025-07-01 10:00",
        "2025-07-01T10:00:00Z",
    ] {
        assert!(time_of_text(time, TimeUnit::Auto).is_ok(), "{time}");
    }
}
