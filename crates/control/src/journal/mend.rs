//! Remedies for what was refused: as text and, where there is one, as a command for a shell on the
//! node's machine.
//!
//! Names and topics are text from outside: in a command each is one word of the shell, and none is
//! an option.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use martlet_broker::{DropReason, Event, TenantId, UserName};
use martlet_codec::ReasonCode;
use martlet_registry::{Owner, RulesPlace, Snapshot};

use super::{Lacking, TEXT_MAX, web};
use crate::cause::Cause;
use crate::text::typed;

/// Before the places that were asked.
const NOBODY: &str = "nobody of that name is known to ";

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// In words.
    pub text: String,
    /// A command that does it, or that says more.
    pub command: Option<String>,
}

impl Way {
    fn words(text: impl Into<String>) -> Option<Self> {
        Some(Self {
            text: text.into(),
            command: None,
        })
    }

    fn by(text: &str, command: Option<String>) -> Option<Self> {
        Some(Self {
            text: text.to_owned(),
            command,
        })
    }
}

/// How commands for this node begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Commands {
    /// What tells them which node it is, as it is typed.
    pub(super) node: String,
    /// Who owns which tenant, and whose rules stand where.
    pub(super) tables: TablesNow,
    /// Whose clients it is about.
    tenant: TenantId,
    /// In the tenant of this team; none: in the common one.
    team: Option<String>,
}

/// The tables as of now; none before it is said who knows them.
#[derive(Clone, Default)]
pub(super) struct TablesNow(Arc<OnceLock<Tables>>);

type Tables = Box<dyn Fn() -> Option<Arc<Snapshot>> + Send + Sync>;

impl TablesNow {
    pub(super) fn set(&self, tables: Tables) {
        // Who knows them stays the same.
        let _ = self.0.set(tables);
    }

    fn now(&self) -> Option<Arc<Snapshot>> {
        self.0.get()?()
    }
}

impl fmt::Debug for TablesNow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TablesNow")
            .field(&self.0.get().is_some())
            .finish()
    }
}

impl Commands {
    /// For a node that is told by these options.
    pub(super) fn of_node(node: String) -> Self {
        Self {
            node,
            ..Self::default()
        }
    }

