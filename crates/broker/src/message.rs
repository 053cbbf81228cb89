//! The Application Message: borrowed while it is routed, shared and immutable once it must be held.
//!
//! A QoS 0 message that only goes into output buffers is never more than a [`Publication`]; the
//! first queue, in-flight slot, retained entry or other shard that needs it makes a [`Message`],
//! one allocation that all of them share.

use std::sync::Arc;

use martlet_codec::{QoS, text_of};
use martlet_permission::TenantId;
use triomphe::{Arc as PlainArc, ThinArc};

use crate::connected_client::SharedClient;
use crate::gauge::MemoryGauge;
use crate::id::{MessageId, SessionAddress};
use crate::time::Now;

/// A message on its way through the router, borrowing from the packet that brought it.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// Name in records and between shards.
    pub id: MessageId,
    /// Tenant of its topic.
    pub tenant: TenantId,
    /// The session that published it; none for the node itself. Needed for No Local.
    pub publisher: Option<SessionAddress>,
    /// Topic Name.
    pub topic: &'a str,
    /// Properties that are passed on unaltered [MQTT-3.3.2-17], encoded as on the wire.
    pub forwarded: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
    /// QoS it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN 1.
    pub retain: bool,
    /// When it came in, milliseconds since the Unix epoch.
    pub received_wall_ms: u64,
    /// Monotonic time at which it expires; `u64::MAX` is never.
    pub expires_at_ms: u64,
    /// The tick's monotonic time at which it came in. Wraps around for one that came in before the
    /// node started.
    pub received_mono_ms: u64,
    /// How often a part of a node has passed it on: see [`HOPS_MAX`].
    pub hops: u8,
    /// Whether it is a Will: nobody waits for its acknowledgement. Not recorded.
    pub is_will: bool,
}

/// How long ago a message came in: see [`Publication::received_mono_ms`].
pub(crate) fn age_ms(received_mono_ms: u64, now_mono_ms: u64) -> u64 {
    let age_ms = now_mono_ms.wrapping_sub(received_mono_ms);
    // Another shard may have had a later time.
    age_ms.cast_signed().max(0).cast_unsigned()
}

/// How often parts of nodes may pass a message on, each as the consequence of another one. More is
/// taken for a loop.
pub const HOPS_MAX: u8 = 16;

impl Publication<'_> {
    fn text_bytes(&self) -> usize {
        self.topic.len() + self.forwarded.len() + self.payload.len()
    }

    /// Replaces `text` by the contents of the message.
    fn put_text(&self, text: &mut Vec<u8>) {
        text.clear();
        text.extend_from_slice(self.topic.as_bytes());
        text.extend_from_slice(self.forwarded);
        text.extend_from_slice(self.payload);
    }

    /// Returns the Message Expiry Interval as it is to be sent at `now_ms` [MQTT-3.3.2-6]: whole
    /// seconds that are left, so that it lives no longer elsewhere; all of it if it is passed on at
    /// once.
    pub fn expiry_left_secs(&self, now_ms: u64) -> Option<u32> {
        expiry_left_secs(self.expires_at_ms, now_ms)
    }
}

/// A message as its record has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMessage<'a> {
    /// Name of the message.
    pub id: MessageId,
    /// Tenant of its topic.
    pub tenant: TenantId,
    /// Topic Name, properties and payload.
    pub contents: Contents<'a>,
    /// QoS it was published with.
    pub qos: QoS,
    /// Whether it was published with RETAIN 1.
    pub retain: bool,
    /// When it came in, milliseconds since the Unix epoch.
    pub received_wall_ms: u64,
    /// Time when it came in, milliseconds in the time of records.
    pub received_record_ms: u64,
    /// When it expires, milliseconds in the time of records; 0 is never.
    pub expires_wall_ms: u64,
    /// See [`Publication::hops`].
    pub hops: u8,
}

/// The contents of a message: Topic Name, forwarded properties and payload, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents<'a> {
    text: &'a [u8],
    topic_len: u16,
    forwarded_len: u32,
}

