//! Kinds of events as entries name them.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};
use utoipa::openapi::schema::Object;

use crate::event_kind::EventKind;
use crate::event_words::name;
use martlet_registry::one_of;

pub(super) fn serialize<S: Serializer>(kind: &EventKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name(*kind))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<EventKind, D::Error> {
    let name = String::deserialize(deserializer)?;
    let kind = EventKind::from_journal_name(&name);
    kind.ok_or_else(|| D::Error::custom(format!("unknown kind of entry {name:?}")))
}

/// The schema of the API.
pub(super) fn schema() -> Object {
    let all = EventKind::ALL.iter();
    one_of("What happened.", all.filter_map(|kind| kind.journal_name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Entry;

    #[test]
    fn an_entry_names_its_kind_and_is_read_again() {
        let kept = EventKind::ALL.iter();
        for kind in kept.filter(|kind| kind.journal_name().is_some()) {
            let entry = Entry::new(*kind);
            let written = serde_json::to_value(&entry).expect("it is JSON");
            assert_eq!(written["what"], entry.what_name());
            let read: Entry = serde_json::from_value(written).expect("it is an entry");
            assert_eq!(read.what, *kind);
        }
        let other = serde_json::json!({"seq": 1, "at": "1970-01-01T00:00:00Z", "what": "packet", "client_id": "c"});
        assert!(serde_json::from_value::<Entry>(other).is_err());
    }
}
