//! Why something is refused or ended: a cause of a closed list, words for operators, and whether
//! the client is told.
//!
//! A [`Refusal`] is made at the place that refuses or ends something. Readers decide by its cause
//! alone. A client is told [`RefusalCause::text`] and nothing else: the detail may name other
//! users, addresses and the configuration.

use std::borrow::Cow;

use crate::{Limit, ProxyFault, ReachedLimit, RevocationReason, TlsFault, WebSocketFault};

macro_rules! causes {
    ($($(#[$doc:meta])* $variant:ident = $text:literal;)*) => {
        /// What a refusal or an end is for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum RefusalCause {
            /// A limit of the configuration is reached.
            Limit(Limit),
            /// A packet breaks a rule of MQTT: the rule, without a value of the packet.
            Packet(&'static str),
            /// The client's credentials were revoked while it was connected or logged in.
            Revoked(RevocationReason),
            /// Wrong credentials were tried too often.
            LockedOut(LockoutScope),
            /// The password is wrong, according to a source that knows the user name. The subject
            /// is the path of the password file, if that is the source.
            WrongPassword(PasswordSource),
            /// None of these sources knows the user name. The subject is the path of the password
            /// file, if that is one of them.
            UnknownUser(UserSources),
            /// The TLS handshake or connection failed.
            Tls(TlsFault),
            /// The request for a WebSocket connection, or a frame, breaks a rule.
            WebSocket(WebSocketFault),
            /// The PROXY header is missing or broken.
            Proxy(ProxyFault),
            $($(#[$doc])* $variant,)*
        }

        impl RefusalCause {
            /// All causes that have no value of their own.
            pub const PLAIN: &'static [Self] = &[$(Self::$variant,)*];

            /// The text for clients. It names neither other users nor the configuration's values.
            pub fn text(self) -> &'static str {
                match self {
                    Self::Limit(limit) => limit.words(),
                    Self::Packet(rule) => rule,
                    Self::Revoked(reason) => reason.words(),
                    Self::LockedOut(_) => "too many wrong credentials were tried",
                    // The same for both: clients are not told which names exist.
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
    /// No API key is the one that a request shows.
    ApiKeyUnknown = "the API key is not valid";
    /// The API key that a request shows lacks a right.
    ApiKeyLacksScope = "the API key lacks a scope";
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
    /// The transport was closed as the node asked for.
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
    /// The first bytes are those of a TLS handshake, and the listener speaks plain MQTT.
    TlsToMqtt = "TLS came to a port of plain MQTT";
    /// MQTT came to a port of the HTTP server.
    MqttToHttp = "MQTT came to a port of HTTP";
    /// The Client Identifier is empty, and the listener requires one.
    EmptyClientId = "the listener does not allow an empty Client Identifier";
    /// The Client Identifier begins with `$`.
    ReservedClientId = "Client Identifiers beginning with `$` are the node's own";
    /// The session of the Client Identifier belongs to another user.
    ClientIdTaken = "the Client Identifier cannot be used";
    /// The client gives no credentials, and the listener requires some.
    AnonymousRefused = "the listener does not permit anonymous clients";
    /// The listener has begun to require credentials since the client connected.
    CredentialsRequired = "the listener requires credentials now";
    /// The credentials that the client logged in with have expired.
    CredentialsEnded = "its credentials have ended";
    /// The token that the client logged in with has expired.
    TokenEnded = "its token has expired";
    /// No source of credentials is configured.
    NoSource = "no source of credentials is configured";
    /// No authentication method is configured.
    NoAuthenticationMethod = "no authentication method is configured";
    /// The authentication method is unknown, or switched off.
    AuthenticationMethod = "the authentication method is not supported";
    /// The first message of an authentication exchange is malformed, or names another user.
    AuthenticationMessage = "the authentication data is not valid";
    /// A password cannot be proved by SCRAM: only its hash for other methods is stored.
    NoScramVerifier = "the user name or password is wrong";
    /// A connected client failed to authenticate again.
    ReauthenticationFailed = "re-authentication failed";
    /// A connected client authenticated again as another user.
    ReauthenticatedAsOther = "re-authentication as another user";
    /// The client has no user name or no password.
    NoCredentials = "a user name and password are required";
    /// The secret of a device is wrong. The subject is the device.
    WrongSecret = "the user name or password is wrong";
    /// The secret of a device has white space around it, and is right without. The subject is the
    /// device.
    SecretWithBlanks = "the user name or password is wrong";
    /// The password is wrong, and has the form of an API key. The subject is the device of that
    /// name, if there is one.
    ApiKeyAsPassword = "the user name or password is wrong";
    /// The same of a provisioning key, at a listener where devices do not register.
    ProvisioningKeyAsPassword = "the user name or password is wrong";
    /// The certificate is none of those that are registered for a device, or not any more. The
    /// subject is the device.
    CertificateNotRegistered = "the certificate is not accepted for this client";
    /// A user is disabled. The subject is the user.
    UserDisabled = "the user is disabled";
    /// A device is set inactive. The subject is the device.
    DeviceInactive = "the device is inactive";
    /// A device is in maintenance. The subject is the device.
    DeviceMaintenance = "the device is in maintenance";
    /// A user or device was deleted, and can be restored. The subject is its name.
    Deleted = "the user or device was removed";
    /// The team of the user or device was deleted, and can be restored. The subject is the team.
    TeamDeleted = "the user or device was removed";
    /// An operator has banned the client.
    Banned = "an operator has banned it";
    /// The credential has expired or was revoked. The subject is the device.
    CredentialExpired = "the credential has expired, or is revoked";
    /// A device has another Client Identifier than its id. The subject is the device.
    NotItsClientId = "the Client Identifier does not belong to the user name";
    /// The Client Identifier is the id of a device, and the user is another. The subject is the
    /// device.
    ClientIdOfDevice = "the Client Identifier does not belong to the user name";
    /// Another source accepts the name of a device of the registry.
    NameOfDevice = "the user name cannot be used";
    /// The client's certificate has no user name.
    CertificateNamesNobody = "the client's certificate names no user";
    /// The certificate is valid, and the registry does not know its name. The subject is the name.
    CertificateNameUnknown = "the name of the client's certificate is unknown";
    /// The token is not valid.
    BadToken = "the token is not valid";
    /// The token is for another client. The subject is the Client Identifier that it names.
    TokenOfOther = "the token is for another client";
    /// The token becomes valid later.
    TokenNotYetValid = "the token is not valid yet";
    /// The hook refuses the client.
    HookRefused = "the client is refused";
    /// The hook does not answer.
    HookDown = "the client cannot be authenticated now";
    /// The server of the token keys does not answer.
    TokenKeysDown = "the client cannot be authenticated now";
    /// Authentication failed for a reason of the node's own.
    LoginFailed = "the client cannot be authenticated now";
    /// As many clients wait to be authenticated as may.
    LoginsWait = "too many clients wait to be authenticated";
    /// A rule forbids it, or no rule permits it.
    Forbidden = "it is not permitted";
    /// The topic is one of the server's own.
    ServerTopic = "the topic is one of the server's own";
    /// A provisioning key is unknown, has expired or was revoked.
    ProvisioningKey = "the provisioning key is not valid";
    /// A provisioning key has added as many devices as it may. The subject is the device.
    ProvisioningKeyUsedUp = "the provisioning key has added all of its devices";
    /// A provisioning key has expired.
    ProvisioningKeyExpired = "the provisioning key has expired";
    /// A provisioning key was revoked.
    ProvisioningKeyRevoked = "the provisioning key was revoked";
    /// The payload of a registration is not valid.
    RegistrationPayload = "the registration is not valid";
    /// A device cannot be registered: its id is taken or not permitted. The subject is the device.
    NotRegistered = "the device was not registered";
    /// A message names a device by `api_key`, and its topic names none.
    NoDeviceInTopic = "the topic names no device";
    /// A message mentions `api_key`, and its payload is no JSON object.
    PayloadKeyUnreadable = "the payload is not a JSON object";
    /// A rule forbids the topic of the Will, or no rule permits it.
    WillForbidden = "the Will is not permitted";
    /// The request of a device by HTTP is not valid.
    RequestInvalid = "the HTTP request is not valid";
    /// A device sends HTTP requests faster than it may.
    TooManyRequests = "too many HTTP requests";
    /// The topic of the Will is one of the server's own.
    WillOnServerTopic = "Will Topic is one of the server's own";
    /// The disk of the message store has no room.
    StoreFull = "the message store is full: its disk has no room";
    /// The message store does not write.
    StoreFailing = "the message store does not write";
    /// A session has as many Shared Subscriptions as are possible.
    SharedSubscriptionsFull = "the session has as many Shared Subscriptions as are possible";
    /// A session ended for Clean Start.
    CleanStart = "Clean Start";
    /// A session ended at its Session Expiry Interval.
    SessionExpired = "Session Expiry Interval";
    /// A session ended with its connection.
    EndsWithConnection = "it ends with its connection";
    /// A session was kept for its Will alone.
    KeptForWill = "it was kept for its Will alone";
    /// The user name or Client Identifier of a session belongs to another user.
    BelongsToOther = "its user name or Client Identifier belongs to another user now";
    /// A newer session of the same client exists.
    NewerSession = "another session of its client is newer";
    /// A session ended while the node was down.
    EndedWhileDown = "it ended while the node was down";
    /// The reason code alone says it.
    ByReasonCode = "see the reason code";
}

impl ReachedLimit {
    /// A refusal for it. The client is told the key without the value.
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
    /// The password or secret is wrong: the client may be guessing.
    pub fn is_wrong_secret(self) -> bool {
        matches!(
            self,
            Self::WrongPassword(_)
                | Self::WrongSecret
                | Self::SecretWithBlanks
                | Self::ApiKeyAsPassword
                | Self::ProvisioningKeyAsPassword
                | Self::CertificateNotRegistered
        )
    }

    /// The limit that it is; none: it is something else.
    pub fn limit(self) -> Option<Limit> {
        match self {
            Self::Limit(limit) => Some(limit),
            _ => None,
        }
    }
}

/// What is locked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockoutScope {
    /// The user name, from one address or from all.
    UserName,
    /// The address, for all user names or for clients without one.
    Address,
}

/// The source that knows a user name and says that the password is wrong.
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

/// The kinds of sources that were asked for a user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSources {
    /// The registry was one of them.
    pub registry: bool,
    /// Tokens or the hook were: they know more names than can be listed.
    pub proofs: bool,
}

/// The readers of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The client is told the text of the cause, operators the detail.
    Client,
    /// Operators alone.
    Operators,
}

/// Why something was refused or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What decides: readers tell refusals apart by it, never by the detail.
    pub cause: RefusalCause,
    /// Whether the client is told.
    pub audience: Audience,
    /// Words for operators; none: the text of the cause says it all.
    words: Option<Box<Words>>,
}

/// What operators are reported beside the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Words {
    detail: Cow<'static, str>,
    /// The user, device, team or file that the cause is about, as its documentation says.
    subject: Option<Box<str>>,
}

impl Refusal {
    /// A refusal whose cause the client sees: MQTT decided it, a limit, or the client's own state.
    pub fn client_visible(cause: RefusalCause) -> Self {
        Self {
            cause,
            audience: Audience::Client,
            words: None,
        }
    }

    /// A refusal by rules and credentials. The client sees the reason code alone.
    pub fn operators_only(cause: RefusalCause, detail: impl Into<Cow<'static, str>>) -> Self {
        let refusal = Self {
            audience: Audience::Operators,
            ..Self::client_visible(cause)
        };
        refusal.with_detail(detail)
    }

    /// The same with these words for operators.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.words_mut().detail = detail.into();
        self
    }

    /// The same about this user, device, team or file.
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

    /// There are words for operators beside the cause.
    pub fn has_detail(&self) -> bool {
        self.words.is_some()
    }

    /// Words for operators, with values.
    pub fn detail(&self) -> &str {
        match &self.words {
            Some(words) => &words.detail,
            None => self.cause.text(),
        }
    }

    /// The same, without the rest.
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

    /// Changes the words for operators.
    pub fn change_words(
        &mut self,
        change: impl FnOnce(&mut Cow<'static, str>, &mut Option<Box<str>>),
    ) {
        if let Some(words) = &mut self.words {
            change(&mut words.detail, &mut words.subject);
        }
    }

    /// The limit that decided; none: something else did.
    pub fn limit(&self) -> Option<Limit> {
        self.cause.limit()
    }

    /// What the client is told; none: nothing beside the reason code.
    pub fn for_client(&self) -> Option<&'static str> {
        match self.audience {
            Audience::Client => Some(self.cause.text()),
            Audience::Operators => None,
        }
    }

    /// Bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        self.detail().len() + self.subject().map_or(0, str::len)
    }
}

impl From<RefusalCause> for Refusal {
    fn from(cause: RefusalCause) -> Self {
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
