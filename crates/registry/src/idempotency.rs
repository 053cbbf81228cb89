//! Requests that may come twice: what was answered to one of the same key is answered again.

use sqlx::{AssertSqlSafe, Row as _};

use crate::database::Work;
use crate::sql::{Fault, clean};
use crate::{Actor, Registry, RegistryError};

/// For how long an answer is remembered.
const KEPT_MS: i64 = 24 * 60 * 60 * 1_000;

/// Knowledge of a request's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: it is to be answered, and [`Registry::answer`] called.
    New,
    /// Another is being answered.
    Pending,
    /// The request was answered so.
    Answered {
        /// The status.
        status: u16,
        /// The answer.
        answer: String,
    },
    /// The key was used for another request.
    Different,
}

impl Registry {
    /// Whether a request of this key has come before, from the same principal.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn claim(
        &mut self,
        principal: &str,
        key: &str,
        request_digest: &str,
    ) -> Result<Claim, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = claim(&mut work, principal, key, request_digest).await;
        work.end(done).await
    }

    /// Remembers what was answered, whether the key was claimed here or not; a status of 0 forgets
    /// the key, so that it may be tried again.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn answer(
        &mut self,
        principal: &str,
        key: &str,
        request_digest: &str,
        status: u16,
        answer: &str,
    ) -> Result<(), RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let query = match status {
                0 => sqlx::query("DELETE FROM idempotency_keys WHERE principal = $1 AND key = $2"),
                _ => sqlx::query(
                    "INSERT INTO idempotency_keys (principal, key, status, answer, \
                     request_digest, created_ms) VALUES ($1, $2, $3, $4, $5, $6) \
                     ON CONFLICT (principal, key) DO UPDATE SET status = excluded.status, \
                     answer = excluded.answer",
                ),
            };
            let mut query = query.bind(clean(principal)).bind(clean(key));
            if status > 0 {
                query = query.bind(i64::from(status)).bind(clean(answer));
                query = query.bind(clean(request_digest)).bind(work.now_ms);
            }
            query.execute(&mut *work.all).await?;
            Ok(())
        };
        let done = done.await;
        work.end(done).await
    }

    /// Deletes answers until there are `answers`, and keys until there are `keys`: the oldest ones
    /// of the principals with most. A key whose answer is deleted is known to have been used, so
    /// that its request is not carried out twice. Returns the number of answers and keys that were
    /// deleted.
    ///
    /// # Errors
    /// The database cannot be changed.
    pub async fn forget_answers(&mut self, answers: u32, keys: u32) -> Result<u64, RegistryError> {
        let mut work = self.begin(&Actor::local()).await?;
        let done = async {
            let counts = "SELECT COUNT(*) FROM idempotency_keys GROUP BY principal";
            let counts: Vec<i64> = sqlx::query_scalar(counts).fetch_all(&mut *work.all).await?;
            let mut deleted = 0;
            for (change, max) in [
                ("DELETE FROM idempotency_keys WHERE", keys),
                (
                    "UPDATE idempotency_keys SET answer = '' WHERE answer <> '' AND",
                    answers,
                ),
            ] {
                let Some(most) = most_of_each(&counts, i64::from(max)) else {
                    continue;
                };
                let sql = format!(
                    "{change} (principal, key) IN (SELECT principal, key FROM (SELECT principal, \
                     key, ROW_NUMBER() OVER (PARTITION BY principal ORDER BY created_ms DESC) AS \
                     place FROM idempotency_keys) AS placed WHERE place > $1)"
                );
                let query = sqlx::query(AssertSqlSafe(sql)).bind(most);
                deleted += query.execute(&mut *work.all).await?.rows_affected();
            }
            Ok(deleted)
        };
        let done = done.await;
        work.end(done).await
    }
}

/// How many each may keep, so that all together keep `max` and only those with most lose some;
/// none: all may be kept.
fn most_of_each(counts: &[i64], max: i64) -> Option<i64> {
    let mut counts = counts.to_vec();
    counts.sort_unstable();
    let mut left = max;
    for (place, count) in counts.iter().enumerate() {
        let each = left / (counts.len() - place) as i64;
        if *count > each {
            return Some(each);
        }
        left -= count;
    }
    None
}

/// As [`Registry::claim`], within a change.
pub(crate) async fn claim(
    work: &mut Work<'_>,
    principal: &str,
    key: &str,
    request_digest: &str,
) -> Result<Claim, Fault> {
    let old = sqlx::query("DELETE FROM idempotency_keys WHERE created_ms < $1");
    let old = old.bind(work.now_ms - KEPT_MS);
    old.execute(&mut *work.all).await?;
    let sql = "INSERT INTO idempotency_keys (principal, key, request_digest, status, answer, \
               created_ms) VALUES ($1, $2, $3, 0, '', $4) ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql).bind(clean(principal)).bind(clean(key));
    let query = query.bind(clean(request_digest)).bind(work.now_ms);
    if query.execute(&mut *work.all).await?.rows_affected() > 0 {
        return Ok(Claim::New);
    }
    let sql = "SELECT request_digest, status, answer FROM idempotency_keys WHERE principal = $1 \
               AND key = $2";
    let query = sqlx::query(sql).bind(clean(principal)).bind(clean(key));
    let row = query.fetch_one(&mut *work.all).await?;
    let digest: String = row.try_get("request_digest")?;
    let status: i64 = row.try_get("status")?;
    Ok(match status {
        _ if digest != clean(request_digest) => Claim::Different,
        0 => Claim::Pending,
        status => Claim::Answered {
            status: u16::try_from(status).unwrap_or(500),
            answer: row.try_get("answer")?,
        },
    })
}
