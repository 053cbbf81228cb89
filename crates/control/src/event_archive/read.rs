//! Events of the archive, page by page. A page reads a bounded number of bytes, so that a query
//! that finds little ends too.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;
use std::str::FromStr;

use martlet_broker::TenantId;
use martlet_codec::{TopicFilter, TopicName};
use serde_json::Value;

use super::files::{Segment, segments};
use crate::event_kind::EventKind;
use crate::feed::Kinds;

/// Bytes that are read for one page.
const SCANNED_BYTES: u64 = 32 * 1024 * 1024;
/// Bytes of the events of a page, about.
const PAGE_BYTES: usize = 2 * 1024 * 1024;
/// A longer line was not written by the archive.
const LINE_BYTES: u64 = 1024 * 1024;

/// The files cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the event archive cannot be read: {0}")]
pub struct ArchiveError(#[from] pub(super) io::Error);

/// Which events.
#[derive(Clone, Debug)]
pub struct ArchiveQuery {
    /// Only events of this tenant; none: of all.
    pub tenant: Option<TenantId>,
    /// From this time on, milliseconds since the Unix epoch,
    pub from_ms: u64,
    /// and before this one.
    pub until_ms: u64,
    /// Only events of these kinds.
    pub kinds: Kinds,
    /// Only events of this client.
    pub client: Option<String>,
    /// With a topic that this Topic Filter matches.
    pub topic: Option<String>,
    /// Events, at most.
    pub limit: usize,
    /// End of the page before.
    pub after: Option<ArchivePosition>,
}

/// A place in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivePosition {
    segment: Segment,
    offset: u64,
}

impl std::fmt::Display for ArchivePosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Segment { first_ms, number } = self.segment;
        write!(f, "{first_ms} {number} {}", self.offset)
    }
}

impl FromStr for ArchivePosition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(' ');
        let mut next = || {
            parts
                .next()
                .and_then(|part| part.parse::<u64>().ok())
                .ok_or(())
        };
        let (first_ms, number, offset) = (next()?, next()?, next()?);
        let number = u32::try_from(number).map_err(drop)?;
        Ok(Self {
            segment: Segment { first_ms, number },
            offset,
        })
    }
}

/// Events that were found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArchivePage {
    /// JSON objects, the oldest one first. There may be fewer than were asked for.
    pub events: Vec<Value>,
    /// Where the next page begins; none: this is the last one.
    pub next: Option<ArchivePosition>,
}

pub(super) fn read(directory: &Path, query: &ArchiveQuery) -> Result<ArchivePage, ArchiveError> {
    let all = segments(directory)?;
    let (mut page, mut left, mut bytes) = (ArchivePage::default(), SCANNED_BYTES, PAGE_BYTES);
    for (at, (segment, _)) in all.iter().enumerate() {
        let next = all.get(at + 1).map(|(next, _)| next);
        // What is in it is older than the first event of the next one.
        let is_too_old = next.is_some_and(|next| next.first_ms < query.from_ms);
        let after = query.after.as_ref();
        let is_read = after.is_some_and(|after| *segment < after.segment);
        if is_too_old || is_read {
            continue;
        }
        let begin = after.filter(|after| after.segment == *segment);
        let begin = begin.map_or(0, |after| after.offset);
        let events = &mut page.events;
        let (left, bytes) = (&mut left, &mut bytes);
        let end = read_segment(directory, segment, begin, query, events, left, bytes)?;
        if let Some(offset) = end {
            page.next = Some(ArchivePosition {
                segment: segment.clone(),
                offset,
            });
            break;
        }
    }
    Ok(page)
}

