//! Coverage of topics by the Topic Filters of rules.

/// Whether the filter matches every topic except those that begin with `$`.
pub(crate) fn is_all(filter: &str) -> bool {
    matches!(filter, "#" | "+/#")
}

/// Whether `outer` matches every topic that `inner` matches.
pub(crate) fn covers(outer: &str, inner: &str) -> bool {
    if inner.starts_with('$') && !outer.starts_with('$') {
        return false;
    }
    let (mut outer, mut inner) = (outer.split('/'), inner.split('/'));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) => return true,
            (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(outer), Some(inner)) if outer == inner => {}
            _ => return false,
        }
    }
}
