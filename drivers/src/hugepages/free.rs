//! Reads the free huge pages of each size and NUMA node.

use std::fs;
use std::path::Path;

/// Huge pages of one size on one NUMA node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreePages {
    /// NUMA node.
    pub node: u16,
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Pages that are free, and not reserved by another process.
    pub free: u64,
    /// Pages in all.
    pub total: u64,
    /// Whether the kernel counts them by node. If not, it has no NUMA.
    pub by_node: bool,
}

/// Reads the huge pages under a `/sys` directory, ordered by node and size. A kernel without NUMA
/// nodes has node 0 only.
pub fn free_pages(sys: &Path) -> Vec<FreePages> {
    let machine = sys.join("kernel/mm/hugepages");
    let nodes = sys.join("devices/system/node");
    let mut list: Vec<FreePages> = Vec::new();
    for (node, dir) in numbered(&nodes, "node", "") {
        list.extend(sizes(&dir.join("hugepages"), Some(node)));
    }
    if list.is_empty() {
        list = sizes(&machine, None);
    }
    // Reserved pages count as free until they are touched. The kernel doesn't say on which node.
    for (kib, dir) in numbered::<u32>(&machine, "hugepages-", "kB") {
        let mut reserved = number(&dir.join("resv_hugepages"));
        let mut same: Vec<&mut FreePages> = list
            .iter_mut()
            .filter(|pages| pages.page_bytes == u64::from(kib) * 1024)
            .collect();
        same.sort_by_key(|pages| std::cmp::Reverse(pages.free));
        for pages in same {
            let taken = reserved.min(pages.free);
            pages.free -= taken;
            reserved -= taken;
        }
    }
    list.sort_by_key(|pages| (pages.node, pages.page_bytes));
    list
}

/// Reads the pages in a directory: those of a node, or of a kernel without nodes.
fn sizes(dir: &Path, node: Option<u16>) -> Vec<FreePages> {
    let sizes = numbered::<u32>(dir, "hugepages-", "kB").into_iter();
    sizes
        .filter(|(kib, _)| *kib > 0)
        .map(|(kib, dir)| {
            let page_bytes = u64::from(kib) * 1024;
            let count = |file| number(&dir.join(file)).min(BYTES_MAX / page_bytes);
            FreePages {
                node: node.unwrap_or(0),
                page_bytes,
                free: count("free_hugepages"),
                total: count("nr_hugepages"),
                by_node: node.is_some(),
            }
        })
        .collect()
}

/// Returns the entries of a directory whose names are a number between `before` and `after`.
fn numbered<T: std::str::FromStr>(
    dir: &Path,
    before: &str,
    after: &str,
) -> Vec<(T, std::path::PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            let name = name.to_str()?.strip_prefix(before)?.strip_suffix(after)?;
            Some((name.parse().ok()?, entry.path()))
        })
        .collect()
}

/// Returns the number in a file; 0 if there is none.
fn number(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// The memory that pages of one size on one node have at most: more than any machine, and little
/// enough that sums over nodes and sizes don't overflow.
const BYTES_MAX: u64 = 1 << 48;

#[cfg(test)]
mod tests {
    use lockgate_testing::ScratchDir;

    use super::*;

    fn write(dir: &Path, file: &str, number: u64) {
        let file = dir.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, format!("{number}\n")).unwrap();
    }

    fn pages(node: u16, page_bytes: u64, free: u64, total: u64) -> FreePages {
        FreePages {
            node,
            page_bytes,
            free,
            total,
            by_node: true,
        }
    }

    /// Files that say what no kernel says, as of a container that shows others.
    #[test]
    fn counts_and_sizes_that_cannot_be_are_limited() {
        let scratch = ScratchDir::new();
        let sys = scratch.path();
        let dir = "devices/system/node/node0/hugepages";
        for size in ["2048", "0", "18446744073709551615"] {
            for file in ["free_hugepages", "nr_hugepages"] {
                write(sys, &format!("{dir}/hugepages-{size}kB/{file}"), u64::MAX);
            }
        }
        let most = (1 << 48) / (2 << 20);
        assert_eq!(free_pages(sys), [pages(0, 2 << 20, most, most)]);
    }

    #[test]
    fn each_size_of_each_node_is_counted() {
        let scratch = ScratchDir::new();
        let sys = scratch.path();
        for (node, two_mib, one_gib) in [(0, 100, 2), (1, 300, 0)] {
            let dir = format!("devices/system/node/node{node}/hugepages");
            write(
                sys,
                &format!("{dir}/hugepages-2048kB/free_hugepages"),
                two_mib,
            );
            write(sys, &format!("{dir}/hugepages-2048kB/nr_hugepages"), 400);
            write(
                sys,
                &format!("{dir}/hugepages-1048576kB/free_hugepages"),
                one_gib,
            );
            write(sys, &format!("{dir}/hugepages-1048576kB/nr_hugepages"), 2);
        }
        write(sys, "devices/system/node/has_cpu", 0);
        write(
            sys,
            "kernel/mm/hugepages/hugepages-2048kB/resv_hugepages",
            0,
        );
        let all = [
            pages(0, 2 << 20, 100, 400),
            pages(0, 1 << 30, 2, 2),
            pages(1, 2 << 20, 300, 400),
            pages(1, 1 << 30, 0, 2),
        ];
        assert_eq!(free_pages(sys), all);
        // Another process has reserved more than one node has.
        write(
            sys,
            "kernel/mm/hugepages/hugepages-2048kB/resv_hugepages",
            350,
        );
        let [a, _, b, _] = free_pages(sys)[..] else {
            panic!("four kinds of pages")
        };
        assert_eq!((a.free, b.free), (50, 0));
    }

    #[test]
    fn a_kernel_without_nodes_has_one() {
        let scratch = ScratchDir::new();
        let sys = scratch.path();
        assert_eq!(free_pages(sys), []);
        let dir = "kernel/mm/hugepages/hugepages-2048kB";
        write(sys, &format!("{dir}/free_hugepages"), 7);
        write(sys, &format!("{dir}/nr_hugepages"), 8);
        let only = FreePages {
            by_node: false,
            ..pages(0, 2 << 20, 7, 8)
        };
        assert_eq!(free_pages(sys), [only]);
    }
}
