//! The way to mend what was refused: in words, and, where there is one, as a command that works as
//! it stands in a shell on the node's machine.
//!
//! Names and topics are text from outside: in a command each is one word of the shell, and none is
//! an option.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use martlet_broker::{DropReason, Event, TenantId, UserName};
use martlet_codec::ReasonCode;

use super::TEXT_MAX;
use crate::text::typed;

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
    /// Who owns which tenant.
    pub(super) teams: Teams,
    /// In the tenant of this team; none: in the common one.
    team: Option<String>,
}

/// The names of teams that own tenants, as of now; nobody's before it is said who knows them.
#[derive(Clone, Default)]
pub(super) struct Teams(Arc<OnceLock<TeamOf>>);

type TeamOf = Box<dyn Fn(TenantId) -> Option<String> + Send + Sync>;

impl Teams {
    pub(super) fn set(&self, team_of: TeamOf) {
        // Who knows them stays the same.
        let _ = self.0.set(team_of);
    }
}

impl fmt::Debug for Teams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Teams")
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
        let team = self.teams.0.get()?(tenant)?;
        Some(Cow::Owned(Self {
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
        let is_of_team = name.starts_with("device ") || name == "user add";
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

/// What to do about it, if anything is known to help. Commands name the team of the tenant: without
/// it they would do it to somebody else, so where that is not known there is none.
pub(super) fn way(tenant: TenantId, event: &Event, commands: &Commands) -> Option<Way> {
    match commands.in_tenant(tenant) {
        Some(commands) => way_of(event, &commands),
        None => way_of(event, commands).map(|way| Way {
            command: None,
            ..way
        }),
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
            let command = || commands.explain(client_id, user.as_ref(), "publish", topic);
            refused(command, *reason, why)
        }
        Event::SubscribeRefused {
            client_id,
            user,
            filter,
            reason,
            why,
            ..
        } => {
            let command = || commands.explain(client_id, user.as_ref(), "subscribe", filter);
            refused(command, *reason, why)
        }
        Event::Dropped {
            client_id,
            user,
            topic,
            reason: DropReason::NotPermitted,
            ..
        } if !topic.is_empty() => {
            let text = "permit it in the ACL file or role, if it should be received";
            let command = commands.explain(client_id, user.as_ref(), "receive", topic);
            Way::by(text, command)
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
        Event::Disconnected { reason, why, .. } => disconnected(*reason, why),
        Event::Authenticated { .. }
        | Event::Connected { .. }
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
    let command = commands.explain(client_id, user, "publish", will_topic?);
    Way::by("permit it in the ACL file or role", command)
}

fn connect_refused(
    commands: &Commands,
    user: Option<&UserName>,
    reason: ReasonCode,
    why: &str,
) -> Option<Way> {
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
        if let Some(places) = why.strip_prefix("nobody of that name is known to ") {
            if ["tokens (", "the hook ("]
                .iter()
                .any(|name| places.contains(name))
            {
                // A user of that name would be asked for a password before its tokens are.
                return Way::words(
                    "give the client a good token, or whatever the hook knows; as a user of its own \
                     the name would be asked for a password instead",
                );
            }
            let (_, file) = places.split_once("the password file ").unzip();
            let file = file.map(|file| file.split(", ").next().unwrap_or(file));
            let command = commands.user("user add", file, user.as_str());
            return Way::by("add it", command);
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

/// Refusals by the tables, which say by whose name.
fn by_tables(commands: &Commands, why: &str) -> Option<Way> {
    let between = |begin: &str, end: &str| why.strip_prefix(begin)?.strip_suffix(end);
    if let Some(user) = between("user ", " is disabled") {
        let command = commands.line("user set --enable", &[], &[user]);
        return Way::by("let it in again", command);
    }
    let id = why.strip_prefix("that is no credential of the device ");
    if let Some(id) = id.or_else(|| {
        between(
            "this credential of the device ",
            " has expired, or is revoked",
        )
    }) {
        return Way::by("give it another credential", commands.rotate(id));
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

fn refused(command: impl Fn() -> Option<String>, reason: ReasonCode, why: &str) -> Option<Way> {
    if let Some(way) = by_limit(why) {
        return Some(way);
    }
    if why.contains("one of the server's own") {
        return Way::words("clients publish to no topic that begins with $SYS");
    }
    match reason {
        ReasonCode::NotAuthorized => Way::by("permit it in the ACL file or role", command()),
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
        DropReason::NotPermitted => "permit it in the ACL file or role, if it should be received",
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
        name => format!("raise limits.{name}, or find who needs so much"),
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
        let commands = Commands::default();
        let team = |tenant| (tenant == TenantId(3)).then(|| "north".to_owned());
        commands.teams.set(Box::new(team));
        let of = |tenant| way(TenantId(tenant), &event, &commands).and_then(|way| way.command);
        let expected = "martlet device rotate --team=north d1";
        assert_eq!((of(3).as_deref(), of(4)), (Some(expected), None));
        assert_eq!(of(0).as_deref(), Some("martlet device rotate d1"));
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
}
