//! Values that the store keeps by key, the latest of each: run number, clock, sessions, their
//! Wills, share groups, subscriptions.
//!
//! A state is owned by the epoch of its session or group, and removed with it; owner 0 is the
//! node. Each layout begins with its version.

use std::sync::Arc;

use martlet_broker::{
    Now, OnFull, PartQueueLimits, PartReach, PartTerms, Realm, SessionEpoch, SessionOwner,
    SessionRecord, StoredWill, SubscriptionRecord, TenantId,
};
use martlet_codec::{ProtocolVersion, SubscriptionFilter, TopicName};
use martlet_store::{RecordBuffer, RecordBuilder, StateKey};

use crate::bytes::{DecodeError, Reader, Scratch, flag, put_number, qos_of, versioned};

/// Kinds of states in the store.
pub(crate) mod kind {
    /// The number of the node's last run.
    pub(crate) const START: u8 = 0;
    pub(crate) const SESSION: u8 = 1;
    pub(crate) const WILL: u8 = 2;
    pub(crate) const GROUP: u8 = 3;
    pub(crate) const SUBSCRIPTION: u8 = 4;
    /// The time of records, and the wall clock at that time.
    pub(crate) const CLOCK: u8 = 5;
    /// A subscription is owed retained messages; a separate state, so that its end is a small
    /// record.
    pub(crate) const RETAINED_OWED: u8 = 6;
}

/// A share group, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupState<'a> {
    /// Tenant of the group.
    pub tenant: TenantId,
    /// `$share/name/filter`.
    pub filter: &'a str,
}

const DURABLE: u8 = 1;
const HAS_LEFT: u8 = 1 << 1;
const PUT_OFF: u8 = 1 << 2;
const HAS_OWNER: u8 = 1 << 3;
/// Position of the protocol version, as its level; 0 means unknown.
const VERSION_SHIFT: u8 = 4;
const VERSION_MASK: u8 = 0b111;
const IS_PART: u8 = 1 << 7;
/// Version of the session state of a part, which older programs do not support. Version 1 may also
/// be of a part: it was written at first.
const VERSION_OF_PART: u8 = 2;

/// Flags of a part's terms.
const KEEPS_QOS0: u8 = 1;
const HOLDS: u8 = 1 << 1;
const IS_LANE: u8 = 1 << 2;
const OF_ALL_TENANTS: u8 = 1 << 3;

/// Flags of the owner of a session.
const BOUND: u8 = 1;
const HAS_NAME: u8 = 1 << 1;
const HAS_HOLDER: u8 = 1 << 2;
const IS_COUNTED: u8 = 1 << 3;

/// Maximum time of records, so that sums of times do not overflow.
const CLOCK_MAX_MS: u64 = 1 << 62;

const RETAIN: u8 = 1 << 2;
const HAS_EXPIRY: u8 = 1 << 3;

const NO_LOCAL: u8 = 1 << 2;
const RETAIN_AS_PUBLISHED: u8 = 1 << 3;

pub(crate) fn key(epoch: SessionEpoch, kind: u8) -> StateKey {
    StateKey {
        owner: epoch.0,
        kind,
        number: 0,
    }
}

pub(crate) fn subscription_key(epoch: SessionEpoch, number: u32) -> StateKey {
    StateKey {
        owner: epoch.0,
        kind: kind::SUBSCRIPTION,
        number,
    }
}

pub(crate) fn retained_owed_key(epoch: SessionEpoch, number: u32) -> StateKey {
    StateKey {
        kind: kind::RETAINED_OWED,
        ..subscription_key(epoch, number)
    }
}

/// Whether a state belongs to a subscription that is owed retained messages.
pub fn is_retained_owed(key: StateKey) -> bool {
    key.kind == kind::RETAINED_OWED
}

/// The number of this run of the node.
pub(crate) fn put_start(start: u32, into: &mut RecordBuilder<'_>) {
    into.state(key(SessionEpoch(0), kind::START), &[&start_head(start)]);
}

