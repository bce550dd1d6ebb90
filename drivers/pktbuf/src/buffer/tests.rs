use lockgate_testing::proptest_config;
use proptest::prelude::*;

use super::*;
use crate::heap::HeapBuffers;
use crate::pool::{PagePool, PoolConfig};
use crate::region::Region;
use crate::spans::{LARGE_CAPACITY, SMALL_CAPACITY};

fn content(b: &Frag) -> Vec<u8> {
    b.fragments().flatten().copied().collect()
}

#[test]
fn one_fragment() {
    let mut h = HeapBuffers::new(8);
    let mut b = h.alloc(b"hello world").unwrap();
    assert!(b.is_contiguous() && b.is_writable());
    assert_eq!((b.len(), b.front()), (11, &b"hello world"[..]));
    b.front_mut().unwrap()[0] = b'J';
    b.trim_front(0);
    b.truncate(5);
    assert_eq!(content(&b), b"Jello");
    b.trim_front(9);
    assert!(b.is_empty());
    drop(b);
    assert!(h.is_full());
}

#[test]
fn meta_goes_with_the_front() {
    let mut h = HeapBuffers::new(8);
    let mut b = h.alloc_chain(&[b"abc", b"de", b"f"]).unwrap();
    assert_eq!(
        (b.hash(), b.vlan(), b.segments(), b.port()),
        (None, None, 1, 0)
    );
    assert_eq!(
        (b.ip_checksum(), b.l4_checksum()),
        (Checksum::Unknown, Checksum::Unknown)
    );
    b.set_hash(Some(77));
    b.set_vlan(Some(5));
    b.set_port(3);
    b.set_segments(4);
    b.set_checksums(Checksum::Good, Checksum::Bad);
    b.trim_front(4);
    assert_eq!(
        (content(&b), b.is_contiguous(), h.usage().blocks_used),
        (b"ef".to_vec(), false, 2)
    );
    assert_eq!(
        (b.hash(), b.vlan(), b.segments(), b.port()),
        (Some(77), Some(5), 4, 3)
    );
    assert_eq!(
        (b.ip_checksum(), b.l4_checksum()),
        (Checksum::Good, Checksum::Bad)
    );
    b.set_checksums(Checksum::Bad, Checksum::Unknown);
    b.set_hash(None);
    assert_eq!(
        (b.ip_checksum(), b.l4_checksum()),
        (Checksum::Bad, Checksum::Unknown)
    );
    assert_eq!(b.hash(), None);
}

#[test]
fn read_only_stays_so() {
    let mut h = HeapBuffers::new(8);
    let mut b = h.alloc_chain(&[b"abc", b"de"]).unwrap();
    b.set_read_only();
    assert!(!b.is_writable() && b.front_mut().is_none());
    assert_eq!((b.tailroom(), b.append(b"x")), (0, 0));
    b.trim_front(3);
    assert!(b.front_mut().is_none());
}

#[test]
fn appending_fills_the_last_fragment() {
    let mut h = HeapBuffers::new(8);
    let mut b = h.alloc_chain(&[b"abc", b"de"]).unwrap();
    assert_eq!(b.tailroom(), SMALL_CAPACITY - 2);
    assert_eq!(b.append(&[b'x'; 3000]), SMALL_CAPACITY as usize - 2);
    assert_eq!((b.len(), b.tailroom()), (SMALL_CAPACITY + 3, 0));
    b.truncate(4);
    assert_eq!(b.append(b"yz"), 2);
    assert_eq!(content(&b), b"abcdyz");
    b.truncate(3);
    assert_eq!(h.usage().blocks_used, 1);
    b.trim_front(2);
    assert_eq!(b.tailroom(), SMALL_CAPACITY - 3);
}

#[test]
fn longer_than_any_fragment() {
    let mut h = HeapBuffers::new(16);
    let bytes: Vec<u8> = (0..50_000u32).map(|i| i.to_le_bytes()[1]).collect();
    let b = h.alloc(&bytes).unwrap();
    assert_eq!((b.fragments().count(), content(&b) == bytes), (3, true));
    assert!(h.alloc(&[0; 400_000]).is_none());
    drop(b);
    assert!(h.is_full(), "what was had in part is back");
}

#[test]
fn compacting() {
    let config = PoolConfig {
        blocks: 4,
        small_spans: 2,
        large_spans: 1,
    };
    let mut region = Region::heap(PagePool::bytes_needed(config)).unwrap();
    let mut pool = PagePool::new(&mut region, config).unwrap();
    let mut h = HeapBuffers::new(8);
    let mut b = h.alloc(&[7; LARGE_CAPACITY as usize]).unwrap();
    b.set_hash(Some(9));
    b.trim_front(LARGE_CAPACITY - 10);
    let size = b.true_size();
    let b = b.compact(&mut pool);
    assert!(b.true_size() < size && h.is_full());
    assert_eq!((content(&b), b.hash()), (vec![7; 10], Some(9)));
    // No gain, or no memory: itself.
    let kept = h.alloc(&[1; 1000]).unwrap().compact(&mut pool);
    let mut big = h.alloc(&[2; 5000]).unwrap();
    big.truncate(10);
    pool.inject_failures(1, 1);
    let big = big.compact(&mut pool);
    assert_eq!((h.usage().blocks_used, pool.usage().blocks_used), (2, 1));
    drop((b, kept, big));
    assert!(h.is_full() && pool.is_full());
}

#[test]
fn freed_on_another_thread() {
    let mut h = HeapBuffers::new(8);
    let b = h.alloc_chain(&[b"abc", b"de"]).unwrap();
    std::thread::spawn(move || drop(b)).join().unwrap();
    h.reclaim();
    assert!(h.is_full());
}

proptest! {
    #![proptest_config(proptest_config(if cfg!(miri) { 5 } else { 256 }))]

    #[test]
    fn as_a_vec(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..6),
        steps in prop::collection::vec((0u8..5, 0u32..60), 0..20),
    ) {
        let mut h = HeapBuffers::new(16);
        let refs: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let mut b = h.alloc_chain(&refs).unwrap();
        let mut model = pieces.concat();
        for (step, n) in steps {
            let i = (n as usize).min(model.len());
            match step {
                0 => { b.trim_front(n); model.drain(..i); }
                1 => { b.truncate(n); model.truncate(i); }
                2 => { prop_assert_eq!(b.append(&vec![9; n as usize]), n as usize); model.resize(model.len() + n as usize, 9); }
                3 => {
                    let mut out = vec![0; 25];
                    let got = b.copy_to(n, &mut out);
                    let want = &model[i..model.len().min(i + 25)];
                    prop_assert_eq!(&out[..got], if n as usize > model.len() { &[] } else { want });
                }
                _ => {
                    let with = h.alloc_chain(&[&[1; 7], &[2; 5]]).unwrap();
                    let fits = n as usize + 12 <= model.len();
                    prop_assert_eq!(b.overwrite(n, &with), fits);
                    if fits {
                        model[n as usize..n as usize + 7].fill(1);
                        model[n as usize + 7..n as usize + 12].fill(2);
                    }
                }
            }
            prop_assert_eq!(content(&b), &model[..]);
            prop_assert_eq!(b.len() as usize, model.len());
        }
        drop(b);
        prop_assert!(h.is_full());
    }
}
