//! An emulated machine: QEMU with cards whose other ends are taps, and a shell on a serial port.

use core::sync::atomic::{AtomicU32, Ordering};
use std::env;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use lockgate_testing::cases::{name_of_case, note};
use lockgate_testing::network::{self, Taps};
use lockgate_testing::{HANG_LIMIT, ScratchDir, wait_for};

use super::archive::Archive;
use super::card::Card;
use super::guest::GuestFiles;
use super::spec::{CONSOLE, INITRAMFS, LOG, MONITOR, MachineSpec, SHELL};

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
    /// Boots the machine with these files beside those that every guest has.
    #[track_caller]
    pub(crate) fn boot(spec: &MachineSpec, archive: Archive) -> Self {
        Self::boot_from(&GuestFiles::prepare(), spec, archive)
    }

    /// The same from these files. A QEMU that fails before the guest is ready, as by an assertion
    /// of its own, is started once more. One that ends with success isn't: the guest's kernel has
    /// ended it.
    #[track_caller]
    pub(crate) fn boot_from(files: &GuestFiles, spec: &MachineSpec, archive: Archive) -> Self {
        let archive = archive.finish();
        let booted = Self::try_boot(files, spec, &archive);
        booted.unwrap_or_else(|status| {
            assert!(!status.success(), "the guest has ended before it was ready");
            note(format_args!(
                "QEMU has failed before the guest was ready: {status}; starting it once more"
            ));
            Self::try_boot(files, spec, &archive)
                .unwrap_or_else(|status| panic!("QEMU has failed twice: {status}"))
        })
    }

    /// Boots the machine once. Returns how QEMU has ended, if it has before the guest was ready.
    fn try_boot(
        files: &GuestFiles,
        spec: &MachineSpec,
        archive: &[u8],
    ) -> Result<Self, ExitStatus> {
        let taps = Taps::new(spec.cards.len(), spec.mtu, spec.tap_queues());
        let scratch = ScratchDir::new();
        let mut initramfs = fs::read(&files.initramfs).expect("it was prepared");
        initramfs.extend(archive);
        scratch.write(INITRAMFS, initramfs);

        let [shell, monitor] = [SHELL, MONITOR]
            .map(|name| UnixListener::bind(scratch.join(name)).expect("a new path"));
        let mut command = network::command(taps.namespace(), &files.qemu);
        command.env("LD_LIBRARY_PATH", &files.libraries);
        command.args(spec.arguments(files, scratch.path()));
        let output = File::create(scratch.join(QEMU_LOG)).expect("there's room for a log");
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can have two handles"))
            .stderr(output);
        let mut machine = Self {
            qemu: command.spawn().expect("this binary can be started"),
            shell: None,
            monitor: None,
            scratch,
            taps,
        };
        if let Err(status) = machine.connect(&shell, &monitor) {
            eprintln!("{}", machine.report());
            return Err(status);
        }
        for (number, card) in spec.cards.iter().enumerate() {
            if *card == Card::IgbVf {
                machine.ok(&format!("make_vf {}", Card::Igb.address(number)));
            }
            machine.ok(&format!("bind {} {}", card.address(number), spec.bind_to()));
        }
        Ok(machine)
    }

    /// Waits until QEMU has connected and the guest is ready.
    fn connect(&mut self, shell: &UnixListener, monitor: &UnixListener) -> Result<(), ExitStatus> {
        self.shell = Some(self.accept(shell)?);
        self.monitor = Some(self.accept(monitor)?);
        match self.try_read_answer("the boot") {
            Some(_) => Ok(()),
            None => Err(self.qemu.wait().expect("it is our child")),
        }
    }

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

    /// Waits until QEMU connects, or has ended.
    fn accept(&mut self, listener: &UnixListener) -> Result<UnixStream, ExitStatus> {
        listener
            .set_nonblocking(true)
            .expect("a listener can be non-blocking");
        let stream = wait_for("a connection of QEMU", || match listener.accept() {
            Ok((stream, _)) => Some(Ok(stream)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let ended = self.qemu.try_wait().expect("it is our child");
                ended.map(Err)
            }
            Err(error) => panic!("a connection of QEMU: {error}"),
        })?;
        stream
            .set_nonblocking(false)
            .and_then(|()| stream.set_read_timeout(Some(HANG_LIMIT)))
            .expect("a stream has these settings");
        Ok(stream)
    }

    /// Reads the answer to a command line.
    #[track_caller]
    fn read_answer(&mut self, to: &str) -> (i32, String) {
        let answer = self.try_read_answer(to);
        answer.unwrap_or_else(|| panic!("{to}: the machine has ended"))
    }

    /// Reads the answer to a command line. None: the machine has ended.
    #[track_caller]
    fn try_read_answer(&mut self, to: &str) -> Option<(i32, String)> {
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let shell = self.shell.as_mut().expect("QEMU has connected");
            match shell.read(&mut piece) {
                Ok(0) => return None,
                // QEMU has ended with bytes that it hasn't read.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Ok(len) => answer.extend_from_slice(&piece[..len]),
                Err(error) => {
                    let answer = String::from_utf8_lossy(&answer);
                    panic!("{to}: no answer: {error}; so far: {answer}");
                }
            }
            let found = split_answer(&answer);
            if found.is_some() {
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
        if let Some(directory) = env::var_os(LOGS) {
            let case = name_of_case().unwrap_or_default().replace("::", "-");
            // A case may boot several machines, and each of them twice.
            let number = ENDED.fetch_add(1, Ordering::Relaxed) + 1;
            for name in [QEMU_LOG, CONSOLE, LOG] {
                let to = Path::new(&directory).join(format!("{case}.{number}.{name}"));
                if let Err(error) = fs::copy(self.scratch.join(name), &to) {
                    eprintln!("{}: {error}", to.display());
                }
            }
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

/// Machines of this case that have ended.
static ENDED: AtomicU32 = AtomicU32::new(0);

/// Names a directory that keeps the logs of each case, numbered in the order its machines end.
const LOGS: &str = "LOCKGATE_NICS_LOGS";
const QEMU_LOG: &str = "qemu.log";
const LINES_SHOWN: usize = 60;
