//! From a question to a diagnosis: each part of the node gathers its facts and returns findings,
//! and `order` tells which of them is the diagnosis. Of a user with several clients all of them are
//! examined.

use super::asked::Asked;
use super::examine::{Examine, Examined, Findings, examined};
use super::found::Found;
use super::node::{self, Node, NodeFacts};
use super::topic::comes_twice_to_several;
use super::{Diagnosis, Evidence, Finding, State, order, rights, several};
use crate::cause::{Cause, Weight};
use crate::control::{Control, ControlError};

/// Pieces of evidence that are shown of several clients together.
const EVIDENCE_MAX: usize = 12;

/// A question, and what each part of the node knows of it.
pub struct Inquiry {
    asked: Asked,
    node: NodeFacts,
    /// Of the device or object that has the name.
    parts: Vec<Examined>,
    /// Of each client of the name.
    clients: Vec<Client>,
}

/// One client of the name, and what parts of the node know of it.
pub(super) struct Client {
    asked: Asked,
    parts: Vec<Examined>,
}

impl Client {
    /// Adds what a part knows.
    pub(super) fn add<P: Examine>(&mut self, facts: P::Facts) {
        P::tell(&facts, &mut self.asked);
        self.parts.push(examined::<P>(facts));
    }
}

impl Inquiry {
    /// The question `asked`, about these clients of the name.
    pub(crate) fn new(asked: Asked, clients: Vec<Asked>, node: NodeFacts) -> Self {
        let clients = clients.into_iter().map(|asked| Client {
            asked,
            parts: Vec::new(),
        });
        Self {
            asked,
            node,
            parts: Vec::new(),
            clients: clients.collect(),
        }
    }

    /// Whether it is about an integration, which uses no listener, and has no rules of a client.
    pub(crate) fn is_about_integration(&self) -> bool {
        self.asked.is_integration
    }

    /// Takes what parts have told of the clients as told of the name.
    pub(crate) fn told(&mut self) {
        match &*self.clients {
            [client] => self.asked = client.asked.clone(),
            several => {
                let all = several.iter().map(|client| &client.asked);
                self.asked.take_of_all(all);
            }
        }
    }

