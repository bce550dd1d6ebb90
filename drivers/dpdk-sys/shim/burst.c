/* Receives and sends bursts. */
#include <errno.h>
#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "internal.h"

_Static_assert(LG_BURST <= 64, "a bit of lg_txq.refused_at for each");

static inline struct lg_frag *
frag_of(struct rte_mbuf *m)
{
	return rte_mbuf_to_priv(m);
}

static inline struct rte_mbuf *
mbuf_of(const struct lg_frag *frag)
{
	/* The private area is behind the mbuf header. */
	return (struct rte_mbuf *)((uintptr_t)frag - sizeof(struct rte_mbuf));
}

static inline uint16_t
rx_marks(const struct rte_mbuf *m, const struct lg_rxq *q)
{
	uint64_t ol = m->ol_flags;
	uint16_t marks = 0;

	switch (ol & RTE_MBUF_F_RX_IP_CKSUM_MASK) {
	/* "None": the field is incomplete, and the port vouches for the data (virtio). */
	case RTE_MBUF_F_RX_IP_CKSUM_NONE:
	case RTE_MBUF_F_RX_IP_CKSUM_GOOD: marks |= LG_RX_IP_CSUM_GOOD; break;
	case RTE_MBUF_F_RX_IP_CKSUM_BAD: marks |= LG_RX_IP_CSUM_BAD; break;
	default: marks |= q->assumed & LG_RX_IP_CSUM_GOOD;
	}
	switch (ol & RTE_MBUF_F_RX_L4_CKSUM_MASK) {
	case RTE_MBUF_F_RX_L4_CKSUM_NONE:
	case RTE_MBUF_F_RX_L4_CKSUM_GOOD: marks |= LG_RX_L4_CSUM_GOOD; break;
	case RTE_MBUF_F_RX_L4_CKSUM_BAD: marks |= LG_RX_L4_CSUM_BAD; break;
	default: marks |= q->assumed & LG_RX_L4_CSUM_GOOD;
	}
	if (ol & RTE_MBUF_F_RX_RSS_HASH)
		marks |= LG_RX_HAS_HASH;
	if (ol & RTE_MBUF_F_RX_VLAN_STRIPPED)
		marks |= LG_RX_VLAN;
	return marks;
}

/*
 * Returns the number of TCP segments in the packet: more than one if a NIC merged them (LRO), or if
 * a ring's peer passed on an unsegmented packet (its TX flags are still set then).
 */
static inline uint16_t
segments(const struct rte_mbuf *m)
{
	uint32_t payload;

	if (likely(!(m->ol_flags & (RTE_MBUF_F_RX_LRO | RTE_MBUF_F_TX_TCP_SEG))) ||
			m->tso_segsz == 0)
		return 1;
	/* Only the sender sets header lengths; 54 bytes are the minimum. */
	payload = m->l4_len ? m->l2_len + m->l3_len + m->l4_len : 54;
	payload = m->pkt_len > payload ? m->pkt_len - payload : 1;
	return (payload + m->tso_segsz - 1) / m->tso_segsz;
}

/*
 * Returns whether a received packet can be kept without a copy: each segment has a private area
 * (its pool is one of ours), and the mbuf has no other owner.
 */
static inline int
is_ours(const struct rte_mbuf *m, const struct rte_mempool **known)
{
	for (; m != NULL; m = m->next) {
		if (unlikely(m->pool != *known)) {
			if (!lg_pool_is_ours(m->pool))
				return 0;
			*known = m->pool;
		}
		if (unlikely(rte_mbuf_refcnt_read(m) != 1))
			return 0;
	}
	return 1;
}

/* Bytes of memory that a segment pins: its mbuf and its data room, own or external. */
static inline uint32_t
footprint(const struct rte_mbuf *m)
{
	return sizeof(*m) + sizeof(struct lg_frag) + m->buf_len;
}

