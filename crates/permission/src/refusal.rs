//! Why something is refused or ended: a cause from a closed list, a text for operators, and whether
//! the client gets the text of the cause.
//!
//! A [`Refusal`] is created by the code that refuses or ends something. Code that handles it
//! decides by its cause only. Clients get [`RefusalCause::text`] and nothing else: the detail may
//! contain other users' names, addresses and values of the configuration.

use std::borrow::Cow;

use crate::{Limit, ProxyFault, ReachedLimit, RevocationReason, TlsFault, WebSocketFault};

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)*) => {
        /// Cause of a refusal, or of the end of a connection or session.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RefusalCause {
            /// A limit of the configuration has been reached.
            Limit(Limit),
            /// A packet violates a rule of MQTT. Contains the rule, but no value of the packet.
            Packet(&'static str),
            /// The client's credentials were revoked while it was connected or logged in.
            Revoked(RevocationReason),
            /// There were too many attempts with wrong credentials.
            LockedOut(LockoutScope),
            /// The password is wrong, according to a source that has the user name. The subject is
            /// the path of the password file, if that is the source.
            WrongPassword(PasswordSource),
            /// None of these sources has the user name. The subject is the path of the password
            /// file, if that is one of them.
            UnknownUser(UserSources),
            /// The TLS handshake or connection failed.
            Tls(TlsFault),
            /// A WebSocket request or frame violates a rule.
            WebSocket(WebSocketFault),
            /// The PROXY header is missing or malformed.
            Proxy(ProxyFault),
            $($(#[$doc])* $variant,)*
        }

        impl RefusalCause {
            /// All causes without a value.
            pub const PLAIN: &'static [Self] = &[$(Self::$variant,)*];

            /// The text for clients. It contains no names of users and no values of the
            /// configuration.
            pub fn text(self) -> &'static str {
                match self {
                    Self::Limit(limit) => limit.words(),
                    Self::Packet(rule) => rule,
                    Self::Revoked(reason) => reason.words(),
                    Self::LockedOut(_) => "too many wrong credentials were tried",
                    // The same text for both, so that clients cannot find out which names exist.
                    Self::WrongPassword(_) | Self::UnknownUser(_) => {
                        "the user name or password is wrong"
                    }
                    Self::Tls(fault) => fault.text(),
                    Self::WebSocket(fault) => fault.text(),
                    Self::Proxy(fault) => fault.text(),
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}

causes! {
    /// Another connection of the same client has been accepted.
    TakenOver = "the client connected again";
    /// No packet came within 1.5 times the Keep Alive.
    KeepAlive = "1.5 x Keep Alive without a packet";
    /// The client sent DISCONNECT.
    Goodbye = "the client sent DISCONNECT";
    /// The client closed the transport without DISCONNECT.
    ClosedByClient = "the client closed the connection without DISCONNECT";
    /// The socket failed.
    ConnectionFailed = "the connection failed";
    /// The transport was closed at the node's request.
    Closed = "closed";
    /// The client sent DISCONNECT before its login was complete.
    LoginGivenUp = "the client ended its authentication";
    /// The node is shutting down.
    ServerStopping = "the server is shutting down";
    /// An operator ended the connection or the session.
    EndedByOperator = "ended by an operator";
    /// A part of the node, such as an integration, was detached.
    Detached = "it was detached";
    /// A part of the node is refused.
    PartRefused = "it is not permitted";
    /// The first packet is not CONNECT.
    NotMqtt = "the first packet is not CONNECT [MQTT-3.1.0-1]";
    /// The first bytes are a TLS handshake, but the listener expects plain MQTT.
    TlsToMqtt = "TLS was received at a port of plain MQTT";
    /// The first bytes are an HTTP request, but the listener expects plain MQTT.
    HttpToMqtt = "an HTTP request was received at a port of plain MQTT";
    /// The Client Identifier is empty, and the listener requires one.
    EmptyClientId = "the listener does not allow an empty Client Identifier";
    /// The Client Identifier begins with `$`.
    ReservedClientId = "Client Identifiers beginning with `$` are the node's own";
    /// The session of the Client Identifier belongs to another user.
    ClientIdTaken = "the Client Identifier cannot be used";
    /// The client sent no credentials, but the listener requires them.
    AnonymousRefused = "the listener does not permit anonymous clients";
    /// The listener requires credentials since a change after the client connected.
    CredentialsRequired = "the listener requires credentials now";
    /// The credentials that the client logged in with have expired.
    CredentialsEnded = "its credentials have ended";
    /// The token that the client logged in with has expired.
    TokenEnded = "its token has expired";
    /// No source of credentials is configured.
    NoSource = "no source of credentials is configured";
    /// No authentication method is configured.
    NoAuthenticationMethod = "no authentication method is configured";
    /// The authentication method is unknown or disabled.
    AuthenticationMethod = "the authentication method is not supported";
    /// The first message of an authentication exchange is malformed, or contains another user name.
    AuthenticationMessage = "the authentication data is not valid";
    /// A password cannot be verified by SCRAM: only its hash for other methods is stored.
    NoScramVerifier = "the user name or password is wrong";
    /// Re-authentication of a connected client failed.
    ReauthenticationFailed = "re-authentication failed";
    /// A connected client re-authenticated as another user.
    ReauthenticatedAsOther = "re-authentication as another user";
    /// The client sent no user name or no password.
    NoCredentials = "a user name and password are required";
    /// The client sent a user name and no password. The subject is the device of that name, if
    /// there is one.
    PasswordMissing = "the user name or password is wrong";
    /// The secret of a device is wrong. The subject is the device.
    WrongSecret = "the user name or password is wrong";
    /// The secret of a device has white space around it, and is correct without it. The subject is
    /// the device.
    SecretWithBlanks = "the user name or password is wrong";
    /// The User Name is the secret of the device that is the subject. It is in no event: the id of
    /// the device takes its place there.
    SecretAsUserName = "the user name or password is wrong";
    /// The password is wrong and has the form of an API key. The subject is the device of that
    /// name, if there is one.
    ApiKeyAsPassword = "the user name or password is wrong";
    /// The password is wrong and has the form of a provisioning key, on a listener that registers
    /// no devices. The subject likewise.
    ProvisioningKeyAsPassword = "the user name or password is wrong";
    /// The certificate is not registered for a device, or no longer. The subject is the device.
    CertificateNotRegistered = "the certificate is not accepted for this client";
    /// A user is disabled. The subject is the user.
    UserDisabled = "the user is disabled";
    /// A device is set inactive. The subject is the device.
    DeviceInactive = "the device is inactive";
    /// A device is in maintenance. The subject is the device.
    DeviceMaintenance = "the device is in maintenance";
    /// A user or device was deleted, and can be restored. The subject is the user or device.
    Deleted = "the user or device was removed";
    /// The team of the user or device was deleted, and can be restored. The subject is the team.
    TeamDeleted = "the user or device was removed";
    /// An operator has banned the client.
    Banned = "an operator has banned it";
    /// The credential has expired or was revoked. The subject is the device.
    CredentialExpired = "the credential has expired, or is revoked";
    /// A device used a Client Identifier other than its id. The subject is the device.
    NotItsClientId = "the Client Identifier does not belong to the user name";
    /// The Client Identifier is the id of a device, but the user is another one. The subject is the
    /// device.
    ClientIdOfDevice = "the Client Identifier does not belong to the user name";
    /// Another source accepted the name of a device of the registry.
    NameOfDevice = "the user name cannot be used";
    /// The client's certificate contains no user name.
    CertificateNamesNobody = "the client's certificate names no user";
    /// The certificate is valid, but the registry has no user of its name. The subject is the name.
    CertificateNameUnknown = "the name of the client's certificate is unknown";
    /// The token is not valid.
    BadToken = "the token is not valid";
    /// The token is for another client. The subject is the Client Identifier in the token.
    TokenOfOther = "the token is for another client";
    /// The token is not yet valid.
    TokenNotYetValid = "the token is not valid yet";
    /// The hook refused the client.
    HookRefused = "the client is refused";
    /// The hook did not answer.
    HookDown = "the client cannot be authenticated now";
    /// The server of the token keys did not answer.
    TokenKeysDown = "the client cannot be authenticated now";
    /// Authentication failed because of an error in the node.
    LoginFailed = "the client cannot be authenticated now";
    /// The limit of clients that wait to be authenticated has been reached.
    LoginsWait = "too many clients wait to be authenticated";
    /// A rule forbids the action, or no rule permits it.
    Forbidden = "it is not permitted";
    /// The topic belongs to the server.
    ServerTopic = "the topic is one of the server's own";
    /// The topic has the form of a Shared Subscription.
    SharedFilter = "that is the Topic Filter of a share group, not a topic";
    /// A provisioning key is unknown, has expired or was revoked.
    ProvisioningKey = "the provisioning key is not valid";
    /// A provisioning key has registered its maximum of devices. The subject is the device.
    ProvisioningKeyUsedUp = "the provisioning key has added all of its devices";
    /// A provisioning key has expired.
    ProvisioningKeyExpired = "the provisioning key has expired";
    /// A provisioning key was revoked.
    ProvisioningKeyRevoked = "the provisioning key was revoked";
    /// The payload of a registration is not valid.
    RegistrationPayload = "the registration is not valid";
    /// A device cannot be registered: its id is taken or not permitted. The subject is the device.
    NotRegistered = "the device was not registered";
    /// A message identifies a device by `api_key`, but its topic contains no device.
    NoDeviceInTopic = "the topic names no device";
    /// A message contains `api_key`, but its payload is not a JSON object.
    PayloadKeyUnreadable = "the payload is not a JSON object";
    /// A rule forbids the topic of the Will, or no rule permits it.
    WillForbidden = "the Will is not permitted";
    /// The topic of the Will belongs to the server.
    WillOnServerTopic = "Will Topic is one of the server's own";
    /// The disk of the message store is full.
    StoreFull = "the message store is full: its disk has no room";
    /// The message store cannot write.
    StoreFailing = "the message store does not write";
    /// The session has the maximum number of Shared Subscriptions.
    SharedSubscriptionsFull = "the session has as many Shared Subscriptions as are possible";
    /// A session ended for Clean Start.
    CleanStart = "Clean Start";
    /// A session ended at its Session Expiry Interval.
    SessionExpired = "Session Expiry Interval";
    /// A session ended with its connection.
    EndsWithConnection = "it ends with its connection";
    /// A session was kept only for its Will.
    KeptForWill = "it was kept for its Will alone";
    /// The user name or Client Identifier of a session now belongs to another user.
    BelongsToOther = "its user name or Client Identifier belongs to another user now";
    /// A newer session of the same client exists.
    NewerSession = "another session of its client is newer";
    /// A session ended while the node was down.
    EndedWhileDown = "it ended while the node was down";
    /// The reason code contains the whole cause.
    ByReasonCode = "see the reason code";
}

impl ReachedLimit {
    /// Creates a refusal for this limit. Clients get the key without the value.
    pub fn refusal(self) -> Refusal {
        Refusal::from(self.limit).with_detail(self.words())
    }
}

impl From<Limit> for RefusalCause {
    fn from(limit: Limit) -> Self {
        Self::Limit(limit)
    }
}

impl From<TlsFault> for RefusalCause {
    fn from(fault: TlsFault) -> Self {
        Self::Tls(fault)
    }
}

impl RefusalCause {
    /// Whether the password or secret is wrong: the client may be guessing.
    pub fn is_wrong_secret(self) -> bool {
        matches!(
            self,
            Self::WrongPassword(_)
                | Self::WrongSecret
                | Self::SecretWithBlanks
                | Self::PasswordMissing
                | Self::ApiKeyAsPassword
                | Self::ProvisioningKeyAsPassword
                | Self::CertificateNotRegistered
        )
    }

    /// The limit, if the cause is one.
    pub fn limit(self) -> Option<Limit> {
        match self {
            Self::Limit(limit) => Some(limit),
            _ => None,
        }
    }
}

/// Scope of a lockout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockoutScope {
    /// The user name, from one address or from all.
    UserName,
    /// The address, for all user names and for clients without a user name.
    Address,
}

/// The source that has a user name and rejected the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// `auth.credentials` of the configuration.
    Configuration,
    /// A password file.
    File,
    /// The registry.
    Registry,
    /// Something else.
    Other,
}

/// The kinds of sources that were queried for a user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSources {
    /// The registry was one of them.
    pub registry: bool,
    /// Tokens or the hook were among them. These accept names that are in no list.
    pub proofs: bool,
}

/// Who gets the text of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The client gets the text of the cause; operators also get the detail.
    Client,
    /// Operators only.
    Operators,
}

