//! A client and its connections, for the client commands.
//!
//! Responsible for connecting and reconnecting, for the lines of `-d`, and for writing output when
//! there is a pause. Each command handles events itself.

use std::io::ErrorKind;
use std::process::ExitCode;
use std::time::Duration;

use martlet_client::{Client, Endpoint, Event, NetError, Session, SessionError};
use martlet_codec::ReasonCode;
use martlet_control::text::{is_loopback, printable, typed};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::exit::{self, Failure};
use super::mqtt_options::Target;
use super::node_options::typed_options;
use super::packet_log::PacketLog;
use super::print::Output;

/// Delay before reconnecting.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// Common ports of servers with TLS: MQTT, HTTPS and WebSocket.
const TLS_PORTS: &[u16] = &[443, 8081, 8084, 8443, 8883, 8884, 8885, 8886, 8887];

/// The address of an endpoint, for output.
fn place(endpoint: &Endpoint) -> String {
    match &endpoint.unix {
        Some(path) => path.display().to_string(),
        None if endpoint.host.contains(':') => format!("[{}]:{}", endpoint.host, endpoint.port),
        None => format!("{}:{}", endpoint.host, endpoint.port),
    }
}

/// Whether the broker is on this machine.
fn is_local(endpoint: &Endpoint) -> bool {
    endpoint.unix.is_some() || is_loopback(&endpoint.host)
}

/// Purpose of the port, if it is probably not for this connection. Continues a sentence that
/// begins with the port.
fn hint(endpoint: &Endpoint, error: &NetError) -> Option<&'static str> {
    let has_tls = endpoint.tls.is_some();
    if endpoint.unix.is_some() && !has_tls {
        return None;
    }
    match error {
        NetError::Http => Some(
            "is a port of HTTP, or of MQTT over WebSocket: give the port of MQTT, often 1883, or \
             for WebSocket --ws.",
        ),
        NetError::Handshake(None) if !has_tls => Some(
            "may be a port of MQTT without WebSocket, or a TLS port: leave out --ws, or give the \
             port of WebSocket, often 9001.",
        ),
        // The server speaks HTTP, and nobody opens a WebSocket there.
        NetError::Handshake(Some(200..=399 | 400 | 404 | 405 | 426 | 501)) => Some(
            "is a port of HTTP without a WebSocket at this path: give the port and the path of \
             WebSocket, such as -L ws://HOST:9001/mqtt -t TOPIC.",
        ),
        NetError::Io(error)
            if has_tls
                && matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::ConnectionReset
                ) =>
        {
            Some(
                "may be a port without TLS: give the TLS port, often 8883, or leave out the TLS \
                 options.",
            )
        }
        _ if !has_tls && may_need_tls(endpoint, error) => Some(
            "may be a TLS port: give the CA of the server with --cafile FILE, or \
             --tls-use-os-certs.",
        ),
        _ => None,
    }
}

/// Whether TLS is probably missing.
fn may_need_tls(endpoint: &Endpoint, error: &NetError) -> bool {
    match error {
        // A TLS server's answer to a CONNECT is not an MQTT packet.
        NetError::Session(SessionError::Protocol(_)) => true,
        NetError::Io(error) if error.kind() == ErrorKind::ConnectionRefused => false,
        NetError::Closed | NetError::Io(_) | NetError::WebSocket(_) => {
            TLS_PORTS.contains(&endpoint.port)
        }
        _ => false,
    }
}

/// Next event for a command.
pub(crate) enum Next {
    /// An event of the session.
    Event(Event),
    /// The connection ended.
    Lost(NetError),
    /// The time of `-W` has expired.
    TimedOut,
    /// SIGINT or SIGTERM, or the reader has closed standard output.
    Stopped,
}

/// A client with its output.
pub(crate) struct ClientRun {
    /// The client.
    pub(crate) client: Client,
    /// The address and the credentials.
    pub(crate) target: Target,
    /// Standard output.
    pub(crate) output: Output,
    log: PacketLog,
    interrupt: Signal,
    terminate: Signal,
    /// When `-W` ends the command.
    deadline: Option<Instant>,
}

