/*
 * Differences between releases of DPDK that the shim, the bindings and the tests see. The other one
 * is in build.rs: a library that 22.11 doesn't have.
 */
#ifndef LOCKGATE_RELEASE_H
#define LOCKGATE_RELEASE_H

#include <rte_version.h>

/* Argument of net_bonding that names a member. */
#if RTE_VERSION >= RTE_VERSION_NUM(23, 11, 0, 0)
#define LG_BOND_MEMBER "member"
#else
#define LG_BOND_MEMBER "slave"
#endif

#endif
