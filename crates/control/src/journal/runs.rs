//! Runs of what happened to each name recently, for longer than single entries are kept: the same
//! thing again and again is one run, with its first and last time and how often.

use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::Equivalent;
use martlet_broker::{
    DropReason, Event, EventHead, RefusalCause, SharedClient, TenantId, is_shortened, shortened,
};
use martlet_lockout::Aging;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, NotedEvent};
use crate::cause::Cause;
use crate::event::{NodeEvent, NodeNotice};
use crate::event_kind::EventKind;
use crate::presence::QuietClient;

/// Number of remembered names. Beyond it, the names with the oldest last event are removed.
const NAMES: usize = 50_000;

/// Approximate bytes of all runs, at most; above that runs are dropped, too.
const BYTES_MAX: usize = 32 << 20;

/// Runs of a name that are remembered.
const RUNS: usize = 12;

/// Events of one kind, perhaps again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Cause of what went wrong; none: nothing did.
    pub cause: Option<Cause>,
    /// When it was first so without anything else between, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// How often it happened.
    pub count: u64,
    /// The client disconnected with a DISCONNECT of its own, as it wanted to.
    pub sent_disconnect: bool,
    /// No source of its listener knows its name, and the tables are none of these sources.
    #[serde(default)]
    pub is_unknown_beside_tables: bool,
    /// Connections of the client were taken over by others of its Client Identifier: the addresses
    /// that they came from, each with how many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_from: Vec<(IpAddr, u64)>,
    /// The last of them.
    pub last: Entry,
}

/// Run as it is kept: it is put into words for a reader.
#[derive(Debug)]
struct StoredRun {
    cause: Option<Cause>,
    since_ms: u64,
    count: u64,
    taken_from: Vec<(IpAddr, u64)>,
    last: Arc<NotedEvent>,
}

/// Addresses of a run, at most.
const ADDRESSES: usize = 8;

/// Runs by tenant and name: a Client Identifier, or a user name. A client that came and went
/// normally has no entry: presence knows about it.
#[derive(Debug, Default)]
pub(super) struct Runs {
    names: Aging<(u32, Arc<str>), Vec<StoredRun>>,
    bytes: usize,
    /// Bytes that they take, at most; none: [`BYTES_MAX`].
    bytes_max: Option<usize>,
}

impl StoredRun {
    /// Counts a connection from this address that was taken over.
    fn count_taken(&mut self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        let mut known = self.taken_from.iter_mut();
        if let Some((_, count)) = known.find(|(of, _)| *of == address) {
            *count += 1;
        } else if self.taken_from.len() < ADDRESSES {
            self.taken_from.push((address, 1));
        }
    }
}

/// Approximate number of bytes of the runs of a name: the name is in each event.
fn memory_of(runs: &[StoredRun]) -> usize {
    let each = runs.iter();
    let each = each.map(|run| {
        let addresses = run.taken_from.capacity() * size_of::<(IpAddr, u64)>();
        size_of::<StoredRun>() + addresses + run.last.memory_bytes()
    });
    200 + each.sum::<usize>()
}

/// A name of a tenant, to be looked for.
#[derive(Hash)]
struct Name<'a>(u32, &'a str);

impl Equivalent<(u32, Arc<str>)> for Name<'_> {
    fn equivalent(&self, (tenant, name): &(u32, Arc<str>)) -> bool {
        self.0 == *tenant && *self.1 == **name
    }
}

