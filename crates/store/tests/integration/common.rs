//! A model of a store, and random records for both.

use martlet_store::{
    BodyId, Disk, Engine, EntryView, Holds, Lsn, Missing, QueueId, RecordBuffer, StateKey,
};
use std::collections::{BTreeMap, BTreeSet};

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// An operation.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Body(u64, u8, Vec<u8>),
    Release(u64, u8),
    Enqueue(u64, u64, u8, [u64; 2], Vec<u8>),
    Amend(u64, u64, u8, [u64; 2]),
    End(u64, u64, u8),
    Token(u64, u32, u32),
    EndToken(u64, u32),
    State(StateKey, Vec<u8>),
    RemoveState(StateKey),
    Forget(u64),
}

/// Builds one record.
pub(crate) fn record(buffer: &mut RecordBuffer, steps: &[Step]) {
    let mut record = buffer.record();
    for step in steps {
        match step {
            Step::Body(id, holds, bytes) => {
                let (a, b) = bytes.split_at(bytes.len() / 2);
                record.body(BodyId(*id), Holds::from_bits(*holds), &[a, b]);
            }
            Step::Release(id, holds) => record.release(BodyId(*id), Holds::from_bits(*holds)),
            Step::Enqueue(queue, body, lane, note, extra) => {
                record.enqueue(QueueId(*queue), BodyId(*body), *lane, *note, extra);
            }
            Step::Amend(queue, body, lane, note) => {
                record.amend(QueueId(*queue), BodyId(*body), *lane, *note);
            }
            Step::End(queue, body, lane) => record.end(QueueId(*queue), BodyId(*body), *lane),
            Step::Token(queue, token, note) => record.token(QueueId(*queue), *token, *note),
            Step::EndToken(queue, token) => record.end_token(QueueId(*queue), *token),
            Step::State(key, bytes) => record.state(*key, &[bytes]),
            Step::RemoveState(key) => record.remove_state(*key),
            Step::Forget(owner) => record.forget(*owner),
        }
    }
}

/// Generates random records. Ids of bodies grow per shard and are never reused.
pub(crate) struct Generator {
    next: [u64; 3],
    queues: u64,
    /// How far back ids are chosen from.
    reach: u64,
}

impl Default for Generator {
    fn default() -> Self {
        Generator::new(6, 40)
    }
}

impl Generator {
    pub(crate) fn new(queues: u64, reach: u64) -> Self {
        Generator {
            next: [0; 3],
            queues,
            reach,
        }
    }

    fn id(shard: u64, counter: u64) -> u64 {
        shard << 58 | counter
    }

    fn some_id(&self, random: &mut Random) -> u64 {
        let shard = random.below(3);
        let newest = self.next[shard as usize];
        // Sometimes an id that comes later.
        let counter = (newest + 2).saturating_sub(random.below(self.reach));
        Self::id(shard, counter.max(1))
    }

    fn known_id(&self, random: &mut Random) -> u64 {
        let shard = random.below(3);
        let newest = self.next[shard as usize];
        Self::id(
            shard,
            newest.saturating_sub(random.below(self.reach)).max(1),
        )
    }

    pub(crate) fn steps(&mut self, random: &mut Random) -> Vec<Step> {
        let count = 1 + random.below(3);
        let mut steps = Vec::new();
        for _ in 0..count {
            self.add_step(random, &mut steps);
        }
        steps
    }

    fn add_step(&mut self, random: &mut Random, steps: &mut Vec<Step>) {
        let queue = random.below(self.queues);
        let lane = random.below(5).saturating_sub(3) as u8;
        let note = match random.below(2) {
            0 => [0, 0],
            _ => [random.below(9), random.next()],
        };
        let key = StateKey {
            owner: random.below(self.queues),
            kind: random.below(2) as u8,
            number: random.below(6) as u32,
        };
        match random.below(100) {
            0..30 => {
                let shard = random.below(3);
                self.next[shard as usize] += 1;
                let id = Self::id(shard, self.next[shard as usize]);
                let holds = random.below(8) as u8;
                steps.push(Step::Body(id, holds, some_bytes(random)));
                for _ in 0..random.below(3) {
                    let queue = random.below(self.queues);
                    steps.push(Step::Enqueue(queue, id, 0, note, Vec::new()));
                }
            }
            30..45 => {
                let extra = vec![7; random.below(30).saturating_sub(25) as usize];
                let id = self.known_id(random);
                steps.push(Step::Enqueue(queue, id, lane, note, extra));
            }
            45..52 => steps.push(Step::Amend(queue, self.known_id(random), lane, note)),
            52..68 => steps.push(Step::End(queue, self.known_id(random), lane)),
            68..84 => {
                let holds = 1 + random.below(7) as u8;
                steps.push(Step::Release(self.some_id(random), holds));
            }
            84..88 => {
                let token = random.below(5) as u32;
                steps.push(Step::Token(queue, token, random.next() as u32));
            }
            88..91 => steps.push(Step::EndToken(queue, random.below(5) as u32)),
            91..96 => steps.push(Step::State(key, some_bytes(random))),
            96..99 => steps.push(Step::RemoveState(key)),
            _ if random.below(3) > 0 => steps.push(Step::EndToken(queue, 1)),
            _ => steps.push(Step::Forget(queue)),
        }
    }
}