    /// The same in a tenant; none: its team has no name.
    fn in_tenant(&self, tenant: TenantId) -> Option<Cow<'_, Self>> {
        if tenant == TenantId::default() {
            return Some(Cow::Borrowed(self));
        }
        let team = self.tables.now()?.team_of(tenant.0)?.to_owned();
        Some(Cow::Owned(Self {
            tenant,
            team: Some(team),
            ..self.clone()
        }))
    }

    /// `martlet NAME`, the node, the options, and then these words. None if one is too long to be
    /// typed.
    fn line(&self, name: &str, options: &[(&str, &str)], words: &[&str]) -> Option<String> {
        let mut line = format!("martlet {name}");
        if !self.node.is_empty() {
            line.push_str(&format!(" {}", self.node));
        }
        let values = options.iter().map(|(_, value)| *value);
        if values
            .chain(words.iter().copied())
            .any(|word| word.len() > TEXT_MAX)
        {
            return None;
        }
        // Users' names are nobody else's, whatever team they are of.
        let is_of_team = match name {
            "user add" | "trace" => true,
            // Types are everybody's.
            name => name.starts_with("device ") && !name.starts_with("device type "),
        };
        if let Some(team) = self.team.as_ref().filter(|_| is_of_team) {
            line.push_str(&format!(" --team={}", typed(team)));
        }
        for (option, value) in options {
            line.push_str(&format!(" {option}={}", typed(value)));
        }
        // A single dash is a word.
        if words
            .iter()
            .any(|word| word.starts_with('-') && *word != "-")
        {
            line.push_str(" --");
        }
        for word in words {
            line.push_str(&format!(" {}", typed(word)));
        }
        Some(line)
    }

    /// Another credential for a device.
    fn rotate(&self, id: &str) -> Option<String> {
        self.line("device rotate", &[], &[id])
    }

    /// The same for one of this tenant.
    pub(super) fn rotate_in(&self, tenant: TenantId, id: &str) -> Option<String> {
        self.in_tenant(tenant)?.rotate(id)
    }

    /// What was deleted is there again.
    pub(super) fn restore_in(
        &self,
        tenant: TenantId,
        is_device: bool,
        name: &str,
    ) -> Option<String> {
        let what = match is_device {
            true => "device restore",
            false => "user restore",
        };
        self.in_tenant(tenant)?.line(what, &[], &[name])
    }

    /// A deleted team is there again, and who was deleted with it.
    pub(super) fn restore_team(&self, id: &str) -> Option<String> {
        self.line("team restore", &[], &[id])
    }

    /// All that a client does goes to the log for a while.
    fn trace(&self, client_id: &str) -> Option<String> {
        match client_id {
            "" => None,
            id => self.line("trace", &[], &[id]),
        }
    }

    /// As [`Self::permit`], in a tenant.
    pub(super) fn permit_in(&self, tenant: TenantId, lacking: &Lacking<'_>) -> Way {
        let of_tenant = Self {
            tenant,
            ..self.clone()
        };
        of_tenant.permit(lacking)
    }

    /// Where a rule has to be that permits what a client lacks, with the command that adds it.
    fn permit(&self, lacking: &Lacking<'_>) -> Way {
        let user = lacking.user;
        let tables = user.and_then(|user| Some((user, self.tables.now()?)));
        let place = tables.and_then(|(user, tables)| {
            let place = tables.rules_place(self.tenant.0, user)?;
            Some((user, place))
        });
        let Some((user, place)) = place else {
            return Way {
                text:
                    "permit it in the ACL file (auth.acl_file), or, for a client whose rules come \
                       with its token or the hook's answer, there"
                        .to_owned(),
                command: None,
            };
        };
        let RulesPlace { owner, name } = &place;
        let text = match (owner, place.is_builtin()) {
            (Owner::Role, true) => format!(
                "the role {name} is the program's and stays as it is: give {user} another role \
                 (martlet role add NAME --rule …, martlet user set {} --role NAME)",
                typed(user)
            ),
            (Owner::Role, false) => format!("permit it in the rules of the role {name}"),
            (_, true) => format!(
                "the device type {name} is the program's and stays as it is: permit it in a type \
                 of your own (martlet device type add NAME --rule …, martlet device set {} --type \
                 NAME), or in the rules of a group that the device is in",
                typed(user)
            ),
            (_, false) => format!(
                "permit it in the rules of the device type {name}, or of a group that the device \
                 is in"
            ),
        };
        let allow = match owner {
            Owner::Role => "role allow",
            Owner::DeviceType | Owner::Group => "device type allow",
        };
        let rule = lacking.rule(*owner).filter(|_| !place.is_builtin());
        let command = rule.and_then(|rule| self.line(allow, &[], &[name, &rule]));
        Way { text, command }
    }

    /// What a rule forbids: where to permit it, and the command that does, else the one that says
    /// which rule it is.
    fn forbidden(
        &self,
        client_id: &str,
        user: Option<&UserName>,
        action: &str,
        topic: &str,
    ) -> Way {
        let permit = self.permit(&Lacking {
            client_id,
            user: user.map(UserName::as_str),
            action,
            topic,
        });
        let explain = || self.explain(client_id, user, action, topic);
        Way {
            command: permit.command.or_else(explain),
            ..permit
        }
    }

    /// Which rule decides.
    fn explain(
        &self,
        client_id: &str,
        user: Option<&UserName>,
        action: &str,
        topic: &str,
    ) -> Option<String> {
        if self.team.is_some() {
            return None;
        }
        let user = user.map_or("-", UserName::as_str);
        let options = [("--client-id", client_id)];
        self.line("acl explain", &options, &[user, action, topic])
    }

    /// As [`Self::unknown`], in a tenant and by the words of a refusal.
    pub(super) fn add_in(&self, tenant: TenantId, why: &str, name: &str) -> Option<Way> {
        let places = why.strip_prefix(NOBODY)?;
        match asks_others(places) {
            true => None,
            false => Some(self.in_tenant(tenant)?.unknown(places, name)),
        }
    }

    /// Nobody of these places knows a name. It may be mistyped, and it is not known whether it is a
    /// device's or a user's, who may do more.
    fn unknown(&self, places: &str, name: &str) -> Way {
        let (_, file) = places.split_once("the password file ").unzip();
        let file = file.map(|file| file.split(", ").next().unwrap_or(file));
        let is_registry =
            |place: &str| place.starts_with("the registry ") || place.ends_with(" of the registry");
        let is_in_registry = places.split(", ").any(is_registry);
        if !is_in_registry {
            return Way {
                text: "add it".to_owned(),
                command: self.user("user add", file, name),
            };
        }
        let user = match file {
            Some(_) => self.user("user add", file, name),
            None => self.line("user add", &[("--role", "ROLE")], &[name]),
        };
        let user = user.unwrap_or_else(|| "martlet user add".to_owned());
        Way {
            text: format!(
                "see that the name is spelt right; a device is added as below, a person or a \
                 program by {user}, with a role that permits what it needs (martlet role ls)"
            ),
            command: self.line("device add", &[], &[name]),
        }
    }

    /// `martlet user …`, for the password file that a reason names, else for the tables.
    fn user(&self, name: &str, file: Option<&str>, user: &str) -> Option<String> {
        let file = file.map(|file| {
            let absolute = std::path::absolute(file);
            absolute.map_or_else(|_| file.to_owned(), |path| path.display().to_string())
        });
        let options: Vec<(&str, &str)> = file.iter().map(|file| ("--file", &**file)).collect();
        self.line(name, &options, &[user])
    }
}