/// Text of a cause.
pub trait CauseText: Copy {
    /// The text for clients. It contains no names of users and no values of the configuration.
    fn text(self) -> &'static str;
}

impl CauseText for RefusalCause {
    fn text(self) -> &'static str {
        Self::text(self)
    }
}

/// Why something was refused or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal<C = RefusalCause> {
    /// The cause. Code distinguishes refusals by it, never by the detail.
    pub cause: C,
    /// Whether the client gets the text of the cause.
    pub audience: Audience,
    /// Texts for operators; `None` if the text of the cause is complete.
    words: Option<Box<Words>>,
}

/// Texts for operators in addition to the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Words {
    detail: Cow<'static, str>,
    /// The user, device, team or file that the cause refers to, according to its documentation.
    subject: Option<Box<str>>,
}

impl<C: CauseText> Refusal<C> {
    /// Creates a refusal whose cause the client gets. It is based on MQTT, on a limit, or on the
    /// client's own state.
    pub fn client_visible(cause: C) -> Self {
        Self {
            cause,
            audience: Audience::Client,
            words: None,
        }
    }

    /// Creates a refusal by rules or credentials. The client gets the reason code only.
    pub fn operators_only(cause: C, detail: impl Into<Cow<'static, str>>) -> Self {
        let refusal = Self {
            audience: Audience::Operators,
            ..Self::client_visible(cause)
        };
        refusal.with_detail(detail)
    }