/// Reads a segment from an offset on. Returns where it has stopped before its end.
fn read_segment(
    directory: &Path,
    segment: &Segment,
    begin: u64,
    query: &ArchiveQuery,
    events: &mut Vec<Value>,
    left: &mut u64,
    bytes: &mut usize,
) -> Result<Option<u64>, ArchiveError> {
    let mut file = match File::open(segment.path(directory)) {
        // It was deleted meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    file.seek(SeekFrom::Start(begin))?;
    let (mut reader, mut offset, mut line) = (BufReader::new(file), begin, Vec::new());
    loop {
        if events.len() >= query.limit || *left == 0 || *bytes == 0 {
            return Ok(Some(offset));
        }
        line.clear();
        let mut bounded = io::Read::take(&mut reader, LINE_BYTES);
        let read = bounded.read_until(b'\n', &mut line)? as u64;
        // Half a line is being written, or was when the node ended.
        if line.last() != Some(&b'\n') {
            return Ok(None);
        }
        offset += read;
        *left = left.saturating_sub(read);
        if let Some(event) = matching(&line, query) {
            *bytes = bytes.saturating_sub(line.len());
            events.push(event);
        }
    }
}

/// The event of a line, if it is asked for.
fn matching(line: &[u8], query: &ArchiveQuery) -> Option<Value> {
    let line = std::str::from_utf8(line).ok()?;
    let mut parts = line.splitn(4, ' ');
    let tenant = TenantId(parts.next()?.parse().ok()?);
    let at_ms: u64 = parts.next()?.parse().ok()?;
    let kind = EventKind::from_name(parts.next()?)?;
    let is_asked = query.tenant.is_none_or(|expected| expected == tenant)
        && (query.from_ms..query.until_ms).contains(&at_ms)
        && query.kinds.has(kind);
    if !is_asked {
        return None;
    }
    let event: Value = serde_json::from_str(parts.next()?).ok()?;
    let client = query.client.as_deref();
    if client.is_some_and(|client| event["client_id"] != client) {
        return None;
    }
    match &query.topic {
        None => Some(event),
        Some(filter) => {
            let filter = TopicFilter::new(filter).ok()?;
            let topic = TopicName::new(event["topic"].as_str()?).ok()?;
            filter.matches(topic).then_some(event)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(tenant: u32, at_ms: u64, kind: &str, client: &str) -> String {
        let topic = format!("d/{client}/x");
        let json = serde_json::json!({"kind": kind, "client_id": client, "topic": topic});
        format!("{tenant} {at_ms} {kind} {json}\n")
    }

    #[test]
    fn events_are_found_page_by_page_and_half_a_line_is_none() {
        let directory = std::env::temp_dir().join(format!("archive-read-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let segment = |first_ms| {
            Segment {
                first_ms,
                number: 0,
            }
            .path(&directory)
        };
        let first = line(0, 10, "connected", "a") + &line(1, 11, "connected", "b");
        fs::write(segment(10), first).unwrap();
        let second =
            line(0, 20, "published", "a") + &line(0, 21, "packet", "b") + "0 22 packet {\"ki";
        fs::write(segment(20), second).unwrap();
        let query = ArchiveQuery {
            tenant: None,
            from_ms: 0,
            until_ms: u64::MAX,
            kinds: Kinds::all(),
            client: None,
            topic: None,
            limit: 2,
            after: None,
        };
        let times = |query: &ArchiveQuery| {
            let page = read(&directory, query).unwrap();
            let found: Vec<_> = page.events.iter().map(|one| one["kind"].clone()).collect();
            (found, page.next)
        };
        let (found, next) = times(&query);
        assert_eq!(found, ["connected", "connected"]);
        let after = next.map(|next| next.to_string().parse().unwrap());
        let (found, next) = times(&ArchiveQuery {
            after,
            limit: 9,
            ..query.clone()
        });
        assert_eq!((found.len(), next), (2, None));
        let of = |query: ArchiveQuery| times(&query).0;
        let tenant = Some(TenantId(1));
        assert_eq!(
            of(ArchiveQuery {
                tenant,
                ..query.clone()
            }),
            ["connected"]
        );
        let late = ArchiveQuery {
            from_ms: 20,
            until_ms: 21,
            ..query.clone()
        };
        assert_eq!(of(late), ["published"]);
        let client = Some("b".to_owned());
        assert_eq!(
            of(ArchiveQuery {
                client,
                ..query.clone()
            }),
            ["connected", "packet"]
        );
        let topic = Some("d/a/#".to_owned());
        assert_eq!(
            of(ArchiveQuery { topic, ..query }),
            ["connected", "published"]
        );
        fs::remove_dir_all(&directory).unwrap();
    }
}
