//! The scenarios connects and idle: connections are opened, and then do nothing.
//!
//! Responsible for the speed and cost of connecting, and for the memory per connection. Sends no
//! messages. MQTT 5.0 §3.1.

use std::time::{Duration, Instant};

use martlet_codec::Packet;

use super::driver::{Driver, Purpose, Receiver, SessionLife, Setup, expect_open_files};
use super::histogram::Histogram;
use super::interrupt;
use super::options::{Options, Scenario};
use super::progress::{PROGRESS_INTERVAL, Progress};
use super::report::{Connections, Report};
use super::{UsageSample, run_name, usages};

/// One out of this number of connections is opened first, to separate the broker's one-time
/// allocations.
const FIRST_SHARE: usize = 8;

/// Runs the scenario connects or idle.
pub(super) fn measure(options: &Options) -> anyhow::Result<Report> {
    // Before any connection is opened, since opening all may take long.
    expect_open_files(options.clients() as u64)?;
    let run = run_name();
    let purposes: Vec<_> = (0..options.clients())
        .map(|index| Purpose {
            client_id: format!("bench-{run}-{index}"),
            filters: Vec::new(),
            session: SessionLife::Passing,
        })
        .collect();
    let mut driver = Driver::new(options)?;
    let mut progress = Progress::new(options);
    let before = UsageSample::take(options, None)?;
    if options.scenario == Scenario::Connects {
        let setup = driver.connect_all(&purposes, &mut progress, &mut Silence)?;
        let after = UsageSample::take(options, None)?;
        return Ok(report(options, &driver, &setup, &before, &after));
    }
    let (first, further) = purposes.split_at(purposes.len() / FIRST_SHARE);
    let mut setup = driver.connect_all(first, &mut progress, &mut Silence)?;
    let first = UsageSample::take(options, None)?;
    let all = driver.connect_all(further, &mut progress, &mut Silence)?;
    setup.took += all.took;
    setup.latencies.extend(all.latencies);
    hold(&mut driver, Duration::from_secs_f64(options.duration))?;
    let after = UsageSample::take(options, None)?;
    let mut report = report(options, &driver, &setup, &before, &after);
    if let Some((first, after)) = first.broker.zip(after.broker)
        && !interrupt::is_to_end()
    {
        report.grown_since_first(&first, &after, further.len());
    }
    Ok(report)
}

fn report(
    options: &Options,
    driver: &Driver,
    setup: &Setup,
    before: &UsageSample,
    after: &UsageSample,
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
        if now >= end || interrupt::is_to_end() {
            return Ok(());
        }
        driver.turn((end - now).min(PROGRESS_INTERVAL), &mut Silence)?;
        driver.write_dirty();
    }
}

/// A receiver that expects no packets.
pub(super) struct Silence;

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