fn some_bytes(random: &mut Random) -> Vec<u8> {
    let len = match random.below(60) {
        0 => random.below(9000),
        1..6 => random.below(1500),
        _ => random.below(100),
    };
    let byte = random.next() as u8;
    (0..len)
        .map(|index| byte.wrapping_add(index as u8))
        .collect()
}

#[derive(Debug)]
struct Body {
    lsn: Lsn,
    holds: u8,
    bytes: Vec<u8>,
}

/// A tenant for about two of three bodies.
pub(crate) fn tenant_of(body: &[u8]) -> u32 {
    body.first().map_or(0, |byte| u32::from(byte % 3))
}

type Row = (u64, u8, [u64; 2], Vec<u8>);

/// The expected state according to the records.
#[derive(Debug, Default)]
pub(crate) struct Model {
    bodies: BTreeMap<u64, Body>,
    early: BTreeMap<u64, u8>,
    queues: BTreeMap<u64, Vec<Row>>,
    tokens: BTreeMap<u64, BTreeMap<u32, u32>>,
    states: BTreeMap<StateKey, (Lsn, Vec<u8>)>,
    had: BTreeMap<u64, BTreeSet<u64>>,
    highest: BTreeMap<u8, u64>,
}

impl Model {
    pub(crate) fn apply(&mut self, lsn: Lsn, steps: &[Step]) {
        for step in steps {
            self.apply_step(lsn, step);
        }
        let refs: BTreeSet<u64> = self.queues.values().flatten().map(|row| row.0).collect();
        self.bodies
            .retain(|id, body| body.holds != 0 || refs.contains(id));
    }

    fn bury(&mut self, id: u64) {
        let is_wanted = self.queues.values().flatten().any(|row| row.0 == id);
        if !is_wanted && self.bodies.get(&id).is_some_and(|body| body.holds == 0) {
            self.bodies.remove(&id);
        }
    }

    fn note_had(&mut self, id: u64, queue: u64) {
        if self.bodies.get(&id).is_some_and(|body| body.holds & 1 != 0) {
            self.had.entry(id).or_default().insert(queue);
        }
    }

    fn apply_step(&mut self, lsn: Lsn, step: &Step) {
        match step {
            Step::Body(id, holds, bytes) => {
                let early = self.early.remove(id).unwrap_or(0);
                let highest = self.highest.entry((id >> 58) as u8).or_insert(*id);
                *highest = *id.max(highest);
                self.bodies.entry(*id).or_insert(Body {
                    lsn,
                    holds: holds & !early,
                    bytes: bytes.clone(),
                });
            }
            Step::Release(id, holds) => {
                match self.bodies.get_mut(id) {
                    Some(body) => body.holds &= !holds,
                    None => *self.early.entry(*id).or_insert(0) |= holds,
                }
                if holds & 1 != 0 {
                    self.had.remove(id);
                }
                self.bury(*id);
            }
            Step::Enqueue(queue, body, lane, note, extra) => {
                let rows = self.queues.entry(*queue).or_default();
                if !rows.iter().any(|row| (row.0, row.1) == (*body, *lane)) {
                    rows.push((*body, *lane, *note, extra.clone()));
                    if *lane == 0 {
                        self.note_had(*body, *queue);
                    }
                }
            }
            Step::Amend(queue, body, lane, note) => {
                let rows = self.queues.entry(*queue).or_default();
                let mut rows = rows.iter_mut();
                if let Some(row) = rows.find(|row| (row.0, row.1) == (*body, *lane)) {
                    row.2 = *note;
                }
            }
            Step::End(queue, body, lane) => {
                let rows = self.queues.entry(*queue).or_default();
                rows.retain(|row| (row.0, row.1) != (*body, *lane));
                if *lane == 0 {
                    self.note_had(*body, *queue);
                }
                self.bury(*body);
            }
            Step::Token(queue, token, note) => {
                self.tokens.entry(*queue).or_default().insert(*token, *note);
            }
            Step::EndToken(queue, token) => {
                self.tokens.entry(*queue).or_default().remove(token);
            }
            Step::State(key, bytes) => {
                let state = self.states.entry(*key).or_insert((lsn, Vec::new()));
                state.1.clone_from(bytes);
            }
            Step::RemoveState(key) => {
                self.states.remove(key);
            }
            Step::Forget(owner) => {
                let rows = self.queues.remove(owner).unwrap_or_default();
                self.tokens.remove(owner);
                self.states.retain(|key, _| key.owner != *owner);
                rows.iter().for_each(|row| self.bury(row.0));
            }
        }
    }

