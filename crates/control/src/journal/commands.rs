//! Remedies that name something, with their commands for a shell on the node's machine.
//!
//! Names and topics are text from outside: in a command each is one word of the shell, and none is
//! an option.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use martlet_access::Explanation;
use martlet_broker::{
    Event, EventHead, Refusal, RefusalCause, Rules, TenantId, UserName, UserSources, lane_of,
    may_publish, shared_filter,
};
use martlet_codec::ReasonCode;
use martlet_integrate::CLIENT_IDS;
use martlet_registry::{
    AccountKind, GroupName, NO_ROLE, Owner, RulesPlace, Snapshot, USER_ROLE, is_device_id,
};

use super::lacking::Lacking;
use super::texts::{self, Text};
use super::worded_remedy::WordedRemedy;
use crate::event::{NodeNotice, ShownKey};
use crate::facts::KeyVariables;
use crate::remedy::Command;
use crate::remedy::form::{self, CommandForm, Given};
use crate::text::{typed, typed_names};
use crate::wall_clock::now_signed_ms;

/// Remedies for this node, and how their commands begin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commands {
    /// The options that name the node, as typed.
    pub(super) node: String,
    /// Keys that variables of other programs set.
    pub(super) variables: KeyVariables,
    /// The tables with the owners of tenants and the places of rules; none: not known.
    pub(super) tables: Option<TablesNow>,
    /// The tenant of the clients that it is about.
    pub(super) tenant: TenantId,
    /// In the tenant of this team; none: in the common one.
    pub(super) team: Option<String>,
}

/// The ACL file of a client.
#[derive(Clone, Debug)]
pub(crate) struct AclFileOfListener {
    /// Path of the file.
    pub(crate) path: Arc<str>,
    /// The listener that has it for itself; none: it is `auth.acl_file`.
    pub(crate) listener: Option<String>,
    /// Users with lines of their own in it.
    pub(crate) users: Arc<[Box<str>]>,
    /// The rules of clients without a user name: those before the first line of a user.
    pub(crate) nameless: Arc<Rules>,
}

impl AclFileOfListener {
    /// User of the file whose name differs in case alone, if it has none of this name: what follows
    /// the name of the file in words.
    fn nearly(&self, user: Option<&str>) -> String {
        let Some(user) = user.filter(|user| !self.users.iter().any(|one| **one == **user)) else {
            return String::new();
        };
        let mut all = self.users.iter();
        let other = all.find(|one| one.to_lowercase() == user.to_lowercase());
        other.map_or_else(String::new, |other| {
            format!(
                ", which has rules for the user {other} and none for {user}: upper and lower case \
                 differ"
            )
        })
    }

    /// The rule that would permit it to a client without a user name: what follows the name of the
    /// file in words.
    fn of_nameless(&self, lacking: &Lacking<'_>) -> String {
        let Some(user) = lacking.user else {
            return String::new();
        };
        let found = lacking.explained(&self.nameless);
        let rule = found.place.zip(found.rule).filter(|_| found.allowed);
        rule.map_or_else(String::new, |(place, rule)| {
            format!(
                " behind a line \"user {user}\": {place} ({rule}) is before the first user line, \
                 and the rules there apply only to clients without a user name"
            )
        })
    }
}

impl fmt::Display for AclFileOfListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.listener {
            None => write!(f, "{} (auth.acl_file)", self.path),
            Some(url) => write!(f, "{} (acl_file of the listener {url})", self.path),
        }
    }
}

/// The tables as of now, and whether rules come with tokens or a hook's answer too.
#[derive(Clone)]
pub(crate) struct TablesNow {
    pub(crate) tables: Arc<dyn Fn() -> Option<Arc<Snapshot>> + Send + Sync>,
    pub(crate) have_others: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for TablesNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TablesNow")
    }
}

impl Commands {
    /// The tables as of now.
    fn tables_now(&self) -> Option<Arc<Snapshot>> {
        (self.tables.as_ref()?.tables)()
    }

