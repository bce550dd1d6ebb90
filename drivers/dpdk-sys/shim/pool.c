/* Pools of mbufs whose private area holds a fragment, and pools that fail on purpose. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>
#include <rte_ring.h>

#include "internal.h"

_Static_assert(sizeof(struct lg_frag) % RTE_MBUF_PRIV_ALIGN == 0, "private area alignment");

/* Pool operations that refuse one allocation in so many, else those of the default pool. */
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

static int
set_ops(struct rte_mempool *mp, uint64_t seed, uint32_t fail_one_in)
{
	struct inject *in;
	int rc;

	if (fail_one_in == 0)
		return rte_mempool_set_ops_byname(mp, rte_mbuf_best_mempool_ops(), NULL);
	in = calloc(1, sizeof(*in));
	if (in == NULL)
		return -ENOMEM;
	in->state = seed;
	in->one_in = fail_one_in;
	rc = rte_mempool_set_ops_byname(mp, INJECT_OPS, in);
	if (rc != 0)
		free(in);
	return rc;
}

struct rte_mempool *
lg_pool_create(const char *name, uint32_t mbufs, uint32_t cache, uint16_t data_room,
		int numa_node, uint64_t seed, uint32_t fail_one_in)
{
	struct rte_pktmbuf_pool_private priv = {
		.mbuf_data_room_size = data_room,
		.mbuf_priv_size = sizeof(struct lg_frag),
	};
	unsigned int size = sizeof(struct rte_mbuf) + sizeof(struct lg_frag) + data_room;
	char marked[RTE_MEMPOOL_NAMESIZE];
	struct rte_mempool *mp;
	int rc;

	if (snprintf(marked, sizeof(marked), LG_POOL_MARK "%s", name) >= (int)sizeof(marked)) {
		rte_errno = ENAMETOOLONG;
		return NULL;
	}
	/* Injected failures are drawn per allocation, so nothing may be kept in a cache. */
	mp = rte_mempool_create_empty(marked, mbufs, size, fail_one_in ? 0 : cache,
			sizeof(priv), numa_node, 0);
	if (mp == NULL)
		return NULL;
	rc = set_ops(mp, seed, fail_one_in);
	if (rc != 0)
		goto fail;
	rte_pktmbuf_pool_init(mp, &priv);
	rc = rte_mempool_populate_default(mp);
	if (rc < 0)
		goto fail;
	rte_mempool_obj_iter(mp, rte_pktmbuf_init, NULL);
	return mp;
fail:
	rte_mempool_free(mp);
	rte_errno = -rc;
	return NULL;
}

void
lg_pool_free(struct rte_mempool *pool)
{
	rte_mempool_free(pool);
}

uint32_t
lg_pool_available(const struct rte_mempool *pool)
{
	return rte_mempool_avail_count(pool);
}

uint64_t
lg_pool_injected(const struct rte_mempool *pool)
{
	const struct inject *in = pool->pool_config;

	return in == NULL ? 0 : __atomic_load_n(&in->injected, __ATOMIC_RELAXED);
}

uint32_t
lg_mbuf_footprint(uint16_t data_room)
{
	struct rte_mempool_objsz sz;

	return rte_mempool_calc_obj_size(
			sizeof(struct rte_mbuf) + sizeof(struct lg_frag) + data_room, 0, &sz);
}

uint16_t
lg_headroom(void)
{
	return RTE_PKTMBUF_HEADROOM;
}
