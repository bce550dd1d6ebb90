/*
 * Transmit queues that hold sent mbufs as network cards' drivers do, over a driver that frees them
 * at once. For tests: the feature `fault-injection`.
 */
#include <errno.h>
#include <stdlib.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "internal.h"

/* A queue whose slots hold one segment each until they are reused. */
struct hold {
	const struct rte_eth_rxtx_callback *callback;
	int can_clean;
	uint16_t count;
	/* The slot that is reused next, which has the oldest segment. */
	uint16_t next;
	struct rte_mbuf *slots[];
};

#define QUEUES_MAX 16

static struct hold *holds[RTE_MAX_ETHPORTS][QUEUES_MAX];

static struct hold *
hold_of(uint16_t port, uint16_t queue)
{
	return port < RTE_MAX_ETHPORTS && queue < QUEUES_MAX ? holds[port][queue] : NULL;
}

/* A TX callback: adds a reference to each segment. */
static uint16_t
on_sent(uint16_t port, uint16_t queue, struct rte_mbuf **pkts, uint16_t n, void *arg)
{
	struct hold *h = arg;
	uint16_t i;

	(void)port;
	(void)queue;
	for (i = 0; i < n; i++) {
		struct rte_mbuf *m;

		for (m = pkts[i]; m != NULL; m = m->next) {
			if (h->slots[h->next] != NULL)
				rte_pktmbuf_free_seg(h->slots[h->next]);
			rte_mbuf_refcnt_update(m, 1);
			h->slots[h->next] = m;
			h->next = (h->next + 1) % h->count;
		}
	}
	return n;
}

int
lg_hold_sent(uint16_t port, uint16_t queue, uint16_t slots, int can_clean)
{
	struct hold *h;

	if (port >= RTE_MAX_ETHPORTS || queue >= QUEUES_MAX || holds[port][queue] != NULL)
		return -EINVAL;
	h = calloc(1, sizeof(*h) + slots * sizeof(h->slots[0]));
	if (h == NULL)
		return -ENOMEM;
	h->count = slots;
	h->can_clean = can_clean;
	h->callback = rte_eth_add_tx_callback(port, queue, on_sent, h);
	if (h->callback == NULL) {
		free(h);
		return -EINVAL;
	}
	holds[port][queue] = h;
	return 0;
}

int
lg_hold_clean(uint16_t port, uint16_t queue, uint32_t max)
{
	struct hold *h = hold_of(port, queue);
	uint32_t packets = 0;
	uint16_t i;

	if (h == NULL || !h->can_clean)
		return -ENOTSUP;
	for (i = 0; i < h->count && packets < max; i++) {
		uint16_t at = (h->next + i) % h->count;
		struct rte_mbuf *m = h->slots[at];

		if (m == NULL)
			continue;
		packets += m->next == NULL;
		h->slots[at] = NULL;
		rte_pktmbuf_free_seg(m);
	}
	return packets;
}

void
lg_hold_end(uint16_t port)
{
	uint16_t queue, i;

	for (queue = 0; queue < QUEUES_MAX; queue++) {
		struct hold *h = hold_of(port, queue);

		if (h == NULL)
			continue;
		holds[port][queue] = NULL;
		rte_eth_remove_tx_callback(port, queue, h->callback);
		for (i = 0; i < h->count; i++)
			if (h->slots[i] != NULL)
				rte_pktmbuf_free_seg(h->slots[i]);
		free(h);
	}
}
