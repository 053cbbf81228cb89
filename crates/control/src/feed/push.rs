//! The panel's frames to a server of Laravel Reverb or Pusher's protocol, over a connection that
//! this node opens: `ws://host/app/<key>`.
//!
//! It is opened again whenever it ends, later and later. What happens meanwhile waits in the feed's
//! ring; of more than fits there the oldest are lost, and counted. A frame is sent again if it is
//! not known to have left, so after a break the last few may come twice; their order is kept.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use martlet_broker::TenantId;
use martlet_certificates::{ClientFiles, client_config};
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tracing::info;

use super::paced::Paced;
use super::push_state::PushState;
use crate::control::Control;
use crate::feed::{FeedReader, Filter, Frame, From, Kinds, Panel};
use crate::text::masked;

/// Waiting times between attempts.
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Interval at which it checks whether the team exists.
const TEAM_PAUSE: Duration = Duration::from_secs(1);
/// Longest time for an attempt to connect, and for a write while the server reads nothing.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time to wait for the greeting: a server of Pusher's protocol answers at once whether the key is
/// valid; other servers send nothing.
const GREETING: Duration = Duration::from_secs(1);
/// Time after which a connection counts as successful: the next attempt comes soon.
const GOOD_AFTER: Duration = Duration::from_secs(5);
/// Interval of pings; a server that sends nothing for twice that time counts as gone.
const PING: Duration = Duration::from_secs(20);
/// Frames that are written before they count as sent, at most.
const FRAMES: usize = 64;
/// Longest message of the server that is read, in bytes.
const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Bytes that wait for the server, at most: of Pongs that do not fit, only the last one is sent.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// Where to, and what.
#[derive(Clone, Debug)]
pub struct Push {
    /// `ws://host/app/<key>`, or `wss`.
    pub url: String,
    /// CAs by which the server's certificate is good; none: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Team, by name or id, whose clients' events are pushed, and which has a tenant of its own;
    /// none: events of the common tenant's clients.
    pub team: Option<String>,
    /// Topic Filters of the messages and subscriptions that are pushed; none: all.
    pub topics: Vec<String>,
    /// Longest frame.
    pub frame_bytes_max: usize,
    /// Which of the kinds that the panel has names for.
    pub kinds: Kinds,
}

trait Carry: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carry for T {}

type Socket = WebSocketStream<Box<dyn Carry>>;