/* Converts a chain of mbufs into a chain of fragments, each with its own reference. */
static inline struct lg_frag *
to_frags(struct rte_mbuf *m, const struct lg_rxq *q)
{
	struct lg_frag *head = frag_of(m);
	struct lg_frag **tail = &head;
	uint16_t marks = rx_marks(m, q);
	uint16_t segs = segments(m);
	uint32_t pkt_len = m->pkt_len;
	uint32_t hash = m->hash.rss;
	uint16_t vlan = m->vlan_tci;

	do {
		struct lg_frag *f = frag_of(m);
		struct rte_mbuf *next = m->next;

		f->next = NULL;
		f->link = NULL;
		f->data = rte_pktmbuf_mtod(m, uint8_t *);
		f->ops = q->ops;
		f->offset = 0;
		f->len = m->data_len;
		f->pkt_len = pkt_len;
		f->true_size = footprint(m);
		f->hash = hash;
		f->port = q->label;
		f->vlan = vlan;
		f->flags = marks;
		if (RTE_MBUF_DIRECT(m) && m->pool == q->pool)
			f->flags |= LG_RX_WRITABLE;
		f->segs = segs;
		*tail = f;
		tail = &f->next;
		m->next = NULL;
		m->nb_segs = 1;
		m = next;
	} while (m != NULL);
	return head;
}

uint16_t
lg_rx_burst(struct lg_rxq *q, struct lg_frag **out, uint16_t max)
{
	struct rte_mbuf *pkts[LG_BURST];
	const struct rte_mempool *known = q->pool;
	uint16_t i, n, kept = 0;

	n = rte_eth_rx_burst(q->port, q->queue, pkts, RTE_MIN(max, LG_BURST));
	for (i = 0; i < n; i++) {
		struct rte_mbuf *m = pkts[i];

		if (i + 1 < n) {
			rte_prefetch0(pkts[i + 1]);
			rte_prefetch0(frag_of(pkts[i + 1]));
		}
		rte_prefetch0(rte_pktmbuf_mtod(m, void *));
		q->packets++;
		q->bytes += m->pkt_len;
		if (unlikely(!is_ours(m, &known))) {
			struct rte_mbuf *copy = rte_pktmbuf_copy(m, q->pool, 0, UINT32_MAX);

			rte_pktmbuf_free(m);
			if (copy == NULL) {
				q->copy_failed++;
				continue;
			}
			q->copied++;
			m = copy;
		}
		out[kept++] = to_frags(m, q);
	}
	return kept;
}

void
lg_frag_free(struct lg_frag *frag)
{
	rte_pktmbuf_free_seg(mbuf_of(frag));
}

uint32_t
lg_frag_tailroom(const struct lg_frag *frag)
{
	const struct rte_mbuf *m = mbuf_of(frag);

	return (uint8_t *)m->buf_addr + m->buf_len - (frag->data + frag->len);
}

/* Releases a reference, as rte_pktmbuf_free does for an attached mbuf. */
static inline void
release_piece(const struct lg_piece *p)
{
	if (rte_mbuf_ext_refcnt_update(p->shinfo, -1) == 0)
		p->shinfo->free_cb(p->addr, p->shinfo->fcb_opaque);
}

static inline void
set_offloads(struct rte_mbuf *m, const struct lg_frame *f)
{
	uint64_t ol = 0;

	if (f->flags & LG_TX_IPV4)
		ol |= RTE_MBUF_F_TX_IPV4;
	if (f->flags & LG_TX_IPV6)
		ol |= RTE_MBUF_F_TX_IPV6;
	if (f->flags & LG_TX_IP_CSUM)
		ol |= RTE_MBUF_F_TX_IP_CKSUM;
	if (f->flags & LG_TX_TCP_CSUM)
		ol |= RTE_MBUF_F_TX_TCP_CKSUM;
	if (f->flags & LG_TX_TSO) {
		ol |= RTE_MBUF_F_TX_TCP_SEG;
		m->tso_segsz = f->mss;
	}
	m->ol_flags |= ol;
	m->l2_len = f->l2_len;
	m->l3_len = f->l3_len;
	m->l4_len = f->l4_len;
}

