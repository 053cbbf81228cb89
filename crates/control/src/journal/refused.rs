//! Remedies for refusals and ended connections, by their cause.

use std::net::IpAddr;

use martlet_broker::{
    Event, EventNotice, Limit, LockoutScope, PasswordSource, ProxyFault, Refusal, RefusalCause,
    ShownKey,
};
use martlet_codec::ReasonCode;
use martlet_registry::is_device_id;

use super::commands::{Commands, SERVER_TOPIC};
use super::limits::by_limit;
use super::worded_remedy::WordedRemedy;
use super::{tls, web};
use crate::cause::Cause;
use crate::remedy::form;

/// Remedy for a wrong password.
const SET_AGAIN: &str = "first check which credential the client uses (it may be mistyped or \
                         outdated); if the correct one is lost, set another";

/// Remedy of a refused connection or re-authentication.
pub(super) fn connect(
    commands: &Commands,
    notice: &EventNotice,
    why: &Refusal,
) -> Option<WordedRemedy> {
    let (user, address) = (notice.head.user_name(), notice.head.ip());
    match why.cause {
        RefusalCause::Limit(Limit::UserSessions) => too_many_sessions(commands, user),
        RefusalCause::Limit(limit) => by_limit(limit),
        RefusalCause::StoreFull => by_limit(Limit::DiskFull),
        RefusalCause::StoreFailing => by_limit(Limit::StoreStalled),
        RefusalCause::Tls(fault) => WordedRemedy::words(tls::remedy_of(fault)),
        RefusalCause::WebSocket(fault) => WordedRemedy::words(web::remedy_of(fault)),
        RefusalCause::WillForbidden => by_will(commands, notice),
        RefusalCause::WrongPassword(source) => wrong_password(commands, source, why, user?),
        RefusalCause::UnknownUser(sources) if sources.proofs => {
            user?;
            // A user of that name would be asked for a password before its tokens are.
            WordedRemedy::words(
                "give the client a valid token, or, with auth.hook_url, a password that the hook \
                 accepts; if a user of this name is added, the client needs the password of that \
                 user",
            )
        }
        // A client whose settings are empty, which sends both fields without text.
        RefusalCause::UnknownUser(_) if user == Some("") => WordedRemedy::words(
            "the client sends an empty user name: set a user name and a password in its settings \
             (martlet user add, martlet device add), or switch its authentication off, so that it \
             sends neither",
        ),
        RefusalCause::UnknownUser(sources) => Some(commands.unknown(sources, why.subject(), user?)),
        RefusalCause::ApiKeyAsPassword | RefusalCause::ProvisioningKeyAsPassword => {
            Some(commands.own_password(why.cause, user?))
        }
        cause if is_of_provisioning_key(cause) => provisioning(commands, why, None),
        RefusalCause::LockedOut(scope) => Some(lockout(commands, scope, user, address)),
        RefusalCause::Packet(_) => {
            broken(commands, &notice.head.client_id, reason_of(&notice.event)?)
        }
        RefusalCause::Banned => Some(commands.lifting_ban(&notice.head)),
        _ => of_team_token(commands, notice, why)
            .or_else(|| of_registry(commands, why))
            .or_else(|| by_itself(why.cause)),
    }
}

/// A device has as many sessions as its type permits: the command permits one more.
fn too_many_sessions(commands: &Commands, user: Option<&str>) -> Option<WordedRemedy> {
    let worded = by_limit(Limit::UserSessions)?;
    let command = user.and_then(|user| commands.one_more_session(user));
    let text = match &command {
        Some(_) => format!("{}; to permit one more, run", worded.text),
        None => worded.text,
    };
    Some(WordedRemedy { text, command })
}

fn reason_of(event: &Event) -> Option<ReasonCode> {
    match event {
        Event::Refused { reason, .. } | Event::ReauthenticationRefused { reason, .. } => {
            Some(*reason)
        }
        _ => None,
    }
}

fn by_will(commands: &Commands, notice: &EventNotice) -> Option<WordedRemedy> {
    match &notice.event {
        Event::Refused {
            will_topic: Some(topic),
            ..
        } => Some(commands.forbidden(&notice.head, "publish", topic)),
        _ => None,
    }
}

