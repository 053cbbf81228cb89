//! From facts to a diagnosis: each part examines one side of the client and returns findings, and
//! `order` tells which of them is the diagnosis. For a user with several clients all of them are
//! examined.

use std::borrow::Cow;

use martlet_broker::EventKind;

use super::asked::Asked;
use super::examine::{Examine, Examined, Findings, examined};
use super::facts::{Facts, GroupMissing, StoreTrouble};
use super::found::{Bearing, Found, RECENT_MS, is_connected, is_recent};
use super::side::{is_subscribed, side};
use super::{
    Diagnosis, Evidence, Finding, State, admission, anonymous, arrival, credential, elsewhere,
    integration, memory, missing, no_session, not_in_force, order, publish_as, restored, retained,
    session, silence, topic, twice, type_change, will,
};
use crate::cause::{Cause, Weight};
use crate::control::Control;
use crate::rfc3339;

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
            findings.clients.push(of_client.found);
        }
        let facts = &mut self.facts;
        facts.namesakes.near_of_kind.append(&mut findings.near);
        facts.kept.append(&mut findings.kept);
        for client in &mut facts.clients {
            client.kept.clone_from(&facts.kept);
        }
        let found = diagnosis(&self.facts, findings);
        let found = not_in_force::with_configuration(&self.facts, found);
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
        named.extend(missing::named(facts));
    }
    let is_client = !is_unknown(facts) || !facts.clients.is_empty() || integration::is_one(facts);
    if !is_client && !named.is_empty() {
        let first = named.remove(0);
        return of_named(facts, first, named);
    }
    let of_parts = findings.clients;
    let mut found = match &*clients {
        [one] => looked_at(one, of_parts.into_iter().next().unwrap_or_default()),
        all => of_several(all, of_parts),
    };
    found.extend(findings.found);
    type_change::with_type_change(facts, &mut found);
    found.extend(anonymous::refused(facts));
    found.extend(credential::no_api_role(facts));
    publish_as::refused(facts, &mut found);
    // A client has the name too.
    found.extend(order::beside_client(named));
    let is_other_refused = clients.len() > 1 && order::is_other_refused(&found);
    let mut ranked = order::ranked(found);
    let was_ill = ranked.iter().any(|(weight, _)| *weight == Weight::Before);
    let left = matches!(ranked.first(), Some((Weight::Gone, _)))
        && !clients.iter().any(|client| admission::was_cut_off(client));
    let first = match order::take_first(&mut ranked) {
        Some(first) => first,
        None => nothing(&clients, was_ill, is_other_refused),
    };
    let first = restored::with_restore(facts, first);
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

/// What there is to find of one client.
/// `of_parts`: what parts of the node have found of it.
fn looked_at(facts: &Facts, of_parts: Found) -> Found {
    let mut found = Vec::new();
    admission::from_address(facts, &mut found);
    found.extend(store(facts));
    found.extend(tables(facts));
    integration::integrations(facts, &mut found);
    if integration::is_one(facts) {
        // It uses no listener, and has no rules of a client.
        found.extend(of_parts);
        found.extend(memory::forgotten(facts));
        return found;
    }
    admission::admission(facts, &mut found);
    session::session(facts, &mut found);
    found.extend(silence::without_keep_alive(facts));
    found.extend(of_parts);
    // Where anonymous clients are accepted, any name would have the rules of those.
    if !is_unknown(facts) {
        arrival::arrivals(facts, &mut found);
        no_session::no_session(facts, &mut found);
        elsewhere::elsewhere(facts, &mut found);
        retained::retained(facts, &mut found);
        will::of_others(facts, &mut found);
        silence::publisher_absent(facts, &mut found);
        topic::topic(facts, &mut found);
    }
    found.extend(memory::forgotten(facts));
    for (_, finding) in &mut found {
        with_group(facts, finding);
    }
    found
}

