//! What becomes of sockets whose unread bytes pin too much memory.

use lockgate_wire::Instant;
use pktbuf::Output;

use super::Stack;
use crate::env::Env;
use crate::memory::Missing;

impl Stack {
    /// Resets sockets while all of them pin more than the receive budget. The application has read
    /// what it can use; sockets that wait for page buffers to read, or for a record that is
    /// opened elsewhere, are spared.
    pub(super) fn enforce_receive_budget<N: Output>(&mut self, now: Instant, env: &mut Env<'_, N>) {
        self.cx.memory.receive.advance(now);
        loop {
            let sockets = &self.sockets;
            let is_exempt = |index| {
                sockets
                    .get(index)
                    .is_none_or(|s| s.lists.memory.is_starved(Missing::Pages) || s.awaits_record())
            };
            let Some(index) = self.cx.memory.receive.next_reset(is_exempt) else {
                return;
            };
            self.cx.counters.receive_budget_resets += 1;
            if let Some(socket) = self.sockets.get_mut(index) {
                let tuple = socket.tuple;
                if let Some(reset) = socket.reset_unread(&mut self.cx.tcp) {
                    self.egress
                        .reply(now, &tuple, &reset, &mut self.cx.counters, env);
                }
            }
            self.remove_socket(index, env);
        }
    }
}
