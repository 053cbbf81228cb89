//! Forms of remedies: the commands of the program that help, each with the request of the API that
//! does the same.
//!
//! In a command, `{0}` is the first name or value, `{*1}` stands for the second one and all behind
//! it, and `{team}` is the option for the team, if there is one. An option without a value is left
//! out. In a path, `{/0}` is a name whose slashes stay, `{:0}` the kind
//! and name of an integration, `{?team}` and `{&team}` are the parameter for
//! the team. In a body, `{0}` is a text, `{*1}` are several, `{=1}` is JSON itself, and
//! `{,team}` is the member for the team.

use martlet_broker::{NAME_BYTES_MAX, is_shortened};

use super::command::{Command, RemedyKind, Request};
use crate::text::{self, typed, typed_names};

/// Longest word of a command: a name, or a rule with a topic.
const WORD_BYTES_MAX: usize = 2 * NAME_BYTES_MAX;

/// A command of the program, with the request of the API that does the same, if one does.
#[derive(Clone, Copy, Debug)]
pub struct CommandForm {
    /// The command, without the name of the program.
    pub command: &'static str,
    /// The request; none: the command is no single request.
    pub request: Option<RequestForm>,
}

/// A request of the API, with placeholders.
#[derive(Clone, Copy, Debug)]
pub struct RequestForm {
    /// Whether it changes something or shows it.
    pub kind: RemedyKind,
    /// Method.
    pub method: &'static str,
    /// Path, with its query.
    pub path: &'static str,
    /// JSON; empty: it has no body.
    pub body: &'static str,
}

macro_rules! forms {
    ($($name:ident = $command:literal
        $(, $kind:ident $method:ident $path:literal $(, $body:literal)?)?;)*) => {
        $(#[doc = concat!("The command `", $command, "`.")]
        pub(crate) const $name: CommandForm = CommandForm {
            command: $command,
            request: forms!(@ $($kind $method $path $(, $body)?)?),
        };)*

        /// All of them.
        pub const COMMAND_FORMS: &[CommandForm] = &[$($name),*];
    };
    (@) => { None };
    (@ $kind:ident $method:ident $path:literal $(, $body:literal)?) => {
        Some(RequestForm {
            kind: RemedyKind::$kind,
            method: stringify!($method),
            path: $path,
            body: concat!($($body)?),
        })
    };
}

