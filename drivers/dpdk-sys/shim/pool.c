/* Pools of mbufs whose private area holds a fragment. */
#include <errno.h>
#include <stdio.h>

#include <rte_errno.h>
#include <rte_mbuf.h>
#include <rte_mbuf_pool_ops.h>

#include "internal.h"

_Static_assert(sizeof(struct lg_frag) % RTE_MBUF_PRIV_ALIGN == 0, "private area alignment");

struct rte_mempool *
lg_pool_create_with(const char *name, uint32_t mbufs, uint32_t cache, uint16_t data_room,
		int numa_node, const char *ops, void *ops_config)
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
	mp = rte_mempool_create_empty(marked, mbufs, size, cache, sizeof(priv), numa_node, 0);
	if (mp == NULL)
		return NULL;
	rc = rte_mempool_set_ops_byname(mp, ops, ops_config);
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

struct rte_mempool *
lg_pool_create(const char *name, uint32_t mbufs, uint32_t cache, uint16_t data_room,
		int numa_node)
{
	return lg_pool_create_with(name, mbufs, cache, data_room, numa_node,
			rte_mbuf_best_mempool_ops(), NULL);
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
lg_pool_memory(const struct rte_mempool *pool, struct lg_zone *first)
{
	const struct rte_mempool_memhdr *hdr;
	uint64_t bytes = 0;

	memset(first, 0, sizeof(*first));
	STAILQ_FOREACH(hdr, &pool->mem_list, next) {
		if (bytes == 0)
			lg_zone_of(hdr->addr, first);
		bytes += hdr->len;
	}
	return bytes;
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
