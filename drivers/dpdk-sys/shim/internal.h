/* Shared by the files of the shim only. */
#ifndef LOCKGATE_SHIM_INTERNAL_H
#define LOCKGATE_SHIM_INTERNAL_H

#include <string.h>

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

/*
 * Creates a pool whose mbufs have the private area; `ops` and `ops_config` as in
 * rte_mempool_set_ops_byname. Returns NULL with rte_errno set on failure; the caller keeps
 * `ops_config` then.
 */
struct rte_mempool *lg_pool_create_with(const char *name, uint32_t mbufs, uint32_t cache,
		uint16_t data_room, int numa_node, const char *ops, void *ops_config);

#endif
