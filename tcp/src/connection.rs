//! The connection: its parts, its commands and its getters.

use core::time::Duration;

use lockgate_wire::{Instant, SeqNum, StreamOffset};
use lockgate_wire::tcp::TcpHeader;

use crate::congestion::Congestion;
use crate::options::Negotiated;
use crate::receive::Receive;
use crate::recovery::Scoreboard;
use crate::rtt::Rtt;
use crate::timers::Timers;
use crate::transmit::Send;
use crate::{Event, Intent, SegmentIn, Sent, Shared, State, Verdict};

/// What both ends of a new connection's beginning need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// Whether the connection runs over IPv6: decides header sizes and the peer's default segment
    /// size.
    pub ipv6: bool,
    /// The segment size that we announce: our MTU less IP and TCP headers without options.
    pub mss: u16,
    /// Our initial sequence number ([`IsnSource::isn`](crate::IsnSource::isn)).
    pub isn: SeqNum,
    /// What is added to the clock to make our timestamps
    /// ([`IsnSource::timestamp_offset`](crate::IsnSource::timestamp_offset)).
    pub ts_offset: u32,
}

/// How final an ICMP "unreachable" is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unreachable {
    /// It may pass: network or host unreachable, time exceeded, parameter problem.
    Soft,
    /// Protocol or port unreachable, or administratively prohibited.
    Hard,
}

/// One TCP connection, in numbers.
///
/// # How it is used
///
/// *What comes in.* [`on_segment`](Self::on_segment) takes each received segment, after the caller
/// has made sure that it can keep the payload; the [`Verdict`] says what to keep, what to send at
/// once and how far our own stream was acknowledged. [`on_timer`](Self::on_timer) is called when
/// [`deadline`](Self::deadline) has come.
///
/// *What the application wants.* [`queued`](Self::queued) and [`ready`](Self::ready) say how far the
/// stream to be sent goes and how much of it can be sent now; [`room`](Self::room) says how much can
/// be received beyond what is readable. [`close`](Self::close) puts a FIN after what is queued;
/// [`detach`](Self::detach) says that nobody will read any more; [`abort`](Self::abort) ends at once.
///
/// *What goes out.* After any of these, ask [`poll_transmit`](Self::poll_transmit) until it returns
/// nothing; each [`Intent`] is either given to [`commit`](Self::commit) with the length that is
/// really sent, or dropped. `commit` returns the header. If the packet then can't leave the host,
/// [`on_local_loss`](Self::on_local_loss) says so. Afterwards [`deadline`](Self::deadline) is read again.
///
/// *The end.* When an [`Event`] says that the connection [is over](Event::is_over), it holds nothing
/// in [`Shared`] any more and can be dropped. One that isn't over must be
/// [aborted](Self::abort) (or traded for a [`TimeWait`](crate::TimeWait)) before it is dropped.
///
/// # Offsets
///
/// Both streams count from 0, the first byte after the SYN, in 64 bits that never wrap. A FIN takes
/// one place behind the last byte; offsets that are handed out never include it.
#[derive(Debug)]
pub struct Connection {
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    pub(crate) state: State,
    pub(crate) negotiated: Negotiated,
    pub(crate) stamp: u32,
    pub(crate) snd: Send,
    pub(crate) rcv: Receive,
    pub(crate) board: Scoreboard,
    pub(crate) rtt: Rtt,
    pub(crate) congestion: Congestion,
    pub(crate) timers: Timers,
}

impl Connection {
    /// Opens a connection actively: the SYN is the first thing that
    /// [`poll_transmit`](Self::poll_transmit) offers.
    pub fn connect(now: Instant, opening: &Opening, sh: &Shared) -> Self {
        todo!()
    }

    /// A segment was received.
    ///
    /// Room for its payload must have been made before: what the verdict keeps counts as received.
    pub fn on_segment(&mut self, now: Instant, segment: SegmentIn<'_>, sh: &mut Shared) -> Verdict {
        todo!()
    }

    /// A [`deadline`](Self::deadline) may have come.
    pub fn on_timer(&mut self, now: Instant, sh: &mut Shared) -> Event {
        todo!()
    }

    /// What `commit` returned did not leave this host. It will be sent again without being taken
    /// for congestion.
    pub fn on_local_loss(&mut self, now: Instant, sent: Sent, sh: &mut Shared) {
        todo!()
    }

    /// An ICMP message said that a packet of ours with sequence number `quoted` was too big for a
    /// link with this MTU. Whether it was believed and segments are smaller now.
    pub fn on_too_big(&mut self, now: Instant, quoted: SeqNum, mtu: u16, sh: &mut Shared) -> bool {
        todo!()
    }

