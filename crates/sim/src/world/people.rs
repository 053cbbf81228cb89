//! Users that change during a run: the commands that the control plane would send, and when it
//! would confirm the change.
//!
//! A change is confirmed when every shard has processed it. After the commands of a change,
//! counters are requested from each shard; shards answer in order.

use std::collections::BTreeMap;

use martlet_broker::{Authentication, Command, Report, TenantId};

use super::World;
use crate::agenda::Due;
use crate::facts::{ClientIndex, Fact};
use crate::node::LinkIndex;
use crate::people::{Authenticator, Change, People, UserIndex, Version};
use crate::random::Random;

/// Requests from this number on check whether a version is in force.
const FIRST_REQUEST: u64 = 1 << 32;

/// The office that changes users and authenticates clients.
#[derive(Debug)]
pub struct Office {
    authenticator: Authenticator,
    random: Random,
    /// Mean time between changes, microseconds; 0 is none.
    change_us: u64,
    /// Versions that some shards have not processed, with the number of these shards.
    taking: BTreeMap<Version, usize>,
}

impl Office {
    /// An office that makes changes at this mean interval.
    pub fn new(authenticator: Authenticator, change_us: u64, random: Random) -> Self {
        Self {
            authenticator,
            random,
            change_us,
            taking: BTreeMap::new(),
        }
    }
}

impl World {
    /// Plans the first change.
    pub(super) fn begin_changes(&mut self) {
        let Some(office) = &mut self.office else {
            return;
        };
        if office.change_us > 0 {
            let first = office.random.around(office.change_us);
            self.agenda.enter(first, Due::Change);
        }
        self.set_book();
    }

    /// Sets the current users as the source of rules for the next start of the node.
    fn set_book(&mut self) {
        let ledger = &self.observer.ledger;
        let people = ledger.people.as_ref();
        self.node
            .set_book(people.map(|people| people.book(&ledger.topics)));
    }

    /// The node has ended, and logins that waited for the authenticator with it.
    pub(super) fn people_crashed(&mut self) {
        if let Some(office) = &mut self.office {
            office.authenticator.forget_waiting();
            office.taking.clear();
        }
    }

    /// The node was started with the last version.
    pub(super) fn people_restarted(&mut self) {
        let links: Vec<LinkIndex> = self.clients.iter().filter_map(|c| c.link()).collect();
        if let Some(people) = &mut self.observer.ledger.people {
            people.restarted(links.into_iter());
            let version = people.last();
            self.observer.fact(&Fact::InForce { version });
        }
    }

    /// Changes a user.
    pub(super) fn change_people(&mut self) {
        let ledger = &mut self.observer.ledger;
        let (Some(office), Some(people)) = (&mut self.office, &mut ledger.people) else {
            return;
        };
        if self.settled {
            return;
        }
        let next = office.random.around(office.change_us);
        self.agenda.enter(self.agenda.now_us() + next, Due::Change);
        if office.random.percent(5) {
            return self.lift_lockouts();
        }
        let Office {
            authenticator,
            random,
            ..
        } = office;
        let change = people.change(authenticator, &ledger.topics, random);
        self.put_in_force(change);
    }

    fn lift_lockouts(&mut self) {
        if let Some(office) = &mut self.office {
            office.authenticator.lift_all(self.agenda.now_us());
            self.observer.fact(&Fact::LockoutsLifted);
        }
    }

    /// Lets all clients log in with all permissions from now on, and ends sessions that no client
    /// will resume.
    pub(super) fn open_to_all(&mut self) {
        self.lift_lockouts();
        let ledger = &mut self.observer.ledger;
        let Some(people) = &mut ledger.people else {
            return;
        };
        let change = people.open(&ledger.topics);
        self.put_in_force(change);
        self.end_left_sessions(|world, client, tenant| {
            let people = world.observer.ledger.people.as_ref();
            people.is_some_and(|people| people.tenant_of(client) != tenant)
        });
    }

    /// Ends all sessions of all tenants.
    pub(super) fn end_all_sessions(&mut self) {
        self.end_left_sessions(|_, _, _| true);
    }

