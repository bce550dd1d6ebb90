//! An emulated machine: QEMU with cards whose other ends are taps, and a shell on a serial port.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use lockgate_testing::cases::skip_case;
use lockgate_testing::network::{self, Taps};
use lockgate_testing::{HANG_LIMIT, ScratchDir, wait_for};

use super::archive::Archive;
use super::card::Card;

/// How a machine is built.
#[derive(Clone, Debug)]
pub(crate) struct MachineSpec {
    pub(crate) cards: Vec<Card>,
    /// Workers, each with a CPU and a queue of each card.
    pub(crate) workers: usize,
    pub(crate) mtu: u16,
}

impl MachineSpec {
    /// A machine with one card, for one worker.
    pub(crate) fn new(card: Card) -> Self {
        Self {
            cards: vec![card],
            workers: 1,
            mtu: 1500,
        }
    }

    /// The same machine for so many workers.
    pub(crate) fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// The queues of a tap: one for each queue of its card.
    fn tap_queues(&self) -> usize {
        let virtio_only = self.cards.iter().all(|card| *card == Card::Virtio);
        if virtio_only { self.workers } else { 1 }
    }

    /// Boots the machine with these files beside those that every guest has.
    #[track_caller]
    pub(crate) fn boot(&self, archive: Archive) -> Machine {
        let files = GuestFiles::prepare();
        let taps = Taps::new(self.cards.len(), self.mtu, self.tap_queues());
        let scratch = ScratchDir::new();
        let mut initramfs = fs::read(&files.initramfs).expect("it was prepared");
        initramfs.extend(archive.finish());
        scratch.write("initramfs", initramfs);

        let [shell, monitor] = ["shell", "monitor"]
            .map(|name| UnixListener::bind(scratch.join(name)).expect("a new path"));
        let mut command = network::command(taps.namespace(), &files.qemu);
        command.env("LD_LIBRARY_PATH", &files.libraries);
        command.args(self.arguments(&files, scratch.path()));
        let output = File::create(scratch.join(QEMU_LOG)).expect("there's room for a log");
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can have two handles"))
            .stderr(output);
        let mut machine = Machine {
            qemu: command.spawn().expect("this binary can be started"),
            shell: None,
            monitor: None,
            scratch,
            taps,
        };
        machine.shell = Some(machine.accept(&shell));
        machine.monitor = Some(machine.accept(&monitor));
        machine.read_answer("the boot");
        for (number, card) in self.cards.iter().enumerate() {
            if *card == Card::IgbVf {
                machine.ok(&format!("make_vf {}", Card::Igb.address(number)));
            }
            machine.ok(&format!("bind {} vfio-pci", card.address(number)));
        }
        machine
    }

    /// The command line of QEMU.
    fn arguments(&self, files: &GuestFiles, scratch: &Path) -> Vec<String> {
        let one_page = self.cards.iter().any(|card| card.needs_one_page());
        let (pages, mib) = if one_page {
            ("default_hugepagesz=1G hugepagesz=1G hugepages=1", 2304)
        } else {
            ("hugepages=192", 1024)
        };
        let kernel = format!(
            "console=ttyS0 quiet panic=-1 intel_iommu=on mitigations=off nokaslr audit=0 {pages}"
        );
        let path = |name: &str| scratch.join(name).display().to_string();
        let mut all: Vec<String> = [
            "-M q35 -accel tcg -cpu max -nodefaults -no-user-config -display none -no-reboot",
            "-device intel-iommu,intremap=on,caching-mode=on,aw-bits=48",
        ]
        .iter()
        .flat_map(|line| line.split(' '))
        .map(str::to_owned)
        .collect();
        let mut add = |name: &str, value: String| all.extend([name.to_owned(), value]);
        for directory in files.firmware.split(':') {
            add("-L", directory.to_owned());
        }
        add("-smp", self.workers.max(2).to_string());
        add("-m", mib.to_string());
        add("-kernel", files.kernel.clone());
        add("-initrd", path("initramfs"));
        add("-append", kernel);
        add("-serial", format!("file:{}", path(CONSOLE)));
        add("-serial", format!("unix:{}", path("shell")));
        add("-serial", format!("file:{}", path(LOG)));
        add("-monitor", format!("unix:{}", path("monitor")));
        for (number, card) in self.cards.iter().enumerate() {
            let queues = match self.tap_queues() {
                1 => String::new(),
                queues => format!(",queues={queues}"),
            };
            add(
                "-netdev",
                format!(
                    "tap,id=net{number},ifname=tap{number},script=no,downscript=no,vhost=off{queues}"
                ),
            );
            add(
                "-device",
                format!("pcie-root-port,id=port{number},chassis={}", number + 1),
            );
            add(
                "-device",
                format!(
                    "{},netdev=net{number},id=nic{number},mac=02:00:00:00:00:{:02x},romfile=,bus=port{number}",
                    card.device(self.workers),
                    number + 1,
                ),
            );
        }
        all
    }
}

/// A running machine. Dropped, it is ended.
pub(crate) struct Machine {
    // In this order: the process ends before its namespace and files go.
    qemu: Child,
    shell: Option<UnixStream>,
    monitor: Option<UnixStream>,
    scratch: ScratchDir,
    taps: Taps,
}

