use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limits::{Bounded, Timeout};

fn cx() -> HttpContext {
    HttpContext::new(Limits {
        body_bytes_max: Bounded::clamped(1_000),
        header_timeout: Timeout::clamped(1_000),
        body_timeout: Timeout::clamped(2_000),
        idle_timeout: Timeout::clamped(3_000),
        lookup_timeout: Timeout::clamped(4_000),
        send_timeout: Timeout::clamped(5_000),
        linger_timeout: Timeout::clamped(6_000),
        ..Limits::default()
    })
}

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

/// Answers everything at once; writes down what was demanded.
fn run(input: &[u8], step: usize) -> (Vec<String>, Connection) {
    let mut cx = cx();
    let mut connection = Connection::new(at(0), &cx);
    let mut log = Vec::new();
    let mut fed = 0;
    let mut given = 0;
    loop {
        match connection.next_action() {
            Action::Read | Action::Linger if given == input.len() => return (log, connection),
            Action::Read | Action::Linger => {
                // What was given but not taken is shown again, with what came meanwhile.
                fed = input.len().min(fed.max(given) + step);
                given += connection.on_bytes(at(0), &input[given..fed], &mut cx);
            }
            // Whether the client is asked depends on whether its body came with the head.
            Action::AskForBody => connection.on_body_requested(),
            Action::Respond => {
                let path = connection
                    .request()
                    .map(|r| r.path().to_vec())
                    .unwrap_or_default();
                log.push(match connection.refusal() {
                    Some(status) => status.line().to_owned(),
                    None => String::from_utf8_lossy(&path).into_owned(),
                });
                let keep = connection.begin_response(at(0), &cx);
                log.push(if keep { "keep" } else { "close" }.to_owned());
            }
            Action::Send => connection.end_response(at(0), &mut cx),
            Action::Close => return (log, connection),
        }
    }
}

fn logged(input: &str) -> String {
    let (expected, _) = run(input.as_bytes(), input.len());
    for step in 1..input.len() {
        assert_eq!(
            run(input.as_bytes(), step).0,
            expected,
            "{input:?} by {step}"
        );
    }
    expected.join(" ")
}

