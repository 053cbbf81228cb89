//! The devices that have published. The control plane notes with it when a device sent its last
//! message.
//!
//! A shard lists each device once in a *round* of some seconds, from the first
//! [`Command::ActiveDevices`](crate::Command::ActiveDevices) on. So the list costs each message two
//! comparisons, and the number of devices limits its length. A device for which there is no room is
//! listed with a later message.

pub(crate) mod list;

use crate::node::{Cx, Node};
use crate::shard::Shard;

impl Shard {
    /// A client has published: lists it if it is a device.
    #[inline]
    pub(crate) fn note_activity<N: Node>(&mut self, cx: &Cx<'_, N>, session: u32) {
        if self.noted.active_devices.is_enabled() {
            self.list_active(session, list::round(cx.now.mono_ms));
        }
    }

    fn list_active(&mut self, session: u32, round: u8) {
        let Some(permit) = &mut self.sessions.at(session).permit else {
            return;
        };
        if permit.listed_in_round == round || !permit.identity.is_device {
            return;
        }
        if let Some(device) = &permit.identity.user_name
            && self
                .noted
                .active_devices
                .add(permit.identity.tenant, device)
        {
            permit.listed_in_round = round;
        }
    }
}