    /// Sets the text for operators.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.words_mut().detail = detail.into();
        self
    }

    /// Sets the user, device, team or file that the refusal is about.
    #[must_use]
    pub fn about(mut self, subject: impl Into<Box<str>>) -> Self {
        self.words_mut().subject = Some(subject.into());
        self
    }

    fn words_mut(&mut self) -> &mut Words {
        let text = self.cause.text();
        self.words.get_or_insert_with(|| {
            Box::new(Words {
                detail: text.into(),
                subject: None,
            })
        })
    }

    /// Whether there is a text for operators in addition to the cause.
    pub fn has_detail(&self) -> bool {
        self.words.is_some()
    }

    /// The text for operators, with values.
    pub fn detail(&self) -> &str {
        match &self.words {
            Some(words) => &words.detail,
            None => self.cause.text(),
        }
    }

    /// The text for operators, without the rest.
    pub fn into_detail(self) -> Cow<'static, str> {
        match self.words {
            Some(words) => words.detail,
            None => self.cause.text().into(),
        }
    }

    /// The user, device, team or file that the cause is about.
    pub fn subject(&self) -> Option<&str> {
        self.words.as_ref()?.subject.as_deref()
    }

    /// Changes the text for operators.
    pub fn change_words(
        &mut self,
        change: impl FnOnce(&mut Cow<'static, str>, &mut Option<Box<str>>),
    ) {
        if let Some(words) = &mut self.words {
            change(&mut words.detail, &mut words.subject);
        }
    }

    /// Returns the refusal with another cause.
    #[must_use]
    pub fn with_cause<D: CauseText>(&self, cause: D) -> Refusal<D> {
        Refusal {
            cause,
            audience: self.audience,
            words: self.words.clone(),
        }
    }

    /// The text for the client; `None` if the client gets the reason code only.
    pub fn for_client(&self) -> Option<&'static str> {
        match self.audience {
            Audience::Client => Some(self.cause.text()),
            Audience::Operators => None,
        }
    }

    /// Size of its texts in bytes.
    pub fn text_bytes(&self) -> usize {
        self.detail().len() + self.subject().map_or(0, str::len)
    }
}

