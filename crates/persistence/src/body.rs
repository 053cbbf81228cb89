//! The body of a message in the store: everything the message is, and who published it. Its id is
//! the name that the store knows the body by.
//!
//! Layout: version; flags; tenant; arrival; where the flags say so expiry, retained revision, the
//! publisher's epoch and the length of its Client Identifier, the length of its user name; lengths
//! of the topic and of the forwarded properties; then those texts in this order, and the payload to
//! the end.

use martlet_broker::{
    Contents, MessageId, MessageRecord, Now, SessionEpoch, StoredMessage, TenantId,
};
use martlet_store::{BodyId, Holds, RecordBuilder};

use crate::bytes::{DecodeError, Head, Reader, flag, qos_of};

const RETAIN: u8 = 1 << 2;
const HAS_PUBLISHER: u8 = 1 << 3;
const HAS_USER_NAME: u8 = 1 << 4;
const HAS_REVISION: u8 = 1 << 5;
const HAS_EXPIRY: u8 = 1 << 6;
const UNKNOWN: u8 = 1 << 7;

/// A message as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBody<'a> {
    /// The message.
    pub message: StoredMessage<'a>,
    /// Who published it; none is the node itself.
    pub publisher: Option<StoredPublisher<'a>>,
    /// Its revision in the retained store, if it was or cleared its topic's retained message.
    pub retained_revision: Option<u64>,
}

/// Who published a message, as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPublisher<'a> {
    /// Its session.
    pub epoch: SessionEpoch,
    /// Client Identifier.
    pub client_id: &'a str,
    /// The user it was authenticated as.
    pub user_name: Option<&'a str>,
}

/// Puts the body of a message into a record.
pub(crate) fn put_body(
    record: &MessageRecord,
    holds: Holds,
    now: Now,
    into: &mut RecordBuilder<'_>,
) {
    let id = BodyId(record.message.id().0);
    into.body(id, holds, &pieces(record, head(record, now).as_slice()));
}

/// The pieces of a body, which begins with `head`.
fn pieces<'a>(record: &'a MessageRecord, head: &'a [u8]) -> [&'a [u8]; 6] {
    let publisher = record.publisher.as_ref();
    let user_name = publisher.and_then(|publisher| publisher.user_name.as_deref());
    let contents = record.message.contents();
    [
        head,
        publisher.map_or(&[], |publisher| publisher.client_id.as_bytes()),
        user_name.map_or(&[], str::as_bytes),
        contents.topic_bytes(),
        contents.forwarded(),
        contents.payload(),
    ]
}

/// All of a body before its texts.
fn head(record: &MessageRecord, now: Now) -> Head {
    let message = &record.message;
    let publisher = record.publisher.as_ref();
    let user_name = publisher.and_then(|publisher| publisher.user_name.as_deref());
    let expires_wall_ms = now.record_ms_of(message.expires_at_ms());
    let mut head = Head::new();
    head.put(
        message.qos().bits()
            | flag(RETAIN, message.retain())
            | flag(HAS_PUBLISHER, publisher.is_some())
            | flag(HAS_USER_NAME, user_name.is_some())
            | flag(HAS_REVISION, record.retained_revision.is_some())
            | flag(HAS_EXPIRY, expires_wall_ms != 0),
    );
    head.put_number(message.tenant().0.into());
    head.put_number(message.received_wall_ms());
    if expires_wall_ms != 0 {
        head.put_number(expires_wall_ms);
    }
    if let Some(revision) = record.retained_revision {
        head.put_number(revision);
    }
    if let Some(publisher) = publisher {
        head.put_name(publisher.epoch.0);
        head.put_number(publisher.client_id.len() as u64);
    }
    if let Some(user_name) = user_name {
        head.put_number(user_name.len() as u64);
    }
    let contents = message.contents();
    head.put_number(contents.topic_bytes().len() as u64);
    head.put_number(contents.forwarded().len() as u64);
    head
}

