//! All kinds of integrations.

use crate::bridge::BridgeKind;
use crate::email::EmailKind;
use crate::file::FileKind;
use crate::kind::Kind;
use crate::nats::{NatsKind, NatsRequestsKind, NatsSourceKind};
use crate::webhook::WebhookKind;

/// All kinds of sinks, sources and bridges, in the order of the reference page.
pub const KINDS: &[Kind] = &[
    Kind::of_sinks::<FileKind>(),
    Kind::of_sinks::<WebhookKind>(),
    Kind::of_sinks::<NatsKind>(),
    Kind::of_sinks::<EmailKind>(),
    Kind::of_sources::<NatsSourceKind>("nats"),
    Kind::of_sources::<NatsRequestsKind>("nats-requests"),
    Kind::of_bridges::<BridgeKind>(),
];

#[cfg(test)]
mod tests {
    use martlet_settings::{Both, HeaderLines, TableKeys, Takes, TopicLines, Value};

    use super::*;
    use crate::common_keys::{BridgeKeys, BridgeName, SinkKeys, SinkName, SourceKeys, SourceName};
    use crate::kind::MakeIntegration;

    /// The smallest and largest accepted values.
    fn ends_of(takes: Takes) -> Vec<Value> {
        let texts = || vec!["a: b".to_owned()];
        match takes {
            Takes::Integer { min, max } => vec![Value::Integer(min), Value::Integer(max)],
            Takes::NoneOrAtLeast { min } => [0, min, u64::MAX].map(Value::Integer).to_vec(),
            Takes::Boolean => [false, true].map(Value::Boolean).to_vec(),
            Takes::Word(words) => {
                let words = words.iter();
                words.map(|word| Value::Text((*word).to_owned())).collect()
            }
            Takes::Text => vec![Value::Text("a".to_owned())],
            Takes::Texts => vec![Value::Texts(texts())],
            Takes::Topics => vec![Value::Texts(Vec::from(TopicLines(texts())))],
            Takes::Headers => vec![Value::Headers(Vec::from(HeaderLines(texts())))],
            Takes::Secret => vec![Value::Secret("a".to_owned().into())],
        }
    }

    fn check<K: TableKeys>() {
        for key in K::keys() {
            for value in ends_of(key.takes) {
                assert!(K::default().set(key.name, &value), "{} {value}", key.name);
            }
            if let Some(default) = key.default {
                assert!(key.takes.fits(&default()), "{}", key.name);
            }
            let ends_well = key.what.ends_with('.') && key.what.trim() == key.what;
            assert!(ends_well, "{}: {:?}", key.name, key.what);
        }
    }

    fn check_kind<K: MakeIntegration>() {
        check::<K::Keys>();
    }

    #[test]
    fn every_value_that_a_key_accepts_fits_its_type() {
        check_kind::<FileKind>();
        check_kind::<WebhookKind>();
        check_kind::<NatsKind>();
        check_kind::<EmailKind>();
        check_kind::<NatsSourceKind>();
        check_kind::<NatsRequestsKind>();
        check_kind::<BridgeKind>();
        check::<Both<SinkName, SinkKeys>>();
        check::<Both<SourceName, SourceKeys>>();
        check::<Both<BridgeName, BridgeKeys>>();
    }

    #[test]
    fn each_key_of_a_kind_is_declared_once() {
        for known in KINDS {
            let keys = (known.keys)();
            let mut names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            names.sort_unstable();
            let count = names.len();
            names.dedup();
            assert_eq!(
                names.len(),
                count,
                "{}: a key is declared twice",
                known.table()
            );
        }
    }
}
