//! Reads the inputs, puts their lines into the queue, and commits.
//!
//! Responsible for when a line counts as accepted: once it is synced. Lines that arrive together
//! share a sync. While the disk fails or is full, nothing is read, and programs that write to the
//! pipe block.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::input::folder::Folder;
use crate::input::stream::{self, Chunk, InputStream};
use crate::lines::LineSplitter;
use crate::log::{self, Level, Seldom};
use crate::metrics::{Host, OwnMetrics};
use crate::options::{Inputs, Settings};
use crate::shared::Shared;
use crate::topics::Placeholders;

/// Longest time that a line waits for others before it is synced.
const LINES_DELAY: Duration = Duration::from_millis(20);
/// Longest time that the removal of a message waits to be committed.
const ENDS_DELAY: Duration = Duration::from_millis(500);
/// Bytes of changes at which a commit does not wait.
const BATCH_BYTES: usize = 128 * 1024;
/// How long a stopping agent waits for input that has already been read.
const LAST_CHUNK_TIMEOUT: Duration = Duration::from_millis(50);
/// Time until a failed commit is retried.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Interval of scans of the folder.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which counters are logged, if they have changed.
const REPORT_INTERVAL: Duration = Duration::from_secs(300);
/// Pause between slices of housekeeping.
const TIDY_DELAY: Duration = Duration::from_millis(20);
/// Time without input after which the store releases unused space.
const REST_DELAY: Duration = Duration::from_secs(5);

/// A stream, split into lines.
struct LineStream {
    stream: InputStream,
    lines: LineSplitter,
    topic: String,
}

/// The receiving half of the agent.
pub(crate) struct Keeper<'a> {
    shared: &'a Shared,
    names: Placeholders,
    topic: String,
    metrics_topic: String,
    inputs: Inputs,
    stdin: Option<LineStream>,
    pipe: Option<LineStream>,
    folder: Option<Folder>,
    host: Host,
    began: Instant,
    /// When changes are committed next.
    due: Option<Instant>,
    /// When the store does housekeeping, and when it may release space.
    tidy_at: Option<Instant>,
    rest_at: Option<Instant>,
    /// Whether the disk has failed or is full, so that nothing is read.
    is_stuck: bool,
    scan_again: bool,
    failure: Option<String>,
    trouble: Seldom,
    dropped: Seldom,
    too_long: Seldom,
    dropped_told: u64,
    damaged_told: u64,
    last_report: String,
}

impl<'a> Keeper<'a> {
    /// Opens the inputs.
    ///
    /// # Errors
    /// An input cannot be opened. The text is a line for the user.
    pub(crate) fn open(
        settings: &Settings,
        names: Placeholders,
        shared: &'a Shared,
    ) -> Result<Self, String> {
        let inputs = settings.inputs.clone();
        let in_lines = |stream| LineStream {
            stream,
            lines: LineSplitter::new(settings.line_bytes_max),
            topic: names.topic(&settings.topic, ""),
        };
        let stdin = match inputs.stdin {
            true => {
                let stream = stream::stdin();
                let stream =
                    stream.map_err(|error| format!("cannot read standard input: {error}"))?;
                Some(in_lines(stream))
            }
            false => None,
        };
        let pipe = inputs.pipe.as_deref().map(stream::pipe).transpose()?;
        let folder = inputs
            .folder
            .as_deref()
            .map(|path| Folder::open(path, settings.line_bytes_max, &shared.queue.borrow()));
        Ok(Self {
            shared,
            stdin,
            pipe: pipe.map(in_lines),
            folder: folder.transpose()?,
            host: Host::new(names.device_id.clone()),
            topic: settings.topic.clone(),
            metrics_topic: names.topic(&settings.metrics_topic, ""),
            names,
            inputs,
            began: Instant::now(),
            due: None,
            tidy_at: None,
            rest_at: Some(Instant::now() + REST_DELAY),
            is_stuck: false,
            scan_again: false,
            failure: None,
            trouble: Seldom::default(),
            dropped: Seldom::default(),
            too_long: Seldom::default(),
            dropped_told: 0,
            damaged_told: 0,
            last_report: String::new(),
        })
    }

