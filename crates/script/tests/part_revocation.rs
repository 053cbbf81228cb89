//! A part that publishes by the rules of a user ends when that user's credentials are revoked. It
//! may attach again with a later decision.

use std::sync::Arc;

use martlet_broker::{
    Command, Identity, ListenerPolicy, PartCall, PartEvent, PartId, PartIdentity, PartQueueLimits,
    PartReach, PartSpec, Realm, Revocation, RevocationReason, RevokedClients, Settings,
};
use martlet_script::{Harness, Wiring};

const NAME: &str = "$test/part";
const PART: PartId = PartId(7);

/// Attaches a part as a user. `last_revocation` is the last revocation processed at that time.
fn attach(node: &mut Harness, last_revocation: u64) -> Vec<(PartId, PartEvent)> {
    let identity = Identity {
        user_name: Some("alice".into()),
        ..Identity::anyone()
    };
    let spec = PartSpec {
        id: PART,
        tenant: identity.tenant,
        client_id: NAME.into(),
        identity: Some(PartIdentity {
            identity,
            last_revocation,
        }),
        subscriptions: Vec::new(),
        credit: 1,
        session_expiry_secs: 0,
        keeps_qos0: false,
        queue: PartQueueLimits::default(),
        reach: PartReach::Node,
    };
    node.part_call(NAME, PartCall::Attach(Box::new(spec)));
    node.elapse(20);
    node.take_told()
}

fn revoke(node: &mut Harness, number: u64) -> Vec<(PartId, PartEvent)> {
    let revocation = Revocation {
        realm: Realm::COMMON,
        whose: RevokedClients::User("alice".into()),
        number,
        reason: RevocationReason::Disabled,
    };
    let all: Arc<[Revocation]> = [revocation].into();
    node.command(0, Command::Revoke(all));
    node.elapse(20);
    node.take_told()
}

fn is_attached(told: &[(PartId, PartEvent)]) -> bool {
    matches!(told, [(PART, PartEvent::Attached { .. })])
}

fn is_ended(told: &[(PartId, PartEvent)]) -> bool {
    matches!(told.last(), Some((PART, PartEvent::Ended { .. })))
}

#[test]
fn a_part_ends_with_the_credentials_of_its_user_and_may_come_again() {
    let wiring = Wiring::default();
    assert_eq!(wiring.shards, 1);
    let mut node = Harness::new(Settings::default(), ListenerPolicy::default(), wiring);
    let told = attach(&mut node, 4);
    assert!(is_attached(&told), "{told:?}");
    let told = revoke(&mut node, 5);
    assert!(is_ended(&told), "{told:?}");
    // Decided before the revocation, and after it.
    let told = attach(&mut node, 4);
    assert!(is_ended(&told), "{told:?}");
    let told = attach(&mut node, 5);
    assert!(is_attached(&told), "{told:?}");
    let told = revoke(&mut node, 6);
    assert!(is_ended(&told), "{told:?}");
}
