//! Memory of topics, and how room is made for more.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use martlet_broker::{MessageId, TenantId};
use martlet_codec::{QoS, TopicName};

use super::rate::Rate;
use super::seen::{MessagePublisher, RememberedMessage, RememberedTopic, TopicPage, TopicQuery};

/// Limits of what the topic memory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicMemoryLimits {
    /// Payloads that are kept of a topic, the last ones. At least 1.
    pub payloads: usize,
    /// Bytes that are kept of a payload, the first ones.
    pub payload_bytes: usize,
    /// Milliseconds after which a payload is forgotten; `u64::MAX` is never.
    pub age_ms: u64,
    /// Topics of a tenant.
    pub topics: usize,
    /// Bytes of all tenants.
    pub bytes: usize,
}

/// Topics that were dropped since the start, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedTopics {
    /// Their tenant had too many topics.
    pub too_many: u64,
    /// The memory was full.
    pub memory_full: u64,
    /// Nothing had been published on them for too long.
    pub too_old: u64,
}

/// A message, as it comes.
#[derive(Debug)]
pub(crate) struct Arrived<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) topic: &'a str,
    pub(crate) id: MessageId,
    pub(crate) received_wall_ms: u64,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) payload: &'a [u8],
    pub(crate) client_id: Option<&'a str>,
    pub(crate) user_name: Option<&'a str>,
    pub(crate) is_device: bool,
}

/// Bytes that a topic takes beside its name and payloads: its entries in two trees, its numbers.
const TOPIC_OVERHEAD: usize = 256;
/// Bytes that a payload takes beside its bytes.
const PAYLOAD_OVERHEAD: usize = 96;
/// Bytes that a publisher takes beside its names.
const PUBLISHER_OVERHEAD: usize = 64;

/// Comparisons of characters that take as long as a look at a topic.
const CHARACTERS_OF_A_LOOK: usize = 256;

/// All that is remembered.
#[derive(Debug)]
pub(crate) struct Memory {
    limits: TopicMemoryLimits,
    tenants: BTreeMap<TenantId, TenantTopics>,
    bytes: usize,
    dropped: DroppedTopics,
    /// Number of the last message.
    last: u64,
}

/// The topics of a tenant.
#[derive(Debug, Default)]
struct TenantTopics {
    topics: BTreeMap<Arc<str>, Topic>,
    /// The topics by the number of their last message: the first one makes room first.
    by_last: BTreeMap<u64, Arc<str>>,
    bytes: usize,
}

#[derive(Debug)]
struct Topic {
    /// Number of its last message.
    last: u64,
    messages: u64,
    payload_bytes: u64,
    rate: Rate,
    /// The oldest one first; never empty.
    kept: VecDeque<KeptPayload>,
    bytes: usize,
}

#[derive(Debug)]
struct KeptPayload {
    at_ms: u64,
    seen: RememberedMessage,
    /// Bytes that it counts for.
    bytes: usize,
}

