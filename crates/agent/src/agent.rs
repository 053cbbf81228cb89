//! One run of the agent, from opening the queue to closing it.

use std::process::ExitCode;

use martlet_environment::{parsed, read_file, variables, warning_of_skipped};
use martlet_store::{OpenError, RealDisk};
use martlet_text_file::owned;
use rustix::system::uname;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::keeper::Keeper;
use crate::link::Link;
use crate::log::{self, Level};
use crate::options::{AgentOptions, QueuePlace, Settings};
use crate::queue::{Queue, StateKind};
use crate::shared::{Shared, random};
use crate::topics::Placeholders;

/// Runs the agent until it is stopped, or until standard input has ended and all of it was
/// acknowledged. The exit code is 1 if it cannot start, or if something could not be stored.
///
/// `settled` is called when the agent has started, and each time that it has connected. Resources
/// needed only for that can then be released.
pub fn run(options: &AgentOptions, settled: fn()) -> ExitCode {
    let done = settings(options).and_then(|settings| start(&settings, settled));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::line(Level::Error, &why);
            ExitCode::FAILURE
        }
    }
}

fn settings(options: &AgentOptions) -> Result<Settings, String> {
    let path = std::path::absolute(".env").unwrap_or_else(|_| ".env".into());
    let text = match read_file(&path) {
        Ok(text) => text.unwrap_or_default(),
        Err(why) => {
            log::line(Level::Warning, &format!("{why}; it is not read"));
            String::new()
        }
    };
    let found = parsed(&text);
    if let Some(warning) = warning_of_skipped(&path, &found.skipped) {
        log::line(Level::Warning, &warning);
    }
    options.run.settings(&variables(&found.assignments))
}

/// Opens the queue, and logs the damage found.
///
/// # Errors
/// The text is a line for the user.
pub(crate) fn open_queue(place: &QueuePlace) -> Result<Queue<RealDisk>, String> {
    let path = place.directory.display();
    owned::check_directory(&place.directory)
        .map_err(|error| format!("cannot open the queue {path}: {error}"))?;
    // `martlet store` expects the store in this directory.
    let disk = RealDisk::open(&place.directory.join("store")).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => format!(
            "the queue {path} is in use by another agent: stop that one, or give this one another \
             --queue DIR"
        ),
        _ => format!("cannot open the queue {path}: {error}"),
    })?;
    let salt = random().map_err(|error| format!("cannot read /dev/urandom: {error}"))?;
    let opened = Queue::open(disk, place.limits, salt);
    let (queue, report) = opened.map_err(|error| match error {
        OpenError::Disk(error) => format!("cannot open the queue {path}: {error}"),
        error => format!(
            "cannot open the queue {path}: {error}. Move the directory away to begin \
             with an empty queue"
        ),
    })?;
    for damage in &report.damage {
        log::line(
            Level::Warning,
            &format!("the queue {path} is damaged: {damage}"),
        );
    }
    Ok(queue)
}

fn start(settings: &Settings, settled: fn()) -> Result<(), String> {
    let mut queue = open_queue(&settings.queue)?;
    let mut connect = settings.connect.clone();
    if connect.client_id.is_empty() {
        connect.client_id = client_id(&mut queue)?;
    }
    let client_id = connect.client_id.clone();
    let names = Placeholders {
        device_id: settings.device_id.clone().unwrap_or(client_id.clone()),
        client_id,
        hostname: uname().nodename().to_string_lossy().into_owned(),
    };
    let place = settings.queue.directory.display();
    let has = format!("{} messages ({} bytes)", queue.messages(), queue.bytes());
    let shared = Shared::new(queue);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_stack_size(256 * 1024)
        .build()
        .map_err(|error| format!("cannot start: {error}"))?;
    let keeper = Keeper::open(settings, names, &shared)?;
    let is_kept = runtime.block_on(async {
        let signals = Signals::new().map_err(|error| format!("cannot handle signals: {error}"))?;
        log::line(
            Level::Info,
            &format!("started: the queue {place} has {has}"),
        );
        // Inside the runtime, because its timer belongs to the runtime.
        let (endpoint, rate) = (&settings.endpoint, settings.rate);
        let link = Link::new(endpoint, connect, rate, settled, &shared);
        settled();
        Ok::<_, String>(run_both(&shared, signals, keeper, link).await)
    })?;
    // A thread may be blocked in reading input.
    runtime.shutdown_background();
    log::line(Level::Info, &format!("stopped: {}", shared.report()));
    let refused = shared.queue.borrow().counts().refused;
    let closed = shared.queue.into_inner().close();
    let closed = closed.map_err(|error| format!("cannot close the queue {place}: {error}"));
    closed.and(is_kept)?;
    match refused {
        0 => Ok(()),
        1 => Err("the broker has refused 1 message, which is lost".to_owned()),
        _ => Err(format!(
            "the broker has refused {refused} messages, which are lost"
        )),
    }
}

/// The signals that the agent handles.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    report: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            report: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Runs until a signal or the end of the input. Then the accepted input is committed, and sent
/// messages may still be acknowledged.
async fn run_both(
    shared: &Shared,
    mut signals: Signals,
    keeper: Keeper<'_>,
    link: Link<'_>,
) -> Result<(), String> {
    let (stop, stopped) = watch::channel(false);
    let signals = async {
        loop {
            tokio::select! {
                _ = signals.interrupt.recv() => break,
                _ = signals.terminate.recv() => break,
                _ = signals.report.recv() => log::line(Level::Info, &shared.report()),
                () = stop.closed() => return,
            }
        }
        stop.send_replace(true);
    };
    let keeper = async {
        let kept = keeper.run(stopped.clone()).await;
        stop.send_replace(true);
        kept
    };
    let both = async { tokio::join!(keeper, link.run(stopped.clone())).0 };
    tokio::pin!(both, signals);
    tokio::select! {
        kept = &mut both => kept,
        () = &mut signals => both.await,
    }
}

/// The Client Identifier of this queue, generated when it is first needed: 21 letters and digits,
/// which every server accepts [MQTT-3.1.3-5].
fn client_id(queue: &mut Queue<RealDisk>) -> Result<String, String> {
    let known = queue.states(StateKind::ClientId).pop();
    if let Some(id) = known.and_then(|(_, id)| String::from_utf8(id).ok()) {
        return Ok(id);
    }
    let number = random().map_err(|error| format!("cannot read /dev/urandom: {error}"))?;
    let id = format!("agent{number:016x}");
    queue.set_state(StateKind::ClientId, 0, id.as_bytes());
    let committed = queue.commit();
    committed.map_err(|error| format!("cannot write the queue: {error}"))?;
    Ok(id)
}