/// Remedy of a problem, if there is one. Commands name the team of the tenant: without it they
/// would change another user, so there is no command if the team is unknown.
pub(super) fn way(tenant: TenantId, event: &Event, commands: &Commands) -> Option<Way> {
    match commands.in_tenant(tenant) {
        Some(commands) => way_of(event, &commands),
        None => {
            let commands = Commands {
                tenant,
                ..commands.clone()
            };
            way_of(event, &commands).map(|way| Way {
                command: None,
                ..way
            })
        }
    }
}

fn way_of(event: &Event, commands: &Commands) -> Option<Way> {
    match event {
        Event::Refused {
            client_id,
            user,
            will_topic,
            reason,
            why,
            ..
        } => {
            let will = will_topic.as_deref();
            refused_by_will(commands, client_id, user.as_ref(), will, why)
                .or_else(|| connect_refused(commands, user.as_ref(), *reason, why))
                .or_else(|| broken(commands, client_id, *reason))
        }
        Event::ReauthenticationRefused {
            user, reason, why, ..
        } => connect_refused(commands, user.as_ref(), *reason, why),
        Event::PublishRefused {
            client_id,
            user,
            topic,
            reason,
            why,
            ..
        } => {
            let way = || commands.forbidden(client_id, user.as_ref(), "publish", topic);
            refused(way, *reason, why)
        }
        Event::SubscribeRefused {
            client_id,
            user,
            filter,
            reason,
            why,
            ..
        } => {
            let way = || commands.forbidden(client_id, user.as_ref(), "subscribe", filter);
            refused(way, *reason, why)
        }
        Event::Dropped {
            client_id,
            user,
            topic,
            reason: DropReason::NotPermitted,
            ..
        } if !topic.is_empty() => {
            let way = commands.forbidden(client_id, user.as_ref(), "receive", topic);
            let text = format!("if it should be received, {}", way.text);
            Some(Way { text, ..way })
        }
        Event::Dropped { reason, .. } => Way::words(dropped(*reason)?),
        Event::RateExceeded { .. } => Way::words(
            "raise limits.publish_rate or limits.publish_bytes_rate, have the client publish \
             less, or set mqtt.rate_exceeded = \"delay\"",
        ),
        Event::QueueFull { .. } => Way::words(
            "a client that is away for long: let its session expire sooner, or raise \
             limits.queued_messages and limits.queued_bytes",
        ),
        Event::Disconnected {
            client_id,
            reason,
            why,
            ..
        } => disconnected(*reason, why).or_else(|| broken(commands, client_id, *reason)),
        Event::Authenticated { .. }
        | Event::Connected(_)
        | Event::TakenOver { .. }
        | Event::SessionEnded { .. }
        | Event::Subscribed { .. }
        | Event::Unsubscribed { .. }
        | Event::Published(_)
        | Event::Delivered(_)
        | Event::Packet { .. } => None,
    }
}

fn refused_by_will(
    commands: &Commands,
    client_id: &str,
    user: Option<&UserName>,
    will_topic: Option<&str>,
    why: &str,
) -> Option<Way> {
    if !why.starts_with("the Will on") {
        return None;
    }
    Some(commands.forbidden(client_id, user, "publish", will_topic?))
}