    /// Commands in a tenant; none: its team has no name.
    pub(super) fn in_tenant(&self, tenant: TenantId) -> Option<Cow<'_, Self>> {
        if tenant == TenantId::default() {
            return Some(Cow::Borrowed(self));
        }
        let team = self.tables_now()?.team_of(tenant.0)?.to_owned();
        Some(Cow::Owned(Self {
            tenant,
            team: Some(team),
            ..self.clone()
        }))
    }

    /// A command about this node and, if it is about an object of a team, that of the tenant. None
    /// if a name is too long to be typed, or was cut.
    pub(super) fn line(&self, form: CommandForm, values: &[&str]) -> Option<Command> {
        let (node, team) = (&*self.node, self.team.as_deref().unwrap_or_default());
        form.command(Given { node, team, values })
    }

    /// A command about an object of a tenant; none: its team is not known.
    pub(crate) fn in_tenant_of(
        &self,
        tenant: TenantId,
        form: CommandForm,
        values: &[&str],
    ) -> Option<Command> {
        self.in_tenant(tenant)?.line(form, values)
    }

    /// A remedy of a table, with these values; none: nothing is known to help.
    pub(super) fn worded(&self, text: Text, values: &[&str]) -> Option<WordedRemedy> {
        let command = text.form.and_then(|form| self.line(form, values));
        let name = values.first().copied().unwrap_or_default();
        let words = text.words.replace("{name}", name);
        (!words.is_empty()).then(|| WordedRemedy::new(words, command))
    }

    /// A ban that keeps a client out is lifted.
    pub(super) fn lifting_ban(&self, head: &EventHead) -> WordedRemedy {
        let user = head.user_name().unwrap_or_default();
        let ban = self.tables_now().and_then(|tables| {
            let (tenant, client_id) = (self.tenant.0, &*head.client_id);
            let ban = tables.ban_of(tenant, client_id, user, head.ip(), now_signed_ms())?;
            Some(ban.id.clone())
        });
        match ban {
            Some(id) => WordedRemedy::new("lift the ban", self.line(form::BAN_RM, &[&id])),
            None => WordedRemedy::words("the ban has ended: have the client connect again"),
        }
    }

    /// Permits devices of the type of this one a session more; none: their number is not limited.
    pub(super) fn one_more_session(&self, device: &str) -> Option<Command> {
        let tables = self.tables_now()?;
        let sessions = match tables.sessions_max(self.tenant.0, device) {
            0 => return None,
            sessions => sessions.saturating_add(1).to_string(),
        };
        let place = tables.rules_place(self.tenant.0, device)?;
        self.line(form::TYPE_SESSIONS, &[&place.name, &sessions])
            .filter(|_| place.owner == Owner::DeviceType && !place.is_builtin())
    }

    /// A client shows a key instead of the password or secret of this name.
    pub(super) fn own_password(&self, shown: RefusalCause, name: &str) -> WordedRemedy {
        let tables = self.tables_now();
        let known = tables.and_then(|tables| tables.account_kind(self.tenant.0, name));
        let (whose, command) = match known {
            Some(AccountKind::Device) => (
                "the secret of the device",
                self.line(form::DEVICE_ROTATE, &[name]),
            ),
            Some(AccountKind::User) => (
                "the user's password",
                self.line(form::USER_PASSWD, &[name, ""]),
            ),
            None if shown == RefusalCause::ProvisioningKeyAsPassword => {
                return WordedRemedy::words(
                    "a device that is to be added sends a provisioning key to a listener with \
                     discovery, or by POST /api/v1/provision; any other client needs a password \
                     of its own (martlet device add, martlet user add)",
                );
            }
            None => ("a password of its own", None),
        };
        let lost = match command {
            Some(_) => "; if that is lost, set another",
            None => "",
        };
        let words = format!("have the client log in with {whose}, not with a key{lost}");
        WordedRemedy::new(words, command)
    }

    /// Adds another provisioning key like this one.
    pub(super) fn provisioning_key(&self, key: &ShownKey) -> Option<Command> {
        let values = [&*key.name, &key.device_type, &key.team, &key.id_pattern];
        self.line(form::PROVISION_ADD, &values)
    }

    /// The answers of an integration's target to messages that it refused; none if this is not the
    /// session of an integration.
    pub(super) fn letters_of(&self, client_id: &str) -> Option<WordedRemedy> {
        let part = lane_of(client_id).map_or(client_id, |(part, _)| part);
        let command = self.line(form::LETTERS_LS, &[part.strip_prefix(CLIENT_IDS)?]);
        let words = "its dead letters show the answer of the target";
        Some(WordedRemedy::new(words, command))
    }

    /// A group that a device of a tenant is not in, and whose rules permit what it lacks, with how
    /// it is added there.
    pub(crate) fn group_permitting(
        &self,
        tenant: TenantId,
        lacking: &Lacking<'_>,
    ) -> Option<(GroupName, WordedRemedy)> {
        let user = lacking.user?;
        let tables = self.tables_now()?;
        let found = lacking.explained(tables.rules_of(tenant.0, user)?);
        // A rule that forbids it stands before those of groups.
        if found.allowed || found.rule.is_some() {
            return None;
        }
        let asked = (lacking.names(), lacking.actions(), lacking.filter());
        let group = tables.group_that_permits(tenant.0, user, asked)?;
        let words = format!(
            "add it to the group {}, whose rules permit that, or permit it in the rules of its \
             device type",
            group.name
        );
        let commands = self.in_tenant(tenant)?;
        let command = commands.line(form::GROUP_MEMBER_ADD, &[&group.name, user]);
        Some((group, WordedRemedy::new(words, command)))
    }

    /// Where a rule has to be that permits what a client of this tenant lacks, with the command
    /// that adds it. `acl_file`: that of its listener, if it is known.
    pub(crate) fn permitting(
        &self,
        tenant: TenantId,
        lacking: &Lacking<'_>,
        acl_file: Option<&AclFileOfListener>,
    ) -> WordedRemedy {
        if lacking.action == "publish" && !may_publish(lacking.topic) {
            return server_topic(lacking.topic);
        }
        let known = lacking.user.and_then(|user| {
            let tables = self.tables_now()?;
            let place = tables.rules_place(tenant.0, user)?;
            let rules = tables.rules_of(tenant.0, user).cloned();
            Some((user, place, rules))
        });
        let Some((user, place, rules)) = known else {
            return self.permitting_in_file(lacking, acl_file);
        };
        let RulesPlace { owner, name } = &place;
        let not_by_rules = rules.as_deref().and_then(|rules| {
            let found = lacking.explained(rules);
            let by_group = || self.forbidden_by_group(tenant, user, found.place.as_deref());
            lacking.is_not_by_rules(rules, &found, *owner, by_group)
        });
        if let Some(worded) = not_by_rules {
            return worded;
        }
        if *owner == Owner::Role && name == NO_ROLE {
            return self.some_role(user, lacking);
        }
        let own = typed_names(&[user]);
        let text = match (owner, place.is_builtin()) {
            (Owner::Role, true) => format!(
                "give {user} another role, since the role {name} is built in and cannot be \
                 changed: one with the rules of {name} that it needs (martlet role rules {name} \
                 lists them; martlet role add NAME --rule … --rule …, martlet user set \
                 --role=NAME {own})"
            ),
            (Owner::Role, false) => format!("permit it in the rules of the role {name}"),
            (_, true) => format!(
                "permit it in a type of your own, since the device type {name} is built in and \
                 cannot be changed: one that has the rules of {name} too (martlet device type \
                 rules {name} lists them; martlet device type add NAME --rule … --rule …, martlet \
                 device set {}--type=NAME {own}), or in the rules of a group that the device is in",
                self.team_option(tenant)
            ),
            (_, false) => format!(
                "permit it in the rules of the device type {name}, or of a group that the device \
                 is in"
            ),
        };
        let own_topic = rules.as_deref().and_then(|rules| lacking.own_topic(rules));
        let text = match own_topic {
            Some((topic, place)) => {
                format!("have the client use {topic}, which {place} permits; or {text}")
            }
            None => text,
        };
        let allow = match owner {
            Owner::Role => form::ROLE_ALLOW,
            Owner::DeviceType | Owner::Group => form::TYPE_ALLOW,
        };
        let rule = lacking.rule(*owner).filter(|_| !place.is_builtin());
        let command = rule.and_then(|rule| self.line(allow, &[name, &rule]));
        WordedRemedy::new(text, command)
    }

    /// The ACL file has to permit it, of a client that the tables do not have.
    fn permitting_in_file(
        &self,
        lacking: &Lacking<'_>,
        acl_file: Option<&AclFileOfListener>,
    ) -> WordedRemedy {
        let tables = self.tables.as_ref();
        let others = match tables.is_some_and(|tables| (tables.have_others)()) {
            true => {
                "; if the client has its rules from its token or from the hook, permit it there"
            }
            false => "",
        };
        let why = acl_file.map_or_else(String::new, |file| match file.nearly(lacking.user) {
            nearly if nearly.is_empty() => file.of_nameless(lacking),
            nearly => nearly,
        });
        let place = acl_file.map_or_else(|| "(auth.acl_file)".to_owned(), ToString::to_string);
        WordedRemedy::words(format!("permit it in the ACL file {place}{why}{others}"))
    }

    /// Option for a command in words about a device of the tenant, with a blank behind it.
    fn team_option(&self, tenant: TenantId) -> String {
        let commands = self.in_tenant(tenant);
        let team = commands
            .as_ref()
            .and_then(|commands| commands.team.as_ref());
        team.map_or_else(String::new, |team| format!("--team={} ", typed(team)))
    }

    /// Advises to give a user without rights a role that permits the topic.
    fn some_role(&self, user: &str, lacking: &Lacking<'_>) -> WordedRemedy {
        let text = format!(
            "{user} has the role {NO_ROLE}, which permits nothing: give it a role that permits \
             what it needs (martlet role ls)"
        );
        if lacking.filter().starts_with('$') {
            return WordedRemedy::words(text);
        }
        let text = format!(
            "{text}; to give it the role {USER_ROLE}, which permits all topics but those that \
             begin with $, run"
        );
        WordedRemedy::new(text, self.line(form::USER_ROLE, &[user, USER_ROLE]))
    }

    /// The rule at this place is one of a group, and forbids it: no other rule stands before it.
    fn forbidden_by_group(
        &self,
        tenant: TenantId,
        device: &str,
        place: Option<&str>,
    ) -> Option<WordedRemedy> {
        let place = place?;
        let GroupName { id, name } = self.tables_now()?.group_of_rule(tenant.0, device, place)?;
        let words = format!(
            "{place} forbids it, whatever other rules permit: remove the rule from the group \
             {name}, or the device from the group (PUT /api/v1/groups/{id}/rules sets the rules of \
             the group); to remove the device from it, run"
        );
        let commands = self.in_tenant(tenant)?;
        let command = commands.line(form::GROUP_MEMBER_RM, &[&name, device]);
        Some(WordedRemedy::new(words, command))
    }

    /// Remedy of what a rule forbids: where to permit it, with the command that does.
    pub(super) fn forbidden(&self, head: &EventHead, action: &str, topic: &str) -> WordedRemedy {
        let lacking = Lacking {
            client_id: &head.client_id,
            user: head.user_name(),
            action,
            topic,
        };
        self.permitting(self.tenant, &lacking, None)
    }

    /// Remedy of a lockout in a tenant: of a user name, else of an address.
    pub(crate) fn lifting(
        &self,
        tenant: TenantId,
        user: Option<&str>,
        address: Option<IpAddr>,
    ) -> WordedRemedy {
        match self.in_tenant(tenant) {
            Some(commands) => commands.lockout(user, address),
            None => self.lockout(None, None),
        }
    }

    /// A lockout of a name, else of an address, is lifted.
    pub(super) fn lockout(&self, user: Option<&str>, address: Option<IpAddr>) -> WordedRemedy {
        let address = address.map(|address| address.to_string());
        let command = match (user, &address) {
            (Some(user), _) => self.line(form::LOCKOUT_RM_NAME, &[user]),
            (None, Some(address)) => self.line(form::LOCKOUT_RM_ADDRESS, &[address]),
            (None, None) => None,
        };
        WordedRemedy::new(
            "find the client that tries wrong passwords (martlet logs -t), then lift the lockout; \
             it also ends by itself (auth.lockout_failures)",
            command,
        )
    }

    /// Remedy for an unknown user of a tenant, if a name is refused for that: how to add it.
    pub(crate) fn adding(
        &self,
        tenant: TenantId,
        why: &Refusal,
        name: &str,
    ) -> Option<WordedRemedy> {
        match why.cause {
            RefusalCause::UnknownUser(sources) if !sources.proofs => {
                let commands = self.in_tenant(tenant)?;
                Some(commands.unknown(sources, why.subject(), name))
            }
            _ => None,
        }
    }

    /// Remedy for a client that would be refused for this.
    pub(crate) fn way_in(
        &self,
        tenant: TenantId,
        client_id: &str,
        user: &str,
        why: &Refusal,
    ) -> Option<WordedRemedy> {
        let user = UserName::Claimed(user.into());
        let event = Event::Refused {
            will_topic: None,
            reason: ReasonCode::NotAuthorized,
            why: why.clone(),
        };
        let head = EventHead::new(tenant, client_id).with_user(Some(user));
        let event = event.into();
        self.remedy(&NodeNotice { head, event })
    }

    /// None of these sources, with this password file, knows a name. It may be mistyped. It is not
    /// known whether it is a device's or a user's, which may do more.
    pub(super) fn unknown(
        &self,
        sources: UserSources,
        file: Option<&str>,
        name: &str,
    ) -> WordedRemedy {
        if let Some(deleted) = self.deleted(name) {
            return deleted;
        }
        let tables = self.tables_now();
        let tables = tables.as_deref();
        if tables.is_some_and(|tables| tables.may_be_team_key(name)) {
            return WordedRemedy::new(
                "if this is the key of a team token, it no longer belongs to a team: check that it \
                 is complete, or add another token to the team of the device (martlet team token \
                 add TEAM NAME); to list the teams, run",
                self.line(form::TEAM_LS, &[]),
            );
        }
        if let Some(((_, team), tables)) = name.rsplit_once('@').zip(tables)
            && self.tenant == TenantId::default()
            && tables.tenant_named(team).is_none()
        {
            let words = format!(
                "correct the team behind @ ({team}), or add the team with a tenant of its own \
                 (martlet team add --own-tenant); to list the teams, run"
            );
            return WordedRemedy::new(words, self.line(form::TEAM_LS, &[]));
        }
        let path = file.map_or_else(String::new, absolute);
        if !sources.registry {
            let add = self.line(form::USER_ADD, &[name, &path, ""]);
            return WordedRemedy::new("add it", add);
        }
        let (role, rights) = match file {
            // Users of a file have no role.
            Some(_) => ("", "; its rights are those of the ACL file"),
            None => (
                "ROLE",
                ", with a role that permits what it needs (martlet role ls)",
            ),
        };
        let user = self.line(form::USER_ADD, &[name, &path, role]);
        let user = user.map_or_else(|| "martlet user add".to_owned(), String::from);
        if !is_device_id(name) {
            return WordedRemedy::words(format!(
                "check the spelling of the name; no device can have it, whose id is one level of \
                 its topics; a person or a program is added by {user}{rights}"
            ));
        }
        let words = format!(
            "check the spelling of the name; a person or a program is added by {user}{rights}; to \
             add a device, run"
        );
        WordedRemedy::new(words, self.line(form::DEVICE_ADD, &[name]))
    }

    /// Remedy for a client that showed the key of a team token and is not accepted.
    pub(super) fn team_token(
        &self,
        cause: RefusalCause,
        key: &str,
        client_id: &str,
    ) -> Option<WordedRemedy> {
        let tables = self.tables_now()?;
        let token = tables.team_token_named(self.tenant.0, key)?;
        let team = token.team;
        Some(match cause {
            RefusalCause::WrongSecret => WordedRemedy::new(
                "first check which secret the client uses (it may be mistyped or belong to another \
                 token); secrets are not shown again: if it is lost, add another team token",
                self.line(form::TEAM_TOKEN_ADD, &[team, token.name]),
            ),
            RefusalCause::CredentialExpired => WordedRemedy::new(
                "give the client another team token, or restore this one",
                self.line(form::TEAM_TOKEN_RESTORE, &[team, token.id]),
            ),
            RefusalCause::NotItsClientId => {
                let (what, command) = match tables.is_device(self.tenant.0, client_id) {
                    true => (
                        format!("to move the device {client_id} to that team"),
                        self.line(form::DEVICE_TO_TEAM, &[client_id, team]),
                    ),
                    false if is_device_id(client_id) => {
                        let of_team = Self {
                            team: self.team.clone().or_else(|| Some(team.to_owned())),
                            ..self.clone()
                        };
                        (
                            format!("to add {client_id} to that team"),
                            of_team.line(form::DEVICE_ADD, &[client_id]),
                        )
                    }
                    false => ("to list them".to_owned(), self.line(form::DEVICE_LS, &[])),
                };
                let words = format!(
                    "set the Client Identifier (client id) of the client to the id of a device of \
                     the team {team}; {what}, run"
                );
                WordedRemedy::new(words, command)
            }
            _ => return None,
        })
    }

    /// The name is kept for a device or user that was deleted: it cannot be added again.
    pub(super) fn deleted(&self, name: &str) -> Option<WordedRemedy> {
        let known = self.tables_now()?.deleted(self.tenant.0, name)?;
        let (is_device, what) = match known {
            AccountKind::Device => (true, "device"),
            AccountKind::User => (false, "user"),
        };
        let words = format!("the {what} was deleted: restore it");
        Some(WordedRemedy::new(
            words,
            self.line(restoring(is_device), &[name]),
        ))
    }
}