impl Runs {
    /// Adds an entry of this client under its cause. `before` has what presence knew of the client.
    pub(super) fn note(
        &mut self,
        written: &Arc<NotedEvent>,
        cause: Option<Cause>,
        whole_client_id: Option<&str>,
        before: impl Fn(&str) -> Option<QuietClient>,
    ) {
        let NodeNotice { head, event } = &written.notice;
        let client_id = &*head.client_id;
        let user = head.user_name().or_else(|| named_by_certificate(event));
        let user = user.unwrap_or_default();
        let is_calm = cause.is_none()
            && matches!(event.kind(), EventKind::Connected | EventKind::Disconnected);
        if !client_id.is_empty() {
            let name = Name(head.tenant.0, client_id);
            match self.take(&name) {
                Some(runs) => self.put(&name, runs, written, cause),
                None if is_calm => {}
                None => {
                    let calm = whole_client_id.and_then(&before);
                    let runs = calm.map_or_else(Vec::new, |calm| of_calm(head.tenant, calm));
                    self.put(&name, runs, written, cause);
                }
            }
        }
        if user != client_id && !user.is_empty() {
            let name = Name(head.tenant.0, user);
            let runs = self.take(&name).unwrap_or_default();
            self.put(&name, runs, written, cause);
        }
    }

    fn put(
        &mut self,
        name: &Name<'_>,
        mut runs: Vec<StoredRun>,
        written: &Arc<NotedEvent>,
        cause: Option<Cause>,
    ) {
        put(&mut runs, written, cause);
        self.bytes += memory_of(&runs);
        self.names.put((name.0, Arc::from(name.1)), runs);
        let bytes_max = self.bytes_max.unwrap_or(BYTES_MAX);
        while self.names.len() > NAMES || self.bytes > bytes_max {
            let Some(oldest) = self.names.take_oldest() else {
                break;
            };
            self.bytes -= memory_of(&oldest);
        }
    }

    fn take(&mut self, name: &Name<'_>) -> Option<Vec<StoredRun>> {
        let runs = self.names.take(name)?;
        self.bytes -= memory_of(&runs);
        Some(runs)
    }

    /// Sets the number of bytes that they take, approximately, at most.
    pub(super) fn set_bytes_max(&mut self, bytes: usize) {
        self.bytes_max = Some(BYTES_MAX.min(bytes));
    }

    /// Approximate number of bytes of all runs.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// Runs of a name of a tenant, the latest last; if there are none, what presence knew of it.
    pub(super) fn of(
        &self,
        tenant: TenantId,
        name: &str,
        calm: Option<QuietClient>,
        entry: impl Fn(&NotedEvent) -> Entry,
    ) -> Vec<Run> {
        let shown = |kept: &StoredRun| Run {
            cause: kept.cause,
            since_ms: kept.since_ms,
            count: kept.count,
            sent_disconnect: is_goodbye(&kept.last.notice.event),
            is_unknown_beside_tables: is_unknown_beside_tables(&kept.last.notice.event),
            taken_from: kept.taken_from.clone(),
            last: entry(&kept.last),
        };
        let of = |name: &str| self.names.get(&Name(tenant.0, name));
        // Of a long name, a reader may have only what was shown of it.
        let as_shown = || Some(name).filter(|name| calm.is_none() && is_shortened(name));
        let found = of(&shortened(name)).or_else(|| as_shown().and_then(of));
        if let Some(runs) = found {
            return runs.iter().map(shown).collect();
        }
        let runs = calm.map_or_else(Vec::new, |calm| of_calm(tenant, calm));
        runs.iter().map(shown).collect()
    }
}

/// Runs that the journal would have of a client if it had recorded them, the latest last.
fn of_calm(tenant: TenantId, calm: QuietClient) -> Vec<StoredRun> {
    let kept = |(since_ms, count, at_ms), notice: NodeNotice| StoredRun {
        cause: None,
        since_ms,
        count,
        taken_from: Vec::new(),
        last: Arc::new(NotedEvent {
            seq: 0,
            at_ms,
            notice: notice.shown().into_owned(),
        }),
    };
    let client = SharedClient::clone(&calm.client);
    let came = kept(calm.came, NodeNotice::connected(tenant, calm.client));
    // Its name is cut there.
    let user = came.last.notice.head.user.clone();
    let went = calm.went.map(|(since_ms, count, at_ms, reason, cause)| {
        let why = cause.into();
        let event = Event::Disconnected {
            reason,
            why,
            will: None,
        };
        let head = EventHead::new(tenant, Arc::clone(&client.client_id)).with_user(user);
        let event = event.into();
        kept((since_ms, count, at_ms), NodeNotice { head, event })
    });
    match (went, calm.online) {
        (Some(went), true) => vec![went, came],
        (Some(went), false) => vec![came, went],
        (None, _) => vec![came],
    }
}

