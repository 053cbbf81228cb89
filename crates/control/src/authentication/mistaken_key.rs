//! Passwords that are missing, and keys that clients give as a password by mistake.

use martlet_broker::{Authentication, Password, Refusal, RefusalCause};
use martlet_registry::{may_be_api_key, may_be_provisioning_key};

/// The refusal of a wrong password. If there is none, that is its cause; if it has the form of a
/// key, the kind of that key. The key is in no text.
pub(super) fn named(request: &Authentication, why: Refusal) -> Refusal {
    let password = request.password.as_ref().map_or(&[][..], Password::bytes);
    let of = |cause, detail: String| {
        let named = Refusal::operators_only(cause, detail);
        match (why.cause, why.subject()) {
            (RefusalCause::WrongSecret, Some(device)) => named.about(device),
            _ => named,
        }
    };
    let is_known = matches!(
        why.cause,
        RefusalCause::WrongSecret | RefusalCause::WrongPassword(_)
    );
    if password.is_empty() && is_known {
        let detail = "it sent a user name and no password".to_owned();
        return of(RefusalCause::PasswordMissing, detail);
    }
    let (cause, what) = if may_be_api_key(password) {
        let what = "an API key (mk_...), which is for HTTP requests alone";
        (RefusalCause::ApiKeyAsPassword, what)
    } else if may_be_provisioning_key(password) {
        let what = "a provisioning key (mp_...), by which devices do not log in";
        (RefusalCause::ProvisioningKeyAsPassword, what)
    } else {
        return why;
    };
    let detail = format!("the password has the form of {what}: {}", why.detail());
    of(cause, detail)
}