fn wrong_password(
    commands: &Commands,
    source: PasswordSource,
    why: &Refusal,
    user: &str,
) -> Option<WordedRemedy> {
    let file = match source {
        PasswordSource::Configuration => {
            return WordedRemedy::words(
                "first check which credential the client uses; the correct one is in \
                 auth.credentials of the node; martlet config show says where it is set",
            );
        }
        PasswordSource::Registry => None,
        PasswordSource::File => Some(why.subject()?),
        PasswordSource::Other => return None,
    };
    WordedRemedy::by(SET_AGAIN, commands.passwd(file, user))
}

fn lockout(
    commands: &Commands,
    scope: LockoutScope,
    user: Option<&str>,
    address: Option<IpAddr>,
) -> WordedRemedy {
    let user = user.filter(|_| scope == LockoutScope::UserName);
    commands.lockout(user, address)
}

/// Remedy of a refusal of a client that showed the key of a team token.
fn of_team_token(commands: &Commands, notice: &EventNotice, why: &Refusal) -> Option<WordedRemedy> {
    match why.subject() {
        None => commands.team_token(why.cause, notice.head.user_name()?, &notice.head.client_id),
        // It is about the device.
        Some(_) => None,
    }
}

/// Remedy of a refusal by the registry, which names a user or device, proved or not.
fn of_registry(commands: &Commands, why: &Refusal) -> Option<WordedRemedy> {
    let name = why.subject()?;
    match why.cause {
        RefusalCause::UserDisabled => {
            let command = commands.line(form::USER_ENABLE, &[name]);
            WordedRemedy::by("enable the user", command)
        }
        RefusalCause::DeviceInactive | RefusalCause::DeviceMaintenance => {
            let command = commands.line(form::DEVICE_ACTIVATE, &[name]);
            WordedRemedy::by("activate the device", command)
        }
        RefusalCause::WrongSecret => WordedRemedy::by(
            "first check which credential the client uses (it may be mistyped or outdated); if the \
             correct one is lost, give the device another",
            commands.line(form::DEVICE_ROTATE, &[name]),
        ),
        RefusalCause::SecretAsUserName => WordedRemedy::by(
            &format!(
                "set the User Name of the client to {name}, and its password to the secret; \
                 programs between may have logged the secret as a name: to give the device another \
                 one, run"
            ),
            commands.line(form::DEVICE_ROTATE, &[name]),
        ),
        RefusalCause::SecretWithBlanks => WordedRemedy::words(
            "remove what is around the secret in the settings of the client, such as the line break \
             at the end of a file that it is read from, or the quotation marks of a file of variables",
        ),
        RefusalCause::CredentialExpired => WordedRemedy::by(
            "give it another credential",
            commands.line(form::DEVICE_ROTATE, &[name]),
        ),
        RefusalCause::CertificateNotRegistered => WordedRemedy::words(format!(
            "register the certificate that the client presents, if it is the device's: POST \
             /api/v1/devices/{name}/credentials with its PEM as certificate"
        )),
        RefusalCause::NotItsClientId => WordedRemedy::words(format!(
            "set the Client Identifier (client id) of the client to {name}: by its MQTT library's \
             or firmware's setting, by -i with martlet pub and mosquitto_pub; if it is another \
             device, give it an id and a secret of its own (martlet device add)"
        )),
        RefusalCause::ClientIdOfDevice => WordedRemedy::words(format!(
            "have the client log in as the device, with the User Name {name} and its secret, or \
             set another Client Identifier (client id) on it"
        )),
        RefusalCause::CertificateNameUnknown if is_device_id(name) => {
            WordedRemedy::by("add it", commands.line(form::DEVICE_ADD, &[name]))
        }
        RefusalCause::Deleted => commands.deleted(name),
        RefusalCause::TeamDeleted => WordedRemedy::by(
            "restore the team",
            commands.line(form::TEAM_RESTORE, &[name]),
        ),
        _ => None,
    }
}