impl Machine {
    /// Runs a command line in the guest; its exit code and output.
    #[track_caller]
    pub(crate) fn run(&mut self, line: &str) -> (i32, String) {
        assert!(!line.contains('\n'), "one line: {line}");
        let shell = self.shell.as_mut().expect("it has booted");
        if let Err(error) = shell.write_all(format!("{line}\n").as_bytes()) {
            panic!("{line}: {error}");
        }
        self.read_answer(line)
    }

    /// Runs a command line in the guest that succeeds; its output.
    #[track_caller]
    pub(crate) fn ok(&mut self, line: &str) -> String {
        let (code, text) = self.run(line);
        assert_eq!(code, 0, "{line}: {text}");
        text
    }

    /// Sets the link of a card.
    #[track_caller]
    pub(crate) fn set_link(&mut self, card: usize, up: bool) {
        let state = if up { "on" } else { "off" };
        let monitor = self.monitor.as_mut().expect("it has booted");
        let command = format!("set_link nic{card} {state}\n");
        monitor
            .write_all(command.as_bytes())
            .expect("QEMU reads its monitor");
    }

    /// What was written to `/run/log` in the guest.
    pub(crate) fn log(&self) -> String {
        self.text_of(LOG)
    }

    /// The namespace of the clients.
    pub(crate) fn namespace(&self) -> &str {
        self.taps.namespace()
    }

    /// A program in the clients' namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        network::command(self.namespace(), program)
    }

    /// Waits for a condition while the machine runs.
    #[track_caller]
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        wait_for(what, || {
            if let Some(status) = self.qemu.try_wait().expect("it is our child") {
                panic!("{what}: QEMU has ended: {status}");
            }
            find(self)
        })
    }

    /// The ends of all logs.
    fn report(&self) -> String {
        [QEMU_LOG, CONSOLE, LOG]
            .map(|name| {
                let text = self.text_of(name);
                let lines: Vec<&str> = text.lines().collect();
                let from = lines.len().saturating_sub(LINES_SHOWN);
                format!("--- {name}\n{}\n", lines[from..].join("\n"))
            })
            .concat()
    }

    fn text_of(&self, name: &str) -> String {
        let bytes = fs::read(self.scratch.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until QEMU connects.
    fn accept(&mut self, listener: &UnixListener) -> UnixStream {
        listener
            .set_nonblocking(true)
            .expect("a listener can be non-blocking");
        let stream = self.wait_for("a connection of QEMU", |_| match listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("a connection of QEMU: {error}"),
        });
        stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(HANG_LIMIT)))
            .expect("a stream has these settings");
        stream
    }

    /// Reads the answer to a command line.
    #[track_caller]
    fn read_answer(&mut self, to: &str) -> (i32, String) {
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let shell = self.shell.as_mut().expect("QEMU has connected");
            match shell.read(&mut piece) {
                Ok(0) => panic!("{to}: the machine has ended"),
                Ok(len) => answer.extend_from_slice(&piece[..len]),
                Err(error) => {
                    let answer = String::from_utf8_lossy(&answer);
                    panic!("{to}: no answer: {error}; so far: {answer}");
                }
            }
            if let Some(found) = split_answer(&answer) {
                return found;
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        if thread::panicking() {
            eprintln!("{}", self.report());
        }
    }
}

/// Splits output and exit code of a complete answer.
fn split_answer(answer: &[u8]) -> Option<(i32, String)> {
    let text = std::str::from_utf8(answer).ok()?.strip_suffix('\n')?;
    let (output, last) = text.rsplit_once('\n').unwrap_or(("", text));
    let code = match last.strip_prefix("=== ")? {
        "ready" => 0,
        code => code.parse().ok()?,
    };
    Some((code, output.to_owned()))
}

/// What `scripts/nics/guest` prepares.
struct GuestFiles {
    qemu: String,
    libraries: String,
    firmware: String,
    kernel: String,
    initramfs: PathBuf,
}

impl GuestFiles {
    /// Prepares them, or skips the case with the reason why they can't be had.
    fn prepare() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/nics/guest");
        // Fetching packages may take longer than a wait of a test.
        let output = Command::new(script).arg(LOCKGATE).output();
        let output = output.expect("the script can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => {}
            Some(SKIPPED) => skip_case(said.lines().last().unwrap_or_default()),
            _ => panic!("{script}: {}\n{said}", output.status),
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let found = lines.find(|(key, _)| *key == name);
            let (_, value) = found.unwrap_or_else(|| panic!("{script}: no {name}: {text}"));
            value.to_owned()
        };
        Self {
            qemu: value("qemu"),
            libraries: value("libraries"),
            firmware: value("firmware"),
            kernel: value("kernel"),
            initramfs: value("initramfs").into(),
        }
    }
}

/// The binary.
pub(crate) const LOCKGATE: &str = env!("CARGO_BIN_EXE_lockgate");

const QEMU_LOG: &str = "qemu.log";
const CONSOLE: &str = "console";
const LOG: &str = "log";
const LINES_SHOWN: usize = 60;
const SKIPPED: i32 = 77;
