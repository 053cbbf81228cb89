//! From facts to a diagnosis: each part examines one side of the client and returns findings, and
//! `order` tells which of them is the diagnosis. For a user with several clients all of them are
//! examined.

use std::borrow::Cow;

use super::asked::Asked;
use super::examine::{Examine, Examined, Findings, examined};
use super::facts::Facts;
use super::found::{Found, RECENT_MS, is_connected};
use super::side::{is_subscribed, side};
use super::{
    Diagnosis, Evidence, Finding, State, admission, arrival, credential, elsewhere, names, node,
    order, retained, rights, session, several, silence, topic,
};
use crate::cause::{Cause, Weight};
use crate::control::Control;

/// Pieces of evidence that are shown of several clients together.
const EVIDENCE_MAX: usize = 12;

impl Facts {
    /// The question as the parts of the node get it, for a caller that sees what is of this team
    /// alone.
    fn asked(&self, team: Option<&str>) -> Asked {
        let clients = || std::iter::once(self).chain(&self.clients);
        let sessions = clients().filter_map(|client| client.session.as_ref());
        let filters = sessions.flat_map(|session| &session.subscriptions);
        let devices = self.named_in_topic.iter().filter(|one| one.is_device);
        let add = self.namesakes.add.as_ref();
        Asked {
            question: self.question.clone(),
            team: team.map(str::to_owned),
            now_ms: self.now_ms,
            client_id: self.client_id.clone(),
            user: self.user.clone(),
            is_registered: self.registered_as.is_some(),
            is_device: self.is_device(),
            is_unseen: self.is_unseen(),
            is_connected: clients().any(is_connected),
            was_cut_off: match &*self.clients {
                [] => admission::was_cut_off(self),
                clients => clients.iter().all(admission::was_cut_off),
            },
            side: side(self),
            session: self.session.clone(),
            is_integration: self.is_integration,
            may_not: topic::may_not_at_all(self),
            filters: filters.map(|(filter, _)| filter.clone()).collect(),
            joined: self.joined.clone(),
            unmatched: self.unmatched.clone(),
            devices_in_topic: devices.map(|one| one.client_id.clone()).collect(),
            received: self.received.clone(),
            adding: add.and_then(|add| add.command.clone()),
        }
    }
}

/// A question, and what each part of the node knows of it.
pub struct Inquiry {
    facts: Facts,
    asked: Asked,
    /// Of the device or object that has the name.
    parts: Vec<Examined>,
    /// Of each client of the name.
    clients: Vec<(Asked, Vec<Examined>)>,
}

impl Inquiry {
    /// The question of a caller that sees what is of this team alone.
    pub(crate) fn new(facts: Facts, team: Option<&str>) -> Self {
        let clients = match &*facts.clients {
            [] | [_] => std::slice::from_ref(&facts),
            several => several,
        };
        let clients = clients.iter();
        Self {
            asked: facts.asked(team),
            parts: Vec::new(),
            clients: clients.map(|one| (one.asked(team), Vec::new())).collect(),
            facts,
        }
    }

    /// Examines a part of the node.
    pub(crate) async fn examine<P: Examine>(&mut self, control: &Control, part: &P) {
        let facts = part.gather(control, &self.asked).await;
        self.parts.push(examined::<P>(facts));
    }

    /// Examines a part of the node for each client of the name.
    pub(crate) async fn examine_clients<P: Examine>(&mut self, control: &Control, part: &P) {
        for (asked, parts) in &mut self.clients {
            let facts = part.gather(control, asked).await;
            parts.push(examined::<P>(facts));
        }
    }

    /// The name is that of something that was deleted.
    pub fn is_deleted(&self) -> bool {
        self.facts.deleted.is_some()
    }

    /// Returns the diagnosis.
    pub fn diagnosis(mut self) -> Diagnosis {
        let mut findings = Findings::default();
        for part in &self.parts {
            part(&self.asked, &mut findings);
        }
        for (asked, parts) in &self.clients {
            let mut of_client = Findings::default();
            parts.iter().for_each(|part| part(asked, &mut of_client));
            findings.clients.push(of_client);
        }
        let facts = &mut self.facts;
        facts.namesakes.near_of_kind.append(&mut findings.near);
        facts.kept.append(&mut findings.kept);
        for client in &mut facts.clients {
            client.kept.clone_from(&facts.kept);
        }
        let found = diagnosis(&self.facts, findings);
        let found = node::with_configuration(&self.facts, found);
        let also = found.also.into_iter().map(Finding::with_remedies);
        Diagnosis {
            also: also.collect(),
            finding: found.finding.with_remedies(),
            ..found
        }
    }
}

