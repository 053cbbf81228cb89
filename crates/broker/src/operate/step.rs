//! A step of a job: how far the job has come, and how much a step or a page may take.

use crate::id::RecordNumber;
use crate::report::Answer;

/// Bytes of the texts and payloads of a page, about; one item is on it however long that is. What
/// does not fit is on the next page.
pub const PAGE_BYTES: usize = 1024 * 1024;
/// Bytes of texts and payloads that a reading step looks at or copies, about.
pub(crate) const STEP_BYTES: usize = 64 * 1024;

/// How far a job has come.
pub(crate) enum Step {
    /// There is more to do.
    More,
    /// This is the answer, once the record is durable.
    Done(Answer, RecordNumber),
    /// The job is done, and no answer is waited for.
    Ended,
}
