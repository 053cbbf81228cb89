//! The e-mail sink: each message becomes a mail that is handed to a server by SMTP. For alarms.

mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::Message;
use lettre::address::Envelope;
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};
use martlet_settings::{SecretValue, table, words};
use martlet_text_file::without_bom;
use tokio::net::TcpStream;

use self::server::{Encryption, SendError, Server};
use crate::Here;
use crate::configured_sink::ConfiguredSink;
use crate::each::OneByOne;
use crate::given::{given, path, required, template};
use crate::kind::{MakeIntegration, Surroundings};
use crate::networks::AllowedNetworks;
use crate::notice::Notice;
use crate::outcome::Outcome;
use crate::runner::Settings;
use crate::secret::{SecretValues, Template};
use crate::sink_message::SinkMessage;
use crate::sink_state::SinkState;

/// Time limit for connecting and logging in.
const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// Maximum number of recipients of a mail.
const RECEIVERS_MAX: usize = 50;
/// Port for mail submission (RFC 6409), and with implicit TLS (RFC 8314).
const SUBMISSION: u16 = 587;
const SUBMISSIONS: u16 = 465;

/// The kind `email`.
#[derive(Debug)]
pub(crate) struct EmailKind;

table! {
    /// Keys of `[[sinks.email]]`.
    EmailKeys {
        /// Host name of the SMTP server. Private addresses need integrations.allow_private.
        server: String;
        /// Port of the server. Default: 587; with tls = "tls" 465.
        port: u16, in 1..=65_535;
        /// starttls: the connection is encrypted by STARTTLS, or nothing is sent. tls: it is
        /// encrypted from the beginning. none: it is not encrypted, and user and password are
        /// rejected.
        tls: TlsMode = TlsMode::StartTls;
        /// PEM file of the CAs that are trusted to sign the server's certificate. Default: those
        /// that the system trusts.
        ca_file: String;
        /// User name at the server. Default: none.
        user: String;
        /// Password at the server. May be ${secret:NAME}.
        password: SecretValue;
        /// Sender: an address, or "Name <address>".
        from: String;
        /// Receivers: a list of addresses, 50 at most.
        to: Vec<String>;
    }
}

/// Settings of the sink.
#[derive(Clone, Debug)]
struct EmailSettings {
    server: String,
    port: u16,
    tls: TlsMode,
    /// CA certificates for the server's certificate; `None`: those of the system.
    ca_file: Option<PathBuf>,
    user: Option<String>,
    password: Option<Template>,
    from: Mailbox,
    to: Vec<Mailbox>,
    allowed: AllowedNetworks,
}

/// Encryption of the connection to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsMode {
    /// By STARTTLS.
    StartTls,
    /// From the beginning.
    Tls,
    /// None.
    None,
}

words! {
    TlsMode {
        "starttls" => StartTls,
        "tls" => Tls,
        "none" => None,
    }
}

impl MakeIntegration for EmailKind {
    const NAME: &'static str = "email";
    type Keys = EmailKeys;

    fn make(
        keys: &EmailKeys,
        surroundings: &Surroundings<'_>,
        settings: Settings,
    ) -> Result<ConfiguredSink, String> {
        let email = email_settings(keys, surroundings)?;
        let password = email.password.clone();
        let sink = ConfiguredSink::one_by_one(settings, move |secrets| EmailSink {
            settings: email.clone(),
            transport: SinkState::new(secrets),
            refused: None,
        });
        Ok(sink.with_secrets_of(password.iter()))
    }

    fn target(keys: &EmailKeys) -> Option<String> {
        // An address of IPv6 may have no brackets.
        let host = given(&keys.server)?.trim_matches(['[', ']']);
        Some(format!("smtp://[{host}]"))
    }
}

fn email_settings(
    keys: &EmailKeys,
    surroundings: &Surroundings<'_>,
) -> Result<EmailSettings, String> {
    let mailbox = |key: &str, text: &str| {
        let parsed = text.parse::<Mailbox>();
        parsed.map_err(|_| {
            format!("`{key}` is {text:?}, expected an address such as \"ops@example.com\"")
        })
    };
    let default = match keys.tls {
        TlsMode::Tls => SUBMISSIONS,
        TlsMode::StartTls | TlsMode::None => SUBMISSION,
    };
    let from = required("from", &keys.from, "an address")?;
    let to = keys.to.iter().flatten();
    let to: Vec<Mailbox> = to
        .map(|text| mailbox("to", text))
        .collect::<Result<_, _>>()?;
    if to.is_empty() || to.len() > RECEIVERS_MAX {
        return Err(format!(
            "`to` has {} addresses, expected 1 to {RECEIVERS_MAX}",
            to.len()
        ));
    }
    let settings = EmailSettings {
        server: required("server", &keys.server, "a host name")?.to_owned(),
        port: keys.port.unwrap_or(default),
        tls: keys.tls,
        ca_file: path(&keys.ca_file, surroundings.data_dir),
        user: given(&keys.user).map(str::to_owned),
        password: template("password", &keys.password)?,
        from: mailbox("from", from)?,
        to,
        allowed: surroundings.allowed.clone(),
    };
    if settings.user.is_some() != settings.password.is_some() {
        return Err("`user` and `password` need each other".to_owned());
    }
    if settings.tls == TlsMode::None && settings.user.is_some() {
        return Err("with tls = \"none\" the password would be sent without encryption".to_owned());
    }
    Ok(settings)
}