    /// Examines a part of the node.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub(crate) async fn examine<P: Examine>(
        &mut self,
        control: &Control,
        part: &P,
    ) -> Result<(), ControlError> {
        let facts = part.gather(control, &self.asked).await?;
        self.parts.push(examined::<P>(facts));
        Ok(())
    }

    /// Examines a part of the node for each client of the name.
    ///
    /// # Errors
    /// If a shard does not answer in time.
    pub(crate) async fn examine_clients<P: Examine>(
        &mut self,
        control: &Control,
        part: &P,
    ) -> Result<(), ControlError> {
        for client in &mut self.clients {
            let facts = part.gather(control, &client.asked).await?;
            client.add::<P>(facts);
        }
        Ok(())
    }

    /// Adds what a part knows of the object that has the name.
    #[cfg(test)]
    pub(super) fn add<P: Examine>(&mut self, facts: P::Facts) {
        self.parts.push(examined::<P>(facts));
    }

    /// One of the clients of the name.
    #[cfg(test)]
    pub(super) fn client(&mut self, index: usize) -> &mut Client {
        &mut self.clients[index]
    }

    /// The name is that of something that was deleted.
    pub fn is_deleted(&self) -> bool {
        self.asked.is_deleted
    }

    /// No client, device or user has the name, nor has an object that was examined so far.
    pub(crate) fn is_about_nothing(&self) -> bool {
        let mut findings = Findings::default();
        for part in &self.parts {
            part(&self.asked, &mut findings);
        }
        !self.asked.is_client() && !self.asked.is_integration && !findings.has_named()
    }

    /// Returns the diagnosis.
    pub fn diagnosis(mut self) -> Diagnosis {
        let mut findings = Findings::default();
        for part in &self.parts {
            part(&self.asked, &mut findings);
        }
        let mut of_clients = Vec::new();
        for Client { asked, parts } in &mut self.clients {
            asked.near_of_kind.clone_from(&findings.near);
            asked.kept.clone_from(&findings.kept);
            let mut of_client = Findings::default();
            Node::judge(&self.node, asked, &mut of_client);
            parts.iter().for_each(|part| part(asked, &mut of_client));
            for (_, finding) in &mut of_client.found {
                rights::with_group(asked, finding);
            }
            of_clients.push(of_client);
        }
        let found = self.found(findings, of_clients);
        let found = node::with_configuration(&self.node, found);
        let also = found.also.into_iter().map(Finding::with_remedies);
        Diagnosis {
            also: also.collect(),
            finding: found.finding.with_remedies(),
            ..found
        }
    }

    fn found(&self, findings: Findings, mut of_clients: Vec<Findings>) -> Diagnosis {
        let asked = &self.asked;
        let clients: Vec<&Asked> = self.clients.iter().map(|client| &client.asked).collect();
        let mut named = findings.named;
        let is_client = asked.is_client() || clients.len() > 1 || asked.is_integration;
        if !is_client && !named.is_empty() {
            let first = named.remove(0);
            let wrong = first.cause != Cause::NothingWrong;
            return self.of(State::NoClient, wrong, first, named);
        }
        let mut each: Vec<Found> = of_clients
            .iter_mut()
            .map(|of_client| std::mem::take(&mut of_client.found))
            .collect();
        let mut found = match each.len() {
            1 => each.remove(0),
            _ => several::of_several(&clients, each),
        };
        found.extend(findings.found);
        rights::with_type_change(asked, &mut found);
        found.extend(several::anonymous(asked, &clients));
        // A client has the name too.
        found.extend(order::beside_client(named));
        let is_other_refused = clients.len() > 1 && order::is_other_refused(&found);
        let mut ranked = order::ranked(found);
        let was_ill = ranked.iter().any(|(weight, _)| *weight == Weight::Before);
        let left = matches!(ranked.first(), Some((Weight::Gone, _)))
            && !clients.iter().any(|client| client.was_cut_off);
        let first = match order::take_first(&mut ranked) {
            Some(first) => first,
            None => nothing(&clients, &of_clients, was_ill, is_other_refused),
        };
        let first = node::with_restore(asked, &self.node, first);
        let also = order::behind(&first, ranked, clients.len());
        let states: Vec<State> = clients.iter().map(|client| client.state()).collect();
        let order = [State::Connected, State::Refused, State::Away];
        let state = order.into_iter().find(|state| states.contains(state));
        let state = match state.unwrap_or(State::NeverSeen) {
            State::Refused if left => State::Away,
            state => state,
        };
        let wrong = first.cause != Cause::NothingWrong && !left;
        Diagnosis {
            evidence: evidence(&clients, &of_clients),
            ..self.of(state, wrong, first, also)
        }
    }

    fn of(&self, state: State, wrong: bool, finding: Finding, also: Vec<Finding>) -> Diagnosis {
        let question = self.asked.question.clone();
        Diagnosis {
            name: question.name,
            tenant: question.tenant.0,
            topic: question.topic,
            state,
            wrong,
            finding,
            also,
            evidence: Vec::new(),
        }
    }
}

