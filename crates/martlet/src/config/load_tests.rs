use super::*;
use crate::config::nearest::nearest_of;

fn from_file(text: &str) -> Result<Effective, ConfigError> {
    let directory = std::env::temp_dir().join(format!("martlet-config-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let name = format!(
        "{:x}.toml",
        text.len() * 31 + text.bytes().map(usize::from).sum::<usize>()
    );
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    let overlay = Overlay {
        file: Some(path),
        ..Overlay::default()
    };
    load(&overlay, &[])
}

#[test]
fn sources_lie_over_each_other_and_are_remembered() {
    let environment = [("MARTLET_MQTT__MAX_QOS".to_owned(), "1".to_owned())];
    let values = vec![("limits.in_flight".to_owned(), "7".to_owned(), "--set")];
    let overlay = Overlay {
        values,
        ..Overlay::default()
    };
    let effective = load(&overlay, &environment).unwrap();
    assert_eq!(effective.settings().mqtt.max_qos, 1);
    assert_eq!(
        effective.source("mqtt.max_qos"),
        "environment MARTLET_MQTT__MAX_QOS"
    );
    assert_eq!(effective.settings().limits.in_flight, 7);
    assert_eq!(effective.source("limits.packet_bytes"), "default");
}

#[test]
fn an_unknown_key_in_a_file_names_line_and_nearest_key() {
    let error = from_file("[mqtt]\nmax_qos = 1\n[limits]\npaket_bytes = 5\n").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("line 4: unknown key `limits.paket_bytes`"),
        "{text}"
    );
    assert!(
        text.contains("did you mean `limits.packet_bytes`?"),
        "{text}"
    );
}

#[test]
fn a_value_that_does_not_fit_says_what_would() {
    let text = from_file("[mqtt]\nmax_qos = 3\n").unwrap_err().to_string();
    assert!(
        text.ends_with("`mqtt.max_qos` is 3, expected a whole number from 0 to 2"),
        "{text}"
    );
    let text = from_file("[mqtt]\nqueue_full = \"drop\"\n")
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("one of drop-oldest, drop-newest, disconnect"),
        "{text}"
    );
}

#[test]
fn a_limit_of_0_is_refused_where_nobody_could_be_served() {
    for key in ["output_bytes", "connect_timeout_secs", "topic_levels"] {
        let text = from_file(&format!("[limits]\n{key} = 0\n"))
            .unwrap_err()
            .to_string();
        assert!(text.contains("expected a whole number from 1 to"), "{text}");
    }
    assert!(from_file("[limits]\noutput_stalled_secs = 0\n").is_ok());
    assert!(from_file("[limits]\nretained_messages = 0\n").is_ok());
}

#[test]
fn an_unknown_variable_is_a_warning() {
    let environment = [("MARTLET_MQTT__MAXQOS".to_owned(), "1".to_owned())];
    let effective = load(&Overlay::default(), &environment).unwrap();
    assert_eq!(
        effective.warnings,
        [
            "environment MARTLET_MQTT__MAXQOS: no such setting; did you mean `MARTLET_MQTT__MAX_QOS`?"
        ]
    );
}

#[test]
fn keys_are_suggested_for_what_they_are_called_and_not_for_their_section() {
    let hint = |name: &str| nearest_of(keys().iter().map(|key| key.path.as_str()), name);
    assert_eq!(hint("store.path"), None);
    assert_eq!(hint("store.snapshot_secs"), None);
    assert_eq!(hint("store.durabilty").as_deref(), Some("store.durability"));
    assert_eq!(
        hint("limit.packet_bytes").as_deref(),
        Some("limits.packet_bytes")
    );
}