impl Refusal {
    /// The limit that caused the refusal, if one did.
    pub fn limit(&self) -> Option<Limit> {
        self.cause.limit()
    }
}

impl<C: CauseText> From<C> for Refusal<C> {
    fn from(cause: C) -> Self {
        Self::client_visible(cause)
    }
}

impl From<Limit> for Refusal {
    fn from(limit: Limit) -> Self {
        Self::client_visible(limit.into())
    }
}

impl From<ReachedLimit> for Refusal {
    fn from(reached: ReachedLimit) -> Self {
        reached.refusal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_no_detail() {
        let detail = "user ann of team acme, from 192.0.2.7 (limits.sessions = 7)";
        for cause in RefusalCause::PLAIN {
            let operators_only = Refusal::operators_only(*cause, detail);
            assert_eq!(operators_only.for_client(), None);
            let told = Refusal::client_visible(*cause)
                .with_detail(detail)
                .about("ann");
            assert_eq!(told.for_client(), Some(cause.text()));
        }
        let limit = ReachedLimit {
            limit: Limit::Sessions,
            value: 7,
        };
        let refusal = limit.refusal();
        assert!(refusal.detail().ends_with("(limits.sessions = 7)"));
        let told = refusal.for_client().unwrap_or_default();
        assert!(told.ends_with("(limits.sessions)"), "{told}");
    }

    #[test]
    fn a_client_is_not_told_which_names_exist() {
        let unknown = RefusalCause::UnknownUser(UserSources::default());
        for wrong in [
            RefusalCause::WrongPassword(PasswordSource::Registry),
            RefusalCause::WrongSecret,
            RefusalCause::SecretWithBlanks,
            RefusalCause::SecretAsUserName,
            RefusalCause::NoScramVerifier,
            RefusalCause::ApiKeyAsPassword,
            RefusalCause::ProvisioningKeyAsPassword,
        ] {
            assert_eq!(wrong.text(), unknown.text());
        }
    }

    #[test]
    fn a_refusal_is_small() {
        assert!(size_of::<RefusalCause>() <= 24);
        assert!(size_of::<Refusal>() <= 40);
    }
}
