//! Kills a broker with `kill -9` at random moments while clients publish and subscribe, restarts
//! it, and finally compares the acknowledged messages with the received ones.
//!
//! It uses a broker only by its command line and by MQTT, so it can test any broker. Clients record
//! what the broker has promised (`ledger`) and keep their sessions over each crash (`publisher`,
//! `subscriber`). The `ledger` is evaluated when all messages have been delivered.
#![forbid(unsafe_code)]

mod broker;
mod ledger;
mod publisher;
mod subscriber;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use martlet_client::Endpoint;

pub use broker::Broker;
pub use ledger::{Ledger, Totals, Violations};

/// A plan of kills and load.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Program and arguments; `{port}` and `{dir}` are replaced.
    pub command: Vec<String>,
    /// Data directory of the broker; empty or missing.
    pub directory: PathBuf,
    /// Number of kills.
    pub kills: u32,
    /// Seed of the random moments of the kills.
    pub seed: u64,
    /// Longest lifetime of the broker, from when it accepts connections. Each lifetime is random.
    pub life_max: Duration,
    /// Publishers, each with its own topics.
    pub publishers: u16,
    /// Subscribers to all topics; every other one is offline at times.
    pub subscribers: u16,
    /// Number of messages in flight per publisher.
    pub window: u16,
    /// Number of kills between reports of progress.
    pub progress_every: u32,
}

/// Result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Totals of the run.
    pub totals: Totals,
    /// Times from each start to the first CONNACK.
    pub recoveries: Vec<Duration>,
    /// Promises that the broker has broken; none if it works correctly.
    pub violations: Violations,
}

/// State shared by all clients of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) endpoint: Endpoint,
    pub(crate) ledger: Ledger,
    pub(crate) window: u16,
    /// Whether publishers have stopped creating messages.
    pub(crate) finishing: AtomicBool,
    /// Whether the run has ended.
    pub(crate) ended: AtomicBool,
}

impl Run {
    pub(crate) fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Relaxed)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

/// Time without a delivery after which waiting ends; all acknowledged messages should arrive.
const STANDSTILL: Duration = Duration::from_secs(20);

/// Runs a plan.
///
/// # Errors
/// The broker cannot be started, or no longer accepts connections.
pub async fn run(plan: &Plan) -> anyhow::Result<Outcome> {
    let mut broker = Broker::new(&plan.command, &plan.directory)?;
    let run = Arc::new(Run {
        endpoint: Endpoint::tcp("127.0.0.1", broker.port()),
        ledger: Ledger::new(plan.publishers, plan.subscribers),
        window: plan.window,
        finishing: AtomicBool::new(false),
        ended: AtomicBool::new(false),
    });
    broker.start()?;
    broker.accepts().await?;
    let mut clients = Vec::new();
    for number in 0..plan.subscribers {
        let run = Arc::clone(&run);
        clients.push(tokio::spawn(subscriber::keep_subscribed(run, number)));
    }
    for member in 0..ledger::MEMBERS {
        let run = Arc::clone(&run);
        clients.push(tokio::spawn(subscriber::keep_sharing(run, member)));
    }
    wait_for(|| run.ledger.all_subscribed(), Duration::from_secs(30))
        .await
        .context("not all subscribers got a SUBACK")?;
    for number in 0..plan.publishers {
        let run = Arc::clone(&run);
        clients.push(tokio::spawn(publisher::keep_publishing(run, number)));
    }
    let mut random = Random(plan.seed | 1);
    let mut recoveries = Vec::new();
    for kill in 1..=plan.kills {
        let life_us = random.below(plan.life_max.as_micros() as u64);
        tokio::time::sleep(Duration::from_micros(life_us)).await;
        broker.kill()?;
        let started = Instant::now();
        broker.start()?;
        broker.accepts().await?;
        recoveries.push(started.elapsed());
        if plan.progress_every > 0 && kill % plan.progress_every == 0 {
            let totals = run.ledger.totals();
            eprintln!("{kill} kills: {totals}");
        }
    }
    run.finishing.store(true, Ordering::Relaxed);
    let settled = settle(&run).await;
    let mut violations = run.ledger.violations();
    if !settled && violations.count == 0 {
        let violation = format!(
            "not everything was acknowledged and delivered, and nothing came for {} s: {}",
            STANDSTILL.as_secs(),
            run.ledger.totals()
        );
        violations.extend(std::iter::once(violation));
    }
    violations.extend(subscriber::check_retained(&run).await?.into_iter());
    run.ended.store(true, Ordering::Relaxed);
    clients.iter().for_each(tokio::task::JoinHandle::abort);
    broker.kill()?;
    Ok(Outcome {
        totals: run.ledger.totals(),
        recoveries,
        violations,
    })
}

/// Waits until all messages are acknowledged and delivered. Returns false if there is no more
/// progress before that.
async fn settle(run: &Run) -> bool {
    let mut before = run.ledger.totals();
    let mut moved = Instant::now();
    while !run.ledger.is_settled() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = run.ledger.totals();
        if now != before {
            (before, moved) = (now, Instant::now());
        } else if moved.elapsed() > STANDSTILL {
            return false;
        }
    }
    true
}

async fn wait_for(done: impl Fn() -> bool, at_most: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + at_most;
    while !done() {
        if Instant::now() >= end {
            bail!("not within {} s", at_most.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// A small generator (xorshift). The moments need not be unpredictable.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}