/// Remedies that need no name.
// Table: a remedy for each cause.
fn by_itself(cause: RefusalCause) -> Option<WordedRemedy> {
    WordedRemedy::words(match cause {
        RefusalCause::NoCredentials | RefusalCause::AnonymousRefused => {
            "give the client a user name and password (see martlet user add --help), or the \
             listener allow_anonymous = true; mqtt.allow_anonymous sets it for all"
        }
        RefusalCause::PasswordMissing => {
            "have the client send its password; that of a device is its secret"
        }
        RefusalCause::ApiKeyLacksScope => {
            "give the user an API role that has the scope (martlet user set NAME --api-role ROLE)"
        }
        RefusalCause::NotMqtt => "the client uses another protocol at a port of plain MQTT",
        RefusalCause::HttpToMqtt => {
            "have the client use the port of the HTTP listener, or for MQTT over WebSocket that of a \
             ws listener: martlet status lists them"
        }
        RefusalCause::TlsToMqtt => {
            "have the client connect to the port of a listener with TLS (martlet status lists them), \
             or without TLS to this one"
        }
        RefusalCause::RequestInvalid => {
            "correct the request: its method, path or content; /docs of the node lists all routes"
        }
        RefusalCause::HostNotAllowed => {
            "add the name to http.hosts, if it is one of this node; or have the client use \
             localhost or a loopback address"
        }
        RefusalCause::TooManyRequests => {
            "have the device send fewer requests, each with several values, or raise http.rate \
             and http.burst"
        }
        RefusalCause::TooManyDeviceRequests => {
            "have the device send fewer requests, each with several values, or raise \
             iotflow.requests_per_minute and iotflow.requests_burst"
        }
        RefusalCause::TooManyRouteRequests => {
            "have the device send fewer requests, each with several values; the limit of this route \
             is fixed, as in the system that it is of"
        }
        RefusalCause::MqttToHttp => {
            "have the client connect to the port of an MQTT listener: martlet status lists them"
        }
        RefusalCause::WebSocketToHttp => {
            "have the client connect to the port of a ws listener: martlet status lists them; if \
             there is none, add one (--listen ws://ADDRESS:9001/mqtt)"
        }
        RefusalCause::TlsToHttp => {
            "have an MQTT client connect to the port of a listener with TLS (martlet status lists \
             them); have other clients use http://, or set http.tls_certificate and http.tls_key"
        }
        RefusalCause::Proxy(ProxyFault::Missing) => {
            "connect through the proxy, or to a listener without proxy_from"
        }
        RefusalCause::Proxy(ProxyFault::Unexpected) => {
            "set proxy_from of the listener to the address of the proxy, or have the proxy send no \
             PROXY header"
        }
        RefusalCause::Proxy(ProxyFault::NotTrusted) => {
            "add the address to the listener's proxy_from"
        }
        RefusalCause::Proxy(ProxyFault::Malformed | ProxyFault::TooLong) => {
            "have the proxy send a PROXY header of version 1 or 2, or connect to a listener \
             without proxy_from"
        }
        RefusalCause::ClientIdTaken => {
            "two clients have the same Client Identifier: give each its own"
        }
        RefusalCause::EmptyClientId => {
            "give the client a Client Identifier, or the listener allow_empty_client_id = true"
        }
        RefusalCause::HookRefused => {
            "find out why the program behind auth.hook_url refuses the \
             client"
        }
        RefusalCause::HookDown => {
            "check that the program behind auth.hook_url runs and answers in time, or raise \
             auth.hook_timeout_ms"
        }
        RefusalCause::TokenKeysDown => "check that the keys of auth.jwt_keys can be fetched",
        RefusalCause::BadToken | RefusalCause::TokenEnded => "give the client a new token",
        RefusalCause::TokenOfOther => {
            "give the client a token of its own, or set its Client Identifier to the one that the \
             token is for"
        }
        RefusalCause::TokenNotYetValid => {
            "set the clock of the node and that of the token's issuer, or have the client wait"
        }
        RefusalCause::WillOnServerTopic => SERVER_TOPIC,
        RefusalCause::AuthenticationMethod => {
            "have the client log in by user name and password; for SCRAM-SHA-256, set auth.scram = \
             true and restart the node, then set the user's password again: one that was set while \
             auth.scram was off cannot be used by SCRAM"
        }
        RefusalCause::NoScramVerifier => {
            "set the password of the user again while auth.scram is on, or have the client log in by \
             user name and password"
        }
        RefusalCause::AuthenticationMessage => {
            "look at the client's MQTT library: the SCRAM user name has to be the User Name of \
             CONNECT, and the messages those of RFC 5802"
        }
        RefusalCause::NoSource => {
            "add users or devices (martlet user add, martlet device add), or set another source of \
             credentials in [auth]"
        }
        RefusalCause::LoginsWait => {
            "have fewer clients connect at a time; if a hook checks them, see that it answers fast"
        }
        RefusalCause::LoginFailed => "martlet health shows what does not work",
        RefusalCause::ReservedClientId => {
            "give the client a Client Identifier that does not begin with $"
        }
        RefusalCause::NameOfDevice => {
            "give the client a User Name that is not the id of a device, or have it log in as that \
             device with its secret"
        }
        RefusalCause::CertificateNamesNobody => {
            "issue the client another certificate, which has its user name in the field that the \
             listener reads"
        }
        RefusalCause::PayloadKeyUnreadable => return screened(cause).and_then(WordedRemedy::words),
        RefusalCause::NoAuthenticationMethod => {
            "have the client log in by user name and password, without an Authentication Method"
        }
        _ => return None,
    })
}

