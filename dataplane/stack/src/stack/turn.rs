//! A socket's turn: close, change keys, send; and what becomes of the socket after it.

use lockgate_tcp::State;
use lockgate_wire::Instant;
use pktbuf::Output;

use super::Stack;
use crate::demux::FlowTarget;
use crate::env::Env;
use crate::memory::Missing;
use crate::notice::{Notice, SocketId};
use crate::schedule::{LOOKUPS_PER_TURN, Turn};
use crate::socket::{SendBudget, SendOutcome, Socket, has_room};

impl Stack {
    /// Gives sockets their turns until all are served, the budget of the worker's turn is used up,
    /// or no interface has room.
    pub(super) fn send_in_turn<N: Output>(
        &mut self,
        now: Instant,
        env: &mut Env<'_, N>,
        packets_max: u32,
    ) {
        let mut budget = SendBudget {
            packets: packets_max,
            bytes: self.cx.limits.turn_bytes_max,
        };
        self.remove_finished(env);
        self.cx
            .schedule
            .begin_turn(|iface| has_room(env.net, iface));
        let interfaces = self.config.interfaces.len();
        // A socket that lists itself without sending waits for the next turn.
        let mut turns_left = self.cx.schedule.turns_due();
        let mut blocked = 0;
        while turns_left > 0
            && !budget.is_used_up()
            && blocked < BLOCKED_MAX
            && self.cx.schedule.full_interfaces() < interfaces
            && let Some(turn) = self.cx.schedule.next()
        {
            turns_left -= 1;
            match self.visit_socket(now, &turn, env, &mut budget) {
                Some(SendOutcome::TurnOver) => turns_left += 1,
                Some(SendOutcome::NoRoom(_)) => blocked += 1,
                _ => {}
            }
        }
        #[cfg(debug_assertions)]
        self.check_next_socket(now);
    }

    /// Removes sockets that are over. They have nothing to send, so that they don't wait for an
    /// interface with room.
    fn remove_finished<N: Output>(&mut self, env: &mut Env<'_, N>) {
        while let Some(index) = self.cx.schedule.pop_finished() {
            let socket = self.sockets.get_mut(index);
            if socket.is_some_and(|socket| socket.lists.take_finished()) {
                self.remove_socket(index, env);
            }
        }
    }

    /// Checks one socket in each turn, in order.
    #[cfg(debug_assertions)]
    fn check_next_socket(&mut self, now: Instant) {
        self.check_at = (self.check_at + 1) % self.sockets.slots().max(1);
        let socket = self.sockets.get(self.check_at);
        debug_assert!(
            socket.is_none_or(|socket| !socket.is_forgotten(now, &self.cx)),
            "a socket with work gets no turn"
        );
    }

    /// Gives one socket its turn, if it is still listed for that. Returns `None` if it isn't.
    pub(super) fn visit_socket<N: Output>(
        &mut self,
        now: Instant,
        turn: &Turn,
        env: &mut Env<'_, N>,
        budget: &mut SendBudget,
    ) -> Option<SendOutcome> {
        let quantum = self.cx.limits.quantum_bytes;
        let socket = self.sockets.get_mut(turn.index)?;
        let schedule = &mut self.cx.schedule;
        if !schedule.begin_visit(turn, &mut socket.lists, quantum) {
            return None;
        }
        let bytes_before = budget.bytes;
        let outcome = self.run_socket(now, turn.index, env, budget);
        let (socket, cx) = (self.sockets.get_mut(turn.index)?, &mut self.cx);
        let sent = bytes_before - budget.bytes;
        cx.schedule.end_visit(turn, &mut socket.lists, sent);
        match outcome {
            SendOutcome::Done => cx.schedule.add_resting(socket.id, &mut socket.lists),
            SendOutcome::TurnOver => cx.schedule.add_again(socket.id, &mut socket.lists),
            SendOutcome::NoRoom(iface) => socket.make_blocked(turn, iface, &mut cx.schedule),
            SendOutcome::Starved(missing) => socket.make_starved_of(missing, cx),
            SendOutcome::Unresolved => socket.make_unresolved(cx),
        }
        self.settle_socket(turn.index, env);
        Some(outcome)
    }

    /// Has a socket that was aborted send its reset, and removes it.
    pub(super) fn finish_aborted<N: Output>(
        &mut self,
        now: Instant,
        index: u32,
        env: &mut Env<'_, N>,
    ) {
        self.run_socket(now, index, env, &mut SendBudget::default());
        self.settle_socket(index, env);
    }

    /// Does all that a socket has to do, and sends what the budget allows.
    fn run_socket<N: Output>(
        &mut self,
        now: Instant,
        index: u32,
        env: &mut Env<'_, N>,
        budget: &mut SendBudget,
    ) -> SendOutcome {
        let Self {
            sockets,
            cx,
            egress,
            ..
        } = self;
        let Some(socket) = sockets.get_mut(index) else {
            return SendOutcome::Done;
        };
        socket.resume_reading(&mut cx.notices);
        socket.continue_handshake(cx, env.ciphers, env.pages);
        socket.advance_file(cx, env.pages);
        if let Some(reset) = socket.advance_close(now, cx, env.ciphers, env.pages) {
            egress.reply(now, &socket.tuple, &reset, &mut cx.counters, env);
        }
        socket.advance_keys(cx, env.ciphers, env.pages);
        let outcome = socket.transmit(now, cx, egress, env, budget);
        socket.notify_writable(cx, env.pages);
        outcome
    }