/// Adds to what no rule permits that the rules of a group do, which the device may have left.
fn with_group(facts: &Facts, finding: &mut Finding) {
    let mut groups = facts.groups_missing.iter();
    let is_it = |group: &&GroupMissing| group.command.is_some() && group.command == finding.command;
    let Some(group) = groups.find(is_it) else {
        return;
    };
    let name = &group.name;
    finding.sentence.push_str(&match group.left_ms {
        Some(ms) => format!(
            "; it left the group {name}, whose rules permit that, on {}",
            rfc3339::in_words(ms)
        ),
        None => format!("; the rules of the group {name} permit that, and it is not in that group"),
    });
}

/// Neither the tables nor the files nor any session or event have the name: it may be misspelt.
fn is_unknown(facts: &Facts) -> bool {
    facts.registered_as.is_none()
        && facts.deleted.is_none()
        && facts.session.is_none()
        && facts.presence.is_none()
        && facts.runs.is_empty()
}

/// Faults of the message store: all publishers with QoS 1 or 2 wait for it.
fn store(facts: &Facts) -> Option<(Bearing, Finding)> {
    let session = facts.session.as_ref();
    let waits = session.is_some_and(|session| session.waits_for_store);
    match facts.store.as_ref()? {
        StoreTrouble::Failing(error) => {
            let sentence =
                format!("the message store cannot write, so nothing is acknowledged: {error}");
            let finding = Finding::new(Cause::StoreFailing, sentence)
                .remedy("make room on the disk, or check it; for details, run martlet status");
            Some((Bearing::Topic, finding))
        }
        StoreTrouble::Full { why, remedy } => {
            let (bearing, sentence) = match waits {
                true => (Bearing::Topic, format!("its publishes wait: {why}")),
                false => (
                    // What keeps a client away is reported first.
                    match is_connected(facts) {
                        true => Bearing::Happened,
                        false => Bearing::Remark,
                    },
                    format!("messages with QoS 1 and 2 wait, from all publishers: {why}"),
                ),
            };
            let mut finding = Finding::new(Cause::StoreFull, sentence);
            finding.remedy.clone_from(remedy);
            Some((bearing, finding))
        }
        StoreTrouble::Slow if waits => {
            let sentence = "its publishes wait: the disk is too slow for what is published";
            let remedy = "publish less, or give the data directory a faster disk";
            Some((
                Bearing::Topic,
                Finding::new(Cause::StoreSlow, sentence).remedy(remedy),
            ))
        }
        StoreTrouble::Slow => None,
    }
}

/// The tables cannot be used: clients of before come in, and nothing that is to be written goes on.
fn tables(facts: &Facts) -> Option<(Bearing, Finding)> {
    let sentence = "the tables of users and devices cannot be used: commands, changes and telemetry \
                    in them fail or wait, and logins use the copy in memory";
    let finding = Finding::new(Cause::TablesFailing, sentence)
        .remedy("correct what the database reports; the log of the node has its error");
    facts.tables_fail.then_some((Bearing::Aside, finding))
}