forms! {
    ALARM_CLEAR = "alarm clear {0}", Request POST "/api/v1/alarms/{0}/clear";
    ALARM_LS = "alarm ls", View GET "/api/v1/alarms";
    ALARM_UNSHELVE = "alarm unshelve {0}", Request POST "/api/v1/alarms/{0}/unshelve";
    AUDIT = "audit";
    BAN_LS = "ban ls", View GET "/api/v1/bans";
    BAN_RM = "ban rm {0}", Request DELETE "/api/v1/bans/{0}";
    CLIENT_LS = "client ls", View GET "/api/v1/clients";
    COMMAND_CANCEL = "command cancel {team} --device={0} {1}",
        Request DELETE "/api/v1/devices/{0}/commands/{1}{?team}";
    COMMAND_LS = "command ls";
    COMMAND_RETRY = "command retry {team} --device={0} {1}",
        Request POST "/api/v1/devices/{0}/commands/{1}/retry{?team}";
    COMMAND_SEND = "command send {team} --device={0} --topic={1} --parameters={2} {3}";
    COMMAND_SHOW = "command show {0}";
    COMMAND_SHOW_OF_DEVICE = "command show {team} --device={0} {1}",
        View GET "/api/v1/devices/{0}/commands/{1}{?team}";
    COMMAND_SHOW_OF_GROUP = "command show --group={0} {1}",
        View GET "/api/v1/groups/{0}/commands/{1}";
    CONFIG_SHOW = "config show";
    DEVICE_ACTIVATE = "device set {team} --status=active {0}",
        Request PATCH "/api/v1/devices/{0}{?team}", r#"{"status": "active"}"#;
    DEVICE_ADD = "device add {team} {0}",
        Request POST "/api/v1/devices", r#"{"id": {0}{,team}}"#;
    DEVICE_LS = "device ls {team}", View GET "/api/v1/devices{?team}";
    DEVICE_RESTORE = "device restore {team} {0}", Request POST "/api/v1/devices/{0}/restore{?team}";
    DEVICE_ROTATE = "device rotate {team} {0}", Request POST "/api/v1/devices/{0}/rotate{?team}";
    DEVICE_TO_TEAM = "device set {team} --to-team={1} {0}",
        Request PATCH "/api/v1/devices/{0}{?team}", r#"{"team": {1}}"#;
    DEVICE_TWIN = "device twin {team} {0}", View GET "/api/v1/devices/{0}/twin{?team}";
    DEVICE_TWIN_SET = "device twin {team} --set={1} {0}",
        Request PATCH "/api/v1/devices/{0}/twin/desired{?team}", "{=1}";
    DEVICE_TYPE = "device set {team} --type={1} {0}",
        Request PATCH "/api/v1/devices/{0}{?team}", r#"{"type": {1}}"#;
    FIRMWARE_LS = "firmware ls", View GET "/api/v1/firmware";
    GROUP_DESIRED = "group desired {0}", View GET "/api/v1/groups/{0}/twin/desired";
    GROUP_LS = "group ls", View GET "/api/v1/groups";
    GROUP_MEMBER_ADD = "group member add {team} {0} {1}",
        Request POST "/api/v1/groups/{0}/devices{?team}", r#"{"devices": [{1}]}"#;
    GROUP_MEMBER_RM = "group member rm {team} {0} {1}",
        Request POST "/api/v1/groups/{0}/devices/remove{?team}", r#"{"devices": [{1}]}"#;
    HEALTH = "health", View GET "/api/v1/health";
    INTEGRATION_LS = "integration ls", View GET "/api/v1/integrations";
    INTEGRATION_RESUME = "integration resume {0}",
        Request POST "/api/v1/integrations/{:0}/resume";
    INTEGRATION_SHOW = "integration show {0}", View GET "/api/v1/integrations/{:0}";
    INTEGRATION_TEST = "integration test {0}", View POST "/api/v1/integrations/{:0}/test";
    KEY_ADD = "key add {team} --scope={*1} {0}",
        Request POST "/api/v1/keys", r#"{"name": {0}, "scopes": [{*1}]{,team}}"#;
    KEY_LS = "key ls", View GET "/api/v1/keys";
    LETTERS_LS = "integration dead-letter ls {0}",
        View GET "/api/v1/integrations/{:0}/dead-letters";
    LETTERS_SEND = "integration dead-letter send --all {0}",
        Request POST "/api/v1/integrations/{:0}/dead-letters/send-again";
    LOCKOUT_LS = "lockout ls", View GET "/api/v1/lockouts";
    LOCKOUT_RM_ADDRESS = "lockout rm {0}", Request DELETE "/api/v1/lockouts?address={0}";
    LOCKOUT_RM_NAME = "lockout rm {team} {0}",
        Request DELETE "/api/v1/lockouts?user_name={0}{&team}";
    LOGS = "logs", View GET "/api/v1/events";
    PROVISION_ADD = "provision add --type={1} --team={2} --id-pattern={3} {0}";
    PROVISION_LS = "provision ls", View GET "/api/v1/provisioning-keys";
    RETAINED_LS = "retained ls", View GET "/api/v1/retained";
    RETAINED_RM = "retained rm {team} {0}", Request DELETE "/api/v1/retained/{/0}{?team}";
    ROLE_ALLOW = "role allow {0} {1}",
        Request POST "/api/v1/roles/{0}/rules", r#"{"rule": {1}}"#;
    ROLE_LS = "role ls", View GET "/api/v1/roles";
    ROLLOUT_DEVICES = "rollout devices {0}", View GET "/api/v1/rollouts/{0}/devices";
    ROLLOUT_LS = "rollout ls", View GET "/api/v1/rollouts";
    ROLLOUT_RESUME = "rollout resume {0}", Request POST "/api/v1/rollouts/{0}/resume";
    ROLLOUT_SHOW = "rollout show {0}", View GET "/api/v1/rollouts/{0}";
    ROLLOUT_START = "rollout start --group={0} {1} {2}";
    RULE_LS = "rule ls", View GET "/api/v1/rules";
    RULE_ON = "rule on {team} {0}",
        Request PATCH "/api/v1/rules/{0}{?team}", r#"{"enabled": true}"#;
    RULE_SHOW = "rule show {team} {0}", View GET "/api/v1/rules/{0}{?team}";
    SECRET_LS = "secret ls", View GET "/api/v1/secrets";
    SECRET_SET = "secret set {team} {0}";
    SESSION_LS = "session ls", View GET "/api/v1/sessions";
    SESSION_RM = "session rm {team} {0}", Request DELETE "/api/v1/sessions/{0}{?team}";
    TEAM_LS = "team ls", View GET "/api/v1/teams";
    TEAM_RESTORE = "team restore {0}", Request POST "/api/v1/teams/{0}/restore";
    TEAM_TOKEN_ADD = "team token add {0} {1}",
        Request POST "/api/v1/teams/{0}/tokens", r#"{"name": {1}}"#;
    TEAM_TOKEN_RESTORE = "team token restore {0} {1}",
        Request POST "/api/v1/teams/{0}/tokens/{1}/restore";
    TELEMETRY_QUERY = "telemetry query {team} --table --from={1} --to={2} {0}";
    TELEMETRY_REJECTED = "telemetry rejected";
    TRACE = "trace {team} {0}";
    TYPE_ALLOW = "device type allow {0} {1}",
        Request POST "/api/v1/device-types/{0}/rules", r#"{"rule": {1}}"#;
    TYPE_SESSIONS = "device type rules --client-id=any --max-sessions={1} {0}",
        Request PATCH "/api/v1/device-types/{0}", r#"{"client_id": "any", "max_sessions": {=1}}"#;
    USER_ADD = "user add {team} --file={1} --role={2} {0}";
    USER_API_ROLE = "user set --api-role={1} {0}",
        Request PATCH "/api/v1/users/{0}", r#"{"api_role": {1}}"#;
    USER_ENABLE = "user set --enable {0}",
        Request PATCH "/api/v1/users/{0}", r#"{"enabled": true}"#;
    USER_PURGE = "user rm --purge --yes {0}";
    USER_PASSWD = "user passwd --file={1} {0}";
    USER_RESTORE = "user restore {0}", Request POST "/api/v1/users/{0}/restore";
    USER_ROLE = "user set --role={1} {0}",
        Request PATCH "/api/v1/users/{0}", r#"{"role": {1}}"#;
    WHY = "why {team} {0}", View GET "/api/v1/why?name={0}{&team}";
}

