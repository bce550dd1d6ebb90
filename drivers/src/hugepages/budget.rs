//! Divides free huge pages among what memory is wanted for.

use std::fmt;

use super::FreePages;

/// What memory is wanted for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Purpose, for messages.
    pub what: String,
    /// Bytes.
    pub bytes: u64,
    /// NUMA nodes that it should be on, in equal parts; empty: any.
    pub nodes: Vec<u16>,
}

impl Demand {
    /// Makes a demand for memory on any node.
    pub fn new(what: impl Into<String>, bytes: u64) -> Self {
        Self {
            what: what.into(),
            bytes,
            nodes: Vec::new(),
        }
    }

    /// Returns the same demand on these nodes.
    #[must_use]
    pub fn on(self, nodes: Vec<u16>) -> Self {
        Self { nodes, ..self }
    }
}

/// A part of a demand: huge pages of one size on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// NUMA node.
    pub node: u16,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Bytes of memory.
    pub bytes: u64,
}

/// What a demand gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// Its memory.
    pub chunks: Vec<Chunk>,
    /// Bytes of it that are on another node than wanted: the node where they are wanted, and how
    /// many.
    pub strayed: Vec<(u16, u64)>,
    /// Bytes for which there are no huge pages: the node where they are wanted, and how many.
    pub missing: Vec<(u16, u64)>,
}

impl Grant {
    /// Returns the bytes that are on another node than wanted.
    pub fn strayed_bytes(&self) -> u64 {
        self.strayed.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// Limits of the EAL's heaps, by number of pages and by bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeapLimits {
    /// The most of one size on one node (`RTE_MAX_MEMSEG_PER_TYPE`, `RTE_MAX_MEM_MB_PER_TYPE`).
    pub kind: (u64, u64),
    /// The most in one piece.
    pub piece: (u64, u64),
}

impl HeapLimits {
    /// No limits, for tests.
    pub const UNLIMITED: Self = Self {
        kind: (u64::MAX, u64::MAX),
        piece: (u64::MAX, u64::MAX),
    };
}

/// Huge pages that are not given out yet.
#[derive(Clone, Debug, Default)]
pub struct PageBudget {
    free: Vec<FreePages>,
    stocks: Vec<Stock>,
}

/// Pages of one size on one node.
#[derive(Clone, Copy, Debug)]
struct Stock {
    node: u16,
    page_bytes: u64,
    free: u64,
    /// Bytes that are left in pages of which something was given out.
    left: u64,
    /// The most bytes in one piece.
    piece_max: u64,
}

impl PageBudget {
    /// Makes a budget of all free pages that the EAL can manage.
    pub fn new(free: &[FreePages], limits: HeapLimits) -> Self {
        // A span of page buffers must not cross a page: smaller ones aren't used.
        let usable = free
            .iter()
            .filter(|pages| pages.page_bytes.is_multiple_of(PAGE_MIN));
        Self {
            free: free.to_vec(),
            stocks: usable
                .map(|pages| Stock {
                    node: pages.node,
                    page_bytes: pages.page_bytes,
                    free: pages.free.min(pages_of(limits.kind, pages.page_bytes)),
                    left: 0,
                    piece_max: pages_of(limits.piece, pages.page_bytes)
                        .max(1)
                        .saturating_mul(pages.page_bytes)
                        .saturating_sub(OVERHEAD),
                })
                .collect(),
        }
    }

    /// Gives out memory for a demand: on its nodes as far as possible, else on others.
    ///
    /// A page of 1 GiB is used whole, or if there are no smaller ones.
    pub fn take(&mut self, demand: &Demand) -> Grant {
        let mut grant = Grant::default();
        for (node, share) in shares(demand) {
            let wanted = node.or_else(|| self.fullest());
            let mut left = wanted.map_or(share, |node| self.take_on(node, share, &mut grant));
            while left > 0
                && let Some(other) = self.fullest()
            {
                let rest = self.take_on(other, left, &mut grant);
                if rest == left {
                    break;
                }
                if let Some(node) = node {
                    add(&mut grant.strayed, node, left - rest);
                }
                left = rest;
            }
            if left > 0 {
                add(&mut grant.missing, wanted.unwrap_or(0), left);
            }
        }
        grant
    }

