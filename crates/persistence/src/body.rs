//! The body of a message in the store: the whole message and its publisher. The message id is the
//! id of the body in the store.
//!
//! Layout: version; flags; tenant; arrival; depending on the flags, arrival in the time of
//! records, expiry, retained revision, the publisher (flags, epoch, the mark of its listener, the
//! length of its Client Identifier), the length of its user name; lengths of the topic and of the
//! forwarded properties; then these texts in this order, and the payload to the end. Version 1 has
//! no flags and no listener of the publisher. Version 3 is written if a part has requested
//! receipts. Version 4 is written if the wall clock was set and differs from the time of records.
//! Older programs cannot read versions 3 and 4.
//!
//! The publisher's names are in each body, not in a separate record to which bodies refer. So a
//! damaged record costs only itself, and no reference counter of names is needed.

use std::sync::Arc;

use martlet_broker::{
    ConnectedClient, Contents, ListenerPolicy, MessageId, MessageRecord, Now, SessionEpoch,
    StoredMessage, TenantId,
};
use martlet_fault::{self as fault, Fault};
use martlet_store::{BodyId, Holds, RecordBuilder};

use crate::bytes::{DecodeError, Head, Reader, flag, qos_of};

const RETAIN: u8 = 1 << 2;
const HAS_PUBLISHER: u8 = 1 << 3;
const HAS_USER_NAME: u8 = 1 << 4;
const HAS_REVISION: u8 = 1 << 5;
const HAS_EXPIRY: u8 = 1 << 6;
const HAS_RECORD_TIME: u8 = 1 << 7;

/// Versions that are written.
const VERSION: u8 = 2;
const VERSION_WITH_RECEIPTS: u8 = 3;
const VERSION_WITH_RECORD_TIME: u8 = 4;
/// Difference in milliseconds of the wall clock from the last recorded time, above which a
/// message's own time is recorded.
const CLOCK_APART_MS: u64 = 1_000;
/// Flags of the publisher.
const USER_IS_PROVED: u8 = 1;
const IS_DEVICE: u8 = 1 << 1;
/// Hop count: five bits.
const HOPS_SHIFT: u8 = 2;
const HOPS_STORED_MAX: u8 = 31;
/// The publisher is a part that has requested receipts.
const WANTS_RECEIPTS: u8 = 1 << 7;

/// A message as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredBody<'a> {
    /// The message.
    pub message: StoredMessage<'a>,
    /// The publisher; `None` is the node itself.
    pub publisher: Option<StoredPublisher<'a>>,
    /// Revision in the retained store, if it was the topic's retained message or cleared it.
    pub retained_revision: Option<u64>,
}

/// The publisher of a message, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPublisher<'a> {
    /// Session of the publisher.
    pub epoch: SessionEpoch,
    /// Client Identifier.
    pub client_id: &'a str,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Whether its user name was authenticated.
    pub user_is_proved: bool,
    /// Whether its user is a device.
    pub is_device: bool,
    /// [Mark](ListenerPolicy::mark_of) of its listener; 0 is unknown.
    pub listener_mark: u32,
    /// Whether it is a part that has requested receipts.
    pub wants_receipts: bool,
}

/// Writes the body of a message into a record.
pub(crate) fn put_body(
    record: &MessageRecord,
    holds: Holds,
    now: Now,
    into: &mut RecordBuilder<'_>,
) {
    let id = BodyId(record.message.id().0);
    into.body(id, holds, &pieces(record, head(record, now).as_slice()));
}

/// The pieces of a body; the first is `head`.
fn pieces<'a>(record: &'a MessageRecord, head: &'a [u8]) -> [&'a [u8]; 6] {
    let publisher = publisher(record);
    let user_name = publisher.and_then(|(_, client)| client.user_name.as_deref());
    let contents = record.message.contents();
    [
        head,
        publisher.map_or(&[], |(_, client)| client.client_id.as_bytes()),
        user_name.map_or(&[], str::as_bytes),
        contents.topic_bytes(),
        contents.forwarded(),
        contents.payload(),
    ]
}

/// The session and the client that published a message; `None` is the node itself.
fn publisher(record: &MessageRecord) -> Option<(SessionEpoch, &ConnectedClient)> {
    Some((record.publisher?, record.message.client()?))
}

