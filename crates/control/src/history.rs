//! The main numbers of the node over the last week: three rings in memory, from fine and short to
//! coarse and long, for charts that are available at once.
//!
//! They are full after their time and never larger: 15 numbers of 4 bytes and a time, 300 times
//! every second, 8,640 times every ten seconds and 1,008 times every ten minutes, are 0.7 MB. A
//! restart loses them. For more, let Prometheus read `/metrics`.
//!
//! * `task`: taking the numbers

pub mod task;

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

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

            /// Name of the series.
            pub fn name(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }

            /// Unit of the values.
            pub fn unit(self) -> &'static str {
                match self { $( Self::$name => $unit, )* }
            }

            /// Meaning of the values.
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
    /// Finds a series by its name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|finite| finite.name() == name)
    }

    /// Whether the highest of several values counts: an average of the slowest is of no use.
    fn is_highest(self) -> bool {
        matches!(self, Self::LatencyP99)
    }
}

/// Seconds between two samples, and number of samples that are kept.
const FINE: (u64, usize) = (1, 300);
const COARSE: (u64, usize) = (10, 8_640);
const WEEK: (u64, usize) = (600, 1_008);
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
    week: VecDeque<Sample>,
}

/// Which of the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ring {
    Fine,
    Coarse,
    Week,
}

/// Range that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// From then on, milliseconds since the Unix epoch.
    pub from_ms: u64,
    /// Until then.
    pub to_ms: u64,
    /// Seconds between two points; none: as many as make a chart.
    pub step_secs: Option<u64>,
}

/// Values that were found: for each time one value of each series.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryValues {
    /// Seconds between two points.
    pub step_secs: u64,
    /// When each point begins, milliseconds since the Unix epoch. Where nothing is known there is
    /// none.
    pub at_ms: Vec<u64>,
    /// For each series that was asked for, in that order, a value for each time.
    pub values: Vec<Vec<Option<f32>>>,
}

impl History {
    /// The numbers of a time. A point is the mean of the samples that it stands for; of the highest
    /// latency it is the highest.
    ///
    /// # Errors
    /// Too many points, or no time at all; in words.
    pub fn find(&self, series: &[Series], range: Range) -> Result<HistoryValues, String> {
        let Range { from_ms, to_ms, .. } = range;
        if from_ms >= to_ms {
            return Err("the end must be after the beginning".to_owned());
        }
        let rings = self.lock();
        // The last five minutes are a second shorter than that by the time of the request.
        let begin_ms = from_ms + COARSE.0 * 1000;
        let is_fine = rings.fine.len() < FINE.1
            || rings.fine.front().is_some_and(|one| one.at_ms <= begin_ms);
        let is_older = rings.begins_after(begin_ms);
        let finest = match (is_fine, is_older) {
            (true, _) => FINE.0,
            (false, false) => COARSE.0,
            (false, true) => WEEK.0,
        };
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
        let samples = match is_fine && step_secs < COARSE.0 {
            true => between(&rings.fine, from_ms, to_ms).collect::<Vec<_>>(),
            false => {
                // What the day does not have comes from the week.
                let day_ms = rings.coarse.front().map_or(to_ms, |first| first.at_ms);
                let before = between(&rings.week, from_ms, to_ms.min(day_ms));
                before
                    .chain(between(&rings.coarse, from_ms, to_ms))
                    .collect()
            }
        };
        Ok(gathered(series, samples.into_iter(), step_secs))
    }