    /// Checks whether all demands fit together.
    ///
    /// # Errors
    /// What is missing, and where.
    pub fn check<'a>(&self, demands: impl IntoIterator<Item = &'a Demand>) -> Result<(), Shortage> {
        let wanted: Vec<Demand> = demands.into_iter().cloned().collect();
        let missing = self.take_all(&wanted).missing;
        if missing.is_empty() {
            return Ok(());
        }
        Err(Shortage {
            wanted,
            free: self.free.clone(),
            missing,
        })
    }

    /// Returns what all demands together would get.
    pub fn take_all<'a>(&self, demands: impl IntoIterator<Item = &'a Demand>) -> Grant {
        let mut rest = self.clone();
        let mut all = Grant::default();
        for demand in demands {
            let one = rest.take(demand);
            all.chunks.extend(one.chunks);
            for (node, bytes) in one.strayed {
                add(&mut all.strayed, node, bytes);
            }
            for (node, bytes) in one.missing {
                add(&mut all.missing, node, bytes);
            }
        }
        all
    }

    /// Takes up to `bytes` on a node. Returns what is still wanted.
    fn take_on(&mut self, node: u16, bytes: u64, grant: &mut Grant) -> u64 {
        let mut stocks: Vec<&mut Stock> = self
            .stocks
            .iter_mut()
            .filter(|stock| stock.node == node)
            .collect();
        stocks.sort_by_key(|stock| stock.page_bytes);
        let mut left = bytes;
        // Whole pages of the larger sizes, or what is left in one.
        for stock in stocks.iter_mut().skip(1).rev() {
            let whole = left / stock.page_bytes * stock.page_bytes;
            let fits = if left + OVERHEAD <= stock.left {
                left
            } else {
                whole.saturating_sub(OVERHEAD)
            };
            left -= stock.take(fits, grant);
        }
        for stock in stocks {
            left -= stock.take(left, grant);
        }
        left
    }

    /// Returns the node with the most memory left.
    fn fullest(&self) -> Option<u16> {
        let mut nodes: Vec<(u64, u16)> = Vec::new();
        for stock in &self.stocks {
            let bytes = stock.capacity();
            match nodes.iter_mut().find(|(_, node)| *node == stock.node) {
                Some((sum, _)) => *sum += bytes,
                None => nodes.push((bytes, stock.node)),
            }
        }
        let most = nodes.into_iter().max_by_key(|&(bytes, node)| {
            // The first node of several that have the same.
            (bytes, std::cmp::Reverse(node))
        });
        most.filter(|&(bytes, _)| bytes > 0).map(|(_, node)| node)
    }
}

impl Stock {
    /// Returns the bytes that one demand can get.
    fn capacity(&self) -> u64 {
        (self.left + self.free * self.page_bytes).saturating_sub(OVERHEAD)
    }

    /// Takes up to `bytes`, in pieces. Returns how many.
    fn take(&mut self, bytes: u64, grant: &mut Grant) -> u64 {
        let mut taken = 0;
        while taken < bytes {
            match self.take_piece(bytes - taken, grant) {
                0 => break,
                got => taken += got,
            }
        }
        taken
    }

    fn take_piece(&mut self, bytes: u64, grant: &mut Grant) -> u64 {
        let got = bytes.min(self.capacity()).min(self.piece_max);
        if got == 0 {
            return 0;
        }
        let taken = got + OVERHEAD;
        let pages = taken.saturating_sub(self.left).div_ceil(self.page_bytes);
        self.free -= pages;
        self.left = self.left + pages * self.page_bytes - taken;
        grant.chunks.push(Chunk {
            node: self.node,
            page_bytes: self.page_bytes,
            bytes: got,
        });
        got
    }
}