impl ClientRun {
    /// Creates a client without a connection; the time of `-W` starts.
    pub(crate) fn new(
        target: Target,
        debug: bool,
        timeout: Option<Duration>,
    ) -> Result<Self, Failure> {
        let mut session = Session::new();
        session.set_traces(debug);
        if let Some(scram) = target.scram.clone() {
            session.set_authentication(Box::new(scram));
        }
        let signals = signal(SignalKind::interrupt()).and_then(|interrupt| {
            signal(SignalKind::terminate()).map(|terminate| (interrupt, terminate))
        });
        let (interrupt, terminate) =
            signals.map_err(|error| Failure::error(exit::ERROR, exit::system_error(&error)))?;
        Ok(Self {
            client: Client::new(session),
            target,
            output: Output::default(),
            log: PacketLog::default(),
            interrupt,
            terminate,
            deadline: timeout.map(|timeout| Instant::now() + timeout),
        })
    }

    /// Connects and waits for CONNACK.
    pub(crate) async fn connect(&mut self) -> Result<Connected, NetError> {
        let stopped = stop_requested(self.deadline, &mut self.interrupt, &mut self.terminate);
        let target = &self.target;
        tokio::select! {
            biased;
            result = self.client.connect(&target.endpoint, &target.connect) => result?,
            ended = stopped => return Ok(ended.into()),
        }
        loop {
            match self.next().await {
                Next::Event(Event::Connected(_)) => return Ok(Connected::Accepted),
                Next::Event(Event::Refused {
                    code,
                    reason,
                    reason_string,
                    ..
                }) => {
                    let mut failure = Failure::refused(self.target.connect.version, code, reason);
                    if let Some(text) = reason_string {
                        failure = failure.with_line(&format!("Reason: {}", printable(&text)));
                    }
                    return Ok(Connected::Refused(match self.advice(code) {
                        Some(line) => failure.with_line(&line),
                        None => failure,
                    }));
                }
                Next::Event(_) => {}
                Next::Lost(error) => return Err(error),
                Next::TimedOut => return Ok(Connected::TimedOut),
                Next::Stopped => return Ok(Connected::Stopped),
            }
        }
    }

    /// Advice if the broker refuses the credentials or the Client Identifier. `None` for other
    /// codes, and for a broker on another machine, which `martlet why` cannot reach.
    fn advice(&self, code: u8) -> Option<String> {
        // MQTT 3: 2, 4 and 5. MQTT 5: Client Identifier not valid, bad user name or password, not
        // authorized.
        if !matches!(code, 2 | 4 | 5 | 0x85..=0x87) {
            return None;
        }
        match &self.target.connect.username {
            None if matches!(code, 2 | 0x85) => None,
            None => Some("Give credentials with -u USER -P PASSWORD.".to_owned()),
            Some(_) => self.advice_of_refusal(),
        }
    }

    /// The command that shows why a request of the client was refused. `None` for a broker on
    /// another machine, and where the node has chosen the Client Identifier.
    pub(crate) fn advice_of_refusal(&self) -> Option<String> {
        let connect = &self.target.connect;
        match &connect.username {
            Some(user) if !user.trim().is_empty() => self.advice_about(user),
            _ if connect.client_id.trim().is_empty() => None,
            _ => self.advice_about(&connect.client_id),
        }
    }

    fn advice_about(&self, name: &str) -> Option<String> {
        is_local(&self.target.endpoint).then(|| {
            format!(
                "If the broker is Martlet, this shows why: martlet why {}{}",
                typed_options(),
                typed(name)
            )
        })
    }

    /// Describes why there is no connection: the address, and what the port may be for.
    pub(crate) fn not_connected(&self, error: &NetError) -> Failure {
        let endpoint = &self.target.endpoint;
        let failure = Failure::from_net(error);
        let text = match error {
            NetError::Io(error) if error.kind() != ErrorKind::ConnectionReset => format!(
                "Error: cannot connect to {}: {}",
                place(endpoint),
                exit::system_error(error)
            ),
            NetError::Lookup(_) => {
                format!("Unable to connect to {} (Lookup error.).", place(endpoint))
            }
            NetError::Io(_) | NetError::Closed => format!(
                "Error: {} has closed the connection without a CONNACK.",
                place(endpoint)
            ),
            NetError::Http => format!(
                "Error: {} answered with HTTP, not with MQTT.",
                place(endpoint)
            ),
            _ => failure.text,
        };
        let hint = hint(endpoint, error);
        let hint = hint.map_or_else(String::new, |hint| {
            format!("\nPort {} {hint}", endpoint.port)
        });
        Failure {
            code: failure.code,
            text: format!("{text}{hint}"),
        }
    }

