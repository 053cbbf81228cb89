//! Queues stay within their bounds, according to the node's session reports.

use martlet_broker::{Answer, Report};

use crate::observer::Findings;

const CHECK: &str = "queues within bounds";

/// The bound.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    queued_max: usize,
}

impl Bounds {
    pub(super) fn new(queued_max: usize) -> Self {
        Self { queued_max }
    }

    pub(super) fn reported(&mut self, reports: &[Report], findings: &mut Findings) {
        let lists = reports.iter().filter_map(|report| match &report.answer {
            Answer::Clients(page) => Some(&page.clients),
            _ => None,
        });
        for info in lists.flatten() {
            if info.queued > self.queued_max {
                let (name, queued, max) = (&info.client_id, info.queued, self.queued_max);
                findings.add(
                    CHECK,
                    format!("{name} has {queued} queued, allowed are {max}"),
                );
            }
            let ended = info.delivered + info.dropped + info.expired;
            if ended > info.matched {
                let (name, matched) = (&info.client_id, info.matched);
                findings.add(CHECK, format!("{name}: {ended} ended of {matched} matched"));
            }
        }
    }
}
