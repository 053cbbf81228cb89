//! A limit for log lines about refusals, so that one client cannot fill the disk of the log.
//!
//! Each client has [`AT_ONCE`] lines of each cause, and one more each second. The next line has the
//! number of lines that were left out. Counters, journal and feed are not limited.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

use martlet_broker::{Event, TenantId};

use crate::event::{NodeEvent, NodeNotice};

/// Lines of a client and cause that are written at once.
const AT_ONCE: u32 = 10;
/// Time after which there may be one line more.
const EVERY: Duration = Duration::from_secs(1);
/// Clients and causes with a limit of their own. All others share one, so that many names need
/// neither memory nor disk.
const MOST: usize = 1_024;
/// Time between searches for entries that are not needed any more.
const SWEEP_EVERY: Duration = EVERY.saturating_mul(AT_ONCE);

/// Decides which lines about refusals are written.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    entries: HashMap<Key, KindOfLine>,
    others: Option<KindOfLine>,
    hasher: RandomState,
    swept: Option<Instant>,
}

/// A client, by a hash of its name, and a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    client: u64,
    kind: u8,
    reason: &'static str,
}

#[derive(Debug)]
struct KindOfLine {
    /// Lines that may be written, as of `since`.
    lines: u32,
    since: Instant,
    left_out: LeftOut,
    /// When the last line was written.
    written: Instant,
}

/// Lines that were left out before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Number of lines.
    pub(crate) count: u64,
    /// The time in which they came, seconds, rounded up.
    pub(crate) secs: u64,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} more in the last {} s", self.count, self.secs)
    }
}

impl KindOfLine {
    fn new(now: Instant) -> Self {
        Self {
            lines: AT_ONCE,
            since: now,
            left_out: LeftOut::default(),
            written: now,
        }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        let more = u32::try_from(elapsed.as_secs() / EVERY.as_secs()).unwrap_or(u32::MAX);
        self.since += EVERY * more.min(AT_ONCE);
        self.lines = self.lines.saturating_add(more);
        if self.lines >= AT_ONCE {
            (self.lines, self.since) = (AT_ONCE, now);
        }
    }

    /// None: the line is left out. Else what was left out before it.
    fn take(&mut self, now: Instant) -> Option<LeftOut> {
        self.refill(now);
        let Some(lines) = self.lines.checked_sub(1) else {
            self.left_out.count += 1;
            return None;
        };
        self.lines = lines;
        let elapsed = now.saturating_duration_since(self.written).as_millis();
        self.left_out.secs = u64::try_from(elapsed.div_ceil(1000)).unwrap_or(u64::MAX);
        self.written = now;
        Some(std::mem::take(&mut self.left_out))
    }
}

impl LogLimit {
    /// None: the line of this event is left out. Else what was left out before it.
    pub(crate) fn take(&mut self, notice: &NodeNotice, now: Instant) -> Option<LeftOut> {
        let Some((kind, reason)) = cause(&notice.event) else {
            return Some(LeftOut::default());
        };
        self.sweep(now);
        let key = Key {
            tenant: notice.head.tenant,
            client: self.hasher.hash_one(&*notice.head.client_id),
            kind,
            reason,
        };
        let is_full = self.entries.len() >= MOST;
        let entry = match self.entries.get_mut(&key) {
            Some(entry) => entry,
            None if is_full => self.others.get_or_insert_with(|| KindOfLine::new(now)),
            None => self
                .entries
                .entry(key)
                .or_insert_with(|| KindOfLine::new(now)),
        };
        entry.take(now)
    }

    /// Removes entries that decide as a new one would. An entry with left-out lines stays until
    /// their number is logged, but no longer than a minute, since its client may not come back.
    fn sweep(&mut self, now: Instant) {
        let is_due = |swept| now.saturating_duration_since(swept) >= SWEEP_EVERY;
        if !self.swept.is_none_or(is_due) {
            return;
        }
        self.swept = Some(now);
        self.entries.retain(|_, entry| {
            entry.refill(now);
            let age = now.saturating_duration_since(entry.written);
            let is_written = entry.left_out.count == 0 || age >= Duration::from_secs(60);
            entry.lines < AT_ONCE || !is_written
        });
    }
}

/// Reason of a refusal or a drop; none for events that a client cannot cause with every packet.
fn cause(event: &NodeEvent) -> Option<(u8, &'static str)> {
    match event.shard()? {
        Event::PublishRefused { reason, .. } => Some((0, reason.name())),
        Event::SubscribeRefused { reason, .. } => Some((1, reason.name())),
        Event::Dropped { reason, .. } => Some((2, reason.name())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use martlet_broker::{EventHead, Refusal, RefusalCause};
    use martlet_codec::ReasonCode;

    use super::*;

    fn refused(client_id: &str, reason: ReasonCode) -> NodeNotice {
        let event = Event::PublishRefused {
            topic: "t".to_owned(),
            reason,
            why: Refusal::operators_only(RefusalCause::Forbidden, "no rule permits it"),
        };
        let head = EventHead::new(TenantId::default(), client_id);
        NodeNotice {
            head,
            event: event.into(),
        }
    }

    fn written(limit: &mut LogLimit, notice: &NodeNotice, times: usize, now: Instant) -> usize {
        (0..times).filter_map(|_| limit.take(notice, now)).count()
    }

    #[test]
    fn a_client_has_ten_lines_at_once_then_one_a_second_which_says_how_many_were_left_out() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        let notice = refused("c", ReasonCode::NotAuthorized);
        assert_eq!(written(&mut limit, &notice, 1_000, start), 10);
        let later = start + EVERY;
        let left_out = limit.take(&notice, later);
        let expected = LeftOut {
            count: 990,
            secs: 1,
        };
        assert_eq!(left_out, Some(expected));
        assert_eq!(expected.to_string(), "990 more in the last 1 s");
        assert_eq!(limit.take(&notice, later), None);
        let others = [
            refused("c", ReasonCode::QuotaExceeded),
            refused("d", ReasonCode::NotAuthorized),
        ];
        for other in others {
            assert_eq!(limit.take(&other, later), Some(LeftOut::default()));
        }
        assert_eq!(written(&mut limit, &notice, 1_000, later + 100 * EVERY), 10);
    }

    #[test]
    fn many_names_take_neither_memory_nor_lines_without_end() {
        let (mut limit, start) = (LogLimit::default(), Instant::now());
        let mut lines = 0;
        for number in 0..100_000 {
            let notice = refused(&number.to_string(), ReasonCode::NotAuthorized);
            lines += usize::from(limit.take(&notice, start).is_some());
        }
        assert_eq!(lines, MOST + AT_ONCE as usize);
        assert!(limit.entries.len() <= MOST);
        let later = start + SWEEP_EVERY;
        limit.take(&refused("late", ReasonCode::NotAuthorized), later);
        assert_eq!(limit.entries.len(), 1);
    }
}
