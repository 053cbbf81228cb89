//! Behaviours over a restart that are tested twice: correctly, and with a deliberate fault that
//! must be detected.

use crate::node::{End, StoredNode};

/// Messages in flight are sent again with their Subscription Identifiers, one or several, whether
/// they were sent at once or waited in the queue first.
pub(crate) fn in_flight_keeps_its_subscription_identifiers(end: End) {
    let mut node = StoredNode::new(1);
    node.play(
        "A: CONNECT clean=0 session_expiry=1000 receive_maximum=4
         A: SUBSCRIBE t/# qos=2 subscription_id=300; SUBSCRIBE t/+/x qos=2 subscription_id=7
         P: CONNECT
         P: PUBLISH t/1 qos=1 payload=1
         P: PUBLISH t/2 qos=2 payload=2
         P: PUBLISH t/3/x qos=1 payload=3
         P: PUBLISH t/4/x qos=2 payload=4
         P: PUBLISH t/5 qos=1 payload=5
         P: PUBLISH t/6/x qos=2 payload=6
         A> PUBLISH t/1 qos=1 payload=1 id=1 subscription_id=300
         A> PUBLISH t/2 qos=2 payload=2 id=2 subscription_id=300
         A> PUBLISH t/3/x qos=1 payload=3 id=3 subscription_id=7 subscription_id=300
         A> PUBLISH t/4/x qos=2 payload=4 id=4 subscription_id=7 subscription_id=300
         A: PUBACK 1 & PUBACK 3
         A> PUBLISH t/5 qos=1 payload=5 id=5 subscription_id=300
         A> PUBLISH t/6/x qos=2 payload=6 id=6 subscription_id=7 subscription_id=300",
    );
    let mut node = node.restart(end, 1, 10);
    node.play(
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A> PUBLISH t/2 qos=2 payload=2 id=2 dup subscription_id=300
         A> PUBLISH t/4/x qos=2 payload=4 id=4 dup subscription_id=7 subscription_id=300
         A> PUBLISH t/5 qos=1 payload=5 id=5 dup subscription_id=300
         A> PUBLISH t/6/x qos=2 payload=6 id=6 dup subscription_id=7 subscription_id=300
         A> nothing",
    );
}

/// UNSUBSCRIBE leaves no state in the store, also for a subscription that is owed retained
/// messages.
pub(crate) fn unsubscribe_leaves_no_state() {
    let after = |steps: &str| {
        let mut node = StoredNode::new(1);
        node.play(&format!(
            "P: CONNECT
             repeat 400
             P: PUBLISH r/${{n}} qos=1 retain payload=x
             end
             A: CONNECT clean=0 session_expiry=1000 receive_maximum=1
             {steps}"
        ));
        node
    };
    let without = after("").states();
    let subscribe = "A: SUBSCRIBE r/# qos=1
                     A> PUBLISH r/1 qos=1 retain payload=x ..";
    assert_eq!(after(subscribe).states(), without + 2, "it is owed more");
    let node = after(&format!("{subscribe}\nA: UNSUBSCRIBE r/#"));
    assert_eq!(node.states(), without);
}
