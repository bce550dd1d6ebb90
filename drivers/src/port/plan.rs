//! How a port is set up: everything that is decided from what its driver reports, before the port
//! is configured.

use dpdk_sys::{lg_port_caps, lg_port_conf};

use super::capabilities::{Capabilities, Wishes};
use super::quirks::Quirks;
use super::reasons::Reasons;
use super::rss::Rss;
use super::sizes::BufferNeeds;
use super::{PortConfig, PortError, SentRelease, Sizes, mtu};
use crate::device::{Device, Driver};
use crate::memory;

/// How a port is set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) caps: Capabilities,
    pub(super) reasons: Reasons,
    pub(super) rss: Rss,
    needs: BufferNeeds,
    pub(super) sizes: Sizes,
    pub(super) conf: lg_port_conf,
    /// A full receive ring drops its packets, and stalls no other queue.
    pub(super) rx_drop: bool,
    /// When the driver frees what it has sent, if that isn't to be asked.
    pub(super) known_release: Option<SentRelease>,
}

impl Plan {
    /// Decides how to set up a port, by what its driver reports.
    ///
    /// # Errors
    /// The device has too few queues, or the MTU is out of its range.
    pub(super) fn decide(
        config: &PortConfig,
        device: &Device,
        raw: &lg_port_caps,
    ) -> Result<Self, PortError> {
        let limit = raw.max_rx_queues.min(raw.max_tx_queues);
        if config.queues > limit {
            return Err(PortError::Queues {
                port: config.name.clone(),
                device: device.to_string(),
                wanted: config.queues,
                limit,
            });
        }
        let mtu = mtu::check(config, raw)?;
        let driver = device.driver();
        let quirks = Quirks::of(device, &driver_name(raw));
        let rss = Rss::decide(raw, config.queues);
        let wishes = Wishes {
            assume: config.assume,
            disable: config.disable,
            queues: config.queues,
            scatter: mtu::needs_scatter(driver, config.mtu),
            // vhost maps the EAL's own memory only.
            reaches_pages: driver != Driver::VirtioUser || memory::external().is_empty(),
        };
        let (mut caps, reasons) = Capabilities::decide(raw, &quirks, &rss, &wishes);
        let needs = BufferNeeds {
            multi_segs: caps.multi_segs,
            rx_scatter: caps.rx_scatter,
            rx_rings: quirks.rx_rings,
            tx_rings: quirks.tx_rings,
            rx_bufsize_min: raw.rx_bufsize_min,
            holds_sent: false,
        };
        let (rx, tx) = config.descriptors();
        let align = quirks.descriptors_align;
        let rx = within(
            rx,
            raw.rx_desc_min,
            raw.rx_desc_max,
            raw.rx_desc_align,
            align,
        );
        let tx = within(
            tx,
            raw.tx_desc_min,
            raw.tx_desc_max,
            raw.tx_desc_align,
            align,
        );
        let sizes = Sizes::sum(config, device, &needs, rx, tx);
        if caps.multi_segs {
            // A frame must never need more buffers than the pool has.
            let pieces = u16::try_from(sizes.tx_mbufs - 1).unwrap_or(u16::MAX);
            caps.tx_pieces_max = caps.tx_pieces_max.min(pieces);
        }
        Ok(Self {
            conf: lg_port_conf {
                queues: config.queues,
                mtu,
                offloads: caps.offloads(raw),
                rss: rss.types(),
            },
            caps,
            reasons,
            rss,
            needs,
            sizes,
            rx_drop: config.queues > 1 && quirks.has_rx_drop,
            known_release: quirks.sent_release,
        })
    }
}

impl Plan {
    /// Checks that a queue's receive ring isn't larger than was planned: its pool would be too
    /// small, and the queue would receive nothing.
    ///
    /// # Errors
    /// [`PortError::Ring`], with the numbers.
    pub(super) fn check_ring(
        &self,
        config: &PortConfig,
        descriptors: u32,
    ) -> Result<(), PortError> {
        if descriptors <= u32::from(self.sizes.rx_descriptors) {
            return Ok(());
        }
        Err(PortError::Ring {
            port: config.name.clone(),
            device: config.device.to_string(),
            descriptors,
            wanted: self.sizes.rx_descriptors,
            buffers: self.sizes.rx_mbufs,
        })
    }

    /// Takes over how many descriptors a transmit queue that is set up has, if more than were asked
    /// for: mlx5 takes the next power of two, and keeps packets in all of them. Call it before
    /// [`Plan::set_sent_release`].
    pub(super) fn set_tx_ring(&mut self, descriptors: u16) {
        self.sizes.tx_descriptors = self.sizes.tx_descriptors.max(descriptors);
    }

    /// Takes over when the driver frees what it has sent. Only a queue that is set up tells.
    pub(super) fn set_sent_release(
        &mut self,
        config: &PortConfig,
        device: &Device,
        release: SentRelease,
    ) {
        self.caps.set_sent_release(release);
        self.needs.holds_sent = self.caps.holds_page_buffers();
        let (rx, tx) = (self.sizes.rx_descriptors, self.sizes.tx_descriptors);
        self.sizes = Sizes::sum(config, device, &self.needs, rx, tx);
    }
}

/// Returns DPDK's name of the port's driver.
pub(super) fn driver_name(raw: &lg_port_caps) -> String {
    let bytes: Vec<u8> = raw
        .driver
        .iter()
        .take_while(|&&c| c != 0)
        .map(|c| c.to_ne_bytes()[0])
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Fits a number of descriptors to the limits of the device, of which 0 means none: a multiple of
/// both alignments, not more than `max`, not less than `min`.
fn within(wanted: u16, min: u16, max: u16, align: u16, other_align: u16) -> u16 {
    // Each is a power of two.
    let align = align.max(other_align).max(1);
    let max = if max == 0 { u16::MAX } else { max };
    let max = max - max % align;
    let rounded = wanted.checked_next_multiple_of(align).unwrap_or(max);
    rounded.min(max).max(min)
}

#[cfg(test)]
mod tests;
