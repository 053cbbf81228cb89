//! Adds the users of other systems.

use martlet_access::hash::{Kind, PasswordHash, made_up_password};
use martlet_control::text::typed_names;
use martlet_control::use_cases::{FindUser, ImportUser, UseCaseError};
use martlet_registry::{ApiRole, IotFlowUser, NO_ROLE, NewUser};

use super::report::{Outcome, Report};
use crate::cmd::errors::in_commands;
use crate::cmd::node_options::typed_options;
use crate::cmd::tables::OpenTables;

/// A user of another system.
pub(super) struct ImportedUser {
    pub(super) user: NewUser,
    pub(super) hash: PasswordHash,
    /// Note about the user in the report.
    pub(super) note: String,
}

/// A user of IoTFlow, who had no right to publish or subscribe.
///
/// # Errors
/// The reason why it is not imported.
pub(super) fn of_iotflow(found: IotFlowUser) -> Result<ImportedUser, String> {
    if !found.is_active {
        return Err("it is not active".to_owned());
    }
    let (hash, mut note) = match PasswordHash::of_werkzeug(&found.password_hash) {
        Some(hash) => (hash, "with its password".to_owned()),
        None => {
            let password = made_up_password()?;
            let hash = PasswordHash::new(password.as_bytes(), Kind::default())?;
            let note = format!(
                "its password cannot be checked here: set one with martlet user passwd {}{}",
                typed_options(),
                typed_names(&[&found.name])
            );
            (hash, note)
        }
    };
    let api_role = match found.is_administrator {
        true => ApiRole::Administrator,
        false => ApiRole::None,
    };
    if api_role == ApiRole::Administrator {
        note.push_str("; administrator of the API");
    }
    Ok(ImportedUser {
        user: NewUser {
            role: Some(NO_ROLE.to_owned()),
            api_role,
            email: found.email,
            ..NewUser::new(&found.name)
        },
        hash,
        note,
    })
}

/// Adds a user, unless there is one of that name.
pub(super) async fn add_user(
    open: &mut OpenTables,
    report: &mut Report,
    wanted: ImportedUser,
) -> Result<(), UseCaseError> {
    let ImportedUser { user, hash, note } = wanted;
    let name = user.name.clone();
    let find = FindUser { name: name.clone() };
    match open.run(find).await {
        Ok(_) => {
            report.add("user", &name, Outcome::Exists, "");
            return Ok(());
        }
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error),
    }
    match open.run(ImportUser { user, hash }).await {
        Ok(_) => report.add("user", &name, Outcome::Imported, &note),
        Err(error) if error.is_refused() => {
            report.add("user", &name, Outcome::Skipped, &in_commands(&error));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
