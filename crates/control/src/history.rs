//! The main numbers of the node over the last day: two rings in memory, one fine and short, one
//! coarse and long, for charts that are available at once.
//!
//! Both are full after their time and never larger: 15 numbers of 4 bytes and a time, 8,640 times
//! every ten seconds and 300 times every second, are 0.6 MB. A restart loses them; who wants more
//! has a Prometheus read `/metrics`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use martlet_broker::Counters;
use tokio::time::MissedTickBehavior;

use crate::control::{Control, ControlError};
use crate::latencies::Latencies;
use crate::process::{cpu_secs, memory_bytes};
use crate::wall_clock::now_ms;

/// Declares the closed list of series.
macro_rules! series {
    ($( $name:ident $text:literal $unit:literal $what:literal; )*) => {
        /// One of the numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Series {
            $( #[doc = $what] $name, )*
        }

        impl Series {
            /// All there are.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }

            /// What it is counted in.
            pub fn unit(self) -> &'static str {
                match self { $( Self::$name => $unit, )* }
            }

            /// What it means.
            pub fn meaning(self) -> &'static str {
                match self { $( Self::$name => $what, )* }
            }
        }
    };
}

series! {
    MessagesIn "messages_in" "1/s" "PUBLISH packets received.";
    MessagesOut "messages_out" "1/s" "PUBLISH packets sent.";
    BytesIn "bytes_in" "B/s" "Bytes received.";
    BytesOut "bytes_out" "B/s" "Bytes written.";
    Delivered "delivered" "1/s" "Messages delivered.";
    Dropped "dropped" "1/s" "Messages dropped, all reasons.";
    Connects "connects" "1/s" "CONNECTs accepted.";
    Refused "refused" "1/s" "CONNECTs refused.";
    Clients "clients" "1" "Clients with a connection.";
    Sessions "sessions" "1" "Sessions, with a connection or without.";
    Queued "queued" "1" "Messages held: queued, in flight, or in an output buffer.";
    LatencyP50 "latency_p50" "ms" "Half of the messages were under way inside the node no longer.";
    LatencyP99 "latency_p99" "ms" "99 of 100 were not.";
    Cpu "cpu" "cores" "CPU time of the process per time.";
    Memory "memory" "B" "Resident memory of the process.";
}

/// How many there are.
const SERIES: usize = Series::ALL.len();

impl Series {
    /// By its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.name() == name)
    }

    /// Of several values the highest counts: a reader of the slowest wants no average of it.
    fn is_highest(self) -> bool {
        matches!(self, Self::LatencyP99)
    }
}

/// Seconds between two samples, and number of samples that are kept.
const FINE: (u64, usize) = (1, 300);
const COARSE: (u64, usize) = (10, 8_640);
/// Sessions above which waiting messages are counted only every ten seconds: that count visits each
/// session.
const FINE_SESSIONS_MAX: u64 = 5_000;
/// Points of one answer, at most.
pub const POINTS_MAX: u64 = 10_000;
/// Points of an answer by default, approximately.
const POINTS: u64 = 360;

/// The numbers at one moment; what is not known is no number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sample {
    at_ms: u64,
    values: [f32; SERIES],
}

/// The rings.
#[derive(Debug, Default)]
pub struct History(Mutex<Rings>);

#[derive(Debug, Default)]
struct Rings {
    fine: VecDeque<Sample>,
    coarse: VecDeque<Sample>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// From then on, milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// Until then.
    pub to_ms: u64,
    /// Seconds between two points; none: as many as make a chart.
    pub step_secs: Option<u64>,
}

/// What was found: for each time one value of each series.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Seconds between two points.
    pub step_secs: u64,
    /// When each point begins, milliseconds since the Unix epoch. Where nothing is known there is
    /// none.
    pub at_ms: Vec<u64>,
    /// Of each series that was asked for, in that order, a value for each time.
    pub values: Vec<Vec<Option<f32>>>,
}

impl History {
    /// The numbers of a time. A point is the mean of the samples that it stands for; of the highest
    /// latency it is the highest.
    ///
    /// # Errors
    /// Too many points, or no time at all; in words.
    pub fn find(&self, series: &[Series], range: Range) -> Result<Found, String> {
        let Range { from_ms, to_ms, .. } = range;
        if from_ms >= to_ms {
            return Err("the end has to be after the beginning".to_owned());
        }
        let rings = self.lock();
        // The last five minutes are a second shorter than that by the time of the request.
        let begin_ms = from_ms + COARSE.0 * 1000;
        let is_fine = rings.fine.len() < FINE.1
            || rings.fine.front().is_some_and(|one| one.at_ms <= begin_ms);
        let finest = if is_fine { FINE.0 } else { COARSE.0 };
        let step_secs = match range.step_secs {
            Some(step) => step.max(1),
            None => ((to_ms - from_ms) / 1000 / POINTS).max(finest),
        };
        let points = (to_ms - from_ms).div_ceil(step_secs * 1000);
        if points > POINTS_MAX {
            return Err(format!(
                "{points} points: {POINTS_MAX} at most, by a longer step or a shorter time"
            ));
        }
        let ring = match is_fine && step_secs < COARSE.0 {
            true => &rings.fine,
            false => &rings.coarse,
        };
        let begin = ring.partition_point(|sample| sample.at_ms < from_ms);
        let samples = ring.range(begin..);
        let samples = samples.take_while(|sample| sample.at_ms < to_ms);
        Ok(gathered(series, samples, step_secs))
    }

