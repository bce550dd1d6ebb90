/*
 * Interface to DPDK's static inline functions, macros and bit-packed structures for Rust.
 *
 * Every function on the packet path takes a whole burst: one call per burst, never one per packet.
 * bindgen reads the structures here, which are flat, so both sides have one layout. Only the .c
 * files access mbuf fields, because they move between DPDK releases.
 */
#ifndef LOCKGATE_SHIM_H
#define LOCKGATE_SHIM_H

#include <stddef.h>
#include <stdint.h>

struct rte_mbuf;
struct rte_mempool;
struct rte_ring;
struct rte_mbuf_ext_shared_info;

/* Most packets that a queue receives or sends in one call. */
#define LG_BURST 64
/* Bytes of protocol headers in front of a frame's payload. */
#define LG_HEAD_MAX 128
/* Most segments of one frame, the headers' included; no port sends more. */
#define LG_SEGS_MAX 128

/* Flags of a received packet, `lg_frag.flags`. */
#define LG_RX_IP_CSUM_GOOD 0x01
#define LG_RX_IP_CSUM_BAD 0x02
#define LG_RX_L4_CSUM_GOOD 0x04
#define LG_RX_L4_CSUM_BAD 0x08
#define LG_RX_WRITABLE 0x10
#define LG_RX_HAS_HASH 0x20
#define LG_RX_VLAN 0x40

/* Offloads of a frame, `lg_frame.flags`. */
#define LG_TX_IPV4 0x01
#define LG_TX_IPV6 0x02
#define LG_TX_IP_CSUM 0x04
#define LG_TX_TCP_CSUM 0x08
#define LG_TX_TSO 0x10
/* The payload is copied into packet buffers, so that the ring refers to no page buffer. */
#define LG_TX_COPY 0x20

/* Offloads of a port: offered in `lg_port_caps.offloads`, enabled in `lg_port_conf.offloads`. */
#define LG_CAP_MULTI_SEGS 0x001
#define LG_CAP_TX_IP_CSUM 0x002
#define LG_CAP_TX_TCP_CSUM 0x004
#define LG_CAP_TX_TSO 0x008
#define LG_CAP_RX_IP_CSUM 0x010
#define LG_CAP_RX_TCP_CSUM 0x020
#define LG_CAP_RX_SCATTER 0x040
#define LG_CAP_RX_HASH 0x080

/* Packets that a port hashes: offered in `lg_port_caps.rss`, enabled in `lg_port_conf.rss`. */
#define LG_RSS_TCP4 0x1
#define LG_RSS_TCP6 0x2
#define LG_RSS_IP4 0x4
#define LG_RSS_IP6 0x8

/* How a port receives multicast: results of lg_port_multicast. */
#define LG_MULTICAST_GROUPS 0
#define LG_MULTICAST_ALL 1
#define LG_MULTICAST_PROMISCUOUS 2
/* The driver has no filter that could be set. */
#define LG_MULTICAST_UNFILTERED 3

/* One fragment of a received packet, in the private area of its mbuf. */
struct lg_frag {
	struct lg_frag *next;
	struct lg_frag *link;
	uint64_t offset;
	uint8_t *data;
	const void *ops;
	uint32_t len;
	uint32_t pkt_len;
	/* Bytes of memory that the fragment pins. */
	uint32_t true_size;
	uint32_t hash;
	uint16_t port;
	uint16_t vlan;
	uint16_t flags;
	uint16_t segs;
};

/* The receive queue of a pair. lg_rx_burst updates the counters. */
struct lg_rxq {
	struct rte_mempool *pool;
	const void *ops;
	uint16_t port;
	uint16_t queue;
	/* Value of lg_frag.port. */
	uint16_t label;
	/* Checksum flags for packets without a verdict of the port. */
	uint16_t assumed;
	uint64_t packets;
	uint64_t bytes;
	/* Packets copied because they were in memory of another owner. */
	uint64_t copied;
	/* Packets dropped because no mbuf was free for that copy. */
	uint64_t copy_failed;
};

/* A piece of payload. It holds one reference of `shinfo`, which moves into the frame. */
struct lg_piece {
	void *addr;
	struct rte_mbuf_ext_shared_info *shinfo;
	uint32_t len;
};

