//! Connections in TIME-WAIT.

use lockgate_tcp::{SegmentIn, TimeWaitVerdict};
use lockgate_wire::Instant;
use pktbuf::Output;

use super::Stack;
use crate::demux::FlowTarget;
use crate::env::Env;
use crate::time_wait::TimeWaitEntry;

impl Stack {
    /// Handles a segment for a connection in TIME-WAIT.
    pub(super) fn on_time_wait<N: Output>(
        &mut self,
        now: Instant,
        index: u32,
        segment: &SegmentIn<'_>,
        env: &mut Env<'_, N>,
    ) {
        let timer = self.timer_of(FlowTarget::TimeWait(index));
        let Some(entry) = self.time_wait.get_mut(index) else {
            return;
        };
        let tuple = entry.tuple;
        match entry.state.on_segment(now, segment, &mut self.cx.tcp) {
            TimeWaitVerdict::Drop => {}
            TimeWaitVerdict::Reply(header) => {
                self.wheel.set(timer, Some(entry.state.deadline()));
                self.egress
                    .reply(now, &tuple, &header, &mut self.cx.counters, env);
            }
            TimeWaitVerdict::Reuse { isn_after } => {
                self.remove_time_wait(index);
                self.on_unmatched_segment(now, &tuple, segment, Some(isn_after), env);
            }
        }
    }

    /// Replaces a socket in TIME-WAIT by a small entry.
    pub(super) fn enter_time_wait<N: Output>(&mut self, index: u32, env: &mut Env<'_, N>) {
        let Some(socket) = self.sockets.get(index) else {
            return;
        };
        let (tuple, hash, state) = (socket.tuple, socket.hash, socket.tcp.time_wait());
        self.remove_socket(index, env);
        let Some(state) = state else {
            return;
        };
        let deadline = state.deadline();
        match self.time_wait.insert(TimeWaitEntry { tuple, hash, state }) {
            Ok(index) => {
                let target = FlowTarget::TimeWait(index);
                self.cx.counters.time_wait += 1;
                self.flows.insert(hash, target);
                self.wheel.set(self.timer_of(target), Some(deadline));
            }
            Err(_) => self.cx.counters.time_wait_overflow += 1,
        }
    }

    pub(super) fn remove_time_wait(&mut self, index: u32) {
        if let Some(entry) = self.time_wait.remove(index) {
            let target = FlowTarget::TimeWait(index);
            self.wheel.set(self.timer_of(target), None);
            self.flows.remove(entry.hash, target);
        }
    }
}
