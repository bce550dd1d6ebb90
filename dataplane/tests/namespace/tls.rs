//! TLS against OpenSSL: versions, suites, certificates, resumption, KeyUpdate.

use std::io::Write as _;
use std::process::{ChildStdin, Stdio};

use crate::support::client::request;
use crate::support::scene::{Scene, Setup};
use lockgate_testing::cases::Case;
use lockgate_testing::process::{Ran, Running};

pub(crate) const CASES: &[Case] = &[
    Case::new("tls::every_suite_of_each_version", || suites(Setup::new())).with(OPENSSL),
    Case::new("tls::certificates_by_name_and_kind_of_key", certificates).with(OPENSSL),
    Case::new("tls::sessions_are_resumed", || resumption(Setup::new())).with(OPENSSL),
    Case::new("tls::application_protocol", application_protocol).with(OPENSSL),
    Case::new("tls::key_updates_of_the_client", || {
        key_updates(Setup::new())
    })
    .with(OPENSSL),
    Case::new("tls::http_1_0_is_a_protocol_of_its_own", http_1_0),
    Case::new("tls::groups_and_suites_of_the_client_choose", groups).with(OPENSSL),
    Case::new("tls::what_is_too_old_is_refused", too_old).with(OPENSSL),
];

const OPENSSL: &[&str] = &["openssl"];

const TLS13: [&str; 3] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
];

const TLS12: [&str; 6] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// Runs `openssl s_client`, gives it the input, and waits for its end.
fn s_client(scene: &Scene, arguments: &[&str], input: &str) -> Ran {
    let (running, mut stdin) = start_s_client(scene, arguments);
    // It may have ended already; its output says why.
    let _ = stdin.write_all(input.as_bytes());
    running.finish()
}

fn start_s_client(scene: &Scene, arguments: &[&str]) -> (Running, ChildStdin) {
    let mut command = scene.command("openssl");
    command
        .args(["s_client", "-connect", "198.18.0.1:443"])
        .args(arguments);
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let stdin = running.child().stdin.take().expect("it is piped");
    (running, stdin)
}

/// A request that ends the connection.
fn last_request(path: &str) -> String {
    request("GET", path, "Connection: close\r\n")
}

/// The answer's body, in the middle of what s_client says.
fn has_body(ran: &Ran, body: &[u8]) -> bool {
    ran.out.windows(body.len()).any(|window| window == body)
}

/// Text that OpenSSL's chatter is not part of.
fn text_file(scene: &Scene, name: &str, lines: usize) -> Vec<u8> {
    let text: String = (0..lines)
        .map(|n| format!("line {n} of {name}\n"))
        .collect();
    std::fs::write(scene.www(name), &text).expect("there's room for a file");
    text.into_bytes()
}

/// Three suites of TLS 1.3, six of TLS 1.2 with their kinds of key.
pub(crate) fn suites(setup: Setup) {
    let scene = setup.certificates(&["ecdsa", "rsa"]).start();
    let body = text_file(&scene, "text", 3000);
    let (ecdsa, rsa) = (scene.crt("ecdsa"), scene.crt("rsa"));
    let check = |version: &str, option: &str, suite: &str| {
        let trusted = if suite.contains("RSA") && !suite.contains("ECDSA") {
            &rsa
        } else {
            &ecdsa
        };
        let trusted = trusted.to_str().expect("a plain path");
        let name = [
            "-servername",
            "lockgate.test",
            "-verify_hostname",
            "lockgate.test",
        ];
        let trust = ["-ign_eof", "-CAfile", trusted, "-verify_return_error"];
        let arguments = [&[version, option, suite], &name[..], &trust[..]].concat();
        let ran = s_client(&scene, &arguments, &last_request("/text"));
        let text = ran.text();
        assert!(
            text.contains(&format!("Cipher is {suite}")),
            "{suite}: {text} {}",
            ran.err
        );
        assert!(text.contains("Verification: OK"), "{suite}: {text}");
        assert!(has_body(&ran, &body), "{suite}: {text}");
        assert_eq!(ran.code, Some(0), "{suite}: {text} {}", ran.err);
    };
    for suite in TLS13 {
        check("-tls1_3", "-ciphersuites", suite);
    }
    for suite in TLS12 {
        check("-tls1_2", "-cipher", suite);
    }
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(stats.total("stack.handshakes_tls13"), 3);
    assert_eq!(stats.total("stack.handshakes_tls12"), 6);
    assert_eq!(stats.total("stack.end_clean"), 9, "{stats:?}");
    assert_eq!(stats.total("stack.close_notify_out"), 9);
    assert_eq!(stats.total("http.responses.200"), 9);
    let sealed = [
        "kern.ipc.tls.stats.ocf.tls13_gcm_encrypts",
        "kern.ipc.tls.stats.ocf.tls13_chacha20_encrypts",
        "kern.ipc.tls.stats.ocf.tls12_gcm_encrypts",
        "kern.ipc.tls.stats.ocf.tls12_chacha20_encrypts",
    ];
    for counter in sealed {
        assert!(stats.total(counter) > 0, "{counter}");
    }
    scene.finish();
}

