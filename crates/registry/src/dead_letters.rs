//! Dead letters: messages that integrations have refused, of each node. The oldest are dropped when
//! there are too many.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::database::Work;
use crate::sql::{Fault, Sql, clean, signed, unsigned};
use crate::{Actor, Registry, RegistryError};

/// Letters that one statement names, at most.
const NAMED_AT_ONCE: usize = 500;
/// The oldest letters that are looked at when room is made, in one step.
const OLDEST_AT_ONCE: i64 = 1_000;
/// Divisor: what gives letters does so until it has this part less than the others.
const NEAR_PART: i64 = 16;
/// Bytes that a letter counts for beside its texts.
const OVERHEAD: u64 = 256;
/// Columns of a letter in a list.
const HEAD: &str = "id, kind, name, tenant, message_id, topic, payload_bytes, qos, retain, retained, \
                    received_ms, refused_ms, reason, refusals, publisher";

/// How much of the dead letters of a node is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLettersKept {
    /// Letters, at most.
    pub letters: u64,
    /// Bytes of them, at most; the newest letter is kept whatever it has.
    pub bytes: u64,
}

/// A dead letter in the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterRow {
    /// Number of the letter, in the order of refusal; 0 before it is stored.
    pub id: u64,
    /// Kind of the integration.
    pub kind: String,
    /// Name of the integration.
    pub name: String,
    /// Tenant of the message.
    pub tenant: u32,
    /// Number of the message in its node.
    pub message_id: u64,
    /// Topic Name.
    pub topic: String,
    /// Length of the payload, bytes.
    pub payload_bytes: u64,
    /// QoS, 0 to 2.
    pub qos: u8,
    /// Whether it was published with RETAIN.
    pub retain: bool,
    /// Whether it was a retained message that a subscription found.
    pub retained: bool,
    /// Time of receipt, milliseconds since the Unix epoch.
    pub received_ms: u64,
    /// Time of the last refusal, likewise.
    pub refused_ms: u64,
    /// Reason of the last refusal.
    pub reason: String,
    /// Number of refusals.
    pub refusals: u32,
    /// JSON object that names the publisher.
    pub publisher: String,
    /// Encoded properties; empty in a list.
    pub properties: Vec<u8>,
    /// Payload; empty in a list.
    pub payload: Vec<u8>,
}

/// A dead letter as the tables have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredDeadLetter {
    /// The letter, with properties and payload.
    Whole(DeadLetterRow),
    /// It is damaged, in words.
    Damaged(String),
}

/// Number of dead letters of an integration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterCount {
    /// Kind of the integration.
    pub kind: String,
    /// Name of the integration.
    pub name: String,
    /// Number of dead letters of the integration.
    pub letters: u64,
}

impl DeadLetterRow {
    fn bytes(&self) -> u64 {
        let texts = self.topic.len() + self.reason.len() + self.publisher.len();
        (texts + self.properties.len() + self.payload.len()) as u64 + OVERHEAD
    }

    /// Checksum of what does not change of it.
    fn checksum(&self) -> i64 {
        let numbers = [self.message_id, self.received_ms, u64::from(self.tenant)];
        let flags = [self.qos, u8::from(self.retain), u8::from(self.retained)];
        let numbers = numbers.map(u64::to_le_bytes);
        let (topic, publisher) = (clean(&self.topic), clean(&self.publisher));
        let texts = [
            topic.as_bytes(),
            publisher.as_bytes(),
            &self.properties,
            &self.payload,
        ];
        let parts = numbers.iter().map(|bytes| &bytes[..]).chain([&flags[..]]);
        let sum = parts.chain(texts).fold(0, crc32c::crc32c_append);
        i64::from(sum)
    }
}