impl<'a> Contents<'a> {
    /// The contents that `text` is; none if the lengths do not fit into it, or its beginning is no
    /// UTF-8.
    pub fn new(text: &'a [u8], topic_len: usize, forwarded_len: usize) -> Option<Self> {
        let (topic, rest) = text.split_at_checked(topic_len)?;
        text_of(topic)?;
        rest.get(..forwarded_len)?;
        Some(Self {
            text,
            topic_len: u16::try_from(topic_len).ok()?,
            forwarded_len: u32::try_from(forwarded_len).ok()?,
        })
    }

    /// Topic Name.
    pub fn topic(&self) -> &'a str {
        text_of(self.topic_bytes()).unwrap_or_default()
    }

    /// Topic Name, as bytes: it is known to be UTF-8.
    pub fn topic_bytes(&self) -> &'a [u8] {
        &self.text[..usize::from(self.topic_len)]
    }

    /// Properties that are passed on unaltered, encoded as on the wire.
    pub fn forwarded(&self) -> &'a [u8] {
        let begin = usize::from(self.topic_len);
        &self.text[begin..begin + self.forwarded_len as usize]
    }

    /// Payload.
    pub fn payload(&self) -> &'a [u8] {
        &self.text[usize::from(self.topic_len) + self.forwarded_len as usize..]
    }
}

/// A message that is held. Clones share it.
#[derive(Clone, Debug)]
pub struct Message(ThinArc<Header, u8>);

/// Topic, forwarded properties and payload lie one after the other behind this; behind them there
/// may be room.
#[derive(Debug)]
struct Header {
    id: MessageId,
    received_wall_ms: u64,
    received_mono_ms: u64,
    expires_at_ms: u64,
    gauge: Arc<MemoryGauge>,
    publisher: Option<SessionAddress>,
    client: Option<SharedClient>,
    tenant: TenantId,
    bytes: u32,
    forwarded_len: u32,
    topic_len: u16,
    qos: QoS,
    flags: Flags,
}

/// RETAIN, whether it is a Will, and the number of hops in one byte: with another one a message of
/// 64 bytes would take the next size of the allocator.
#[derive(Clone, Copy, Debug)]
struct Flags(u8);

impl Flags {
    fn new(retain: bool, is_will: bool, hops: u8) -> Self {
        // More hops than may be are as good as the most that fit.
        Self(hops.min(0x3F) << 2 | u8::from(is_will) << 1 | u8::from(retain))
    }

    fn retain(self) -> bool {
        self.0 & 1 != 0
    }

    fn is_will(self) -> bool {
        self.0 & 2 != 0
    }

    fn hops(self) -> u8 {
        self.0 >> 2
    }
}

impl Header {
    fn of(
        publication: &Publication<'_>,
        client: Option<SharedClient>,
        gauge: &Arc<MemoryGauge>,
    ) -> Self {
        let bytes = publication.text_bytes() + MESSAGE_OVERHEAD;
        Self {
            id: publication.id,
            received_wall_ms: publication.received_wall_ms,
            received_mono_ms: publication.received_mono_ms,
            expires_at_ms: publication.expires_at_ms,
            gauge: Arc::clone(gauge),
            publisher: publication.publisher,
            client,
            tenant: publication.tenant,
            bytes: bytes as u32,
            forwarded_len: publication.forwarded.len() as u32,
            topic_len: publication.topic.len() as u16,
            qos: publication.qos,
            flags: Flags::new(publication.retain, publication.is_will, publication.hops),
        }
    }

    /// Counts its bytes no more.
    fn uncount(&mut self) {
        let bytes = core::mem::take(&mut self.bytes);
        self.gauge.sub(bytes as usize);
    }

    /// The message with this header and text; its bytes are counted from now on.
    fn counted(self, text: &[u8]) -> Message {
        self.gauge.add(self.bytes as usize);
        Message(ThinArc::from_header_and_slice(self, text))
    }
}

impl Drop for Header {
    fn drop(&mut self) {
        self.uncount();
    }
}

impl Message {
    /// Copies a publication. `scratch` is only used inside; `gauge` counts the bytes until the
    /// last clone is dropped, on whichever shard that happens.
    pub fn new(
        publication: &Publication<'_>,
        client: Option<SharedClient>,
        scratch: &mut Vec<u8>,
        gauge: &Arc<MemoryGauge>,
    ) -> Self {
        publication.put_text(scratch);
        let header = Header::of(publication, client, gauge);
        header.counted(scratch)
    }

