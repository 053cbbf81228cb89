//! `martlet status`, `martlet health` and `martlet reload`, and the requests of commands to a
//! running node through `admin.sock` in its data directory.

use std::borrow::Cow;
use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http_body_util::{BodyExt as _, Full};
use hyper::HeaderMap;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use martlet_api::page::Page;
use martlet_api::{ClientView, Status};
use martlet_control::Reloaded;
use martlet_control::text::printable;
use martlet_integrate::counted;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::cmd::columns::{columns, left_out};
use crate::cmd::errors::{error_text, in_words_of_commands, in_words_of_files};
use crate::cmd::node_options::{NodeOptions, for_node, json_for_node};
use crate::cmd::print::{errln, outln};
use crate::cmd::query::query_of;
use crate::serve::admin_socket::{self, SocketPath};

/// Which node to ask, and how to print the answer.
#[derive(Args, Debug)]
pub(crate) struct AdminOptions {
    #[command(flatten)]
    pub(crate) node: NodeOptions,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `martlet status`.
pub(crate) fn status(options: &AdminOptions) -> ExitCode {
    let data_dir = options.node.data_dir_anyway();
    let answer = data_dir.and_then(|data_dir| ask(&data_dir, "GET", "/api/v1/status"));
    finish_as(
        options.json,
        answer.and_then(|body| {
            if options.json {
                return Ok(json_for_node(&body).into_owned());
            }
            let status: Status = serde_json::from_str(&body)?;
            Ok(status_text(&status))
        }),
    )
}

/// Number of items requested per page.
const PAGE: usize = 1000;

/// The first `limit` items of a list, read page by page, and the total number of items.
pub(crate) fn pages<T: DeserializeOwned>(
    data_dir: &Path,
    path: &str,
    filters: &[(&str, &str)],
    limit: usize,
) -> anyhow::Result<(Vec<T>, u64)> {
    let (mut items, mut total, mut cursor) = (Vec::new(), 0, None);
    loop {
        let wanted = (limit - items.len()).clamp(1, PAGE);
        let target = format!("{path}{}", page_query(filters, wanted, cursor.as_deref()));
        let page: Page<T> = serde_json::from_str(&ask(data_dir, "GET", &target)?)?;
        total = page.total.unwrap_or(total);
        items.extend(page.items);
        cursor = page.next;
        if cursor.is_none() || items.len() >= limit {
            items.truncate(limit);
            return Ok((items, total));
        }
    }
}

/// Query for a page of a list. The first page also has the total number of items.
pub(crate) fn page_query(filters: &[(&str, &str)], limit: usize, cursor: Option<&str>) -> String {
    let limit = limit.to_string();
    let paging = cursor.map_or(("total", "true"), |cursor| ("cursor", cursor));
    let filters = filters.iter().copied();
    query_of(filters.chain([("limit", &*limit), paging]))
}

/// Exit code of a successful reload with changes that need a restart.
const NEEDS_RESTART: u8 = 3;

/// `martlet reload`.
pub(crate) fn reload(options: &AdminOptions) -> ExitCode {
    let data_dir = options.node.data_dir();
    let answer = data_dir.and_then(|data_dir| ask(&data_dir, "POST", "/api/v1/reload"));
    let mut needs_restart = false;
    let outcome = answer.and_then(|body| {
        let done: Reloaded = serde_json::from_str(&body)?;
        needs_restart = !done.needs_restart.is_empty();
        if options.json {
            return Ok(body);
        }
        let mut text = "reloaded".to_owned();
        let mut done_parts = Vec::new();
        if done.certificates > 0 {
            done_parts.push(format!(
                "certificates of {}",
                counted(done.certificates as u64, "listener")
            ));
        }
        if done.revoked > 0 {
            done_parts.push(format!(
                "no longer accepted: {}",
                counted(done.revoked as u64, "user")
            ));
        }
        if !done_parts.is_empty() {
            text.push_str(&format!(": {}", done_parts.join("; ")));
        }
        text.push('\n');
        match done.changed.as_slice() {
            [] if needs_restart || !done.as_at_start.is_empty() => {}
            [] => text.push_str("nothing has changed since they were last read\n"),
            changed => text.push_str(&format!("changed: {}\n", changed.join(", "))),
        }
        if done.certificates > 0 {
            text.push_str(
                "client certificates are checked again: connections with a revoked one end\n",
            );
        }
        for what in &done.needs_restart {
            text.push_str(&format!("{what} has changed, which needs a restart\n"));
        }
        for key in &done.as_at_start {
            text.push_str(&format!("{key} is as at the start again\n"));
        }
        for listener in &done.listeners {
            text.push_str(&format!("{listener}\n"));
        }
        Ok(text)
    });
    match (finish_as(options.json, outcome), needs_restart) {
        (_, true) => ExitCode::from(NEEDS_RESTART),
        (code, false) => code,
    }
}

/// Exit code with `--strict` of a node that is ready and has warnings.
const WARNS: u8 = 3;

/// The state of the node and its warnings.
#[derive(Deserialize)]
struct Health {
    status: String,
    warnings: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
    environment_file: Option<String>,
    connections_max: Option<u64>,
}

/// Options of `martlet health`.
#[derive(Args, Debug)]
pub(crate) struct HealthOptions {
    /// Exit with 3 if there are warnings
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    admin: AdminOptions,
}

/// `martlet health`.
pub(crate) fn health(options: &HealthOptions) -> ExitCode {
    let HealthOptions { strict, admin } = options;
    let options = admin;
    let data_dir = options.node.data_dir_anyway();
    let answer = data_dir.and_then(|data_dir| ask(&data_dir, "GET", "/api/v1/health"));
    let mut warns = false;
    let outcome = answer.and_then(|body| {
        let health: Health = serde_json::from_str(&body)?;
        warns = *strict && !health.warnings.is_empty();
        if options.json {
            return Ok(json_for_node(&body).into_owned());
        }
        let mut text = format!("{}\n", health.status);
        if let Some(file) = &health.environment_file {
            text.push_str(&format!("environment from {}\n", printable(file)));
        }
        if let Some(most) = health.connections_max {
            text.push_str(&format!("connections at most {most}\n"));
        }
        for warning in &health.warnings {
            text.push_str(&format!("warning: {}\n", printable(&for_node(warning))));
        }
        for note in &health.notes {
            text.push_str(&format!("note: {}\n", printable(&for_node(note))));
        }
        Ok(text)
    });
    match (finish_as(options.json, outcome), warns) {
        (_, true) => ExitCode::from(WARNS),
        (code, false) => code,
    }
}

fn status_text(status: &Status) -> String {
    let mut text = format!(
        "martlet {}: {}, up {} s\n",
        status.version, status.status, status.uptime_secs
    );
    for listener in &status.listeners {
        text.push_str(&format!("listening    {listener}\n"));
    }
    text.push_str(&format!("data         {}\n", status.data_dir));
    text.push_str(&format!("durability   {}\n", durability(status)));
    text.push_str(&format!(
        "clients      {} connected, {}, {}\n",
        status.connections,
        counted(status.sessions, "session"),
        counted(status.subscriptions, "subscription")
    ));
    text.push_str(&format!(
        "messages     {} in, {} out, {} delivered, {} held, {} dropped, {} retained\n",
        status.publishes_received,
        status.publishes_sent,
        status.messages_delivered,
        status.messages_held,
        status.messages_dropped,
        status.retained_messages
    ));
    text.push_str(&format!("memory       {}\n", memory(status)));
    for warning in &status.warnings {
        text.push_str(&format!("warning      {}\n", for_node(warning)));
    }
    text
}

/// Memory use by purpose, largest first.
fn memory(status: &Status) -> String {
    let mut held: Vec<(&String, &u64)> = status.memory_held.iter().collect();
    held.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    let held = held
        .iter()
        .filter(|(name, bytes)| **bytes > 0 || *name == "shards");
    let held: Vec<String> = held
        .map(|(name, bytes)| format!("{name} {bytes}"))
        .collect();
    let (used, limit) = (status.memory_used_bytes, status.memory_limit_bytes);
    format!("{used} of {limit} bytes: {}", held.join(", "))
}

/// The guarantee of an acknowledgement.
fn durability(status: &Status) -> String {
    let mode = &status.durability;
    match (mode.as_str(), status.interval_ms) {
        ("sync", _) => format!("{mode}: acknowledged when synced"),
        (_, Some(ms)) => format!("{mode}: synced every {ms} ms"),
        ("memory", _) => format!("{mode}: a restart loses everything"),
        _ => mode.clone(),
    }
}

/// Clients as a table, or `none` if there are no clients. `total` is the number without a limit.
pub(crate) fn clients_text(clients: &[ClientView], total: u64, none: &str) -> String {
    let row = |client: &ClientView| {
        let state = match client.connected {
            true => "connected",
            false => "away",
        };
        [
            client.client_id.to_string(),
            state.to_owned(),
            client.protocol.to_string(),
            client.address.clone().unwrap_or_default(),
            client.subscriptions.to_string(),
            client.queued.to_string(),
            client.in_flight.to_string(),
            client.delivered.to_string(),
            client.dropped.to_string(),
        ]
    };
    let headers = [
        "CLIENT",
        "STATE",
        "MQTT",
        "ADDRESS",
        ">SUBS",
        ">QUEUED",
        ">IN-FLIGHT",
        ">DELIVERED",
        ">DROPPED",
    ];
    let text = columns(headers, clients.iter().map(row), none);
    text + &left_out(clients.len(), total)
}

/// Prints the result of a command. As JSON, includes the node's answer if it refused the request.
pub(crate) fn finish_as(json: bool, outcome: anyhow::Result<String>) -> ExitCode {
    let refusal = outcome.as_ref().err().and_then(NodeRefusal::of);
    let text = match (&outcome, refusal) {
        (Ok(text), _) => Cow::Borrowed(&**text),
        (Err(_), Some(refusal)) if json => json_for_node(&refusal.body),
        (Err(error), _) => {
            let error = error_text(error);
            errln!("martlet: {}", printable(&error));
            return ExitCode::FAILURE;
        }
    };
    if !text.is_empty() {
        outln!("{}", text.trim_end_matches('\n'));
    }
    match outcome {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A refusal or error of the node: problem details (RFC 9457).
#[derive(Debug)]
pub(crate) struct NodeRefusal {
    /// Status code of the response.
    status: u16,
    /// The error, in the terms of commands.
    detail: String,
    /// Body of the response.
    body: String,
}

impl NodeRefusal {
    /// The refusal in an answer with this status and body.
    pub(crate) fn new(status: hyper::StatusCode, body: String) -> Self {
        let detail = in_words_of_commands(&body)
            .unwrap_or_else(|| format!("the node answered {status}: {body}"));
        let status = status.as_u16();
        Self {
            status,
            detail,
            body,
        }
    }

    /// Status code of the response.
    pub(crate) fn status(&self) -> u16 {
        self.status
    }

    /// Returns what is wrong with a field of the file that the request was read from. `None` if no
    /// single field is faulty.
    pub(crate) fn in_file(&self) -> Option<String> {
        in_words_of_files(&self.body)
    }

    /// Whether the error is that the node has no such object.
    pub(crate) fn is_not_found(error: &anyhow::Error) -> bool {
        Self::of(error).is_some_and(|refusal| refusal.status == 404)
    }

    /// Returns the node's refusal, if it is the cause of the error.
    pub(crate) fn of(error: &anyhow::Error) -> Option<&Self> {
        error.downcast_ref()
    }
}

impl std::fmt::Display for NodeRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for NodeRefusal {}

/// The host of requests to a node.
const HOST: &str = "martlet";

/// Time limit for a response.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A request to a node.
#[derive(Clone, Copy)]
pub(crate) struct AdminRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    /// Accepted media type.
    pub(crate) accept: &'a str,
    pub(crate) body: Option<&'a str>,
    /// Media type of the body.
    pub(crate) content_type: &'a str,
    /// Entity tag that an object must have to be changed.
    pub(crate) if_match: Option<&'a str>,
}

impl<'a> AdminRequest<'a> {
    pub(crate) fn get(path: &'a str) -> Self {
        Self {
            method: "GET",
            path,
            accept: "*/*",
            body: None,
            content_type: "application/json",
            if_match: None,
        }
    }

    /// The request without its body.
    pub(crate) fn head(&self) -> hyper::http::request::Builder {
        let mut request = hyper::Request::builder()
            .method(self.method)
            .uri(self.path)
            .header(hyper::header::HOST, HOST)
            .header(hyper::header::ACCEPT, self.accept);
        if let Some(tag) = self.if_match {
            request = request.header(hyper::header::IF_MATCH, tag);
        }
        match self.body {
            Some(_) => request.header(hyper::header::CONTENT_TYPE, self.content_type),
            None => request,
        }
    }
}

/// Sends a request to the node of this data directory, and returns its response.
pub(crate) fn ask(data_dir: &Path, method: &str, path: &str) -> anyhow::Result<String> {
    let question = AdminRequest {
        method,
        ..AdminRequest::get(path)
    };
    answer(data_dir, question, PATIENCE)
}

/// Sends a request and returns the JSON response. Extends the usual time limit by a given time.
pub(crate) fn ask_with(
    data_dir: &Path,
    method: &str,
    path: &str,
    body: &str,
    longer: Duration,
) -> anyhow::Result<String> {
    let question = AdminRequest {
        method,
        body: Some(body),
        ..AdminRequest::get(path)
    };
    answer(data_dir, question, PATIENCE + longer)
}

/// Sends a request and returns the body of the response.
///
/// # Errors
/// [`NodeRefusal`], or there is no response in time.
pub(crate) fn answer(
    data_dir: &Path,
    question: AdminRequest<'_>,
    patience: Duration,
) -> anyhow::Result<String> {
    wait(async {
        let (stream, _) = connect(data_dir).await?;
        let asking = async { text_of(send(stream, question).await?).await };
        tokio::time::timeout(patience, asking)
            .await
            .with_context(|| {
                format!(
                    "the node at {} has accepted the request and not answered for {} s: it may be \
                     suspended, or its disk may hang",
                    data_dir.join(admin_socket::FILE_NAME).display(),
                    patience.as_secs()
                )
            })?
    })
}

/// The error if it cannot be determined whether a node runs there.
fn denied(socket: &Path, error: std::io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!(
        "permission denied for the node at {}: only root and the user that runs it can connect",
        socket.display()
    ))
}

/// Connects to the node of this data directory. Also returns the system user that runs it.
async fn connect(data_dir: &Path) -> anyhow::Result<(UnixStream, u32)> {
    let socket = data_dir.join(admin_socket::FILE_NAME);
    let stream = match SocketPath::of(data_dir) {
        Ok(short) => UnixStream::connect(short.path()).await,
        Err(error) => Err(error),
    };
    let stream = stream.map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => denied(&socket, error),
        _ => anyhow::Error::new(error).context(format!(
            "no node answers at {}: start one (martlet serve), or name the data directory of the \
             running node with --data-dir DIR or -c FILE",
            socket.display()
        )),
    })?;
    let peer = stream.peer_cred()?.uid();
    expect_trusted(data_dir, peer)?;
    Ok((stream, peer))
}

