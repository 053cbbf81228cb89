use proptest::prelude::*;

use super::*;

const HOUR: i64 = 60 * 60 * 1000;

fn plan(waves: &[&str], gate: WaveGate) -> Plan {
    Plan {
        waves: waves
            .iter()
            .map(|wave| Wave::parse(wave).unwrap())
            .collect(),
        gate,
        timeout_ms: 24 * HOUR,
    }
}

/// Devices and a rollout, as the tables have them.
struct Fleet {
    plan: Plan,
    rollout: Rollout,
    devices: Vec<(usize, Device)>,
    now_ms: i64,
    /// In each step, how many devices were offered the firmware.
    offered: Vec<usize>,
}

impl Fleet {
    fn new(devices: u64, waves: &[&str], gate: WaveGate) -> Self {
        let plan = plan(waves, gate);
        plan.check().unwrap();
        let sizes = plan.sizes(devices).into_iter().enumerate();
        let devices = sizes.flat_map(|(wave, size)| (0..size).map(move |_| (wave, Device::new(1))));
        let mut fleet = Self {
            rollout: Rollout::new(1),
            devices: devices.collect(),
            plan,
            now_ms: 1,
            offered: Vec::new(),
        };
        let counts = fleet.counts();
        fleet.rollout.resume(&fleet.plan, &counts, 1).unwrap();
        fleet.settle();
        fleet
    }

    fn counts(&self) -> Vec<WaveCounts> {
        let waves = self.devices.iter().map(|(wave, _)| wave + 1).max();
        let mut counts = vec![WaveCounts::default(); waves.unwrap_or_default()];
        for (wave, device) in &self.devices {
            let of = &mut counts[*wave];
            match device.state {
                DeviceState::Waiting => of.waiting += 1,
                DeviceState::Succeeded => of.succeeded += 1,
                DeviceState::Failed => of.failed += 1,
                DeviceState::Silent => of.silent += 1,
                DeviceState::Skipped => of.skipped += 1,
                _ => of.open += 1,
            }
        }
        counts
    }

