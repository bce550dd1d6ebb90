/* Shared by the files of the shim only. */
#ifndef LOCKGATE_SHIM_INTERNAL_H
#define LOCKGATE_SHIM_INTERNAL_H

#include <string.h>

#include <rte_branch_prediction.h>
#include <rte_mempool.h>

#include "shim.h"

/* The names of all pools made here start with these four characters. */
#define LG_POOL_MARK "LGmb"

/* Returns whether a pool's mbufs have a private area for a `struct lg_frag`. */
static inline int
lg_pool_is_ours(const struct rte_mempool *pool)
{
	return memcmp(pool->name, LG_POOL_MARK, 4) == 0;
}

/* Finds the page size and the node of memory of the EAL. */
void lg_zone_of(void *addr, struct lg_zone *zone);

/* Number of regions whose physical addresses are stored; 0 where devices use virtual ones. */
extern uint32_t lg_iova_maps;
uint64_t lg_iova_find(uintptr_t addr);

/* Returns the address by which devices access a byte of a region. */
static inline uint64_t
lg_iova(const void *addr)
{
	if (likely(__atomic_load_n(&lg_iova_maps, __ATOMIC_ACQUIRE) == 0))
		return (uintptr_t)addr;
	return lg_iova_find((uintptr_t)addr);
}

/*
 * Creates a pool whose mbufs have the private area; `ops` and `ops_config` as in
 * rte_mempool_set_ops_byname. Returns NULL with rte_errno set on failure; the caller keeps
 * `ops_config` then.
 */
struct rte_mempool *lg_pool_create_with(const char *name, uint32_t mbufs, uint32_t cache,
		uint16_t data_room, int numa_node, const char *ops, void *ops_config);

#endif