    fn end_left_sessions(&mut self, is_left: impl Fn(&Self, ClientIndex, TenantId) -> bool) {
        if self.office.is_none() {
            return;
        }
        for client in 0..self.clients.len() as ClientIndex {
            for tenant in People::tenants() {
                if is_left(self, client, tenant) {
                    self.end_session(client, tenant);
                }
            }
        }
    }

    fn end_session(&mut self, client: ClientIndex, tenant: TenantId) {
        let name = self.observer.ledger.client(client).name.clone();
        let command = Command::EndSession {
            request: 0,
            tenant,
            client_id: name.into(),
        };
        self.send_to_all_shards(&command);
    }

    fn send_to_all_shards(&mut self, command: &Command) {
        for shard in 0..self.node.shard_count() {
            self.node.command(shard, command.clone());
            self.wake_shard_soon(shard);
        }
    }

    fn put_in_force(&mut self, change: Change) {
        let Change {
            version,
            what,
            commands,
            ends,
        } = change;
        self.observer
            .note(|| format!("== version {version}: {what}"));
        self.set_book();
        if !self.node.is_up() {
            return;
        }
        for command in &commands {
            self.send_to_all_shards(command);
        }
        let request = FIRST_REQUEST + version as u64;
        self.send_to_all_shards(&Command::Snapshot { request });
        let shards = self.node.shard_count();
        if let Some(office) = &mut self.office {
            office.taking.insert(version, shards);
        }
        if let Some((user, tenant)) = ends {
            self.end_sessions_of(user, tenant);
        }
    }

    fn end_sessions_of(&mut self, user: UserIndex, tenant: TenantId) {
        for client in 0..self.clients.len() as ClientIndex {
            if People::user_of(client) == user {
                self.end_session(client, tenant);
            }
        }
    }

    /// A shard has processed all commands before a version's request.
    pub(super) fn reported(&mut self, report: Report) {
        let Some(version) = report.request.checked_sub(FIRST_REQUEST) else {
            return self.reports.push(report);
        };
        let (version, ledger) = (version as Version, &mut self.observer.ledger);
        let (Some(office), Some(people)) = (&mut self.office, &mut ledger.people) else {
            return;
        };
        let Some(left) = office.taking.get_mut(&version) else {
            return;
        };
        *left -= 1;
        if *left > 0 {
            return;
        }
        office.taking.remove(&version);
        let links = self.clients.iter().filter_map(|client| client.link());
        let marks = links.map(|link| (link, self.node.connects(link)));
        people.answered(version, marks.collect());
        self.observer.fact(&Fact::InForce { version });
    }

    /// A shard requests authentication of a client.
    pub(super) fn request_authentication(&mut self, shard: usize, request: &Authentication) {
        let ledger = &self.observer.ledger;
        let (Some(office), Some(people)) = (&mut self.office, &ledger.people) else {
            return;
        };
        let Some((_, port)) = request.address else {
            return;
        };
        let link = self.node.link_from(port);
        let now_us = self.agenda.now_us();
        let at_us = office
            .authenticator
            .ask(now_us, shard, link, request, people, &ledger.topics);
        self.agenda.enter(at_us, Due::Authenticator);
    }

    /// Decides waiting logins and sends the answers to the shards.
    pub(super) fn run_authenticator(&mut self) {
        let Some(office) = &mut self.office else {
            return;
        };
        let work = office.authenticator.work(self.agenda.now_us());
        for judged in work.judged {
            if let (Some(login), Some(people)) = (judged.login, &mut self.observer.ledger.people) {
                people.accept(judged.link, login);
            }
            self.observer.fact(&Fact::Judged {
                client: self.network.client(judged.link),
                tenant: judged.tenant,
                verdict: judged.verdict,
            });
        }
        for (shard, connection, answer) in work.answers {
            self.node.authenticated(shard, connection, answer);
            self.wake_shard_soon(shard);
        }
        if let Some(next_us) = work.next_us {
            self.agenda.enter(next_us, Due::Authenticator);
        }
    }
}