/// A sink that sends mails.
struct EmailSink {
    settings: EmailSettings,
    /// The transport and the address that it connects to.
    transport: SinkState<Server>,
    /// Recipients that the server refused in the last mail, while it accepted others.
    refused: Option<String>,
}

impl EmailSettings {
    /// Connects to this address; the certificate must be valid for the server's name.
    fn transport(&self, to: SocketAddr, values: &SecretValues) -> Result<Server, String> {
        let parameters = || {
            let mut builder = TlsParameters::builder(self.server.clone());
            if let Some(path) = &self.ca_file {
                let unusable = |why: String| format!("{}: {why}", path.display());
                let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
                let authorities = Certificate::from_pem(without_bom(&pem));
                let authorities = authorities.map_err(|error| unusable(error.to_string()))?;
                builder = builder
                    .certificate_store(CertificateStore::None)
                    .add_root_certificate(authorities);
            }
            let made = builder.build();
            made.map_err(|error| format!("TLS cannot be used: {error}"))
        };
        let encryption = match self.tls {
            TlsMode::StartTls => Encryption::StartTls(parameters()?),
            TlsMode::Tls => Encryption::Tls(parameters()?),
            TlsMode::None => Encryption::None,
        };
        let credentials = match (&self.user, &self.password) {
            (Some(user), Some(password)) => {
                let password = password.fill(values).map_err(String::from)?;
                Some(Credentials::new(user.clone(), password.expose().to_owned()))
            }
            _ => None,
        };
        Ok(Server {
            address: to,
            encryption,
            credentials,
            connect_within: CONNECT_WITHIN,
        })
    }

    fn mail(&self, message: &SinkMessage) -> Result<Message, String> {
        let notice = Notice::of(message);
        let mut mail = Message::builder()
            .from(self.from.clone())
            .subject(notice.title)
            // The same id if the message comes again: recipients can recognise duplicates.
            .message_id(Some(format!(
                "<{}@{}>",
                message.unique_id(),
                self.from.email.domain()
            )))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        let mail = mail.body(notice.text);
        mail.map_err(|error| format!("no mail can be made of it: {error}"))
    }
}

impl EmailSink {
    async fn transport(&mut self) -> Result<Server, String> {
        let settings = &self.settings;
        // Connects to the checked address: another lookup could return a different one.
        let permitted = settings.allowed.resolve(&settings.server, settings.port);
        let permitted = permitted.await?;
        self.transport
            .discard_if(|server| !permitted.contains(&server.address));
        let make = |secrets: std::sync::Arc<SecretValues>| async move {
            let to = answering(&permitted).await?;
            settings.transport(to, &secrets)
        };
        let kept = self.transport.take(make).await?;
        self.transport.keep(kept.clone());
        Ok(kept)
    }
}

/// The address to connect to: the first of several that accepts a connection.
async fn answering(permitted: &[SocketAddr]) -> Result<SocketAddr, String> {
    if let [only] = permitted {
        return Ok(*only);
    }
    let unreachable = |error| format!("the server cannot be reached: {error}");
    let connected = TcpStream::connect(permitted).await.map_err(unreachable)?;
    connected.peer_addr().map_err(unreachable)
}

/// The outcome of a mail that the server did not accept.
fn outcome_of(error: &SendError) -> Outcome {
    let why = error.to_string();
    let SendError::Smtp(error) = error else {
        return Outcome::Failed(format!("the server cannot be reached: {why}"));
    };
    // lettre has no kind for this error: only its text differs. It decides nothing but the words.
    if error.is_client() && why.contains("STARTTLS") {
        let why = "the server offers no STARTTLS: set tls = \"tls\" if its port expects TLS at once, \
                   or tls = \"none\" to send without encryption";
        return Outcome::Failed(why.to_owned());
    }
    match (error.is_permanent(), error.is_transient()) {
        (true, _) => Outcome::Refused(format!("the server refuses the mail: {why}")),
        (_, true) => {
            Outcome::FailedAtMessage(format!("the server does not accept the mail now: {why}"))
        }
        _ => Outcome::Failed(format!("the server cannot be reached: {why}")),
    }
}

