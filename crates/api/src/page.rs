//! Lists page by page: a limit, and a cursor that only this node can make.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::problem::Problem;

/// Items of a page: the default and the maximum.
pub const LIMIT_DEFAULT: usize = 100;
/// At most.
pub const LIMIT_MAX: usize = 1_000;

/// Bytes of the signature of a cursor.
const SIGNATURE_BYTES: usize = 16;

/// A page of a list. It may have fewer items than requested and still not be the last one: then
/// `next` is set.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    pub next: Option<String>,
    /// How many there are on all pages, when `total=true` asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// A list without pages.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Items<T> {
    /// In order.
    pub items: Vec<T>,
}

impl<T> FromIterator<T> for Items<T> {
    fn from_iter<I: IntoIterator<Item = T>>(all: I) -> Self {
        Self {
            items: all.into_iter().collect(),
        }
    }
}

/// How many items a page has.
///
/// # Errors
/// None, or too many, are asked for.
pub fn limit(asked: Option<usize>) -> Result<usize, Problem> {
    match asked {
        None => Ok(LIMIT_DEFAULT),
        Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
        Some(_) => {
            let detail = format!("expected 1 to {LIMIT_MAX}");
            Err(Problem::of_query("limit", detail))
        }
    }
}

/// Longest position that a cursor carries, in bytes: it has to fit into a path and query.
const POSITION_MAX: usize = 4096;
/// Longer positions that are kept here, at most; the oldest one makes room.
const LONG_MAX: usize = 32;
/// First character of the digest of a position that is kept; no position begins with it.
const KEPT: char = '\0';

/// Makes cursors and reads them. They end with the process.
#[derive(Debug)]
pub struct Cursors {
    key: hmac::Key,
    /// Long cursors, by their digest.
    long: Mutex<VecDeque<(String, String)>>,
}

impl Cursors {
    /// With a secret key of this process; none without a source of randomness.
    pub(crate) fn new() -> Option<Self> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).ok()?;
        Some(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            long: Mutex::default(),
        })
    }

    /// After an item that is known by `key`, as [`Self::after`].
    pub fn after_key(&self, of: &str, key: &impl Serialize) -> String {
        // Texts and numbers alone: that cannot fail.
        let text = serde_json::to_string(key).unwrap_or_default();
        self.after(of, &text)
    }

    /// The key of the item that a cursor of this list is after, if there is a cursor.
    ///
    /// # Errors
    /// It is not of this list.
    pub fn key<T: DeserializeOwned>(
        &self,
        of: &str,
        cursor: Option<&str>,
    ) -> Result<Option<T>, Problem> {
        let Some(cursor) = cursor else {
            return Ok(None);
        };
        let text = self.position(of, cursor)?;
        // It was made here: that cannot fail.
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|_| not_valid())
    }

    /// After `position`, in the list that `of` names with its filters.
    pub fn after(&self, of: &str, position: &str) -> String {
        let kept = (position.len() > POSITION_MAX).then(|| self.keep(position));
        let position = kept.as_deref().unwrap_or(position);
        let mut bytes = self.signature(of, position);
        bytes.extend_from_slice(position.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The position that a cursor of this list is after.
    ///
    /// # Errors
    /// It is not of this list.
    pub fn position(&self, of: &str, cursor: &str) -> Result<String, Problem> {
        let read = || {
            let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
            let (signature, position) = bytes.split_at_checked(SIGNATURE_BYTES)?;
            let position = std::str::from_utf8(position).ok()?;
            let expected = self.signature(of, position);
            if !crate::secret::are_equal(signature, &expected) {
                return None;
            }
            match position.strip_prefix(KEPT) {
                None => Some(position.to_owned()),
                Some(digest) => {
                    let long = self.long();
                    let found = long.iter().find(|(known, _)| known == digest);
                    found.map(|(_, position)| position.clone())
                }
            }
        };
        read().ok_or_else(not_valid)
    }

    fn keep(&self, position: &str) -> String {
        let digest = URL_SAFE_NO_PAD.encode(crate::secret::digest_of(position.as_bytes()));
        let mut long = self.long();
        if long.iter().all(|(known, _)| *known != digest) {
            if long.len() >= LONG_MAX {
                long.pop_front();
            }
            long.push_back((digest.clone(), position.to_owned()));
        }
        format!("{KEPT}{digest}")
    }

    /// Bytes of the positions that are kept.
    pub(crate) fn memory_bytes(&self) -> usize {
        let long = self.long();
        let each = long
            .iter()
            .map(|(digest, position)| digest.len() + position.len());
        each.sum()
    }

    fn long(&self) -> MutexGuard<'_, VecDeque<(String, String)>> {
        self.long.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signature(&self, of: &str, position: &str) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(of.len() as u64).to_be_bytes());
        context.update(of.as_bytes());
        context.update(position.as_bytes());
        context.sign().as_ref()[..SIGNATURE_BYTES].to_vec()
    }
}

fn not_valid() -> Problem {
    let detail = "the cursor belongs to another list, other filters or an earlier run of the node: \
                  start without a cursor";
    Problem::bad_request("the cursor is not valid").of_parameter("cursor", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_its_list_alone_and_cannot_be_changed() {
        let cursors = Cursors::new().unwrap();
        let cursor = cursors.after("keys", "k7");
        assert_eq!(cursors.position("keys", &cursor).unwrap(), "k7");
        assert!(cursors.position("users", &cursor).is_err());
        let mut bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        *bytes.last_mut().unwrap() = b'8';
        assert!(
            cursors
                .position("keys", &URL_SAFE_NO_PAD.encode(bytes))
                .is_err()
        );
        for other in ["", "é", "AAAA", &cursor[1..]] {
            assert!(cursors.position("keys", other).is_err());
        }
        assert!(Cursors::new().unwrap().position("keys", &cursor).is_err());
    }

    #[test]
    fn a_cursor_after_a_long_name_is_short() {
        let cursors = Cursors::new().unwrap();
        let name = "é".repeat(30_000);
        let cursor = cursors.after_key("topics", &name);
        assert!(cursor.len() < 200, "{}", cursor.len());
        let found: Option<String> = cursors.key("topics", Some(&cursor)).unwrap();
        assert_eq!(found, Some(name));
        for number in 0..LONG_MAX {
            cursors.after("topics", &format!("{number:05000}"));
        }
        assert!(cursors.position("topics", &cursor).is_err());
    }

    #[test]
    fn limits_have_bounds() {
        assert_eq!(limit(None).unwrap(), LIMIT_DEFAULT);
        assert_eq!(limit(Some(1)).unwrap(), 1);
        assert!(limit(Some(0)).is_err() && limit(Some(LIMIT_MAX + 1)).is_err());
    }
}