fn start_head(start: u32) -> Scratch {
    let mut out = versioned();
    put_number(&mut out, start.into());
    out
}

/// Reads the number of the node's last run.
pub fn decode_start(bytes: &[u8]) -> Result<u32, DecodeError> {
    let mut reader = Reader::new(bytes)?;
    let start = reader.number32()?;
    reader.end()?;
    Ok(start)
}

/// The time of records at one moment, and the wall clock at that time. Only the difference of two
/// readings of the wall clock is used, and only for the time between two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// The time of records, milliseconds.
    pub record_ms: u64,
    /// The wall clock, milliseconds since the Unix epoch.
    pub wall_ms: u64,
}

impl ClockState {
    /// The times at this moment.
    pub fn of(now: Now) -> Self {
        let Now {
            record_ms, wall_ms, ..
        } = now;
        Self { record_ms, wall_ms }
    }

    /// The time of records at the next start, when the wall clock is `wall_ms`: a clock that was
    /// set back counts as one that stood still.
    pub fn record_ms_at(&self, wall_ms: u64) -> u64 {
        self.record_ms + wall_ms.saturating_sub(self.wall_ms)
    }
}

/// Records the time, so that a later start has a lower bound for it.
pub fn put_clock(clock: ClockState, into: &mut RecordBuffer) {
    let key = key(SessionEpoch(0), kind::CLOCK);
    into.record().state(key, &[&clock_head(clock)]);
}

fn clock_head(clock: ClockState) -> Scratch {
    let mut out = versioned();
    put_number(&mut out, clock.record_ms);
    put_number(&mut out, clock.wall_ms);
    out
}

/// Reads the last recorded time.
pub fn decode_clock(bytes: &[u8]) -> Result<ClockState, DecodeError> {
    let mut reader = Reader::new(bytes)?;
    let (record_ms, wall_ms) = (reader.number()?, reader.number()?);
    reader.end()?;
    if record_ms > CLOCK_MAX_MS {
        return Err(DecodeError::Malformed("time"));
    }
    Ok(ClockState { record_ms, wall_ms })
}

/// Writes a session, and its Will or the absence of one.
pub(crate) fn put_session(session: &SessionRecord, into: &mut RecordBuilder<'_>) {
    let head = session_head(session);
    let pieces = [&head, user_name(session), session.client_id.as_bytes()];
    into.state(key(session.epoch, kind::SESSION), &pieces);
    let key = key(session.epoch, kind::WILL);
    match &session.will {
        Some(will) => {
            let head = will_head(will);
            let topic = will.topic.as_bytes();
            into.state(key, &[&head, topic, &will.forwarded, &will.payload]);
        }
        None => into.remove_state(key),
    }
}

fn session_head(session: &SessionRecord) -> Scratch {
    let mut out = versioned();
    if session.part.is_some() {
        out[0] = VERSION_OF_PART;
    }
    let level = session.version.map_or(0, |version| version as u8);
    out.push(
        flag(DURABLE, session.durable)
            | flag(HAS_LEFT, session.left_wall_ms.is_some())
            | flag(PUT_OFF, session.put_off)
            | flag(HAS_OWNER, session.owner.is_some())
            | level << VERSION_SHIFT
            | flag(IS_PART, session.part.is_some()),
    );
    put_number(&mut out, session.tenant.0.into());
    put_number(&mut out, session.expiry_secs.into());
    if let Some(left_wall_ms) = session.left_wall_ms {
        put_number(&mut out, left_wall_ms);
    }
    if let Some(PartTerms {
        keeps_qos0,
        reach,
        queue,
    }) = &session.part
    {
        out.push(
            flag(KEEPS_QOS0, *keeps_qos0)
                | flag(HOLDS, queue.on_full != OnFull::DropOldest)
                | flag(IS_LANE, reach.is_lane())
                | flag(OF_ALL_TENANTS, *reach == PartReach::LaneOfAllTenants),
        );
        put_number(&mut out, queue.bytes_max);
        put_number(&mut out, queue.age_max_secs.into());
    }
    if let Some(owner) = &session.owner {
        out.push(
            flag(BOUND, owner.bound)
                | flag(HAS_NAME, owner.user_name.is_some())
                | flag(HAS_HOLDER, owner.holder != 0)
                | flag(IS_COUNTED, owner.is_counted),
        );
        put_number(&mut out, owner.realm.0.into());
        if owner.holder != 0 {
            put_number(&mut out, owner.holder);
        }
        put_number(&mut out, user_name(session).len() as u64);
    }
    out
}

