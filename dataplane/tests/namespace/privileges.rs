//! The drop from root to `[process] user`, and what still works after it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use lockgate::privileges::ThreadStatus;
use lockgate_testing::cases::Case;
use lockgate_testing::network::ip;
use lockgate_testing::process::run;
use lockgate_testing::wait_until;
use rustix::process::Signal;
use rustix::thread::CapabilitySet;

use crate::support::client::{Conn, address4, address6, connect, plain};
use crate::support::scene::{CONFIG, INDEX, SOCKET, Scene, Setup};
use crate::support::server::{LOCKGATE, Server};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "privileges::every_thread_drops_root",
        every_thread_drops_root,
    ),
    Case::new(
        "privileges::files_of_root_are_forbidden",
        files_of_root_are_forbidden,
    ),
    Case::new(
        "privileges::a_root_directory_of_root_is_refused",
        root_directory_of_root,
    ),
    Case::new(
        "privileges::the_control_socket_is_the_users",
        the_control_socket_is_the_users,
    ),
    Case::new(
        "privileges::link_and_multicast_after_the_drop",
        link_and_multicast,
    ),
    Case::new("privileges::a_tap_after_the_drop", tap),
    Case::new(
        "privileges::an_xdp_program_is_detached_at_the_end",
        an_xdp_program_is_detached_at_the_end,
    ),
    Case::new(
        "privileges::without_a_user_root_is_warned_of",
        root_is_warned_of,
    ),
    Case::new(
        "privileges::only_root_becomes_another_user",
        only_root_becomes_another_user,
    ),
    Case::new(
        "privileges::ambient_capabilities_are_dropped",
        ambient_capabilities_are_dropped,
    ),
    Case::new(
        "privileges::a_hangup_is_logged_and_ends_nothing",
        a_hangup_is_logged_and_ends_nothing,
    ),
];

/// Returns a setup with `[process] user = "nobody"`.
fn dropping() -> Setup {
    Setup::new().set("process.user", "nobody")
}

/// Starts a setup in a directory that the user `nobody` may enter.
fn start(setup: &Setup) -> Scene {
    let (net, scratch) = setup.prepare();
    open_to_all(scratch.path());
    setup.start_in(net, scratch)
}

fn open_to_all(directory: &Path) {
    set_mode(directory, 0o755);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is root's");
}

/// Returns the status of each thread of a process.
fn threads(pid: u32) -> Vec<ThreadStatus> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let status = tasks.filter_map(|task| {
        // A thread may end at any time.
        fs::read_to_string(task.ok()?.path().join("status")).ok()
    });
    status
        .map(|text| ThreadStatus::parse(&text).expect("the kernel's format"))
        .collect()
}