/// Pushes for as long as the node runs.
pub async fn run(control: Arc<Control>, push: Push, state: Arc<PushState>) {
    let filter = Filter {
        // The panel has no tenants, so it gets the events of one.
        tenant: Some(tenant(&control, &push, &state).await),
        kinds: push.kinds,
        topics: push.topics.clone(),
        payload_bytes: push.frame_bytes_max,
        ..Filter::default()
    };
    let panel = Panel::new(&filter, push.frame_bytes_max);
    let Ok(reader) = control.feed.read(filter, &From::Now) else {
        return;
    };
    let mut source = PushFrames {
        reader,
        panel,
        payload_max: push.frame_bytes_max,
        waiting: VecDeque::new(),
        state: Arc::clone(&state),
    };
    let mut pause = PAUSE_FIRST;
    loop {
        let opened = tokio::time::timeout(PATIENCE, open(&push)).await;
        let why = match opened.unwrap_or_else(|_| Err("no answer".to_owned())) {
            Err(why) => why,
            Ok(socket) => {
                let begun = Instant::now();
                info!(url = masked(&push.url), "events are pushed");
                state.is_well(&control.health);
                let why = talk(socket, &mut source).await;
                state.connected.store(false, Ordering::Relaxed);
                if begun.elapsed() >= GOOD_AFTER {
                    pause = PAUSE_FIRST;
                }
                match why {
                    Some(why) => why,
                    // The node stops.
                    None => return,
                }
            }
        };
        state.fails(&control.health, &why);
        state
            .behind
            .store(source.reader.behind(), Ordering::Relaxed);
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The tenant whose events are pushed. If its team does not exist yet, this waits for it.
async fn tenant(control: &Control, push: &Push, state: &PushState) -> TenantId {
    let Some(team) = &push.team else {
        return TenantId::default();
    };
    loop {
        if let Some(found) = control.tenant_of_team(team) {
            return found;
        }
        let why = format!("there is no team {team:?} with a tenant of its own (events.push_team)");
        state.fails(&control.health, &why);
        tokio::time::sleep(TEAM_PAUSE).await;
    }
}

/// Between half of it and all: servers that come back are not asked by all nodes at once.
fn jittered(pause: Duration) -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let chance = since.unwrap_or_default().subsec_nanos() % 1_000;
    pause / 2 + pause / 2 * chance / 1_000
}

async fn open(push: &Push) -> Result<Socket, String> {
    let request = push
        .url
        .as_str()
        .into_client_request()
        .map_err(|error| error.to_string())?;
    let uri = request.uri().clone();
    let host = uri.host().unwrap_or_default();
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let is_secure = uri.scheme_str() == Some("wss");
    let port = uri.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    // Frames are short, and are written as many as there are.
    let _ = stream.set_nodelay(true);
    let carrier: Box<dyn Carry> = match is_secure {
        false => Box::new(stream),
        true => {
            let files = ClientFiles {
                system_cas: push.ca_file.is_none(),
                ca_file: push.ca_file.clone(),
                ..ClientFiles::default()
            };
            let config = client_config(&files).map_err(|error| error.to_string())?;
            let name = host
                .try_into()
                .map_err(|_| "the host is not a valid name".to_owned())?;
            let stream = TlsConnector::from(config).connect(name, stream).await;
            Box::new(stream.map_err(|error| error.to_string())?)
        }
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(INPUT_BYTES_MAX))
        .max_frame_size(Some(INPUT_BYTES_MAX))
        .max_write_buffer_size(OUTPUT_BYTES_MAX);
    let carrier: Box<dyn Carry> = Box::new(Paced::new(carrier));
    let opened = tokio_tungstenite::client_async_with_config(request, carrier, Some(config)).await;
    let (socket, _) = opened.map_err(|error| error.to_string())?;
    Ok(socket)
}

/// Frames, in order, each until it is sent.
struct PushFrames {
    reader: FeedReader,
    panel: Panel,
    payload_max: usize,
    waiting: VecDeque<Frame>,
    state: Arc<PushState>,
}

impl PushFrames {
    fn note_waiting(&self) {
        let bytes = self.waiting.iter().map(|frame| frame.json.len()).sum();
        self.state.waiting_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Waits for more; false: the node stops.
    async fn more(&mut self) -> bool {
        let Some(batch) = self.reader.next().await else {
            return false;
        };
        let mut frames = Vec::new();
        if batch.missed > 0 {
            self.state.lost.fetch_add(batch.missed, Ordering::Relaxed);
            self.panel.flush(&mut frames);
        }
        for entry in batch.entries() {
            if let Some(lost) = entry.lost() {
                self.state.lost.fetch_add(lost, Ordering::Relaxed);
            }
            self.panel.put(&entry, self.payload_max, &mut frames);
        }
        self.waiting.extend(frames);
        self.note_waiting();
        self.state
            .behind
            .store(self.reader.behind(), Ordering::Relaxed);
        true
    }
}

/// A message of the server in Pusher's protocol.
#[derive(Deserialize)]
struct ServerMessage {
    event: String,
    #[serde(default)]
    data: serde_json::Value,
}

/// Until the connection ends, and why; none: the node stops.
async fn talk(socket: Socket, source: &mut PushFrames) -> Option<String> {
    let (sink, mut stream) = socket.split();
    let (answers, to_answer) = mpsc::channel(16);
    let greeting = tokio::time::timeout(GREETING, hear(&mut stream, &answers)).await;
    if let Ok(Err(why)) = greeting {
        return Some(why);
    }
    tokio::select! {
        why = listen(stream, answers) => Some(why),
        why = write(sink, source, to_answer) => why,
    }
}

async fn listen(mut stream: SplitStream<Socket>, answers: mpsc::Sender<Message>) -> String {
    loop {
        match tokio::time::timeout(PING * 2, hear(&mut stream, &answers)).await {
            Ok(Ok(())) => {}
            Ok(Err(why)) => return why,
            Err(_) => return "the server does not respond".to_owned(),
        }
    }
}

/// Takes one message.
async fn hear(
    stream: &mut SplitStream<Socket>,
    answers: &mpsc::Sender<Message>,
) -> Result<(), String> {
    let message = match stream.next().await {
        Some(Ok(message)) => message,
        Some(Err(error)) => return Err(error.to_string()),
        None => return Err("the server has closed the connection".to_owned()),
    };
    match message {
        Message::Text(text) => {
            let Ok(message) = serde_json::from_str::<ServerMessage>(&text) else {
                return Ok(());
            };
            match &*message.event {
                "pusher:ping" => {
                    let pong = Message::text(r#"{"event":"pusher:pong","data":{}}"#);
                    // Where it is full there is one in it already.
                    let _ = answers.try_send(pong);
                }
                "pusher:error" => {
                    let text = crate::text::printable(&message.data.to_string());
                    return Err(format!("the server answered {text}"));
                }
                _ => {}
            }
            Ok(())
        }
        Message::Close(frame) => {
            let why = frame.map(|frame| crate::text::printable(&frame.to_string()));
            let why = why.unwrap_or_else(|| "without a reason".to_owned());
            Err(format!("the server has closed the connection: {why}"))
        }
        // A Ping is answered by the layer below.
        _ => Ok(()),
    }
}

async fn write(
    mut sink: SplitSink<Socket, Message>,
    source: &mut PushFrames,
    mut to_answer: mpsc::Receiver<Message>,
) -> Option<String> {
    let mut pings = tokio::time::interval(PING);
    loop {
        if source.waiting.is_empty() {
            tokio::select! {
                is_more = source.more() => if !is_more {
                    let _ = tokio::time::timeout(GREETING, sink.close()).await;
                    return None;
                },
                Some(answer) = to_answer.recv() => {
                    if let Err(why) = send(&mut sink, [answer]).await {
                        return Some(why);
                    }
                }
                _ = pings.tick() => {
                    if let Err(why) = send(&mut sink, [Message::Ping(Bytes::new())]).await {
                        return Some(why);
                    }
                }
            }
            continue;
        }
        if let Ok(answer) = to_answer.try_recv()
            && let Err(why) = send(&mut sink, [answer]).await
        {
            return Some(why);
        }
        let count = source.waiting.len().min(FRAMES);
        let frames = source.waiting.range(..count);
        let frames: Vec<Message> = frames.map(|frame| Message::text(&*frame.json)).collect();
        if let Err(why) = send(&mut sink, frames).await {
            return Some(why);
        }
        source.waiting.drain(..count);
        source.note_waiting();
        source.state.sent.fetch_add(count as u64, Ordering::Relaxed);
    }
}

async fn send(
    sink: &mut SplitSink<Socket, Message>,
    messages: impl IntoIterator<Item = Message>,
) -> Result<(), String> {
    let sending = async {
        for message in messages {
            sink.feed(message).await?;
        }
        sink.flush().await
    };
    match tokio::time::timeout(PATIENCE, sending).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("the server accepts no data".to_owned()),
    }
}
