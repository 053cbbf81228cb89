//! Deletes spans of series.
