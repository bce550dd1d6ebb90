//! What connections take of the heap.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use core::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use lockgate_stack::IDLE_TLS_HEAP_BYTES;
use lockgate_stack::tls::TlsOptions;

use self::support::{World, pki};

/// Returns what the stack of a server with so many idle TLS connections frees when it is dropped.
fn freed(options: &TlsOptions, connections: usize) -> AllocationInfo {
    let mut world = World::simple();
    world.listen(443, Some(pki::server(options)));
    let client = pki::client(options);
    for _ in 0..connections {
        world.tls_pair(client.clone());
    }
    world.run(Duration::from_secs(1));
    let World { a, b, .. } = world;
    assert_eq!(b.stack.counters().accepted, connections as u64);
    let stack = b.stack;
    let freed = measure(|| drop(stack));
    drop(a);
    freed
}

/// One more connection is so much more to be freed. glibc's malloc takes a chunk of `len + 8`
/// bytes, rounded up to 16, for an allocation of `len` bytes.
#[test]
fn an_idle_tls_connection_has_its_keys_on_the_heap_and_nothing_else() {
    for (suite, versions) in pki::SUITES {
        let options = pki::only(suite, versions);
        let [few, many] = [FEW, MANY].map(|connections| freed(&options, connections));
        let more = i64::try_from(MANY - FEW).unwrap();
        let allocations = (few.count_current - many.count_current) / more;
        let bytes = (few.bytes_current - many.bytes_current) / more;
        assert_eq!(allocations, 2, "{suite:?}: the keys of each direction");
        let chunk = usize::try_from(bytes / 2 + 8).unwrap().next_multiple_of(16);
        assert!(2 * chunk <= IDLE_TLS_HEAP_BYTES, "{suite:?}: {bytes} bytes");
    }
}

/// Lists that grow by doubling have the same capacity with both.
const FEW: usize = 34;
const MANY: usize = 62;
