//! Promised and received messages. Clients record them; they are compared at the end of a run.

use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;

/// Kinds of messages, each with its own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// QoS 1 for all subscribers.
    AtLeastOnce,
    /// QoS 2 for all subscribers.
    ExactlyOnce,
    /// QoS 2 for one member of the share group.
    Shared,
    /// QoS 1, retained.
    Retained,
}

pub(crate) const KINDS: [Kind; 4] = [
    Kind::AtLeastOnce,
    Kind::ExactlyOnce,
    Kind::Shared,
    Kind::Retained,
];

/// Members of the share group.
pub(crate) const MEMBERS: u16 = 2;

impl Kind {
    /// First level of the topics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "once-or-more",
            Self::ExactlyOnce => "once",
            Self::Shared => "shared",
            Self::Retained => "retained",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        KINDS.into_iter().find(|kind| kind.name() == name)
    }
}

/// Identifies a message: publisher, kind and number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) publisher: u16,
    pub(crate) kind: Kind,
    pub(crate) number: u32,
}

impl Mark {
    pub(crate) fn topic(self) -> String {
        format!("{}/{}", self.kind.name(), self.publisher)
    }

    pub(crate) fn of(topic: &str, payload: &[u8]) -> Option<Self> {
        let (kind, publisher) = topic.split_once('/')?;
        Some(Self {
            publisher: publisher.parse().ok()?,
            kind: Kind::of_name(kind)?,
            number: std::str::from_utf8(payload).ok()?.parse().ok()?,
        })
    }
}

/// Promised and received messages.
#[derive(Debug)]
pub struct Ledger(Mutex<Pages>);

#[derive(Debug)]
struct Pages {
    /// Published messages by publisher and kind.
    published: Vec<Published>,
    /// Received messages by subscriber (members of the share group last), publisher and kind.
    received: Vec<Receipts>,
    subscribed: Vec<bool>,
    publishers: u16,
    subscribers: u16,
    lost_sessions: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Published {
    /// Highest published number; numbers begin at 1.
    last: u32,
    /// Whether each number was acknowledged, from 1.
    acknowledged: Vec<bool>,
    acknowledged_count: u32,
    last_acknowledged: u32,
}

#[derive(Clone, Debug, Default)]
struct Receipts {
    /// How often each number was received, from 1.
    times: Vec<u8>,
    /// The greatest number received.
    last: u32,
    /// A number received for the first time after a greater one.
    out_of_order: Option<(u32, u32)>,
}

/// Totals of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages published.
    pub published: u64,
    /// Number of acknowledged messages among them.
    pub acknowledged: u64,
    /// Messages received by subscribers.
    pub received: u64,
    /// Number of repeated messages (QoS 1).
    pub repeated: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} published, {} acknowledged, {} received, {} of them again",
            self.published, self.acknowledged, self.received, self.repeated
        )
    }
}

impl Ledger {
    pub(crate) fn new(publishers: u16, subscribers: u16) -> Self {
        let pages = usize::from(publishers) * KINDS.len();
        let readers = usize::from(subscribers + MEMBERS);
        Self(Mutex::new(Pages {
            published: vec![Published::default(); pages],
            received: vec![Receipts::default(); pages * readers],
            subscribed: vec![false; readers],
            publishers,
            subscribers,
            lost_sessions: Vec::new(),
        }))
    }

    /// Number of subscribers that are not members of the share group.
    pub(crate) fn readers(&self) -> u16 {
        self.pages().subscribers
    }