    fn push(&self, sample: Sample, is_fine: bool, is_coarse: bool) {
        let mut rings = self.lock();
        if is_fine {
            put(&mut rings.fine, sample, FINE.1);
        }
        if is_coarse {
            put(&mut rings.coarse, sample, COARSE.1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(ring: &mut VecDeque<Sample>, sample: Sample, kept: usize) {
    if ring.len() >= kept {
        ring.pop_front();
    }
    ring.push_back(sample);
}

/// Samples in their steps.
fn gathered<'a>(
    series: &[Series],
    samples: impl Iterator<Item = &'a Sample>,
    step_secs: u64,
) -> Found {
    let mut found = Found {
        step_secs,
        at_ms: Vec::new(),
        values: vec![Vec::new(); series.len()],
    };
    let step_ms = step_secs * 1000;
    let mut of_step: Vec<&Sample> = Vec::new();
    let mut end = |of_step: &mut Vec<&Sample>| {
        let Some(first) = of_step.first() else {
            return;
        };
        found.at_ms.push(first.at_ms / step_ms * step_ms);
        for (one, values) in series.iter().zip(&mut found.values) {
            values.push(point(*one, of_step));
        }
        of_step.clear();
    };
    for sample in samples {
        if of_step
            .first()
            .is_some_and(|first| first.at_ms / step_ms != sample.at_ms / step_ms)
        {
            end(&mut of_step);
        }
        of_step.push(sample);
    }
    end(&mut of_step);
    found
}

/// What these samples are together.
fn point(series: Series, samples: &[&Sample]) -> Option<f32> {
    let values = samples.iter().map(|sample| sample.values[series as usize]);
    let known: Vec<f32> = values.filter(|value| value.is_finite()).collect();
    if known.is_empty() {
        return None;
    }
    let highest = known.iter().copied().fold(f32::MIN, f32::max);
    let mean = known.iter().sum::<f32>() / known.len() as f32;
    Some(if series.is_highest() { highest } else { mean })
}

/// What the numbers are made from: the difference of two of them.
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
    let (mut fine, mut coarse): (Option<Totals>, Option<Totals>) = (None, None);
    loop {
        ticks.tick().await;
        let since = |totals: &Option<Totals>| totals.as_ref().map(|one| one.at.elapsed());
        let is_due = since(&coarse).is_none_or(|since| since.as_millis() >= due_ms(COARSE.0));
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
        if let Some(before) = &fine {
            control
                .history
                .push(now.sample_since(before, at_ms), true, false);
        }
        if is_due {
            if let Some(before) = &coarse {
                control
                    .history
                    .push(now.sample_since(before, at_ms), false, true);
            }
            coarse = Some(now.clone());
        }
        fine = Some(now);
    }
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

/// What came between two moments.
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

    fn sample(at_secs: u64, value: f32) -> Sample {
        Sample {
            at_ms: at_secs * 1000 + 7,
            values: [value; SERIES],
        }
    }

    fn range(from_secs: u64, to_secs: u64, step_secs: Option<u64>) -> Range {
        Range {
            from_ms: from_secs * 1000,
            to_ms: to_secs * 1000,
            step_secs,
        }
    }

    #[test]
    fn no_more_is_kept_than_a_day_and_five_minutes() {
        let history = History::default();
        for second in 0..100_000 {
            history.push(sample(second, 1.0), true, second % 10 == 0);
        }
        let rings = history.lock();
        assert_eq!((rings.fine.len(), rings.coarse.len()), (300, 8_640));
        let bytes = (rings.fine.capacity() + rings.coarse.capacity()) * size_of::<Sample>();
        assert!(bytes < 2_000_000, "{bytes}");
    }

    #[test]
    fn a_point_is_the_mean_of_its_samples_and_of_the_slowest_the_highest() {
        let history = History::default();
        for second in 1_000..1_100 {
            history.push(sample(second, second as f32), true, second % 10 == 0);
        }
        let all = [Series::MessagesIn, Series::LatencyP99];
        let found = history.find(&all, range(1_000, 1_020, Some(5)));
        let found = found.unwrap();
        assert_eq!(found.at_ms, [1_000_000, 1_005_000, 1_010_000, 1_015_000]);
        assert_eq!(found.values[0][0], Some(1_002.0));
        assert_eq!(found.values[1][0], Some(1_004.0));
        // What is older than the fine ring comes from the coarse one.
        for second in 1_100..1_400 {
            history.push(sample(second, second as f32), true, second % 10 == 0);
        }
        let found = history.find(&all, range(1_000, 1_040, None)).unwrap();
        assert_eq!((found.step_secs, found.at_ms.len()), (10, 4));
        assert!(history.find(&all, range(5, 5, None)).is_err());
        assert!(history.find(&all, range(0, 86_400, Some(1))).is_err());
    }

    #[test]
    fn what_is_not_known_is_no_number() {
        let history = History::default();
        history.push(sample(10, f32::NAN), true, true);
        let found = history.find(&[Series::Cpu], range(0, 60, None)).unwrap();
        assert_eq!(found.values, [[None]]);
    }

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

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_is_looked_at() {}
}