/// The name of its owner, which precedes the Client Identifier.
fn user_name(session: &SessionRecord) -> &[u8] {
    let owner = session.owner.as_ref();
    let name = owner.and_then(|owner| owner.user_name.as_deref());
    name.unwrap_or_default().as_bytes()
}

fn session_owner(reader: &mut Reader<'_>) -> Result<SessionOwner, DecodeError> {
    let flags = reader.byte()?;
    let realm = Realm(reader.number32()?);
    let holder = match flags & HAS_HOLDER {
        0 => 0,
        _ => reader.number()?,
    };
    let len = reader.number32()? as usize;
    let user_name = reader.mqtt_text(len)?;
    Ok(SessionOwner {
        realm,
        user_name: (flags & HAS_NAME != 0).then(|| user_name.into()),
        holder,
        bound: flags & BOUND != 0,
        is_counted: flags & IS_COUNTED != 0,
    })
}

fn part_terms(reader: &mut Reader<'_>) -> Result<PartTerms, DecodeError> {
    let flags = reader.byte()?;
    Ok(PartTerms {
        keeps_qos0: flags & KEEPS_QOS0 != 0,
        reach: match (flags & IS_LANE, flags & OF_ALL_TENANTS) {
            (0, _) => PartReach::Node,
            (_, 0) => PartReach::Lane,
            _ => PartReach::LaneOfAllTenants,
        },
        queue: PartQueueLimits {
            bytes_max: reader.number()?,
            age_max_secs: reader.number32()?,
            on_full: match flags & HOLDS {
                0 => OnFull::DropOldest,
                _ => OnFull::Hold,
            },
        },
    })
}

/// Reads a session, without its Will.
pub fn decode_session(epoch: SessionEpoch, bytes: &[u8]) -> Result<SessionRecord, DecodeError> {
    let (_, mut reader) = Reader::of_versions(bytes, VERSION_OF_PART)?;
    let flags = reader.byte()?;
    let tenant = TenantId(reader.number32()?);
    let expiry_secs = reader.number32()?;
    let left_wall_ms = match flags & HAS_LEFT {
        0 => None,
        _ => Some(reader.number()?),
    };
    let part = match flags & IS_PART {
        0 => None,
        _ => Some(part_terms(&mut reader)?),
    };
    let owner = match flags & HAS_OWNER {
        0 => None,
        _ => Some(session_owner(&mut reader)?),
    };
    let len = reader.rest().len();
    let client_id: Arc<str> = reader.mqtt_text(len)?.into();
    Ok(SessionRecord {
        tenant,
        client_id,
        epoch,
        expiry_secs,
        durable: flags & DURABLE != 0,
        version: match flags >> VERSION_SHIFT & VERSION_MASK {
            3 => Some(ProtocolVersion::V31),
            4 => Some(ProtocolVersion::V311),
            5 => Some(ProtocolVersion::V5),
            _ => None,
        },
        left_wall_ms,
        put_off: flags & PUT_OFF != 0,
        part,
        owner,
        will: None,
    })
}

fn will_head(will: &StoredWill) -> Scratch {
    let mut out = versioned();
    out.push(
        will.qos.bits()
            | flag(RETAIN, will.retain)
            | flag(HAS_EXPIRY, will.message_expiry_secs.is_some()),
    );
    put_number(&mut out, will.delay_secs.into());
    if let Some(expiry_secs) = will.message_expiry_secs {
        put_number(&mut out, expiry_secs.into());
    }
    put_number(&mut out, will.topic.len() as u64);
    put_number(&mut out, will.forwarded.len() as u64);
    out
}