    /// Runs until it is stopped, or until standard input, if it is the only source, has ended and
    /// the queue is empty.
    ///
    /// # Errors
    /// An input failed, or the last lines could not be stored.
    pub(crate) async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<(), String> {
        let mut scans = ticks(self.folder.as_ref().map(|_| SCAN_INTERVAL), Duration::ZERO);
        let metrics = self.inputs.metrics;
        let mut metrics = ticks(metrics, metrics.unwrap_or_default());
        let mut reports = ticks(Some(REPORT_INTERVAL), REPORT_INTERVAL);
        while !self.is_finished() {
            let takes = !self.is_stuck;
            // The branches are polled in random order, so that continuous input cannot prevent
            // housekeeping.
            tokio::select! {
                _ = stopped.wait_for(|is_stopped| *is_stopped) => break,
                () = at(self.due) => self.commit(),
                () = self.shared.ended.notified() => self.want_commit(ENDS_DELAY),
                chunk = next(&mut self.stdin), if takes => self.take_stdin(chunk),
                chunk = next(&mut self.pipe), if takes => self.take_pipe(chunk),
                () = tick(&mut scans), if takes => self.scan(),
                () = std::future::ready(()), if takes && self.scan_again => {
                    self.scan();
                    // Lets the link run.
                    tokio::task::yield_now().await;
                }
                () = tick(&mut metrics) => self.measure(),
                () = tick(&mut reports) => self.report(),
                () = at(self.tidy_at) => self.tidy(),
                () = at(self.rest_at) => self.rest(),
            }
        }
        self.finish().await
    }

    /// Whether all input has ended and is acknowledged.
    fn is_finished(&self) -> bool {
        let has_ended = self.inputs.is_stdin_alone() && self.stdin.is_none();
        has_ended && self.due.is_none() && self.shared.queue.borrow().messages() == 0
    }

    /// Takes the input that has already been read, and commits.
    async fn finish(mut self) -> Result<(), String> {
        let streams = [self.stdin.take(), self.pipe.take()];
        for mut lines in streams.into_iter().flatten() {
            lines.stream.stop();
            // The thread may be blocked in a read, so it may not answer.
            while let Ok(chunk) = timeout(LAST_CHUNK_TIMEOUT, lines.stream.next()).await
                && self.take(&mut lines, chunk)
            {}
            self.take(&mut lines, Chunk::Ended);
        }
        let committed = self.shared.queue.borrow_mut().commit();
        committed.map_err(|error| {
            format!(
                "the messages that were accepted last are lost: \
             {error}"
            )
        })?;
        self.failure.map_or(Ok(()), Err)
    }

    fn take_stdin(&mut self, chunk: Chunk) {
        if let Some(mut stream) = self.stdin.take()
            && self.take(&mut stream, chunk)
        {
            self.stdin = Some(stream);
        }
    }

    fn take_pipe(&mut self, chunk: Chunk) {
        if let Some(mut stream) = self.pipe.take()
            && self.take(&mut stream, chunk)
        {
            self.pipe = Some(stream);
        }
    }

    /// Puts lines into the queue. Returns false if the stream has ended.
    fn take(&mut self, stream: &mut LineStream, chunk: Chunk) -> bool {
        let mut queue = self.shared.queue.borrow_mut();
        let topic = &stream.topic;
        let mut push = |line: &[u8]| {
            if !line.is_empty() {
                queue.push(topic, line, None);
            }
        };
        let before = stream.lines.too_long;
        let goes_on = match chunk {
            Chunk::Bytes(bytes) => {
                stream
                    .lines
                    .take(&bytes, |line, _| push(line.unwrap_or_default()));
                true
            }
            Chunk::WritersLeft => {
                stream.lines.finish(push);
                true
            }
            Chunk::Ended => {
                stream.lines.finish(push);
                false
            }
            Chunk::Failed(why) => {
                stream.lines.finish(push);
                log::line(Level::Error, &why);
                self.failure = Some(why);
                false
            }
        };
        drop(queue);
        self.tell_too_long(stream.lines.too_long - before);
        self.want_commit(LINES_DELAY);
        goes_on
    }

    fn scan(&mut self) {
        let Some(folder) = &mut self.folder else {
            return;
        };
        let now = self.began.elapsed();
        let scan = {
            let mut queue = self.shared.queue.borrow_mut();
            folder.scan(&mut queue, now, |file| self.names.topic(&self.topic, file))
        };
        self.scan_again = scan.more;
        self.tell_too_long(scan.too_long);
        if self.shared.queue.borrow().uncommitted_bytes() > 0 {
            self.want_commit(LINES_DELAY);
        }
    }