    /// An ICMP message said that the peer can't be reached.
    pub fn on_unreachable(&mut self, quoted: SeqNum, kind: Unreachable, sh: &mut Shared) -> Event {
        todo!()
    }

    /// The application has given the stream up to `end`. May go back, but never behind what was
    /// sent ([`sent`](Self::sent)), and not after `close`, except that what a `close` has not sent
    /// yet may be cut.
    pub fn queued(&mut self, end: StreamOffset) {
        todo!()
    }

    /// The stream can be sent up to `end`, which is at most what is queued.
    pub fn ready(&mut self, end: StreamOffset) {
        todo!()
    }

    /// So many bytes can be received beyond [`received`](Self::received).
    /// May shrink at any time; a window once promised is still honoured.
    pub fn room(&mut self, bytes: u32) {
        todo!()
    }

    /// No more will be queued: a FIN follows what is.
    pub fn close(&mut self) {
        todo!()
    }

    /// Nobody will read any more: data that still comes is answered by a reset, and FIN-WAIT-2 ends
    /// after a while.
    pub fn detach(&mut self, now: Instant, sh: &Shared) {
        todo!()
    }

    /// Ends the connection now; the RST to send, if the state calls for one.
    pub fn abort(&mut self, now: Instant, sh: &mut Shared) -> Option<TcpHeader> {
        todo!()
    }

    /// Whether small segments are sent without waiting for acknowledgments (no Nagle).
    pub fn set_nodelay(&mut self, on: bool) {
        todo!()
    }

    /// Turns keepalive on (with the times of [`TcpConfig`](crate::TcpConfig) or defaults) or off.
    pub fn set_keepalive(&mut self, on: bool, now: Instant, sh: &Shared) {
        todo!()
    }

    /// How long sent data may stay unacknowledged before the connection is given up.
    pub fn set_user_timeout(&mut self, timeout: Duration) {
        todo!()
    }

    /// What to send now, if anything. Changes nothing: asking again gives the same answer.
    pub fn poll_transmit(&self, now: Instant, sh: &Shared) -> Option<Intent> {
        todo!()
    }

    /// The first `len` bytes of the intent's range are sent now; returns the header for them.
    ///
    /// Of an intent with bytes, 0 may be committed too: a bare acknowledgment then, useful when
    /// bytes can't be had now and [`ack_due`](Self::ack_due).
    pub fn commit(
        &mut self,
        intent: Intent,
        len: u32,
        now: Instant,
        sh: &mut Shared,
    ) -> (TcpHeader, Sent) {
        todo!()
    }

    /// When [`on_timer`](Self::on_timer) wants to be called.
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
    }

    /// The small remains of a connection in TIME-WAIT, with which it can be replaced; none in
    /// other states.
    pub fn time_wait(&self) -> Option<crate::TimeWait> {
        todo!()
    }

    /// Whether an acknowledgment is owed now.
    pub fn ack_due(&self) -> bool {
        todo!()
    }

    /// The state.
    pub fn state(&self) -> State {
        todo!()
    }

    /// Whether the peer's FIN was received, so that nothing comes after [`received`](Self::received).
    pub fn peer_closed(&self) -> bool {
        todo!()
    }

    /// Whether `close` was called.
    pub fn is_closing(&self) -> bool {
        todo!()
    }

    /// Our stream is acknowledged up to here.
    pub fn acked(&self) -> StreamOffset {
        todo!()
    }

    /// Our stream was sent up to here.
    pub fn sent(&self) -> StreamOffset {
        todo!()
    }

    /// The peer's stream is complete up to here.
    pub fn received(&self) -> StreamOffset {
        todo!()
    }

    /// The sequence number of an offset in our stream.
    pub fn send_seq(&self, at: StreamOffset) -> SeqNum {
        todo!()
    }

    /// The offset in our stream that a sequence number near the window means; none before 0.
    pub fn send_offset(&self, seq: SeqNum) -> Option<StreamOffset> {
        todo!()
    }

    /// The sequence number of an offset in the peer's stream.
    pub fn recv_seq(&self, at: StreamOffset) -> SeqNum {
        todo!()
    }

    /// The offset in the peer's stream that a sequence number near the window means; none before 0.
    pub fn recv_offset(&self, seq: SeqNum) -> Option<StreamOffset> {
        todo!()
    }

    /// Everything one may want to know about how it goes.
    pub fn info(&self, now: Instant) -> crate::Info {
        todo!()
    }
}
