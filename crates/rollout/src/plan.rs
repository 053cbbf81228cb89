//! The plan of a rollout: which devices are in which wave, and when the next wave begins.

use std::fmt;

/// Waves of a rollout, at most.
pub const WAVES_MAX: usize = 100;
/// Hundredths of a percent in 100 %.
const WHOLE: u64 = 10_000;
/// The longest time of a gate: a year, milliseconds.
const TIME_MAX_MS: i64 = 366 * 24 * 60 * 60 * 1000;

/// How many devices have been offered the firmware when a wave has begun: its own and those of the
/// waves before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wave {
    /// This many devices.
    Devices(u64),
    /// This many hundredths of a percent of all devices, 1 to 10,000; rounded up.
    Share(u16),
}

/// Limits of a wave, and how long it lasts. Percentages are those of the devices of the wave,
/// without those that are skipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WaveGate {
    /// Percent of the devices that may fail, 0 to 100. One more, and the rollout pauses.
    pub max_failed_percent: f64,
    /// Percent of the devices that may be silent, 0 to 100.
    pub max_silent_percent: f64,
    /// Milliseconds without a sign of a device after which it is silent.
    pub silent_after_ms: i64,
    /// Milliseconds that a wave lasts at least.
    pub min_wait_ms: i64,
}

impl Default for WaveGate {
    fn default() -> Self {
        Self {
            max_failed_percent: 5.0,
            max_silent_percent: 20.0,
            silent_after_ms: 60 * 60 * 1000,
            min_wait_ms: 0,
        }
    }
}

/// The plan of a rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Each wave reaches more devices than the one before. Devices that the last one does not reach
    /// are one more wave. Empty: all devices are one wave.
    pub waves: Vec<Wave>,
    /// Between two waves, and at the end.
    pub gate: WaveGate,
    /// Milliseconds after which the rollout has failed if it has not ended.
    pub timeout_ms: i64,
}

/// Error in a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// The member that is at fault: `waves`, `gate/…` or `timeout_secs`.
    pub member: &'static str,
    /// Text of the error: what was expected.
    pub why: String,
}

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.member, self.why)
    }
}

impl std::error::Error for PlanError {}

impl Wave {
    /// Reads `10%`, `0.5%` or `20`.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let wrong = || PlanError {
            member: "waves",
            why: format!(
                "{text:?} is not a valid wave: expected a number of devices, or 0.01% to 100%"
            ),
        };
        let text = text.trim();
        let Some(percent) = text.strip_suffix('%') else {
            let devices: u64 = text.parse().map_err(|_| wrong())?;
            return match devices {
                0 => Err(wrong()),
                devices => Ok(Self::Devices(devices)),
            };
        };
        let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
        let share = (percent * 100.0).round();
        match (1.0..=WHOLE as f64).contains(&share) {
            // It is in the range of the type then.
            true => Ok(Self::Share(share as u16)),
            false => Err(wrong()),
        }
    }

    /// How many of `devices` it reaches.
    fn reach(self, devices: u64) -> u64 {
        match self {
            Self::Devices(count) => count.min(devices),
            Self::Share(share) => {
                let parts = u128::from(devices) * u128::from(share);
                u64::try_from(parts.div_ceil(u128::from(WHOLE))).unwrap_or(devices)
            }
        }
    }
}

impl fmt::Display for Wave {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Devices(count) => write!(f, "{count}"),
            Self::Share(share) => write!(f, "{}%", f64::from(*share) / 100.0),
        }
    }
}

impl Plan {
    /// Refuses a plan that cannot be carried out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), PlanError> {
        let wrong = |member, why: &str| {
            Err(PlanError {
                member,
                why: why.to_owned(),
            })
        };
        if self.waves.len() > WAVES_MAX {
            return wrong("waves", "a rollout has up to 100 waves");
        }
        let rises = |pair: &[Wave]| match pair {
            [Wave::Devices(one), Wave::Devices(next)] => one < next,
            [Wave::Share(one), Wave::Share(next)] => one < next,
            _ => true,
        };
        if !self.waves.windows(2).all(rises) {
            let why = "each wave must reach more devices than the one before: a wave counts the \
                       devices of the waves before it too";
            return wrong("waves", why);
        }
        let gate = &self.gate;
        for (member, percent) in [
            ("gate/max_failed_percent", gate.max_failed_percent),
            ("gate/max_silent_percent", gate.max_silent_percent),
        ] {
            if !(0.0..=100.0).contains(&percent) {
                return wrong(member, "expected 0 to 100");
            }
        }
        if !(1_000..=TIME_MAX_MS).contains(&gate.silent_after_ms) {
            return wrong("gate/silent_after_secs", "expected 1 second to 366 days");
        }
        if !(0..=TIME_MAX_MS).contains(&gate.min_wait_ms) {
            return wrong("gate/min_wait_secs", "expected 0 seconds to 366 days");
        }
        match (1_000..=TIME_MAX_MS).contains(&self.timeout_ms) {
            true => Ok(()),
            false => wrong("timeout_secs", "expected 1 second to 366 days"),
        }
    }

    /// How many devices are in each wave, if there are `devices`. Waves that would reach none that
    /// an earlier one does not reach are left out. The sum is `devices`.
    pub fn sizes(&self, devices: u64) -> Vec<u64> {
        let mut sizes = Vec::new();
        let mut reached = 0;
        for wave in &self.waves {
            let reach = wave.reach(devices);
            if reach > reached {
                sizes.push(reach - reached);
                reached = reach;
            }
        }
        if devices > reached {
            sizes.push(devices - reached);
        }
        sizes
    }
}