/// Remedy of a Topic Filter that is not valid.
const WILDCARDS: &str = "have the client subscribe to a valid Topic Filter: # matches the rest of \
                         a topic and must be its last level, + matches one whole level, as in \
                         plant/+/temp or plant/#";

/// Remedy of a refused publish or subscription; `forbidden` is where a rule would permit it.
pub(super) fn request(
    forbidden: impl Fn() -> WordedRemedy,
    reason: ReasonCode,
    why: &Refusal,
) -> Option<WordedRemedy> {
    match why.cause {
        RefusalCause::Limit(limit) => by_limit(limit),
        RefusalCause::ServerTopic | RefusalCause::SharedFilter => Some(forbidden()),
        _ if reason == ReasonCode::TopicFilterInvalid => WordedRemedy::words(WILDCARDS),
        cause => match screened(cause) {
            Some(text) => WordedRemedy::words(text),
            None => (reason == ReasonCode::NotAuthorized).then(forbidden),
        },
    }
}

/// Remedies of registrations, and of messages that name their device by `api_key`.
fn screened(cause: RefusalCause) -> Option<&'static str> {
    Some(match cause {
        RefusalCause::ProvisioningKey
        | RefusalCause::ProvisioningKeyUsedUp
        | RefusalCause::ProvisioningKeyExpired
        | RefusalCause::ProvisioningKeyRevoked => {
            "give the device a provisioning key that is valid: martlet provision add NAME adds one"
        }
        RefusalCause::RegistrationPayload => {
            "have the device send a JSON object with provisioning_key, and name, device_type, \
             description, location, firmware_version, hardware_version or request_id"
        }
        RefusalCause::NotRegistered => {
            "register under another id, or with another provisioning key; a device that exists and \
             has lost its secret gets another by martlet device rotate"
        }
        RefusalCause::NoDeviceInTopic => {
            "have the device publish to a topic with its id or number, or add it (martlet device \
             add)"
        }
        RefusalCause::PayloadKeyUnreadable => {
            "have the device send a JSON object with api_key as a member, and a Will without it"
        }
        RefusalCause::WrongSecret | RefusalCause::UnknownUser(_) => {
            "first check which api_key the device sends; if the correct one is lost, give the \
             device another secret (martlet device rotate)"
        }
        _ => return None,
    })
}

/// A provisioning key is not valid, or not any more.
pub(super) fn is_of_provisioning_key(cause: RefusalCause) -> bool {
    matches!(
        cause,
        RefusalCause::ProvisioningKey
            | RefusalCause::ProvisioningKeyUsedUp
            | RefusalCause::ProvisioningKeyExpired
            | RefusalCause::ProvisioningKeyRevoked
    )
}

