//! Frames on a tap, as tcpdump shows them.

use lockgate_testing::network::{SERVER4, SERVER6};
use lockgate_testing::process::Running;
use rustix::process::{Pid, Signal, kill_process};

use super::machine::Machine;

/// tcpdump on a machine's tap.
pub(crate) struct Capture(Running);

/// The filter of announcements: ARP requests of a sender for its own address, and neighbour
/// advertisements to all nodes.
pub(crate) const ANNOUNCEMENTS: &str =
    "(arp and arp[14:4] = arp[24:4]) or (icmp6 and dst host ff02::1)";

impl Capture {
    /// Captures the frames that match a filter, from now on.
    #[track_caller]
    pub(crate) fn start(machine: &Machine, tap: usize, filter: &str) -> Self {
        let mut tcpdump = machine.command("tcpdump");
        tcpdump.args(["-n", "-v", "-l", "--immediate-mode", "-i"]);
        let running = Running::start(tcpdump.arg(format!("tap{tap}")).arg(filter));
        running.wait_for("listening on", 1);
        Self(running)
    }

    /// Waits until the addresses of a port are announced: by gratuitous ARP, and by an unsolicited
    /// neighbour advertisement.
    #[track_caller]
    pub(crate) fn wait_for_announcements(&self) {
        self.0.wait_for(&format!("who-has {SERVER4}"), 1);
        self.0.wait_for(&format!("tgt is {SERVER6}"), 1);
    }

    /// Ends the capture; all frames.
    #[track_caller]
    pub(crate) fn finish(mut self) -> String {
        let pid = Pid::from_child(self.0.child());
        kill_process(pid, Signal::TERM).expect("it's our child and wasn't waited for");
        self.0.finish().ok().text()
    }
}
