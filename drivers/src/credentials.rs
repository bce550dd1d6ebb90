//! Capabilities of other threads of the process, DPDK's among them.
//!
//! capset(2) changes the calling thread only, and glibc has no call that reaches all threads as it
//! has for user ids (nptl(7)). So each thread is sent a signal whose handler empties its sets.

use std::io;

/// A signal handler that empties the capability sets of the thread that it runs on.
///
/// There is one at a time in a process. Dropped, the signal is ignored: it may still be pending.
#[derive(Debug)]
pub struct ThreadCapabilities(());

impl ThreadCapabilities {
    /// Installs the handler, for the last real-time signal (SIGRTMAX).
    ///
    /// # Errors
    /// The system refuses.
    pub fn install() -> io::Result<Self> {
        set_handler(empty_sets as *const () as libc::sighandler_t)?;
        Ok(Self(()))
    }

    /// Asks a thread of this process to empty its capability sets, which it does when it runs next.
    /// A thread that has ended is no error.
    ///
    /// # Errors
    /// The system refuses.
    pub fn empty(&self, tid: i32) -> io::Result<()> {
        let (process, signal) = (std::process::id(), libc::SIGRTMAX());
        // SAFETY: three numbers; the signal has a handler.
        let rc = unsafe { libc::syscall(libc::SYS_tgkill, process, tid, signal) };
        if rc == 0 {
            return Ok(());
        }
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        }
    }
}

impl Drop for ThreadCapabilities {
    fn drop(&mut self) {
        // Without a handler the signal would end the process.
        let _ = set_handler(libc::SIG_IGN);
    }
}

fn set_handler(handler: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: numbers and a set of signals, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: a valid action to read. The handler makes one system call.
    let rc = unsafe { libc::sigaction(libc::SIGRTMAX(), &raw const action, std::ptr::null_mut()) };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `struct __user_cap_header_struct` of linux/capability.h. The thread 0 is the calling one.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `_LINUX_CAPABILITY_VERSION_3`
const VERSION_3: u32 = 0x2008_0522;

/// Effective, permitted and inheritable set of 32 capabilities each, twice.
const NONE: [[u32; 3]; 2] = [[0; 3]; 2];

/// The handler. The interrupted code finds its `errno` unchanged.
extern "C" fn empty_sets(_signal: libc::c_int) {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    // SAFETY: returns the address of this thread's errno.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: an address of this thread.
    let before = unsafe { *errno };
    // SAFETY: a header and the data that its version has. The call can't fail: sets may always be
    // emptied.
    unsafe { libc::syscall(libc::SYS_capset, &raw const header, NONE.as_ptr()) };
    // SAFETY: an address of this thread.
    unsafe { *errno = before };
}