    /// A message as it was recorded. Its expiry counts on from `now`; `publisher` and `client` are
    /// the session and the client that published it, where that matters still. All of its bytes are
    /// counted by `gauge`.
    pub fn restored(
        stored: &StoredMessage<'_>,
        publisher: Option<SessionAddress>,
        client: Option<SharedClient>,
        now: Now,
        gauge: &Arc<MemoryGauge>,
    ) -> Self {
        let Contents {
            text,
            topic_len,
            forwarded_len,
        } = stored.contents;
        let header = Header {
            id: stored.id,
            received_wall_ms: stored.received_wall_ms,
            received_mono_ms: now.mono_ms_before(stored.received_record_ms),
            expires_at_ms: now.mono_ms_of(stored.expires_wall_ms),
            gauge: Arc::clone(gauge),
            publisher,
            client,
            tenant: stored.tenant,
            bytes: (text.len() + MESSAGE_OVERHEAD) as u32,
            forwarded_len,
            topic_len,
            qos: stored.qos,
            flags: Flags::new(stored.retain, false, stored.hops),
        };
        header.counted(text)
    }

    /// The message as the router wants it.
    pub fn publication(&self) -> Publication<'_> {
        let header = &self.0.header.header;
        Publication {
            id: header.id,
            tenant: header.tenant,
            publisher: header.publisher,
            topic: self.topic(),
            forwarded: self.forwarded(),
            payload: self.payload(),
            qos: header.qos,
            retain: header.flags.retain(),
            received_wall_ms: header.received_wall_ms,
            expires_at_ms: header.expires_at_ms,
            received_mono_ms: header.received_mono_ms,
            hops: header.flags.hops(),
            is_will: header.flags.is_will(),
        }
    }

    /// The client that published it, as it was connected then; none for the node's own messages,
    /// those of operators, and those whose publisher is not known any more.
    pub fn client(&self) -> Option<&SharedClient> {
        self.0.header.header.client.as_ref()
    }

    /// Returns the name.
    pub fn id(&self) -> MessageId {
        self.0.header.header.id
    }

    /// Tenant of its topic.
    pub fn tenant(&self) -> TenantId {
        self.0.header.header.tenant
    }

    /// Topic Name, properties and payload: cheaper than [`Message::publication`].
    pub fn contents(&self) -> Contents<'_> {
        let header = &self.0.header.header;
        Contents {
            text: &self.0.slice[..header.bytes as usize - MESSAGE_OVERHEAD],
            topic_len: header.topic_len,
            forwarded_len: header.forwarded_len,
        }
    }

    /// Topic Name.
    pub fn topic(&self) -> &str {
        self.contents().topic()
    }

    /// Topic Name, as bytes: it is known to be UTF-8.
    pub fn topic_bytes(&self) -> &[u8] {
        &self.0.slice[..usize::from(self.0.header.header.topic_len)]
    }

    /// Properties passed on unaltered, encoded.
    pub fn forwarded(&self) -> &[u8] {
        self.contents().forwarded()
    }

    /// Payload.
    pub fn payload(&self) -> &[u8] {
        self.contents().payload()
    }

    /// When it came in, milliseconds since the Unix epoch.
    pub fn received_wall_ms(&self) -> u64 {
        self.0.header.header.received_wall_ms
    }

    /// How long ago it came in, milliseconds; setting the wall clock does not change that.
    pub fn age_ms(&self, now_mono_ms: u64) -> u64 {
        age_ms(self.0.header.header.received_mono_ms, now_mono_ms)
    }

    /// When it came in, milliseconds in the time of records.
    pub fn received_record_ms(&self, now: Now) -> u64 {
        now.record_ms.saturating_sub(self.age_ms(now.mono_ms))
    }

    /// Whether it is a Will of this run of the node.
    pub(crate) fn is_will(&self) -> bool {
        self.0.header.header.flags.is_will()
    }

    /// How often a part of a node has passed it on.
    pub fn hops(&self) -> u8 {
        self.0.header.header.flags.hops()
    }

    /// Whether it was published with RETAIN 1.
    pub fn retain(&self) -> bool {
        self.0.header.header.flags.retain()
    }

    /// QoS it was published with.
    pub fn qos(&self) -> QoS {
        self.0.header.header.qos
    }

    /// Monotonic time at which it expires; `u64::MAX` is never.
    pub fn expires_at_ms(&self) -> u64 {
        self.0.header.header.expires_at_ms
    }

    /// Whether it has expired at `now_ms` [MQTT-3.3.2-5].
    pub fn expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms() <= now_ms
    }

    /// Returns what it is about, for operators.
    pub(crate) fn head(&self) -> MessageHead {
        MessageHead {
            topic: self.topic().into(),
            payload_bytes: self.payload().len(),
            received_wall_ms: self.received_wall_ms(),
        }
    }

    /// Sets the session that published it, while the message has no other holder.
    pub(crate) fn set_publisher(&mut self, publisher: SessionAddress) {
        self.0.with_arc_mut(|arc| {
            if let Some(body) = PlainArc::get_mut(arc) {
                body.header_mut().publisher = Some(publisher);
            }
        });
    }

    /// Returns what counts its bytes.
    pub(crate) fn gauge(&self) -> &Arc<MemoryGauge> {
        &self.0.header.header.gauge
    }

    /// Returns what it counts for in queues and limits: topic, properties, payload and overhead.
    pub fn bytes(&self) -> usize {
        self.0.header.header.bytes as usize
    }
}

