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

/* Bytes of the RSS key that net_null reports, and whether net_pcap sends chains; for tests. */
#if RTE_VERSION >= RTE_VERSION_NUM(24, 11, 0, 0)
#define LG_NULL_KEY_LEN 40
#define LG_PCAP_SENDS_CHAINS 1
#else
#define LG_NULL_KEY_LEN 0
#define LG_PCAP_SENDS_CHAINS 0
#endif

#endif
