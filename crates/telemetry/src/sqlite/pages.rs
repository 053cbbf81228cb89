//! Asks SQLite whether the pages of a table are in order.

use sqlx::SqliteConnection;

use crate::StorageError;

/// Lines of SQLite that a finding has.
const LINES_MAX: usize = 3;

/// The finding about the pages of a table and its indexes, if SQLite finds them damaged.
pub(super) async fn damaged_pages(
    on: &mut SqliteConnection,
    place: &str,
    table: &'static str,
) -> Result<Option<String>, StorageError> {
    // `quick_check` does not see rows that are out of order.
    let sql = format!("PRAGMA integrity_check('{table}')");
    let lines = sqlx::query_scalar::<_, String>(sqlx::AssertSqlSafe(sql));
    let lines = match lines.fetch_all(on).await {
        Ok(lines) if lines == ["ok"] => return Ok(None),
        Ok(lines) => lines,
        Err(error) => match StorageError::of_sql(place, error) {
            StorageError::Damaged { what, .. } => vec![what],
            error => return Err(error),
        },
    };
    let lines: Vec<_> = lines.iter().flat_map(|text| text.lines()).collect();
    let said = lines.iter().filter(|line| !line.starts_with("***"));
    let said: Vec<_> = said.take(LINES_MAX).copied().collect();
    Ok(Some(format!(
        "pages of the table `{table}` ({})",
        said.join(", ")
    )))
}