/* A frame to send: headers by value; payload in `pieces` entries from `first_piece` on. */
struct lg_frame {
	uint8_t head[LG_HEAD_MAX];
	uint16_t head_len;
	uint16_t mss;
	uint16_t pieces;
	uint8_t l2_len;
	uint8_t l4_len;
	uint16_t l3_len;
	uint16_t flags;
	uint32_t first_piece;
	uint32_t payload_len;
};

/* The transmit queue of a pair. */
struct lg_txq {
	struct rte_mempool *pool;
	uint16_t port;
	uint16_t queue;
	/* The port sends one segment per packet: the pieces are copied into the headers' mbuf. */
	uint8_t linear;
	/* The driver has rte_eth_tx_done_cleanup. If not, it frees what was sent in each call. */
	uint8_t cleans;
	/* Packets in `pending`. */
	uint16_t count;
	/* Bytes of one mbuf of `pool`, for frames with LG_TX_COPY; at least the headers'. */
	uint16_t room;
	uint64_t packets;
	uint64_t bytes;
	/* Packets dropped because rte_eth_tx_prepare refused them. */
	uint64_t refused;
	/* Which of them the last call refused: bit n is the n-th of the packets that were pending. */
	uint64_t refused_at;
	/* Calls after which packets were left because the ring was full. */
	uint64_t ring_full;
	/* Calls after which frames were left because no mbufs were free. */
	uint64_t no_mbuf;
	/* Sent packets that lg_tx_clean freed. */
	uint64_t cleaned;
	/* Built packets that the driver hasn't accepted yet, oldest first. */
	struct rte_mbuf *pending[LG_BURST];
};

struct lg_port_caps {
	char driver[64];
	uint8_t mac[6];
	uint16_t max_rx_queues;
	uint16_t max_tx_queues;
	uint16_t min_mtu;
	uint16_t max_mtu;
	uint16_t rx_desc_min;
	uint16_t rx_desc_max;
	uint16_t rx_desc_align;
	uint16_t tx_desc_min;
	uint16_t tx_desc_max;
	uint16_t tx_desc_align;
	/* Most segments of a packet that the port segments; 0: the driver reports no limit. */
	uint16_t tx_segs_max;
	/* Most segments of a frame; 0: the driver reports no limit. */
	uint16_t tx_mtu_segs_max;
	/* Bytes of an RSS key; 0: the driver's key is fixed, or it reports no length. */
	uint16_t rss_key_len;
	uint32_t max_rx_pktlen;
	/* Least data room of a receive buffer, headroom included; 0: no limit. */
	uint32_t rx_bufsize_min;
	uint32_t offloads;
	uint32_t rss;
	uint32_t if_index;
	int32_t numa_node;
};

struct lg_port_conf {
	uint16_t queues;
	/* 0: the driver's default. */
	uint16_t mtu;
	/* LG_CAP_* to enable. */
	uint32_t offloads;
	/* LG_RSS_* to enable; 0: one queue receives everything. */
	uint32_t rss;
};

struct lg_queue_conf {
	uint16_t rx_desc;
	uint16_t tx_desc;
	int32_t numa_node;
	/* A full receive ring drops its packets, and stalls no other queue. */
	uint8_t rx_drop;
};

struct lg_port_stats {
	uint64_t ipackets;
	uint64_t opackets;
	uint64_t ibytes;
	uint64_t obytes;
	uint64_t imissed;
	uint64_t ierrors;
	uint64_t oerrors;
	uint64_t rx_nombuf;
};

/* Memory of the EAL. */
struct lg_zone {
	void *addr;
	uint64_t page_bytes;
	int32_t node;
};

/* Limits of the EAL's heaps, in pages and in bytes: for one list, and for one size on one node. */
struct lg_heap_limits {
	uint64_t list_pages;
	uint64_t list_bytes;
	uint64_t kind_pages;
	uint64_t kind_bytes;
};

typedef void (*lg_log_fn)(uint32_t level, const char *text, size_t len);
typedef void (*lg_xstat_fn)(void *context, const char *name, uint64_t value);