    /// Steps until nothing is to be done.
    fn settle(&mut self) {
        loop {
            for (_, device) in &mut self.devices {
                if device.state.is_open()
                    && self.now_ms - device.heard_ms >= self.plan.gate.silent_after_ms
                {
                    device.apply(&DeviceEvent::Silence, self.now_ms);
                }
            }
            let counts = self.counts();
            let effects = self.rollout.step(&self.plan, &counts, self.now_ms);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: RolloutEffect) {
        match effect {
            RolloutEffect::Offer { wave } => {
                let mut count = 0;
                for (of, device) in &mut self.devices {
                    if *of <= wave && device.apply(&DeviceEvent::Offered, self.now_ms) {
                        count += 1;
                    }
                }
                self.offered.push(count);
            }
            RolloutEffect::Close => {
                for (_, device) in &mut self.devices {
                    if matches!(device.state, DeviceState::Waiting | DeviceState::Offered) {
                        let cancelled = DeviceEvent::Skipped(DeviceReason::Cancelled);
                        device.apply(&cancelled, self.now_ms);
                    }
                }
            }
            RolloutEffect::Changed => {}
        }
    }

    /// Open devices answer; `event` says what, by their number.
    fn answer(&mut self, event: impl Fn(usize) -> Option<DeviceEvent>) {
        self.now_ms += 1_000;
        for (at, (_, device)) in self.devices.iter_mut().enumerate() {
            if let Some(event) = event(at).filter(|_| device.state.is_open()) {
                device.apply(&event, self.now_ms);
            }
        }
        self.settle();
    }

    fn all_succeed(&mut self) {
        self.answer(|_| Some(DeviceEvent::Succeeded));
    }

    fn sum(&self, state: DeviceState) -> usize {
        let devices = self.devices.iter();
        devices.filter(|(_, device)| device.state == state).count()
    }
}

fn failed() -> Option<DeviceEvent> {
    let why = "no space".to_owned();
    Some(DeviceEvent::Failed(DeviceReason::DeviceSaid, why))
}

#[test]
fn waves_count_the_devices_of_those_before_and_the_rest_is_the_last() {
    let sizes = |waves: &[&str], devices| plan(waves, WaveGate::default()).sizes(devices);
    assert_eq!(sizes(&["1%", "10%", "100%"], 1_000), [10, 90, 900]);
    assert_eq!(sizes(&["1%", "10%"], 1_000), [10, 90, 900]);
    assert_eq!(sizes(&["5", "20%"], 50), [5, 5, 40]);
    assert_eq!(sizes(&["1%", "10%", "100%"], 3), [1, 2]);
    assert_eq!(sizes(&[], 7), [7]);
    assert_eq!(sizes(&["10"], 0), [0u64; 0]);
}

#[test]
fn plans_that_cannot_be_are_refused_with_the_member_at_fault() {
    for wrong in ["0", "0%", "101%", "x", "-1", "", "NaN%"] {
        assert!(Wave::parse(wrong).is_err(), "{wrong:?}");
    }
    let mut wrong = plan(&["10%", "5%"], WaveGate::default());
    assert_eq!(wrong.check().unwrap_err().member, "waves");
    wrong.waves.clear();
    wrong.gate.max_failed_percent = f64::NAN;
    assert_eq!(wrong.check().unwrap_err().member, "gate/max_failed_percent");
    wrong.gate = WaveGate::default();
    wrong.timeout_ms = 0;
    assert_eq!(wrong.check().unwrap_err().member, "timeout_secs");
}

#[test]
fn a_wave_begins_when_the_one_before_has_ended_and_its_time_is_over() {
    let gate = WaveGate {
        min_wait_ms: 10_000,
        ..WaveGate::default()
    };
    let mut fleet = Fleet::new(100, &["10%", "100%"], gate);
    assert_eq!(fleet.offered, [10]);
    fleet.all_succeed();
    assert_eq!(fleet.offered, [10], "the wave has lasted a second of ten");
    fleet.now_ms += 10_000;
    fleet.settle();
    assert_eq!(fleet.offered, [10, 90]);
    fleet.all_succeed();
    assert_eq!(fleet.rollout.state, RolloutState::Running);
    fleet.now_ms += 10_000;
    fleet.settle();
    assert_eq!(fleet.rollout.state, RolloutState::Succeeded);
    assert_eq!(fleet.sum(DeviceState::Succeeded), 100);
}

#[test]
fn failures_beyond_the_gate_pause_at_once_and_a_resume_accepts_them() {
    let gate = WaveGate {
        max_failed_percent: 20.0,
        ..WaveGate::default()
    };
    let mut fleet = Fleet::new(100, &["10%", "100%"], gate);
    fleet.answer(|at| failed().filter(|_| at < 2));
    assert_eq!(fleet.rollout.state, RolloutState::Running, "20 % may fail");
    fleet.answer(|at| failed().filter(|_| at < 3));
    let paused = RolloutState::Paused(PauseReason::GateFailures);
    assert_eq!(fleet.rollout.state, paused);
    fleet.all_succeed();
    assert_eq!(fleet.offered, [10], "nobody is offered it meanwhile");
    let counts = fleet.counts();
    fleet
        .rollout
        .resume(&fleet.plan, &counts, fleet.now_ms)
        .unwrap();
    fleet.settle();
    assert_eq!(fleet.offered, [10, 90]);
    fleet.answer(|at| failed().filter(|_| at < 30));
    assert_eq!(
        fleet.rollout.state, paused,
        "the next wave has a gate of its own"
    );
}

#[test]
fn silent_devices_pause_the_rollout_and_go_on_when_they_speak() {
    let gate = WaveGate {
        silent_after_ms: HOUR,
        max_silent_percent: 5.0,
        ..WaveGate::default()
    };
    let mut fleet = Fleet::new(10, &[], gate);
    fleet.answer(|at| (at > 0).then_some(DeviceEvent::Succeeded));
    assert_eq!(fleet.rollout.state, RolloutState::Running);
    fleet.now_ms += HOUR;
    fleet.settle();
    let paused = RolloutState::Paused(PauseReason::GateSilence);
    assert_eq!(fleet.rollout.state, paused);
    assert_eq!(fleet.devices[0].1.reason, DeviceReason::NoAnswer);
    let now_ms = fleet.now_ms + 1;
    let device = &mut fleet.devices[0].1;
    assert!(device.apply(&DeviceEvent::Downloading(Some(40)), now_ms));
    assert!(device.apply(&DeviceEvent::Succeeded, now_ms));
    let counts = fleet.counts();
    fleet.rollout.resume(&fleet.plan, &counts, now_ms).unwrap();
    fleet.settle();
    assert_eq!(fleet.rollout.state, RolloutState::Succeeded);
}

#[test]
fn an_aborted_rollout_leaves_devices_alone_that_have_begun() {
    let mut fleet = Fleet::new(4, &["50%"], WaveGate::default());
    fleet.answer(|at| (at == 0).then_some(DeviceEvent::Downloading(None)));
    for effect in fleet.rollout.abort().unwrap() {
        fleet.carry_out(effect);
    }
    let states: Vec<_> = fleet
        .devices
        .iter()
        .map(|(_, device)| device.state)
        .collect();
    let skipped = DeviceState::Skipped;
    assert_eq!(
        states,
        [DeviceState::Downloading, skipped, skipped, skipped]
    );
    assert!(fleet.rollout.abort().is_err() && fleet.rollout.pause().is_err());
    assert!(fleet.rollout.retry(&fleet.plan, 5).is_err());
    fleet.all_succeed();
    assert_eq!(fleet.sum(DeviceState::Succeeded), 1);
}

#[test]
fn a_retry_offers_it_again_and_the_gate_counts_anew() {
    let gate = WaveGate {
        max_failed_percent: 50.0,
        ..WaveGate::default()
    };
    let mut fleet = Fleet::new(4, &[], gate);
    fleet.answer(|at| match at < 2 {
        true => failed(),
        false => Some(DeviceEvent::Succeeded),
    });
    assert_eq!(fleet.rollout.state, RolloutState::Succeeded);
    fleet.rollout.retry(&fleet.plan, fleet.now_ms).unwrap();
    for (_, device) in &mut fleet.devices {
        device.apply(&DeviceEvent::Retried, fleet.now_ms);
    }
    fleet.settle();
    assert_eq!(fleet.offered, [4, 2]);
    assert_eq!(fleet.rollout.state, RolloutState::Running);
    fleet.all_succeed();
    assert_eq!(fleet.sum(DeviceState::Succeeded), 4);
    assert_eq!(fleet.rollout.state, RolloutState::Succeeded);
}

#[test]
fn a_rollout_fails_when_its_time_is_over_or_no_device_has_the_firmware() {
    let all = WaveGate {
        max_failed_percent: 100.0,
        ..WaveGate::default()
    };
    let mut fleet = Fleet::new(3, &[], all);
    fleet.answer(|_| failed());
    assert_eq!(fleet.rollout.state, RolloutState::Failed);
    let patient = WaveGate {
        silent_after_ms: 100 * HOUR,
        ..WaveGate::default()
    };
    let mut fleet = Fleet::new(3, &["1"], patient);
    fleet.now_ms += 24 * HOUR;
    fleet.settle();
    assert_eq!(fleet.rollout.state, RolloutState::Failed);
    assert_eq!(fleet.sum(DeviceState::Skipped), 3);
    let nobody = Fleet::new(0, &["1%"], WaveGate::default());
    assert_eq!(nobody.rollout.state, RolloutState::Succeeded);
}

#[test]
fn words_are_read_as_they_are_written() {
    for state in DeviceState::ALL {
        assert_eq!(DeviceState::from_word(state.word()), Some(state));
    }
    for reason in DeviceReason::ALL {
        assert_eq!(DeviceReason::from_word(reason.word()), Some(reason));
    }
    for (word, reason) in [("running", ""), ("paused", "gate_silence"), ("aborted", "")] {
        let state = RolloutState::from_words(word, reason).unwrap();
        assert_eq!((state.word(), state.reason()), (word, reason));
    }
    assert_eq!(RolloutState::from_words("paused", ""), None);
}

fn any_event() -> impl Strategy<Value = DeviceEvent> {
    let percent = proptest::option::of(0u8..=100);
    prop_oneof![
        Just(DeviceEvent::Offered),
        Just(DeviceEvent::Delivered),
        percent.clone().prop_map(DeviceEvent::Downloading),
        percent.prop_map(DeviceEvent::Installing),
        Just(DeviceEvent::Succeeded),
        Just(DeviceEvent::Failed(
            DeviceReason::DeviceSaid,
            "x".to_owned()
        )),
        Just(DeviceEvent::Reported),
        Just(DeviceEvent::Silence),
        Just(DeviceEvent::Skipped(DeviceReason::Disabled)),
        Just(DeviceEvent::Retried),
    ]
}

/// Action of somebody, or event.
#[derive(Clone, Debug)]
enum Act {
    Device(usize, DeviceEvent),
    Wait(i64),
    Pause,
    Resume,
    Retry,
    Abort,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => (0usize..40, any_event()).prop_map(|(at, event)| Act::Device(at, event)),
        4 => (0i64..2 * HOUR).prop_map(Act::Wait),
        1 => Just(Act::Pause),
        3 => Just(Act::Resume),
        1 => Just(Act::Retry),
        1 => Just(Act::Abort),
    ]
}

