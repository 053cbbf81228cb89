//! The patterns: saturated, steady, drain with recovery, lone.

use crate::Plan;
use crate::engines::{Batch, QUEUES, Store};
use crate::measure::{Latencies, Meter, Used, directory_mb, resident_mb};
use martlet_store::Pace;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// Messages that the producers have built and the store has not taken.
struct Shared<B> {
    state: Mutex<WaitingBatch<B>>,
    /// The store took and finished a group.
    durable: Condvar,
    /// Something came in.
    work: Condvar,
}

struct WaitingBatch<B> {
    batch: B,
    /// When how many messages came in.
    came: Vec<(Instant, usize)>,
    in_flight: [usize; 2],
    taken: [usize; 2],
    next_id: u64,
    /// Number of waiting messages for which the store sleeps.
    asleep: Option<usize>,
    stop: bool,
}

impl<B> WaitingBatch<B> {
    fn count(&self) -> usize {
        self.came.iter().map(|(_, count)| count).sum()
    }
}

impl<B: Batch> Shared<B> {
    fn new() -> Arc<Self> {
        Arc::new(Shared {
            state: Mutex::new(WaitingBatch {
                batch: B::default(),
                came: Vec::new(),
                in_flight: [0; 2],
                taken: [0; 2],
                next_id: 1,
                asleep: None,
                stop: false,
            }),
            durable: Condvar::new(),
            work: Condvar::new(),
        })
    }
}

impl<B> Shared<B> {
    /// Waits for more where that is worth it.
    fn gather(&self, pace: &mut Pace, began: Instant) {
        let mut state = self.state.lock().expect("lives");
        while let Some((enough, until)) = pace.longer(state.count()) {
            while state.count() < enough
                && let Some(left) = until.checked_sub(began.elapsed())
            {
                state = self.sleep(state, enough, left);
            }
        }
    }

    /// Sleeps until this number of messages waits, or until the time is over.
    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, WaitingBatch<B>>,
        messages: usize,
        left: Duration,
    ) -> MutexGuard<'a, WaitingBatch<B>> {
        state.asleep = Some(messages);
        let woken = self.work.wait_timeout(state, left);
        let (mut state, _) = woken.expect("lives");
        state.asleep = None;
        state
    }

    /// Wakes the store if it waits for no more than has come.
    fn wake(&self, mut state: MutexGuard<'_, WaitingBatch<B>>) {
        let count = state.count();
        if state.asleep.is_some_and(|messages| messages <= count) {
            state.asleep = None;
            drop(state);
            self.work.notify_one();
        }
    }
}

/// Both producers always have as much in flight as they may.
pub fn saturated<S: Store>(mut store: S, plan: &Plan) {
    let shared = Shared::<S::Batch>::new();
    let producers: Vec<_> = (0..2)
        .map(|producer| {
            let (shared, plan) = (Arc::clone(&shared), plan.clone());
            thread::spawn(move || produce(&shared, producer, &plan))
        })
        .collect();
    let meter = Meter::new(&plan.directory);
    let stop_at = Instant::now() + Duration::from_secs_f64(plan.secs);
    let mut latencies = Latencies::default();
    let (mut messages, mut groups) = (0, 0);
    let mut batch = S::Batch::default();
    while Instant::now() < stop_at {
        let count = take_and_commit(&mut store, &shared, &mut batch, &mut latencies);
        messages += count;
        groups += usize::from(count > 0);
        store.rest();
    }
    let used = meter.used();
    shared.state.lock().expect("lives").stop = true;
    shared.durable.notify_all();
    producers.into_iter().for_each(|p| p.join().expect("ends"));
    print(plan, messages, groups, &used, &mut latencies);
}

fn produce<B: Batch>(shared: &Shared<B>, producer: usize, plan: &Plan) {
    let payload = vec![7; plan.payload];
    let window = plan.window / 2;
    let mut state = shared.state.lock().expect("lives");
    while !state.stop {
        let room = window - state.in_flight[producer];
        if room == 0 {
            state = shared.durable.wait(state).expect("lives");
            continue;
        }
        // Not all under one lock: the store may want it.
        let count = room.min(64);
        let now = Instant::now();
        for _ in 0..count {
            let id = state.next_id;
            state.next_id += 1;
            state.batch.publish(id, id % QUEUES, plan.entries, &payload);
        }
        state.came.push((now, count));
        state.in_flight[producer] += count;
        state.taken[producer] += count;
        shared.wake(state);
        state = shared.state.lock().expect("lives");
    }
}

/// Commits what has come in; how many messages that was.
fn take_and_commit<S: Store>(
    store: &mut S,
    shared: &Shared<S::Batch>,
    batch: &mut S::Batch,
    latencies: &mut Latencies,
) -> usize {
    let mut state = shared.state.lock().expect("lives");
    if state.came.is_empty() {
        let wait = Duration::from_millis(1);
        state = shared.sleep(state, 1, wait);
    }
    if state.came.is_empty() {
        return 0;
    }
    std::mem::swap(&mut state.batch, batch);
    let came = std::mem::take(&mut state.came);
    let taken = std::mem::take(&mut state.taken);
    drop(state);
    store.commit(batch);
    batch.clear();
    let now = Instant::now();
    for (began, count) in &came {
        latencies.add(*began, now, *count);
    }
    let mut state = shared.state.lock().expect("lives");
    for (in_flight, taken) in state.in_flight.iter_mut().zip(taken) {
        *in_flight -= taken;
    }
    drop(state);
    shared.durable.notify_all();
    came.iter().map(|(_, count)| count).sum()
}