fn connect_refused(
    commands: &Commands,
    user: Option<&UserName>,
    reason: ReasonCode,
    why: &str,
) -> Option<Way> {
    if let Some(text) = web::mend_of(why) {
        return Way::words(text);
    }
    // What is about a name of the tables says it, proved or not.
    if let Some(way) = by_limit(why).or_else(|| by_tables(commands, why)) {
        return Some(way);
    }
    let has = |text: &str| why.contains(text);
    if let Some(user) = user {
        if let Some(place) = why.strip_prefix("the password is not that of ") {
            return match place {
                "auth.credentials" => Way::words("see MARTLET_AUTH__CREDENTIALS of the node"),
                "the registry" => {
                    let command = commands.user("user passwd", None, user.as_str());
                    Way::by("set it again", command)
                }
                file => {
                    let command = commands.user("user passwd", Some(file), user.as_str());
                    Way::by("set it again", command)
                }
            };
        }
        if let Some(places) = why.strip_prefix(NOBODY) {
            if asks_others(places) {
                // A user of that name would be asked for a password before its tokens are.
                return Way::words(
                    "give the client a good token, or whatever the hook knows; as a user of its own \
                     the name would be asked for a password instead",
                );
            }
            return Some(commands.unknown(places, user.as_str()));
        }
    }
    Way::words(match () {
        () if has("locked out") => {
            "it ends by itself; find who tries wrong passwords from there, and see \
             auth.lockout_failures"
        }
        () if has("it has no credentials") || has("does not permit anonymous") => {
            "give the client a user name and password (see martlet user add --help), or the \
             listener allow_anonymous = true"
        }
        () if has("certificate has expired") => {
            "issue the client's certificate anew (see martlet cert renew --help), and give it to \
             the client"
        }
        () if has("is revoked") => {
            "give the client a new certificate: see martlet cert client --help"
        }
        () if has("revocation list has expired") => "write a new one: see martlet cert crl --help",
        () if has("of another CA") => {
            "give the client a certificate of the listener's client_ca, or add its CA there"
        }
        () if has("requires a client certificate") => {
            "give the client a certificate (see martlet cert client --help), or set \
             client_certificates = \"optional\""
        }
        () if has("does not trust the server's certificate") => {
            "give the client the CA of the server's certificate: --cafile"
        }
        () if has("what came is not TLS") => {
            "the client speaks without TLS: switch it on there, or use another port"
        }
        () if has("the first packet is not CONNECT") => {
            "the client speaks TLS, HTTP or something else to a port of plain MQTT"
        }
        () if has("no PROXY header") => "connect by the proxy, or to a listener without proxy_from",
        () if has("none of theirs") => "add the address to the listener's proxy_from",
        () if has("another user's") => {
            "two clients have the same Client Identifier: give each its own"
        }
        () if has("the hook answered") || has("no answer within") => {
            "see the program behind auth.hook_url"
        }
        () if has("its token") => "give the client a new token",
        () if reason == ReasonCode::UnsupportedProtocolVersion => {
            "the client has to speak MQTT 3.1, 3.1.1 or 5.0"
        }
        () => return None,
    })
}

/// These places know more names than can be read there.
fn asks_others(places: &str) -> bool {
    let others = ["tokens (", "the hook ("];
    others.iter().any(|name| places.contains(name))
}

/// Refusals by the tables, which say by whose name.
fn by_tables(commands: &Commands, why: &str) -> Option<Way> {
    let between = |begin: &str, end: &str| why.strip_prefix(begin)?.strip_suffix(end);
    if let Some(user) = between("user ", " is disabled") {
        let command = commands.line("user set --enable", &[], &[user]);
        return Way::by("let it in again", command);
    }
    if let Some(id) = why.strip_prefix("that is no credential of the device ") {
        return Way::by(
            "look first what credential the client has, which may be mistyped or an older one; if \
             the good one is lost, give it another",
            commands.rotate(id),
        );
    }
    if let Some(id) = between(
        "this credential of the device ",
        " has expired, or is revoked",
    ) {
        return Way::by("give it another credential", commands.rotate(id));
    }
    if let Some(way) = by_client_id(why) {
        return Some(way);
    }
    let certified = between(
        "its certificate is good, and ",
        " is neither a user nor a device of the tables",
    );
    if let Some(name) = certified {
        let command = commands.line("device add", &[], &[name]);
        return Way::by("add it", command);
    }
    let (id, status) = why.strip_prefix("device ")?.rsplit_once(" is ")?;
    if status.contains(' ') {
        return None;
    }
    let command = commands.line("device set --status=active", &[], &[id]);
    Way::by("let it in again", command)
}