    fn measure(&mut self) {
        if self.is_stuck {
            return;
        }
        let mut queue = self.shared.queue.borrow_mut();
        let counts = queue.counts();
        let metrics = self.host.read(OwnMetrics {
            agent_queue_messages: queue.messages(),
            agent_queue_bytes: queue.bytes(),
            agent_acknowledged: counts.acknowledged,
            agent_dropped: counts.dropped,
            agent_refused: counts.refused,
        });
        queue.push(&self.metrics_topic, &metrics, None);
        drop(queue);
        self.want_commit(LINES_DELAY);
    }

    /// Requests a commit after this time at the latest; at once if many changes wait.
    fn want_commit(&mut self, delay: Duration) {
        let at = Instant::now() + delay;
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
        let waiting = self.shared.queue.borrow().uncommitted_bytes();
        if waiting >= BATCH_BYTES && !self.is_stuck {
            self.commit();
        }
    }

    fn commit(&mut self) {
        let committed = self.shared.queue.borrow_mut().commit();
        if let Err(error) = committed {
            self.stuck(&format!("cannot write the queue: {error}"));
            return;
        }
        self.due = None;
        self.shared.committed.notify_one();
        self.tell_dropped();
        self.tell_damaged();
        let now = Instant::now();
        self.rest_at = Some(now + REST_DELAY);
        self.tidy();
        if self.shared.queue.borrow().is_low() {
            self.stuck("the disk has no room for more messages in the queue");
        } else if std::mem::take(&mut self.is_stuck) {
            log::line(Level::Info, "the queue can be written again: input is read");
        }
    }

    fn stuck(&mut self, why: &str) {
        let text = format!("{why}; no input is read until it can be written again");
        self.trouble.line(Level::Error, &text);
        self.is_stuck = true;
        self.due = Some(Instant::now() + RETRY_DELAY);
    }

    fn tidy(&mut self) {
        let more = self.shared.queue.borrow_mut().housekeep();
        self.tidy_at = match more {
            Ok(true) => Some(Instant::now() + TIDY_DELAY),
            Ok(false) => None,
            Err(error) => {
                let text = format!("cannot tidy up the queue: {error}");
                self.trouble.line(Level::Warning, &text);
                Some(Instant::now() + RETRY_DELAY)
            }
        };
    }

    fn rest(&mut self) {
        self.rest_at = None;
        // If the error persists, the next commit reports it.
        let _ = self.shared.queue.borrow_mut().rest();
        self.tidy_at = Some(Instant::now());
    }

    fn tell_dropped(&mut self) {
        let queue = self.shared.queue.borrow();
        let dropped = queue.counts().dropped;
        if dropped > self.dropped_told {
            let text = format!(
                "the queue is full ({} messages, {} bytes): the oldest are dropped, {dropped} since \
                 the start",
                queue.messages(),
                queue.bytes()
            );
            self.dropped.line(Level::Warning, &text);
            self.dropped_told = dropped;
        }
    }

    /// Logs the messages of the queue that are damaged on the disk, and so are not sent.
    fn tell_damaged(&mut self) {
        let damaged = self.shared.queue.borrow().counts().damaged;
        if damaged > self.damaged_told {
            let text = format!(
                "{} messages of the queue are damaged on the disk and are not sent",
                damaged - self.damaged_told
            );
            log::line(Level::Error, &text);
            self.damaged_told = damaged;
        }
    }

    fn tell_too_long(&self, count: u64) {
        if count > 0 {
            let text = format!("{count} lines are longer than --line-bytes: they are left out");
            self.too_long.line(Level::Warning, &text);
        }
    }

    fn report(&mut self) {
        self.tell_damaged();
        let report = self.shared.report();
        if report != self.last_report {
            log::line(Level::Info, &report);
            self.last_report = report;
        }
    }
}

/// Waits until this moment; forever if there is none.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Returns the next chunk of a stream; never if there is no stream.
async fn next(lines: &mut Option<LineStream>) -> Chunk {
    match lines {
        Some(lines) => lines.stream.next().await,
        None => std::future::pending().await,
    }
}

/// Returns ticks with this period, the first one after `first`.
fn ticks(period: Option<Duration>, first: Duration) -> Option<Interval> {
    let period = period?;
    let mut ticks = interval_at(Instant::now() + first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    Some(ticks)
}

async fn tick(ticks: &mut Option<Interval>) {
    match ticks {
        Some(ticks) => {
            ticks.tick().await;
        }
        None => std::future::pending().await,
    }
}