/// 50,000 messages a second, each acknowledged 50 ms later, by a producer that wakes every
/// millisecond.
pub fn steady<S: Store>(mut store: S, plan: &Plan) {
    let shared = Shared::<S::Batch>::new();
    let producer = {
        let (shared, plan) = (Arc::clone(&shared), plan.clone());
        thread::spawn(move || produce_steadily(&shared, &plan))
    };
    let meter = Meter::new(&plan.directory);
    let stop_at = Instant::now() + Duration::from_secs_f64(plan.secs);
    let mut latencies = Latencies::default();
    let (mut messages, mut groups) = (0, 0);
    let mut batch = S::Batch::default();
    // Paced as the broker's store thread is.
    let mut pace = Pace::new();
    while Instant::now() < stop_at {
        let began = Instant::now();
        let count = take_and_commit(&mut store, &shared, &mut batch, &mut latencies);
        messages += count;
        groups += usize::from(count > 0);
        store.rest();
        thread::sleep(pace.least(count).saturating_sub(began.elapsed()));
        if count > 0 {
            shared.gather(&mut pace, began);
        }
    }
    let used = meter.used();
    shared.state.lock().expect("lives").stop = true;
    producer.join().expect("ends");
    print(plan, messages, groups, &used, &mut latencies);
    println!("    disk {:.0} MB", directory_mb(&plan.directory));
}

fn produce_steadily<B: Batch>(shared: &Shared<B>, plan: &Plan) {
    let payload = vec![7; plan.payload];
    let mut waiting: VecDeque<(Instant, u64)> = VecDeque::new();
    let mut next = Instant::now();
    loop {
        next += Duration::from_millis(1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
        let mut state = shared.state.lock().expect("lives");
        if state.stop {
            return;
        }
        let now = Instant::now();
        for _ in 0..50 {
            let id = state.next_id;
            state.next_id += 1;
            state.batch.publish(id, id % QUEUES, plan.entries, &payload);
            waiting.push_back((now, id));
        }
        while let Some((came, id)) = waiting.front()
            && now.duration_since(*came) >= Duration::from_millis(50)
        {
            state.batch.end(*id, id % QUEUES, plan.entries);
            waiting.pop_front();
        }
        state.came.push((now, 50));
        shared.wake(state);
    }
}

/// Fills, opens anew, reads and acknowledges everything.
pub fn drain<S: Store>(open: impl Fn(&Plan) -> S, plan: &Plan) {
    let payload = vec![7; plan.payload];
    let mut store = open(plan);
    let mut batch = S::Batch::default();
    let mut longest = Duration::ZERO;
    for id in 1..=plan.messages {
        batch.publish(id, id % QUEUES, 1, &payload);
        if id % 1000 == 0 || id == plan.messages {
            let began = Instant::now();
            store.commit(&mut batch);
            batch.clear();
            store.rest();
            longest = longest.max(began.elapsed());
        }
    }
    println!(
        "    filled; longest commit {:.1} ms",
        longest.as_secs_f64() * 1e3
    );
    drop(store);
    let resident = resident_mb();
    let began = Instant::now();
    let mut store = open(plan);
    println!(
        "    opened in {:.3} s, memory {:.0} MB more",
        began.elapsed().as_secs_f64(),
        resident_mb() - resident
    );
    let before = directory_mb(&plan.directory);
    let meter = Meter::new(&plan.directory);
    let mut drained = 0;
    let mut first = 0;
    // What the files take beyond twice what is left.
    let mut beyond_mb = f64::MIN;
    while drained < plan.messages {
        for queue in first..first + 10 {
            for id in store.page(queue % QUEUES, 100) {
                batch.end(id, queue % QUEUES, 1);
                drained += 1;
            }
        }
        first += 10;
        store.commit(&mut batch);
        batch.clear();
        store.rest();
        if first % 200 == 0 {
            let left = (plan.messages - drained) as f64 * plan.payload as f64 / 1e6;
            beyond_mb = beyond_mb.max(directory_mb(&plan.directory) - 2.0 * left);
        }
        if first > 100 * QUEUES {
            break;
        }
    }
    let used = meter.used();
    let idle = Instant::now();
    while idle.elapsed() < Duration::from_secs(5) {
        store.rest();
        thread::sleep(Duration::from_millis(5));
    }
    println!(
        "    drained {drained}: {:.2} us CPU a message, {:.2} M/s; disk {before:.0} -> {:.0} MB, \
         at most {beyond_mb:.0} MB beyond twice the payloads left",
        used.cpu_us as f64 / drained as f64,
        drained as f64 / used.secs / 1e6,
        directory_mb(&plan.directory)
    );
}

/// One message at a time.
pub fn lone<S: Store>(mut store: S, plan: &Plan) {
    let payload = vec![7; plan.payload];
    let mut batch = S::Batch::default();
    let mut latencies = Latencies::default();
    let meter = Meter::new(&plan.directory);
    let count = 5000;
    for id in 1..=count {
        let began = Instant::now();
        batch.publish(id, id % QUEUES, 1, &payload);
        store.commit(&mut batch);
        latencies.add(began, Instant::now(), 1);
        batch.clear();
        store.rest();
    }
    let used = meter.used();
    print(plan, count as usize, count as usize, &used, &mut latencies);
}

fn print(plan: &Plan, messages: usize, groups: usize, used: &Used, latencies: &mut Latencies) {
    println!(
        "    {:.3} M/s, {:.2} us CPU a message, group {}, {}, disk {:.1} B/B",
        messages as f64 / used.secs / 1e6,
        used.cpu_us as f64 / messages as f64,
        messages / groups.max(1),
        latencies.summary(),
        used.disk_bytes as f64 / (messages * plan.payload) as f64
    );
}