impl EmailSink {
    /// Sends a separate mail to each recipient: a refused one does not affect the others.
    async fn deliver_each(&mut self, server: &Server, mail: &Message) -> Outcome {
        let (from, bytes) = (mail.envelope().from().cloned(), mail.formatted());
        let (mut refused, mut is_taken, mut first) = (Vec::new(), false, None);
        for to in mail.envelope().to() {
            let envelope = match Envelope::new(from.clone(), vec![to.clone()]) {
                Ok(envelope) => envelope,
                Err(error) => return Outcome::Refused(error.to_string()),
            };
            match server.send(&envelope, &bytes).await {
                Ok(()) => is_taken = true,
                Err(error) if error.is_permanent() => {
                    refused.push(format!("{to}: {error}"));
                    first.get_or_insert(outcome_of(&error));
                }
                // The other recipients get it again; otherwise this one would never get it.
                Err(error) => return outcome_of(&error),
            }
        }
        match (is_taken, first) {
            (false, Some(outcome)) => outcome,
            _ => {
                let some = (!refused.is_empty()).then(|| refused.join("; "));
                self.refused = some.map(|some| format!("the server refuses receivers: {some}"));
                Outcome::Done
            }
        }
    }
}

impl OneByOne for EmailSink {
    const WITHIN: Duration = Duration::from_secs(60);

    async fn deliver_one(&mut self, message: &SinkMessage) -> Outcome {
        let mail = match self.settings.mail(message) {
            Ok(mail) => mail,
            Err(why) => return Outcome::Refused(why),
        };
        let server = match self.transport().await {
            Ok(server) => server,
            Err(why) => return Outcome::Failed(why),
        };
        match server.send(mail.envelope(), &mail.formatted()).await {
            Ok(()) => {
                self.refused = None;
                Outcome::Done
            }
            Err(error) if error.is_permanent() && self.settings.to.len() > 1 => {
                self.deliver_each(&server, &mail).await
            }
            Err(error) => {
                // Another address of the server may answer.
                self.transport.discard_if(|_| true);
                outcome_of(&error)
            }
        }
    }

    fn health(&self) -> Option<String> {
        self.refused.clone()
    }

    async fn test(&mut self) -> Result<(), String> {
        match self.transport().await?.test().await {
            Ok(true) => Ok(()),
            Ok(false) => Err("the server does not answer as a server of SMTP does".to_owned()),
            Err(error) => Err(format!("the server cannot be reached: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use martlet_settings::{TableKeys as _, Value};

    use super::*;

    fn made(more: &[(&str, &str)]) -> Result<EmailSettings, String> {
        let mut all = vec![
            ("server", "mail.example"),
            ("from", "Node <node@example.com>"),
        ];
        all.extend_from_slice(more);
        let values = all.into_iter().map(|(key, text)| {
            let value = match key {
                "to" => Value::Texts(vec![text.to_owned()]),
                "password" => Value::Secret(text.to_owned().into()),
                _ => Value::Text(text.to_owned()),
            };
            (key.to_owned(), value)
        });
        let surroundings = Surroundings {
            data_dir: Path::new("/data"),
            allowed: &AllowedNetworks::default(),
            owner: "",
        };
        email_settings(&EmailKeys::of(&values.collect()), &surroundings)
    }

    #[test]
    fn a_password_is_never_sent_in_clear() {
        let settings = made(&[("to", "ops@example.com")]).expect("it is complete");
        assert_eq!((settings.port, settings.tls), (587, TlsMode::StartTls));
        let with_tls = made(&[("to", "ops@example.com"), ("tls", "tls")]);
        assert_eq!(with_tls.expect("it is complete").port, 465);
        let clear = [
            ("to", "o@e.com"),
            ("tls", "none"),
            ("user", "u"),
            ("password", "p"),
        ];
        assert!(
            made(&clear)
                .expect_err("in clear")
                .contains("without encryption")
        );
        assert!(made(&[]).expect_err("no receiver").contains("`to`"));
        assert!(
            made(&[("to", "nobody")])
                .expect_err("no address")
                .contains("nobody")
        );
    }

    #[test]
    fn a_mail_says_what_an_alarm_says() {
        let settings = made(&[("to", "ops@example.com")]).expect("it is complete");
        let alarm = br#"{"change":"raised","name":"hot\r\nBcc: x@y.z","severity":"major",
            "message":"It is hot","device":null,"raised_at":"T","changed_at":"T"}"#;
        let message = SinkMessage::example("iotflow/system/alarms", alarm);
        let mail = settings.mail(&message).expect("a mail").formatted();
        let mail = String::from_utf8_lossy(&mail).into_owned();
        assert!(
            mail.contains("Subject: [raised] hotBcc: x@y.z\r\n"),
            "{mail}"
        );
        assert!(mail.contains("To: ops@example.com\r\n"), "{mail}");
        assert!(!mail.contains("\r\nBcc:"), "{mail}");
    }
}