/// Blocks on asynchronous work.
pub(crate) fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build()?.block_on(work)
}

/// Checks the user of the peer. Its responses are trusted, but other users might create a socket
/// there.
fn expect_trusted(data_dir: &Path, peer: u32) -> anyhow::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    let owner = data_dir.metadata()?.uid();
    match peer == 0 || peer == own || peer == owner {
        true => Ok(()),
        false => anyhow::bail!(
            "the process at {} has the user id {peer}, but the data directory belongs to the user \
             id {owner}: it is not trusted",
            data_dir.join(admin_socket::FILE_NAME).display()
        ),
    }
}

/// The system user of the node that listens on this data directory's socket.
pub(crate) fn user_of_node(data_dir: &Path) -> anyhow::Result<u32> {
    wait(async { Ok(connect(data_dir).await?.1) })
}

/// Whether a node listens on this data directory's socket.
///
/// # Errors
/// The user has no permission to find out.
pub(crate) fn may_ask(data_dir: &Path) -> anyhow::Result<bool> {
    let socket = data_dir.join(admin_socket::FILE_NAME);
    match SocketPath::connect(data_dir) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(denied(&socket, error)),
        Err(_) => Ok(false),
    }
}

/// Whether a node listens on this data directory's socket.
pub(crate) fn is_running(data_dir: &Path) -> bool {
    SocketPath::connect(data_dir).is_ok()
}

