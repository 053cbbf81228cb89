//! Tests of clients that wait in the lobby for the authenticator.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use crate::common::*;
use martlet_broker::{Authenticated, Authentication, Identity, ListenerPolicy, Settings};
use martlet_reactor::{Authenticator, LoginAnswer};

/// Passes requests on; the receiver answers at any time.
#[derive(Debug)]
struct Asked(Sender<LoginAnswer>);

impl Authenticator for Asked {
    fn ask(&self, _: Authentication, answer: LoginAnswer) {
        // After the end of the test there is no receiver.
        let _ = self.0.send(answer);
    }
}

/// Answers arrive while other clients connect, so that the place of a connection that has moved to
/// another shard is reused in the same tick.
#[test]
fn everybody_of_a_crowd_is_let_in_whichever_shard_they_move_to() {
    let (questions, asked) = channel();
    let mut config = config(2, Settings::default());
    config.authenticator = Arc::new(Asked(questions));
    for listener in &mut config.listeners {
        listener.policy = Arc::new(ListenerPolicy {
            authenticate: true,
            ..ListenerPolicy::clone(&listener.policy)
        });
    }
    let node = run(config);
    let answers = std::thread::spawn(move || {
        while let Ok(answer) = asked.recv() {
            answer.give(Authenticated::Accepted {
                identity: Identity::anyone(),
                last_revocation: 0,
                data: None,
            });
        }
    });
    for round in 0..10 {
        let mut clients: Vec<Client> = (0..50)
            .map(|number| {
                let mut client = node.tcp();
                client.send(&connect(&format!("{round}-{number}"), 0x02, None));
                client
            })
            .collect();
        for client in &mut clients {
            client.expect(&[0x20, 2, 0, 0]);
        }
    }
    drop(node);
    answers.join().unwrap();
}