    /// Returns the next event to handle. Writes output before waiting.
    pub(crate) async fn next(&mut self) -> Next {
        loop {
            let event = match self.client.session().poll_event() {
                Some(event) => event,
                None => {
                    if !self.output.flush() {
                        return Next::Stopped;
                    }
                    match self.wait().await {
                        Next::Event(event) => event,
                        other => return other,
                    }
                }
            };
            let Event::Traced(traced) = event else {
                return Next::Event(event);
            };
            let client_id = self.client.session().client_id();
            for line in self.log.lines(client_id, &traced) {
                self.output.line(&line);
            }
        }
    }

    /// Reconnects after the connection was lost, and retries until there is an answer.
    pub(crate) async fn reconnect(&mut self) -> Connected {
        self.reconnect_counted().await.0
    }

    /// Reconnects likewise, and also returns the number of attempts.
    pub(crate) async fn reconnect_counted(&mut self) -> (Connected, u64) {
        let mut attempts = 0;
        loop {
            if let Some(ended) = self.pause().await {
                return (ended, attempts);
            }
            attempts += 1;
            if let Ok(connected) = self.connect().await {
                return (connected, attempts);
            }
        }
    }

    /// Waits without a connection. Returns the event that ended the wait early, if any.
    async fn pause(&mut self) -> Option<Connected> {
        tokio::select! {
            () = tokio::time::sleep(RECONNECT_DELAY) => None,
            ended = stop_requested(self.deadline, &mut self.interrupt, &mut self.terminate) => {
                Some(ended.into())
            }
        }
    }

    /// Sends DISCONNECT, closes, and writes the remaining output.
    pub(crate) async fn finish(&mut self) {
        let properties = &self.target.properties;
        let expiry = properties.disconnect_expiry_secs;
        let session = self.client.session();
        session.disconnect(ReasonCode::Success, expiry, &properties.disconnect_user);
        while let Some(event) = self.client.session().poll_event() {
            if let Event::Traced(traced) = event {
                let client_id = self.client.session().client_id();
                for line in self.log.lines(client_id, &traced) {
                    self.output.line(&line);
                }
            }
        }
        self.client.finish().await;
        self.output.flush();
    }

    async fn wait(&mut self) -> Next {
        tokio::select! {
            biased;
            event = self.client.next_event() => match event {
                Ok(event) => Next::Event(event),
                Err(error) => Next::Lost(error),
            },
            ended = stop_requested(self.deadline, &mut self.interrupt, &mut self.terminate) => {
                match ended {
                    Ended::TimedOut => Next::TimedOut,
                    Ended::Stopped => Next::Stopped,
                }
            }
        }
    }
}

/// Waits for an event that ends a command at any time.
async fn stop_requested(
    deadline: Option<Instant>,
    interrupt: &mut Signal,
    terminate: &mut Signal,
) -> Ended {
    let timeout = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = timeout => Ended::TimedOut,
        _ = interrupt.recv() => Ended::Stopped,
        _ = terminate.recv() => Ended::Stopped,
    }
}

/// Events that end a command at any time.
enum Ended {
    /// The time of `-W` has expired.
    TimedOut,
    /// SIGINT or SIGTERM.
    Stopped,
}

impl From<Ended> for Connected {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::TimedOut => Self::TimedOut,
            Ended::Stopped => Self::Stopped,
        }
    }
}

/// Result of connecting, if there was an answer.
pub(crate) enum Connected {
    /// The server accepted the connection.
    Accepted,
    /// The server refused the connection.
    Refused(Failure),
    /// The time of `-W` has expired.
    TimedOut,
    /// SIGINT or SIGTERM.
    Stopped,
}

/// The failure for an expired `-W`.
pub(crate) fn timed_out() -> Failure {
    Failure {
        code: exit::TIMED_OUT,
        text: "Timed out".into(),
    }
}

/// Runs a client command on a separate runtime. A thread that still reads standard input does not
/// keep the process alive.
pub(crate) fn block_on(quiet: bool, work: impl Future<Output = Result<u8, Failure>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::error(exit::ERROR, exit::system_error(&error));
            return exit::finish(Err(failure), false);
        }
    };
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    exit::finish(result, quiet)
}
