//! A rollout: its states, and what is to be done next.
//!
//! ```text
//! planned ──► running ──► succeeded | failed
//!                │ ▲
//!                ▼ │
//!             paused          each of the first three ──► aborted
//! ```
//!
//! A retry has a rollout run again that has succeeded or failed.

use crate::plan::Plan;

/// Why a rollout pauses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PauseReason {
    /// Paused by an operator.
    ByHand,
    /// More devices of the wave have failed than the gate permits.
    GateFailures,
    /// More devices of the wave are silent than the gate permits.
    GateSilence,
}

/// The state of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RolloutState {
    /// The rollout has not been started.
    Planned,
    /// Waves begin as the gate permits.
    Running,
    /// No device is offered the firmware. Devices that were offered it go on.
    Paused(PauseReason),
    /// All waves have ended within the gate.
    Succeeded,
    /// The rollout's time was over, or no device has the firmware.
    Failed,
    /// Ended by an operator.
    Aborted,
}

/// How many devices of a wave are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaveCounts {
    /// They are to be offered the firmware.
    pub waiting: u64,
    /// They have been offered it and have not ended.
    pub open: u64,
    /// They have it.
    pub succeeded: u64,
    /// They failed.
    pub failed: u64,
    /// They are silent.
    pub silent: u64,
    /// They are left out.
    pub skipped: u64,
}

/// A rollout as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// State of the rollout.
    pub state: RolloutState,
    /// The wave that has begun last, from 0.
    pub wave: usize,
    /// When that wave began.
    pub wave_since_ms: i64,
    /// When the rollout has failed if it has not ended.
    pub deadline_ms: i64,
    /// Failed devices of the wave that an operator has accepted by resuming the rollout.
    pub accepted_failed: u64,
    /// Silent devices of the wave, likewise.
    pub accepted_silent: u64,
}

/// An effect of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutEffect {
    /// The firmware is to be offered to the waiting devices of the waves up to this one.
    Offer {
        /// The wave, from 0.
        wave: usize,
    },
    /// The state has changed, which is worth an event.
    Changed,
    /// Devices that wait are left out, and commands that no device has begun are cancelled.
    Close,
}

/// An order does not fit the state of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPermitted {
    /// The state.
    pub state: RolloutState,
}

impl RolloutState {
    /// Returns the state's word, as the API and the tables have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Paused(_) => "paused",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
        }
    }

    /// Why it is paused, as a word; empty if it is not.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Paused(PauseReason::ByHand) => "by_hand",
            Self::Paused(PauseReason::GateFailures) => "gate_failures",
            Self::Paused(PauseReason::GateSilence) => "gate_silence",
            _ => "",
        }
    }

    /// The state of these words.
    pub fn from_words(word: &str, reason: &str) -> Option<Self> {
        let paused = [
            PauseReason::ByHand,
            PauseReason::GateFailures,
            PauseReason::GateSilence,
        ];
        let all = [
            Self::Planned,
            Self::Running,
            Self::Succeeded,
            Self::Failed,
            Self::Aborted,
        ];
        let all = all.into_iter().chain(paused.map(Self::Paused));
        let mut all = all.filter(|state| state.word() == word);
        all.find(|state| state.reason() == reason)
    }

    /// Whether the rollout has ended, unless it is retried.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Aborted)
    }
}

impl WaveCounts {
    /// Devices that are not left out.
    pub fn taking_part(&self) -> u64 {
        self.waiting + self.open + self.succeeded + self.failed + self.silent
    }
}

/// Returns the share of some devices in all, percent; 0 if there are none.
pub fn percent_of(some: u64, devices: u64) -> f64 {
    match devices {
        0 => 0.0,
        devices => some as f64 * 100.0 / devices as f64,
    }
}

impl Rollout {
    /// A rollout that has not been started.
    pub fn new(now_ms: i64) -> Self {
        Self {
            state: RolloutState::Planned,
            wave: 0,
            wave_since_ms: now_ms,
            deadline_ms: 0,
            accepted_failed: 0,
            accepted_silent: 0,
        }
    }

