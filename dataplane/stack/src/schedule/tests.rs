use lockgate_testing::proptest_config;
use proptest::prelude::*;

use super::membership::NEW_BYTES;
use super::*;

#[test]
fn an_event_has_each_waiting_socket_look_up_once() {
    let mut schedule = Schedule::default();
    let add = |schedule: &mut Schedule, index| {
        let id = SocketId { index, serial: 0 };
        let mut lists = Membership::default();
        assert!(schedule.add_unresolved(id, &mut lists));
        assert!(!schedule.add_unresolved(id, &mut lists), "it is listed");
    };
    add(&mut schedule, 3);
    add(&mut schedule, 1);
    assert_eq!(schedule.pop_lookup(), None);
    schedule.on_neighbour_event();
    assert_eq!(schedule.pop_lookup(), Some(3));
    // It isn't resolved yet, and waits for the next event.
    add(&mut schedule, 3);
    assert!(schedule.has_lookups());
    assert_eq!(
        (schedule.pop_lookup(), schedule.pop_lookup()),
        (Some(1), None)
    );
    assert!(!schedule.has_lookups());
    // Events that follow each other are one.
    schedule.on_neighbour_event();
    schedule.on_neighbour_event();
    assert_eq!(
        (schedule.pop_lookup(), schedule.pop_lookup()),
        (Some(3), None)
    );
}

/// Sockets with bytes to send, and interfaces that take packets.
struct Model {
    schedule: Schedule,
    sockets: Vec<ModelSocket>,
    /// Packets that each interface still takes.
    room: [u32; 2],
    /// Sockets in the order of their turns, and what each sent.
    turns: Vec<(u32, u32)>,
}

#[derive(Default)]
struct ModelSocket {
    lists: Membership,
    queued: u32,
    iface: u16,
}

impl Model {
    fn new(sockets: usize) -> Self {
        Self {
            schedule: Schedule::default(),
            sockets: (0..sockets).map(|_| ModelSocket::default()).collect(),
            room: [u32::MAX; 2],
            turns: Vec::new(),
        }
    }

    fn queue(&mut self, index: u32, bytes: u32) {
        let socket = &mut self.sockets[index as usize];
        socket.queued += bytes;
        self.schedule.add_ready(id(index), &mut socket.lists);
    }

    /// A turn of the worker, as `Stack::send_in_turn` has it.
    fn turn(&mut self, mut bytes: u32) {
        let room = self.room;
        self.schedule
            .begin_turn(|iface| room[usize::from(iface.0)] > 0);
        let mut turns_left = self.schedule.turns_due();
        while turns_left > 0
            && bytes > 0
            && let Some(turn) = self.schedule.next()
        {
            turns_left -= 1;
            let socket = &mut self.sockets[turn.index as usize];
            let lists = &mut socket.lists;
            if !self.schedule.begin_visit(&turn, lists, QUANTUM) {
                continue;
            }
            let iface = IfaceId(socket.iface);
            let mut sent = 0;
            let is_full = loop {
                if socket.queued == 0 || bytes == 0 || lists.credit_bytes() == 0 {
                    break false;
                }
                let room = &mut self.room[usize::from(socket.iface)];
                if *room == 0 {
                    break true;
                }
                *room -= 1;
                let packet = match lists.class() {
                    SendClass::New => socket.queued.min(lists.credit_bytes()),
                    SendClass::Old => socket.queued.min(PACKET),
                };
                lists.charge(packet);
                socket.queued -= packet;
                sent += packet;
                bytes = bytes.saturating_sub(packet);
            };
            self.schedule.end_visit(&turn, lists, sent);
            self.turns.push((turn.index, sent));
            match (is_full, socket.queued) {
                (true, _) => self
                    .schedule
                    .add_blocked(id(turn.index), &turn, iface, lists),
                (false, 0) => self.schedule.add_resting(id(turn.index), lists),
                (false, _) => {
                    self.schedule.add_again(id(turn.index), lists);
                    turns_left += 1;
                }
            }
        }
        for socket in &self.sockets {
            assert!(socket.queued == 0 || socket.lists.is_listed());
        }
    }

    /// The turns since the last call.
    fn take_turns(&mut self) -> Vec<(u32, u32)> {
        core::mem::take(&mut self.turns)
    }

    /// A model whose first `count` sockets are old, with much to send.
    fn with_downloads(sockets: usize, count: u32) -> Self {
        let mut model = Self::new(sockets);
        (0..count).for_each(|index| model.queue(index, 100 << 20));
        model.turn(count * NEW_BYTES);
        model.take_turns();
        model
    }
}

fn id(index: u32) -> SocketId {
    SocketId { index, serial: 0 }
}

const QUANTUM: u32 = 64 << 10;
const PACKET: u32 = 32 << 10;
const TURN: u32 = 512 << 10;

