//! Commands of remedies, for a shell on the node's machine.
//!
//! Names and topics are text from outside: in a command each is one word of the shell, and none is
//! an option.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use martlet_access::explain;
use martlet_broker::{
    EventHead, Names, Refusal, RefusalCause, Rules, ShownKey, TenantId, UserSources, lane_of,
    may_publish, shared_filter,
};
use martlet_integrate::CLIENT_IDS;
use martlet_registry::{
    AccountKind, GroupName, NO_ROLE, Owner, RulesPlace, Snapshot, USER_ROLE, is_device_id,
};

use super::lacking::Lacking;
use super::worded_remedy::WordedRemedy;
use crate::facts::KeyVariables;
use crate::remedy::Command;
use crate::remedy::form::{self, CommandForm, Given};
use crate::text::{typed, typed_names};
use crate::wall_clock::now_signed_ms;

/// How commands for this node begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Commands {
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AclFileOfListener {
    /// Path of the file.
    pub(crate) path: Arc<str>,
    /// The listener that has it for itself; none: it is `auth.acl_file`.
    pub(crate) listener: Option<String>,
    /// Users with lines of their own in it.
    pub(crate) users: Arc<[Box<str>]>,
    /// The rules of clients without a user name.
    pub(crate) nameless: NamelessRules,
}

/// The rules of clients without a user name: those before the first line of a user.
#[derive(Clone, Debug)]
pub(crate) struct NamelessRules(pub(crate) Arc<Rules>);

impl PartialEq for NamelessRules {
    fn eq(&self, other: &Self) -> bool {
        self.0.rules() == other.0.rules()
    }
}

impl Eq for NamelessRules {}

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
        let found = lacking.explained(&self.nameless.0);
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
pub(crate) struct TablesNow(Arc<TablesSource>);

struct TablesSource {
    tables: SnapshotNow,
    have_others: HaveOthers,
}

type HaveOthers = Box<dyn Fn() -> bool + Send + Sync>;

type SnapshotNow = Box<dyn Fn() -> Option<Arc<Snapshot>> + Send + Sync>;

impl TablesNow {
    /// `tables` answers what they are, `have_others` whether there are rules beside theirs.
    pub(crate) fn new(
        tables: impl Fn() -> Option<Arc<Snapshot>> + Send + Sync + 'static,
        have_others: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(TablesSource {
            tables: Box::new(tables),
            have_others: Box::new(have_others),
        }))
    }
}

impl fmt::Debug for TablesNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TablesNow")
    }
}

impl Commands {
    /// For a node that is named by these options, with keys that these variables set.
    pub(super) fn of_node(
        node: String,
        variables: KeyVariables,
        tables: Option<TablesNow>,
    ) -> Self {
        Self {
            node,
            variables,
            tables,
            ..Self::default()
        }
    }

    /// The tables as of now.
    pub(super) fn tables_now(&self) -> Option<Arc<Snapshot>> {
        let known = self.tables.as_ref()?;
        (known.0.tables)()
    }