/// A node, as commands name it, the team of an object, and the names and values of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given<'a> {
    /// Options that name the node, as typed.
    pub(crate) node: &'a str,
    /// The team; empty: none.
    pub(crate) team: &'a str,
    /// Names and values, in the order of their placeholders.
    pub(crate) values: &'a [&'a str],
}

impl RequestForm {
    /// The request with what is given. None if a segment of the path would be `.` or `..`: clients
    /// of HTTP remove those, and the request would be about another object.
    fn request(&self, given: &Given<'_>) -> Option<Request> {
        let path = with_values(self.path, |name| in_path(name, given))?;
        let mut segments = path.split(['?', '/']);
        if segments.any(|segment| matches!(segment, "." | "..")) {
            return None;
        }
        let body = match self.body {
            "" => None,
            body => {
                let text = with_values(body, |name| in_body(name, given))?;
                Some(serde_json::from_str(&text).ok()?)
            }
        };
        Some(Request {
            kind: self.kind,
            method: self.method,
            path,
            body,
        })
    }
}

impl CommandForm {
    /// The command with what is given. None if a name is too long to be typed, or was cut.
    pub(crate) fn command(&self, given: Given<'_>) -> Option<Command> {
        let is_long = |value: &&str| value.len() > WORD_BYTES_MAX || is_shortened(value);
        if given.values.iter().any(is_long) {
            return None;
        }
        let request = self.request.and_then(|form| form.request(&given));
        Some(Command::new(self.line(&given)?, request))
    }

    /// Whether a command has this form.
    pub(crate) fn is_form_of(&self, command: &Command) -> bool {
        let words = self.command.split('{').next().unwrap_or_default();
        let line = command.strip_prefix("martlet ");
        line.is_some_and(|line| line.starts_with(words))
    }

    /// The command of this listing or of one name, as a sentence names it, for this node.
    pub(crate) fn read(line: &str, node: &str) -> Option<Command> {
        let words: Vec<&str> = line.strip_prefix("martlet ")?.split(' ').collect();
        COMMAND_FORMS.iter().find_map(|form| {
            let own: Vec<&str> = form
                .command
                .split(' ')
                .filter(|own| *own != "{team}")
                .collect();
            let (known, values) =
                words.split_at_checked(own.len() - usize::from(own.contains(&"{0}")))?;
            let is_it = own.starts_with(known) && words.len() == own.len();
            let given = Given {
                node,
                team: "",
                values,
            };
            is_it.then(|| form.command(given))?
        })
    }

