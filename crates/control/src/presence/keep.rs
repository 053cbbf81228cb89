//! Writes what has changed to the store and publishes it, in batches, beside everything else.
//!
//! What is published is in the store before, as not yet published. So the state after a crash is
//! published at the next start, whatever was published before it.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tracing::{debug, warn};

use super::publish::publish;
use super::{Alive, ClientPresence, PresenceStore, PresenceTopics, StoredPresence};
use crate::control::Control;
use crate::wall_clock::now_ms;

/// Interval at which changes are looked at (a tick).
const TICK: Duration = Duration::from_millis(200);
/// Ticks between two writes of changes.
const TICKS_TO_WRITE: u32 = 5;
/// Ticks between two notes that the node is alive.
const TICKS_ALIVE: u32 = 50;
/// Ticks between two clean-ups.
const TICKS_TO_TIDY: u32 = 300;
/// Changes that are taken at once, at most: as text they take much more room than as rows.
const TAKEN_MAX: usize = 4_096;
/// Bytes of clients that wait to be written, approximately, at most: where the store fails, what is
/// known of all is written when it does no more.
const UNWRITTEN_BYTES_MAX: usize = 16 << 20;
/// Bytes of one of them beside its texts.
const NOTED_BYTES: usize = 2 * size_of::<StoredPresence>();
/// Ticks until the next try after an error of the store, at first and at most.
const TICKS_TO_TRY: (u32, u32) = (5, 300);

/// Time that changes wait for the store until they are published.
const WRITTEN_WITHIN: Duration = Duration::from_secs(1);
/// Time that the start and the stop of the node wait for the store. What is not written by then is
/// found at the next start.
const STORE_MAX: Duration = Duration::from_secs(5);

/// Carries presence to the store and to its topics.
pub struct Keeper {
    control: Arc<Control>,
    store: Arc<dyn PresenceStore>,
    topics: Option<PresenceTopics>,
    alive: Arc<Alive>,
    /// Whether it is known what the run before left; before that nothing is written.
    is_restored: bool,
    /// Nothing was written where there was no store.
    is_left_out: bool,
    unwritten: PresenceNotes,
    /// Write that is under way, beside the rest.
    writing: Option<(Write, Arc<Vec<StoredPresence>>)>,
    /// When the store is tried again, and how long it waits after that.
    tries: (u32, u32),
}

/// A batch on its way to the store.
type Write = JoinHandle<Result<(), String>>;

/// Notes by tenant and Client Identifier, so that there are no more of them than clients.
type PresenceNotes = HashMap<(u32, String), StoredPresence>;

impl Keeper {
    /// Begins to keep the presence of a node, and takes in what changes from now on.
    pub fn new(
        control: Arc<Control>,
        store: Arc<dyn PresenceStore>,
        topics: Option<PresenceTopics>,
        alive: Arc<Alive>,
    ) -> Self {
        control.presence.begin().keep_changes();
        Self {
            control,
            store,
            topics,
            alive,
            is_restored: false,
            is_left_out: false,
            unwritten: PresenceNotes::new(),
            writing: None,
            tries: (0, TICKS_TO_TRY.0),
        }
    }

    /// Finds out which clients were connected when the run before ended. Those that are back stay.
    pub async fn restore(&mut self) {
        let found = match self.alive.before() {
            Some((since_ms, why)) if self.store.is_there() => {
                let asked = self.store.all_offline(since_ms, why);
                let late = || Err("it does not answer".to_owned());
                let answered = tokio::time::timeout(STORE_MAX, asked).await;
                answered.unwrap_or_else(|_| late())
            }
            _ => Ok(Vec::new()),
        };
        match found {
            Ok(ended) => {
                self.control.presence.restore(&ended);
                self.is_restored = true;
            }
            Err(error) => warn!(
                error,
                "cannot read which clients were connected before the start; retrying"
            ),
        }
    }