impl Memory {
    pub(crate) fn new(limits: TopicMemoryLimits) -> Self {
        Self {
            limits,
            tenants: BTreeMap::new(),
            bytes: 0,
            dropped: DroppedTopics::default(),
            last: 0,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn topics(&self) -> usize {
        self.tenants
            .values()
            .map(|tenant| tenant.topics.len())
            .sum()
    }

    pub(crate) fn dropped(&self) -> DroppedTopics {
        self.dropped
    }

    /// Remembers a message that came at `now_ms`.
    pub(crate) fn note(&mut self, arrived: &Arrived<'_>, now_ms: u64) {
        self.last += 1;
        let (limits, number) = (self.limits, self.last);
        let tenant = self.tenants.entry(arrived.tenant).or_default();
        if !tenant.topics.contains_key(arrived.topic) {
            while tenant.topics.len() >= limits.topics.max(1) {
                let Some(freed) = tenant.drop_first() else {
                    break;
                };
                self.bytes -= freed;
                self.dropped.too_many += 1;
            }
        }
        let before = tenant.bytes;
        tenant.note(arrived, number, now_ms, &limits);
        self.bytes = self.bytes - before + tenant.bytes;
        self.make_room();
    }

    /// Forgets topics on which nothing was published for too long; `most` of them at most, which is
    /// whether there may be more.
    pub(crate) fn forget_old(&mut self, now_ms: u64, most: usize) -> bool {
        let Some(oldest_ms) = now_ms.checked_sub(self.limits.age_ms) else {
            return false;
        };
        let mut forgotten = 0;
        for tenant in self.tenants.values_mut() {
            while forgotten < most && tenant.is_first_before(oldest_ms) {
                let Some(freed) = tenant.drop_first() else {
                    break;
                };
                self.bytes -= freed;
                forgotten += 1;
            }
        }
        self.tenants.retain(|_, tenant| !tenant.topics.is_empty());
        self.dropped.too_old += forgotten as u64;
        forgotten == most
    }

    /// Drops topics of the tenant that uses most memory, the one with the oldest last message
    /// first.
    fn make_room(&mut self) {
        while self.bytes > self.limits.bytes {
            let most = self.tenants.values_mut().max_by_key(|tenant| tenant.bytes);
            let Some(freed) = most.and_then(TenantTopics::drop_first) else {
                return;
            };
            self.bytes -= freed;
            self.dropped.memory_full += 1;
        }
    }

    /// Looks at topics behind `after` until that has cost `most`, and adds what `query` asks for to
    /// `seen`. Returns the last topic that it looked at if there may be more.
    pub(crate) fn look(
        &self,
        query: &TopicQuery<'_>,
        after: Option<&str>,
        most: usize,
        now_ms: u64,
        seen: &mut TopicPage,
    ) -> Option<String> {
        let tenant = self.tenants.get(&query.tenant)?;
        let words = Words::new(query.words);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut cost = 0;
        for (name, topic) in tenant.topics.range::<str, _>((from, Bound::Unbounded)) {
            cost += 1 + words.cost(name);
            if self.is_wanted(query, &words, name) {
                seen.count += 1;
                match topic.seen(name, &self.limits, now_ms) {
                    _ if seen.topics.len() == query.limit => seen.more = true,
                    Some(topic) => seen.topics.push(topic),
                    // All of it is too old.
                    None => seen.count -= 1,
                }
                if seen.is_complete(query) {
                    return Some(name.as_ref().to_owned());
                }
            }
            if cost >= most {
                return Some(name.as_ref().to_owned());
            }
        }
        None
    }

    fn is_wanted(&self, query: &TopicQuery<'_>, words: &Words, name: &str) -> bool {
        TopicName::new(name).is_ok_and(|name| query.filter.matches(name)) && words.are_in(name)
    }

    pub(crate) fn history(
        &self,
        tenant: TenantId,
        topic: &str,
        limit: usize,
        now_ms: u64,
    ) -> Option<Vec<RememberedMessage>> {
        let topic = self.tenants.get(&tenant)?.topics.get(topic)?;
        let young = topic.young(&self.limits, now_ms).rev().take(limit);
        let all: Vec<RememberedMessage> = young.map(|kept| kept.seen.clone()).collect();
        (!all.is_empty()).then_some(all)
    }
}

impl TenantTopics {
    fn note(
        &mut self,
        arrived: &Arrived<'_>,
        number: u64,
        now_ms: u64,
        limits: &TopicMemoryLimits,
    ) {
        let name = match self.topics.get_key_value(arrived.topic) {
            Some((name, topic)) => {
                self.by_last.remove(&topic.last);
                Arc::clone(name)
            }
            None => Arc::from(arrived.topic),
        };
        self.by_last.insert(number, Arc::clone(&name));
        let overhead = TOPIC_OVERHEAD + name.len();
        let topic = self.topics.entry(name).or_insert_with(|| {
            self.bytes += overhead;
            Topic {
                last: number,
                messages: 0,
                payload_bytes: 0,
                rate: Rate::new(now_ms),
                kept: VecDeque::new(),
                bytes: overhead,
            }
        });
        let before = topic.bytes;
        topic.note(arrived, number, now_ms, limits);
        self.bytes = self.bytes - before + topic.bytes;
    }

    /// Drops the topic whose last message is oldest. Returns the bytes that this frees.
    fn drop_first(&mut self) -> Option<usize> {
        let (_, name) = self.by_last.pop_first()?;
        let freed = self.topics.remove(&name)?.bytes;
        self.bytes -= freed;
        Some(freed)
    }

    fn is_first_before(&self, oldest_ms: u64) -> bool {
        let first = self.by_last.first_key_value();
        let topic = first.and_then(|(_, name)| self.topics.get(name));
        topic.is_some_and(|topic| topic.kept.back().is_none_or(|kept| kept.at_ms < oldest_ms))
    }
}

impl Topic {
    fn note(
        &mut self,
        arrived: &Arrived<'_>,
        number: u64,
        now_ms: u64,
        limits: &TopicMemoryLimits,
    ) {
        self.last = number;
        self.messages += 1;
        self.payload_bytes += arrived.payload.len() as u64;
        self.rate.count(now_ms);
        let oldest_ms = now_ms.saturating_sub(limits.age_ms);
        while let Some(first) = self.kept.front()
            && (self.kept.len() >= limits.payloads.max(1) || first.at_ms < oldest_ms)
        {
            self.bytes -= first.bytes;
            self.kept.pop_front();
        }
        let (publisher, publisher_bytes) = self.publisher(arrived);
        let payload = &arrived.payload[..arrived.payload.len().min(limits.payload_bytes)];
        let bytes = PAYLOAD_OVERHEAD + payload.len() + publisher_bytes;
        self.bytes += bytes;
        self.kept.push_back(KeptPayload {
            at_ms: now_ms,
            bytes,
            seen: RememberedMessage {
                id: arrived.id,
                received_wall_ms: arrived.received_wall_ms,
                qos: arrived.qos,
                retain: arrived.retain,
                publisher,
                payload: payload.into(),
                payload_bytes: arrived.payload.len(),
            },
        });
    }

    /// The publisher of a message and what it counts for; shared with the message before where that
    /// has the same one. It counts for each message, as the one that made it may go first.
    fn publisher(&self, arrived: &Arrived<'_>) -> (Option<Arc<MessagePublisher>>, usize) {
        let Some(client_id) = arrived.client_id else {
            return (None, 0);
        };
        let names = client_id.len() + arrived.user_name.map_or(0, str::len);
        let is_same = |seen: &MessagePublisher| {
            *seen.client_id == *client_id
                && seen.user_name.as_deref() == arrived.user_name
                && seen.is_device == arrived.is_device
        };
        let before = self
            .kept
            .back()
            .and_then(|kept| kept.seen.publisher.as_ref());
        let publisher = match before.filter(|seen| is_same(seen)) {
            Some(same) => Arc::clone(same),
            None => Arc::new(MessagePublisher {
                client_id: client_id.into(),
                user_name: arrived.user_name.map(Into::into),
                is_device: arrived.is_device,
            }),
        };
        (Some(publisher), PUBLISHER_OVERHEAD + names)
    }

    /// Payloads that are not too old, the oldest one first.
    fn young(
        &self,
        limits: &TopicMemoryLimits,
        now_ms: u64,
    ) -> impl DoubleEndedIterator<Item = &KeptPayload> {
        let oldest_ms = now_ms.saturating_sub(limits.age_ms);
        self.kept.iter().filter(move |kept| kept.at_ms >= oldest_ms)
    }

    /// As a reader sees it; none if all of it is too old.
    fn seen(
        &self,
        name: &Arc<str>,
        limits: &TopicMemoryLimits,
        now_ms: u64,
    ) -> Option<RememberedTopic> {
        let last = self.young(limits, now_ms).next_back()?;
        Some(RememberedTopic {
            topic: Arc::clone(name),
            messages: self.messages,
            payload_bytes: self.payload_bytes,
            rate: self.rate.per_second(now_ms),
            kept: self.young(limits, now_ms).count(),
            last: last.seen.clone(),
        })
    }
}

/// Words that a topic must have.
struct Words(Vec<Vec<char>>);

impl Words {
    fn new(text: &str) -> Self {
        let words = text.split_whitespace();
        Self(
            words
                .map(|word| word.to_lowercase().chars().collect())
                .collect(),
        )
    }

    /// About what it takes to look for them in a topic, in looks at a topic without words.
    fn cost(&self, topic: &str) -> usize {
        let chars: usize = self.0.iter().map(Vec::len).sum();
        chars.saturating_mul(topic.len()) / CHARACTERS_OF_A_LOOK
    }

    fn are_in(&self, topic: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let topic: Vec<char> = topic.to_lowercase().chars().collect();
        self.0.iter().all(|word| is_in(word, &topic))
    }
}

/// Whether a word is somewhere in a text: `*` is any text, `?` any character. It takes at most
/// (length of the word) × (length of the text) steps.
fn is_in(word: &[char], text: &[char]) -> bool {
    // As if the word began and ended with `*`: only the last `*` is ever tried again.
    let (mut at, mut from, mut star) = (0, 0, 0);
    let mut tried = 0;
    while at < word.len() {
        if word[at] == '*' {
            at += 1;
            (star, tried) = (at, from);
        } else if from == text.len() {
            return false;
        } else if word[at] == '?' || word[at] == text[from] {
            at += 1;
            from += 1;
        } else {
            tried += 1;
            (at, from) = (star, tried);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use martlet_broker::ShardId;
    use martlet_codec::TopicFilter;

    use super::*;

    const LIMITS: TopicMemoryLimits = TopicMemoryLimits {
        payloads: 3,
        payload_bytes: 8,
        age_ms: 1_000,
        topics: 4,
        bytes: 1 << 20,
    };

    fn arrived<'a>(tenant: u32, topic: &'a str, payload: &'a [u8]) -> Arrived<'a> {
        Arrived {
            tenant: TenantId(tenant),
            topic,
            id: MessageId::new(ShardId(0), 1),
            received_wall_ms: 0,
            qos: QoS::AtMostOnce,
            retain: false,
            payload,
            client_id: Some("c"),
            user_name: None,
            is_device: false,
        }
    }

    fn payloads(memory: &Memory, topic: &str, now_ms: u64) -> Vec<Vec<u8>> {
        let found = memory.history(TenantId(0), topic, usize::MAX, now_ms);
        let found = found.unwrap_or_default();
        found.iter().map(|one| one.payload.to_vec()).collect()
    }

    fn names(memory: &Memory, filter: &str, words: &str, now_ms: u64) -> Vec<String> {
        let query = TopicQuery {
            tenant: TenantId(0),
            filter: TopicFilter::new(filter).expect("a Topic Filter"),
            words,
            after: None,
            limit: 100,
            count: false,
        };
        let mut seen = TopicPage::default();
        assert!(
            memory
                .look(&query, None, usize::MAX, now_ms, &mut seen)
                .is_none()
        );
        seen.topics
            .iter()
            .map(|one| one.topic.to_string())
            .collect()
    }

    /// The bytes that are counted are those of what is there.
    fn check(memory: &Memory) {
        let tenants = memory.tenants.values();
        let of_topic = |(name, topic): (&Arc<str>, &Topic)| {
            let kept: usize = topic.kept.iter().map(|kept| kept.bytes).sum();
            assert_eq!(topic.bytes, TOPIC_OVERHEAD + name.len() + kept);
            topic.bytes
        };
        let of_tenant = |tenant: &TenantTopics| {
            assert_eq!(tenant.topics.len(), tenant.by_last.len());
            let bytes: usize = tenant.topics.iter().map(of_topic).sum();
            assert_eq!(tenant.bytes, bytes);
            bytes
        };
        assert_eq!(memory.bytes, tenants.map(of_tenant).sum::<usize>());
    }

    #[test]
    fn the_last_payloads_are_kept_the_newest_one_first() {
        let mut memory = Memory::new(LIMITS);
        for (at, payload) in ["1", "2", "3", "4", "a long one"].into_iter().enumerate() {
            memory.note(&arrived(0, "t", payload.as_bytes()), at as u64);
            check(&memory);
        }
        let expected: [&[u8]; 3] = [b"a long o", b"4", b"3"];
        assert_eq!(payloads(&memory, "t", 10), expected);
        let last = memory
            .history(TenantId(0), "t", 1, 10)
            .expect("it is there");
        assert_eq!((last.len(), last[0].payload_bytes), (1, 10));
        assert!(memory.history(TenantId(1), "t", 1, 10).is_none());
    }

    #[test]
    fn what_is_too_old_is_seen_no_more_and_forgotten() {
        let mut memory = Memory::new(LIMITS);
        memory.note(&arrived(0, "t", b"1"), 0);
        memory.note(&arrived(0, "t", b"2"), 900);
        memory.note(&arrived(0, "u", b"3"), 950);
        assert_eq!(payloads(&memory, "t", 1_500), [b"2"]);
        assert_eq!(names(&memory, "#", "", 1_920), ["u"]);
        assert!(!memory.forget_old(1_920, 10));
        check(&memory);
        assert_eq!((memory.topics(), memory.dropped().too_old), (1, 1));
    }

    #[test]
    fn the_topic_that_is_longest_silent_makes_room_for_another_of_its_tenant() {
        let mut memory = Memory::new(LIMITS);
        memory.note(&arrived(1, "other", b""), 0);
        for topic in ["a", "b", "c", "d", "a", "e"] {
            memory.note(&arrived(0, topic, b""), 0);
            check(&memory);
        }
        assert_eq!(names(&memory, "#", "", 0), ["a", "c", "d", "e"]);
        assert_eq!((memory.topics(), memory.dropped().too_many), (5, 1));
    }

    #[test]
    fn the_tenant_that_holds_most_gives_back_when_memory_is_full() {
        let mut memory = Memory::new(TopicMemoryLimits {
            topics: 1_000,
            bytes: 8_192,
            ..LIMITS
        });
        memory.note(&arrived(1, "small", b"x"), 0);
        for n in 0..100 {
            memory.note(&arrived(0, &format!("t/{n}"), b"12345678"), n);
        }
        check(&memory);
        assert!(memory.bytes() <= 8_192);
        assert!(memory.history(TenantId(1), "small", 1, 0).is_some());
        assert!(memory.history(TenantId(0), "t/99", 1, 99).is_some());
        assert!(memory.dropped().memory_full > 50);
    }

    #[test]
    fn topics_are_found_by_filter_words_and_page() {
        let mut memory = Memory::new(TopicMemoryLimits {
            topics: 100,
            ..LIMITS
        });
        for topic in ["Hall/7/temp", "hall/8/temperature", "roof/7/wind", "$SYS/x"] {
            memory.note(&arrived(0, topic, b""), 0);
        }
        let found = |filter, words| names(&memory, filter, words, 0);
        assert_eq!(found("+/7/#", ""), ["Hall/7/temp", "roof/7/wind"]);
        assert_eq!(
            found("#", "TEMP hall"),
            ["Hall/7/temp", "hall/8/temperature"]
        );
        assert_eq!(found("#", "h*8*ture"), ["hall/8/temperature"]);
        assert_eq!(found("#", "/?/w"), ["roof/7/wind"]);
        assert_eq!(
            found("#", "x").len(),
            0,
            "# matches no topic that begins with $"
        );
        let query = TopicQuery {
            tenant: TenantId(0),
            filter: TopicFilter::new("#").expect("a Topic Filter"),
            words: "",
            after: None,
            limit: 2,
            count: true,
        };
        let mut page = TopicPage::default();
        let mut after = None;
        while let Some(last) = memory.look(&query, after.as_deref(), 1, 0, &mut page) {
            after = Some(last);
        }
        assert_eq!((page.topics.len(), page.more, page.count), (2, true, 3));
    }

    #[test]
    fn a_word_of_many_stars_does_not_take_long() {
        let word: Vec<char> = "*a".repeat(500).chars().chain("b".chars()).collect();
        let text: Vec<char> = "a".repeat(60_000).chars().collect();
        assert!(!is_in(&word, &text));
    }
}
