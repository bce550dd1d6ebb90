/* What the shim's own files share. */
#ifndef LOCKGATE_SHIM_INTERNAL_H
#define LOCKGATE_SHIM_INTERNAL_H

#include <string.h>

#include <rte_mempool.h>

#include "shim.h"

/* The names of all pools made here start with these four characters. */
#define LG_POOL_MARK "LGmb"

/* Whether a pool's mbufs have a private area for a `struct lg_frag`. */
static inline int
lg_pool_is_ours(const struct rte_mempool *pool)
{
	return memcmp(pool->name, LG_POOL_MARK, 4) == 0;
}

#endif
