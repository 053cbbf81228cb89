//! The log as text: of the file, or the last lines that are in memory.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use martlet_control::log_lines::LogLine;
use serde::Deserialize;
use tracing::warn;
use utoipa::IntoParams;

use crate::api::Api;
use crate::extract::QueryOf;
use crate::logs::logging;
use crate::problem::{Problem, ProblemKind};

/// The name of the microservice's log file: it is the node's log here, whatever that is called.
const USUAL: &str = "mqtt-service.log";
/// Bytes of the file that are shown, at most: its end.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Lines of memory that are shown, at most.
const LINES_MAX: usize = 10_000;

/// Which lines.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct LogParams {
    /// Name of the log file: that of the node, or `mqtt-service.log`, which stands for it.
    file: Option<String>,
    /// The last lines alone.
    lines: Option<usize>,
}

/// The log as text
///
/// Of the log file, or the last lines that are in memory.
#[utoipa::path(get, path = "/logs",
    params(LogParams),
    responses(
        (status = 200, description = "The lines", body = String, content_type = "text/plain")))]
pub(super) async fn show(
    State(api): State<Api>,
    QueryOf(wanted): QueryOf<LogParams>,
) -> Result<Response, Problem> {
    let own = api.settings.log_file.as_deref();
    if let Some(file) = wanted.file.as_deref().filter(|file| !file.is_empty()) {
        expect_own(Path::new(file), own)?;
    }
    let text = match own.map(Path::to_owned) {
        None => in_memory(&api, wanted.lines)?,
        Some(path) => {
            let read = tokio::task::spawn_blocking(move || end_of(&path)).await;
            let read = read.map_err(|error| Problem::unavailable(error.to_string()))?;
            let text = read.map_err(|error| {
                warn!(%error, "the log file cannot be read");
                Problem::new(ProblemKind::NotFound, "Log file not found")
            })?;
            match wanted.lines {
                Some(count) => last(&text, count).to_owned(),
                None => text,
            }
        }
    };
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response())
}

/// No other file is shown.
fn expect_own(file: &Path, own: Option<&Path>) -> Result<(), Problem> {
    let is_plain = |part| matches!(part, Component::Normal(_));
    if !file.components().all(is_plain) {
        return Err(Problem::bad_request("Invalid log file path"));
    }
    let is_named = own.is_some_and(|own| file == own || own.file_name() == Some(file.as_os_str()));
    if is_named || file == Path::new(USUAL) {
        return Ok(());
    }
    Err(Problem::new(ProblemKind::NotFound, "Log file not found"))
}

/// The end of a file, from the beginning of a line.
fn end_of(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let skipped = file.metadata()?.len().saturating_sub(BYTES_MAX);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let whole = match skipped {
        0 => &*text,
        _ => text.split_once('\n').map_or("", |(_, rest)| rest),
    };
    Ok(whole.to_owned())
}

/// The last lines of a text.
fn last(text: &str, count: usize) -> &str {
    let mut ends = text.trim_end_matches('\n').rmatch_indices('\n');
    match count {
        0 => "",
        count => ends.nth(count - 1).map_or(text, |(at, _)| &text[at + 1..]),
    }
}

fn in_memory(api: &Api, count: Option<usize>) -> Result<String, Problem> {
    let count = count.unwrap_or(LINES_MAX).min(LINES_MAX);
    let (lines, _) = logging(&api.control)?.lines.last(count, |_| true);
    Ok(lines.iter().map(line).collect())
}

fn line(line: &LogLine) -> String {
    let LogLine {
        at,
        level,
        area,
        text,
        fields,
        ..
    } = line;
    let level = level.to_uppercase();
    let fields = fields.iter();
    let fields: String = fields
        .map(|(name, value)| format!(" {name}={value}"))
        .collect();
    format!("{at} {level:>5} {area}: {text}{fields}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_shown() {
        assert_eq!(last("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(last("a\nb\nc", 1), "c");
        assert_eq!(last("a\nb\n", 9), "a\nb\n");
        assert_eq!(last("a\nb\n", 0), "");
        assert_eq!(last("", 3), "");
    }

    #[test]
    fn no_other_file_is_shown() {
        let own = Some(Path::new("/var/log/martlet/martlet.log"));
        let kind = |file: &str| expect_own(Path::new(file), own).map_err(|problem| problem.kind());
        assert_eq!(kind("martlet.log"), Ok(()));
        assert_eq!(kind("mqtt-service.log"), Ok(()));
        assert_eq!(kind("other.log"), Err(ProblemKind::NotFound));
        for bad in ["/etc/passwd", "../x", "a/../../x", "."] {
            assert_eq!(kind(bad), Err(ProblemKind::BadRequest), "{bad}");
        }
    }
}