    pub(crate) fn publishers(&self) -> u16 {
        self.pages().publishers
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns the next message of its kind.
    pub(crate) fn next(&self, publisher: u16, kind: Kind) -> Mark {
        let mut pages = self.pages();
        let page = pages.published_by(publisher, kind);
        page.last += 1;
        page.acknowledged.push(false);
        Mark {
            publisher,
            kind,
            number: page.last,
        }
    }

    pub(crate) fn acknowledged(&self, mark: Mark) {
        let mut pages = self.pages();
        let page = pages.published_by(mark.publisher, mark.kind);
        page.acknowledged_count += 1;
        page.last_acknowledged = page.last_acknowledged.max(mark.number);
        page.acknowledged[mark.number as usize - 1] = true;
    }

    /// Records that subscriber `reader` has received its SUBACK.
    pub(crate) fn subscribed(&self, reader: u16) {
        self.pages().subscribed[usize::from(reader)] = true;
    }

    pub(crate) fn is_subscribed(&self, reader: u16) -> bool {
        self.pages().subscribed[usize::from(reader)]
    }

    pub(crate) fn all_subscribed(&self) -> bool {
        self.pages().subscribed.iter().all(|done| *done)
    }

    /// Records that the broker has lost a session that it had promised to keep.
    pub(crate) fn session_lost(&self, whose: &str) {
        let mut pages = self.pages();
        pages
            .lost_sessions
            .push(format!("the session of {whose} was lost"));
    }

    pub(crate) fn received(&self, reader: u16, mark: Mark) {
        let mut pages = self.pages();
        let page = pages.received_by(reader, mark.publisher, mark.kind);
        let place = mark.number as usize - 1;
        if page.times.len() <= place {
            page.times.resize(place + 1, 0);
        }
        page.times[place] = page.times[place].saturating_add(1);
        if page.times[place] == 1 && mark.number < page.last {
            page.out_of_order.get_or_insert((page.last, mark.number));
        }
        page.last = page.last.max(mark.number);
    }

    /// The permitted range of a retained message: last acknowledged to last published.
    pub(crate) fn retained_range(&self, publisher: u16) -> (u32, u32) {
        let mut pages = self.pages();
        let page = pages.published_by(publisher, Kind::Retained);
        (page.last_acknowledged, page.last)
    }

    /// Whether all published messages are acknowledged, and all acknowledged messages are received.
    pub(crate) fn is_settled(&self) -> bool {
        let pages = self.pages();
        let acknowledged = |page: &Published| page.acknowledged_count == page.last;
        pages.published.iter().all(acknowledged) && pages.missing().next().is_none()
    }

    /// Current totals.
    pub fn totals(&self) -> Totals {
        let pages = self.pages();
        let mut totals = Totals::default();
        for page in &pages.published {
            totals.published += u64::from(page.last);
            totals.acknowledged += u64::from(page.acknowledged_count);
        }
        for page in &pages.received {
            let times = page.times.iter().map(|times| u64::from(*times));
            totals.received += times.clone().sum::<u64>();
            totals.repeated += times.map(|times| times.saturating_sub(1)).sum::<u64>();
        }
        totals
    }

    /// Broken promises.
    pub(crate) fn violations(&self) -> Violations {
        let pages = self.pages();
        let mut found = Violations::default();
        found.extend(pages.lost_sessions.iter().cloned());
        found.extend(pages.missing());
        found.extend(pages.repeated());
        found.extend(pages.out_of_order());
        found
    }
}

/// Most violations of each kind that are reported; the others are counted.
const TOLD_MAX: usize = 20;

/// Broken promises.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    /// The first violations of each kind, as text.
    pub told: Vec<String>,
    /// Number of all violations.
    pub count: u64,
}

impl Violations {
    /// Adds violations of one kind.
    pub(crate) fn extend(&mut self, kind: impl Iterator<Item = String>) {
        for (place, violation) in kind.enumerate() {
            self.count += 1;
            if place < TOLD_MAX {
                self.told.push(violation);
            }
        }
    }
}

impl Pages {
    fn published_by(&mut self, publisher: u16, kind: Kind) -> &mut Published {
        &mut self.published[usize::from(publisher) * KINDS.len() + kind as usize]
    }

