//! A node as a separate process with its own data directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use martlet_client::{
    Acknowledgement, Client, ConnectOptions, Endpoint, Event, Message, Session, SubscribeRequest,
};
use martlet_codec::QoS;
use martlet_crash::Broker;

/// The program under test.
pub(crate) const MARTLET: &str = env!("CARGO_BIN_EXE_martlet");

/// Time limit of an answer before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The command line of a node with further options; `{port}` and `{dir}` are replaced.
pub(crate) fn serve(options: &[&str]) -> Vec<String> {
    let fixed = [
        MARTLET,
        "serve",
        "--listen",
        "mqtt://127.0.0.1:{port}",
        "--http",
        "off",
        "--data-dir",
        "{dir}",
        "--log-level",
        "warn",
    ];
    fixed
        .iter()
        .chain(options)
        .map(|part| (*part).to_owned())
        .collect()
}

/// A directory that is removed with its test.
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("martlet-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory for a test");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// A running node, killed on drop.
pub(crate) struct Node {
    pub(crate) broker: Broker,
}

impl Node {
    pub(crate) async fn start(directory: &Directory, options: &[&str]) -> Self {
        let mut broker = Broker::new(&serve(options), &directory.data()).expect("a free port");
        broker.start().expect("the program starts");
        broker.accepts().await.expect("it accepts clients");
        Self { broker }
    }

    /// Kills and restarts the node.
    pub(crate) async fn crash(&mut self) {
        self.broker.kill().expect("it can be killed");
        self.broker.start().expect("the program starts again");
        self.broker
            .accepts()
            .await
            .expect("it accepts clients again");
    }

    pub(crate) async fn connect(&self, options: &ConnectOptions) -> TestClient {
        let mut client = Client::new(Session::new());
        let endpoint = Endpoint::tcp("127.0.0.1", self.broker.port());
        client
            .connect(&endpoint, options)
            .await
            .expect("the port is open");
        let mut client = TestClient { client };
        loop {
            match client.next().await {
                Event::Connected(_) => return client,
                Event::Refused { reason, .. } => panic!("refused: {reason:?}"),
                _ => {}
            }
        }
    }
}

/// A client that fails its test when a wait takes too long.
pub(crate) struct TestClient {
    client: Client,
}

impl TestClient {
    async fn next(&mut self) -> Event {
        self.try_next(PATIENCE)
            .await
            .expect("an answer in time")
            .expect("the connection stays")
    }

    async fn try_next(&mut self, patience: Duration) -> Option<Result<Event, String>> {
        let event = tokio::time::timeout(patience, self.client.next_event()).await;
        event
            .ok()
            .map(|event| event.map_err(|error| error.to_string()))
    }

    pub(crate) async fn subscribe(&mut self, filter: &str, qos: QoS) {
        let now = self.client.now();
        let request = SubscribeRequest::one(filter, qos);
        self.client
            .session()
            .subscribe(&request, now)
            .expect("a valid filter");
        while !matches!(
            self.next().await,
            Event::Completed {
                acknowledgement: Acknowledgement::Subscribed(_),
                ..
            }
        ) {}
    }

    /// Publishes and waits for the acknowledgement.
    pub(crate) async fn publish(&mut self, topic: &str, payload: &str, qos: QoS, retain: bool) {
        self.send(topic, payload, qos, retain);
        while !matches!(
            self.next().await,
            Event::Completed {
                acknowledgement: Acknowledgement::Published { .. },
                ..
            }
        ) {}
        // At QoS 0 there is nothing else to wait for.
        self.client.flush().await.expect("the connection stays");
    }

    pub(crate) fn send(&mut self, topic: &str, payload: &str, qos: QoS, retain: bool) {
        let message = Message {
            topic: topic.to_owned(),
            payload: payload.to_owned().into(),
            qos,
            retain,
            ..Message::default()
        };
        let now = self.client.now();
        self.client
            .session()
            .publish(message, now)
            .expect("a valid topic");
    }

    /// Whether the last publish is acknowledged within this time.
    pub(crate) async fn acknowledged_within(&mut self, patience: Duration) -> bool {
        loop {
            match self.try_next(patience).await {
                Some(Ok(Event::Completed { .. })) => return true,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
    }

    /// Returns topic and payload of the next message.
    pub(crate) async fn message(&mut self) -> (String, String) {
        loop {
            if let Event::Message(message) = self.next().await {
                let payload = String::from_utf8_lossy(&message.payload).into_owned();
                return (message.topic, payload);
            }
        }
    }

    /// Whether no message arrives within this time.
    pub(crate) async fn nothing_for(&mut self, patience: Duration) -> bool {
        loop {
            match self.try_next(patience).await {
                Some(Ok(Event::Message(_))) => return false,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return true,
            }
        }
    }
}

/// A CONNECT of MQTT 5 with a persistent session.
pub(crate) fn lasting(client_id: &str) -> ConnectOptions {
    ConnectOptions {
        client_id: client_id.to_owned(),
        clean_start: false,
        session_expiry_secs: Some(3_600),
        ..ConnectOptions::default()
    }
}

/// Runs the program until it exits.
pub(crate) fn martlet(arguments: &[&str]) -> Output {
    Command::new(MARTLET)
        .args(arguments)
        .output()
        .expect("the program runs")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A runtime for one test.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(test)
}