/// Reads the Will of a session.
pub fn decode_will(bytes: &[u8]) -> Result<StoredWill, DecodeError> {
    let mut reader = Reader::new(bytes)?;
    let flags = reader.byte()?;
    let delay_secs = reader.number32()?;
    let message_expiry_secs = match flags & HAS_EXPIRY {
        0 => None,
        _ => Some(reader.number32()?),
    };
    let (topic_len, forwarded_len) = (reader.len()?, reader.len()?);
    let topic = reader.mqtt_text(topic_len)?;
    if TopicName::new(topic).is_err() {
        return Err(DecodeError::Malformed("Topic Name of a Will"));
    }
    Ok(StoredWill {
        topic: topic.into(),
        forwarded: reader.bytes(forwarded_len)?.into(),
        payload: reader.rest().into(),
        qos: qos_of(flags)?,
        retain: flags & RETAIN != 0,
        message_expiry_secs,
        delay_secs,
    })
}

/// Writes a share group.
pub(crate) fn put_group(
    tenant: TenantId,
    filter: &str,
    epoch: SessionEpoch,
    into: &mut RecordBuilder<'_>,
) {
    let pieces: [&[u8]; 2] = [&group_head(tenant), filter.as_bytes()];
    into.state(key(epoch, kind::GROUP), &pieces);
}

fn group_head(tenant: TenantId) -> Scratch {
    let mut out = versioned();
    put_number(&mut out, tenant.0.into());
    out
}

/// Reads a share group.
pub fn decode_group(bytes: &[u8]) -> Result<GroupState<'_>, DecodeError> {
    let mut reader = Reader::new(bytes)?;
    let tenant = TenantId(reader.number32()?);
    let filter = decode_filter(reader)?;
    match SubscriptionFilter::parse(filter) {
        Ok(parsed) if parsed.share_name.is_some() => Ok(GroupState { tenant, filter }),
        _ => Err(DecodeError::Malformed("filter of a share group")),
    }
}

/// Writes a subscription.
pub(crate) fn put_subscription(subscription: &SubscriptionRecord, into: &mut RecordBuilder<'_>) {
    let key = subscription_key(subscription.epoch, subscription.number);
    let pieces: [&[u8]; 2] = [
        &subscription_head(subscription),
        subscription.filter.as_bytes(),
    ];
    into.state(key, &pieces);
    let owed = retained_owed_key(subscription.epoch, subscription.number);
    let after = subscription.retained_after.as_deref().unwrap_or_default();
    match subscription.retained_pending {
        true => into.state(owed, &[&versioned(), after.as_bytes()]),
        false => into.remove_state(owed),
    }
}

/// Writes that a subscription is owed no more retained messages, or only those after a topic.
pub(crate) fn put_retained_owed(
    epoch: SessionEpoch,
    number: u32,
    after: Option<&str>,
    into: &mut RecordBuilder<'_>,
) {
    let key = retained_owed_key(epoch, number);
    match after {
        Some(topic) => into.state(key, &[&versioned(), topic.as_bytes()]),
        None => into.remove_state(key),
    }
}

/// Reads the topic after which a subscription is owed retained messages; `None` means all.
pub(crate) fn decode_retained_owed(bytes: &[u8]) -> Result<Option<&str>, DecodeError> {
    let reader = Reader::new(bytes)?;
    let topic = decode_filter(reader)?;
    Ok(Some(topic).filter(|topic| !topic.is_empty()))
}

fn subscription_head(subscription: &SubscriptionRecord) -> Scratch {
    let mut out = versioned();
    out.push(
        subscription.qos.bits()
            | flag(NO_LOCAL, subscription.no_local)
            | flag(RETAIN_AS_PUBLISHED, subscription.retain_as_published),
    );
    put_number(&mut out, subscription.subscription_id.into());
    out
}