    fn received_by(&mut self, reader: u16, publisher: u16, kind: Kind) -> &mut Receipts {
        let place = self.received_place(reader, publisher, kind);
        &mut self.received[place]
    }

    fn received_place(&self, reader: u16, publisher: u16, kind: Kind) -> usize {
        let pages = usize::from(self.publishers) * KINDS.len();
        usize::from(reader) * pages + usize::from(publisher) * KINDS.len() + kind as usize
    }

    /// How often a message was received by the reader, or by all members of the share group.
    fn times(&self, reader: u16, mark: Mark) -> u32 {
        let readers = match mark.kind {
            Kind::Shared => self.subscribers..self.subscribers + MEMBERS,
            _ => reader..reader + 1,
        };
        readers
            .map(|reader| {
                let page = &self.received[self.received_place(reader, mark.publisher, mark.kind)];
                let times = page.times.get(mark.number as usize - 1);
                times.map_or(0, |times| u32::from(*times))
            })
            .sum()
    }

    /// The subscribers that must receive messages of a kind.
    fn readers(&self, kind: Kind) -> std::ops::Range<u16> {
        match kind {
            Kind::Shared => 0..1,
            _ => 0..self.subscribers,
        }
    }

    fn marks(&self) -> impl Iterator<Item = (Mark, bool)> {
        let all = (0..self.publishers).flat_map(|publisher| KINDS.map(|kind| (publisher, kind)));
        all.flat_map(|(publisher, kind)| {
            let page = &self.published[usize::from(publisher) * KINDS.len() + kind as usize];
            let numbered = (1..).zip(page.acknowledged.iter());
            numbered.map(move |(number, acknowledged)| {
                let mark = Mark {
                    publisher,
                    kind,
                    number,
                };
                (mark, *acknowledged)
            })
        })
    }

    fn missing(&self) -> impl Iterator<Item = String> {
        let acknowledged = self.marks().filter(|(_, acknowledged)| *acknowledged);
        acknowledged.flat_map(move |(mark, _)| {
            let readers = self.readers(mark.kind);
            let without = readers.filter(move |reader| self.times(*reader, mark) == 0);
            without.map(move |reader| {
                let (topic, number) = (mark.topic(), mark.number);
                format!(
                    "{topic} number {number} was acknowledged and never came to subscriber {reader}"
                )
            })
        })
    }

    fn repeated(&self) -> impl Iterator<Item = String> {
        let once = self
            .marks()
            .filter(|(mark, _)| matches!(mark.kind, Kind::ExactlyOnce | Kind::Shared));
        once.flat_map(move |(mark, _)| {
            let readers = self.readers(mark.kind);
            let counted = readers.map(move |reader| (reader, self.times(reader, mark)));
            counted
                .filter(|(_, times)| *times > 1)
                .map(move |(reader, times)| {
                    let (topic, number) = (mark.topic(), mark.number);
                    format!(
                        "{topic} number {number} came {times} times to subscriber {reader} at QoS 2"
                    )
                })
        })
    }

    fn out_of_order(&self) -> impl Iterator<Item = String> {
        (0..self.subscribers).flat_map(move |reader| {
            let all =
                (0..self.publishers).flat_map(|publisher| KINDS.map(|kind| (publisher, kind)));
            all.filter_map(move |(publisher, kind)| {
                let page = &self.received[self.received_place(reader, publisher, kind)];
                let (before, late) = page.out_of_order?;
                let topic = format!("{}/{publisher}", kind.name());
                Some(format!(
                    "{topic} number {late} came to subscriber {reader} first after {before}"
                ))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_violations_the_first_are_told_and_all_are_counted() {
        let ledger = Ledger::new(1, 1);
        for _ in 0..100 {
            let mark = ledger.next(0, Kind::AtLeastOnce);
            ledger.acknowledged(mark);
        }
        ledger.session_lost("subscriber 0");
        let violations = ledger.violations();
        assert_eq!((violations.told.len(), violations.count), (21, 101));
    }
}