/// A device has one Client Identifier, and that is nobody else's.
fn by_client_id(why: &str) -> Option<Way> {
    if let Some(rest) = why.strip_prefix("the Client Identifier of the device ") {
        let (id, _) = rest.split_once(" must be ")?;
        return Way::words(format!(
            "set the Client Identifier (client id) of the client to {id}: by its MQTT library's \
             or firmware's setting, by -i with martlet pub and mosquitto_pub; if it is another \
             device, give it an id and a secret of its own (martlet device add)"
        ));
    }
    let rest = why.strip_prefix("the Client Identifier ")?;
    let id = rest.strip_suffix(" is the device's of that id alone")?;
    Way::words(format!(
        "have the client come as the device, with the User Name {id} and its secret, or set \
         another Client Identifier (client id) on it"
    ))
}

fn refused(forbidden: impl Fn() -> Way, reason: ReasonCode, why: &str) -> Option<Way> {
    if let Some(way) = by_limit(why) {
        return Some(way);
    }
    if why.contains("one of the server's own") {
        return Way::words("clients publish to no topic that begins with $SYS");
    }
    match reason {
        ReasonCode::NotAuthorized => Some(forbidden()),
        _ => None,
    }
}

fn disconnected(reason: ReasonCode, why: &str) -> Option<Way> {
    if let Some(way) = by_limit(why) {
        return Some(way);
    }
    Way::words(match reason {
        ReasonCode::SessionTakenOver => {
            "if it happens again and again, two clients have the same Client Identifier: give each \
             its own"
        }
        ReasonCode::KeepAliveTimeout => {
            "the client, or the network to it, has gone silent; a longer Keep Alive bears longer \
             gaps"
        }
        _ => return None,
    })
}

/// A packet that broke a rule of MQTT; the words before say which packet and which rule.
fn broken(commands: &Commands, client_id: &str, reason: ReasonCode) -> Option<Way> {
    let text = match reason {
        ReasonCode::MalformedPacket => {
            "the client sent bytes that are no such packet: look at its MQTT library and its \
             version, and that nothing but that library writes to its connection; a trace shows \
             the packets before it"
        }
        reason if Cause::BROKEN_RULES.contains(&reason) => {
            "the client sent a packet that MQTT forbids there: look at its MQTT library and its \
             version, and that two of its threads do not use one connection; a trace shows the \
             packets before it"
        }
        _ => return None,
    };
    Way::by(text, commands.trace(client_id))
}

pub(crate) fn dropped(reason: DropReason) -> Option<&'static str> {
    Some(match reason {
        DropReason::ClientAway => {
            "publish and subscribe with QoS 1 and a session that persists, to have it kept"
        }
        DropReason::OutputFull => {
            "the client reads too slowly: QoS 1 waits in its queue; limits.output_bytes bounds QoS 0"
        }
        DropReason::QueueFull => "raise limits.queued_messages or limits.queued_bytes",
        DropReason::PacketTooLarge => {
            "the client's Maximum Packet Size is smaller than the message"
        }
        DropReason::MemoryFull => "raise limits.memory_bytes, or give the machine more memory",
        DropReason::NotPermitted => {
            "permit it where its rules are, if it should be received: martlet why with the topic \
             says where that is"
        }
        DropReason::StoreDamaged => {
            "stop the node; martlet store check then says what else is damaged"
        }
        _ => return None,
    })
}