/// Reads the body of message `id`, borrowing its texts.
pub fn decode_body(id: MessageId, bytes: &[u8]) -> Result<StoredBody<'_>, DecodeError> {
    let mut reader = Reader::new(bytes)?;
    let flags = reader.byte()?;
    let inconsistent = flags & HAS_USER_NAME != 0 && flags & HAS_PUBLISHER == 0;
    if flags & UNKNOWN != 0 || inconsistent {
        return Err(DecodeError::Malformed("flags of a body"));
    }
    let has = |bit: u8| flags & bit != 0;
    let tenant = TenantId(reader.number32()?);
    let received_wall_ms = reader.number()?;
    let expires_wall_ms = match has(HAS_EXPIRY) {
        true => reader.number()?,
        false => 0,
    };
    let retained_revision = match has(HAS_REVISION) {
        true => Some(reader.number()?),
        false => None,
    };
    let publisher = match has(HAS_PUBLISHER) {
        true => Some((SessionEpoch(reader.name()?), reader.len()?)),
        false => None,
    };
    let user_name_len = match has(HAS_USER_NAME) {
        true => Some(reader.len()?),
        false => None,
    };
    let (topic_len, forwarded_len) = (reader.len()?, reader.len()?);
    let publisher = match publisher {
        None => None,
        Some((epoch, client_id_len)) => Some(StoredPublisher {
            epoch,
            client_id: reader.text(client_id_len)?,
            user_name: user_name_len.map(|len| reader.text(len)).transpose()?,
        }),
    };
    let contents = Contents::new(reader.rest(), topic_len, forwarded_len);
    let message = StoredMessage {
        id,
        tenant,
        contents: contents.ok_or(DecodeError::Malformed("topic or properties of a body"))?,
        qos: qos_of(flags)?,
        retain: has(RETAIN),
        received_wall_ms,
        expires_wall_ms,
    };
    Ok(StoredBody {
        message,
        publisher,
        retained_revision,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use martlet_broker::{Message, Publication, Publisher};
    use martlet_codec::QoS;
    use proptest::prelude::*;

    use super::*;

    const NOW: Now = Now {
        mono_ms: 5_000,
        wall_ms: 1_700_000_000_000,
        record_ms: 1_700_000_000_000,
    };

    fn record(topic: &str, rest: (&[u8], &[u8]), qos: u8, retain: bool) -> MessageRecord {
        let publication = Publication {
            id: MessageId(7 << 58 | 9),
            tenant: TenantId(3),
            publisher: None,
            topic,
            forwarded: rest.0,
            payload: rest.1,
            qos: QoS::from_bits(qos).unwrap(),
            retain,
            received_wall_ms: NOW.wall_ms - 1,
            expires_at_ms: u64::MAX,
            received_mono_ms: NOW.mono_ms,
        };
        MessageRecord {
            message: Message::new(&publication, None, &mut Vec::new(), &Arc::default()),
            publisher: None,
            receipt: None,
            retained_revision: None,
            replaces: None,
            to_be_routed: true,
            will_of: None,
        }
    }

    fn encoded(record: &MessageRecord) -> Vec<u8> {
        pieces(record, head(record, NOW).as_slice()).concat()
    }

    proptest! {
        #[test]
        fn a_body_comes_back(
            topic in "[a-zé/]{1,40}",
            forwarded in prop::collection::vec(any::<u8>(), 0..20),
            payload in prop::collection::vec(any::<u8>(), 0..300),
            qos in 0_u8..3,
            retain: bool,
            names in prop::option::of(("[a-zé]{0,30}", prop::option::of("[a-z]{0,9}"))),
            epoch: u64,
            retained_revision: Option<u64>,
        ) {
            let mut record = record(&topic, (&forwarded, &payload), qos, retain);
            record.retained_revision = retained_revision;
            record.publisher = names.map(|(client_id, user_name)| Publisher {
                epoch: SessionEpoch(epoch),
                client_id: client_id.into(),
                user_name: user_name.map(Into::into),
            });
            let bytes = encoded(&record);
            let body = decode_body(record.message.id(), &bytes).unwrap();
            let expected = StoredMessage {
                id: record.message.id(),
                tenant: TenantId(3),
                contents: record.message.contents(),
                qos: QoS::from_bits(qos).unwrap(),
                retain,
                received_wall_ms: NOW.wall_ms - 1,
                expires_wall_ms: 0,
            };
            prop_assert_eq!(body.message, expected);
            let contents = body.message.contents;
            prop_assert_eq!(contents.topic(), topic);
            prop_assert_eq!(contents.forwarded(), forwarded);
            prop_assert_eq!(contents.payload(), payload);
            prop_assert_eq!(body.retained_revision, retained_revision);
            let publisher = record.publisher.as_ref().map(|publisher| StoredPublisher {
                epoch: publisher.epoch,
                client_id: &publisher.client_id,
                user_name: publisher.user_name.as_deref(),
            });
            prop_assert_eq!(body.publisher, publisher);
        }

        #[test]
        fn a_body_cut_short_or_changed_never_panics(at: u16, to: u8, cut: u16) {
            let mut record = record("a/b", (b"pro", b"payload"), 1, true);
            record.retained_revision = Some(300);
            let mut bytes = encoded(&record);
            let at = usize::from(at) % bytes.len();
            bytes[at] = to;
            bytes.truncate(usize::from(cut) % (bytes.len() + 1));
            let _ = decode_body(MessageId(1), &bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_body(MessageId(1), &bytes);
        }
    }

    #[test]
    fn expiry_is_kept_on_the_wall_clock_to_the_millisecond() {
        let mut record = record("a", (b"", b""), 1, false);
        let message = record.message.publication();
        let expires_at_ms = NOW.mono_ms + 1_500;
        let publication = Publication {
            expires_at_ms,
            ..message
        };
        let message = Message::new(&publication, None, &mut Vec::new(), &Arc::default());
        record.message = message;
        let bytes = encoded(&record);
        let body = decode_body(record.message.id(), &bytes).unwrap();
        assert_eq!(body.message.expires_wall_ms, NOW.wall_ms + 1_500);
    }

    #[test]
    fn a_small_message_costs_few_bytes_beside_its_texts() {
        let mut record = record("a/b", (b"", b"payload"), 1, false);
        record.publisher = Some(Publisher {
            epoch: SessionEpoch(1 << 36),
            client_id: "c".into(),
            user_name: None,
        });
        assert!(
            encoded(&record).len() <= 11 + 22,
            "{}",
            encoded(&record).len()
        );
    }
}
