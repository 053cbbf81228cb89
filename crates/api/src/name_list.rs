//! Lists of names in queries.

use crate::problem::Problem;

/// Names with commas between them, as a parameter of a query has them.
///
/// # Errors
/// One is empty: a program that has none to name must not reach all.
pub(crate) fn name_list<'a>(parameter: &str, text: &'a str) -> Result<Vec<&'a str>, Problem> {
    let names: Vec<&str> = text.split(',').collect();
    match names.iter().any(|name| name.trim().is_empty()) {
        true => {
            let detail = "one of the names is empty: name some with commas between them, or leave \
                          the parameter out";
            Err(Problem::of_query(parameter, detail))
        }
        false => Ok(names),
    }
}

/// Rejects parameters of a query that are given and empty: a program that has no name to give must
/// not reach all.
///
/// # Errors
/// One is.
pub(crate) fn expect_not_empty<const N: usize>(
    parameters: [(&str, &Option<String>); N],
) -> Result<(), Problem> {
    let mut parameters = parameters.into_iter();
    match parameters.find(|(_, text)| text.as_deref() == Some("")) {
        Some((name, _)) => Err(Problem::of_query(name, "it is empty")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_no_empty_names() {
        assert_eq!(name_list("keys", "a, b").unwrap(), ["a", " b"]);
        for text in ["", ",", " ", "a,", ",a", "a,,b", "a, ,b"] {
            assert!(name_list("keys", text).is_err(), "{text:?}");
        }
    }
}
