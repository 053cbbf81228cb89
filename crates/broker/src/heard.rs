//! Which devices have published, for those who note when a device sent its last message.
//!
//! A shard lists each device once in a *round* of some seconds, from the first time it is asked
//! ([`Command::Heard`](crate::Command::Heard)). So the list costs a message two comparisons, and
//! its length is bound by the number of devices. A device that finds no room is listed with a later
//! message.

pub(crate) mod list;

use crate::node::{Cx, Node};
use crate::shard::Shard;

impl Shard {
    /// A client has published: lists it if it is a device.
    #[inline]
    pub(crate) fn note_heard<N: Node>(&mut self, cx: &Cx<'_, N>, session: u32) {
        if self.noted.heard.is_wanted() {
            self.list_heard(session, list::round(cx.now.mono_ms));
        }
    }

    fn list_heard(&mut self, session: u32, round: u8) {
        let Some(permit) = &mut self.sessions.at(session).permit else {
            return;
        };
        if permit.heard == round || !permit.identity.is_device {
            return;
        }
        if let Some(device) = &permit.identity.user_name
            && self.noted.heard.add(permit.identity.tenant, device)
        {
            permit.heard = round;
        }
    }
}
