//! Payloads that were not stored: how many, by reason, and the last ones.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::wall_clock::now_ms;

/// Rejections that are remembered, at most. One topic and reason is remembered once.
const KEPT: usize = 500;
/// Longest text of a rejection that is kept, bytes.
const TEXT_MAX: usize = 512;

/// Reasons beside those of the decoder.
pub(super) const UNKNOWN_DEVICE: &str = "unknown_device";
/// The topic names no device, and the publisher is none.
pub(super) const NO_DEVICE: &str = "no_device";
/// The device has as many keys as it may have.
pub(super) const TOO_MANY_KEYS: &str = "too_many_keys";
/// All devices together have as many keys as they may have.
pub(super) const TOO_MANY_SERIES: &str = "too_many_series";
/// The devices of the team together have its share of these.
pub(super) const TEAM_SERIES: &str = "team_series";
/// The devices of the team together have its share of the bytes of telemetry.
pub(super) const TEAM_BYTES: &str = "team_bytes";

/// Payloads of one topic that were not stored for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[schema(as = RejectedTelemetry)]
pub struct Rejected {
    /// When the last one came.
    #[serde(rename = "at", with = "crate::rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub at_ms: u64,
    /// Number of the tenant; 0 is the common one.
    pub tenant: u32,
    /// Topic, or the path of an HTTP request.
    pub topic: String,
    /// Client Identifier of the last publisher, as far as known.
    pub client_id: Option<String>,
    /// The device whose values they were to be, as far as known.
    pub device: Option<String>,
    /// Word of the reason, as the metric has it.
    pub reason: &'static str,
    /// Error of the last one.
    pub detail: String,
    /// How many there were since the start, or since it was forgotten.
    pub count: u64,
    /// When the first payload of the topic behind the last one of these was stored.
    #[serde(skip)]
    #[schema(ignore)]
    pub stored_ms: Option<u64>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Rejections(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The one that was rejected last is last.
    last: VecDeque<Rejected>,
    counts: BTreeMap<&'static str, u64>,
}

/// Two names differ in case or in what separates their parts alone.
fn is_nearly(name: &str, other: &str) -> bool {
    let letters = |text: &str| -> String {
        let letters = text.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    name != other && !name.is_empty() && letters(name) == letters(other)
}

impl Rejections {
    /// Notes a payload that is not stored.
    pub(crate) fn note(
        &self,
        tenant: u32,
        topic: &str,
        client_id: Option<&str>,
        device: Option<&str>,
        reason: &'static str,
        detail: String,
    ) {
        let mut inner = self.inner();
        *inner.counts.entry(reason).or_default() += 1;
        let topic = shortened(topic);
        let is_same =
            |one: &Rejected| (one.tenant, one.reason) == (tenant, reason) && one.topic == topic;
        let before = inner.last.iter().rposition(is_same);
        let before = before.and_then(|place| inner.last.remove(place));
        if inner.last.len() >= KEPT {
            inner.last.pop_front();
        }
        inner.last.push_back(Rejected {
            at_ms: now_ms(),
            tenant,
            topic,
            client_id: client_id.map(shortened),
            device: device.map(shortened),
            reason,
            detail: shortened(&detail),
            count: before.map_or(0, |one| one.count) + 1,
            stored_ms: None,
        });
    }

    /// Notes of which topics, by tenant, the last payload is stored. Nothing is asked if nothing
    /// was rejected.
    pub(super) fn note_stored<'a>(&self, topics: impl FnOnce() -> HashMap<(u32, &'a str), bool>) {
        let mut inner = self.inner();
        if inner.last.iter().all(|one| one.stored_ms.is_some()) {
            return;
        }
        let stored = topics();
        let now_ms = now_ms();
        for one in inner.last.iter_mut().filter(|one| one.stored_ms.is_none()) {
            let is_stored = stored.get(&(one.tenant, &*one.topic));
            one.stored_ms = is_stored.is_some_and(|is_it| *is_it).then_some(now_ms);
        }
    }

    /// Notes that the last payload of a client is stored that was published to this topic, or sent
    /// to this path by HTTP.
    pub(super) fn note_stored_one(
        &self,
        tenant: u32,
        client_id: &str,
        topic: impl FnOnce() -> String,
    ) {
        let mut inner = self.inner();
        let mut all = inner.last.iter_mut();
        if !all.any(|one| one.stored_ms.is_none()) {
            return;
        }
        let topic = shortened(&topic());
        let of_it = inner.last.iter_mut();
        let of_it = of_it.filter(|one| {
            let of_client = one.client_id.as_deref() == Some(client_id);
            one.tenant == tenant && one.topic == topic && of_client
        });
        for one in of_it {
            one.stored_ms.get_or_insert_with(now_ms);
        }
    }

    /// The last ones of a tenant and of a device, or of all, the newest first.
    pub(crate) fn last(
        &self,
        tenant: Option<u32>,
        device: Option<&str>,
        limit: usize,
    ) -> Vec<Rejected> {
        let inner = self.inner();
        let all = inner.last.iter().rev();
        let all = all.filter(|one| tenant.is_none_or(|tenant| one.tenant == tenant));
        let is_of = |one: &&Rejected| device.is_none() || one.device.as_deref() == device;
        let all = all.filter(is_of);
        all.take(limit).cloned().collect()
    }