/// Allocates the messages of a shard. Messages without a holder are used again, so that in the
/// steady state no message is allocated.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    text: Vec<u8>,
    /// Free messages by their room for text, in steps.
    free: [Vec<Message>; ROOMS],
}

/// Step of the room for text: a message is reused for one whose text is shorter by less than that.
const ROOM_STEP: usize = 32;
/// Number of rooms. A message of more than 512 bytes is not reused: an allocation costs little
/// beside copying it.
const ROOMS: usize = 17;
/// Messages of one length that are kept, at most.
const FREE_MAX: usize = 64;

impl Messages {
    /// Bytes of the messages that are kept to be used again.
    pub(crate) fn bytes(&self) -> usize {
        let kept = self
            .free
            .iter()
            .enumerate()
            .map(|(room, free)| free.len() * (room * ROOM_STEP + MESSAGE_OVERHEAD));
        self.text.capacity() + kept.sum::<usize>()
    }

    /// As [`Message::new`].
    pub(crate) fn make(
        &mut self,
        publication: &Publication<'_>,
        client: Option<SharedClient>,
        gauge: &Arc<MemoryGauge>,
    ) -> Message {
        let header = Header::of(publication, client, gauge);
        let room = publication.text_bytes().div_ceil(ROOM_STEP);
        let free = self.free.get_mut(room);
        let is_reusable = free.is_some();
        let Some(mut message) = free.and_then(Vec::pop) else {
            publication.put_text(&mut self.text);
            if is_reusable {
                self.text.resize(room * ROOM_STEP, 0);
            }
            return header.counted(&self.text);
        };
        message.0.with_arc_mut(|arc| match PlainArc::get_mut(arc) {
            Some(body) => {
                gauge.add(header.bytes as usize);
                *body.header_mut() = header;
                let mut rest = body.slice_mut();
                for part in [
                    publication.topic.as_bytes(),
                    publication.forwarded,
                    publication.payload,
                ] {
                    let (text, behind) = rest.split_at_mut(part.len());
                    text.copy_from_slice(part);
                    rest = behind;
                }
            }
            None => debug_assert!(false, "what is free is held by nobody else"),
        });
        message
    }

    /// Keeps a message for reuse, unless it is still held elsewhere.
    pub(crate) fn put_back(&mut self, mut message: Message) {
        let room = message.0.slice.len();
        let Some(free) = self.free.get_mut(room / ROOM_STEP) else {
            return;
        };
        if !room.is_multiple_of(ROOM_STEP) || free.len() >= FREE_MAX {
            return;
        }
        let is_free = message.0.with_arc_mut(|arc| match PlainArc::get_mut(arc) {
            Some(body) => {
                body.header_mut().uncount();
                body.header_mut().client = None;
                true
            }
            None => false,
        });
        if is_free {
            free.push(message);
        }
    }
}