/// Remedy of a request to be added by a provisioning key. A key cannot be used again once it has
/// ended: another one of the same kind is added.
pub(super) fn provisioning(
    commands: &Commands,
    why: &Refusal,
    key: Option<&ShownKey>,
) -> Option<WordedRemedy> {
    match (why.cause, key) {
        (
            RefusalCause::ProvisioningKeyUsedUp
            | RefusalCause::ProvisioningKeyExpired
            | RefusalCause::ProvisioningKeyRevoked,
            Some(key),
        ) => WordedRemedy::by(
            "add another provisioning key, which is shown once, and give it to the device",
            commands.provisioning_key(key),
        ),
        (
            RefusalCause::ProvisioningKeyUsedUp
            | RefusalCause::ProvisioningKeyExpired
            | RefusalCause::ProvisioningKeyRevoked,
            None,
        ) => WordedRemedy::by(
            "add another provisioning key (martlet provision add NAME), which is shown once, and \
             give it to the device; to list the keys, run",
            commands.line(form::PROVISION_LS, &[]),
        ),
        (RefusalCause::ProvisioningKey, _) => WordedRemedy::by(
            "check that the device has the complete key, or add another one (martlet provision add \
             NAME) and give it to the device; to list the keys, run",
            commands.line(form::PROVISION_LS, &[]),
        ),
        (cause, _) => screened(cause).and_then(WordedRemedy::words),
    }
}

/// Remedy of an ended connection.
pub(super) fn end(
    commands: &Commands,
    client_id: &str,
    reason: ReasonCode,
    why: &Refusal,
) -> Option<WordedRemedy> {
    match why.cause {
        RefusalCause::Limit(limit) => by_limit(limit),
        RefusalCause::Tls(fault) => WordedRemedy::words(tls::remedy_of(fault)),
        RefusalCause::WebSocket(fault) => WordedRemedy::words(web::remedy_of(fault)),
        RefusalCause::TakenOver => WordedRemedy::words(
            "if it happens repeatedly, two clients have the same Client Identifier: give each its \
             own",
        ),
        RefusalCause::KeepAlive => WordedRemedy::words(
            "the client or the network to it no longer responds; a longer Keep Alive tolerates \
             longer gaps",
        ),
        RefusalCause::Packet(_) => broken(commands, client_id, reason),
        RefusalCause::TokenEnded => WordedRemedy::words("have the client connect with a new token"),
        RefusalCause::CredentialsEnded => {
            WordedRemedy::words("have the client connect with a credential that is still valid")
        }
        _ => None,
    }
}

/// A packet that broke a rule of MQTT; the words before name the packet and the rule.
fn broken(commands: &Commands, client_id: &str, reason: ReasonCode) -> Option<WordedRemedy> {
    let text = match reason {
        ReasonCode::UnsupportedProtocolVersion => {
            return WordedRemedy::words("the client must use MQTT 3.1, 3.1.1 or 5.0");
        }
        ReasonCode::MalformedPacket => {
            "the client sent bytes that are not such a packet: look at its MQTT library and its \
             version, and that nothing but that library writes to its connection; a trace shows \
             the packets before it"
        }
        ReasonCode::TopicFilterInvalid => return WordedRemedy::words(WILDCARDS),
        ReasonCode::ClientIdentifierNotValid => {
            return WordedRemedy::words(
                "give the client a Client Identifier (client id) of its own, without a character \
                 that is not shown, such as the line break at the end of a file that it is read \
                 from; with MQTT 3.1.1 it may do without one if it connects with Clean Session",
            );
        }
        ReasonCode::TopicNameInvalid => {
            "the client used a topic that is empty, or has the wildcards + or # or a control \
             character, such as a tab: look at the topics that it publishes to, at its Will Topic \
             and at its MQTT library; a trace shows the packets before it"
        }
        reason if Cause::BROKEN_RULES.contains(&reason) => {
            "the client sent a packet that MQTT forbids there: look at its MQTT library and its \
             version, and that two of its threads do not use one connection; a trace shows the \
             packets before it"
        }
        _ => return None,
    };
    WordedRemedy::by(text, commands.trace(client_id))
}

#[cfg(test)]
mod tests;
