//! Answers to the question who a client is: right ones, wrong ones, and other steps.

use std::sync::Arc;

use martlet_broker::{
    Authenticated, Authentication, Claim, ExchangeState, Identity, Realm, Refusal, RefusalCause,
    Rules, TenantId,
};
use martlet_codec::ReasonCode;

use crate::choices::Choices;

/// Everybody is who it says.
pub(crate) fn accept(asked: &Authentication) -> Authenticated {
    Authenticated::Accepted {
        identity: Identity {
            user_name: asked.user_name.clone(),
            ..Identity::anyone()
        },
        last_revocation: 0,
        data: None,
    }
}

/// Any answer; another step is asked for of clients that named no method too.
pub(crate) fn answer(asked: &Authentication, choices: &mut Choices<'_>) -> Authenticated {
    match choices.below(8) {
        0..=3 => accept(asked),
        4 | 5 if asked.step.is_some() || choices.one_of(8) => Authenticated::Continue {
            data: choices.bytes(10).into(),
            state: ExchangeState::new(()),
        },
        6 => Authenticated::Refused {
            reason: choices.pick(&[
                ReasonCode::BadUserNameOrPassword,
                ReasonCode::NotAuthorized,
                ReasonCode::ServerUnavailable,
                ReasonCode::BadAuthenticationMethod,
                ReasonCode::ConnectionRateExceeded,
            ]),
            why: Refusal::operators_only(RefusalCause::LoginFailed, "so it was chosen"),
            claim: choices.one_of(2).then(|| Claim {
                tenant: TenantId(choices.below(3) as u32),
                user_name: choices.one_of(2).then(|| "claimed".into()),
            }),
        },
        _ => Authenticated::Accepted {
            identity: identity(asked, choices),
            last_revocation: 0,
            data: choices.one_of(2).then(|| choices.bytes(10).into()),
        },
    }
}

/// Another user perhaps, with other rules or credentials that end.
fn identity(asked: &Authentication, choices: &mut Choices<'_>) -> Identity {
    let rules = match choices.one_of(3) {
        true => Rules::closed(),
        false => Rules::open(),
    };
    Identity {
        realm: Realm::OWN_RULES,
        user_name: match choices.one_of(6) {
            true => choices.maybe(&["user", "other"]).map(Arc::from),
            false => asked.user_name.clone(),
        },
        rules: Arc::new(rules),
        expires_wall_ms: match choices.one_of(4) {
            true => 1_700_000_000_000 + u64::from(choices.u16()) * 1000,
            false => 0,
        },
        ..Identity::anyone()
    }
}