    /// After a socket's turn: removes it if it is finished, shrinks it to a TIME-WAIT entry, or
    /// arms its timer.
    fn settle_socket<N: Output>(&mut self, index: u32, env: &mut Env<'_, N>) {
        let Some(socket) = self.sockets.get(index) else {
            return;
        };
        if socket.is_finished() {
            self.remove_socket(index, env);
        } else if socket.is_detached() && socket.tcp.state() == State::TimeWait {
            self.enter_time_wait(index, env);
        } else {
            // Only the peer's FIN is missing.
            if socket.is_detached() && socket.tcp.state() == State::FinWait2 {
                self.cx.memory.idle.list(index);
            }
            self.arm_socket_timer(index);
        }
    }

    /// Arms a socket's timer for its next deadline.
    pub(super) fn arm_socket_timer(&mut self, index: u32) {
        if let Some(socket) = self.sockets.get(index) {
            let timer = self.timer_of(FlowTarget::Socket(index));
            self.wheel.set(timer, socket.deadline(&self.cx));
        }
    }

    /// Adds a socket to all tables and gives it its id, or returns `None` if there are as many
    /// sockets as there may be.
    pub(super) fn add_socket(&mut self, socket: Socket) -> Option<SocketId> {
        let hash = socket.hash;
        let index = self.sockets.insert(socket).ok()?;
        let serial = self.next_serial;
        self.next_serial = serial.wrapping_add(1);
        let id = SocketId { index, serial };
        if let Some(socket) = self.sockets.get_mut(index) {
            socket.id = id;
            socket.register_handshake(&mut self.cx.handshakes);
            socket.update_room(&self.cx.limits, &mut self.cx.memory.receive);
        }
        self.flows.insert(hash, FlowTarget::Socket(index));
        Some(id)
    }

    /// Removes a socket from all tables and queues its Closed notice.
    pub(super) fn remove_socket<N: Output>(&mut self, index: u32, env: &mut Env<'_, N>) {
        let Some(socket) = self.sockets.remove(index) else {
            return;
        };
        let target = FlowTarget::Socket(index);
        self.wheel.set(self.timer_of(target), None);
        self.flows.remove(socket.hash, target);
        self.cx.memory.idle.set(index, false);
        self.closing_idle -= u32::from(socket.is_closing_idle);
        let reason = socket.close_reason();
        self.cx.counters.count_end(reason);
        self.cx.notices.push(Notice::Closed(socket.id, reason));
        self.cx.away.take_opened(index);
        socket.retire(
            &mut self.cx.handshakes,
            &mut self.cx.memory.receive,
            env.ciphers,
        );
        if self.sockets.len() == 0 {
            self.cx.memory.reserve.release();
        }
    }

    /// Wakes starved sockets if memory was freed, and lists sockets that wait for neighbour
    /// resolution if a neighbour was resolved or became unreachable.
    pub(super) fn wake_waiting<N: Output>(&mut self, now: Instant, env: &Env<'_, N>) {
        self.wake_starved(now, env);
        if self.egress.drain_neighbour_events(now) {
            self.cx.schedule.on_neighbour_event();
        }
    }

    /// Wakes sockets that have to look their neighbour up again, in order and a bounded number.
    pub(super) fn wake_unresolved(&mut self) {
        for _ in 0..LOOKUPS_PER_TURN {
            let Some(index) = self.cx.schedule.pop_lookup() else {
                return;
            };
            if let Some(socket) = self.sockets.get_mut(index)
                && socket.lists.take_unresolved()
            {
                socket.make_ready(&mut self.cx.schedule);
            }
        }
    }

    /// Wakes starved sockets, in order and as many as there is room for, if memory was freed or if
    /// it is time to try again.
    fn wake_starved<N: Output>(&mut self, now: Instant, env: &Env<'_, N>) {
        let cx = &mut self.cx;
        let is_reserve_filled = cx.memory.reserve.is_filled();
        let starved = &mut cx.memory.starved;
        let counts = starved.count_to_wake(now, is_reserve_filled, || env.pages.usage());
        for (missing, count) in Missing::ALL.into_iter().zip(counts) {
            let mut left = count;
            // Sockets that were removed are still listed. They use up no wake-up.
            for _ in 0..4 * count {
                if left == 0 {
                    break;
                }
                let Some(index) = cx.memory.starved.pop(missing) else {
                    break;
                };
                self.wake_steps.add(1);
                if let Some(socket) = self.sockets.get_mut(index)
                    && socket.lists.memory.grant(missing)
                {
                    left -= 1;
                    socket.on_memory_available(&mut cx.notices, &mut cx.schedule);
                }
            }
        }
    }

    /// Takes back records that were sealed or opened elsewhere, a bounded number. Records of
    /// sockets that are gone are freed.
    pub(super) fn take_back_records<N: Output>(&mut self, env: &mut Env<'_, N>) {
        let mut records = 0;
        while records < RECORDS_BACK_PER_TURN
            && let Some(work) = env.ciphers.poll_away()
        {
            records += work.records();
            if let Some((socket, cx)) = self.socket_mut(SocketId::from_bits(work.owner)) {
                socket.on_work_done(work, cx, env.ciphers, env.pages);
            }
        }
    }
}

/// How many sockets may find their interface full in one turn of the worker. With several
/// interfaces, one without room must not stop the others.
const BLOCKED_MAX: u32 = 64;
/// Records that come back in one turn: four megabytes.
const RECORDS_BACK_PER_TURN: usize = 256;