#[test]
fn requests_one_after_another_in_any_split() {
    let get = |path: &str| format!("GET /{path} HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(logged(&get("a")), "a keep");
    assert_eq!(
        logged(&(get("a") + &get("b") + &get("c"))),
        "a keep b keep c keep"
    );
    assert_eq!(logged(&(get("a") + "\r\n" + &get("b"))), "a keep b keep");
    let last = "GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    assert_eq!(logged(&(get("a") + last + &get("never"))), "a keep x close");
    assert_eq!(
        logged("GET /a HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n"),
        "a close"
    );
}

#[test]
fn bodies_are_discarded_up_to_the_next_request() {
    let next = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    let with = |lines: &str, body: &str| {
        logged(&format!(
            "GET /a HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n{body}{next}"
        ))
    };
    assert_eq!(with("Content-Length: 5", "GET /"), "a keep next keep");
    assert_eq!(
        with("Transfer-Encoding: chunked", "3\r\nGET\r\n0\r\n\r\n"),
        "a keep next keep"
    );
    assert_eq!(
        with("Expect: 100-continue\r\nContent-Length: 1", "x"),
        "a keep next keep"
    );
    assert_eq!(with("Expect: 100-continue", ""), "a keep next keep");
    assert_eq!(
        with("Content-Length: 1001", ""),
        "413 Content Too Large close"
    );
    assert_eq!(
        with("Transfer-Encoding: chunked", "3\r\nGETX"),
        "400 Bad Request close"
    );
    let long = format!("fff\r\n{}", "x".repeat(2_000));
    assert_eq!(
        with("Transfer-Encoding: chunked", &long),
        "413 Content Too Large close"
    );
}

#[test]
fn a_client_that_waits_to_be_asked_is_asked_once() {
    let mut cx = cx();
    let mut connection = Connection::new(at(0), &cx);
    let head = b"GET /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(connection.on_bytes(at(0), head, &mut cx), head.len());
    assert_eq!(connection.next_action(), Action::AskForBody);
    connection.on_body_requested();
    assert_eq!(connection.next_action(), Action::Read);
    assert_eq!(connection.on_bytes(at(0), b"xyz", &mut cx), 2);
    assert_eq!(connection.next_action(), Action::Respond);
}

#[test]
fn refusals() {
    let next = "GET /next HTTP/1.1\r\nHost: h\r\n\r\n";
    for (request, expected) in [
        (
            "POST /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "405 Method Not Allowed keep next keep",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
            "405 Method Not Allowed keep next keep",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2000\r\n\r\n",
            "405 Method Not Allowed close",
        ),
        (
            "PUT /a HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
            "405 Method Not Allowed close",
        ),
        // What follows may be meant for the tunnel that it asks for.
        (
            "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
            "405 Method Not Allowed close",
        ),
        (
            "CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\nContent-Length: 3\r\n\r\nabc",
            "405 Method Not Allowed close",
        ),
        (
            "GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0;\r\n\r\n",
            "400 Bad Request close",
        ),
        (
            "GET /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET\r\n\r\n",
            "400 Bad Request close",
        ),
        (
            "BREW /a HTTP/1.1\r\nHost: h\r\n\r\n",
            "501 Not Implemented keep next keep",
        ),
        (
            "GET /.. HTTP/1.1\r\nHost: h\r\n\r\n",
            "400 Bad Request close",
        ),
        ("\x16\x03\x01\x02\r\n\r\n", "400 Bad Request close"),
    ] {
        assert_eq!(logged(&format!("{request}{next}")), expected, "{request}");
    }
}

#[test]
fn smuggled_requests_never_get_an_answer() {
    let hidden = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";
    for head in [
        "Content-Length: 0\r\nContent-Length: 35\r\n",
        "Content-Length: 35\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity, chunked;\r\n",
        "Content-Length: 0\r\n Content-Length: 35\r\n",
        "X: y\nContent-Length: 35\r\n",
        "Content-Length : 35\r\n",
        "Content-Length: 3\x0b5\r\n",
    ] {
        let (log, _) = run(
            format!("GET /a HTTP/1.1\r\nHost: h\r\n{head}\r\n0\r\n\r\n{hidden}").as_bytes(),
            usize::MAX / 2,
        );
        assert_eq!(log.len(), 2, "{head:?}: {log:?}");
        assert!(
            log[0].starts_with("400") || log[0].starts_with("501"),
            "{head:?}: {log:?}"
        );
        assert_eq!(log[1], "close");
    }
}

#[test]
fn nothing_is_taken_while_an_answer_is_due() {
    let mut cx = cx();
    let mut connection = Connection::new(at(0), &cx);
    let two = b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\n";
    assert_eq!(connection.on_bytes(at(0), two, &mut cx), 27);
    assert_eq!(connection.next_action(), Action::Respond);
    assert_eq!(connection.on_bytes(at(0), &two[27..], &mut cx), 0);
    connection.begin_response(at(0), &cx);
    assert_eq!(connection.next_action(), Action::Send);
    assert_eq!(connection.on_bytes(at(0), &two[27..], &mut cx), 0);
    connection.end_response(at(0), &mut cx);
    assert_eq!(connection.on_bytes(at(0), &two[27..], &mut cx), 17);
}

#[test]
fn a_slow_head_has_one_deadline() {
    let mut cx = cx();
    let mut connection = Connection::new(at(0), &cx);
    assert_eq!(connection.deadline(), Some(at(1_000)));
    for (millis, byte) in (100..).step_by(100).zip(b"GET / H") {
        connection.on_bytes(at(millis), &[*byte], &mut cx);
        assert_eq!(connection.deadline(), Some(at(1_000)));
    }
    assert_eq!(connection.on_timer(at(999), &mut cx), Expired::Nothing);
    assert_eq!(connection.on_timer(at(1_000), &mut cx), Expired::Refused);
    assert_eq!(connection.refusal(), Some(Status::RequestTimeout));
    assert_eq!(connection.next_action(), Action::Respond);
    assert!(!connection.begin_response(at(1_000), &cx));
    connection.end_response(at(1_000), &mut cx);
    assert_eq!(connection.next_action(), Action::Linger);
}

#[test]
fn a_silent_connection_is_closed_without_a_word() {
    let mut cx = cx();
    let mut connection = Connection::new(at(0), &cx);
    assert_eq!(connection.on_timer(at(1_000), &mut cx), Expired::Idle);
    assert_eq!(connection.next_action(), Action::Close);
    assert_eq!(connection.deadline(), None);
}

#[test]
fn deadlines_of_a_kept_connection() {
    let mut cx = cx();
    let mut connection = Connection::new(at(0), &cx);
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    connection.on_bytes(at(500), request, &mut cx);
    assert_eq!(connection.deadline(), Some(at(4_500)), "to find the object");
    connection.begin_response(at(600), &cx);
    assert_eq!(connection.deadline(), Some(at(5_600)), "to send");
    connection.on_progress(at(700), &cx);
    assert_eq!(connection.deadline(), Some(at(5_700)));
    connection.end_response(at(800), &mut cx);
    assert!(connection.is_idle());
    assert_eq!(
        connection.deadline(),
        Some(at(3_800)),
        "for the next request"
    );
    connection.on_bytes(at(3_000), b"G", &mut cx);
    assert_eq!(connection.deadline(), Some(at(4_000)), "for its head");
    assert_eq!(connection.on_timer(at(4_000), &mut cx), Expired::Refused);

    let mut connection = Connection::new(at(0), &cx);
    let head = b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n";
    connection.on_bytes(at(100), head, &mut cx);
    assert_eq!(connection.deadline(), Some(at(2_100)), "for the body");
    connection.on_bytes(at(200), b"x", &mut cx);
    assert_eq!(connection.deadline(), Some(at(2_100)));
    assert_eq!(connection.on_timer(at(2_100), &mut cx), Expired::Refused);
}

#[test]
fn an_object_that_isnt_found_in_time_is_unavailable() {
    let mut cx = cx();
    let mut connection = Connection::new(at(0), &cx);
    connection.on_bytes(at(0), b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", &mut cx);
    assert_eq!(connection.on_timer(at(4_000), &mut cx), Expired::Unanswered);
    assert_eq!(connection.refusal(), Some(Status::ServiceUnavailable));
    assert!(!connection.begin_response(at(4_000), &cx));
    assert_eq!(connection.on_timer(at(9_000), &mut cx), Expired::Stalled);
}

#[test]
fn the_end_of_the_clients_side() {
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut cx = cx();
    for taken in 0..request.len() {
        let mut connection = Connection::new(at(0), &cx);
        connection.on_bytes(at(0), &request[..taken], &mut cx);
        connection.on_eof();
        assert_eq!(connection.next_action(), Action::Close, "{taken}");
    }
    // A whole request is answered, and then it's over.
    let mut connection = Connection::new(at(0), &cx);
    connection.on_bytes(at(0), request, &mut cx);
    connection.on_eof();
    assert_eq!(connection.next_action(), Action::Respond);
    assert!(connection.begin_response(at(0), &cx));
    connection.end_response(at(0), &mut cx);
    assert_eq!(connection.next_action(), Action::Read);
    connection.on_eof();
    assert_eq!(connection.next_action(), Action::Close);
}

#[test]
fn draining_and_the_limit_of_requests_close_behind_the_answer() {
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut cx = cx();
    let mut connection = Connection::new(at(0), &cx);
    connection.on_bytes(at(0), request, &mut cx);
    cx.draining = true;
    assert!(!connection.begin_response(at(0), &cx));

    // One that was announced as kept before that closes, too.
    cx.draining = false;
    let mut connection = Connection::new(at(0), &cx);
    connection.on_bytes(at(0), request, &mut cx);
    assert!(connection.begin_response(at(0), &cx));
    cx.draining = true;
    connection.end_response(at(0), &mut cx);
    assert_eq!(connection.next_action(), Action::Linger);

    cx.draining = false;
    cx.limits.requests_max = Bounded::clamped(2);
    let mut connection = Connection::new(at(0), &cx);
    for keep in [true, false] {
        connection.on_bytes(at(0), request, &mut cx);
        assert_eq!(connection.begin_response(at(0), &cx), keep);
        connection.retract_response(at(0), &cx);
        assert_eq!(connection.begin_response(at(0), &cx), keep);
        connection.end_response(at(0), &mut cx);
    }
    assert_eq!(connection.next_action(), Action::Linger);
}

#[test]
fn progress_moves_the_deadline_of_a_lingering_connection() {
    let mut cx = cx();
    let mut connection = Connection::new(at(0), &cx);
    connection.on_bytes(at(0), b"\n", &mut cx);
    connection.begin_response(at(0), &cx);
    connection.end_response(at(0), &mut cx);
    assert_eq!(connection.deadline(), Some(at(6_000)));
    connection.on_progress(at(6_000), &cx);
    assert_eq!(
        connection.deadline(),
        Some(at(6_000) + Duration::from_secs(6))
    );
    assert_eq!(connection.on_bytes(at(0), &[7; 100], &mut cx), 100);
    connection.on_eof();
    assert_eq!(connection.next_action(), Action::Close);
}

/// Text that is nearly a request, so that every part of the parser is reached.
fn nearly_requests() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("GET / HTTP/1.1\r\nHost: h\r\n".to_owned()),
        Just("HEAD http://h/%2e HTTP/1.0\r\n".to_owned()),
        Just("POST * HTTP/1.1\r\nHost: h\r\n".to_owned()),
        Just("Content-Length: 3\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        Just("Expect: 100-continue\r\n".to_owned()),
        Just("Connection: keep-alive\r\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("3\r\nabc\r\n".to_owned()),
        Just("0\r\n\r\n".to_owned()),
        "[ -~\r\n\t\\x00]{0,8}",
    ];
    let text = proptest::collection::vec(piece, 0..12);
    prop_oneof![
        text.prop_map(|pieces| pieces.concat().into_bytes()),
        proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    #![proptest_config(lockgate_testing::proptest_config(256))]

    #[test]
    fn any_bytes_in_any_split_give_the_same(input in nearly_requests(), step in 1_usize..40) {
        let (whole, a) = run(&input, input.len().max(1));
        let (split, b) = run(&input, step);
        prop_assert_eq!(whole, split);
        prop_assert_eq!(a.next_action(), b.next_action());
    }

    #[test]
    fn memory_stays_within_the_limits(
        pieces in proptest::collection::vec("[a-zA-Z:\r\n ]{0,3000}", 0..20)
    ) {
        let mut cx = cx();
        let mut connection = Connection::new(at(0), &cx);
        for piece in &pieces {
            connection.on_bytes(at(0), piece.as_bytes(), &mut cx);
            if let Some(request) = connection.request() {
                let limit = cx.limits.head_bytes_max.bytes();
                prop_assert!(request.head.parts().0.len() + request.head.parts().1.len() <= limit);
            }
        }
    }
}

/// Long heads share a bounded memory. When unfinished long heads have used it up, ordinary heads
/// are still taken, and a further long head gets 503.
#[test]
fn long_heads_share_their_memory() {
    let mut cx = HttpContext::new(Limits {
        long_heads_bytes_max: 256 * 1024,
        ..Limits::default()
    });
    let line = format!("X: {}\r\n", "a".repeat(900));
    let begin = "GET /a HTTP/1.1\r\nHost: a\r\n";
    let mut peers = Vec::new();
    let mut refused = 0;
    for _ in 0..200 {
        let mut peer = Connection::new(at(0), &cx);
        peer.on_bytes(at(0), begin.as_bytes(), &mut cx);
        for _ in 0..12 {
            peer.on_bytes(at(0), line.as_bytes(), &mut cx);
        }
        if peer.next_action() == Action::Respond {
            assert_eq!(peer.refusal(), Some(Status::ServiceUnavailable));
            refused += 1;
        }
        peers.push(peer);
    }
    assert!((100..200).contains(&refused), "{refused}");
    assert_eq!(cx.long_heads_refused, refused);
    let used = cx.long_heads_bytes();
    assert!((128 * 1024..=256 * 1024).contains(&used), "{used}");

    let ordinary = format!("{begin}X: {}\r\n\r\n", "a".repeat(900));
    let mut fair = Connection::new(at(0), &cx);
    assert_eq!(
        fair.on_bytes(at(0), ordinary.as_bytes(), &mut cx),
        ordinary.len()
    );
    assert_eq!(
        (fair.next_action(), fair.refusal()),
        (Action::Respond, None)
    );
    assert_eq!(cx.long_heads_bytes(), used);
    for mut peer in peers {
        peer.release(&mut cx);
    }
    assert_eq!(cx.long_heads_bytes(), 0);
    // Memory that is used again is counted again.
    let mut fair = Connection::new(at(0), &cx);
    let long = format!("{begin}{}\r\n", line.repeat(12));
    assert_eq!(fair.on_bytes(at(0), long.as_bytes(), &mut cx), long.len());
    assert_eq!(
        (fair.next_action(), fair.refusal()),
        (Action::Respond, None)
    );
    assert!(cx.long_heads_bytes() >= 10 * 900);
    fair.release(&mut cx);
    assert_eq!(cx.long_heads_bytes(), 0);
}