/// `limit NAME` is a key of the configuration.
fn by_limit(why: &str) -> Option<Way> {
    let (_, rest) = why.split_once("limit ")?;
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let name: String = rest.chars().take_while(|c| is_of_name(*c)).collect();
    Way::words(match name.as_str() {
        "" => return None,
        "max_connections" => "raise max_connections of the listener".to_owned(),
        name => format!("raise limits.{name}, or find the clients that use most of it"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_named_by_its_key() {
        let said = |why| by_limit(why).unwrap_or_default().text;
        assert!(said("limit connections").contains("limits.connections"));
        let why = "no complete CONNECT before the deadline (limit connect_timeout_secs)";
        assert!(said(why).starts_with("raise limits.connect_timeout_secs"));
        assert_eq!(said("the password is wrong"), "");
    }

    #[test]
    fn a_command_names_the_node_the_user_and_the_client() {
        let commands = Commands::of_node("--data-dir='/var/lib/my node'".to_owned());
        let user = UserName::Proved("ann".into());
        let explain = |client_id, user, topic| {
            commands
                .explain(client_id, user, "publish", topic)
                .unwrap_or_default()
        };
        assert_eq!(
            explain("c1", Some(&user), "a b"),
            "martlet acl explain --data-dir='/var/lib/my node' --client-id=c1 ann publish 'a b'"
        );
        assert!(explain("-x;y", None, "t").ends_with(" --client-id='-x;y' - publish t"));
        assert!(explain("c", Some(&user), "-t").ends_with(" -- ann publish -t"));
        assert_eq!(explain("c", None, &"t".repeat(TEXT_MAX + 1)), "");
    }

    #[test]
    fn what_is_about_a_team_has_no_command_that_would_be_about_another() {
        let event = Event::Refused {
            client_id: "d1".to_owned(),
            user: None,
            will_topic: None,
            address: None,
            reason: ReasonCode::BadUserNameOrPassword,
            why: "that is no credential of the device d1".into(),
        };
        let of = |tenant| way(TenantId(tenant), &event, &Commands::default()).unwrap_or_default();
        assert_eq!(of(0).command.as_deref(), Some("martlet device rotate d1"));
        assert_eq!(
            of(3),
            Way {
                command: None,
                ..of(0)
            }
        );
        let commands = Commands {
            team: Some("north".to_owned()),
            ..Commands::default()
        };
        let command = way_of(&event, &commands).and_then(|way| way.command);
        let expected = "martlet device rotate --team=north d1";
        assert_eq!(command.as_deref(), Some(expected));
    }

    #[test]
    fn names_of_the_tables_are_taken_from_between_fixed_words() {
        let commands = Commands::default();
        let said = |why| by_tables(&commands, why).and_then(|way| way.command);
        let expected = "martlet user set --enable 'a is disabled'";
        assert_eq!(
            said("user a is disabled is disabled").as_deref(),
            Some(expected)
        );
        let expected = "martlet device set --status=active 'x is y'";
        assert_eq!(
            said("device x is y is maintenance").as_deref(),
            Some(expected)
        );
        assert_eq!(said("device x is not what it seems"), None);
        let spent = "this credential of the device d 1 has expired, or is revoked";
        assert_eq!(said(spent).as_deref(), Some("martlet device rotate 'd 1'"));
    }

    #[test]
    fn who_is_nobody_may_be_a_device() {
        let commands = Commands::default();
        let way = commands.unknown("the registry /data/martlet.db", "p 1");
        assert_eq!(way.command.as_deref(), Some("martlet device add 'p 1'"));
        let user = "martlet user add --role=ROLE 'p 1', with a role";
        assert!(way.text.contains(user), "{}", way.text);
        let way = commands.unknown("the password file /etc/passwd", "p1");
        let command = "martlet user add --file=/etc/passwd p1";
        assert_eq!(way.command.as_deref(), Some(command));
    }

    #[test]
    fn a_wrong_client_identifier_is_told_what_it_has_to_be() {
        let said = |why| by_client_id(why).unwrap_or_default().text;
        let why = "the Client Identifier of the device d 1 must be d 1, which its topics go by; it \
                   is \"x\"";
        assert!(said(why).contains("to d 1: by its MQTT library's"));
        let why = "the Client Identifier d1 is the device's of that id alone";
        assert!(said(why).contains("the User Name d1 and its secret"));
        assert_eq!(said("the Client Identifier"), "");
    }

    #[test]
    fn a_packet_that_breaks_a_rule_is_to_be_traced() {
        let event = |reason| Event::Disconnected {
            client_id: "-x".to_owned(),
            user: None,
            reason,
            why: "a second CONNECT".into(),
        };
        let told = |reason| way_of(&event(reason), &Commands::default()).unwrap_or_default();
        for reason in [ReasonCode::ProtocolError, ReasonCode::MalformedPacket] {
            let way = told(reason);
            assert!(way.text.contains("MQTT library"), "{}", way.text);
            assert_eq!(way.command.as_deref(), Some("martlet trace -- -x"));
        }
        assert_eq!(told(ReasonCode::Success), Way::default());
    }

    #[test]
    fn who_is_in_no_tables_has_rules_in_files() {
        let way = Commands::default().permit(&Lacking {
            client_id: "c",
            user: Some("ann"),
            action: "publish",
            topic: "a/b",
        });
        assert!(way.text.contains("auth.acl_file") && way.command.is_none());
        let of_team = Commands {
            team: Some("north".to_owned()),
            ..Commands::default()
        };
        let line = |name| of_team.line(name, &[], &["x"]).unwrap_or_default();
        assert_eq!(line("device type rules"), "martlet device type rules x");
        assert_eq!(line("trace"), "martlet trace --team=north x");
    }
}