/// Nothing is wrong. `was_ill`: something was refused recently that would not be now.
/// `is_other_refused`: another client of the user is refused.
fn nothing(
    clients: &[&Asked],
    of_clients: &[Findings],
    was_ill: bool,
    is_other_refused: bool,
) -> Finding {
    let each = clients.iter().zip(of_clients);
    let connected: Vec<(&Asked, &Findings)> = each
        .filter(|(client, _)| client.is_connected)
        .map(|(client, found)| (*client, found))
        .collect();
    let asked = clients[0];
    if let Some(well) = &of_clients[0].well {
        return well.clone();
    }
    let Some((first, _)) = connected.first() else {
        let unknown = of_clients[0].unknown.clone();
        let cause = Cause::NobodyKnown;
        return unknown.unwrap_or_else(|| Finding::new(cause, cause.meaning()));
    };
    let (who, lost) = match clients.len() {
        1 => ("it is connected".to_owned(), "of it"),
        count => {
            let names: Vec<&str> = connected.iter().map(|(one, _)| &*one.client_id).collect();
            let are = if names.len() == 1 { "is" } else { "are" };
            let who = format!(
                "{} of its {count} clients {are} connected ({})",
                names.len(),
                names.join(", ")
            );
            (who, "of them")
        }
    };
    let uses = |topic: &str| match &*connected {
        [(_, found)] => found.uses.clone().unwrap_or_default(),
        all => {
            let all: Vec<&Asked> = all.iter().map(|(one, _)| *one).collect();
            comes_twice_to_several(&all, topic).unwrap_or_else(|| format!("it may use {topic}"))
        }
    };
    let sentence = match &asked.question.topic {
        Some(topic) if was_ill => format!("{who}, {}, and nothing is wrong now", uses(topic)),
        None if was_ill => format!("{who} and nothing is wrong now"),
        Some(topic) => {
            let words = of_clients
                .iter()
                .find_map(|found| found.nothing_came.as_ref());
            let came = match (&*connected, words) {
                ([(one, _)], Some(words)) if one.is_subscribed() => format!("; {words}"),
                _ => String::new(),
            };
            let uses = uses(topic);
            format!("{who}, {uses}, and nothing on that topic was refused or lost recently{came}")
        }
        None if is_other_refused => format!(
            "{who}, and nothing of these was refused or lost recently; another client was refused"
        ),
        None => format!("{who} and nothing {lost} was refused or lost recently"),
    };
    let silence = match &*connected {
        [(_, found)] => &*found.silence,
        _ => "",
    };
    let finding = Finding::new(Cause::NothingWrong, sentence + silence);
    Finding {
        since_ms: first.session.as_ref().and_then(|session| session.since_ms),
        ..finding
    }
}

/// Evidence of the diagnosis, in order of time.
fn evidence(clients: &[&Asked], of_clients: &[Findings]) -> Vec<Evidence> {
    let mut all: Vec<Evidence> = Vec::new();
    for (client, found) in clients.iter().zip(of_clients) {
        let of_client = evidence_of(client)
            .into_iter()
            .map(|one| match clients.len() {
                1 => one,
                _ => Evidence {
                    text: format!("client {}: {}", client.client_id, one.text),
                    ..one
                },
            });
        // A client without a name may be any of them.
        let nameless = found.evidence.iter().map(|(at_ms, text)| Evidence {
            at_ms: *at_ms,
            text: text.clone(),
        });
        for one in of_client.chain(nameless) {
            if !all.contains(&one) {
                all.push(one);
            }
        }
    }
    all.sort_by_key(|evidence| evidence.at_ms);
    if clients.len() > 1 {
        all.drain(..all.len().saturating_sub(EVIDENCE_MAX));
    }
    all
}

fn evidence_of(asked: &Asked) -> Vec<Evidence> {
    let runs = asked.runs.iter().chain(&asked.runs_of_parts);
    let mut all: Vec<Evidence> = runs.map(Evidence::of_run).collect();
    let session = asked.session.as_ref();
    if let Some(at_ms) = session.and_then(|session| session.last_packet_ms) {
        let text = "its last packet arrived".to_owned();
        all.push(Evidence { at_ms, text });
    }
    if let Some(presence) = asked.presence.as_ref().filter(|presence| !presence.online) {
        let mut text = "last seen".to_owned();
        for (word, part) in [
            (" from ", &presence.address),
            (" at ", &presence.listener_url),
            (": ", &presence.why),
        ] {
            if !part.is_empty() {
                text.push_str(&format!("{word}{part}"));
            }
        }
        let at_ms = presence.last_seen_ms;
        all.push(Evidence { at_ms, text });
    }
    all
}