impl Registry {
    /// Stores letters of a node, and drops what is beyond what is kept: the oldest letters of the
    /// tenant that has most. A letter of the same
    /// integration and message that is there already is refused once more. Returns how many old
    /// letters were dropped.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn put_dead_letters(
        &mut self,
        node: &str,
        letters: &[DeadLetterRow],
        kept: DeadLettersKept,
    ) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            for letter in letters {
                put(&mut work, node, letter).await?;
            }
            make_room(&mut work, node, kept).await
        };
        let done = done.await;
        work.end(done).await
    }

    /// Letters of a node after this number, in order; of one integration (kind and name), or of
    /// all. Without properties and payloads.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn dead_letters(
        &mut self,
        node: &str,
        of: Option<(&str, &str)>,
        after: u64,
        limit: u32,
    ) -> Result<Vec<DeadLetterRow>, RegistryError> {
        let engine = self.engine();
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let mut sql = Sql::new(engine, "SELECT ");
            sql.push(HEAD).push(" FROM dead_letters WHERE node = ");
            sql.bind(clean(node)).push(" AND id > ").bind(signed(after));
            if let Some((kind, name)) = of {
                sql.push(" AND kind = ").bind(clean(kind));
                sql.push(" AND name = ").bind(clean(name));
            }
            sql.push(" ORDER BY id LIMIT ").bind(i64::from(limit));
            let rows = sql.all(on).await?;
            rows.iter().map(read_head).collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Number of letters of each integration of a node that has some.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn dead_letter_counts(
        &mut self,
        node: &str,
    ) -> Result<Vec<DeadLetterCount>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT kind, name, COUNT(*) FROM dead_letters WHERE node = $1 \
                       GROUP BY kind, name ORDER BY kind, name";
            let rows = sqlx::query(sql).bind(clean(node)).fetch_all(on).await?;
            let counts = rows.iter().map(|row| {
                Ok(DeadLetterCount {
                    kind: row.try_get(0)?,
                    name: row.try_get(1)?,
                    letters: u64::try_from(row.try_get::<i64, _>(2)?).unwrap_or(0),
                })
            });
            counts.collect()
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// The letter of this number of a node; none if there is no such letter.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn dead_letter(
        &mut self,
        node: &str,
        id: u64,
    ) -> Result<Option<StoredDeadLetter>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT * FROM dead_letters WHERE node = $1 AND id = $2";
            let query = sqlx::query(sql).bind(clean(node)).bind(signed(id));
            let Some(row) = query.fetch_optional(on).await? else {
                return Ok(None);
            };
            let mut letter = read_head(&row)?;
            let (properties, payload) = (bytes_of(&row, "properties")?, bytes_of(&row, "payload")?);
            let (Some(properties), Some(payload)) = (properties, payload) else {
                let what = "its properties or payload are not base64".to_owned();
                return Ok(Some(StoredDeadLetter::Damaged(what)));
            };
            (letter.properties, letter.payload) = (properties, payload);
            let stored: i64 = row.try_get("checksum")?;
            Ok(Some(match stored < 0 || stored == letter.checksum() {
                true => StoredDeadLetter::Whole(letter),
                false => StoredDeadLetter::Damaged("its checksum is wrong".to_owned()),
            }))
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Marks dead letters of a node to be sent again, or removes the mark. A letter that is refused
    /// again loses it. Returns the ids of those that changed.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn mark_dead_letters(
        &mut self,
        node: &str,
        ids: &[u64],
        sends_again: bool,
    ) -> Result<Vec<u64>, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let mut marked = Vec::new();
            for some in ids.chunks(NAMED_AT_ONCE) {
                let (now, before) = (i64::from(sends_again), i64::from(!sends_again));
                let mut sql = work.sql("UPDATE dead_letters SET sends_again = ");
                sql.bind(now).push(" WHERE sends_again = ").bind(before);
                sql.push(" AND node = ")
                    .bind(clean(node))
                    .push(" AND id IN ");
                sql.list(some.iter().map(|id| signed(*id)));
                sql.push(" RETURNING id");
                for row in sql.all(&mut work.all).await? {
                    marked.push(unsigned(row.try_get(0)?));
                }
            }
            Ok(marked)
        };
        let done = done.await;
        work.end(done).await
    }

    /// Notes that a letter of a node is damaged: it is not to be sent again, and has this reason.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn note_damaged_letter(
        &mut self,
        node: &str,
        id: u64,
        why: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let sql =
                "UPDATE dead_letters SET sends_again = 0, reason = $1 WHERE node = $2 AND id = $3";
            let query = sqlx::query(sql).bind(clean(why)).bind(clean(node));
            query.bind(signed(id)).execute(&mut *work.all).await?;
            Ok(())
        };
        let done = done.await;
        work.end(done).await
    }

    /// Numbers of the letters of an integration of a node that are to be sent again, in order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn dead_letters_to_send(
        &mut self,
        node: &str,
        kind: &str,
        name: &str,
    ) -> Result<Vec<u64>, RegistryError> {
        let mut reading = self.reading().await?;
        let on = reading.connection();
        let read = async {
            let sql = "SELECT id FROM dead_letters WHERE node = $1 AND kind = $2 AND name = $3 \
                       AND sends_again = 1 ORDER BY id";
            let query = sqlx::query_scalar::<_, i64>(sql).bind(clean(node));
            let query = query.bind(clean(kind)).bind(clean(name));
            let ids = query.fetch_all(on).await?;
            Ok(ids.into_iter().map(unsigned).collect())
        };
        let read: Result<_, Fault> = read.await;
        reading.end(read).await
    }

    /// Removes letters of a node. Returns how many there were.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn remove_dead_letters(
        &mut self,
        node: &str,
        ids: &[u64],
    ) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let mut removed = 0;
            for some in ids.chunks(NAMED_AT_ONCE) {
                let mut sql = work.sql("DELETE FROM dead_letters WHERE node = ");
                sql.bind(clean(node)).push(" AND id IN ");
                sql.list(some.iter().map(|id| signed(*id)));
                removed += sql.execute(&mut work.all).await?;
            }
            Ok(removed)
        };
        let done = done.await;
        work.end(done).await
    }
}

