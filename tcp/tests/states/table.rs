//! The table of states: what each segment does in each state, as RFC 9293, section 3.10.7, RFC 5961
//! and RFC 1337 say.
//!
//! A cell is what is answered (`ack`, `rst`, or nothing `-`), then the new state if it changes and
//! the event if there is one. `later` is an acknowledgment that may wait for data to go with.

use lockgate_tcp::{Event, State};
use lockgate_wire::tcp::Flags;

use crate::rig::{ACK, FIN, RST, Rig, SYN, Seg, seg};

const STATES: [State; 9] = [
    State::SynSent,
    State::SynReceived,
    State::Established,
    State::FinWait1,
    State::FinWait2,
    State::CloseWait,
    State::Closing,
    State::LastAck,
    State::TimeWait,
];

/// What our FIN, if it was sent, makes of "acknowledges everything".
fn all(rig: &Rig) -> i64 {
    i64::from(matches!(
        rig.state(),
        State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck | State::TimeWait
    ))
}

/// What the peer sends next: after its FIN, if that was received.
fn next(rig: &Rig) -> i64 {
    i64::from(matches!(
        rig.state(),
        State::CloseWait | State::Closing | State::LastAck | State::TimeWait
    ))
}

fn cell(state: State, make: impl Fn(&Rig) -> Seg) -> String {
    let mut rig = Rig::in_state(state);
    let segment = make(&rig);
    let verdict = rig.feed(segment);
    let mut said = match &verdict.answer {
        None => String::from("-"),
        Some(tcp) if tcp.flags.contains(Flags::RST) => String::from("rst"),
        Some(tcp) => {
            assert_eq!(tcp.flags, ACK);
            String::from("ack")
        }
    };
    if verdict.answer.is_none() && rig.conn.ack_due() {
        said = String::from("later");
    }
    if rig.state() != state {
        said += &format!(" {:?}", rig.state());
    }
    if verdict.event != Event::None {
        said += &format!(" {:?}!", verdict.event);
    }
    if verdict.peer_closed {
        said += " eof";
    }
    if verdict.keep.start < verdict.keep.end {
        said += &format!(" +{}", verdict.keep.end.0 - verdict.keep.start.0);
    }
    said
}

type Make = fn(&Rig) -> Seg;

const SEGMENTS: [(&str, Make); 17] = [
    ("RST, next number", |r| seg(RST, next(r), 0).ack(all(r))),
    ("RST, in window", |r| seg(RST, next(r) + 500, 0).ack(all(r))),
    ("RST, outside", |r| {
        seg(RST, next(r) + 20_000, 0).ack(all(r))
    }),
    ("RST without ACK", |r| seg(RST, next(r), 0).bare()),
    ("SYN, in window", |r| seg(SYN, next(r) + 500, 0).bare()),
    ("SYN, the old one", |_| seg(SYN, -1, 0).bare()),
    ("SYN-ACK", |r| seg(SYN, -1, 0).ack(all(r))),
    ("no ACK bit", |r| seg(ACK, next(r), 100).bare()),
    ("ACK of nothing new", |r| seg(ACK, next(r), 0).ack(0)),
    ("ACK of all", |r| seg(ACK, next(r), 0).ack(all(r))),
    ("ACK of the unsent", |r| seg(ACK, next(r), 0).ack(5000)),
    ("ACK far too old", |r| seg(ACK, next(r), 0).ack(-50_000)),
    ("text, next number", |r| seg(ACK, next(r), 100).ack(all(r))),
    ("text, out of order", |r| {
        seg(ACK, next(r) + 500, 100).ack(all(r))
    }),
    ("text, outside", |r| {
        seg(ACK, next(r) + 20_000, 100).ack(all(r))
    }),
    ("FIN and ACK of all", |r| seg(FIN, 0, 0).ack(all(r))),
    ("FIN, ACK of nothing new", |_| seg(FIN, 0, 0).ack(0)),
];

fn table() -> String {
    let mut out = String::new();
    for (name, make) in SEGMENTS {
        for state in STATES {
            let state_name = format!("{state:?}");
            out += &format!("{name:<24}{state_name:<12}{}\n", cell(state, make));
        }
    }
    out
}

#[test]
fn each_segment_in_each_state() {
    let known = include_str!("table.txt");
    let table = table();
    if std::env::var_os("LOCKGATE_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/states/table.txt");
        std::fs::write(path, &table).expect("the table can be written");
        return;
    }
    for (is, was) in table.lines().zip(known.lines()) {
        assert_eq!(is, was);
    }
    assert_eq!(table.lines().count(), known.lines().count());
}