fn diagnosis(facts: &Facts, findings: Findings) -> Diagnosis {
    let clients = clients_of(facts);
    let mut named = findings.named;
    if named.is_empty() {
        named.extend(names::of_part(facts));
    }
    let is_client = !is_unknown(facts) || !facts.clients.is_empty() || facts.is_integration;
    if !is_client && !named.is_empty() {
        let first = named.remove(0);
        return of_named(facts, first, named);
    }
    let of_parts = findings.clients;
    let each = clients.iter().zip(&of_parts);
    let mut each: Vec<Found> = each
        .map(|(client, of_parts)| looked_at(client, of_parts.found.clone()))
        .collect();
    let mut found = match &*clients {
        [_] => each.pop().unwrap_or_default(),
        all => several::of_several(all, each),
    };
    found.extend(findings.found);
    rights::with_type_change(facts, &mut found);
    found.extend(several::anonymous(facts));
    found.extend(credential::no_api_role(facts));
    topic::publish_as_refused(facts, &mut found);
    // A client has the name too.
    found.extend(order::beside_client(named));
    let is_other_refused = clients.len() > 1 && order::is_other_refused(&found);
    let mut ranked = order::ranked(found);
    let was_ill = ranked.iter().any(|(weight, _)| *weight == Weight::Before);
    let left = matches!(ranked.first(), Some((Weight::Gone, _)))
        && !clients.iter().any(|client| admission::was_cut_off(client));
    let first = match order::take_first(&mut ranked) {
        Some(first) => first,
        None => nothing(&clients, &of_parts, was_ill, is_other_refused),
    };
    let first = node::with_restore(facts, first);
    let also = order::behind(&first, ranked, clients.len());
    Diagnosis {
        name: facts.question.name.clone(),
        tenant: facts.question.tenant.0,
        topic: facts.question.topic.clone(),
        state: match state_of(&clients) {
            State::Refused if left => State::Away,
            state => state,
        },
        wrong: first.cause != Cause::NothingWrong && !left,
        finding: first,
        also,
        evidence: evidence(&clients),
    }
}

/// The diagnosis on a rule or rollout that has the name, which no client has.
fn of_named(facts: &Facts, first: Finding, also: Vec<Finding>) -> Diagnosis {
    Diagnosis {
        name: facts.question.name.clone(),
        tenant: facts.question.tenant.0,
        topic: facts.question.topic.clone(),
        state: State::NoClient,
        wrong: first.cause != Cause::NothingWrong,
        finding: first,
        also,
        evidence: Vec::new(),
    }
}

/// The clients that are meant: one, unless a user has several.
fn clients_of(facts: &Facts) -> Vec<Cow<'_, Facts>> {
    if facts.clients.len() < 2 {
        return vec![Cow::Borrowed(facts)];
    }
    let clients = facts.clients.iter();
    let completed = clients.map(|client| {
        // Findings of the tables about the user are reported once.
        Cow::Owned(Facts {
            deleted: facts.deleted.clone(),
            spent: facts.spent.clone(),
            replaced_ms: facts.replaced_ms,
            no_credential: facts.no_credential.clone(),
            tables_fail: facts.tables_fail,
            by_certificate: facts.by_certificate,
            named_in_topic: facts.named_in_topic.clone(),
            ..client.clone()
        })
    });
    completed.collect()
}