impl Lacking<'_> {
    /// Another rule would change nothing: the rules permit it by now, or the first of them is that
    /// rule already.
    fn is_not_by_rules(
        &self,
        rules: &Rules,
        found: &Explanation,
        owner: Owner,
        by_group: impl Fn() -> Option<WordedRemedy>,
    ) -> Option<WordedRemedy> {
        if found.allowed {
            let place = found.place.as_deref().unwrap_or("the rules");
            return Some(WordedRemedy::words(format!(
                "{place} permits it now: no action is needed, unless the client uses another User \
                 Name or Client Identifier"
            )));
        }
        let known = by_group().or_else(|| self.unfit_name(rules).map(WordedRemedy::words));
        if known.is_some() {
            return known;
        }
        let (first, wanted) = (rules.rules().first()?, self.line(owner)?);
        let is_there = first.allows == wanted.allows
            && first.actions == wanted.actions
            && first.filter == wanted.filter;
        is_there.then(|| {
            WordedRemedy::words(format!(
                "{} is that rule already, and does not match: a name that contains +, # or / never \
                 matches; have the client use another name or topic",
                first.source
            ))
        })
    }
}

/// Remedy of a message to a topic that no client may publish to.
fn server_topic(topic: &str) -> WordedRemedy {
    WordedRemedy::words(match shared_filter(topic) {
        Some(filter) => format!(
            "have the client publish to {filter}: the members of the share group, which subscribe \
             to {topic}, share these messages"
        ),
        None => texts::of_refusal(RefusalCause::WillOnServerTopic)
            .words
            .to_owned(),
    })
}

/// Form of the command that brings a deleted device or user back.
pub(crate) fn restoring(is_device: bool) -> CommandForm {
    match is_device {
        true => form::DEVICE_RESTORE,
        false => form::USER_RESTORE,
    }
}

/// The path of a file, which may be another one in another working directory.
pub(super) fn absolute(file: &str) -> String {
    let path = std::path::absolute(file);
    path.map_or_else(|_| file.to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests;