#[test]
fn new_sockets_go_first_and_old_ones_take_turns() {
    let mut model = Model::with_downloads(10, 8);
    model.queue(9, 3000);
    model.queue(8, NEW_BYTES + 1);
    model.turn(3000 + NEW_BYTES + 7 * QUANTUM + 1);
    let turns = model.take_turns();
    assert_eq!(turns[..2], [(9, 3000), (8, NEW_BYTES)]);
    let old: Vec<(u32, u32)> = (0..7).map(|index| (index, QUANTUM)).collect();
    assert_eq!(turns[2..9], old);
    // The turn of the worker ends within the turn of the last one, which is first in the next one.
    // The rest of the longer response comes behind all others.
    assert_eq!(turns[9..], [(7, PACKET)]);
    model.turn(QUANTUM);
    assert_eq!(model.take_turns()[..2], [(7, QUANTUM - PACKET), (8, 1)]);
}

/// A socket without others has another quantum at once. Resting sockets don't count, a socket
/// with work does.
#[test]
fn a_turn_is_extended_while_no_other_socket_has_work() {
    let mut lists = Membership::default();
    let mut schedule = Schedule::default();
    lists.charge(NEW_BYTES);
    assert!(schedule.extend_turn(&mut lists, QUANTUM));
    assert_eq!(
        (lists.class(), lists.credit_bytes()),
        (SendClass::Old, QUANTUM)
    );
    let mut resting = Membership::default();
    resting.become_old();
    schedule.add_resting(id(1), &mut resting);
    lists.charge(QUANTUM);
    assert!(schedule.extend_turn(&mut lists, QUANTUM));
    lists.charge(QUANTUM);
    let mut other = Membership::default();
    schedule.add_ready(id(2), &mut other);
    assert!(!schedule.extend_turn(&mut lists, QUANTUM));
    assert_eq!(lists.credit_bytes(), 0);
}

/// What a socket sends beyond its quantum is taken from its next turn.
#[test]
fn old_sockets_send_the_same_whatever_their_packets_are() {
    let mut model = Model::with_downloads(2, 2);
    model.sockets[0].lists.charge(40_000);
    for _ in 0..50 {
        model.turn(TURN);
    }
    let mut sent = [40_000_u32, 0];
    for (index, bytes) in model.take_turns() {
        sent[index as usize] += bytes;
    }
    assert!(sent[0].abs_diff(sent[1]) <= 2 * QUANTUM, "{sent:?}");
}

/// A socket that empties its queue again and again is new if it was without work for a round. If
/// it always has work when its place comes up, it takes turns with the others.
#[test]
fn a_socket_is_new_again_after_a_round_without_work() {
    for (period, is_first) in [(8, true), (1, false)] {
        let mut model = Model::with_downloads(9, 8);
        let (mut first, mut own, mut others) = (0, 0, 0);
        for step in 0..160 {
            // A round of the others takes four turns.
            if step % period == 0 {
                model.queue(8, NEW_BYTES);
            }
            model.turn(2 * QUANTUM);
            let order = model.take_turns();
            first += usize::from(order[0].0 == 8);
            own += order.iter().filter(|turn| turn.0 == 8).count();
            others += order.iter().filter(|turn| turn.0 != 8).count();
        }
        if is_first {
            assert_eq!([first, own], [160 / period; 2]);
        } else {
            assert!(
                own.abs_diff(others / 8) <= 2,
                "{own} turns, {others} of the others"
            );
        }
    }
}

/// New sockets without end, as of peers that open a connection for each request: the old ones have
/// half.
#[test]
fn new_sockets_leave_half_to_old_ones() {
    let mut model = Model::with_downloads(5000, 4);
    let mut next = 4;
    let mut sent = [0_u64; 2];
    for _ in 0..100 {
        for _ in 0..40 {
            model.queue(next, NEW_BYTES);
            next += 1;
        }
        model.turn(TURN);
        for (index, bytes) in model.take_turns() {
            sent[usize::from(index < 4)] += u64::from(bytes);
        }
    }
    let [new, old] = sent;
    assert!(new <= old + u64::from(NEW_AHEAD_MAX + TURN), "{sent:?}");
    assert!(old <= new + u64::from(TURN), "{sent:?}");
}

/// A flight goes before short responses, however many they are. A socket whose application sends
/// goes behind them, though it was listed for a flight.
#[test]
fn a_flight_goes_before_new_sockets_and_downloads() {
    let mut model = Model::with_downloads(320, 4);
    (4..304).for_each(|index| model.queue(index, 16_000));
    for index in [304, 305] {
        model.sockets[index].lists.begin_handshake();
    }
    model.queue(304, 4000);
    model.queue(305, 5000);
    model.sockets[305].lists.end_flights();
    model.turn(TURN);
    let turns = model.take_turns();
    assert_eq!(turns[..2], [(304, 4000), (4, 16_000)]);
    for _ in 0..30 {
        model.turn(TURN);
    }
    let turns = model.take_turns();
    let place = turns.iter().position(|turn| turn.0 == 305);
    let place = place.unwrap_or_else(|| panic!("{turns:?}"));
    let before = turns[..place].iter().filter(|turn| turn.0 >= 4);
    assert!(before.count() > 260, "{turns:?}");
}