/// Reads subscription `number` of a session. The retained messages that it is owed are in a
/// separate state.
pub fn decode_subscription(
    epoch: SessionEpoch,
    number: u32,
    bytes: &[u8],
) -> Result<SubscriptionRecord, DecodeError> {
    let mut reader = Reader::new(bytes)?;
    let flags = reader.byte()?;
    let subscription_id = reader.number32()?;
    let filter = decode_filter(reader)?;
    if SubscriptionFilter::parse(filter).is_err() {
        return Err(DecodeError::Malformed("Topic Filter"));
    }
    Ok(SubscriptionRecord {
        epoch,
        number,
        filter: filter.into(),
        qos: qos_of(flags)?,
        no_local: flags & NO_LOCAL != 0,
        retain_as_published: flags & RETAIN_AS_PUBLISHED != 0,
        subscription_id,
        retained_pending: false,
        retained_after: None,
    })
}

fn decode_filter(mut reader: Reader<'_>) -> Result<&str, DecodeError> {
    let len = reader.rest().len();
    reader.mqtt_text(len)
}

#[cfg(test)]
mod tests {
    use martlet_codec::QoS;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_session_comes_back(
            client_id in "[a-zé]{0,70}",
            tenant: u32,
            expiry_secs: u32,
            durable: bool,
            version in prop::option::of(prop::sample::select(&[
                ProtocolVersion::V31,
                ProtocolVersion::V311,
                ProtocolVersion::V5,
            ])),
            left_wall_ms: Option<u64>,
            put_off: bool,
            part in prop::option::of(any::<(bool, u64, u32, bool, u8)>()),
            owner in prop::option::of((
                prop::option::of("[a-zé]{0,70}"),
                any::<u64>(),
                any::<u32>(),
                any::<bool>(),
                any::<bool>(),
            )),
        ) {
            let session = SessionRecord {
                tenant: TenantId(tenant),
                client_id: client_id.into(),
                epoch: SessionEpoch(4),
                expiry_secs,
                durable,
                version,
                left_wall_ms,
                put_off,
                part: part.map(|(keeps_qos0, bytes_max, age_max_secs, holds, reach)| PartTerms {
                    keeps_qos0,
                    reach: match reach % 3 {
                        0 => PartReach::Node,
                        1 => PartReach::Lane,
                        _ => PartReach::LaneOfAllTenants,
                    },
                    queue: PartQueueLimits {
                        bytes_max,
                        age_max_secs,
                        on_full: if holds { OnFull::Hold } else { OnFull::DropOldest },
                    },
                }),
                owner: owner.map(|(name, holder, realm, bound, is_counted)| SessionOwner {
                    realm: Realm(realm),
                    user_name: name.map(Arc::from),
                    holder,
                    bound,
                    is_counted,
                }),
                will: None,
            };
            let client_id = session.client_id.as_bytes();
            let bytes = [&session_head(&session), user_name(&session), client_id].concat();
            let back = decode_session(SessionEpoch(4), &bytes).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{session:?}"));
        }

        #[test]
        fn a_will_comes_back(
            topic in "[a-zé/]{1,40}",
            forwarded in prop::collection::vec(any::<u8>(), 0..20),
            payload in prop::collection::vec(any::<u8>(), 0..300),
            qos in 0_u8..3,
            retain: bool,
            message_expiry_secs: Option<u32>,
            delay_secs: u32,
        ) {
            let will = StoredWill {
                topic: topic.into(),
                payload: payload.into(),
                forwarded: forwarded.into(),
                qos: QoS::from_bits(qos).unwrap(),
                retain,
                message_expiry_secs,
                delay_secs,
            };
            let head = will_head(&will);
            let topic = will.topic.as_bytes();
            let bytes = [&head, topic, &will.forwarded, &will.payload].concat();
            prop_assert_eq!(decode_will(&bytes), Ok(will));
        }