/// Description of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageHead {
    /// Topic Name.
    pub topic: Box<str>,
    /// Length of its payload.
    pub payload_bytes: usize,
    /// When it came in, milliseconds since the Unix epoch.
    pub received_wall_ms: u64,
}

/// Cost of a message beside its text: header, reference count, allocator.
pub const MESSAGE_OVERHEAD: usize = 120;

/// On its way from shard to shard, and to the disk for QoS 2, a message is not waiting.
const PASSING_MS: u64 = 100;

/// The whole seconds that are left of an expiry interval; none if it never expires.
pub(crate) fn expiry_left_secs(expires_at_ms: u64, now_ms: u64) -> Option<u32> {
    (expires_at_ms != u64::MAX).then(|| {
        let left_ms = expires_at_ms.saturating_sub(now_ms);
        u32::try_from((left_ms + PASSING_MS) / 1000).unwrap_or(u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ShardId;

    #[test]
    fn a_message_gives_back_what_was_published_and_its_memory_when_the_last_clone_goes() {
        let gauge = Arc::default();
        let publication = Publication {
            id: MessageId::new(ShardId(1), 7),
            tenant: TenantId(0),
            publisher: None,
            topic: "a/é",
            forwarded: &[1, 1],
            payload: b"payload",
            qos: QoS::AtLeastOnce,
            retain: true,
            received_wall_ms: 5,
            expires_at_ms: 10_500,
            received_mono_ms: 1,
            hops: 0,
            is_will: false,
        };
        let message = Message::new(&publication, None, &mut Vec::new(), &gauge);
        let clone = message.clone();
        assert_eq!(clone.topic(), "a/é");
        assert_eq!(clone.forwarded(), [1, 1]);
        assert_eq!(clone.payload(), b"payload");
        assert_eq!(gauge.bytes(), message.bytes());
        drop(message);
        assert!(gauge.bytes() > 0);
        drop(clone);
        assert_eq!(gauge.bytes(), 0);
    }

    #[test]
    fn a_message_that_nobody_holds_is_used_again_and_says_what_the_next_one_says() {
        let gauge = Arc::default();
        let mut messages = Messages::default();
        let publication = |topic, payload| Publication {
            id: MessageId::new(ShardId(1), 7),
            tenant: TenantId(0),
            publisher: None,
            topic,
            forwarded: &[],
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            received_wall_ms: 5,
            expires_at_ms: u64::MAX,
            received_mono_ms: 1,
            hops: 0,
            is_will: false,
        };
        let held = messages.make(&publication("held", b"payload"), None, &gauge);
        messages.put_back(held.clone());
        let first = messages.make(&publication("a/b", b"payload"), None, &gauge);
        let place = first.topic_bytes().as_ptr();
        assert_eq!(held.topic(), "held");
        messages.put_back(first);
        assert_eq!(gauge.bytes(), held.bytes());
        let second = messages.make(&publication("c", b""), None, &gauge);
        assert_eq!(gauge.bytes(), held.bytes() + second.bytes());
        messages.put_back(second);
        let third = messages.make(&publication("topic", b"longer"), None, &gauge);
        assert_eq!((third.topic(), third.payload()), ("topic", &b"longer"[..]));
        assert_eq!(third.topic_bytes().as_ptr(), place);
        drop((held, third));
        assert_eq!(gauge.bytes(), 0);
    }

    #[test]
    fn an_interval_is_passed_on_whole_at_once_and_never_longer_than_what_is_left_of_it() {
        let left = |now_ms| expiry_left_secs(12_000, now_ms);
        assert_eq!((left(2_000), left(2_050)), (Some(10), Some(10)));
        assert_eq!((left(2_500), left(3_000)), (Some(9), Some(9)));
        assert_eq!((left(11_500), left(12_500)), (Some(0), Some(0)));
        assert_eq!(expiry_left_secs(u64::MAX, 2_000), None);
    }
}