/// Flights without end leave half to the others, and the others leave half to them.
#[test]
fn flights_without_end_leave_half_to_others() {
    for others in [0..4, 4..4000] {
        let mut model = Model::with_downloads(12_000, 4);
        let mut next = [4, 4000];
        let mut sent = [0_u64; 2];
        for _ in 0..100 {
            for _ in 0..80 {
                if others.contains(&next[0]) {
                    model.queue(next[0], NEW_BYTES);
                    next[0] += 1;
                }
                model.sockets[next[1] as usize].lists.begin_handshake();
                model.queue(next[1], 8000);
                next[1] += 1;
            }
            model.turn(TURN);
            for (index, bytes) in model.take_turns() {
                sent[usize::from(index >= 4000)] += u64::from(bytes);
            }
        }
        let [other, flights] = sent;
        let most = u64::from(FLIGHTS_AHEAD_MAX + NEW_BYTES);
        assert!(flights <= other + most, "{others:?}: {sent:?}");
        assert!(other <= flights + most + u64::from(QUANTUM), "{sent:?}");
    }
}

/// Sockets that rest are no others: flights have no debt because of them.
#[test]
fn flights_beside_resting_sockets_have_no_debt() {
    let mut model = Model::with_downloads(300, 0);
    for round in 0..3 {
        for index in 0..100 {
            let index = 100 * round + index;
            model.sockets[index as usize].lists.begin_handshake();
            model.queue(index, 4000);
        }
        model.turn(TURN);
        assert_eq!(model.schedule.flights_ahead, 0);
    }
}

/// Where an interface has no room, what came first stays first. The other interface is used.
#[test]
fn a_full_interface_keeps_the_order_and_stops_no_other() {
    let mut model = Model::with_downloads(9, 4);
    for index in 3..9 {
        model.sockets[index as usize].iface = 1;
    }
    (4..8).for_each(|index| model.queue(index, 100));
    model.room = [1, 0];
    for _ in 0..3 {
        model.turn(TURN);
        model.room[0] = 1;
    }
    let sent = |model: &mut Model| -> Vec<u32> {
        let turns = model.take_turns().into_iter();
        turns.filter(|turn| turn.1 > 0).map(|turn| turn.0).collect()
    };
    assert_eq!(sent(&mut model), [0, 0, 1], "a quantum is two packets");
    // A new socket that comes later stands behind the new ones that wait for room.
    model.queue(8, 100);
    model.room = [0, 2];
    model.turn(TURN);
    model.room = [0, 9];
    model.turn(TURN);
    assert_eq!(sent(&mut model)[..6], [4, 5, 6, 7, 8, 3]);
}

proptest! {
    #![proptest_config(proptest_config(128))]

    /// Whatever arrives and whatever room there is, each socket with work is listed (checked after
    /// each turn), and has its turn after a bounded number of bytes of others.
    #[test]
    fn each_socket_with_work_has_its_turn(
        steps in prop::collection::vec(
            (0_u32..24, prop_oneof![1_u32..2000, 1_u32..200_000], 0_u32..6, 0_u32..6),
            1..200,
        ),
        turn_bytes in prop_oneof![Just(TURN), 1_u32..100_000],
    ) {
        let mut model = Model::new(24);
        for index in 12..24 {
            model.sockets[index].iface = 1;
        }
        let mut waited = [0_u64; 24];
        // A round of old sockets, and as much of new ones.
        let bound = u64::from(2 * (24 * (QUANTUM + PACKET) + NEW_AHEAD_MAX));
        for (index, bytes, room_a, room_b) in steps {
            for socket in [index, (index + 7) % 24, (index + 15) % 24] {
                model.queue(socket, bytes);
            }
            // Now and then an interface has no room for some turns.
            model.room = [room_a.saturating_sub(2) * 9, room_b.saturating_sub(2) * 9];
            model.turn(turn_bytes);
            for (index, sent) in model.take_turns() {
                let iface = model.sockets[index as usize].iface;
                for (waited, socket) in waited.iter_mut().zip(&model.sockets) {
                    // Bytes of the other interface are no measure for a full one.
                    *waited += if socket.iface == iface { u64::from(sent) } else { 0 };
                }
                if sent > 0 {
                    waited[index as usize] = 0;
                }
            }
            for (waited, socket) in waited.iter_mut().zip(&model.sockets) {
                if socket.queued == 0 {
                    *waited = 0;
                }
                prop_assert!(*waited <= bound, "{waited} bytes");
            }
        }
        model.room = [u32::MAX; 2];
        let left: u32 = model.sockets.iter().map(|socket| socket.queued).sum();
        for _ in 0..=left / turn_bytes.min(PACKET) + 1 {
            model.turn(turn_bytes);
        }
        prop_assert!(model.sockets.iter().all(|socket| socket.queued == 0));
        prop_assert!(!model.schedule.has_work());
    }
}
