//! Order of the findings, and which of them stand behind another one or are left out. What a cause
//! weighs, and what follows from it, is in the table of causes.

use std::cmp::Reverse;

use super::found::Found;
use super::topic::matches;
use super::{Diagnosis, Finding};
use crate::cause::{Bearing, Cause, Weight};

/// Findings with their weights, the heaviest first, and of these the latest.
pub(super) fn ranked(found: Found) -> Vec<(Weight, Finding)> {
    let mut weights: Vec<Weight> = found
        .iter()
        .map(|(bearing, finding)| finding.cause.weight_of(*bearing))
        .collect();
    let mut is_behind = vec![false; found.len()];
    for (at, (_, finding)) in found.iter().enumerate() {
        let mut others = found.iter().enumerate();
        let cause = others.find(|(of, (_, other))| {
            weights[*of] != Weight::Before
                && other.cause.suppresses(finding.cause)
                && is_about_same(other, finding)
        });
        if let Some((of, _)) = cause {
            is_behind[at] = true;
            weights[of] = weights[of].min(weights[at]);
        }
    }
    let found = found.into_iter().map(|(_, finding)| finding);
    let mut all: Vec<_> = weights.into_iter().zip(is_behind).zip(found).collect();
    all.sort_by_key(|((weight, is_behind), finding)| {
        (
            *weight,
            *is_behind,
            Reverse(finding.last_ms.or(finding.since_ms)),
        )
    });
    let all = all
        .into_iter()
        .map(|((weight, _), finding)| (weight, finding));
    all.collect()
}

/// Both are about the same topic.
fn is_about_same(cause: &Finding, finding: &Finding) -> bool {
    match (&cause.about, &finding.about) {
        (Some(cause), Some(about)) => cause == about || matches(cause, about),
        _ => false,
    }
}

/// Takes the diagnosis, unless all that was found is over, or of others.
pub(super) fn take_first(ranked: &mut Vec<(Weight, Finding)>) -> Option<Finding> {
    let (weight, _) = ranked.first()?;
    (*weight < Weight::Before).then(|| ranked.remove(0).1)
}

/// Puts a finding before the diagnosis, if that follows from it; else behind all others.
pub(super) fn before_what_follows(diagnosis: &mut Diagnosis, finding: Finding) {
    if diagnosis.wrong && finding.cause.suppresses(diagnosis.finding.cause) {
        let other = std::mem::replace(&mut diagnosis.finding, finding);
        diagnosis.also.insert(0, other);
    } else {
        diagnosis.also.push(finding);
    }
}

/// Findings beside the diagnosis. Some causes are reported once of one client, and each
/// remedy is reported once.
pub(super) fn behind(
    first: &Finding,
    ranked: Vec<(Weight, Finding)>,
    clients: usize,
) -> Vec<Finding> {
    let mut also: Vec<Finding> = Vec::new();
    for (_, mut finding) in ranked {
        let is_reported = |other: &Finding| {
            let is_once = finding.cause.is_reported_once() && clients == 1 && !finding.is_guess;
            other.cause == finding.cause && (other.sentence == finding.sentence || is_once)
        };
        let is_remedied = |other: &Finding| {
            (&other.remedy, &other.command) == (&finding.remedy, &finding.command)
        };
        let mut others = std::iter::once(first).chain(&also);
        if others.clone().any(is_reported) {
            continue;
        }
        if others.any(is_remedied) {
            (finding.remedy, finding.command) = (None, None);
        }
        also.push(finding);
    }
    also
}

/// Faults of objects that have the name of a client.
pub(super) fn beside_client(named: Vec<Finding>) -> impl Iterator<Item = (Bearing, Finding)> {
    let wrong = named.into_iter().filter(|finding| finding.cause.is_fault());
    wrong.map(|finding| (Bearing::Aside, finding))
}

/// Another client of the user was refused.
pub(super) fn is_other_refused(found: &Found) -> bool {
    found.iter().any(|(bearing, finding)| {
        *bearing == Bearing::Aside && finding.cause.is_of_admission() && !finding.is_guess
    })
}

/// How a finding of a client bears on the question while another client of the user is connected.
pub(super) fn of_absent(bearing: Bearing) -> Bearing {
    match bearing {
        Bearing::Refused | Bearing::Ended | Bearing::Left | Bearing::Remark => Bearing::Aside,
        bearing => bearing,
    }
}

/// The bearing that weighs more.
pub(super) fn heavier(cause: Cause, one: Bearing, other: Bearing) -> Bearing {
    match cause.weight_of(one) < cause.weight_of(other) {
        true => one,
        false => other,
    }
}
