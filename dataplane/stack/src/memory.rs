//! The worker's memory that peers can hold: its budgets, its reserve, and the sockets without any.
//!
//! Every question whether a socket may take or pin memory is answered here, so that limits over all
//! sockets of a worker have one owner.

mod idle_order;
mod receive_budget;
mod send_reserve;
mod send_share;
mod starved;

pub(crate) use self::idle_order::{IdleOrder, RECEIVED_BYTES};
pub(crate) use self::receive_budget::{PayloadAdmission, ReceiveBudget};
pub(crate) use self::send_reserve::{ReserveLoan, SendReserve};
pub(crate) use self::send_share::{GUARANTEED_BYTES, SendShare};
pub(crate) use self::starved::{MemoryWaits, Missing, StarvedSockets};
use crate::config::Limits;

/// The memory owner of one worker.
#[derive(Debug)]
pub(crate) struct Memory {
    /// What received and unread bytes of all sockets may pin.
    pub(crate) receive: ReceiveBudget,
    /// The page buffer that sending leaves to receiving.
    pub(crate) reserve: SendReserve,
    /// Sockets that wait for page buffers.
    pub(crate) starved: StarvedSockets,
    /// Idle sockets, which are closed when the table of sockets gets full.
    pub(crate) idle: IdleOrder,
}

impl Memory {
    /// A memory owner with these limits.
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            receive: ReceiveBudget::new(limits.recv_total_bytes, limits.connections_max),
            reserve: SendReserve::default(),
            starved: StarvedSockets::default(),
            idle: IdleOrder::new(limits.connections_max),
        }
    }
}