async fn put(work: &mut Work<'_>, node: &str, letter: &DeadLetterRow) -> Result<(), Fault> {
    let sql = "UPDATE dead_letters SET refused_ms = $1, reason = $2, refusals = refusals + 1, \
               sends_again = 0 WHERE node = $3 AND kind = $4 AND name = $5 AND message_id = $6 AND \
               received_ms = $7";
    let query = sqlx::query(sql).bind(signed(letter.refused_ms));
    let query = query.bind(clean(&letter.reason)).bind(clean(node));
    let query = query.bind(clean(&letter.kind)).bind(clean(&letter.name));
    let query = query.bind(letter.message_id.to_string());
    let query = query.bind(signed(letter.received_ms));
    if query.execute(&mut *work.all).await?.rows_affected() > 0 {
        return Ok(());
    }
    let sql = "UPDATE counters SET last = last + 1 WHERE name = 'dead_letter' RETURNING last";
    let id: i64 = sqlx::query_scalar(sql).fetch_one(&mut *work.all).await?;
    let sql = "INSERT INTO dead_letters (id, node, kind, name, tenant, message_id, topic, bytes, \
               payload_bytes, qos, retain, retained, received_ms, refused_ms, reason, refusals, \
               publisher, properties, payload, checksum) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, \
               $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";
    let query = sqlx::query(sql).bind(id).bind(clean(node));
    let query = query.bind(clean(&letter.kind)).bind(clean(&letter.name));
    let query = query.bind(i64::from(letter.tenant));
    let query = query.bind(letter.message_id.to_string());
    let query = query
        .bind(clean(&letter.topic))
        .bind(signed(letter.bytes()));
    let query = query.bind(signed(letter.payload.len() as u64));
    let query = query.bind(i64::from(letter.qos));
    let query = query.bind(i64::from(letter.retain));
    let query = query.bind(i64::from(letter.retained));
    let query = query.bind(signed(letter.received_ms));
    let query = query.bind(signed(letter.refused_ms));
    let query = query.bind(clean(&letter.reason));
    let query = query.bind(i64::from(letter.refusals));
    let query = query.bind(clean(&letter.publisher));
    let query = query.bind(STANDARD.encode(&letter.properties));
    let query = query.bind(STANDARD.encode(&letter.payload));
    let query = query.bind(letter.checksum());
    query.execute(&mut *work.all).await?;
    Ok(())
}

