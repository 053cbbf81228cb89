//! A complete kind of sink, as an example: each message is a line of JSON over TCP, and the
//! receiver answers each line with a line: `ok`, `busy` if it cannot take this message now, or the
//! reason for which it refuses the message.
//!
//! To add it to the program, move this file to `crates/integrate/src/tcp.rs` without `main`,
//! replace `martlet_integrate` by `crate`, write `mod tcp;` in `lib.rs`, and add
//! `Kind::of_sinks::<TcpKind>()` to `KINDS` in `kinds.rs`. `[[sinks.tcp]]` works then, with the
//! keys that all sinks have. `cargo xtask docs` adds its keys to the page of the configuration.

use std::error::Error;
use std::sync::Arc;

use martlet_integrate::{
    AllowedNetworks, Attempt, ConfiguredSink, Kind, MakeIntegration, OneByOne, Outcome,
    SecretValue, SecretValues, Settings, SinkMessage, SinkState, Surroundings, Template, json,
    required, template,
};
use martlet_settings::table;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// The owner of the words of this program; in the crate, it is `crate::Here`.
struct Here;

/// The kind `tcp`.
struct TcpKind;

table! {
    /// Keys of `[[sinks.tcp]]`.
    TcpKeys {
        /// Host and port of the receiver, such as 203.0.113.7:9000. Private addresses need
        /// integrations.allow_private.
        address: String;
        /// First line of a connection. May contain ${secret:NAME}.
        password: SecretValue;
    }
}

impl MakeIntegration for TcpKind {
    const NAME: &'static str = "tcp";
    type Keys = TcpKeys;

    fn make(
        keys: &TcpKeys,
        surroundings: &Surroundings<'_>,
        settings: Settings,
    ) -> Result<ConfiguredSink, String> {
        let password = template("password", &keys.password)?;
        let password = password.ok_or("`password` is missing, expected a text")?;
        let target = Target {
            address: required("address", &keys.address, "HOST:PORT")?.to_owned(),
            password: password.clone(),
            allowed: surroundings.allowed.clone(),
        };
        let sink = ConfiguredSink::one_by_one(settings, move |secrets| TcpSink {
            target: target.clone(),
            connection: SinkState::new(secrets),
        });
        Ok(sink.with_secrets_of([&password]))
    }
}

#[derive(Clone)]
struct Target {
    address: String,
    password: Template,
    allowed: AllowedNetworks,
}

impl Target {
    async fn connect(&self, secrets: Arc<SecretValues>) -> Result<BufReader<TcpStream>, String> {
        let password = self.password.fill(&secrets)?;
        let mut stream = self.allowed.connect(&self.address).await?;
        let line = SecretValue::new(format!("{}\n", password.expose()));
        let sent = stream.write_all(line.expose().as_bytes()).await;
        sent.map_err(|error| error.to_string())?;
        Ok(BufReader::new(stream))
    }
}

struct TcpSink {
    target: Target,
    connection: SinkState<BufReader<TcpStream>>,
}

impl TcpSink {
    /// Sends a message, and waits until the receiver has it.
    async fn send(&mut self, message: &SinkMessage) -> Attempt {
        let connect = |secrets| self.target.connect(secrets);
        let mut connection = self.connection.take(connect).await?;
        let mut line = Vec::new();
        json::write(&mut line, message)?;
        line.push(b'\n');
        connection.write_all(&line).await?;
        let mut answer = String::new();
        if connection.read_line(&mut answer).await? == 0 {
            return Err("the receiver closed the connection".into());
        }
        // Only a connection that has answered is used again, since this future may be dropped at
        // any await.
        self.connection.keep(connection);
        Ok(match answer.trim() {
            "ok" => Outcome::Done,
            "busy" => Outcome::FailedAtMessage("it is busy".to_owned()),
            reason => Outcome::Refused(reason.to_owned()),
        })
    }
}

impl OneByOne for TcpSink {
    async fn deliver_one(&mut self, message: &SinkMessage) -> Outcome {
        self.send(message).await.into()
    }

    async fn test(&mut self) -> Result<(), String> {
        let connect = |secrets| self.target.connect(secrets);
        self.connection.renew(connect).await
    }
}

/// Sends one message to a receiver that takes it, and one to a receiver that does not.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let receiver = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = receiver.local_addr()?.to_string();
    let answers = tokio::spawn(async move {
        let (stream, _) = receiver.accept().await?;
        let mut lines = BufReader::new(stream);
        lines.read_line(&mut String::new()).await?;
        for answer in ["ok\n", "too hot\n"] {
            lines.read_line(&mut String::new()).await?;
            lines.write_all(answer.as_bytes()).await?;
        }
        Ok::<(), std::io::Error>(())
    });
    let target = Target {
        address,
        password: Template::parse("${secret:password}")?,
        allowed: AllowedNetworks::parse(["127.0.0.1"])?,
    };
    let mut sink = TcpSink {
        target,
        connection: SinkState::example([("password", "open sesame")]),
    };
    let mut outcomes = Vec::new();
    for payload in ["21.5", "99"] {
        let message = SinkMessage::example("plant/1", payload.as_bytes());
        outcomes.push(sink.deliver_one(&message).await);
    }
    assert_eq!(
        outcomes,
        [Outcome::Done, Outcome::Refused("too hot".to_owned())]
    );
    answers.await??;
    assert!(sink.test().await.is_err(), "the receiver is away");
    println!("[[{}]]: {outcomes:?}", Kind::of_sinks::<TcpKind>().table());
    Ok(())
}
