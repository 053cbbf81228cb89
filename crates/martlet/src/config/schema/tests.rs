use martlet_settings::TableKeys;

use super::*;

/// The smallest and largest accepted values.
fn ends_of(kind: Takes) -> Vec<Value> {
    match kind {
        Takes::Integer { min, max } => vec![Value::Integer(min), Value::Integer(max)],
        Takes::NoneOrAtLeast { min } => [0, min, u64::MAX].map(Value::Integer).to_vec(),
        Takes::Boolean => [false, true].map(Value::Boolean).to_vec(),
        Takes::Word(words) => {
            let words = words.iter();
            words.map(|word| Value::Text((*word).to_owned())).collect()
        }
        Takes::Text => vec![Value::Text("a".to_owned())],
        Takes::Texts | Takes::Topics => vec![Value::Texts(vec!["a".to_owned()])],
        Takes::Headers => vec![Value::Headers(vec!["a: b".to_owned()])],
        Takes::Secret => vec![Value::Secret("a".to_owned().into())],
    }
}

/// A value of another type.
fn other_than(kind: Takes) -> Value {
    match kind {
        Takes::Boolean => Value::Integer(1),
        _ => Value::Boolean(true),
    }
}

#[test]
fn every_value_that_a_key_accepts_fits_its_type() {
    let mut settings = Settings::default();
    for key in keys() {
        assert!(settings.set(&key.path, &key.default), "{}", key.path);
        for value in ends_of(key.takes) {
            assert!(settings.set(&key.path, &value), "{} {value}", key.path);
        }
    }
}

#[test]
fn a_value_of_another_kind_is_not_taken_for_a_default() {
    let mut settings = Settings::default();
    for key in keys() {
        assert!(
            !settings.set(&key.path, &other_than(key.takes)),
            "{}",
            key.path
        );
    }
    assert!(!settings.set("mqtt.max_qos_", &Value::Integer(1)));
    assert!(!settings.set("max_qos", &Value::Integer(1)));
    assert!(!settings.set("mqtt.queue_full", &Value::Text("drop".to_owned())));
    assert!(!settings.set("mqtt.max_qos", &Value::Integer(256)));
}

fn check_table<T: TableKeys>() {
    let mut table = T::default();
    for key in T::keys() {
        for value in ends_of(key.takes) {
            assert!(table.set(key.name, &value), "{} {value}", key.name);
        }
        assert!(!table.set(key.name, &other_than(key.takes)), "{}", key.name);
    }
    assert!(!table.set("nothing", &Value::Boolean(true)));
}

#[test]
fn every_value_that_a_key_of_a_table_accepts_fits_its_type() {
    check_table::<ListenerKeys>();
    check_table::<HttpListenerKeys>();
    check_table::<TelemetryRuleKeys>();
    check_table::<RetentionKeys>();
}

#[test]
fn paths_and_descriptions_are_whole() {
    let mut paths: Vec<&str> = keys().iter().map(|key| &*key.path).collect();
    paths.sort_unstable();
    assert!(paths.windows(2).all(|pair| pair[0] != pair[1]), "{paths:?}");
    for key in keys() {
        let ends_well = key.what.ends_with('.') && key.what.trim() == key.what;
        assert!(ends_well, "{}: {:?}", key.path, key.what);
    }
}

#[test]
fn keys_with_several_values_take_a_list_in_a_file() {
    let is_said = |what: &str| what.starts_with("Comma-separated");
    for key in keys() {
        assert!(key.is_list || !is_said(key.what), "{}", key.path);
    }
    for key in ListenerKeys::keys().iter().chain(&HttpListenerKeys::keys()) {
        assert!(key.is_list || !is_said(key.what), "{}", key.name);
    }
}