/// The findings about the clients of one user. A finding about all of them is reported once; all
/// others name their client.
fn of_several(clients: &[Cow<'_, Facts>], of_parts: Vec<Found>) -> Found {
    let is_any_connected = clients.iter().any(|client| is_connected(client));
    let is_any_subscribed = clients.iter().any(|client| is_subscribed(client));
    let mut all: Vec<(Bearing, Finding, Vec<&str>)> = Vec::new();
    for (client, of_parts) in clients.iter().zip(of_parts) {
        let is_absent = is_any_connected && !is_connected(client);
        for (bearing, finding) in looked_at(client, of_parts) {
            if finding.cause == Cause::NotSubscribed && is_any_subscribed {
                continue;
            }
            let bearing = match bearing {
                Bearing::Refused if has_other_name_now(clients, client, &finding) => Bearing::Over,
                Bearing::Refused if is_absent && is_one_too_many(client) => Bearing::Happened,
                bearing if is_absent => order::of_absent(bearing),
                bearing => bearing,
            };
            let is_same = |(_, other, _): &&mut (Bearing, Finding, Vec<&str>)| {
                other.cause == finding.cause && other.sentence == finding.sentence
            };
            match all.iter_mut().find(is_same) {
                Some((other, known, names)) => {
                    *other = order::heavier(finding.cause, bearing, *other);
                    known.add(&finding);
                    names.push(&client.client_id);
                }
                None => all.push((bearing, finding, vec![&client.client_id])),
            }
        }
    }
    let is_away = |name: &str| {
        let mut all = clients.iter();
        all.any(|client| client.client_id == name && !is_connected(client))
    };
    let is_refused = |name: &str| {
        let mut all = clients.iter();
        all.any(|client| client.client_id == name && is_one_too_many(client))
    };
    let named = all.into_iter().map(|(bearing, mut finding, names)| {
        if names.len() < clients.len() {
            let what = match names.len() {
                1 => "client",
                _ => "clients",
            };
            // The user is connected, by another client.
            let is_said = finding.cause == Cause::Away;
            let is_absent = is_any_connected && names.iter().all(|name| is_away(name));
            let is_refused =
                bearing == Bearing::Happened && names.iter().all(|name| is_refused(name));
            let absent = match is_absent && !is_said {
                true if is_refused => " is refused",
                true => " (not connected)",
                false => "",
            };
            finding.sentence = format!("{what} {}{absent}: {}", names.join(", "), finding.sentence);
        }
        (bearing, finding)
    });
    named.collect()
}

/// A client of a device was refused recently because the device has as many sessions as its type
/// permits.
fn is_one_too_many(client: &Facts) -> bool {
    let run = admission::is_refused_now(client);
    run.is_some_and(|run| admission::is_one_too_many(run) && is_recent(client, run))
}

/// A client of a user was refused for its Client Identifier, and the user came with another one
/// later.
fn has_other_name_now(clients: &[Cow<'_, Facts>], refused: &Facts, finding: &Finding) -> bool {
    let is_of_name = matches!(finding.cause, Cause::WrongClientId | Cause::ClientIdTaken);
    let refused_ms = admission::is_refused_now(refused).map(|run| run.last.at_ms);
    let came_later = |client: &Facts| {
        let mut runs = client.runs.iter();
        runs.any(|run| run.last.what == EventKind::Connected && Some(run.last.at_ms) >= refused_ms)
    };
    let mut others = clients
        .iter()
        .filter(|one| one.client_id != refused.client_id);
    is_of_name && refused_ms.is_some() && others.any(|one| came_later(one))
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
fn nothing(clients: &[Cow<'_, Facts>], was_ill: bool, is_other_refused: bool) -> Finding {
    let connected: Vec<&Facts> = clients
        .iter()
        .map(|client| &**client)
        .filter(|client| is_connected(client))
        .collect();
    let question = &clients[0].question;
    if let Some(finding) = integration::is_well(&clients[0]) {
        return finding;
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
        return admission::with_namesakes(&clients[0], finding);
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
        all => twice::comes_twice_to_several(all, topic)
            .unwrap_or_else(|| format!("it may use {topic}")),
    };
    let sentence = match &question.topic {
        Some(topic) if was_ill => format!("{who}, {}, and nothing is wrong now", uses(topic)),
        None if was_ill => format!("{who} and nothing is wrong now"),
        Some(topic) => format!(
            "{who}, {}, and nothing on that topic was refused or lost recently{}",
            uses(topic),
            match connected.as_slice() {
                [one] if is_subscribed(one) => integration::nothing_brought(one),
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

    /// With these of a part of the node.
    pub(crate) fn with<P: Examine>(mut self, facts: P::Facts) -> Self {
        self.0.parts.push(examined::<P>(facts));
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