    /// The last ones of a client of a tenant, or of a device of that id from any client, the
    /// newest first.
    pub(crate) fn about_client(&self, tenant: u32, client_id: &str) -> Vec<Rejected> {
        let inner = self.inner();
        let all = inner.last.iter().rev();
        let names = |one: &Rejected| {
            one.reason == UNKNOWN_DEVICE && one.topic.split('/').any(|level| level == client_id)
        };
        let is_about = |one: &&Rejected| {
            let is_named = |name: &Option<String>| name.as_deref() == Some(client_id);
            let is_named = is_named(&one.client_id) || is_named(&one.device);
            one.tenant == tenant && (is_named || names(one))
        };
        all.filter(is_about).cloned().collect()
    }

    /// The last ones of devices that are not known and whose ids are nearly this one, the newest
    /// first, with those ids.
    pub(crate) fn nearly_about(&self, tenant: u32, device: &str) -> Vec<(Rejected, String)> {
        let inner = self.inner();
        let all = inner.last.iter().rev();
        let all = all.filter(|one| one.tenant == tenant && one.reason == UNKNOWN_DEVICE);
        let near = all.filter_map(|one| {
            let mut levels = one.topic.split('/');
            let near = levels.find(|level| is_nearly(level, device))?;
            Some((one.clone(), near.to_owned()))
        });
        near.collect()
    }

    /// Bytes of memory that they take, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        let inner = self.inner();
        let texts = |one: &Rejected| {
            one.topic.len() + one.detail.len() + one.client_id.as_ref().map_or(0, String::len)
        };
        let texts: usize = inner.last.iter().map(texts).sum();
        inner.last.len() * size_of::<Rejected>() + texts
    }

    /// How many were rejected, by reason.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.inner().counts.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Error of a value that the storage never takes, and what to do about it.
pub(super) fn words_of(refusal: martlet_telemetry::PointRefusal) -> String {
    use martlet_telemetry::PointRefusal;
    let remedy = match refusal {
        PointRefusal::TooManyKeys => {
            ": delete keys that are no longer needed, or raise telemetry.keys_per_device"
        }
        PointRefusal::TooManySeries => {
            ": delete values that are no longer needed, or raise telemetry.series"
        }
        PointRefusal::TenantSeries | PointRefusal::TenantBytes => {
            ": delete values that are no longer needed, or raise limits.team_percent"
        }
        _ => "",
    };
    format!("{refusal}{remedy}")
}

/// Word of a reason for which the storage never takes a value.
pub(super) fn reason_of(refusal: martlet_telemetry::PointRefusal) -> &'static str {
    use martlet_telemetry::PointRefusal;
    match refusal {
        PointRefusal::NotFinite => "bad_number",
        PointRefusal::KeyLength => "bad_key",
        PointRefusal::TextLength => "text_too_long",
        PointRefusal::Time => "bad_time",
        PointRefusal::TooManyKeys => TOO_MANY_KEYS,
        PointRefusal::TooManySeries => TOO_MANY_SERIES,
        PointRefusal::TenantSeries => TEAM_SERIES,
        PointRefusal::TenantBytes => TEAM_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_of_one_topic_and_reason_are_one_and_all_are_counted() {
        let rejections = Rejections::default();
        let reject = |tenant, topic: &str, reason| {
            rejections.note(tenant, topic, Some("c"), None, reason, "why".to_owned());
        };
        reject(0, "a", "not_json");
        reject(0, "b", "not_json");
        reject(0, "a", "not_json");
        reject(1, "a", "no_values");
        let shown = |tenant| {
            let last = rejections.last(tenant, None, 10).into_iter();
            last.map(|one| (one.topic, one.count)).collect::<Vec<_>>()
        };
        assert_eq!(shown(Some(0)), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert_eq!(shown(None).len(), 3);
        assert_eq!(rejections.counts()["not_json"], 3);
    }

    #[test]
    fn a_rejection_is_over_when_a_payload_of_its_topic_is_stored() {
        let rejections = Rejections::default();
        let reject =
            |topic: &str| rejections.note(0, topic, Some("c"), None, "not_json", String::new());
        let over = || -> Vec<bool> {
            let last = rejections.last(None, None, 10).into_iter();
            last.map(|one| one.stored_ms.is_some()).collect()
        };
        reject("a");
        reject("b");
        rejections.note_stored(|| HashMap::from([((1, "a"), true), ((0, "b"), true)]));
        assert_eq!(over(), [true, false]);
        reject("b");
        assert_eq!(over(), [false, false]);
    }

    #[test]
    fn few_are_remembered_and_none_is_long() {
        let rejections = Rejections::default();
        for number in 0..2 * KEPT {
            let detail = "ü".repeat(TEXT_MAX);
            rejections.note(
                0,
                &format!("t/{number}"),
                None,
                Some("d"),
                "not_json",
                detail,
            );
        }
        let last = rejections.last(None, Some("d"), usize::MAX);
        assert_eq!(last.len(), KEPT);
        assert_eq!(last[0].topic, format!("t/{}", 2 * KEPT - 1));
        assert!(last.iter().all(|one| one.detail.len() <= TEXT_MAX + 3));
        assert_eq!(rejections.counts()["not_json"], 2 * KEPT as u64);
    }
}
