//! What a node that goes on from a backup lacks: what is newer than the backup.

use super::Finding;
use super::facts::Facts;
use crate::cause::Cause;
use crate::rfc3339;

/// Adds to a name that is unknown, or a password that is wrong, that the backup which was restored
/// may be older.
pub(super) fn with_restore(facts: &Facts, mut finding: Finding) -> Finding {
    let is_of_name = facts.from_address.is_none();
    let Some(restored) = facts.restored.as_ref().filter(|_| is_of_name) else {
        return finding;
    };
    let missing = match finding.cause {
        Cause::UnknownName | Cause::NobodyKnown if facts.registered_as.is_none() => {
            "a user or device that was added after that backup is not in the tables"
        }
        Cause::WrongPassword if finding.last_ms >= Some(restored.restored_ms) => {
            "a credential that was set after that backup is not in the tables"
        }
        _ => return finding,
    };
    let at = rfc3339::in_words(restored.restored_ms);
    let backup = match restored.backup_ms {
        Some(ms) => format!("a backup of {}", rfc3339::in_words(ms)),
        None => "a backup".to_owned(),
    };
    finding.sentence.push_str(&format!(
        "; the node was restored on {at} from {backup}: {missing}"
    ));
    finding
}