fn put(runs: &mut Vec<StoredRun>, written: &Arc<NotedEvent>, cause: Option<Cause>) {
    let NodeNotice { head, event } = &written.notice;
    let is_same = |run: &StoredRun| {
        let last = &run.last.notice.event;
        if let (Some(before), Some(reason)) = (lost_for(last), lost_for(event)) {
            // Only the first one of many has a topic.
            return before == reason;
        }
        let is_one_of_many = matches!(cause, Some(Cause::ProtocolError | Cause::Other));
        run.cause == cause
            && last.kind() == event.kind()
            && last.topic() == event.topic()
            && run.last.notice.head.client_id == head.client_id
            && (!is_one_of_many || last.cause() == event.cause())
            && is_goodbye(last) == is_goodbye(event)
    };
    let mut run = StoredRun {
        cause,
        since_ms: written.at_ms,
        count: 1,
        taken_from: Vec::new(),
        last: Arc::clone(written),
    };
    if let Some(at) = runs.iter().position(is_same) {
        let before = runs.remove(at);
        // A client that was accepted meanwhile is refused anew.
        let is_interrupted = cause.is_some_and(Cause::is_of_admission)
            && runs[at..]
                .iter()
                .any(|later| later.last.notice.event.kind() == EventKind::Connected);
        if !is_interrupted {
            (run.since_ms, run.count) = (before.since_ms, before.count + 1);
            run.taken_from = before.taken_from;
        }
    } else if runs.len() >= RUNS {
        runs.remove(0);
    }
    if cause == Some(Cause::TakenOver) {
        run.count_taken(head.ip());
    }
    // Most have one or two, and there are many of them.
    runs.reserve_exact(1);
    runs.push(run);
}

/// Why messages were lost, if the event is about that.
fn lost_for(event: &NodeEvent) -> Option<DropReason> {
    match event.shard()? {
        Event::MessagesLost { reason, .. } => Some(*reason),
        _ => None,
    }
}

/// The user or device that a refusal is about, named by the certificate, if the client may have
/// given no User Name.
fn named_by_certificate(event: &NodeEvent) -> Option<&str> {
    let Some(Event::Refused { why, .. }) = event.shard() else {
        return None;
    };
    let is_about_account = matches!(
        why.cause,
        RefusalCause::NotItsClientId
            | RefusalCause::UserDisabled
            | RefusalCause::DeviceInactive
            | RefusalCause::DeviceMaintenance
            | RefusalCause::Deleted
            | RefusalCause::CertificateNotRegistered
            | RefusalCause::CertificateNameUnknown
    );
    why.subject().filter(|_| is_about_account)
}

/// Whether a client was refused as unknown by sources that do not include the tables.
fn is_unknown_beside_tables(event: &NodeEvent) -> bool {
    let cause = event.cause();
    matches!(cause, Some(RefusalCause::UnknownUser(sources)) if !sources.registry)
}

