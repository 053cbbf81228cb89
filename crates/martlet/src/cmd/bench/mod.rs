//! `martlet bench`: put a load on a broker and measure throughput, latency, CPU time and memory.
//!
//! Responsible for the course of a measurement: connect, warm up, measure, let all arrive, judge.
//! One thread and one poll drive all clients, so that the generator stays below what it measures.
//! It works against any broker. Every message is numbered; a lost, repeated or reordered one makes
//! the exit code 1.

mod connection;
mod driver;
mod histogram;
mod options;
mod process;
mod report;
mod sequence;
mod traffic;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use driver::{Driver, Purpose, Receiver, Setup};
use histogram::Histogram;
use martlet_codec::Packet;
pub(crate) use options::BenchOptions;
use options::Scenario;
use process::Usage;
use report::{Connections, Messages, Report, Usages};
use traffic::Traffic;

use super::random;

/// Without a delivery for so long, a measurement is given up.
const STALL: Duration = Duration::from_secs(3);

/// Between two progress lines.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// Runs the command.
pub(crate) fn run(options: BenchOptions) -> ExitCode {
    let result = match options.scenario {
        Scenario::Connects | Scenario::Idle => measure_connections(&options),
        Scenario::Pipes | Scenario::FanOut | Scenario::FanIn => measure_traffic(&options),
    };
    match result {
        Ok(report) => {
            let text = if options.json {
                report.json()
            } else {
                report.text()
            };
            let _ = writeln!(std::io::stdout(), "{text}");
            if report.faults.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Usage of the broker and of ourselves at one moment.
struct Snapshot {
    at: Instant,
    broker: Option<Usage>,
    generator: Option<Usage>,
    published: u64,
    delivered: u64,
}

impl Snapshot {
    fn take(options: &BenchOptions, traffic: Option<&Traffic>) -> anyhow::Result<Self> {
        let counts = traffic.map(|traffic| traffic.counts).unwrap_or_default();
        Ok(Self {
            at: Instant::now(),
            broker: options.pid.map(process::usage).transpose()?,
            generator: process::usage(std::process::id()).ok(),
            published: counts.published,
            delivered: counts.delivered,
        })
    }
}

fn usages(before: &Snapshot, after: &Snapshot) -> Usages {
    Usages {
        broker: before.broker.zip(after.broker),
        generator: before.generator.zip(after.generator),
    }
}

/// Runs pipes, fan-out or fan-in.
fn measure_traffic(options: &BenchOptions) -> anyhow::Result<Report> {
    let run = run_name();
    let mut driver = Driver::new(options)?;
    driver.connect_all(&Traffic::purposes(options, &run))?;
    if let Some(error) = driver.first_error.take() {
        anyhow::bail!("{} connections failed: {error}", driver.closed_count);
    }
    let epoch = Instant::now();
    let mut traffic = Traffic::new(options, &run, driver.receive_maximum, epoch);
    let measure_from = epoch + Duration::from_secs_f64(options.warmup);
    let measure_to = measure_from + Duration::from_secs_f64(options.duration);
    traffic.measure_from = traffic.stamp(measure_from);
    traffic.measure_to = traffic.stamp(measure_to);
    traffic.credit_all();
    let mut course = Course::new(options, &mut driver, &mut traffic);
    course.drive_until(measure_from)?;
    let before = Snapshot::take(options, Some(course.traffic))?;
    course.drive_until(measure_to)?;
    let after = Snapshot::take(options, Some(course.traffic))?;
    course.settle()?;
    let stalled = course.stalled;
    let count = after.delivered - before.delivered;
    let measured = after.at - before.at;
    let usages = usages(&before, &after);
    let mut report = Report::new(options, measured, &traffic.latencies, &usages, count);
    let per_sec = |count: u64| count as f64 / measured.as_secs_f64().max(1e-9);
    let published = after.published - before.published;
    let messages = Messages {
        published,
        delivered: count,
        published_per_sec: per_sec(published),
        delivered_per_sec: per_sec(count),
        lost: traffic.lost(),
        duplicated: traffic.counts.duplicated,
        reordered: traffic.counts.reordered,
        redelivered: traffic.counts.redelivered,
        refused: traffic.counts.refused,
    };
    report.faults = faults(&messages, &driver, stalled);
    report.messages = Some(messages);
    Ok(report)
}

fn faults(messages: &Messages, driver: &Driver, stalled: bool) -> Vec<String> {
    let counted = [
        ("lost", messages.lost),
        ("duplicated", messages.duplicated),
        ("reordered", messages.reordered),
        ("refused", messages.refused),
    ];
    let mut faults: Vec<_> = counted
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(what, count)| format!("{count} messages {what}"))
        .collect();
    if let Some(error) = &driver.first_error {
        faults.push(format!("{} connections lost: {error}", driver.closed_count));
    }
    if stalled {
        faults.push(format!("no delivery for {STALL:?}"));
    }
    faults
}

/// Turns of the loop until a moment.
struct Course<'a> {
    driver: &'a mut Driver,
    traffic: &'a mut Traffic,
    progress: Progress,
    last_delivery: Instant,
    last_delivered: u64,
    stalled: bool,
}

impl<'a> Course<'a> {
    fn new(options: &BenchOptions, driver: &'a mut Driver, traffic: &'a mut Traffic) -> Self {
        let progress = Progress::new(options);
        let last_delivery = Instant::now();
        Self {
            driver,
            traffic,
            progress,
            last_delivery,
            last_delivered: 0,
            stalled: false,
        }
    }

    fn drive_until(&mut self, end: Instant) -> anyhow::Result<()> {
        loop {
            let now = Instant::now();
            if now >= end || self.is_over(now) {
                return Ok(());
            }
            self.turn(now, end - now)?;
        }
    }

    /// Sends no more and waits until all has arrived.
    fn settle(&mut self) -> anyhow::Result<()> {
        self.traffic.stop();
        loop {
            let now = Instant::now();
            if self.traffic.is_settled() || self.is_over(now) {
                self.progress.clear();
                return Ok(());
            }
            self.turn(now, Duration::from_millis(50))?;
        }
    }

    fn turn(&mut self, now: Instant, at_most: Duration) -> anyhow::Result<()> {
        self.traffic.publish(self.driver, now);
        self.driver.write_dirty();
        let idle = self
            .traffic
            .idle_time(now)
            .min(at_most)
            .min(PROGRESS_INTERVAL);
        // The poll counts in milliseconds: below one the loop spins, to keep to the schedule.
        let timeout = Duration::from_millis(idle.as_millis() as u64);
        self.driver.turn(timeout, self.traffic)?;
        if self.traffic.counts.delivered > self.last_delivered {
            self.last_delivered = self.traffic.counts.delivered;
            self.last_delivery = now;
        }
        self.progress.show(now, self.last_delivered);
        Ok(())
    }

    /// Whether it makes no sense to go on.
    fn is_over(&mut self, now: Instant) -> bool {
        if self.traffic.is_settled() {
            self.last_delivery = now;
        } else if now.saturating_duration_since(self.last_delivery) > STALL {
            self.stalled = true;
        }
        self.stalled || self.driver.first_error.is_some()
    }
}

/// Runs connects or idle.
fn measure_connections(options: &BenchOptions) -> anyhow::Result<Report> {
    let run = run_name();
    let purposes: Vec<_> = (0..options.clients())
        .map(|index| Purpose {
            client_id: format!("bench-{run}-c{index}"),
            filter: None,
        })
        .collect();
    let mut driver = Driver::new(options)?;
    let before = Snapshot::take(options, None)?;
    let setup = driver.connect_all(&purposes)?;
    if options.scenario == Scenario::Idle {
        hold(&mut driver, Duration::from_secs_f64(options.duration))?;
    }
    let after = Snapshot::take(options, None)?;
    Ok(connections_report(
        options, &driver, &setup, &before, &after,
    ))
}

fn connections_report(
    options: &BenchOptions,
    driver: &Driver,
    setup: &Setup,
    before: &Snapshot,
    after: &Snapshot,
) -> Report {
    let mut latencies = Histogram::new();
    setup
        .latencies
        .iter()
        .for_each(|nanos| latencies.record(*nanos));
    let connected = setup.latencies.len();
    let measured = match options.scenario {
        Scenario::Idle => after.at - before.at,
        _ => setup.took,
    };
    let usages = usages(before, after);
    let mut report = Report::new(options, measured, &latencies, &usages, connected as u64);
    report.connections = Some(Connections {
        connected,
        failed: driver.closed_count,
        connected_per_sec: connected as f64 / setup.took.as_secs_f64().max(1e-9),
    });
    if let Some(error) = &driver.first_error {
        report.faults.push(format!(
            "{} connections failed or lost: {error}",
            driver.closed_count
        ));
    }
    report
}

/// Keeps the connections open for some time.
fn hold(driver: &mut Driver, duration: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + duration;
    loop {
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        driver.turn((end - now).min(PROGRESS_INTERVAL), &mut Silence)?;
        driver.write_dirty();
    }
}

/// Expects nothing.
struct Silence;

impl Receiver for Silence {
    fn receive(
        &mut self,
        _index: usize,
        packet: Packet<'_>,
        _now: Instant,
        _output: &mut Vec<u8>,
    ) -> Result<(), String> {
        Err(format!("unexpected {:?}", packet.packet_type()))
    }
}

/// A line on a terminal that tells how far it is.
struct Progress {
    shown: bool,
    enabled: bool,
    last: Instant,
    last_delivered: u64,
}

impl Progress {
    fn new(options: &BenchOptions) -> Self {
        let enabled = !options.json && std::io::stderr().is_terminal();
        Self {
            shown: false,
            enabled,
            last: Instant::now(),
            last_delivered: 0,
        }
    }

    fn show(&mut self, now: Instant, delivered: u64) {
        let since = now.saturating_duration_since(self.last);
        if !self.enabled || since < PROGRESS_INTERVAL {
            return;
        }
        let per_sec = (delivered - self.last_delivered) as f64 / since.as_secs_f64();
        eprint!("\r{delivered} delivered, {per_sec:.0} /s    ");
        self.shown = true;
        self.last = now;
        self.last_delivered = delivered;
    }

    fn clear(&mut self) {
        if self.shown {
            eprint!("\r{:60}\r", "");
        }
    }
}

/// A name that keeps runs apart in topics and client ids.
fn run_name() -> String {
    format!("{:08x}", random::number() as u32)
}