/// Writes the node's response while it is received. Returns its headers.
pub(crate) fn download(
    data_dir: &Path,
    path: &str,
    out: &mut impl std::io::Write,
) -> anyhow::Result<HeaderMap> {
    wait(async {
        let (stream, _) = connect(data_dir).await?;
        let mut response = send(stream, AdminRequest::get(path)).await?;
        while let Some(frame) = response.frame().await {
            if let Ok(bytes) = frame?.into_data() {
                out.write_all(&bytes)?;
            }
        }
        Ok(std::mem::take(response.headers_mut()))
    })
}

/// Streams a file as the body of a POST, and returns the response.
pub(crate) fn upload(data_dir: &Path, path: &str, file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let opened = std::fs::File::open(file).with_context(|| format!("cannot open {name}"))?;
    let length = opened.metadata()?.len();
    let pieces = futures_util::stream::unfold(opened, |mut opened| async move {
        let mut piece = vec![0; 64 * 1024];
        let read = std::io::Read::read(&mut opened, &mut piece);
        match read {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some((Ok(Bytes::from(piece)), opened))
            }
            Err(error) => Some((Err(error), opened)),
        }
    });
    let request = hyper::Request::builder()
        .method("POST")
        .uri(path)
        .header(hyper::header::HOST, HOST)
        .header(hyper::header::CONTENT_TYPE, "application/octet-stream")
        .header(hyper::header::CONTENT_LENGTH, length)
        .body(axum::body::Body::from_stream(pieces))?;
    wait(async {
        let (stream, _) = connect(data_dir).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status();
        let text = text_of(response).await?;
        match status.is_success() {
            true => Ok(text),
            false => Err(NodeRefusal::new(status, text).into()),
        }
    })
}