    /// Decides what is to be done now. `waves` has the devices of each wave. To be called whenever
    /// devices have changed, and from time to time.
    pub fn step(&mut self, plan: &Plan, waves: &[WaveCounts], now_ms: i64) -> Vec<RolloutEffect> {
        if self.state != RolloutState::Running {
            return Vec::new();
        }
        if now_ms >= self.deadline_ms {
            self.state = RolloutState::Failed;
            return vec![RolloutEffect::Close, RolloutEffect::Changed];
        }
        let current = waves.get(self.wave).copied().unwrap_or_default();
        if let Some(reason) = self.beyond_gate(plan, &current) {
            self.state = RolloutState::Paused(reason);
            return vec![RolloutEffect::Changed];
        }
        let begun = || waves.iter().take(self.wave + 1);
        if begun().any(|wave| wave.waiting > 0) {
            return vec![RolloutEffect::Offer { wave: self.wave }];
        }
        if begun().any(|wave| wave.open > 0) || self.must_wait(plan, &current, now_ms) {
            return Vec::new();
        }
        if self.wave + 1 < waves.len() {
            self.begin_wave(self.wave + 1, now_ms);
            return vec![
                RolloutEffect::Changed,
                RolloutEffect::Offer { wave: self.wave },
            ];
        }
        let has_succeeded = waves.iter().any(|wave| wave.succeeded > 0);
        let took_part = waves.iter().any(|wave| wave.taking_part() > 0);
        self.state = match has_succeeded || !took_part {
            true => RolloutState::Succeeded,
            false => RolloutState::Failed,
        };
        vec![RolloutEffect::Changed]
    }

    /// The reason for which the wave gate pauses the rollout; none: it does not.
    fn beyond_gate(&self, plan: &Plan, wave: &WaveCounts) -> Option<PauseReason> {
        let devices = wave.taking_part();
        let failed = wave.failed.saturating_sub(self.accepted_failed);
        let silent = wave.silent.saturating_sub(self.accepted_silent);
        // A gate of 100 % never closes.
        if percent_of(failed, devices) > plan.gate.max_failed_percent {
            return Some(PauseReason::GateFailures);
        }
        (percent_of(silent, devices) > plan.gate.max_silent_percent)
            .then_some(PauseReason::GateSilence)
    }

    /// The wave lasts longer, though its devices have ended. One without devices does not.
    fn must_wait(&self, plan: &Plan, wave: &WaveCounts, now_ms: i64) -> bool {
        wave.taking_part() > 0 && now_ms < self.wave_since_ms.saturating_add(plan.gate.min_wait_ms)
    }

    fn begin_wave(&mut self, wave: usize, now_ms: i64) {
        self.wave = wave;
        self.wave_since_ms = now_ms;
        (self.accepted_failed, self.accepted_silent) = (0, 0);
    }

    /// Starts a planned rollout, or has a paused one go on. What has failed and is silent in the
    /// current wave is accepted: the gate counts only devices that come to it.
    ///
    /// # Errors
    /// It is neither planned nor paused.
    pub fn resume(
        &mut self,
        plan: &Plan,
        waves: &[WaveCounts],
        now_ms: i64,
    ) -> Result<(), NotPermitted> {
        match self.state {
            RolloutState::Planned => {
                self.begin_wave(0, now_ms);
                self.deadline_ms = now_ms.saturating_add(plan.timeout_ms);
            }
            RolloutState::Paused(_) => {
                let current = waves.get(self.wave).copied().unwrap_or_default();
                self.accepted_failed = current.failed;
                self.accepted_silent = current.silent;
            }
            state => return Err(NotPermitted { state }),
        }
        self.state = RolloutState::Running;
        Ok(())
    }

    /// Pauses it: no further device is offered the firmware.
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&mut self) -> Result<(), NotPermitted> {
        match self.state {
            RolloutState::Running => {
                self.state = RolloutState::Paused(PauseReason::ByHand);
                Ok(())
            }
            state => Err(NotPermitted { state }),
        }
    }

    /// Ends it; see [`RolloutEffect::Close`].
    ///
    /// # Errors
    /// It has ended.
    pub fn abort(&mut self) -> Result<Vec<RolloutEffect>, NotPermitted> {
        if self.state.is_final() {
            return Err(NotPermitted { state: self.state });
        }
        self.state = RolloutState::Aborted;
        Ok(vec![RolloutEffect::Close, RolloutEffect::Changed])
    }

    /// Offers the firmware again to devices that failed or are silent, in the current wave: the
    /// caller moves them there. A rollout that has ended runs again, with all of its time.
    ///
    /// # Errors
    /// It has not been started, or was aborted.
    pub fn retry(&mut self, plan: &Plan, now_ms: i64) -> Result<(), NotPermitted> {
        match self.state {
            RolloutState::Planned | RolloutState::Aborted => {
                return Err(NotPermitted { state: self.state });
            }
            RolloutState::Succeeded | RolloutState::Failed => {
                self.state = RolloutState::Running;
                self.deadline_ms = now_ms.saturating_add(plan.timeout_ms);
            }
            RolloutState::Running | RolloutState::Paused(_) => {}
        }
        self.begin_wave(self.wave, now_ms);
        Ok(())
    }
}