/* eal.c */
int lg_log_open(lg_log_fn sink);
int lg_errno(void);
void lg_heap_limits(struct lg_heap_limits *limits);
/* Returns 1 if devices use physical addresses, else 0. */
int lg_iova_is_physical(void);
/*
 * Reserves memory in pages of `page_bytes` on a node. Where devices use physical addresses, it also
 * stores those of the pages. Call it before a worker sends.
 */
int lg_memzone_reserve(const char *name, size_t len, int numa_node, uint64_t page_bytes,
		struct lg_zone *zone);
/* Returns the address by which devices access memory of lg_memzone_reserve. */
uint64_t lg_iova_of(const void *addr);
/* Locks all memory that is mapped (mlockall), once it is used. Writes RLIMIT_MEMLOCK. */
int lg_lock_memory(uint64_t *limit);
void *lg_anonymous_memory(size_t len);
int lg_extmem_register(void *addr, size_t len);
/* Returns the MTU of a kernel interface in the calling thread's namespace, or a negative errno. */
int lg_kernel_mtu(const char *interface);
/* Reads the MAC address of a kernel interface. */
int lg_kernel_mac(const char *interface, uint8_t mac[6]);
/* Returns 1 if a kernel interface is up and has a carrier, 0 if not, or a negative errno. */
int lg_kernel_running(const char *interface);
/*
 * Returns 1 if an offload of a kernel interface is on, 0 if not, or a negative errno. The command
 * is ETHTOOL_GTXCSUM or ETHTOOL_GGRO of linux/ethtool.h.
 */
int lg_kernel_offload(const char *interface, uint32_t command);
/* Returns 1 if a kernel interface is an end of a veth pair, 0 if not, or a negative errno. */
int lg_kernel_is_veth(const char *interface);

/* pool.c */
struct rte_mempool *lg_pool_create(const char *name, uint32_t mbufs, uint32_t cache,
		uint16_t data_room, int numa_node);
void lg_pool_free(struct rte_mempool *pool);
uint32_t lg_pool_available(const struct rte_mempool *pool);
/* Finds the pages of a pool's memory. Returns its bytes. */
uint64_t lg_pool_memory(const struct rte_mempool *pool, struct lg_zone *first);
/* Returns the bytes of memory of one mbuf with this data room. */
uint32_t lg_mbuf_footprint(uint16_t data_room);
uint16_t lg_headroom(void);

#ifdef LG_FAULT_INJECTION
/* inject.c */
/* Creates a pool that refuses one allocation in `fail_one_in` (not 0), drawn from `seed`. */
struct rte_mempool *lg_pool_create_injecting(const char *name, uint32_t mbufs,
		uint16_t data_room, int numa_node, uint64_t seed, uint32_t fail_one_in);
/* Returns the number of allocations that a pool refused on purpose. */
uint64_t lg_pool_injected(const struct rte_mempool *pool);
/* Makes rte_eth_tx_prepare of a port refuse packets of more than `len` bytes. */
void lg_port_refuse_longer(uint16_t port, uint32_t len);
/* Returns the number of packets that it accepted. */
uint64_t lg_port_accepted(void);
/* Makes rte_eth_tx_burst of a port stop before packets of more than `len` bytes. */
void lg_port_stick_at_longer(uint16_t port, uint32_t len);
/*
 * Reads the RSS key that drivers find in a port's configuration when it is started. Returns its
 * bytes; 0: there is none, or no room for it.
 */
uint32_t lg_port_rss_key(uint16_t port, uint8_t *key, uint32_t room);
/*
 * Reports a reset of a port's device, as its driver does. Returns 0 or what the callbacks returned,
 * or a negative errno.
 */
int lg_port_report_reset(uint16_t port);
/* Ports that are configured from now on remove VLAN tags unasked, as some drivers do. */
void lg_strip_vlan_unasked(void);
/* hold.c */
/*
 * Makes a queue hold what it sends, one segment in each of `slots`, until the slot is reused; until
 * lg_tx_clean too if `can_clean`.
 */