/// Passes the data of each event of a stream (text/event-stream) to a function until that stops.
/// Returns true if the node has ended the stream.
pub(crate) fn follow(
    data_dir: &Path,
    path: &str,
    mut take: impl FnMut(&str) -> ControlFlow<()>,
) -> anyhow::Result<bool> {
    let question = AdminRequest {
        accept: "text/event-stream",
        ..AdminRequest::get(path)
    };
    wait(async {
        let (stream, _) = connect(data_dir).await?;
        let mut response = send(stream, question).await?;
        let mut unread = Vec::new();
        while let Some(frame) = response.frame().await {
            let Ok(bytes) = frame?.into_data() else {
                continue;
            };
            unread.extend_from_slice(&bytes);
            let Some(end) = unread.iter().rposition(|byte| *byte == b'\n') else {
                continue;
            };
            let lines: Vec<u8> = unread.drain(..=end).collect();
            let lines = String::from_utf8_lossy(&lines);
            let data = lines.lines().filter_map(|line| line.strip_prefix("data:"));
            for json in data {
                if take(json.trim_start()).is_break() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    })
}

/// Sends a request. Returns when the head of the response has been received and is a success.
async fn send(
    stream: UnixStream,
    question: AdminRequest<'_>,
) -> anyhow::Result<hyper::Response<hyper::body::Incoming>> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let body = Bytes::copy_from_slice(question.body.unwrap_or_default().as_bytes());
    let request = question.head().body(Full::new(body))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    if !status.is_success() {
        return Err(NodeRefusal::new(status, text_of(response).await?).into());
    }
    Ok(response)
}

async fn text_of(response: hyper::Response<hyper::body::Incoming>) -> anyhow::Result<String> {
    let body = response.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}