/// Drops letters of a node until the rest is within the bounds: the oldest of the tenant that has
/// most, and there of the integration that has most. So no team pushes out what others have.
async fn make_room(work: &mut Work<'_>, node: &str, kept: DeadLettersKept) -> Result<u64, Fault> {
    let sql = "SELECT COUNT(*), CAST(COALESCE(SUM(bytes), 0) AS BIGINT), \
               CAST(COALESCE(MAX(id), 0) AS BIGINT) FROM dead_letters WHERE node = $1";
    let query = sqlx::query(sql).bind(clean(node));
    let row = query.fetch_one(&mut *work.all).await?;
    let (letters, bytes): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    let newest: i64 = row.try_get(2)?;
    let mut beyond = LetterTotals {
        letters: letters - signed(kept.letters.max(1)),
        bytes: bytes - signed(kept.bytes),
    };
    if !beyond.is_any() {
        return Ok(0);
    }
    let mut shares = shares_of(work, node, newest).await?;
    let mut dropped = 0;
    while beyond.is_any()
        && let Some(at) = greatest(&shares, &beyond)
    {
        let of = &shares[at];
        let sql = "SELECT id, bytes FROM dead_letters WHERE node = $1 AND id < $2 AND \
                   tenant = $3 AND kind = $4 AND name = $5 ORDER BY id LIMIT $6";
        let query = sqlx::query(sql).bind(clean(node)).bind(newest);
        let query = query.bind(of.tenant).bind(clean(&of.kind));
        let query = query.bind(clean(&of.name)).bind(OLDEST_AT_ONCE);
        let mut ids = Vec::new();
        for row in &query.fetch_all(&mut *work.all).await? {
            let bytes = row.try_get(1)?;
            ids.push(row.try_get::<i64, _>(0)?);
            beyond.take(bytes);
            shares[at].held.take(bytes);
            shares[at].older -= 1;
            if !beyond.is_any() || !is_near_greatest(&shares, at, &beyond) {
                break;
            }
        }
        if ids.is_empty() {
            break;
        }
        for some in ids.chunks(NAMED_AT_ONCE) {
            let mut sql = work.sql("DELETE FROM dead_letters WHERE node = ");
            sql.bind(clean(node)).push(" AND id IN ");
            sql.list(some.iter().copied());
            dropped += sql.execute(&mut work.all).await?;
        }
    }
    Ok(dropped)
}

/// A number of letters, and their bytes.
#[derive(Clone, Copy, Debug, Default)]
struct LetterTotals {
    letters: i64,
    bytes: i64,
}

impl LetterTotals {
    fn is_any(&self) -> bool {
        self.letters > 0 || self.bytes > 0
    }

    /// Subtracts one letter of this size, bytes.
    fn take(&mut self, bytes: i64) {
        self.letters -= 1;
        self.bytes -= bytes;
    }

    /// Returns the total that counts: the bytes if there are too many, else the letters.
    fn weight(&self, beyond: &Self) -> i64 {
        match beyond.bytes > 0 {
            true => self.bytes,
            false => self.letters,
        }
    }
}

/// The letters of one integration for one tenant.
#[derive(Debug)]
struct Share {
    tenant: i64,
    kind: String,
    name: String,
    held: LetterTotals,
    /// Number of its letters but for the newest of the node, which is never dropped.
    older: i64,
}