/// What there is to find of one client. `of_parts`: what parts of the node have found of it.
fn looked_at(facts: &Facts, of_parts: Found) -> Found {
    let mut found = Vec::new();
    admission::from_address(facts, &mut found);
    found.extend(node::store(facts));
    found.extend(node::tables(facts));
    found.extend(of_parts);
    if facts.is_integration {
        // It uses no listener, and has no rules of a client.
        found.extend(node::forgotten(facts));
        return found;
    }
    admission::admission(facts, &mut found);
    session::session(facts, &mut found);
    found.extend(silence::without_keep_alive(facts));
    // Where anonymous clients are accepted, any name would have the rules of those.
    if !is_unknown(facts) {
        arrival::arrivals(facts, &mut found);
        silence::no_session(facts, &mut found);
        elsewhere::elsewhere(facts, &mut found);
        retained::retained(facts, &mut found);
        retained::wills_of_others(facts, &mut found);
        silence::publisher_absent(facts, &mut found);
        topic::topic(facts, &mut found);
    }
    found.extend(node::forgotten(facts));
    for (_, finding) in &mut found {
        rights::with_group(facts, finding);
    }
    found
}

/// Neither the tables nor the files nor any session or event have the name: it may be misspelt.
fn is_unknown(facts: &Facts) -> bool {
    facts.registered_as.is_none()
        && facts.deleted.is_none()
        && facts.session.is_none()
        && facts.presence.is_none()
        && facts.runs.is_empty()
}

