//! What other tenants have of the topic: there, the same topic is another one.

use super::Finding;
use super::arrival::{names_client, own_filters, published};
use super::facts::{Elsewhere, Facts};
use super::found::{Bearing, Found, is_connected};
use super::near::matches;
use super::side::{Side, side};
use crate::cause::Cause;

/// What to do about clients of two tenants.
const SAME_TENANT: &str = "have the publisher and the receiver log in as users or devices of the \
                           same team";

/// What there is to find.
pub(super) fn elsewhere(facts: &Facts, found: &mut Found) {
    if let Some(finding) = published_elsewhere(facts) {
        found.push((Bearing::Topic, finding));
        return;
    }
    found.extend(device_elsewhere(facts).map(|finding| (Bearing::Topic, finding)));
}

/// Messages to a topic of the client that were published in another tenant.
fn published_elsewhere(facts: &Facts) -> Option<Finding> {
    let is_meant = |topic: &str| {
        let is_asked = match &facts.question.topic {
            Some(expected) => topic == expected,
            None => names_client(facts, topic) || own_filters(facts).any(|filter| filter == topic),
        };
        is_asked && own_filters(facts).any(|filter| matches(filter, topic))
    };
    let mut all = facts.elsewhere.unmatched.iter();
    let (tenant, one) = all.find_map(|(tenant, topics)| {
        let mut latest = topics.iter().rev();
        Some((tenant, latest.find(|one| is_meant(&one.topic))?))
    })?;
    let (published, own) = (published(one), own_tenant(&facts.elsewhere));
    let sentence = format!(
        "{published} arrived in {tenant}, and it is in {own}: the topics of tenants are separate"
    );
    let finding = Finding::new(Cause::NotSubscribed, sentence).remedy(SAME_TENANT);
    Some(finding.with_messages(one))
}

/// The client is subscribed to a topic that names a device of another tenant.
fn device_elsewhere(facts: &Facts) -> Option<Finding> {
    let topic = facts.question.topic.as_deref()?;
    if side(facts) != Side::Receiver || !is_connected(facts) {
        return None;
    }
    let device = facts.elsewhere.devices.first()?;
    let (id, tenant, own) = (&device.id, &device.tenant, own_tenant(&facts.elsewhere));
    let sentence = format!(
        "the topic {topic} names the device {id}, which is in {tenant}, and it is in {own}: the \
         topics of tenants are separate"
    );
    Some(Finding::new(Cause::PublisherAbsent, sentence).remedy(SAME_TENANT))
}

/// The subscribers of the topic in other tenants, as the end of a sentence, and what to do.
pub(super) fn subscribers_elsewhere(facts: &Facts) -> Option<(String, &'static str)> {
    let all = facts.elsewhere.subscribers.iter().map(|one| {
        let (client_id, filter, tenant) = (&one.client_id, &one.filter, &one.tenant);
        format!("{client_id} is subscribed to {filter} in {tenant}")
    });
    let all: Vec<String> = all.collect();
    let own = own_tenant(&facts.elsewhere);
    (!all.is_empty()).then(|| {
        let words = format!(
            "{}, and it publishes in {own}: the topics of tenants are separate",
            all.join(", ")
        );
        (words, SAME_TENANT)
    })
}

fn own_tenant(elsewhere: &Elsewhere) -> &str {
    match &*elsewhere.own {
        "" => "another tenant",
        own => own,
    }
}