    /// Runs until the node has stopped, and writes what is left then.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        let mut ticks = tokio::time::interval(TICK);
        for tick in 0_u32.. {
            let turn = async {
                ticks.tick().await;
                self.turn(tick).await;
            };
            tokio::select! {
                () = turn => {}
                () = &mut stopped => break,
            }
        }
        let presence = &self.control.presence;
        presence.begin().end_all(now_ms(), "the node was stopped");
        while !self.take().is_empty() {}
        if tokio::time::timeout(STORE_MAX, self.finish())
            .await
            .is_err()
        {
            warn!("could not write in time which clients were connected at the stop");
        }
    }

    async fn turn(&mut self, tick: u32) {
        if tick.is_multiple_of(TICKS_ALIVE) {
            let alive = Arc::clone(&self.alive);
            let noted = move || alive.note(now_ms(), false);
            match tokio::task::spawn_blocking(noted).await {
                Ok(Err(error)) => warn!(%error, "could not write that the node is alive"),
                _ => debug!("alive"),
            }
        }
        if !self.is_restored && tick >= self.tries.0 {
            self.restore().await;
            self.tried(tick, self.is_restored);
        }
        let changed = self.take();
        let publishes = self.topics.is_some() && !changed.is_empty();
        if publishes || tick.is_multiple_of(TICKS_TO_WRITE) {
            if self
                .writing
                .as_ref()
                .is_some_and(|(task, _)| task.is_finished())
            {
                let is_written = self.written().await;
                self.tried(tick, is_written);
            }
            if self.is_restored && self.writing.is_none() && tick >= self.tries.0 {
                self.write();
                if publishes {
                    self.wait_until_written(tick).await;
                }
            }
        }
        if publishes {
            self.publish(&changed).await;
        }
        if (tick + 1).is_multiple_of(TICKS_TO_TIDY)
            && self.store.is_there()
            && let Err(error) = self.store.tidy().await
        {
            warn!(
                error,
                "cannot delete clients that were connected long ago and old lines of the audit log"
            );
        }
    }

    /// Takes what has changed to what is to be written, before anything can break off. Where
    /// nothing is written or published, nothing is made of it: all is looked at once that changes.
    fn take(&mut self) -> Vec<ClientPresence> {
        if self.topics.is_none() && !self.store.is_there() {
            self.control.presence.begin().forget_changes();
            self.is_left_out = true;
            return Vec::new();
        }
        let changed = self.control.presence.begin().take_changes(TAKEN_MAX);
        let is_reported = self.topics.is_none();
        for client in &changed {
            let noted = StoredPresence {
                client: client.clone(),
                is_reported,
            };
            self.unwritten.insert(key(client), noted);
        }
        let bytes: usize = self.unwritten.values().map(bytes_of).sum();
        let is_full = bytes > UNWRITTEN_BYTES_MAX;
        if is_full {
            self.unwritten = PresenceNotes::new();
            self.is_left_out = true;
        }
        let presence = &self.control.presence;
        presence.set_unwritten_bytes(if is_full { 0 } else { bytes });
        changed
    }

    async fn publish(&mut self, changed: &[ClientPresence]) {
        let Some(topics) = &self.topics else {
            return;
        };
        let unreported = publish(&self.control, topics, changed).await;
        self.control.presence.begin().change_again(&unreported);
        for client in changed {
            let noted = StoredPresence {
                client: client.clone(),
                is_reported: !unreported.contains(client),
            };
            self.unwritten.insert(key(client), noted);
        }
    }

    /// Waits for what is being written, but not for long: messages about presence do not wait for
    /// tables that do not answer.
    async fn wait_until_written(&mut self, tick: u32) {
        let Some((task, _)) = &mut self.writing else {
            return;
        };
        if let Ok(done) = tokio::time::timeout(WRITTEN_WITHIN, task).await {
            let is_written = self.note_written(done);
            self.tried(tick, is_written);
        }
    }

    fn tried(&mut self, tick: u32, is_done: bool) {
        let (least, most) = TICKS_TO_TRY;
        self.tries = match is_done {
            true => (tick, least),
            false => (tick + self.tries.1, most.min(self.tries.1 * 2)),
        };
    }

    /// Begins to write what there is.
    fn write(&mut self) {
        if !self.store.is_there() {
            self.unwritten.clear();
            self.is_left_out = true;
            return;
        }
        if std::mem::take(&mut self.is_left_out) {
            self.control.presence.begin().change_all();
        }
        if self.unwritten.is_empty() {
            return;
        }
        let batch: Vec<StoredPresence> =
            std::mem::take(&mut self.unwritten).into_values().collect();
        let batch = Arc::new(batch);
        let (store, clients) = (Arc::clone(&self.store), Arc::clone(&batch));
        let task = tokio::spawn(async move { store.write(&clients).await });
        self.writing = Some((task, batch));
    }

    /// Waits until what was being written is, or could not be. Returns whether it is.
    async fn written(&mut self) -> bool {
        let Some((task, _)) = &mut self.writing else {
            return true;
        };
        let done = task.await;
        self.note_written(done)
    }

    /// Whether what was being written is. Else it waits again, but for what is out of date.
    fn note_written(&mut self, done: Result<Result<(), String>, JoinError>) -> bool {
        let Some((_, batch)) = self.writing.take() else {
            return true;
        };
        let Err(error) = done.unwrap_or_else(|_| Err("it was broken off".to_owned())) else {
            return true;
        };
        warn!(error, "cannot write which clients are connected; retrying");
        for noted in batch.iter() {
            let key = key(&noted.client);
            self.unwritten.entry(key).or_insert_with(|| noted.clone());
        }
        false
    }

    /// Writes all that there is.
    async fn finish(&mut self) {
        self.written().await;
        self.write();
        self.written().await;
    }
}

fn bytes_of(noted: &StoredPresence) -> usize {
    let client = &noted.client;
    let texts = [
        &client.why,
        &client.address,
        &client.listener,
        &client.listener_url,
    ];
    // Its name is in its key too.
    let texts: usize = texts.iter().map(|text| text.len()).sum();
    NOTED_BYTES + 2 * client.client_id.len() + texts
}

fn key(client: &ClientPresence) -> (u32, String) {
    (client.tenant, client.client_id.clone())
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}
