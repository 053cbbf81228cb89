//! Lists by page. A cursor has the end of the last page, in the columns of the order: rows that are
//! added or removed elsewhere neither repeat nor hide others.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use sqlx::AnyConnection;

use crate::object::{Object, push_columns, read_all};
use crate::sql::{Engine, Fault, Sql};
use crate::{Refused, RegistryError};

/// Rows of a page, at most, whatever is requested.
const PAGE_MAX: usize = 1_000;

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// Number of rows, up to 1,000.
    pub limit: usize,
    /// End of the previous page; none: the first page.
    pub cursor: Option<String>,
    /// Whether all rows are counted too, which takes longer.
    pub with_total: bool,
}

impl PageRequest {
    /// The first page.
    pub fn first(limit: usize) -> Self {
        Self {
            limit,
            cursor: None,
            with_total: false,
        }
    }

    fn limit(&self) -> usize {
        self.limit.clamp(1, PAGE_MAX)
    }

    /// One more, to know whether there is another page.
    pub(crate) fn rows_to_read(&self) -> i64 {
        self.limit() as i64 + 1
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Rows of the page.
    pub items: Vec<T>,
    /// Where the next page begins; none: this is the last.
    pub next: Option<String>,
    /// How many there are on all pages, if that was asked for.
    pub total: Option<u64>,
}

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) text: String,
    pub(crate) number: i64,
}

impl Cursor {
    pub(crate) fn of(page: &PageRequest) -> Result<Option<Self>, RegistryError> {
        let Some(given) = &page.cursor else {
            return Ok(None);
        };
        let read = || {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(given).ok()?).ok()?;
            let (number, text) = text.split_once(' ')?;
            Some(Self {
                text: text.to_owned(),
                number: number.parse().ok()?,
            })
        };
        let cursor = read().filter(|cursor| !cursor.text.contains('\0'));
        cursor
            .map(Some)
            .ok_or_else(|| Refused::Cursor(given.clone()).into())
    }

    fn written(&self) -> String {
        URL_SAFE_NO_PAD.encode(format!("{} {}", self.number, self.text))
    }
}

/// Objects in the order of a column of text that no two of them share.
pub(crate) struct Listed<O> {
    /// The column.
    pub(crate) key: &'static str,
    /// The text that an object has in it.
    pub(crate) name: fn(&O) -> &str,
}

impl<O: Object> Listed<O> {
    /// A page of those that `from` finds: it writes ` FROM … WHERE …`.
    pub(crate) async fn page(
        &self,
        on: &mut AnyConnection,
        engine: Engine,
        from: impl Fn(&mut Sql),
        page: &PageRequest,
    ) -> Result<Page<O>, Fault> {
        let mut total = None;
        if page.with_total {
            let mut sql = Sql::new(engine, "SELECT COUNT(*)");
            from(&mut sql);
            total = Some(sql.count(&mut *on).await?);
        }
        let mut sql = Sql::new(engine, "SELECT ");
        push_columns::<O>(&mut sql);
        from(&mut sql);
        if let Some(cursor) = Cursor::of(page)? {
            sql.push(" AND ").push(self.key).push(" > ");
            sql.bind(cursor.text);
        }
        sql.push(" ORDER BY ").push(self.key).push(" LIMIT ");
        sql.bind(page.rows_to_read());
        let items = read_all(sql, on).await?;
        Ok(page_of(page, items, total, |item| Cursor {
            text: (self.name)(item).to_owned(),
            number: 0,
        }))
    }
}

/// A page of the rows that were found.
pub(crate) fn page_of<T>(
    page: &PageRequest,
    mut items: Vec<T>,
    total: Option<i64>,
    cursor: impl Fn(&T) -> Cursor,
) -> Page<T> {
    let has_more = items.len() > page.limit();
    items.truncate(page.limit());
    let last = items.last().filter(|_| has_more);
    Page {
        next: last.map(|last| cursor(last).written()),
        items,
        total: total.map(|total| u64::try_from(total).unwrap_or(0)),
    }
}