/// Adds bytes to a node's.
fn add(list: &mut Vec<(u16, u64)>, node: u16, bytes: u64) {
    match list.iter_mut().find(|(on, _)| *on == node) {
        Some((_, sum)) => *sum += bytes,
        None => list.push((node, bytes)),
    }
}

/// Returns the number of pages within a limit of pages and of bytes.
fn pages_of((pages, bytes): (u64, u64), page_bytes: u64) -> u64 {
    pages.min(bytes / page_bytes)
}

/// Divides a demand among its nodes, in whole units of [`PAGE_MIN`] but for the last.
fn shares(demand: &Demand) -> Vec<(Option<u16>, u64)> {
    let count = demand.nodes.len() as u64;
    if count == 0 {
        return vec![(None, demand.bytes)];
    }
    let each = demand.bytes.div_ceil(count).next_multiple_of(PAGE_MIN);
    let mut left = demand.bytes;
    let share = |node: &u16| {
        let share = each.min(left);
        left -= share;
        (Some(*node), share)
    };
    demand.nodes.iter().map(share).collect()
}

/// Huge pages are missing: what is wanted, and what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Everything that memory is wanted for.
    pub wanted: Vec<Demand>,
    /// The pages that are free.
    pub free: Vec<FreePages>,
    /// Bytes that are missing, by the node where they are wanted.
    pub missing: Vec<(u16, u64)>,
}

impl Shortage {
    /// Returns the commands that reserve what is missing, in the smallest pages of each node.
    pub fn commands(&self) -> Vec<String> {
        commands(&self.free, &self.missing)
    }

    /// Returns what is missing, what is wanted and what is free, without the commands.
    pub fn summary(&self) -> String {
        let missing: Vec<String> = self
            .missing
            .iter()
            .map(|(node, bytes)| format!("{} MiB of huge pages on node {node}", mib(*bytes)))
            .collect();
        let wanted: Vec<String> = self
            .wanted
            .iter()
            .map(|demand| format!("{} MiB for {}", mib(demand.bytes), demand.what))
            .collect();
        format!(
            "{} missing; wanted: {}; free: {}",
            missing.join(" and "),
            wanted.join(", "),
            show_free(&self.free)
        )
    }
}

/// Formats free pages: `10 pages of 2 MiB on node 0, …`.
pub fn show_free(free: &[FreePages]) -> String {
    if free.is_empty() {
        return "none: the kernel has no huge pages".to_owned();
    }
    let each = free.iter().map(|pages| {
        let (count, size) = (pages.free, page_size(pages.page_bytes));
        format!("{count} pages of {size} on node {}", pages.node)
    });
    each.collect::<Vec<_>>().join(", ")
}

/// Returns the commands that reserve so many bytes more on these nodes, in the smallest pages of
/// each node.
pub(crate) fn commands(free: &[FreePages], more: &[(u16, u64)]) -> Vec<String> {
    let command = |&(node, bytes): &(u16, u64)| {
        let here = free
            .iter()
            .filter(|pages| pages.node == node && pages.page_bytes.is_multiple_of(PAGE_MIN));
        let pages = here.min_by_key(|pages| pages.page_bytes)?;
        let more = (bytes + OVERHEAD).div_ceil(pages.page_bytes);
        let total = pages.total.saturating_add(more);
        let size = pages.page_bytes >> 10;
        let dir = if pages.by_node {
            format!("/sys/devices/system/node/node{node}/hugepages")
        } else {
            "/sys/kernel/mm/hugepages".to_owned()
        };
        Some(format!(
            "echo {total} > {dir}/hugepages-{size}kB/nr_hugepages"
        ))
    };
    more.iter().filter_map(command).collect()
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())?;
        let commands = self.commands();
        if !commands.is_empty() {
            write!(f, "; to have them: {}", commands.join("; "))?;
        }
        Ok(())
    }
}

/// Formats the size of a page: `4 KiB`, `2 MiB`, `1 GiB`.
pub(crate) fn page_size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// The smallest huge page that is used, and a divisor of the others.
const PAGE_MIN: u64 = 2 << 20;

