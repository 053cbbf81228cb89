//! The revision that a change is made for.

use std::fmt;
use std::sync::Arc;

/// Revisions that an object may have when it is changed: any, or those of a list, as `If-Match`
/// has it (RFC 9110, 13.1.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected(Option<Arc<[i64]>>);

impl Expected {
    /// Any revision.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Whether the object may have this revision.
    #[must_use]
    pub fn has(&self, revision: i64) -> bool {
        match &self.0 {
            Some(revisions) => revisions.contains(&revision),
            None => true,
        }
    }
}

impl From<i64> for Expected {
    fn from(revision: i64) -> Self {
        Self(Some(Arc::new([revision])))
    }
}

impl FromIterator<i64> for Expected {
    fn from_iter<I: IntoIterator<Item = i64>>(revisions: I) -> Self {
        Self(Some(revisions.into_iter().collect()))
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revisions = self.0.as_deref().unwrap_or_default();
        for (at, revision) in revisions.iter().enumerate() {
            let before = if at == 0 { "" } else { " or " };
            write!(f, "{before}{revision}")?;
        }
        Ok(())
    }
}