proptest! {
    /// Whatever devices and operators do: a device never goes back but by a retry, the firmware is
    /// offered only while the rollout runs and only to waves that have begun, and the sums are
    /// those of all devices.
    #[test]
    fn whatever_happens_devices_go_forward_and_waves_wait(
        devices in 0u64..40,
        waves in proptest::sample::select(vec![vec![], vec!["10%", "50%"], vec!["1", "5", "90%"]]),
        acts in proptest::collection::vec(any_act(), 0..80),
    ) {
        let mut fleet = Fleet::new(devices, &waves, WaveGate::default());
        for act in acts {
            let before = fleet.devices.clone();
            let offered = fleet.offered.len();
            let was_running = fleet.rollout.state == RolloutState::Running;
            let mut is_retry = false;
            match act {
                Act::Device(at, event) => {
                    let now_ms = fleet.now_ms;
                    // Only the rollout offers, retries and leaves out.
                    let is_own = matches!(event, DeviceEvent::Offered | DeviceEvent::Retried);
                    if let Some((_, device)) = fleet.devices.get_mut(at).filter(|_| !is_own) {
                        device.apply(&event, now_ms);
                    }
                }
                Act::Wait(ms) => fleet.now_ms += ms,
                Act::Pause => {
                    let _ = fleet.rollout.pause();
                }
                Act::Resume => {
                    let counts = fleet.counts();
                    let _ = fleet.rollout.resume(&fleet.plan, &counts, fleet.now_ms);
                }
                Act::Retry => {
                    is_retry = fleet.rollout.retry(&fleet.plan, fleet.now_ms).is_ok();
                    let (wave, now_ms) = (fleet.rollout.wave, fleet.now_ms);
                    for (of, device) in fleet.devices.iter_mut().filter(|_| is_retry) {
                        if device.apply(&DeviceEvent::Retried, now_ms) {
                            *of = wave;
                        }
                    }
                }
                Act::Abort => {
                    for effect in fleet.rollout.abort().unwrap_or_default() {
                        fleet.carry_out(effect);
                    }
                }
            }
            let runs = fleet.rollout.state == RolloutState::Running;
            fleet.settle();
            prop_assert!(fleet.offered.len() == offered || was_running || runs);
            for ((_, old), (wave, new)) in before.iter().zip(&fleet.devices) {
                let is_begun = *wave <= fleet.rollout.wave;
                prop_assert!(is_begun || !new.state.is_open(), "{new:?} in wave {wave}");
                let ends = matches!(old.state, DeviceState::Succeeded | DeviceState::Skipped);
                prop_assert!(!ends || old.state == new.state, "{old:?} to {new:?}");
                let goes_back = old.state.is_open() && new.state.is_open() && new.state < old.state;
                prop_assert!(!goes_back || is_retry, "{old:?} to {new:?}");
            }
            let counts = fleet.counts();
            let sum: u64 = counts.iter().map(|one| one.taking_part() + one.skipped).sum();
            prop_assert_eq!(sum, devices);
        }
    }
}