/// What a piece of memory takes beside its bytes: the room of a region, the heap's header and the
/// alignment.
const OVERHEAD: u64 = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: u64 = 2 << 20;
    const LARGE: u64 = 1 << 30;

    fn pages(node: u16, page_bytes: u64, free: u64) -> FreePages {
        FreePages {
            node,
            page_bytes,
            free,
            total: free + 1,
            by_node: true,
        }
    }

    fn budget(free: &[FreePages]) -> PageBudget {
        PageBudget::new(free, HeapLimits::UNLIMITED)
    }

    fn demand(bytes: u64, nodes: &[u16]) -> Demand {
        Demand::new("it", bytes).on(nodes.to_vec())
    }

    /// The bytes of each chunk: node, size of the page in MiB, bytes.
    fn chunks(grant: &Grant) -> Vec<(u16, u64, u64)> {
        let chunks = grant.chunks.iter();
        chunks
            .map(|chunk| (chunk.node, chunk.page_bytes >> 20, chunk.bytes))
            .collect()
    }

    #[test]
    fn large_pages_are_used_whole_and_small_ones_for_the_rest() {
        let free = [pages(0, SMALL, 512), pages(0, LARGE, 4)];
        let grant = budget(&free).take(&demand(2 * LARGE + 10 * SMALL, &[0]));
        assert_eq!(
            chunks(&grant),
            [
                (0, 1024, 2 * LARGE - OVERHEAD),
                (0, 2, 10 * SMALL + OVERHEAD)
            ]
        );
        assert_eq!((grant.strayed_bytes(), grant.missing.len()), (0, 0));
        // Less than a page: small ones.
        let grant = budget(&free).take(&demand(600 << 20, &[0]));
        assert_eq!(chunks(&grant), [(0, 2, 600 << 20)]);
    }

    #[test]
    fn one_large_page_holds_several_demands() {
        let mut one = budget(&[pages(0, SMALL, 0), pages(0, LARGE, 1)]);
        for bytes in [64 << 20, 500 << 20, 300 << 20] {
            assert_eq!(chunks(&one.take(&demand(bytes, &[0]))), [(0, 1024, bytes)]);
        }
        let grant = one.take(&demand(200 << 20, &[0]));
        let left = LARGE - (864 << 20) - 4 * OVERHEAD;
        assert_eq!(chunks(&grant), [(0, 1024, left)]);
        assert_eq!(grant.missing, [(0, (200 << 20) - left)]);
    }

    #[test]
    fn memory_is_on_its_node_or_said_to_be_elsewhere() {
        let free = [pages(0, SMALL, 100), pages(1, SMALL, 1000)];
        let grant = budget(&free).take(&demand(50 * SMALL, &[0]));
        assert_eq!(chunks(&grant), [(0, 2, 50 * SMALL)]);
        assert_eq!(grant.strayed_bytes(), 0);
        let grant = budget(&free).take(&demand(150 * SMALL, &[0]));
        let here = 100 * SMALL - OVERHEAD;
        assert_eq!(chunks(&grant), [(0, 2, here), (1, 2, 150 * SMALL - here)]);
        assert_eq!(grant.strayed_bytes(), 150 * SMALL - here);
        // Any node will do: the one with the most.
        let grant = budget(&free).take(&demand(50 * SMALL, &[]));
        assert_eq!(chunks(&grant), [(1, 2, 50 * SMALL)]);
        assert_eq!(grant.strayed_bytes(), 0);
    }

    #[test]
    fn a_demand_of_two_nodes_is_spread() {
        let free = [pages(0, SMALL, 100), pages(1, SMALL, 100)];
        let grant = budget(&free).take(&demand(101 * SMALL, &[0, 1]));
        assert_eq!(chunks(&grant), [(0, 2, 51 * SMALL), (1, 2, 50 * SMALL)]);
        // What one node lacks the other has.
        let free = [pages(0, SMALL, 10), pages(1, SMALL, 100)];
        let grant = budget(&free).take(&demand(60 * SMALL, &[0, 1]));
        let total: u64 = grant.chunks.iter().map(|chunk| chunk.bytes).sum();
        assert_eq!((total, grant.missing.len()), (60 * SMALL, 0));
        assert_eq!(grant.strayed_bytes(), 30 * SMALL - (10 * SMALL - OVERHEAD));
    }

    #[test]
    fn the_eals_limits_hold() {
        // DPDK's usual ones: 64 GiB of one size on one node, 16 or 32 GiB in one list. A piece is
        // half a list.
        let limits = HeapLimits {
            kind: (32_768, 64 * LARGE),
            piece: (4096, 16 * LARGE),
        };
        let free = [pages(0, SMALL, 100_000), pages(0, LARGE, 100)];
        let grant = PageBudget::new(&free[..1], limits).take(&demand(20 * LARGE, &[0]));
        let piece = 8 * LARGE - OVERHEAD;
        let rest = 20 * LARGE - 2 * piece;
        assert_eq!(chunks(&grant), [(0, 2, piece), (0, 2, piece), (0, 2, rest)]);
        assert_eq!(grant.missing, []);
        let grant = PageBudget::new(&free[1..], limits).take(&demand(20 * LARGE, &[0]));
        let piece = 16 * LARGE - OVERHEAD;
        assert_eq!(chunks(&grant)[0], (0, 1024, piece));
        assert_eq!(grant.missing, []);
        let grant = PageBudget::new(&free[..1], limits).take(&demand(70 * LARGE, &[0]));
        let bytes: u64 = grant.chunks.iter().map(|chunk| chunk.bytes).sum();
        assert_eq!(bytes.div_ceil(LARGE), 64);
        assert_eq!(grant.missing, [(0, 70 * LARGE - bytes)]);
        // Pages that a span could cross aren't used.
        assert_eq!(budget(&[pages(0, 64 << 10, 9)]).fullest(), None);
    }

    #[test]
    fn a_shortage_names_the_number_the_node_and_the_command() {
        let free = [pages(0, SMALL, 10), pages(0, LARGE, 0), pages(1, SMALL, 20)];
        let demands = [
            Demand::new("packet buffers", 4 * SMALL).on(vec![0]),
            Demand::new("page buffers of worker 0", 40 * SMALL).on(vec![1]),
        ];
        assert_eq!(budget(&free).check(&demands[..1]), Ok(()));
        let shortage = budget(&free).check(&demands).unwrap_err();
        // 30 pages less what three pieces take beside.
        assert_eq!(shortage.missing, [(1, 14 * SMALL + 3 * OVERHEAD)]);
        assert_eq!(
            shortage.to_string(),
            "29 MiB of huge pages on node 1 missing; wanted: 8 MiB for packet buffers, 80 MiB for \
             page buffers of worker 0; free: 10 pages of 2 MiB on node 0, 0 pages of 1 GiB on \
             node 0, 20 pages of 2 MiB on node 1; to have them: echo 36 > \
             /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"
        );
        let flat = FreePages {
            by_node: false,
            ..pages(0, SMALL, 1)
        };
        let flat = budget(&[flat]).check(&demands[..1]).unwrap_err();
        assert_eq!(
            flat.commands(),
            ["echo 6 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"]
        );
        let none = budget(&[]).check(&demands[..1]).unwrap_err();
        assert!(none.to_string().contains("no huge pages"), "{none}");
        assert_eq!(none.commands(), [""; 0]);
    }

    #[test]
    fn what_the_command_reserves_suffices() {
        let demands = [
            Demand::new("a", 3 * SMALL).on(vec![0]),
            Demand::new("b", 70 * SMALL).on(vec![0]),
            Demand::new("c", 5 * SMALL + 1),
        ];
        let Err(shortage) = budget(&[pages(0, SMALL, 1)]).check(&demands) else {
            panic!("one page doesn't suffice")
        };
        let [(0, bytes)] = shortage.missing[..] else {
            panic!("{shortage}")
        };
        let more = (bytes + OVERHEAD).div_ceil(SMALL);
        assert_eq!(budget(&[pages(0, SMALL, 1 + more)]).check(&demands), Ok(()));
    }
}
