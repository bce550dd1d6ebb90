//! Helpers for raw calls: error numbers, strings, and checks that layouts agree.

use std::ffi::{CStr, CString};
use std::fmt;
use std::mem::offset_of;

use dpdk_sys::{lg_frag, rte_mbuf_ext_shared_info};
use pktbuf::{Frag, SharedInfo};

/// An error number of DPDK or the kernel, positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Converts the result of a call that returns a negative error number.
    pub(crate) fn check(rc: i32) -> Result<i32, Self> {
        if rc < 0 {
            Err(Self(rc.saturating_neg()))
        } else {
            Ok(rc)
        }
    }

    /// Returns `rte_errno`, after a call that returned a null pointer or -1.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a variable of this thread.
        Self(unsafe { dpdk_sys::lg_errno() })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: any number is allowed; the result is a string of this thread or a constant.
        let text = unsafe { dpdk_sys::rte_strerror(self.0) };
        // SAFETY: a NUL-terminated string, valid until this thread's next call.
        let text = unsafe { CStr::from_ptr(text) };
        write!(f, "{} (errno {})", text.to_string_lossy(), self.0)
    }
}

/// Returns a C string that ends at the first NUL, if there is one.
pub(crate) fn c_string(s: &str) -> CString {
    let until_nul = s.split('\0').next().unwrap_or_default();
    CString::new(until_nul).unwrap_or_default()
}

// The C shim writes fragments, pktbuf reads them.
const _: () = {
    let l = Frag::LAYOUT;
    assert!(
        l.size == size_of::<lg_frag>(),
        "Frag and lg_frag differ in size"
    );
    assert!(l.next == offset_of!(lg_frag, next));
    assert!(l.link == offset_of!(lg_frag, link));
    assert!(l.data == offset_of!(lg_frag, data));
    assert!(l.ops == offset_of!(lg_frag, ops));
    assert!(l.offset == offset_of!(lg_frag, offset));
    assert!(l.len == offset_of!(lg_frag, len));
    assert!(l.pkt_len == offset_of!(lg_frag, pkt_len));
    assert!(l.true_size == offset_of!(lg_frag, true_size));
    assert!(l.hash == offset_of!(lg_frag, hash));
    assert!(l.port == offset_of!(lg_frag, port));
    assert!(l.vlan == offset_of!(lg_frag, vlan));
    assert!(l.flags == offset_of!(lg_frag, flags));
    assert!(l.segs == offset_of!(lg_frag, segs));
};

// Flags have the same values on both sides.
const _: () = {
    use dpdk_sys::{
        LG_RX_HAS_HASH, LG_RX_IP_CSUM_BAD, LG_RX_IP_CSUM_GOOD, LG_RX_L4_CSUM_BAD,
        LG_RX_L4_CSUM_GOOD, LG_RX_VLAN, LG_RX_WRITABLE,
    };
    use pktbuf::flags;
    assert!(flags::IP_CSUM_GOOD as u32 == LG_RX_IP_CSUM_GOOD);
    assert!(flags::IP_CSUM_BAD as u32 == LG_RX_IP_CSUM_BAD);
    assert!(flags::L4_CSUM_GOOD as u32 == LG_RX_L4_CSUM_GOOD);
    assert!(flags::L4_CSUM_BAD as u32 == LG_RX_L4_CSUM_BAD);
    assert!(flags::WRITABLE as u32 == LG_RX_WRITABLE);
    assert!(flags::HAS_HASH as u32 == LG_RX_HAS_HASH);
    assert!(flags::HAS_VLAN as u32 == LG_RX_VLAN);
};

// DPDK uses the shared info of page buffers as its own.
const _: () = {
    use rte_mbuf_ext_shared_info as Raw;
    assert!(size_of::<SharedInfo>() == size_of::<Raw>());
    assert!(offset_of!(SharedInfo, free_cb) == offset_of!(Raw, free_cb));
    assert!(offset_of!(SharedInfo, fcb_opaque) == offset_of!(Raw, fcb_opaque));
    assert!(offset_of!(SharedInfo, refcnt) == offset_of!(Raw, refcnt));
};
