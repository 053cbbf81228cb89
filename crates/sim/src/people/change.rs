//! Changes of users: each creates a new version, and the commands that the control plane sends to
//! all shards for it, in order.

use martlet_broker::{
    Actions, Command, Realm, Revocation, RevocationReason, RevokedClients, TenantId,
};

use super::{Authenticator, People, RuleRow, Standing, State, TENANTS, UserIndex, Version};
use crate::random::Random;
use crate::topics::{FilterIndex, Topics};

/// Maximum number of rules of a user.
const RULES_MAX: u64 = 3;

/// A completed change.
#[derive(Debug)]
pub struct Change {
    /// The new version.
    pub version: Version,
    /// Description of the change.
    pub what: String,
    /// For all shards, in order.
    pub commands: Vec<Command>,
    /// The user and tenant whose sessions must end.
    pub ends: Option<(UserIndex, TenantId)>,
}

impl People {
    /// Changes a random user.
    pub fn change(
        &mut self,
        authenticator: &mut Authenticator,
        topics: &Topics,
        random: &mut Random,
    ) -> Change {
        let mut users = self.current().to_vec();
        let user = random.below(users.len() as u64) as UserIndex;
        let found = &mut users[usize::from(user)];
        let (name, before) = (Self::name(user), found.clone());
        let mut everybody = false;
        let (what, reason) = match random.below(20) {
            0..=9 => {
                (found.rules, found.default) = rules(topics, random);
                everybody = random.percent(30);
                (format!("{name} has rules {:?}", found.rules), None)
            }
            10..=12 if found.state == State::Active => {
                found.state = State::Disabled;
                let reason = RevocationReason::Disabled;
                (format!("{name} is disabled"), Some(reason))
            }
            13..=15 if found.state == State::Active => {
                found.tenant = TenantId((found.tenant.0 + 1) % TENANTS);
                let what = format!("{name} moves to {:?}", found.tenant);
                (what, Some(RevocationReason::Removed))
            }
            16 | 17 if found.state == State::Active => {
                found.state = State::Deleted;
                let reason = RevocationReason::Removed;
                (format!("{name} is deleted"), Some(reason))
            }
            18 if found.state == State::Active => {
                found.password += 1;
                let reason = RevocationReason::Credentials;
                (format!("{name} has another password"), Some(reason))
            }
            _ if found.state == State::Deleted => {
                self.holders += 1;
                *found = Standing::new(self.holders, found.tenant);
                found.password = before.password + 1;
                (format!("another {name} is there"), None)
            }
            _ => {
                found.state = State::Active;
                (format!("{name} is enabled"), None)
            }
        };
        let is_removed = matches!(reason, Some(RevocationReason::Removed));
        let version = self.begin(users);
        let book = self.book(topics);
        let mut commands = vec![match everybody {
            true => Command::SetRules(book),
            false => Command::SetRulesOf {
                book,
                users: [name.as_str().into()].into(),
            },
        }];
        if let Some(reason) = reason {
            authenticator.revoked += 1;
            let revocation = Revocation {
                realm: Realm::of_tenant(before.tenant),
                whose: RevokedClients::User(name.as_str().into()),
                number: authenticator.revoked,
                reason,
            };
            commands.push(Command::Revoke([revocation].into()));
        }
        Change {
            version,
            what,
            commands,
            ends: is_removed.then_some((user, before.tenant)),
        }
    }

    /// Lets all clients log in with all permissions.
    pub fn open(&mut self, topics: &Topics) -> Change {
        let mut users = self.current().to_vec();
        for user in &mut users {
            if user.state == State::Deleted {
                self.holders += 1;
                user.holder = self.holders;
            }
            user.state = State::Active;
            (user.rules, user.default) = (Vec::new(), Actions::ALL);
        }
        let version = self.begin(users);
        Change {
            version,
            what: "everybody may do everything".to_owned(),
            commands: vec![Command::SetRules(self.book(topics))],
            ends: None,
        }
    }
}

/// Random rules, and the default permissions.
fn rules(topics: &Topics, random: &mut Random) -> (Vec<RuleRow>, Actions) {
    let plain: Vec<FilterIndex> = (0..topics.filter_count() as FilterIndex)
        .filter(|filter| !topics.is_shared(*filter))
        .collect();
    let actions = [
        Actions::ALL,
        Actions::READ,
        Actions::RECEIVE,
        Actions::PUBLISH,
    ];
    let rule = |random: &mut Random| RuleRow {
        allows: random.percent(50),
        actions: random.pick(&actions),
        filter: random.pick(&plain),
    };
    let count = random.below(RULES_MAX + 1);
    let rules = (0..count).map(|_| rule(random)).collect();
    let default = match random.percent(70) {
        true => Actions::ALL,
        false => Actions::NONE,
    };
    (rules, default)
}
