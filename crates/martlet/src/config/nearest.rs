//! Finds names similar to a misspelt one.

/// The suggestion after an error text, if there is one.
pub(super) fn nearest(hint: &Option<String>) -> String {
    hint.as_ref()
        .map(|known| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}

/// The known name most similar to a misspelt one, if any is similar.
pub(super) fn nearest_of<'a>(known: impl Iterator<Item = &'a str>, name: &str) -> Option<String> {
    known
        .map(|candidate| (likeness(candidate, name), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Similarity of two names, from 0 to 1. A common prefix has much weight, so within a section only
/// the names after it are compared: otherwise all keys of a section would be similar.
fn likeness(known: &str, name: &str) -> f64 {
    let of_section = known
        .split_once('.')
        .zip(name.split_once('.'))
        .filter(|((known, _), (name, _))| known == name);
    let (known, name) = of_section.map_or((known, name), |((_, known), (_, name))| (known, name));
    // One letter too much, too little or wrong, or two in the wrong order.
    if name.len() >= 3 && strsim::damerau_levenshtein(known, name) == 1 {
        return 1.0;
    }
    match strsim::normalized_damerau_levenshtein(known, name) {
        edits if edits < 0.4 => 0.0,
        _ => strsim::jaro_winkler(known, name),
    }
}