    /// Checks that the store has the same state.
    pub(crate) fn compare<D: Disk>(&self, engine: &mut Engine<D>) {
        let mut queues: BTreeSet<u64> = BTreeSet::new();
        queues.extend(
            self.queues
                .iter()
                .filter(|(_, q)| !q.is_empty())
                .map(|(id, _)| *id),
        );
        queues.extend(
            self.tokens
                .iter()
                .filter(|(_, t)| !t.is_empty())
                .map(|(id, _)| *id),
        );
        let found: Vec<u64> = engine.queues().iter().map(|queue| queue.0).collect();
        assert_eq!(found, queues.into_iter().collect::<Vec<_>>());
        for (id, rows) in &self.queues {
            let view = |e: EntryView<'_>| (e.body.0, e.lane, e.note, e.extra.to_vec());
            let found: Vec<Row> = engine.entries(QueueId(*id)).map(view).collect();
            assert_eq!(found, *rows, "queue {id}");
        }
        for (id, tokens) in &self.tokens {
            let tokens: Vec<(u32, u32)> = tokens.iter().map(|(t, n)| (*t, *n)).collect();
            assert_eq!(engine.tokens(QueueId(*id)), tokens);
        }
        let mut states = BTreeMap::new();
        engine.states(|key, since, bytes| {
            states.insert(key, (since, bytes.expect("readable").to_vec()));
        });
        assert_eq!(states, self.states);
        self.compare_bodies(engine);
    }

    /// Checks that the bytes of each tenant are those of its bodies, within a quarter.
    pub(crate) fn compare_tenants<D: Disk>(&self, engine: &Engine<D>) {
        let mut expected: BTreeMap<u32, u64> = BTreeMap::new();
        for body in self.bodies.values() {
            let cost = body.bytes.len() as u64 + 32;
            *expected.entry(tenant_of(&body.bytes)).or_default() += cost;
        }
        expected.remove(&0);
        let found: BTreeMap<u32, u64> = engine.tenants().collect();
        let is_near = |(tenant, bytes): (&u32, &u64)| {
            let expected = expected.get(tenant).copied().unwrap_or_default();
            bytes.abs_diff(expected) <= expected / 4
        };
        let is_same = found.len() == expected.len() && found.iter().all(is_near);
        assert!(is_same, "{found:?}, not {expected:?}");
    }

    fn compare_bodies<D: Disk>(&self, engine: &mut Engine<D>) {
        let ids: Vec<BodyId> = self.bodies.keys().map(|id| BodyId(*id)).collect();
        let mut seen = 0;
        engine.read_bodies(&ids, |id, bytes| {
            assert_eq!(bytes, Ok(&self.bodies[&id.0].bytes[..]), "{id:?}");
            seen += 1;
        });
        assert_eq!(seen, ids.len());
        assert_eq!(engine.stats().bodies, ids.len());
        for (id, body) in &self.bodies {
            assert_eq!(engine.holds(BodyId(*id)).bits(), body.holds);
        }
        let mut held = BTreeMap::new();
        engine.held(Holds::from_bits(7), |id, lsn, bytes| {
            held.insert(id.0, (lsn, bytes.expect("readable").to_vec()));
        });
        let expected = self.bodies.iter().filter(|(_, body)| body.holds != 0);
        let expected = expected.map(|(id, body)| (*id, (body.lsn, body.bytes.clone())));
        assert_eq!(held, expected.collect());
        let mut routed: Vec<(Lsn, u64)> = self
            .bodies
            .iter()
            .filter(|(_, body)| body.holds & 1 != 0)
            .map(|(id, body)| (body.lsn, *id))
            .collect();
        routed.sort_unstable();
        let pending = engine.pending();
        let found: Vec<(Lsn, u64)> = pending.iter().map(|p| (p.lsn, p.id.0)).collect();
        assert_eq!(found, routed);
        for pending in pending {
            let had: Vec<u64> = pending.had.iter().map(|queue| queue.0).collect();
            let expected = self.had.get(&pending.id.0).cloned().unwrap_or_default();
            assert_eq!(had, expected.into_iter().collect::<Vec<_>>());
        }
        let highest: Vec<u64> = engine.highest_body_seen().iter().map(|id| id.0).collect();
        assert_eq!(highest, self.highest.values().copied().collect::<Vec<_>>());
        let unknown = BodyId(u64::MAX);
        engine.read_bodies(&[unknown], |_, found| {
            assert_eq!(found, Err(Missing::Unknown))
        });
    }
}
