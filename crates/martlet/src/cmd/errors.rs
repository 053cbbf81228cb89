//! Errors in the words of commands.

use martlet_api::in_commands;
use martlet_control::use_cases::UseCaseError;
use martlet_registry::RegistryError;

/// Text of an error with its causes. What helps against an error of the tables is a command.
pub(crate) fn error_text(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| {
        if let Some(error) = cause.downcast_ref::<UseCaseError>() {
            in_commands(error)
        } else if let Some(error) = cause.downcast_ref::<RegistryError>() {
            in_commands(error)
        } else {
            cause.to_string()
        }
    });
    causes.collect::<Vec<_>>().join(": ")
}

/// The detail of a running node's refusal as a command tells it: it names options and commands,
/// where the API names members of the body, parameters and requests.
pub(crate) fn in_words_of_commands(error: &str) -> String {
    let mut text = error.to_owned();
    for part in ["the body: ", "the query: "] {
        if let Some((before, rest)) = text.split_once(part) {
            let rest = rest.strip_prefix('/').unwrap_or(rest);
            let (name, detail) = rest.split_once(": ").unwrap_or_default();
            let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            text = match !name.is_empty() && name.chars().all(is_name) {
                true => format!("{before}--{}: {detail}", name.replace('_', "-")),
                false => format!("{before}{rest}"),
            };
        }
    }
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        let request = format!("{method} /api/v1/");
        while let Some((before, rest)) = text.split_once(&request)
            && let Some((path, rest)) = rest.split_once(" (martlet ")
            && !path.contains(' ')
            && let Some((command, rest)) = rest.split_once(')')
        {
            text = format!("{before}martlet {command}{rest}");
        }
    }
    if let Some((before, rest)) = text.split_once("?team=")
        && let Some((team, rest)) = rest.split_once(" (--team ")
        && !team.contains(' ')
        && let Some((team, rest)) = rest.split_once(')')
    {
        text = format!("{before}--team {team}{rest}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::in_words_of_commands;

    #[test]
    fn an_error_names_options_and_commands() {
        for (api, command) in [
            (
                "the body: /minutes: expected 1 to 1440",
                "--minutes: expected 1 to 1440",
            ),
            (
                "the query: expires_in: expected a number",
                "--expires-in: expected a number",
            ),
            (
                "the body: /items/1/limit: expected a number",
                "items/1/limit: expected a number",
            ),
            (
                "there is no device x: GET /api/v1/devices (martlet device ls) lists those there are",
                "there is no device x: martlet device ls lists those there are",
            ),
            (
                "d was deleted: POST /api/v1/devices/d/restore (martlet device restore d) brings it \
                 back, POST /api/v1/devices/d/purge (martlet device rm --purge d) frees it",
                "d was deleted: martlet device restore d brings it back, martlet device rm --purge d \
                 frees it",
            ),
            (
                "there is one in the team north: ?team=north (--team north) asks for it",
                "there is one in the team north: --team north asks for it",
            ),
            ("all else stays as it is", "all else stays as it is"),
        ] {
            assert_eq!(in_words_of_commands(api), command);
        }
    }
}
