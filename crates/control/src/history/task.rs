//! The task that takes the numbers, as long as the node runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use martlet_broker::Counters;
use tokio::time::MissedTickBehavior;

use super::{COARSE, FINE, Ring, SERIES, Sample, Series, WEEK};
use crate::control::Latencies;
use crate::control::{Control, ControlError};
use crate::process::{cpu_secs, memory_bytes};
use crate::wall_clock::now_ms;

/// Sessions above which waiting messages are counted only every ten seconds: that count visits each
/// session.
const FINE_SESSIONS_MAX: u64 = 5_000;

/// Totals that the numbers are made from: the difference of two of them.
#[derive(Clone)]
struct Totals {
    at: Instant,
    counters: Counters,
    latencies: Latencies,
    cpu_secs: Option<f64>,
}

impl Totals {
    async fn now(control: &Control) -> Result<Self, ControlError> {
        Ok(Self {
            at: Instant::now(),
            counters: control.snapshot().await?,
            latencies: summed(control.latencies()),
            cpu_secs: cpu_secs(),
        })
    }

    fn sample_since(&self, before: &Self, at_ms: u64) -> Sample {
        let secs = (self.at - before.at).as_secs_f64().max(0.001);
        let (now, then) = (&self.counters, &before.counters);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / secs;
        let cpu = self.cpu_secs.zip(before.cpu_secs);
        let latencies = of_both(&self.latencies, &before.latencies);
        let unknown = f64::NAN;
        let value = |series: Series| match series {
            Series::MessagesIn => rate(now.publishes_received, then.publishes_received),
            Series::MessagesOut => rate(now.publishes_sent, then.publishes_sent),
            Series::BytesIn => rate(now.bytes_received, then.bytes_received),
            Series::BytesOut => rate(now.bytes_sent, then.bytes_sent),
            Series::Delivered => rate(now.delivered, then.delivered),
            Series::Dropped => rate(now.lost_total(), then.lost_total()),
            Series::Connects => rate(now.connects_accepted, then.connects_accepted),
            Series::Refused => rate(now.connects_refused, then.connects_refused),
            Series::Clients => now.connections as f64,
            Series::Sessions => now.sessions as f64,
            Series::Queued => now.held as f64,
            Series::LatencyP50 => quantile(&latencies, 0.5).map_or(unknown, |secs| secs * 1000.0),
            Series::LatencyP99 => quantile(&latencies, 0.99).map_or(unknown, |secs| secs * 1000.0),
            Series::Cpu => cpu.map_or(unknown, |(now, then)| (now - then) / secs),
            Series::Memory => memory_bytes().map_or(unknown, |bytes| bytes as f64),
        };
        let mut values = [0.0; SERIES];
        for series in Series::ALL {
            values[*series as usize] = value(*series) as f32;
        }
        Sample { at_ms, values }
    }
}

/// Writes the numbers down as long as the node runs.
pub async fn keep(control: Arc<Control>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(FINE.0));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut fine, mut coarse) = (None::<Totals>, None::<Totals>);
    let mut week = None::<Totals>;
    loop {
        ticks.tick().await;
        let is_due = is_over(&coarse, COARSE.0);
        let sessions = coarse.as_ref().map_or(0, |one| one.counters.sessions);
        let is_fine = sessions <= FINE_SESSIONS_MAX;
        if !is_due && !is_fine {
            continue;
        }
        // A shard that does not answer leaves a gap.
        let Ok(now) = Totals::now(&control).await else {
            continue;
        };
        let at_ms = now_ms();
        let note = |before: &Option<Totals>, ring| {
            if let Some(before) = before {
                control.history.push(now.sample_since(before, at_ms), ring);
            }
        };
        note(&fine, Ring::Fine);
        if is_due {
            note(&coarse, Ring::Coarse);
            if is_over(&week, WEEK.0) {
                note(&week, Ring::Week);
                week = Some(now.clone());
            }
            coarse = Some(now.clone());
        }
        fine = Some(now);
    }
}

/// The time since these numbers is over, or there are none.
fn is_over(before: &Option<Totals>, secs: u64) -> bool {
    let since = before.as_ref().map(|one| one.at.elapsed());
    since.is_none_or(|since| since.as_millis() >= due_ms(secs))
}

/// A tick that is a little early counts too.
fn due_ms(secs: u64) -> u128 {
    u128::from(secs * 1000 - 500)
}

fn summed(all: Vec<Latencies>) -> Latencies {
    let mut sum = Latencies::default();
    for one in all {
        if sum.buckets.is_empty() {
            sum = one;
            continue;
        }
        for (bucket, (_, count)) in sum.buckets.iter_mut().zip(one.buckets) {
            bucket.1 += count;
        }
        sum.sum_secs += one.sum_secs;
    }
    sum
}

/// Latencies that came between two moments.
fn of_both(now: &Latencies, then: &Latencies) -> Vec<(f64, u64)> {
    let before = then.buckets.iter().map(|(_, count)| *count);
    let both = now.buckets.iter().zip(before.chain(std::iter::repeat(0)));
    both.map(|((bound, count), before)| (*bound, count.saturating_sub(before)))
        .collect()
}

/// Returns the time in seconds that this part of the messages took, at most: within a bucket as if
/// they were spread evenly. None if there were no messages.
fn quantile(buckets: &[(f64, u64)], part: f64) -> Option<f64> {
    let count: u64 = buckets.iter().map(|(_, count)| count).sum();
    if count == 0 {
        return None;
    }
    let wanted = part * count as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (bound, count) in buckets {
        let count = *count as f64;
        if below + count >= wanted && count > 0.0 {
            // The last has no end.
            let upper = if bound.is_finite() { *bound } else { lower };
            return Some(lower + (upper - lower) * ((wanted - below) / count));
        }
        below += count;
        lower = *bound;
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_its_bucket() {
        let buckets = [(0.001, 50), (0.01, 49), (0.1, 1), (f64::INFINITY, 0)];
        let half = quantile(&buckets, 0.5).unwrap();
        assert!((half - 0.001).abs() < 1e-9, "{half}");
        let most = quantile(&buckets, 0.99).unwrap();
        assert!((most - 0.01).abs() < 1e-9, "{most}");
        assert_eq!(quantile(&[(0.1, 0)], 0.5), None);
        // Beyond the last bound nothing is known but that.
        let slow = quantile(&[(0.1, 0), (f64::INFINITY, 3)], 0.99).unwrap();
        assert!((slow - 0.1).abs() < 1e-9, "{slow}");
    }
}
