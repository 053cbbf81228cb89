//! Rows as lines of text.

use futures_util::TryStreamExt as _;
use sqlx::{AnyConnection, Row as _};

use crate::RegistryError;
use crate::sql::Fault;

/// Neither is in a name, an id or a digest.
const LINE_END: char = '\u{1e}';
const FIELD_END: char = '\u{1f}';

/// Rows as lines of text, of which the database gives many in one: a row of its own takes the
/// driver several times as long as the database needs to find it.
pub(crate) async fn each_line<const N: usize>(
    on: &mut AnyConnection,
    place: &str,
    sql: &'static str,
    mut take: impl FnMut([&str; N]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let query = sqlx::query(sql).bind(FIELD_END.to_string());
    let mut rows = query.bind(LINE_END.to_string()).fetch(on);
    while let Some(row) = rows.try_next().await? {
        let lines: String = row.try_get("lines")?;
        for line in lines.split(LINE_END) {
            let mut fields = [""; N];
            let mut found = line.split(FIELD_END);
            fields.fill_with(|| found.next().unwrap_or_default());
            if found.next().is_some() {
                let what = format!("a control character where none can be: {line:?}");
                return Err(damaged(place, what).into());
            }
            take(fields)?;
        }
    }
    Ok(())
}

pub(crate) fn damaged(place: &str, what: String) -> RegistryError {
    RegistryError::Damaged {
        place: place.to_owned(),
        what,
    }
}
