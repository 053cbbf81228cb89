//! Wills.

use super::restarts;

#[test]
fn a_client_that_was_connected_has_left_and_its_will_is_sent_after_the_grace() {
    restarts(
        "W: CONNECT id=w clean=0 session_expiry=1000 will.topic=w/1 will.payload=gone will.qos=1 will.delay=3
         V: CONNECT id=v will.topic=w/2 will.payload=gone2
         X: CONNECT id=x will.topic=w/3 will.payload=never
         X: DISCONNECT
         A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE w/# qos=1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         wait 20s
         A> nothing
         wait 20s
         {
         A> PUBLISH w/1 qos=1 payload=gone id=$one
         A> PUBLISH w/2 payload=gone2
         }
         A: PUBACK $one
         wait 100s
         A> nothing
         W: CONNECT id=w clean=0 session_expiry=1000
         W> CONNACK 0 session_present=1
         V: CONNECT id=v clean=0 session_expiry=1000",
    );
}

#[test]
fn who_comes_back_in_time_has_no_will_sent() {
    restarts(
        "W: CONNECT id=w clean=0 session_expiry=1000 will.topic=w will.payload=gone
         A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE w qos=1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         W: CONNECT id=w clean=0 session_expiry=1000
         W> CONNACK 0 session_present=1
         wait 100s
         A> nothing",
    );
}

#[test]
fn a_will_that_was_sent_is_not_sent_again() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE w/# qos=1
         W: CONNECT id=w clean=0 session_expiry=1000 will.topic=w/1 will.payload=gone will.qos=1
         V: CONNECT id=v clean=0 session_expiry=1000 will.topic=nobody will.payload=gone
         W: drop
         V: drop
         A> PUBLISH w/1 qos=1 payload=gone id=1
         A: PUBACK 1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         A: SUBSCRIBE nobody
         wait 100s
         A> nothing",
    );
}

#[test]
fn a_will_that_came_due_after_its_delay_is_not_sent_again() {
    restarts(
        "A: CONNECT clean=0 session_expiry=1000; SUBSCRIBE w qos=1
         W: CONNECT clean=0 session_expiry=900 will.topic=w will.payload=go will.qos=1 will.delay=3
         W: drop
         A> nothing
         wait 4s
         A> PUBLISH w qos=1 payload=go id=1
         A: PUBACK 1",
        "A: CONNECT clean=0 session_expiry=1000
         A> CONNACK 0 session_present=1
         wait 100s
         A> nothing",
    );
}