    fn push(&self, sample: Sample, ring: Ring) {
        let mut rings = self.lock();
        match ring {
            Ring::Fine => put(&mut rings.fine, sample, FINE.1),
            Ring::Coarse => put(&mut rings.coarse, sample, COARSE.1),
            Ring::Week => put(&mut rings.week, sample, WEEK.1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Rings> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rings {
    /// The day is full and begins after this time, so that older numbers are those of the week.
    fn begins_after(&self, at_ms: u64) -> bool {
        let first = self.coarse.front();
        self.coarse.len() >= COARSE.1 && first.is_some_and(|first| first.at_ms > at_ms)
    }
}

/// Samples from one time to before another.
fn between(ring: &VecDeque<Sample>, from_ms: u64, to_ms: u64) -> impl Iterator<Item = &Sample> {
    let begin = ring.partition_point(|sample| sample.at_ms < from_ms);
    let samples = ring.range(begin..);
    samples.take_while(move |sample| sample.at_ms < to_ms)
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
) -> HistoryValues {
    let mut found = HistoryValues {
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

/// Value of these samples together.
fn point(series: Series, samples: &[&Sample]) -> Option<f32> {
    let values = samples.iter().map(|sample| sample.values[series as usize]);
    let finite: Vec<f32> = values.filter(|value| value.is_finite()).collect();
    if finite.is_empty() {
        return None;
    }
    let highest = finite.iter().copied().fold(f32::MIN, f32::max);
    let mean = finite.iter().sum::<f32>() / finite.len() as f32;
    Some(if series.is_highest() { highest } else { mean })
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

    fn push(history: &History, second: u64, value: f32) {
        let one = sample(second, value);
        history.push(one, Ring::Fine);
        for (every, ring) in [(COARSE.0, Ring::Coarse), (WEEK.0, Ring::Week)] {
            if second.is_multiple_of(every) {
                history.push(one, ring);
            }
        }
    }

    #[test]
    fn no_more_is_kept_than_a_week_a_day_and_five_minutes() {
        let history = History::default();
        for second in 0..700_000 {
            push(&history, second, 1.0);
        }
        let rings = history.lock();
        let kept = [&rings.fine, &rings.coarse, &rings.week];
        assert_eq!(kept.map(VecDeque::len), [300, 8_640, 1_008]);
        let places: usize = kept.iter().map(|ring| ring.capacity()).sum();
        assert!(places * size_of::<Sample>() < 2_000_000, "{places}");
    }

    #[test]
    fn the_last_week_has_the_day_too() {
        let history = History::default();
        let (day, now) = (86_400, 195 * 3_600);
        for second in 0..now {
            // Ten times as many on the last day.
            push(
                &history,
                second,
                if second < now - day { 1.0 } else { 10.0 },
            );
        }
        let requested = [Series::MessagesIn];
        let found = history.find(&requested, range(now - 7 * day, now, Some(3_600)));
        let found = found.unwrap();
        assert!(
            (167..=169).contains(&found.at_ms.len()),
            "{}",
            found.at_ms.len()
        );
        let count: f32 = found.values[0].iter().flatten().sum::<f32>() * 3_600.0;
        let expected = (6 * day + 10 * day) as f32;
        assert!((count / expected - 1.0).abs() < 0.001, "{count} {expected}");
        let found = history
            .find(&requested, range(now - 2 * day, now, None))
            .unwrap();
        assert_eq!(found.step_secs, 600);
    }

    #[test]
    fn a_point_is_the_mean_of_its_samples_and_of_the_slowest_the_highest() {
        let history = History::default();
        for second in 1_000..1_100 {
            push(&history, second, second as f32);
        }
        let all = [Series::MessagesIn, Series::LatencyP99];
        let found = history.find(&all, range(1_000, 1_020, Some(5)));
        let found = found.unwrap();
        assert_eq!(found.at_ms, [1_000_000, 1_005_000, 1_010_000, 1_015_000]);
        assert_eq!(found.values[0][0], Some(1_002.0));
        assert_eq!(found.values[1][0], Some(1_004.0));
        // What is older than the fine ring comes from the coarse one.
        for second in 1_100..1_400 {
            push(&history, second, second as f32);
        }
        let found = history.find(&all, range(1_000, 1_040, None)).unwrap();
        assert_eq!((found.step_secs, found.at_ms.len()), (10, 4));
        assert!(history.find(&all, range(5, 5, None)).is_err());
        assert!(history.find(&all, range(0, 86_400, Some(1))).is_err());
    }

    #[test]
    fn what_is_not_known_is_no_number() {
        let history = History::default();
        push(&history, 10, f32::NAN);
        let found = history.find(&[Series::Cpu], range(0, 60, None)).unwrap();
        assert_eq!(found.values, [[None]]);
    }
}
