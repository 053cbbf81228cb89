//! Subscribers with persistent sessions that record received messages.

use std::sync::Arc;
use std::time::Duration;

use martlet_client::{Acknowledgement, Client, ConnectOptions, Event, Session, SubscribeRequest};
use martlet_codec::QoS;

use crate::Run;
use crate::ledger::{Kind, Mark};
use crate::publisher::persistent;

/// Number of messages after which an odd-numbered subscriber disconnects for some time.
const AWAY_AFTER: u32 = 2_000;
const AWAY: Duration = Duration::from_millis(150);

/// Subscribes to all messages that are not shared, until the run has ended.
pub(crate) async fn keep_subscribed(run: Arc<Run>, number: u16) {
    let kinds = [Kind::AtLeastOnce, Kind::ExactlyOnce, Kind::Retained];
    let filters = kinds.map(|kind| format!("{}/+", kind.name()));
    keep_reading(&run, number, &filters, &format!("subscriber-{number}")).await;
}

/// Is a member of the share group until the run has ended.
pub(crate) async fn keep_sharing(run: Arc<Run>, member: u16) {
    let reader = run.ledger.readers() + member;
    let filters = [format!("$share/crew/{}/+", Kind::Shared.name())];
    keep_reading(&run, reader, &filters, &format!("member-{member}")).await;
}

async fn keep_reading(run: &Run, reader: u16, filters: &[String], client_id: &str) {
    let mut client = Client::new(Session::new());
    let options = persistent(client_id, true);
    let mut known = false;
    let mut since_away = 0;
    while !run.has_ended() {
        if client.connect(&run.endpoint, &options).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            continue;
        }
        while let Ok(event) = client.next_event().await {
            match event {
                Event::Connected(info) => {
                    if known && !info.session_present {
                        run.ledger.session_lost(client_id);
                    }
                    known = true;
                    if !run.ledger.is_subscribed(reader) {
                        subscribe(&mut client, filters);
                    }
                }
                Event::Completed {
                    acknowledgement: Acknowledgement::Subscribed(_),
                    ..
                } => run.ledger.subscribed(reader),
                Event::Message(message) => {
                    if let Some(mark) = Mark::of(&message.topic, &message.payload) {
                        run.ledger.received(reader, mark);
                        since_away += 1;
                    }
                }
                _ => {}
            }
            if reader % 2 == 1 && since_away >= AWAY_AFTER && !run.is_finishing() {
                since_away = 0;
                client.close();
                tokio::time::sleep(AWAY).await;
                break;
            }
        }
    }
}

fn subscribe(client: &mut Client, filters: &[String]) {
    let mut request = SubscribeRequest::default();
    for filter in filters {
        let one = SubscribeRequest::one(filter, QoS::ExactlyOnce);
        request.filters.extend(one.filters);
    }
    let now = client.now();
    if let Err(error) = client.session().subscribe(&request, now) {
        unreachable!("a subscription of our own is refused: {error}");
    }
}

/// Checks that each publisher's retained message is the last acknowledged one, or a later one.
pub(crate) async fn check_retained(run: &Run) -> anyhow::Result<Vec<String>> {
    let mut client = Client::new(Session::new());
    client
        .connect(&run.endpoint, &ConnectOptions::default())
        .await?;
    let mut found = vec![None; usize::from(run.ledger.publishers())];
    let wait = Duration::from_secs(10);
    let filter = format!("{}/+", Kind::Retained.name());
    while found.iter().any(Option::is_none) {
        let Ok(event) = tokio::time::timeout(wait, client.next_event()).await else {
            break;
        };
        match event? {
            Event::Connected(_) => subscribe(&mut client, std::slice::from_ref(&filter)),
            Event::Message(message) => {
                if let Some(mark) = Mark::of(&message.topic, &message.payload) {
                    found[usize::from(mark.publisher)] = Some(mark.number);
                }
            }
            _ => {}
        }
    }
    let mut violations = Vec::new();
    for (publisher, found) in (0..).zip(found) {
        let (acknowledged, published) = run.ledger.retained_range(publisher);
        let number = found.unwrap_or(0);
        if !(acknowledged..=published).contains(&number) {
            violations.push(format!(
                "the retained message of publisher {publisher} is number {number}, \
                 although {acknowledged} was acknowledged"
            ));
        }
    }
    Ok(violations)
}