fn state_of(clients: &[Cow<'_, Facts>]) -> State {
    let states: Vec<State> = clients.iter().map(|client| state(client)).collect();
    let order = [State::Connected, State::Refused, State::Away];
    let found = order.into_iter().find(|state| states.contains(state));
    found.unwrap_or(State::NeverSeen)
}

fn state(facts: &Facts) -> State {
    let is_refused =
        admission::is_refused_now(facts).is_some() || admission::not_added(facts).is_some();
    match &facts.session {
        Some(session) if session.connected => State::Connected,
        _ if is_refused => State::Refused,
        None if facts
            .from_address
            .as_ref()
            .is_some_and(|all| !all.is_empty()) =>
        {
            State::Refused
        }
        None if facts.presence.is_none()
            && facts.runs.is_empty()
            && facts.last_seen_ms.is_none() =>
        {
            State::NeverSeen
        }
        _ => State::Away,
    }
}

/// `was_ill`: something was refused recently that would not be now.
/// `is_other_refused`: another client of the user is refused.
fn nothing(
    clients: &[Cow<'_, Facts>],
    of_parts: &[Findings],
    was_ill: bool,
    is_other_refused: bool,
) -> Finding {
    let connected: Vec<&Facts> = clients
        .iter()
        .map(|client| &**client)
        .filter(|client| is_connected(client))
        .collect();
    let question = &clients[0].question;
    if let Some(well) = of_parts
        .first()
        .and_then(|of_client| of_client.well.clone())
    {
        return well;
    }
    let Some(first) = connected.first() else {
        let finding = Finding::new(
            Cause::NobodyKnown,
            format!(
                "{} is unknown: it is not a device or user, has no session, and has not tried to \
                 connect since the node was started",
                question.name
            ),
        )
        .remedy(
            "check the name: martlet device ls, martlet user ls, martlet client ls, martlet \
             integration ls, martlet rule ls, martlet rollout ls, martlet command ls",
        );
        return names::with_namesakes(&clients[0], finding);
    };
    let (who, lost) = match clients.len() {
        1 => ("it is connected".to_owned(), "of it"),
        count => {
            let names: Vec<&str> = connected.iter().map(|one| &*one.client_id).collect();
            let are = if names.len() == 1 { "is" } else { "are" };
            let who = format!(
                "{} of its {count} clients {are} connected ({})",
                names.len(),
                names.join(", ")
            );
            (who, "of them")
        }
    };
    let uses = |topic: &str| match connected.as_slice() {
        [one] => topic::is_well(one, topic),
        all => topic::comes_twice_to_several(all, topic)
            .unwrap_or_else(|| format!("it may use {topic}")),
    };
    let sentence = match &question.topic {
        Some(topic) if was_ill => format!("{who}, {}, and nothing is wrong now", uses(topic)),
        None if was_ill => format!("{who} and nothing is wrong now"),
        Some(topic) => format!(
            "{who}, {}, and nothing on that topic was refused or lost recently{}",
            uses(topic),
            match connected.as_slice() {
                [one] if is_subscribed(one) => {
                    let mut words = of_parts.iter().filter_map(|one| one.nothing_came.as_ref());
                    words
                        .next()
                        .map_or_else(String::new, |words| format!("; {words}"))
                }
                _ => String::new(),
            }
        ),
        None if is_other_refused => {
            format!(
                "{who}, and nothing of these was refused or lost recently; another client was \
                 refused"
            )
        }
        None => format!("{who} and nothing {lost} was refused or lost recently"),
    };
    let silence = match connected.as_slice() {
        [one] => silence::last_publish(one),
        _ => String::new(),
    };
    let finding = Finding::new(Cause::NothingWrong, sentence + &silence);
    let since_ms = first.session.as_ref().and_then(|session| session.since_ms);
    match since_ms {
        Some(since_ms) => finding.since(since_ms),
        None => finding,
    }
}

/// What the diagnosis was read from, in order of time.
fn evidence(clients: &[Cow<'_, Facts>]) -> Vec<Evidence> {
    let mut all: Vec<Evidence> = Vec::new();
    let mut add = |one: Evidence| {
        if !all.contains(&one) {
            all.push(one);
        }
    };
    for client in clients {
        for mut one in evidence_of(client) {
            if clients.len() > 1 {
                one.text = format!("client {}: {}", client.client_id, one.text);
            }
            add(one);
        }
        // A client without a name may be any of them.
        perhaps_seen(client).into_iter().for_each(&mut add);
    }
    all.sort_by_key(|evidence| evidence.at_ms);
    if clients.len() > 1 {
        all.drain(..all.len().saturating_sub(EVIDENCE_MAX));
    }
    all
}

fn evidence_of(facts: &Facts) -> Vec<Evidence> {
    let runs = facts.runs.iter().chain(&facts.runs_of_parts);
    let mut all: Vec<Evidence> = runs.map(Evidence::of_run).collect();
    let session = facts.session.as_ref();
    all.extend(
        session
            .and_then(|session| session.last_packet_ms)
            .map(|at_ms| Evidence {
                at_ms,
                text: "its last packet arrived".to_owned(),
            }),
    );
    if let Some(presence) = facts.presence.as_ref().filter(|presence| !presence.online) {
        let mut text = "last seen".to_owned();
        for (word, part) in [
            (" from ", &presence.address),
            (" at ", &presence.listener),
            (": ", &presence.why),
        ] {
            if let Some(part) = part {
                text.push_str(&format!("{word}{part}"));
            }
        }
        all.push(Evidence {
            at_ms: presence.last_seen_ms,
            text,
        });
    }
    all
}

/// Refusals of clients without a name, from the last address of this one, since its last event.
/// Nothing is guessed about a connected client.
fn perhaps_seen(facts: &Facts) -> Vec<Evidence> {
    let is_recent = |at_ms: u64| facts.now_ms.saturating_sub(at_ms) <= RECENT_MS;
    let nameless = facts.nameless.iter().rev().filter(|entry| {
        !is_connected(facts) && is_recent(entry.at_ms) && admission::is_newer(facts, entry)
    });
    let perhaps = nameless.take(3).map(|entry| Evidence {
        at_ms: entry.at_ms,
        text: format!(
            "perhaps: {} of a client without a name at {}, which may be a stranger: {}",
            entry.what_name(),
            entry.address.as_deref().unwrap_or_default(),
            entry.why.as_deref().unwrap_or_default()
        ),
    });
    perhaps.collect()
}

/// Facts for the diagnoses of tests.
#[cfg(test)]
pub(crate) struct Case(Inquiry);

#[cfg(test)]
impl Case {
    /// Of these facts of the client.
    pub(crate) fn of(facts: Facts) -> Self {
        Self(Inquiry::new(facts, None))
    }

    /// Adds the facts of a part of the node.
    pub(crate) fn with<P: Examine>(mut self, facts: P::Facts) -> Self {
        self.0.parts.push(examined::<P>(facts));
        self
    }

    /// Adds the facts of a part that is examined for each client. The test has one client.
    pub(crate) fn with_client<P: Examine>(mut self, facts: P::Facts) -> Self {
        self.0.clients[0].1.push(examined::<P>(facts));
        self
    }

    /// The diagnosis on them.
    pub(crate) fn diagnosis(self) -> Diagnosis {
        self.0.diagnosis()
    }
}

/// Returns the diagnosis on facts of a client alone.
#[cfg(test)]
pub(crate) fn judge(facts: &Facts) -> Diagnosis {
    Case::of(facts.clone()).diagnosis()
}
