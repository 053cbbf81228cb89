//! Passwords that are missing, keys that clients give as a password by mistake, and secrets that
//! they give as the User Name.

use martlet_broker::{Authentication, Password, Refusal, RefusalCause};
use martlet_registry::{Snapshot, may_be_api_key, may_be_provisioning_key};

use crate::wall_clock::now_signed_ms;

/// The refusal of a client whose User Name, which is unknown, is the secret of the device that its
/// password or its Client Identifier names: both are swapped, or the client is made for a server
/// that takes a token as the User Name. The secret is in no text.
pub(super) fn secret_as_user_name(tables: &Snapshot, request: &Authentication) -> Option<Refusal> {
    let secret = request.user_name.as_deref()?.as_bytes();
    let password = request.password.as_ref().map_or(&[][..], Password::bytes);
    let password = std::str::from_utf8(password).unwrap_or_default();
    let (tenant, now_ms) = (request.realm.tenant().0, now_signed_ms());
    // Looked up for both, so that the time of the answer shows nothing.
    let [of_password, of_client_id] = [password, &*request.client_id]
        .map(|id| (id, tables.is_secret_of(tenant, id, secret, now_ms)));
    let (id, detail) = match (of_password, of_client_id) {
        ((id, true), _) => (
            id,
            format!("its User Name is the secret of the device {id}, and its password the id"),
        ),
        (_, (id, true)) => (
            id,
            format!("its User Name is the secret of the device {id}, which has to be its password"),
        ),
        _ => return None,
    };
    let refusal = Refusal::operators_only(RefusalCause::SecretAsUserName, detail);
    Some(refusal.about(id))
}

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