/// Every thread belongs to the user after the drop: DPDK's threads, and threads spawned before and
/// after the drop. Only the main thread has a capability.
fn every_thread_drops_root() {
    let mut scene = start(&dropping());
    let pid = scene.server.pid();
    // More loaders than one have run.
    for number in 0..8 {
        scene.file(&format!("{number}.bin"), 300_000);
    }
    scene
        .inside(|| {
            for number in 0..8 {
                let reply = plain()?.get(&format!("/{number}.bin"))?;
                assert_eq!(reply.body.len(), 300_000);
            }
            std::io::Result::Ok(())
        })
        .expect("answers");
    let threads = threads(pid);
    for thread in &threads {
        assert_eq!(thread.uids, [NOBODY; 4], "{thread:?}");
        assert_eq!(thread.gids, [NOBODY; 4], "{thread:?}");
        assert_eq!(thread.groups, [NOBODY], "{thread:?}");
        assert!(thread.bounding.is_empty(), "{thread:?}");
        assert!(thread.no_new_privs, "{thread:?}");
        let is_main = u32::try_from(thread.tid) == Ok(pid);
        let expected = if is_main {
            CapabilitySet::NET_ADMIN
        } else {
            CapabilitySet::empty()
        };
        assert_eq!(thread.capabilities, expected, "{thread:?}");
    }
    for name in [
        "lockgate",
        "signals",
        "control",
        "eal-intr",
        "worker-0",
        "files-dispatch",
    ] {
        let is_there = threads.iter().any(|thread| thread.name.starts_with(name));
        assert!(is_there, "{name}: {threads:?}");
    }
    // Not dumpable: what is in /proc belongs to root.
    let owner = fs::metadata(format!("/proc/{pid}/environ"))
        .expect("it runs")
        .uid();
    assert_eq!(owner, 0);
    let log = scene.server.log();
    let line = log.lines().find(|line| line.contains("root is dropped"));
    let line = line.unwrap_or_else(|| panic!("{log}"));
    for part in ["uid=65534", "capabilities=CAP_NET_ADMIN"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(!log.contains("runs as root"), "{log}");
    scene.finish();
}

/// As from nginx: the worker's user has to be allowed to read a file, and to search the directories
/// on the way to it.
fn files_of_root_are_forbidden() {
    let scene = start(&dropping());
    for (name, mode) in [
        ("root.txt", 0o600),
        ("private/a.txt", 0o644),
        ("all.txt", 0o644),
    ] {
        scene.scratch.write(format!("www/{name}"), "text");
        set_mode(&scene.www(name), mode);
    }
    set_mode(&scene.www("private"), 0o700);
    scene.scratch.write("www/group.txt", "text");
    set_mode(&scene.www("group.txt"), 0o640);
    chown(scene.www("group.txt"), None, Some(NOBODY)).expect("root may");
    let status = |path: &str| {
        let get = || plain()?.get(path);
        scene.inside(get).expect("an answer").status
    };
    for (path, expected) in [
        ("/root.txt", 403),
        ("/private/a.txt", 403),
        ("/private/absent.txt", 403),
        ("/all.txt", 200),
        ("/group.txt", 200),
        ("/absent.txt", 404),
    ] {
        assert_eq!(status(path), expected, "{path}");
    }
    // The tree's own directory: its descriptor was opened by this user, too, and conveys nothing.
    set_mode(&scene.www(""), 0o700);
    scene.scratch.write("www/later.txt", "text");
    assert_eq!(status("/later.txt"), 403);
    scene.finish();
}

/// A directory above the tree that the user can't search: the start fails, instead of serving by a
/// descriptor that root has opened.
fn root_directory_of_root() {
    let (net, scratch) = dropping().prepare();
    set_mode(scratch.path(), 0o700);
    let mut command = lockgate_testing::network::command(net.server(), LOCKGATE);
    let ran = run(command.args(["run", "--config"]).arg(scratch.join(CONFIG)));
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    for part in [
        ": site.root: ",
        "www: Permission denied",
        "(as user nobody)",
    ] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
}

/// The socket is the user's, with mode 0600. It is removed at the end if its directory is the
/// user's; otherwise the next start takes it over.
fn the_control_socket_is_the_users() {
    let scene = start(&dropping());
    let socket = scene.scratch.join(SOCKET);
    let found = fs::metadata(&socket).expect("it listens");
    assert_eq!(
        (found.uid(), found.gid(), found.mode() & 0o777),
        (NOBODY, NOBODY, 0o600)
    );
    let Scene {
        server,
        net,
        scratch,
        ..
    } = scene;
    server.finish();
    assert!(socket.exists(), "the directory is root's");
    let server = Server::start(net.server(), &scratch.join(CONFIG), &socket, 1);
    server.finish();
    chown(scratch.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
    let server = Server::start(net.server(), &scratch.join(CONFIG), &socket, 1);
    server.finish();
    assert!(!socket.exists(), "the directory is the user's");
}

/// Link down and up are noticed, and neighbour discovery, which is multicast, reaches the
/// appliance before and after.
fn link_and_multicast() {
    let scene = start(&dropping());
    let (server, client) = (scene.net.server(), scene.net.client());
    let answers = |after: &str| {
        ip(&format!("-n {client} neigh flush dev lg1"));
        for to in [address6(80), address4(80)] {
            let get = || Conn::new(connect(to)?).get("/");
            let reply = scene.inside(get);
            assert_eq!(reply.expect(after).body, INDEX, "{to} {after}");
        }
    };
    answers("after the start");
    for (state, noticed) in [("down", "up=false"), ("up", "up=true")] {
        ip(&format!("-n {server} link set lg0 {state}"));
        wait_until(noticed, || {
            let log = scene.server.log();
            let last = log.lines().rfind(|line| line.contains("link port="));
            last.is_some_and(|line| line.contains(noticed))
        });
    }
    answers("after the link's return");
    scene.finish();
}

/// A kernel interface that the driver itself has made, for which it keeps CAP_NET_ADMIN.
fn tap() {
    let mut scene = start(&dropping().set("port.device", "net_tap0,iface=lgt0"));
    let server = scene.net.server();
    // The driver has the interface's address. The kernel needs one of its own to be a peer.
    ip(&format!(
        "-n {server} link set lgt0 address 02:00:00:00:00:99"
    ));
    for address in ["198.18.0.2/24", "fd00:18::2/64 nodad"] {
        ip(&format!("-n {server} addr add {address} dev lgt0"));
    }
    ip(&format!("-n {server} link set lgt0 up"));
    let answers = || {
        lockgate_testing::network::inside(server, || {
            for to in [address6(80), address4(80)] {
                let reply = Conn::new(connect(to)?).get("/")?;
                assert_eq!(reply.body, INDEX, "{to}");
            }
            std::io::Result::Ok(())
        })
    };
    answers().expect("answers");
    for (state, noticed) in [("down", "up=false"), ("up", "up=true")] {
        ip(&format!("-n {server} link set lgt0 {state}"));
        wait_until(noticed, || {
            let log = scene.server.log();
            let last = log.lines().rfind(|line| line.contains("link port="));
            last.is_some_and(|line| line.contains(noticed))
        });
    }
    // An interface that goes down loses its IPv6 address.
    ip(&format!(
        "-n {server} addr add fd00:18::2/64 nodad dev lgt0"
    ));
    answers().expect("answers after the link's return");
    // The driver logs errors where the kernel has no multiq qdisc, which only flow rules need.
    end(&mut scene.server);
}

/// The driver's library may not detach the program by itself then. The kernel does, when the
/// process ends.
fn an_xdp_program_is_detached_at_the_end() {
    let mut scene = start(&dropping().set("port.device", "net_af_xdp0,iface=lg0"));
    let server = scene.net.server().to_owned();
    let programs = || {
        let mut show = Command::new("ip");
        let shown = run(show.args(["-n", &server, "-details", "link", "show", "lg0"]));
        shown.ok().text().matches("prog/xdp").count()
    };
    let reply = scene.inside(|| plain()?.get("/")).expect("an answer");
    assert_eq!(reply.body, INDEX);
    assert_eq!(programs(), 1);
    end(&mut scene.server);
    // The driver forgets the buffers in its rings; no others are missing.
    let log = scene.server.log();
    assert!(!log.contains("missing at the end"), "{log}");
    wait_until("detaching", || programs() == 0);
}

/// Ends a server whose driver logs faults that have nothing to do with privileges.
fn end(server: &mut Server) {
    server.signal(Signal::TERM);
    wait_until("the end", || server.try_reap());
    let log = server.log();
    assert!(
        log.contains("stopped") && !log.contains("panicked"),
        "{log}"
    );
}

fn root_is_warned_of() {
    let mut scene = Setup::new().start();
    let log = scene.server.log();
    let warned = log.lines().filter(|line| line.contains("[process] user"));
    let warned: Vec<_> = warned.collect();
    assert_eq!(warned.len(), 1, "{log}");
    assert!(warned[0].contains("WARN"), "{warned:?}");
    let pid = scene.server.pid();
    assert!(threads(pid).iter().all(|thread| thread.uids == [0; 4]));
    scene.finish();
}

/// As another user than root, `[process] user` is refused before anything is opened; as that user
/// itself it isn't.
fn only_root_becomes_another_user() {
    let setup = dropping().without("control");
    let (_net, scratch) = setup.set("port.device", "net_null0").prepare();
    open_to_all(scratch.path());
    // Where the tests were built, this user may not go.
    let program = scratch.join("lockgate");
    fs::copy(LOCKGATE, &program).expect("there's room for it");
    set_mode(&scratch.join("ecdsa.key"), 0o644);
    let mut other = Command::new(&program);
    other.args(["run", "--config"]).arg(scratch.join(CONFIG));
    let ran = run(other.uid(NOBODY - 1).gid(NOBODY - 1));
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    for part in [
        "[process] user",
        "started as user 65533",
        "nobody",
        "start as root",
    ] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    assert!(!ran.err.contains("EAL started"), "{}", ran.err);
}

/// A start as that user itself, with ambient capabilities, as systemd's `AmbientCapabilities=`
/// gives them: the threads of the start, DPDK's among them, have inherited those. No thread but the
/// main one has any left, and the port still works.
fn ambient_capabilities_are_dropped() {
    let setup = dropping();
    let (net, scratch) = setup.prepare();
    open_to_all(scratch.path());
    // Where the tests were built, this user may not go.
    let program = scratch.join("lockgate");
    fs::copy(LOCKGATE, &program).expect("there's room for it");
    set_mode(&scratch.join("ecdsa.key"), 0o644);
    chown(scratch.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
    let capabilities = "+net_admin,+net_raw,+sys_nice";
    let mut command = lockgate_testing::network::command(net.server(), "setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    command.arg(format!("--inh-caps={capabilities}"));
    command
        .arg(format!("--ambient-caps={capabilities}"))
        .arg(&program);
    let mut server = Server::start_by(command, &scratch.join(CONFIG), &scratch.join(SOCKET), 1);
    let pid = server.pid();
    let get = || {
        let reply = lockgate_testing::network::inside(net.client(), || plain()?.get("/"));
        assert_eq!(reply.expect("an answer").body, INDEX);
    };
    get();
    let threads = threads(pid);
    assert!(threads.len() >= 6, "{threads:?}");
    for thread in &threads {
        assert_eq!(thread.uids, [NOBODY; 4], "{thread:?}");
        assert!(thread.no_new_privs, "{thread:?}");
        let is_main = u32::try_from(thread.tid) == Ok(pid);
        let expected = if is_main {
            CapabilitySet::NET_ADMIN
        } else {
            CapabilitySet::empty()
        };
        assert_eq!(thread.capabilities, expected, "{thread:?}");
    }
    // What has interrupted DPDK's threads has ended none of them.
    ip(&format!("-n {} neigh flush dev lg1", net.client()));
    get();
    server.finish();
}

/// SIGHUP is reserved for a reload. Until then it must not end the process, which is what its
/// default action does when the terminal goes away.
fn a_hangup_is_logged_and_ends_nothing() {
    let mut scene = start(&dropping());
    for times in 1..=3 {
        scene.server.signal(Signal::HUP);
        wait_until("a line about the signal", || {
            scene.server.log().matches("SIGHUP").count() >= times
        });
    }
    let reply = scene.inside(|| plain()?.get("/")).expect("an answer");
    assert_eq!(reply.body, INDEX);
    scene.finish();
}

/// `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;