/// By name first; then ECDSA before RSA, if the client can check it.
fn certificates() {
    let scene = Setup::new()
        .certificates(&["ecdsa", "rsa", "other-ecdsa", "other-rsa"])
        .start();
    let cases = [
        ("lockgate.test", "", "CN = ecdsa"),
        ("lockgate.test", "RSA+SHA256:RSA-PSS+SHA256", "CN = rsa"),
        ("other.test", "", "CN = other-ecdsa"),
        ("a.other.test", "", "CN = other-ecdsa"),
        ("A.Other.Test", "RSA-PSS+SHA256", "CN = other-rsa"),
        // A wildcard is for one label. A name that none has gets the first certificate.
        ("a.b.other.test", "", "CN = ecdsa"),
        ("unknown.test", "", "CN = ecdsa"),
        ("", "", "CN = ecdsa"),
    ];
    for version in ["-tls1_2", "-tls1_3"] {
        for (name, algorithms, subject) in cases {
            let mut arguments = vec![version];
            match name {
                "" => arguments.push("-noservername"),
                name => arguments.extend(["-servername", name]),
            }
            if !algorithms.is_empty() {
                arguments.extend(["-sigalgs", algorithms]);
            }
            let ran = s_client(&scene, &arguments, "Q\n");
            let text = ran.text();
            let line = format!("subject={subject}\n");
            assert!(
                text.contains(&line),
                "{version} {name} {algorithms}: {text} {}",
                ran.err
            );
        }
    }
    scene.finish();
}

/// Tickets of both versions lead back to their session, and only with tickets on.
pub(crate) fn resumption(setup: Setup) {
    let scene = setup.start();
    let file = scene.scratch.path().join("session");
    let file = file.to_str().expect("a plain path");
    let body = text_file(&scene, "text", 10);
    for version in ["-tls1_2", "-tls1_3"] {
        let first = s_client(
            &scene,
            &[version, "-ign_eof", "-sess_out", file],
            &last_request("/text"),
        );
        assert!(first.text().contains("New, TLSv1."), "{}", first.text());
        for _ in 0..2 {
            let arguments = [version, "-ign_eof", "-sess_in", file];
            let again = s_client(&scene, &arguments, &last_request("/text"));
            assert!(again.text().contains("Reused, TLSv1."), "{}", again.text());
            assert!(has_body(&again, &body), "{}", again.text());
        }
    }
    let stats = scene.server.stats();
    assert_eq!(stats.total("stack.handshakes_resumed"), 4, "{stats:?}");
    assert_eq!(stats.total("stack.handshakes_tls12"), 3);
    assert_eq!(stats.total("stack.handshakes_tls13"), 3);
    scene.finish();

    let scene = Setup::new().set("tls.tickets", false).start();
    text_file(&scene, "text", 10);
    let ran = s_client(&scene, &["-tls1_3", "-ign_eof"], &last_request("/text"));
    assert!(!ran.text().contains("New Session Ticket"), "{}", ran.text());
    scene.finish();
}

/// `http/1.1` is preferred; a client that offers none speaks it, too.
fn application_protocol() {
    let scene = Setup::new().start();
    for version in ["-tls1_2", "-tls1_3"] {
        let ran = s_client(&scene, &[version, "-alpn", "h2,http/1.1"], "Q\n");
        assert!(
            ran.text().contains("ALPN protocol: http/1.1"),
            "{}",
            ran.text()
        );
        let ran = s_client(&scene, &[version], "Q\n");
        assert!(ran.text().contains("No ALPN negotiated"), "{}", ran.text());
        //= https://www.rfc-editor.org/rfc/rfc7301#section-3.2
        //# In the event that the server supports no
        //# protocols that the client advertises, then the server SHALL respond
        //# with a fatal "no_application_protocol" alert.
        let ran = s_client(&scene, &[version, "-alpn", "spdy/1"], "Q\n");
        assert!(ran.err.contains("no application protocol"), "{}", ran.err);
    }
    let stats = scene.server.stats();
    assert_eq!(
        stats.total("stack.handshakes_failed_incompatible"),
        2,
        "{stats:?}"
    );
    scene.finish();
}

/// `curl --http1.0` offers `http/1.0` and nothing else (RFC 7301, 6).
fn http_1_0() {
    let scene = Setup::new().start();
    let body = text_file(&scene, "text", 2000);
    for version in [&["--tls-max", "1.2"][..], &["--tlsv1.3"]] {
        let arguments = ["-v", "https://198.18.0.1/text"];
        let arguments = [version, &arguments].concat();
        let ran = scene.curl(&[&["--http1.0"], &arguments[..]].concat()).ok();
        assert!(ran.err.contains("offers http/1.0"), "{}", ran.err);
        assert!(ran.err.contains("accepted http/1.0"), "{}", ran.err);
        assert!(has_body(&ran, &body), "{}", ran.err);
        let ran = scene.curl(&arguments).ok();
        assert!(ran.err.contains("accepted http/1.1"), "{}", ran.err);
    }
    let stats = scene.server.stats();
    assert_eq!(stats.total("stack.handshakes_failed"), 0, "{stats:?}");
    scene.finish();
}