/// The part of a body before its texts.
fn head(record: &MessageRecord, now: Now) -> Head {
    let message = &record.message;
    let publisher = publisher(record);
    let user_name = publisher.and_then(|(_, client)| client.user_name.as_deref());
    let expires_wall_ms = now.record_ms_of(message.expires_at_ms());
    let wants_receipts = message.id().wants_receipts() && publisher.is_some();
    let received_wall_ms = message.received_wall_ms();
    let received_record_ms = message.received_record_ms(now);
    let is_apart = received_record_ms.abs_diff(received_wall_ms) >= CLOCK_APART_MS;
    let mut head = Head::new(match (is_apart, wants_receipts) {
        (true, _) => VERSION_WITH_RECORD_TIME,
        (_, true) => VERSION_WITH_RECEIPTS,
        _ => VERSION,
    });
    head.put(
        message.qos().bits()
            | flag(RETAIN, message.retain())
            | flag(HAS_PUBLISHER, publisher.is_some())
            | flag(HAS_USER_NAME, user_name.is_some())
            | flag(HAS_REVISION, record.retained_revision.is_some())
            | flag(HAS_EXPIRY, expires_wall_ms != 0)
            | flag(HAS_RECORD_TIME, is_apart),
    );
    head.put_number(message.tenant().0.into());
    head.put_number(received_wall_ms);
    if is_apart {
        head.put_number(received_record_ms);
    }
    if expires_wall_ms != 0 {
        head.put_number(expires_wall_ms);
    }
    if let Some(revision) = record.retained_revision {
        head.put_number(revision);
    }
    if let Some((epoch, client)) = publisher {
        head.put(
            flag(USER_IS_PROVED, client.flags.user_is_proved())
                | flag(IS_DEVICE, client.flags.is_device())
                | message.hops().min(HOPS_STORED_MAX) << HOPS_SHIFT
                | flag(WANTS_RECEIPTS, wants_receipts),
        );
        head.put_name(epoch.0);
        head.put_mark(client.listener.mark);
        head.put_number(client.client_id.len() as u64);
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
    let (version, mut reader) = Reader::of_versions(bytes, VERSION_WITH_RECORD_TIME)?;
    let flags = reader.byte()?;
    let inconsistent = flags & HAS_USER_NAME != 0 && flags & HAS_PUBLISHER == 0;
    let unknown = flags & HAS_RECORD_TIME != 0 && version < VERSION_WITH_RECORD_TIME;
    if unknown || inconsistent {
        return Err(DecodeError::Malformed("flags of a body"));
    }
    let has = |bit: u8| flags & bit != 0;
    let tenant = TenantId(reader.number32()?);
    let received_wall_ms = reader.number()?;
    let received_record_ms = match has(HAS_RECORD_TIME) {
        true => reader.number()?,
        false => received_wall_ms,
    };
    let expires_wall_ms = match has(HAS_EXPIRY) {
        true => reader.number()?,
        false => 0,
    };
    let retained_revision = match has(HAS_REVISION) {
        true => Some(reader.number()?),
        false => None,
    };
    let publisher = match has(HAS_PUBLISHER) {
        true => Some(PublisherHead::read(&mut reader, version)?),
        false => None,
    };
    let user_name_len = match has(HAS_USER_NAME) {
        true => Some(reader.len()?),
        false => None,
    };
    let (topic_len, forwarded_len) = (reader.len()?, reader.len()?);
    let hops = publisher.as_ref().map_or(0, PublisherHead::hops);
    let hops = if fault::is(Fault::HopsNotStored) {
        0
    } else {
        hops
    };
    let publisher = match publisher {
        None => None,
        Some(head) => Some(StoredPublisher {
            epoch: head.epoch,
            client_id: reader.text(head.client_id_len)?,
            user_name: user_name_len.map(|len| reader.text(len)).transpose()?,
            user_is_proved: head.flags & USER_IS_PROVED != 0,
            is_device: head.flags & IS_DEVICE != 0,
            listener_mark: head.listener_mark,
            wants_receipts: head.flags & WANTS_RECEIPTS != 0,
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
        received_record_ms,
        expires_wall_ms,
        hops,
    };
    Ok(StoredBody {
        message,
        publisher,
        retained_revision,
    })
}

/// Tenant of a stored message; 0, the common one, if the body is damaged.
pub fn tenant_of(body: &[u8]) -> u32 {
    let tenant = |(_, mut reader): (u8, Reader<'_>)| {
        reader.byte()?;
        reader.number32()
    };
    let read = Reader::of_versions(body, VERSION_WITH_RECORD_TIME).and_then(tenant);
    read.unwrap_or_default()
}

/// A publisher without its texts.
struct PublisherHead {
    flags: u8,
    epoch: SessionEpoch,
    listener_mark: u32,
    client_id_len: usize,
}

impl PublisherHead {
    fn hops(&self) -> u8 {
        self.flags >> HOPS_SHIFT & HOPS_STORED_MAX
    }

    fn read(reader: &mut Reader<'_>, version: u8) -> Result<Self, DecodeError> {
        let is_first_version = version < VERSION;
        let flags = match is_first_version {
            true => 0,
            false => reader.byte()?,
        };
        if flags & WANTS_RECEIPTS != 0 && version < VERSION_WITH_RECEIPTS {
            return Err(DecodeError::Malformed("flags of a publisher"));
        }
        Ok(Self {
            flags,
            epoch: SessionEpoch(reader.name()?),
            listener_mark: match is_first_version {
                true => 0,
                false => reader.mark()?,
            },
            client_id_len: reader.len()?,
        })
    }
}

impl StoredPublisher<'_> {
    /// Whether this client published it, through the same listener or one that no longer exists.
    pub(crate) fn is_of(&self, client: &ConnectedClient) -> bool {
        let mark = client.listener.mark;
        *client.client_id == *self.client_id
            && client.user_name.as_deref() == self.user_name
            && client.flags.user_is_proved() == self.user_is_proved
            && client.flags.is_device() == self.is_device
            && (mark == self.listener_mark || mark == 0)
    }

    /// The publishing client. Its listener is the one of `listeners` with its mark.
    pub fn client(&self, listeners: &[Arc<ListenerPolicy>]) -> ConnectedClient {
        let mut client = ConnectedClient::new(self.client_id, self.user_name);
        client.flags.set_user_is_proved(self.user_is_proved);
        client.flags.set_is_device(self.is_device);
        let mut all = listeners.iter();
        let listener = all.find(|listener| listener.mark == self.listener_mark);
        client.listener = listener.map_or_else(ListenerPolicy::unknown, Arc::clone);
        client
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::{Message, Publication, SharedClient};
    use martlet_codec::QoS;
    use proptest::prelude::*;

    use super::*;
    use crate::fetch::Publishers;

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
            hops: 0,
            is_will: false,
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

    /// The record with this publisher.
    fn published_by(record: &MessageRecord, epoch: u64, client: ConnectedClient) -> MessageRecord {
        let client = Some(SharedClient::new(client));
        let publication = record.message.publication();
        let message = Message::new(&publication, client, &mut Vec::new(), &Arc::default());
        MessageRecord {
            message,
            publisher: Some(SessionEpoch(epoch)),
            ..record.clone()
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
            is_device: bool,
            is_proved: bool,
            retained_revision: Option<u64>,
        ) {
            let listener = Arc::new(ListenerPolicy {
                mark: ListenerPolicy::mark_of("mqtt"),
                ..ListenerPolicy::default()
            });
            let mut record = record(&topic, (&forwarded, &payload), qos, retain);
            record.retained_revision = retained_revision;
            if let Some((client_id, user_name)) = names {
                let mut client = ConnectedClient::new(&client_id, user_name.as_deref());
                client.flags.set_is_device(is_device);
                client.flags.set_user_is_proved(is_proved);
                client.listener = Arc::clone(&listener);
                record = published_by(&record, epoch, client);
            }
            let bytes = encoded(&record);
            let body = decode_body(record.message.id(), &bytes).unwrap();
            let expected = StoredMessage {
                id: record.message.id(),
                tenant: TenantId(3),
                contents: record.message.contents(),
                qos: QoS::from_bits(qos).unwrap(),
                retain,
                received_wall_ms: NOW.wall_ms - 1,
                received_record_ms: NOW.wall_ms - 1,
                expires_wall_ms: 0,
                hops: 0,
            };
            prop_assert_eq!(body.message, expected);
            let contents = body.message.contents;
            prop_assert_eq!(contents.topic(), topic);
            prop_assert_eq!(contents.forwarded(), forwarded);
            prop_assert_eq!(contents.payload(), payload);
            prop_assert_eq!(body.retained_revision, retained_revision);
            prop_assert_eq!(body.publisher.map(|publisher| publisher.epoch), record.publisher);
            let client = body.publisher.map(|publisher| publisher.client(&[listener]));
            let published = record.message.client().map(|client| &**client);
            prop_assert_eq!(client.as_ref(), published);
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
    fn a_wall_clock_that_tells_another_time_than_records_is_written_down() {
        for (off_ms, version) in [(0, 2), (900, 2), (3_600_000, 4)] {
            let record = record("a", (b"", b""), 1, false);
            let now = Now {
                wall_ms: NOW.wall_ms - off_ms,
                record_ms: NOW.record_ms + 500 + off_ms,
                mono_ms: NOW.mono_ms + 500,
            };
            let bytes = pieces(&record, head(&record, now).as_slice()).concat();
            assert_eq!(bytes[0], version, "{off_ms}");
            let body = decode_body(record.message.id(), &bytes).unwrap().message;
            assert_eq!(body.received_wall_ms, NOW.wall_ms - 1);
            let expected = NOW.record_ms + off_ms;
            assert!(expected - body.received_record_ms <= 901, "{body:?}");
        }
    }

    #[test]
    fn publishers_of_one_session_are_told_apart_by_all_their_names() {
        let stored = StoredPublisher {
            epoch: SessionEpoch(4),
            client_id: "one",
            user_name: Some("user"),
            user_is_proved: true,
            is_device: false,
            listener_mark: 0,
            wants_receipts: false,
        };
        let gauge = Arc::default();
        let mut publishers = Publishers::default();
        let mut client = |stored: StoredPublisher<'_>| {
            let client = publishers.client(&stored, &[], &gauge);
            assert_eq!(*client.client_id, *stored.client_id);
            assert_eq!(client.user_name.as_deref(), stored.user_name);
            assert_eq!(client.flags.user_is_proved(), stored.user_is_proved);
            assert_eq!(client.flags.is_device(), stored.is_device);
        };
        for is_device in [false, true] {
            for user_is_proved in [false, true] {
                for user_name in [None, Some("user"), Some("other")] {
                    for client_id in ["one", "two", "one"] {
                        client(StoredPublisher {
                            client_id,
                            user_name,
                            user_is_proved,
                            is_device,
                            ..stored
                        });
                    }
                }
            }
        }
    }

    #[test]
    fn a_body_of_version_1_is_read_and_its_publisher_has_no_listener() {
        let mut bytes = vec![1, 1 | HAS_PUBLISHER | HAS_USER_NAME, 3, 1];
        bytes.extend_from_slice(&9_u64.to_le_bytes());
        bytes.extend_from_slice(&[1, 1, 1, 0]);
        bytes.extend_from_slice(b"cutp");
        let body = decode_body(MessageId(1), &bytes).unwrap();
        assert_eq!(body.message.contents.topic(), "t");
        assert_eq!(body.message.contents.payload(), b"p");
        let publisher = body.publisher.unwrap();
        assert_eq!(publisher.epoch, SessionEpoch(9));
        let listener = Arc::new(ListenerPolicy {
            mark: 7,
            ..ListenerPolicy::default()
        });
        let client = publisher.client(&[listener]);
        assert_eq!(&*client.client_id, "c");
        assert_eq!(client.user_name.as_deref(), Some("u"));
        assert_eq!(client.listener, ListenerPolicy::unknown());
    }

    #[test]
    fn a_body_says_that_a_part_has_asked_for_receipts_in_a_version_of_its_own() {
        let plain = record("t", (b"", b"p"), 1, false);
        let publication = plain.message.publication();
        let asks = Publication {
            id: MessageId(256),
            ..publication
        };
        let client = Some(SharedClient::new(ConnectedClient::new("$part", None)));
        let message = Message::new(&asks, client, &mut Vec::new(), &Arc::default());
        let asks = MessageRecord {
            message,
            publisher: Some(SessionEpoch(9)),
            ..plain.clone()
        };
        let plain = published_by(&plain, 9, ConnectedClient::new("c", None));
        for (record, version) in [(plain, 2), (asks, 3)] {
            let mut bytes = encoded(&record);
            assert_eq!(bytes[0], version);
            let body = decode_body(record.message.id(), &bytes).unwrap();
            let publisher = body.publisher.unwrap();
            assert_eq!(publisher.wants_receipts, version == 3);
            bytes[0] = 2;
            let read = decode_body(record.message.id(), &bytes);
            assert_eq!(read.is_ok(), version == 2, "{read:?}");
        }
    }

    #[test]
    fn a_small_message_costs_few_bytes_beside_its_texts() {
        let mut record = record("a/b", (b"", b"payload"), 1, false);
        record = published_by(&record, 1 << 36, ConnectedClient::new("c", None));
        assert!(
            encoded(&record).len() <= 11 + 27,
            "{}",
            encoded(&record).len()
        );
    }
}