    /// Rules come with tokens or a hook's answer too.
    pub(super) fn have_other_rules(&self) -> bool {
        let known = self.tables.as_ref();
        known.is_some_and(|known| (known.0.have_others)())
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

    /// A ban that keeps a client out is lifted.
    pub(super) fn lifting_ban(&self, head: &EventHead) -> WordedRemedy {
        let tables = self.tables_now();
        let user = head.user_name().unwrap_or_default();
        let ban = tables.as_deref().and_then(|tables| {
            let (tenant, client_id) = (self.tenant.0, &*head.client_id);
            tables.ban_of(tenant, client_id, user, head.ip(), now_signed_ms())
        });
        match ban {
            Some(ban) => WordedRemedy {
                text: "lift the ban".to_owned(),
                command: self.line(form::BAN_RM, &[&ban.id]),
            },
            None => WordedRemedy {
                text: "the ban has ended: have the client connect again".to_owned(),
                command: None,
            },
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
            Some(AccountKind::User) => ("the user's password", self.passwd(None, name)),
            None => ("a password of its own", None),
        };
        let lost = match command {
            Some(_) => "; if that is lost, set another",
            None => "",
        };
        let key = match (shown, known) {
            (RefusalCause::ProvisioningKeyAsPassword, None) => {
                "a device that is to be added sends a provisioning key to a listener with \
                 discovery, or by POST /api/v1/provision; any other client needs a password of its \
                 own (martlet device add, martlet user add)"
                    .to_owned()
            }
            _ => format!("have the client log in with {whose}, not with a key{lost}"),
        };
        WordedRemedy { text: key, command }
    }

    /// Adds another provisioning key like this one.
    pub(super) fn provisioning_key(&self, key: &ShownKey) -> Option<Command> {
        let values = [&*key.name, &key.device_type, &key.team, &key.id_pattern];
        self.line(form::PROVISION_ADD, &values)
    }

    /// All that a client does goes to the log for a while.
    pub(super) fn trace(&self, client_id: &str) -> Option<Command> {
        match client_id {
            "" => None,
            id => self.line(form::TRACE, &[id]),
        }
    }

    /// The answers of an integration's target to messages that it refused; none if this is not the
    /// session of an integration.
    pub(super) fn letters_of(&self, client_id: &str) -> Option<WordedRemedy> {
        let part = lane_of(client_id).map_or(client_id, |(part, _)| part);
        let name = part.strip_prefix(CLIENT_IDS)?;
        let command = self.line(form::LETTERS_LS, &[name]);
        WordedRemedy::by("its dead letters show the answer of the target", command)
    }

    /// As [`Self::permit`], in a tenant, of a client whose listener has this ACL file, if that is
    /// known.
    pub(super) fn permit_in(
        &self,
        tenant: TenantId,
        lacking: &Lacking<'_>,
        acl_file: Option<&AclFileOfListener>,
    ) -> WordedRemedy {
        let of_tenant = Self {
            tenant,
            ..self.clone()
        };
        of_tenant.permit_at(lacking, acl_file)
    }

    /// A group that a device is not in, and whose rules permit what it lacks.
    pub(super) fn group_in(
        &self,
        tenant: TenantId,
        lacking: &Lacking<'_>,
    ) -> Option<(GroupName, WordedRemedy)> {
        let user = lacking.user?;
        let names = Names {
            client_id: lacking.client_id,
            user_name: user,
        };
        let asked = (names, lacking.actions(), lacking.filter());
        let tables = self.tables_now()?;
        let rules = tables.rules_of(tenant.0, user)?;
        let found = explain(rules, names, lacking.actions(), lacking.filter());
        // A rule that forbids it stands before those of groups.
        if found.allowed || found.rule.is_some() {
            return None;
        }
        let group = tables.group_that_permits(tenant.0, user, asked)?;
        let commands = self.in_tenant(tenant)?;
        let worded = WordedRemedy {
            text: format!(
                "add it to the group {}, whose rules permit that, or permit it in the rules of its \
                 device type",
                group.name
            ),
            command: commands.line(form::GROUP_MEMBER_ADD, &[&group.name, user]),
        };
        Some((group, worded))
    }

    /// Where a rule has to be that permits what a client lacks, with the command that adds it.
    fn permit(&self, lacking: &Lacking<'_>) -> WordedRemedy {
        self.permit_at(lacking, None)
    }

    fn permit_at(
        &self,
        lacking: &Lacking<'_>,
        acl_file: Option<&AclFileOfListener>,
    ) -> WordedRemedy {
        if lacking.action == "publish" && !may_publish(lacking.topic) {
            return server_topic(lacking.topic);
        }
        let user = lacking.user;
        let tables = user.and_then(|user| Some((user, self.tables_now()?)));
        let place = tables.and_then(|(user, tables)| {
            let place = tables.rules_place(self.tenant.0, user)?;
            Some((user, place))
        });
        let Some((user, place)) = place else {
            let others = match self.have_other_rules() {
                true => {
                    "; if the client has its rules from its token or from the hook, permit it there"
                }
                false => "",
            };
            let why = acl_file.map_or_else(String::new, |file| match file.nearly(user) {
                nearly if nearly.is_empty() => file.of_nameless(lacking),
                nearly => nearly,
            });
            let place = acl_file.map_or_else(|| "(auth.acl_file)".to_owned(), ToString::to_string);
            return WordedRemedy {
                text: format!("permit it in the ACL file {place}{why}{others}"),
                command: None,
            };
        };
        let RulesPlace { owner, name } = &place;
        if let Some(worded) = self.is_not_by_rules(user, lacking, *owner) {
            return worded;
        }
        if *owner == Owner::Role && name == NO_ROLE {
            return self.some_role(user, lacking);
        }
        let text = match (owner, place.is_builtin()) {
            (Owner::Role, true) => format!(
                "give {user} another role, since the role {name} is built in and cannot be \
                 changed: one with the rules of {name} that it needs (martlet role rules {name} \
                 lists them; martlet role add NAME --rule … --rule …, martlet user set \
                 --role=NAME {})",
                typed_names(&[user])
            ),
            (Owner::Role, false) => format!("permit it in the rules of the role {name}"),
            (_, true) => format!(
                "permit it in a type of your own, since the device type {name} is built in and \
                 cannot be changed: one that has the rules of {name} too (martlet device type \
                 rules {name} lists them; martlet device type add NAME --rule … --rule …, martlet \
                 device set {}--type=NAME {}), or in the rules of a group that the device is in",
                self.team_option(),
                typed_names(&[user])
            ),
            (_, false) => format!(
                "permit it in the rules of the device type {name}, or of a group that the device \
                 is in"
            ),
        };
        let text = match self.own_topic(user, lacking) {
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
        WordedRemedy { text, command }
    }

    /// Option for a command in words about a device of the tenant, with a blank behind it.
    fn team_option(&self) -> String {
        let commands = self.in_tenant(self.tenant);
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
        match lacking.filter().starts_with('$') {
            true => WordedRemedy {
                text,
                command: None,
            },
            false => WordedRemedy {
                text: format!(
                    "{text}; to give it the role {USER_ROLE}, which permits all topics but those \
                     that begin with $, run"
                ),
                command: self.line(form::USER_ROLE, &[user, USER_ROLE]),
            },
        }
    }

    /// A topic of its own that a client may use in place of what it lacks, with the rule for it.
    fn own_topic(&self, user: &str, lacking: &Lacking<'_>) -> Option<(String, String)> {
        let tables = self.tables_now()?;
        lacking.own_topic(tables.rules_of(self.tenant.0, user)?)
    }

    /// Another rule would change nothing: the rules permit it by now, or the first of them is that
    /// rule already.
    fn is_not_by_rules(
        &self,
        user: &str,
        lacking: &Lacking<'_>,
        owner: Owner,
    ) -> Option<WordedRemedy> {
        let tables = self.tables_now()?;
        let rules = tables.rules_of(self.tenant.0, user)?;
        let names = Names {
            client_id: lacking.client_id,
            user_name: user,
        };
        let found = explain(rules, names, lacking.actions(), lacking.filter());
        if found.allowed {
            let place = found.place.unwrap_or_else(|| "the rules".to_owned());
            return WordedRemedy::words(format!(
                "{place} permits it now: no action is needed, unless the client uses another User \
                 Name or Client Identifier"
            ));
        }
        if let Some(worded) = self.forbidden_by_group(user, found.place.as_deref()) {
            return Some(worded);
        }
        if let Some(why) = lacking.unfit_name(rules) {
            return WordedRemedy::words(why);
        }
        let first = rules.rules().first()?;
        let wanted = lacking.line(owner)?;
        let is_there = first.allows == wanted.allows
            && first.actions == wanted.actions
            && first.filter == wanted.filter;
        is_there.then(|| WordedRemedy {
            text: format!(
                "{} is that rule already, and does not match: a name that contains +, # or / never \
                 matches; have the client use another name or topic",
                first.source
            ),
            command: None,
        })
    }

    /// The rule at this place is one of a group, and forbids it: no other rule stands before it.
    fn forbidden_by_group(&self, device: &str, place: Option<&str>) -> Option<WordedRemedy> {
        let (place, tables) = (place?, self.tables_now()?);
        let GroupName { id, name } = tables.group_of_rule(self.tenant.0, device, place)?;
        let commands = self.in_tenant(self.tenant)?;
        Some(WordedRemedy {
            text: format!(
                "{place} forbids it, whatever other rules permit: remove the rule from the group \
                 {name}, or the device from the group (PUT /api/v1/groups/{id}/rules sets the \
                 rules of the group); to remove the device from it, run"
            ),
            command: commands.line(form::GROUP_MEMBER_RM, &[&name, device]),
        })
    }

    /// Remedy of what a rule forbids: where to permit it, with the command that does.
    pub(super) fn forbidden(&self, head: &EventHead, action: &str, topic: &str) -> WordedRemedy {
        self.permit(&Lacking {
            client_id: &head.client_id,
            user: head.user_name(),
            action,
            topic,
        })
    }

    /// Remedy of a lockout in a tenant.
    pub(super) fn lockout_in(
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
        let by_address =
            |address: IpAddr| self.line(form::LOCKOUT_RM_ADDRESS, &[&address.to_string()]);
        WordedRemedy {
            text: "find the client that tries wrong passwords (martlet logs -t), then lift the \
                   lockout; it also ends by itself (auth.lockout_failures)"
                .to_owned(),
            command: match user {
                Some(user) => self.line(form::LOCKOUT_RM_NAME, &[user]),
                None => address.and_then(by_address),
            },
        }
    }

    /// As [`Self::unknown`], in a tenant, if a name is refused for that.
    pub(super) fn add_in(
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
        if tables
            .as_ref()
            .is_some_and(|tables| tables.may_be_team_key(name))
        {
            return WordedRemedy {
                text: "if this is the key of a team token, it no longer belongs to a team: check \
                     that it is complete, or add another token to the team of the device (martlet \
                     team token add TEAM NAME); to list the teams, run"
                    .to_owned(),
                command: self.line(form::TEAM_LS, &[]),
            };
        }
        let team = name.rsplit_once('@').map(|(_, team)| team);
        if let (Some(team), Some(tables)) = (team, tables)
            && self.tenant == TenantId::default()
            && tables.tenant_named(team).is_none()
        {
            return WordedRemedy {
                text: format!(
                    "correct the team behind @ ({team}), or add the team with a tenant of its own \
                     (martlet team add --own-tenant); to list the teams, run"
                ),
                command: self.line(form::TEAM_LS, &[]),
            };
        }
        if !sources.registry {
            return WordedRemedy {
                text: "add it".to_owned(),
                command: self.user_add(file, "", name),
            };
        }
        let (role, rights) = match file {
            // Users of a file have no role.
            Some(_) => ("", "; its rights are those of the ACL file"),
            None => (
                "ROLE",
                ", with a role that permits what it needs (martlet role ls)",
            ),
        };
        let user = self.user_add(file, role, name);
        let user = user.map_or_else(|| "martlet user add".to_owned(), String::from);
        if !is_device_id(name) {
            return WordedRemedy {
                text: format!(
                    "check the spelling of the name; no device can have it, whose id is one level \
                     of its topics; a person or a program is added by {user}{rights}"
                ),
                command: None,
            };
        }
        WordedRemedy {
            text: format!(
                "check the spelling of the name; a person or a program is added by \
                 {user}{rights}; to add a device, run"
            ),
            command: self.line(form::DEVICE_ADD, &[name]),
        }
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
        match cause {
            RefusalCause::WrongSecret => WordedRemedy::by(
                "first check which secret the client uses (it may be mistyped or belong to another \
                 token); secrets are not shown again: if it is lost, add another team token",
                self.line(form::TEAM_TOKEN_ADD, &[team, token.name]),
            ),
            RefusalCause::CredentialExpired => WordedRemedy::by(
                "give the client another team token, or restore this one",
                self.line(form::TEAM_TOKEN_RESTORE, &[team, token.id]),
            ),
            RefusalCause::NotItsClientId => {
                let is_device = tables.is_device(self.tenant.0, client_id);
                let (what, command) = match is_device {
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
                Some(WordedRemedy {
                    text: format!(
                        "set the Client Identifier (client id) of the client to the id of a device \
                         of the team {team}; {what}, run"
                    ),
                    command,
                })
            }
            _ => None,
        }
    }

    /// The name is kept for a device or user that was deleted: it cannot be added again.
    pub(super) fn deleted(&self, name: &str) -> Option<WordedRemedy> {
        let known = self.tables_now()?.deleted(self.tenant.0, name)?;
        let is_device = known == AccountKind::Device;
        let text = match is_device {
            true => "the device was deleted: restore it",
            false => "the user was deleted: restore it",
        };
        WordedRemedy::by(text, self.line(restoring(is_device), &[name]))
    }

    /// A password for a user of the password file that a reason names, else of the tables.
    pub(super) fn passwd(&self, file: Option<&str>, user: &str) -> Option<Command> {
        self.line(form::USER_PASSWD, &[user, &absolute(file)])
    }

    /// A user for that file, or for the tables with this role.
    fn user_add(&self, file: Option<&str>, role: &str, user: &str) -> Option<Command> {
        self.line(form::USER_ADD, &[user, &absolute(file), role])
    }
}

/// Remedy of a Will, or a message, to a topic of the server.
pub(super) const SERVER_TOPIC: &str =
    "clients cannot publish to topics that begin with $SYS, $share, $CONTROL or $events";

/// Remedy of a message to a topic that no client may publish to.
fn server_topic(topic: &str) -> WordedRemedy {
    let text = match shared_filter(topic) {
        Some(filter) => format!(
            "have the client publish to {filter}: the members of the share group, which subscribe \
             to {topic}, share these messages"
        ),
        None => SERVER_TOPIC.to_owned(),
    };
    WordedRemedy {
        text,
        command: None,
    }
}

/// Form of the command that brings a deleted device or user back.
pub(crate) fn restoring(is_device: bool) -> CommandForm {
    match is_device {
        true => form::DEVICE_RESTORE,
        false => form::USER_RESTORE,
    }
}

/// The path of a file, which may be another one in another working directory; empty: there is none.
fn absolute(file: Option<&str>) -> String {
    let path = file.map(|file| (file, std::path::absolute(file)));
    path.map_or_else(String::new, |(file, absolute)| {
        absolute.map_or_else(|_| file.to_owned(), |path| path.display().to_string())
    })
}

#[cfg(test)]
mod tests;