#[test]
// Table: faulty files, and what is said of them.
fn what_is_wrong_is_named_as_it_is_written() {
    for (text, said) in [
        (
            "[limts]\npacket_bytes = 5\n",
            "line 1: unknown key `[limts]`; did you mean `[limits]`?",
        ),
        (
            "[limits]\npacket_byte = 5\n",
            "line 2: unknown key `limits.packet_byte`; did you mean `limits.packet_bytes`?",
        ),
        (
            "packet_bytes = 5\n",
            "line 1: unknown key `packet_bytes`; did you mean `limits.packet_bytes`?",
        ),
        (
            "[listener]\nurl = \"x\"\n",
            "unknown key `[listener]`; did you mean `[[listeners]]`?",
        ),
        (
            "[[listener]]\nurl = \"x\"\n",
            "unknown key `[[listener]]`; did you mean `[[listeners]]`?",
        ),
        (
            "[[sinks.webhok]]\nname = \"a\"\n",
            "line 1: unknown key `[[sinks.webhok]]`; did you mean `[[sinks.webhook]]`?",
        ),
        (
            "[[sinks.webhook]]\nname = \"a\"\nmetod = \"PUT\"\n",
            "line 3: unknown key `metod`; did you mean `method`?",
        ),
        (
            "[[bridges]]\nname = \"a\"\nulr = \"mqtt://x\"\n",
            "line 3: unknown key `ulr`; did you mean `url`?",
        ),
        (
            "[http]\nlisen = \"off\"\n",
            "line 2: unknown key `http.lisen`; did you mean `http.listen`?",
        ),
        (
            "[[rules]]\nname = \"a\"\ntopcs = [\"a\"]\n",
            "line 3: unknown key `topcs`; did you mean `topics`?",
        ),
        (
            "[[telemetry.rulez]]\ntopic = \"a\"\n",
            "unknown key `[[telemetry.rulez]]`; did you mean `[[telemetry.rules]]`?",
        ),
        ("limits = 5\n", "`limits` is a value, expected a section"),
        (
            "[listeners]\nurl = \"x\"\n",
            "line 1: [listeners] is one table, and there may be several: write [[listeners]]",
        ),
        ("[rules]\nname = \"x\"\n", "write [[rules]]"),
        ("[sinks.file]\nname = \"x\"\n", "write [[sinks.file]]"),
        ("[sources.nats]\nname = \"x\"\n", "write [[sources.nats]]"),
        (
            "[telemetry.rules]\ntopic = \"x\"\n",
            "write [[telemetry.rules]]",
        ),
        (
            "[telemetry]\nretention = { type = \"x\" }\n",
            "write [[telemetry.retention]]",
        ),
        (
            "[telemetry]\nrules = 5\n",
            "expected [[telemetry.rules]] tables",
        ),
        (
            "[limits]\npacket_bytes = -5\n",
            "`limits.packet_bytes` is -5,",
        ),
        (
            "[limits]\nmemory_bytes = \"64MiB\"\n",
            "line 2: `limits.memory_bytes` is \"64MiB\", expected a whole number of at least 0; it is \
             a number of bytes, without a unit: 67108864",
        ),
        (
            "[limits]\nconnect_timeout_secs = \"2m\"\n",
            "; it is a number of seconds, without a unit: 120",
        ),
        (
            "[limits]\nsessions = 0\n",
            "is 0, expected a whole number from 1 to 4294967295",
        ),
        (
            "[limits]\npacket_bytes = 1\n",
            "is 1, expected a whole number from 20 to 268435460",
        ),
        ("[limits]\npacket_bytes = 1.5\n", "is 1.5,"),
        ("[limits]\npacket_bytes = [1, 2]\n", "is [1, 2],"),
        ("[limits]\npacket_bytes = \"x\"\n", "is \"x\","),
        (
            "[mqtt]\nmax_qos = 3\n",
            "is 3, expected a whole number from 0",
        ),
        ("[mqtt]\nretain_available = 0\n", "is 0, expected true or"),
        ("[[listeners]]\nurl = 7\n", "`url` is 7, expected"),
    ] {
        let told = from_file(text).unwrap_err().to_string();
        assert!(told.contains(said), "{text}: {told}");
    }
    let told = from_file("[auth]\ncredentials = 12345\n").unwrap_err();
    assert!(!told.to_string().contains("12345"), "{told}");
}

#[test]
fn what_is_no_toml_is_told_without_the_value() {
    let error = from_file("[auth]\ncredentials = \"ann:s3cret\nx = 1\n").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("line 2, column") && text.contains("(credentials)"),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
}