static inline void
put_head(struct rte_mbuf *m, const struct lg_frame *f)
{
	memcpy(rte_pktmbuf_mtod(m, void *), f->head, f->head_len);
	m->data_len = f->head_len;
	m->pkt_len = (uint32_t)f->head_len + f->payload_len;
	if (f->flags)
		set_offloads(m, f);
}

/* Builds a chain: headers in `m[0]`, each piece by reference in one of the others. */
static inline void
build_chain(struct rte_mbuf **m, const struct lg_frame *f, const struct lg_piece *p)
{
	uint16_t i;

	put_head(m[0], f);
	m[0]->nb_segs = f->pieces + 1;
	for (i = 0; i < f->pieces; i++) {
		/* A piece is in one span, and no span crosses a huge page. */
		rte_pktmbuf_attach_extbuf(m[i + 1], p[i].addr, lg_iova(p[i].addr), p[i].len,
				p[i].shinfo);
		m[i + 1]->data_len = p[i].len;
		m[i]->next = m[i + 1];
	}
}

/* Builds one segment, for ports without RTE_ETH_TX_OFFLOAD_MULTI_SEGS. */
static inline void
build_linear(struct rte_mbuf *m, const struct lg_frame *f, const struct lg_piece *p)
{
	uint8_t *to;
	uint16_t i;

	put_head(m, f);
	to = rte_pktmbuf_mtod_offset(m, uint8_t *, f->head_len);
	for (i = 0; i < f->pieces; i++) {
		memcpy(to, p[i].addr, p[i].len);
		to += p[i].len;
		release_piece(&p[i]);
	}
	m->data_len = m->pkt_len;
}

/* Builds a chain of copies in as many segments as `segs_of` says. */
static inline void
build_copy(struct rte_mbuf **m, const struct lg_frame *f, const struct lg_piece *p, uint16_t room,
		uint16_t segs)
{
	struct rte_mbuf *to = m[0];
	uint16_t i, at = 0;

	put_head(to, f);
	to->nb_segs = segs;
	for (i = 0; i < f->pieces; i++) {
		const uint8_t *from = p[i].addr;
		uint32_t left = p[i].len;

		while (left > 0) {
			uint32_t n = RTE_MIN(left, (uint32_t)(room - to->data_len));

			if (n == 0) {
				to->next = m[++at];
				to = to->next;
				continue;
			}
			memcpy(rte_pktmbuf_mtod_offset(to, uint8_t *, to->data_len), from, n);
			to->data_len += n;
			from += n;
			left -= n;
		}
		release_piece(&p[i]);
	}
}

/* Segments of a frame as it is built. */
static inline uint16_t
segs_of(const struct lg_txq *q, const struct lg_frame *f)
{
	if (q->linear)
		return 1;
	if (f->flags & LG_TX_COPY)
		return (f->head_len + f->payload_len + q->room - 1) / q->room;
	return f->pieces + 1;
}

/* Builds frames until `pending` is full or no mbufs are free. */
static uint32_t
build(struct lg_txq *q, const struct lg_frame *frames, uint32_t n, const struct lg_piece *pieces)
{
	struct rte_mbuf *m[LG_SEGS_MAX];
	uint32_t done = 0;

	n = RTE_MIN(n, (uint32_t)(LG_BURST - q->count));
	while (done < n) {
		/* As many whole frames as fit into one bulk allocation. */
		uint32_t want = 0, batch = 0, used = 0;

		while (done + batch < n) {
			uint32_t segs = segs_of(q, &frames[done + batch]);

			if (want + segs > LG_SEGS_MAX)
				break;
			want += segs;
			batch++;
		}
		if (rte_pktmbuf_alloc_bulk(q->pool, m, want) != 0) {
			/* The pool is nearly empty: allocate for one frame only. */
			batch = 1;
			want = segs_of(q, &frames[done]);
			if (rte_pktmbuf_alloc_bulk(q->pool, m, want) != 0) {
				q->no_mbuf++;
				break;
			}
		}
		for (; batch > 0; batch--, done++) {
			const struct lg_frame *f = &frames[done];
			const struct lg_piece *p = &pieces[f->first_piece];

			q->pending[q->count++] = m[used];
			if (q->linear)
				build_linear(m[used], f, p);
			else if (f->flags & LG_TX_COPY)
				build_copy(&m[used], f, p, q->room, segs_of(q, f));
			else
				build_chain(&m[used], f, p);
			used += segs_of(q, f);
		}
	}
	return done;
}