/// All letters of a node, by tenant and integration.
async fn shares_of(work: &mut Work<'_>, node: &str, newest: i64) -> Result<Vec<Share>, Fault> {
    let sql = "SELECT tenant, kind, name, COUNT(*), CAST(SUM(bytes) AS BIGINT), \
               CAST(SUM(CASE WHEN id < $2 THEN 1 ELSE 0 END) AS BIGINT) FROM dead_letters \
               WHERE node = $1 GROUP BY tenant, kind, name";
    let query = sqlx::query(sql).bind(clean(node)).bind(newest);
    let rows = query.fetch_all(&mut *work.all).await?;
    let shares = rows.iter().map(|row| {
        Ok(Share {
            tenant: row.try_get(0)?,
            kind: row.try_get(1)?,
            name: row.try_get(2)?,
            held: LetterTotals {
                letters: row.try_get(3)?,
                bytes: row.try_get(4)?,
            },
            older: row.try_get(5)?,
        })
    });
    shares.collect()
}

/// Returns the weight of a tenant: of what it has in all of its integrations.
fn weight_of_tenant(shares: &[Share], tenant: i64, beyond: &LetterTotals) -> i64 {
    let own = shares.iter().filter(|share| share.tenant == tenant);
    own.map(|share| share.held.weight(beyond)).sum()
}

/// The share from which letters are dropped: of the tenant that has most, the integration that has
/// most; none if no letters are left.
fn greatest(shares: &[Share], beyond: &LetterTotals) -> Option<usize> {
    let remaining = shares.iter().enumerate();
    let remaining = remaining.filter(|(_, share)| share.older > 0);
    let most = remaining.max_by_key(|(_, share)| {
        let of_tenant = weight_of_tenant(shares, share.tenant, beyond);
        (of_tenant, share.tenant, share.held.weight(beyond))
    });
    most.map(|(at, _)| at)
}

/// Whether a share still gives: its tenant has hardly less than the one with most. So two that have
/// the same do not give in turns, with a statement for each letter.
fn is_near_greatest(shares: &[Share], at: usize, beyond: &LetterTotals) -> bool {
    let tenant = shares[at].tenant;
    let own = weight_of_tenant(shares, tenant, beyond);
    let others = shares.iter().filter(|share| share.tenant != tenant);
    let others = others.map(|share| weight_of_tenant(shares, share.tenant, beyond));
    let most = others.max().unwrap_or(0);
    own >= most - most / NEAR_PART && shares[at].older > 0
}

fn read_head(row: &AnyRow) -> Result<DeadLetterRow, Fault> {
    let number = |column: &str| -> Result<u64, Fault> {
        Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
    };
    let small = |column: &str| -> Result<u32, Fault> {
        Ok(u32::try_from(number(column)?).unwrap_or(u32::MAX))
    };
    let message_id: String = row.try_get("message_id")?;
    Ok(DeadLetterRow {
        id: number("id")?,
        kind: row.try_get("kind")?,
        name: row.try_get("name")?,
        tenant: small("tenant")?,
        message_id: message_id.parse().unwrap_or(0),
        topic: row.try_get("topic")?,
        payload_bytes: number("payload_bytes")?,
        qos: u8::try_from(number("qos")?).unwrap_or(0),
        retain: number("retain")? != 0,
        retained: number("retained")? != 0,
        received_ms: number("received_ms")?,
        refused_ms: number("refused_ms")?,
        reason: row.try_get("reason")?,
        refusals: small("refusals")?,
        publisher: row.try_get("publisher")?,
        properties: Vec::new(),
        payload: Vec::new(),
    })
}

/// Bytes of a column; none: it is not base64.
fn bytes_of(row: &AnyRow, column: &str) -> Result<Option<Vec<u8>>, Fault> {
    let text: String = row.try_get(column)?;
    Ok(STANDARD.decode(text).ok())
}