        #[test]
        fn a_subscription_comes_back(
            filter in "[a-z]{1,9}/[+]/#",
            number: u32,
            qos in 0_u8..3,
            flags: [bool; 2],
            subscription_id: u32,
        ) {
            let subscription = SubscriptionRecord {
                epoch: SessionEpoch(4),
                number,
                filter: filter.into(),
                qos: QoS::from_bits(qos).unwrap(),
                no_local: flags[0],
                retain_as_published: flags[1],
                subscription_id,
                // Stored in a separate state.
                retained_pending: false,
                retained_after: None,
            };
            let head = subscription_head(&subscription);
            let bytes = [&head, subscription.filter.as_bytes()].concat();
            let back = decode_subscription(SessionEpoch(4), number, &bytes).unwrap();
            prop_assert_eq!(format!("{back:?}"), format!("{subscription:?}"));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            current: bool,
            mut bytes in prop::collection::vec(any::<u8>(), 1..60),
        ) {
            if current {
                bytes[0] = martlet_broker::RECORD_VERSION;
            }
            let _ = decode_session(SessionEpoch(1), &bytes);
            let _ = decode_will(&bytes);
            let _ = decode_group(&bytes);
            let _ = decode_subscription(SessionEpoch(1), 1, &bytes);
            let _ = decode_retained_owed(&bytes);
            let _ = decode_start(&bytes);
            let _ = decode_clock(&bytes);
        }
    }

    #[test]
    fn a_group_and_a_run_number_come_back_and_what_is_none_is_refused() {
        let bytes = [&group_head(TenantId(5)), "$share/g/a/+".as_bytes()].concat();
        let (tenant, filter) = (TenantId(5), "$share/g/a/+");
        assert_eq!(decode_group(&bytes), Ok(GroupState { tenant, filter }));
        let bytes = [&group_head(TenantId(5)), "a/+".as_bytes()].concat();
        assert!(decode_group(&bytes).is_err());
        assert_eq!(decode_start(&start_head(70_000)), Ok(70_000));
        assert!(decode_start(&[]).is_err());
        let clock = ClockState {
            record_ms: 5_000_000_000_000,
            wall_ms: 7,
        };
        assert_eq!(decode_clock(&clock_head(clock)), Ok(clock));
    }

    #[test]
    fn a_session_recorded_before_its_version_was_still_opens() {
        // Version 1 of the layout; flags: durable, has left; tenant, expiry, time of leaving.
        let bytes = [&[1, 0b11, 0, 60, 9], "client".as_bytes()].concat();
        let session = decode_session(SessionEpoch(4), &bytes).unwrap();
        assert_eq!((session.version, session.put_off), (None, false));
        assert_eq!((session.expiry_secs, session.left_wall_ms), (60, Some(9)));
        assert_eq!(&*session.client_id, "client");
    }

    #[test]
    fn the_session_of_a_part_has_a_version_of_its_own_and_the_first_one_is_read() {
        // Flags: durable, has left, a part; tenant, expiry, time of leaving; keeps QoS 0, 70
        // bytes.
        let rest = [&[0b1000_0011, 0, 60, 9, 1, 70, 0], "$part".as_bytes()].concat();
        for version in [1, 2] {
            let bytes = [&[version][..], &rest].concat();
            let session = decode_session(SessionEpoch(4), &bytes).unwrap();
            let terms = session.part.unwrap();
            assert!(terms.keeps_qos0 && terms.queue.bytes_max == 70);
            assert_eq!(session_head(&session)[0], VERSION_OF_PART);
            let client = SessionRecord {
                part: None,
                ..session
            };
            assert_eq!(session_head(&client)[0], martlet_broker::RECORD_VERSION);
        }
        let newer = [&[3][..], &rest].concat();
        let error = decode_session(SessionEpoch(4), &newer).err();
        assert_eq!(error, Some(DecodeError::Newer(3)));
    }

    #[test]
    fn a_clock_set_back_between_two_runs_counts_as_one_that_stood_still() {
        let clock = ClockState {
            record_ms: 1_000,
            wall_ms: 50_000,
        };
        assert_eq!(clock.record_ms_at(50_300), 1_300);
        assert_eq!(clock.record_ms_at(49_000), 1_000);
    }
}
