//! Names that are most like a misspelt one.

/// What is said of the nearest name, behind what is wrong.
pub(super) fn nearest(hint: &Option<String>) -> String {
    hint.as_ref()
        .map(|known| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}

/// The known name most like a misspelt one, if any is near.
pub(super) fn nearest_of<'a>(known: impl Iterator<Item = &'a str>, name: &str) -> Option<String> {
    known
        .map(|candidate| (likeness(candidate, name), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate.to_owned())
}

/// How like two names are, from 0 to 1. What they begin with alike counts for much, so within one
/// section only what follows it is compared: keys of a section are not alike by its name alone.
fn likeness(known: &str, name: &str) -> f64 {
    let of_section = known
        .split_once('.')
        .zip(name.split_once('.'))
        .filter(|((known, _), (name, _))| known == name);
    let (known, name) = of_section.map_or((known, name), |((_, known), (_, name))| (known, name));
    match strsim::normalized_damerau_levenshtein(known, name) {
        edits if edits < 0.4 => 0.0,
        _ => strsim::jaro_winkler(known, name),
    }
}
