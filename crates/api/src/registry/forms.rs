//! Common parts of requests and answers: revisions, times, words and pages of lists.

use martlet_registry::{PageRequest, read_time};
use serde::Serialize;

use crate::api::Api;
use crate::etag::Version;
use crate::page::{self, Page};
use crate::problem::Problem;
use crate::time::Moment;

/// The version of what its keeper counts.
pub(crate) fn version(revision: i64) -> Version {
    Version::of_number(u64::try_from(revision).unwrap_or(0))
}

/// When, if ever; 0 is never.
pub(crate) fn moment(ms: i64) -> Option<Moment> {
    Moment::from_ms(ms).filter(|_| ms > 0)
}

/// Which page of a list, which `of` names with its filters.
pub(crate) fn page_request(
    api: &Api,
    of: &str,
    params: (Option<usize>, Option<&str>, Option<bool>),
) -> Result<PageRequest, Problem> {
    let (limit, cursor, total) = params;
    let cursor = cursor.map(|cursor| api.cursors().position(of, cursor));
    Ok(PageRequest {
        limit: page::limit(limit)?,
        cursor: cursor.transpose()?,
        with_total: total == Some(true),
    })
}

/// A page as it is answered.
pub(crate) fn page_of<T, V>(
    api: &Api,
    of: &str,
    page: martlet_registry::Page<T>,
    view: impl Fn(T) -> V,
) -> Page<V> {
    Page {
        items: page.items.into_iter().map(view).collect(),
        next: page.next.map(|next| api.cursors().after(of, &next)),
        total: page.total,
    }
}

/// A page of a list that is short enough to be read whole, in the order of `key`, which no two of
/// them share.
pub(crate) fn page_of_all<V: Serialize>(
    api: &Api,
    of: &str,
    mut all: Vec<V>,
    key: impl Fn(&V) -> &str,
    params: (Option<usize>, Option<&str>, Option<bool>),
) -> Result<Page<V>, Problem> {
    let request = page_request(api, of, params)?;
    let total = request.with_total.then_some(all.len() as u64);
    all.sort_by(|one, other| key(one).cmp(key(other)));
    if let Some(after) = request.cursor {
        all.retain(|one| *key(one) > *after);
    }
    let has_more = all.len() > request.limit;
    all.truncate(request.limit);
    let last = all.last().filter(|_| has_more);
    Ok(Page {
        next: last.map(|last| api.cursors().after(of, key(last))),
        items: all,
        total,
    })
}

/// Reads RFC 3339; nothing is never.
///
/// # Errors
/// It is no time.
pub(crate) fn time(pointer: &str, text: Option<&str>) -> Result<i64, Problem> {
    let Some(text) = text else {
        return Ok(0);
    };
    read_time(text).map_err(|detail| Problem::of_body(pointer, detail))
}

/// A word of a closed list.
///
/// # Errors
/// It is none.
pub(crate) fn word<T>(
    pointer: &str,
    text: &str,
    read: impl Fn(&str) -> Option<T>,
    accepted_words: &[&str],
) -> Result<T, Problem> {
    read(text).ok_or_else(|| Problem::of_body(pointer, none_of(text, accepted_words)))
}

/// Word of a closed list in a query parameter.
///
/// # Errors
/// It is none.
pub(crate) fn word_of_query<T>(
    name: &str,
    text: &str,
    read: impl Fn(&str) -> Option<T>,
    accepted_words: &[&str],
) -> Result<T, Problem> {
    read(text).ok_or_else(|| Problem::of_query(name, none_of(text, accepted_words)))
}

fn none_of(text: &str, accepted_words: &[&str]) -> String {
    format!("{text:?} is not one of {}", accepted_words.join(", "))
}
