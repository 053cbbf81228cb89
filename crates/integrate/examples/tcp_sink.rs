//! A complete kind of sink, as an example: each message is a line of JSON over TCP, and the
//! receiver answers each line with a line, `ok` or the reason for which it refuses the message.
//!
//! To add it to the program, move this file to `crates/integrate/src/tcp.rs` without `main`,
//! replace `martlet_integrate` by `crate`, write `mod tcp;` in `lib.rs`, and add `crate::tcp::KIND`
//! to `KINDS` in `kind.rs`. `[[sinks.tcp]]` works then, with the keys that all sinks have. `cargo
//! xtask docs` adds its keys to the page of the configuration.

use std::error::Error;

use martlet_integrate::{
    ConfiguredSink, Key, Kind, Outcome, Settings, Sink, SinkMessage, Surroundings, Table, Takes,
    json,
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// The kind `tcp`.
pub const KIND: Kind = Kind {
    name: "tcp",
    keys: &[Key {
        name: "address",
        takes: Takes::Text,
        meaning: "Host and port of the receiver, such as 10.0.0.7:9000.",
    }],
    make,
};

fn make(table: &Table, _: &Surroundings<'_>, settings: Settings) -> Result<ConfiguredSink, String> {
    let address = table.text("address");
    let address = address.ok_or("`address` is missing, expected a host and a port")?;
    let address = address.to_owned();
    Ok(ConfiguredSink::new(settings, move |_| TcpSink {
        address: address.clone(),
        connection: None,
    }))
}

struct TcpSink {
    address: String,
    connection: Option<BufReader<TcpStream>>,
}

impl TcpSink {
    /// Sends a message, and waits until the receiver has it.
    async fn send(
        &mut self,
        message: &SinkMessage,
    ) -> Result<Outcome, Box<dyn Error + Send + Sync>> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(&self.address).await?),
        };
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
        self.connection = Some(connection);
        Ok(match answer.trim() {
            "ok" => Outcome::Done,
            reason => Outcome::Refused(reason.to_owned()),
        })
    }
}

impl Sink for TcpSink {
    async fn deliver(&mut self, batch: &[SinkMessage]) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for message in batch {
            let outcome = self.send(message).await;
            let outcome = outcome.unwrap_or_else(|error| Outcome::Failed(error.to_string()));
            let goes_on = outcome == Outcome::Done;
            outcomes.push(outcome);
            // What follows has no outcome and comes again, so that the order is kept.
            if !goes_on {
                break;
            }
        }
        outcomes
    }

    async fn test(&mut self) -> Result<(), String> {
        let connected = TcpStream::connect(&self.address).await;
        connected.map(drop).map_err(|error| error.to_string())
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
        for answer in ["ok\n", "too hot\n"] {
            lines.read_line(&mut String::new()).await?;
            lines.write_all(answer.as_bytes()).await?;
        }
        Ok::<(), std::io::Error>(())
    });
    let mut sink = TcpSink {
        address,
        connection: None,
    };
    let batch = ["21.5", "99"].map(|payload| SinkMessage::example("plant/1", payload.as_bytes()));
    let outcomes = sink.deliver(&batch).await;
    assert_eq!(
        outcomes,
        [Outcome::Done, Outcome::Refused("too hot".to_owned())]
    );
    answers.await??;
    assert!(sink.test().await.is_err(), "the receiver is away");
    println!("[[sinks.{}]]: {outcomes:?}", KIND.name);
    Ok(())
}
