/*
 * Pools that refuse allocations and drivers that refuse packets, on purpose, for tests: the feature
 * `fault-injection`.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_ring.h>

#include "internal.h"

/* Pool operations that refuse one allocation in `one_in`, and otherwise are those of ring_mp_mc. */
struct inject {
	uint64_t state;
	uint64_t injected;
	uint32_t one_in;
};

#define INJECT_OPS "lockgate_inject"

static const struct rte_mempool_ops *
ring_ops(void)
{
	unsigned int i;

	for (i = 0; i < rte_mempool_ops_table.num_ops; i++)
		if (strcmp(rte_mempool_ops_table.ops[i].name, "ring_mp_mc") == 0)
			return &rte_mempool_ops_table.ops[i];
	return NULL;
}

static int
inject_alloc(struct rte_mempool *mp)
{
	const struct rte_mempool_ops *ops = ring_ops();

	return ops == NULL ? -ENOTSUP : ops->alloc(mp);
}

static void
inject_free(struct rte_mempool *mp)
{
	rte_ring_free(mp->pool_data);
	free(mp->pool_config);
}

static int
inject_enqueue(struct rte_mempool *mp, void *const *objs, unsigned int n)
{
	return rte_ring_mp_enqueue_bulk(mp->pool_data, objs, n, NULL) == 0 ? -ENOBUFS : 0;
}

static int
inject_dequeue(struct rte_mempool *mp, void **objs, unsigned int n)
{
	struct inject *in = mp->pool_config;
	/* splitmix64: any seed will do, and a shared counter needs no lock. */
	uint64_t z = __atomic_add_fetch(&in->state, 0x9e3779b97f4a7c15, __ATOMIC_RELAXED);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	z ^= z >> 31;
	if (z % in->one_in == 0) {
		__atomic_add_fetch(&in->injected, 1, __ATOMIC_RELAXED);
		return -ENOBUFS;
	}
	return rte_ring_mc_dequeue_bulk(mp->pool_data, objs, n, NULL) == 0 ? -ENOBUFS : 0;
}

static unsigned int
inject_count(const struct rte_mempool *mp)
{
	return rte_ring_count(mp->pool_data);
}

static const struct rte_mempool_ops inject_ops = {
	.name = INJECT_OPS,
	.alloc = inject_alloc,
	.free = inject_free,
	.enqueue = inject_enqueue,
	.dequeue = inject_dequeue,
	.get_count = inject_count,
};

RTE_MEMPOOL_REGISTER_OPS(inject_ops);

struct rte_mempool *
lg_pool_create_injecting(const char *name, uint32_t mbufs, uint16_t data_room, int numa_node,
		uint64_t seed, uint32_t fail_one_in)
{
	struct inject *in = calloc(1, sizeof(*in));
	struct rte_mempool *mp;

	if (in == NULL || fail_one_in == 0) {
		free(in);
		rte_errno = fail_one_in == 0 ? EINVAL : ENOMEM;
		return NULL;
	}
	in->state = seed;
	in->one_in = fail_one_in;
	/* Failures are drawn per allocation, so the threads' caches have to be off. */
	mp = lg_pool_create_with(name, mbufs, 0, data_room, numa_node, INJECT_OPS, in);
	if (mp == NULL)
		free(in);
	return mp;
}

uint64_t
lg_pool_injected(const struct rte_mempool *pool)
{
	const struct inject *in = pool->pool_config;

	return in == NULL ? 0 : __atomic_load_n(&in->injected, __ATOMIC_RELAXED);
}

/* Longest packet that refuse_longer accepts, and the number of packets that it accepted. */
static uint32_t accepted_len;
static uint64_t accepted;

static uint16_t
refuse_longer(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i;

	(void)queue;
	for (i = 0; i < n; i++) {
		if (pkts[i]->pkt_len > accepted_len) {
			rte_errno = EINVAL;
			return i;
		}
		accepted++;
	}
	return n;
}

void
lg_port_refuse_longer(uint16_t port, uint32_t len)
{
	accepted_len = len;
	rte_eth_fp_ops[port].tx_pkt_prepare = refuse_longer;
}

uint64_t
lg_port_accepted(void)
{
	return accepted;
}

/* Longest packet that stop_at_longer sends, and the driver's own function. */
static uint32_t sent_len;
static eth_tx_burst_t send_burst;

static uint16_t
stop_at_longer(void *queue, struct rte_mbuf **pkts, uint16_t n)
{
	uint16_t i;

	for (i = 0; i < n && pkts[i]->pkt_len <= sent_len; i++)
		;
	return i == 0 ? 0 : send_burst(queue, pkts, i);
}

void
lg_port_stick_at_longer(uint16_t port, uint32_t len)
{
	sent_len = len;
	send_burst = rte_eth_fp_ops[port].tx_pkt_burst;
	rte_eth_fp_ops[port].tx_pkt_burst = stop_at_longer;
}