/// The client disconnected with a DISCONNECT of its own, as it wanted to.
fn is_goodbye(event: &NodeEvent) -> bool {
    event.cause() == Some(RefusalCause::Goodbye)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::presence::Presence;
    use martlet_broker::{ConnectedClient, DropReason, PasswordSource, Refusal, UserName};
    use martlet_codec::ReasonCode;

    const COMMON: TenantId = TenantId(0);

    #[derive(Default)]
    struct Node {
        runs: Runs,
        presence: Presence,
    }

    impl Node {
        fn note(&mut self, at_ms: u64, whole: NodeNotice) {
            let mut known = self.presence.begin();
            let notice = whole.shown().into_owned();
            let cause = Cause::of(&notice.event);
            let written = Arc::new(NotedEvent {
                seq: at_ms,
                at_ms,
                notice,
            });
            let calm = |name: &str| known.calm(COMMON, name);
            self.runs
                .note(&written, cause, whole.head.whole_client_id(), calm);
            known.note(&whole, at_ms);
        }

        fn of(&self, name: &str) -> Vec<(u64, u64)> {
            let entry = NotedEvent::bare_entry;
            let calm = self.presence.calm(COMMON, name);
            let runs = self.runs.of(COMMON, name, calm, entry);
            runs.iter().map(|run| (run.since_ms, run.count)).collect()
        }
    }

    fn user() -> Option<UserName> {
        Some(UserName::Claimed("user".into()))
    }

    fn notice(client_id: &str, user: Option<UserName>, event: Event) -> NodeNotice {
        let head = EventHead::new(COMMON, client_id).with_user(user);
        NodeNotice::new(head, event)
    }

    fn refused(client_id: &str) -> NodeNotice {
        let event = Event::Refused {
            will_topic: None,
            reason: ReasonCode::BadUserNameOrPassword,
            why: Refusal::operators_only(
                RefusalCause::WrongPassword(PasswordSource::Registry),
                "wrong password, according to x",
            ),
        };
        notice(client_id, user(), event)
    }

    fn connected(client_id: &str, user: Option<UserName>) -> NodeNotice {
        let user = user.as_ref().map(UserName::as_str);
        let client = ConnectedClient::new(client_id, user);
        NodeNotice::connected(COMMON, SharedClient::new(client))
    }

    fn disconnected(client_id: &str, reason: ReasonCode, cause: RefusalCause) -> NodeNotice {
        let why = cause.into();
        notice(
            client_id,
            user(),
            Event::Disconnected {
                reason,
                why,
                will: None,
            },
        )
    }

    #[test]
    fn the_same_again_is_one_run_until_the_client_was_let_in() {
        let mut node = Node::default();
        for at_ms in [10, 20, 30] {
            node.note(at_ms, refused("c"));
        }
        assert_eq!(node.of("c"), [(10, 3)]);
        assert_eq!(node.of("user"), node.of("c"));
        node.note(40, connected("c", user()));
        node.note(50, refused("c"));
        assert_eq!(node.of("c"), [(40, 1), (50, 1)]);
    }

    #[test]
    fn clients_with_long_names_that_are_alike_are_told_apart() {
        let mut node = Node::default();
        let name = |middle: &str| format!("{}{middle}{}", "a".repeat(200), "b".repeat(100));
        let (one, other) = (name("X"), name("Y"));
        node.note(10, refused(&one));
        assert_eq!((node.of(&one), node.of(&other)), (vec![(10, 1)], vec![]));
    }

    /// A client may choose as its name what another client's long name is shown as.
    #[test]
    fn nothing_is_told_of_a_client_that_another_one_did() {
        let mut node = Node::default();
        let long = "v".repeat(300);
        let shown = shortened(&long).into_owned();
        node.note(10, connected(&shown, None));
        node.note(20, refused(&long));
        assert_eq!(node.of(&long), [(20, 1)]);
        assert_eq!(node.of(&shown), [(10, 1)]);
        node.note(30, refused(&shown));
        assert_eq!(
            (node.of(&long), node.of(&shown)),
            (vec![(20, 1)], vec![(30, 1)])
        );
    }

    #[test]
    fn a_client_is_found_by_what_is_shown_of_its_long_name() {
        let mut node = Node::default();
        let long = "v".repeat(300);
        node.note(10, refused(&long));
        assert_eq!(node.of(&shortened(&long)), [(10, 1)]);
    }

    fn dropped(client_id: &str) -> NodeNotice {
        let event = Event::Dropped {
            topic: "t".to_owned(),
            stored: None,
            reason: DropReason::QueueFull,
            limit: None,
            refused: None,
        };
        notice(client_id, None, event)
    }

    #[test]
    fn of_a_client_that_comes_and_goes_nothing_is_kept_until_there_is_more_to_say() {
        let mut node = Node::default();
        let connect = || connected("c", None);
        let go = |cause: RefusalCause| {
            let (reason, why) = (ReasonCode::Success, cause.into());
            notice(
                "c",
                None,
                Event::Disconnected {
                    reason,
                    why,
                    will: None,
                },
            )
        };
        node.note(10, connect());
        assert_eq!((node.runs.names.len(), node.of("c")), (0, vec![(10, 1)]));
        node.note(20, go(RefusalCause::Goodbye));
        assert_eq!(node.of("c"), [(10, 1), (20, 1)]);
        node.note(30, connect());
        node.note(40, go(RefusalCause::ClosedByClient));
        node.note(50, connect());
        // Each way to go is counted by itself.
        let expected = vec![(40, 1), (10, 3)];
        assert_eq!((node.runs.names.len(), node.of("c")), (0, expected));
        node.note(60, dropped("c"));
        assert_eq!(node.of("c"), [(40, 1), (10, 3), (60, 1)]);
        node.note(70, go(RefusalCause::ClosedByClient));
        node.note(75, go(RefusalCause::Goodbye));
        node.note(80, connect());
        let expected = [(60, 1), (40, 2), (75, 1), (10, 4)];
        assert_eq!(node.of("c"), expected);
    }

    #[test]
    fn two_rules_of_mqtt_that_are_broken_are_two() {
        let mut node = Node::default();
        for rule in ["a second CONNECT", "no Topic Name", "a second CONNECT"] {
            let cause = RefusalCause::Packet(rule);
            node.note(1, disconnected("c", ReasonCode::ProtocolError, cause));
        }
        assert_eq!(node.of("c"), [(1, 1), (1, 2)]);
    }

    #[test]
    fn a_duel_has_the_addresses_of_both() {
        let mut node = Node::default();
        for last in [2, 3, 2] {
            let address = Some((IpAddr::from([127, 0, 0, last]), 1));
            let mut taken =
                disconnected("c", ReasonCode::SessionTakenOver, RefusalCause::TakenOver);
            taken.head = taken.head.with_address(address);
            node.note(1, taken);
        }
        let runs = node.runs.of(COMMON, "c", None, NotedEvent::bare_entry);
        let from = |last| IpAddr::from([127, 0, 0, last]);
        assert_eq!(runs[0].taken_from, [(from(2), 2), (from(3), 1)]);
    }

    #[test]
    fn names_and_runs_are_bounded() {
        let mut node = Node::default();
        for number in 0..RUNS as u64 + 5 {
            let event = Event::PublishRefused {
                topic: number.to_string(),
                reason: ReasonCode::NotAuthorized,
                why: Refusal::operators_only(RefusalCause::Forbidden, "x"),
            };
            node.note(number, notice("c", None, event));
        }
        assert_eq!(node.of("c").len(), RUNS);
        (0..NAMES).for_each(|number| node.note(1, refused(&number.to_string())));
        assert!(node.of("c").is_empty() && node.runs.names.len() <= NAMES);
    }

    #[test]
    fn long_names_take_no_more_bytes_than_there_are() {
        let mut node = Node::default();
        node.runs.set_bytes_max(100_000);
        for number in 0..1_000 {
            node.note(number, refused(&format!("{}{number}", "c".repeat(400))));
            assert!(node.runs.memory_bytes() <= 100_000);
        }
        assert!(node.runs.names.len() > 50);
        assert_eq!(node.of(&format!("{}999", "c".repeat(400))).len(), 1);
        while !node.runs.names.is_empty() {
            let oldest = node.runs.names.take_oldest().unwrap();
            node.runs.bytes -= memory_of(&oldest);
        }
        assert_eq!(node.runs.bytes, 0);
    }
}