int lg_hold_sent(uint16_t port, uint16_t queue, uint16_t slots, int can_clean);
/* Does for such a queue what rte_eth_tx_done_cleanup does; -ENOTSUP for others. */
int lg_hold_clean(uint16_t port, uint16_t queue, uint32_t max);
/* Frees what the queues of a stopped port hold. */
void lg_hold_end(uint16_t port);
#endif

/* port.c */
int lg_port_find(const char *name, uint16_t *port);
int lg_port_caps(uint16_t port, struct lg_port_caps *caps);
int lg_port_configure(uint16_t port, const struct lg_port_conf *conf);
int lg_port_rx_queue(uint16_t port, uint16_t queue, const struct lg_queue_conf *conf,
		struct rte_mempool *pool);
int lg_port_tx_queue(uint16_t port, uint16_t queue, const struct lg_queue_conf *conf);
/* Return the descriptors that a queue really has, or a negative errno. */
int lg_port_rx_descs(uint16_t port, uint16_t queue);
int lg_port_tx_descs(uint16_t port, uint16_t queue);
/*
 * Spreads the hash values evenly over the queues and reads the table back. Returns the entries of
 * the redirection table; 0: the port has none; -EIO: it doesn't hold what was written.
 */
int lg_port_spread(uint16_t port, uint16_t queues);
/* Switches VLAN stripping and filtering off where the driver has them on. */
int lg_port_vlan_off(uint16_t port);
int lg_port_set_mac(uint16_t port, const uint8_t mac[6]);
/* Receives and frees all pending packets. */
void lg_port_drain(uint16_t port, uint16_t queues);
/*
 * Receives the multicast groups (six bytes each): by a filter; if there is none, all multicast; if
 * the port can't, everything. Returns LG_MULTICAST_*, or a negative errno.
 */
int lg_port_multicast(uint16_t port, const uint8_t *groups, uint32_t n);
int lg_port_promiscuous(uint16_t port);
int lg_port_link_up(uint16_t port);
/* Reads a port's MAC address, which the driver has in memory. */
int lg_port_mac(uint16_t port, uint8_t mac[6]);
/*
 * Counts resets that the device reports (RTE_ETH_EVENT_INTR_RESET), from now on and until
 * lg_port_ignore_resets.
 */
int lg_port_count_resets(uint16_t port);
uint32_t lg_port_resets(uint16_t port);
void lg_port_ignore_resets(uint16_t port);
int lg_port_stats(uint16_t port, struct lg_port_stats *stats);
int lg_port_xstats(uint16_t port, lg_xstat_fn each, void *context);
int lg_port_dma_map(uint16_t port, void *addr, size_t len);
struct rte_ring *lg_ring_create(const char *name, uint32_t entries, int numa_node);
void lg_ring_free(struct rte_ring *ring);

/* burst.c */
uint16_t lg_rx_burst(struct lg_rxq *q, struct lg_frag **out, uint16_t max);
/* Frees the mbuf of one fragment, not the ones after it. Callable on any thread. */
void lg_frag_free(struct lg_frag *frag);
/* Returns the free bytes behind the data of a writable fragment. */
uint32_t lg_frag_tailroom(const struct lg_frag *frag);
/*
 * Builds up to `n` frames, in order, until `pending` is full or no mbufs are free; sends the
 * pending packets. Returns the number of frames built: the references of their pieces moved into
 * mbufs.
 */
uint32_t lg_tx_burst(struct lg_txq *q, const struct lg_frame *frames, uint32_t n,
		const struct lg_piece *pieces);
/* Releases the references of pieces whose frames aren't built. */
void lg_pieces_release(const struct lg_piece *pieces, uint32_t n);
/*
 * Returns whether the driver frees sent packets on request (rte_eth_tx_done_cleanup), for a queue
 * that is set up.
 */
int lg_tx_can_clean(uint16_t port, uint16_t queue);
/*
 * Frees up to `max` packets that were sent and that the driver still holds. Returns their number,
 * as far as the driver counts them. Not for drivers that free when descriptors are reused.
 */
uint32_t lg_tx_clean(struct lg_txq *q, uint32_t max);
/* Frees the oldest pending packet, if there is one. */
void lg_tx_drop_first(struct lg_txq *q);
/* Frees the pending packets. Returns their number. */
uint32_t lg_tx_drop(struct lg_txq *q);

#endif