/// ECDSA on P-256 and RSA are configured: of TLS 1.2 the client's groups decide, too (RFC 8422, 4).
fn groups() {
    let scene = Setup::new().certificates(&["ecdsa", "rsa"]).start();
    let rows = [
        (&["-tls1_2", "-groups", "X25519"][..], Some("RSA")),
        (&["-tls1_2", "-groups", "P-384"], Some("RSA")),
        (&["-tls1_2", "-groups", "P-256"], Some("ECDSA")),
        (&["-tls1_2", "-groups", "X25519:P-256"], Some("ECDSA")),
        (&["-tls1_3", "-groups", "X25519"], Some("ECDSA")),
        (&["-tls1_3", "-groups", "P-384"], Some("ECDSA")),
        (&["-groups", "X25519"], Some("ECDSA")),
        (&["-groups", "P-384", "-no_tls1_3"], Some("RSA")),
        (
            &["-tls1_2", "-groups", "P-256", "-cipher", "aRSA"],
            Some("RSA"),
        ),
        (&["-tls1_2", "-groups", "X25519", "-cipher", "aECDSA"], None),
        (&["-tls1_3", "-sigalgs", "ed25519"], None),
        (&["-tls1_2", "-sigalgs", "ed25519"], None),
    ];
    let mut refused = 0;
    for (arguments, kind) in rows {
        let ran = s_client(&scene, arguments, "Q\n");
        match kind {
            Some(kind) => {
                let signed = ran.text().contains(&format!("Peer signature type: {kind}"));
                assert!(signed, "{arguments:?} {} {}", ran.text(), ran.err);
            }
            None => {
                refused += 1;
                assert!(ran.err.contains("alert handshake failure"), "{}", ran.err);
            }
        }
    }
    let stats = scene.server.stats();
    assert_eq!(stats.total("stack.handshakes_failed"), refused, "{stats:?}");
    let incompatible = stats.total("stack.handshakes_failed_incompatible");
    assert_eq!(incompatible, refused, "{stats:?}");
    scene.finish();
}

/// The client changes its keys, twice with the wish that we change ours.
pub(crate) fn key_updates(setup: Setup) {
    let scene = setup.start();
    let body = text_file(&scene, "text", 2000);
    let (running, mut stdin) = start_s_client(&scene, &["-tls1_3"]);
    // A command has to be all that is read at once, so each step waits for the one before it.
    let mut step = |input: &str, said: &str, times: usize| {
        stdin.write_all(input.as_bytes()).expect("it reads");
        running.wait_for(said, times);
    };
    step("", "Verify return code", 1);
    step("k\n", "KEYUPDATE", 1);
    step("K\n", "KEYUPDATE", 2);
    step(&request("GET", "/text", ""), "line 1999 of text\n", 1);
    step("K\n", "KEYUPDATE", 3);
    step(&last_request("/text"), "line 1999 of text\n", 2);
    let ran = running.finish();
    drop(stdin);
    let text = ran.text();
    assert_eq!(
        text.matches("line 1999 of text\n").count(),
        2,
        "{text} {}",
        ran.err
    );
    assert!(has_body(&ran, &body));
    assert_eq!(ran.code, Some(0), "{text} {}", ran.err);
    let stats = scene.server.wait("worker.connections", |open| open == 0);
    assert_eq!(
        stats.total("kern.ipc.tls.stats.rx_rekey_received"),
        3,
        "{stats:?}"
    );
    assert_eq!(stats.total("kern.ipc.tls.stats.tx_rekey_ok"), 2);
    assert_eq!(stats.total("stack.end_clean"), 1);
    scene.finish();
}

/// TLS 1.1 gets protocol_version, with or without signature algorithms in its hello.
fn too_old() {
    let scene = Setup::new().start();
    for version in ["-tls1_1", "-tls1"] {
        // OpenSSL itself has to be willing to offer it.
        let arguments = [version, "-cipher", "DEFAULT@SECLEVEL=0"];
        let ran = s_client(&scene, &arguments, "Q\n");
        assert!(ran.err.contains("alert protocol version"), "{}", ran.err);
        assert_ne!(ran.code, Some(0));
    }
    let only_13 = Setup::new().set("tls.versions", vec!["1.3"]).start();
    let ran = s_client(&only_13, &["-tls1_2"], "Q\n");
    assert!(ran.err.contains("protocol version"), "{}", ran.err);
    for (scene, count) in [(scene, 2), (only_13, 1)] {
        let stats = scene.server.stats();
        assert_eq!(
            stats.total("stack.handshakes_failed_incompatible"),
            count,
            "{stats:?}"
        );
        assert_eq!(scene.curl(&["https://198.18.0.1/"]).ok().code, Some(0));
        scene.finish();
    }
}