/* Removes the first `n` packets from `pending`. */
static inline void
shift(struct lg_txq *q, uint16_t n)
{
	q->count -= n;
	if (q->count > 0)
		memmove(q->pending, q->pending + n, q->count * sizeof(q->pending[0]));
}

/*
 * Prepares the pending packets from `ok` on (rte_eth_tx_prepare): the driver completes headers and
 * checks its limits. Drops packets that it refuses.
 */
static void
prepare(struct lg_txq *q, uint16_t ok)
{
	uint16_t gone = 0;

	q->refused_at = 0;
	while (ok < q->count) {
		ok += rte_eth_tx_prepare(q->port, q->queue, q->pending + ok, q->count - ok);
		if (ok >= q->count)
			return;
		rte_pktmbuf_free(q->pending[ok]);
		q->refused++;
		q->refused_at |= UINT64_C(1) << (ok + gone++);
		q->count--;
		memmove(q->pending + ok, q->pending + ok + 1,
				(q->count - ok) * sizeof(q->pending[0]));
	}
}

uint32_t
lg_tx_burst(struct lg_txq *q, const struct lg_frame *frames, uint32_t n,
		const struct lg_piece *pieces)
{
	uint16_t i, sent, prepared = q->count;
	uint32_t built = build(q, frames, n, pieces);
	uint32_t lengths[LG_BURST];

	prepare(q, prepared);
	if (q->count == 0)
		return built;
	/* Sent packets must not be accessed any more. */
	for (i = 0; i < q->count; i++)
		lengths[i] = q->pending[i]->pkt_len;
	sent = rte_eth_tx_burst(q->port, q->queue, q->pending, q->count);
	for (i = 0; i < sent; i++)
		q->bytes += lengths[i];
	q->packets += sent;
	if (unlikely(sent < q->count))
		q->ring_full++;
	shift(q, sent);
	return built;
}

static int
done_cleanup(uint16_t port, uint16_t queue, uint32_t max)
{
#ifdef LG_FAULT_INJECTION
	int held = lg_hold_clean(port, queue, max);

	if (held != -ENOTSUP)
		return held;
#endif
	return rte_eth_tx_done_cleanup(port, queue, max);
}

int
lg_tx_can_clean(uint16_t port, uint16_t queue)
{
	return done_cleanup(port, queue, 1) != -ENOTSUP;
}

uint32_t
lg_tx_clean(struct lg_txq *q, uint32_t max)
{
	int freed;

	if (!q->cleans) {
		/* The driver frees what was sent in each call. */
		rte_eth_tx_burst(q->port, q->queue, q->pending, 0);
		return 0;
	}
	freed = done_cleanup(q->port, q->queue, max);
	if (freed <= 0)
		return 0;
	q->cleaned += freed;
	return freed;
}

void
lg_pieces_release(const struct lg_piece *pieces, uint32_t n)
{
	uint32_t i;

	for (i = 0; i < n; i++)
		release_piece(&pieces[i]);
}

void
lg_tx_drop_first(struct lg_txq *q)
{
	if (q->count == 0)
		return;
	rte_pktmbuf_free(q->pending[0]);
	shift(q, 1);
}

uint32_t
lg_tx_drop(struct lg_txq *q)
{
	uint16_t n = q->count;

	rte_pktmbuf_free_bulk(q->pending, n);
	q->count = 0;
	return n;
}