    /// The command line: the options, then the names.
    fn line(&self, given: &Given<'_>) -> Option<String> {
        let mut line = "martlet".to_owned();
        let (mut is_begun, mut names) = (false, Vec::new());
        for part in self.command.split(' ') {
            let is_word = !part.starts_with(['-', '{']);
            if !is_word && !is_begun {
                push(&mut line, given.node);
                is_begun = true;
            }
            if is_word {
                push(&mut line, part);
            } else if part == "{team}" {
                if !given.team.is_empty() {
                    push(&mut line, &format!("--team={}", typed(given.team)));
                }
            } else if let Some((option, form)) = part.split_once('=') {
                for value in values(form, given)? {
                    if !value.is_empty() {
                        push(&mut line, &format!("{option}={}", typed(value)));
                    }
                }
            } else if part.starts_with('-') {
                push(&mut line, part);
            } else {
                names.extend(values(part, given)?);
            }
        }
        if !is_begun {
            push(&mut line, given.node);
        }
        push(&mut line, &typed_names(&names));
        Some(line)
    }
}

fn push(line: &mut String, word: &str) {
    if !word.is_empty() {
        line.push(' ');
        line.push_str(word);
    }
}

/// Values that a placeholder, or a text that is none, stands for; none: there is no such value.
fn values<'a>(form: &'a str, given: &Given<'a>) -> Option<Vec<&'a str>> {
    let Some(name) = form
        .strip_prefix('{')
        .and_then(|form| form.strip_suffix('}'))
    else {
        return Some(vec![form]);
    };
    match name.strip_prefix('*') {
        Some(from) => Some(given.values.get(from.parse().ok()?..)?.to_vec()),
        None => Some(vec![value(name, given)?]),
    }
}

fn value<'a>(name: &str, given: &Given<'a>) -> Option<&'a str> {
    given.values.get(name.parse::<usize>().ok()?).copied()
}

/// A template with its placeholders replaced; none: one has no value. Braces of JSON are no
/// placeholders.
fn with_values(template: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (mut text, mut rest) = (String::new(), template);
    while let Some((before, behind)) = rest.split_once('{') {
        text.push_str(before);
        let name = behind.split_once('}').map(|(name, _)| name);
        let is_name = |name: &&str| !name.is_empty() && !name.contains([' ', '"', '{']);
        match name.filter(is_name) {
            Some(name) => {
                text.push_str(&value(name)?);
                rest = &behind[name.len() + 1..];
            }
            None => {
                text.push('{');
                rest = behind;
            }
        }
    }
    Some(text + rest)
}

fn in_path(name: &str, given: &Given<'_>) -> Option<String> {
    let team = match given.team {
        "" => String::new(),
        team => format!("team={}", text::in_path(team)),
    };
    Some(match name.split_at_checked(1)? {
        ("?" | "&", "team") if team.is_empty() => team,
        (begin @ ("?" | "&"), "team") => format!("{begin}{team}"),
        ("/", number) => {
            let segments = value(number, given)?.split('/').map(text::in_path);
            segments.collect::<Vec<_>>().join("/")
        }
        // The name may have a slash, behind its team.
        (":", number) => {
            let (kind, name) = value(number, given)?.split_once('/')?;
            format!("{}/{}", text::in_path(kind), text::in_path(name))
        }
        _ => text::in_path(value(name, given)?),
    })
}

fn in_body(name: &str, given: &Given<'_>) -> Option<String> {
    let json = |text: &str| serde_json::to_string(text).ok();
    match (name, given.team) {
        (",team", "") => return Some(String::new()),
        (",team", team) => return Some(format!(", \"team\": {}", json(team)?)),
        _ => {}
    }
    if let Some(from) = name.strip_prefix('*') {
        let all = given.values.get(from.parse().ok()?..)?.iter();
        let all: Option<Vec<String>> = all.map(|text| json(text)).collect();
        return Some(all?.join(", "));
    }
    match name.strip_prefix('=') {
        Some(number) => value(number, given).map(str::to_owned),
        None => json(value(name, given)?),
    }
}
