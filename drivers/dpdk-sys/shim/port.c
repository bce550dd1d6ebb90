/* Set-up and state of ports, off the packet path. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#include "shim.h"

/* rte_eth_dev_info.hash_key_size has eight bits. */
#define RSS_KEY_MAX 255

/*
 * The RSS key hashes both directions of a flow to the same value. rte_eth_dev_configure keeps the
 * pointer to it, and some drivers read it when the port is started.
 */
static uint8_t rss_key[RSS_KEY_MAX];

__attribute__((constructor)) static void
fill_rss_key(void)
{
	size_t i;

	for (i = 0; i < sizeof(rss_key); i++)
		rss_key[i] = i % 2 == 0 ? 0x6d : 0x5a;
}

static const struct {
	uint64_t dpdk;
	uint32_t cap;
} tx_offloads[] = {
	{ RTE_ETH_TX_OFFLOAD_MULTI_SEGS, LG_CAP_MULTI_SEGS },
	{ RTE_ETH_TX_OFFLOAD_IPV4_CKSUM, LG_CAP_TX_IP_CSUM },
	{ RTE_ETH_TX_OFFLOAD_TCP_CKSUM, LG_CAP_TX_TCP_CSUM },
	{ RTE_ETH_TX_OFFLOAD_TCP_TSO, LG_CAP_TX_TSO },
}, rx_offloads[] = {
	{ RTE_ETH_RX_OFFLOAD_IPV4_CKSUM, LG_CAP_RX_IP_CSUM },
	{ RTE_ETH_RX_OFFLOAD_TCP_CKSUM, LG_CAP_RX_TCP_CSUM },
	{ RTE_ETH_RX_OFFLOAD_SCATTER, LG_CAP_RX_SCATTER },
	{ RTE_ETH_RX_OFFLOAD_RSS_HASH, LG_CAP_RX_HASH },
}, rss_types[] = {
	{ RTE_ETH_RSS_NONFRAG_IPV4_TCP, LG_RSS_TCP4 },
	{ RTE_ETH_RSS_NONFRAG_IPV6_TCP, LG_RSS_TCP6 },
	{ RTE_ETH_RSS_IPV4, LG_RSS_IP4 },
	{ RTE_ETH_RSS_IPV6, LG_RSS_IP6 },
};

static int
dev_info(uint16_t port, struct rte_eth_dev_info *info)
{
	memset(info, 0, sizeof(*info));
	return rte_eth_dev_info_get(port, info);
}

int
lg_port_find(const char *name, uint16_t *port)
{
	return rte_eth_dev_get_port_by_name(name, port);
}

int
lg_port_caps(uint16_t port, struct lg_port_caps *caps)
{
	struct rte_eth_dev_info info;
	struct rte_ether_addr mac;
	size_t i;
	int rc = dev_info(port, &info);

	if (rc != 0)
		return rc;
	memset(caps, 0, sizeof(*caps));
	if (info.driver_name != NULL)
		strncpy(caps->driver, info.driver_name, sizeof(caps->driver) - 1);
	if (rte_eth_macaddr_get(port, &mac) == 0)
		memcpy(caps->mac, mac.addr_bytes, sizeof(caps->mac));
	caps->max_rx_queues = info.max_rx_queues;
	caps->max_tx_queues = info.max_tx_queues;
	caps->min_mtu = info.min_mtu;
	caps->max_mtu = info.max_mtu;
	caps->rx_desc_min = info.rx_desc_lim.nb_min;
	caps->rx_desc_max = info.rx_desc_lim.nb_max;
	caps->rx_desc_align = info.rx_desc_lim.nb_align;
	caps->tx_desc_min = info.tx_desc_lim.nb_min;
	caps->tx_desc_max = info.tx_desc_lim.nb_max;
	caps->tx_desc_align = info.tx_desc_lim.nb_align;
	caps->tx_segs_max = info.tx_desc_lim.nb_seg_max;
	caps->tx_mtu_segs_max = info.tx_desc_lim.nb_mtu_seg_max;
	caps->rss_key_len = info.hash_key_size;
	caps->max_rx_pktlen = info.max_rx_pktlen;
	caps->rx_bufsize_min = info.min_rx_bufsize;
	caps->if_index = info.if_index;
	caps->numa_node = rte_eth_dev_socket_id(port);
	for (i = 0; i < RTE_DIM(tx_offloads); i++)
		if (info.tx_offload_capa & tx_offloads[i].dpdk)
			caps->offloads |= tx_offloads[i].cap;
	for (i = 0; i < RTE_DIM(rx_offloads); i++)
		if (info.rx_offload_capa & rx_offloads[i].dpdk)
			caps->offloads |= rx_offloads[i].cap;
	for (i = 0; i < RTE_DIM(rss_types); i++)
		if (info.flow_type_rss_offloads & rss_types[i].dpdk)
			caps->rss |= rss_types[i].cap;
	return 0;
}

#ifdef LG_FAULT_INJECTION
uint32_t
lg_port_rss_key(uint16_t port, uint8_t *key, uint32_t room)
{
	struct rte_eth_conf eth;
	const struct rte_eth_rss_conf *rss = &eth.rx_adv_conf.rss_conf;

	if (rte_eth_dev_conf_get(port, &eth) != 0 || rss->rss_key == NULL ||
			rss->rss_key_len > room)
		return 0;
	memcpy(key, rss->rss_key, rss->rss_key_len);
	return rss->rss_key_len;
}

static int strip_vlan;

void
lg_strip_vlan_unasked(void)
{
	strip_vlan = 1;
}
#endif

int
lg_port_configure(uint16_t port, const struct lg_port_conf *conf)
{
	struct rte_eth_dev_info info;
	struct rte_eth_conf eth;
	size_t i;
	int rc = dev_info(port, &info);

	if (rc != 0)
		return rc;
	memset(&eth, 0, sizeof(eth));
	eth.rxmode.mtu = conf->mtu;
	for (i = 0; i < RTE_DIM(tx_offloads); i++)
		if (conf->offloads & tx_offloads[i].cap)
			eth.txmode.offloads |= tx_offloads[i].dpdk;
	for (i = 0; i < RTE_DIM(rx_offloads); i++)
		if (conf->offloads & rx_offloads[i].cap)
			eth.rxmode.offloads |= rx_offloads[i].dpdk;
#ifdef LG_FAULT_INJECTION
	if (strip_vlan)
		eth.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
#endif
	if (conf->rss != 0) {
		eth.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
		for (i = 0; i < RTE_DIM(rss_types); i++)
			if (conf->rss & rss_types[i].cap)
				eth.rx_adv_conf.rss_conf.rss_hf |= rss_types[i].dpdk;
		/* Without a key the driver uses its own. */
		if (info.hash_key_size > 0) {
			eth.rx_adv_conf.rss_conf.rss_key = rss_key;
			eth.rx_adv_conf.rss_conf.rss_key_len = info.hash_key_size;
		}
	}
	return rte_eth_dev_configure(port, conf->queues, conf->queues, &eth);
}

static unsigned int
socket_of(const struct lg_queue_conf *conf)
{
	return conf->numa_node < 0 ? (unsigned int)SOCKET_ID_ANY : (unsigned int)conf->numa_node;
}

/*
 * Queues keep the driver's thresholds, and have the port's offloads only: a default may contain
 * RTE_ETH_TX_OFFLOAD_MBUF_FAST_FREE, which external buffers forbid.
 */
static int
queue_defaults(uint16_t port, struct rte_eth_rxconf *rx, struct rte_eth_txconf *tx)
{
	struct rte_eth_dev_info info;
	int rc = dev_info(port, &info);

	*rx = info.default_rxconf;
	*tx = info.default_txconf;
	rx->offloads = 0;
	tx->offloads = 0;
	return rc;
}

int
lg_port_rx_queue(uint16_t port, uint16_t queue, const struct lg_queue_conf *conf,
		struct rte_mempool *pool)
{
	struct rte_eth_rxconf rx;
	struct rte_eth_txconf tx;
	int rc = queue_defaults(port, &rx, &tx);

	if (rc != 0)
		return rc;
	if (conf->rx_drop)
		rx.rx_drop_en = 1;
	return rte_eth_rx_queue_setup(port, queue, conf->rx_desc, socket_of(conf), &rx, pool);
}

int
lg_port_tx_queue(uint16_t port, uint16_t queue, const struct lg_queue_conf *conf)
{
	struct rte_eth_rxconf rx;
	struct rte_eth_txconf tx;
	int rc = queue_defaults(port, &rx, &tx);

	if (rc != 0)
		return rc;
	return rte_eth_tx_queue_setup(port, queue, conf->tx_desc, socket_of(conf), &tx);
}

int
lg_port_rx_descs(uint16_t port, uint16_t queue)
{
	struct rte_eth_rxq_info info;
	int rc = rte_eth_rx_queue_info_get(port, queue, &info);

	return rc != 0 ? rc : info.nb_desc;
}

int
lg_port_tx_descs(uint16_t port, uint16_t queue)
{
	struct rte_eth_txq_info info;
	int rc = rte_eth_tx_queue_info_get(port, queue, &info);

	return rc != 0 ? rc : info.nb_desc;
}

/* Writes the redirection table and reads it back. Returns -EIO if they differ. */
static int
write_table(uint16_t port, struct rte_eth_rss_reta_entry64 *table,
		struct rte_eth_rss_reta_entry64 *found, uint16_t size, uint16_t queues)
{
	uint16_t i, group, at;
	int rc;

	for (i = 0; i < size; i++) {
		group = i / RTE_ETH_RETA_GROUP_SIZE;
		at = i % RTE_ETH_RETA_GROUP_SIZE;
		table[group].mask |= UINT64_C(1) << at;
		table[group].reta[at] = i % queues;
		found[group].mask = table[group].mask;
	}
	rc = rte_eth_dev_rss_reta_update(port, table, size);
	if (rc != 0)
		return rc;
	rc = rte_eth_dev_rss_reta_query(port, found, size);
	if (rc != 0)
		return rc;
	for (i = 0; i < size; i++) {
		group = i / RTE_ETH_RETA_GROUP_SIZE;
		at = i % RTE_ETH_RETA_GROUP_SIZE;
		if (found[group].reta[at] != table[group].reta[at])
			return -EIO;
	}
	return 0;
}

int
lg_port_spread(uint16_t port, uint16_t queues)
{
	struct rte_eth_rss_reta_entry64 *tables;
	struct rte_eth_dev_info info;
	size_t groups;
	int rc = dev_info(port, &info);

	if (rc != 0 || info.reta_size == 0)
		return rc;
	groups = (info.reta_size + RTE_ETH_RETA_GROUP_SIZE - 1) / RTE_ETH_RETA_GROUP_SIZE;
	tables = calloc(2 * groups, sizeof(*tables));
	if (tables == NULL)
		return -ENOMEM;
	rc = write_table(port, tables, tables + groups, info.reta_size, queues);
	free(tables);
	return rc != 0 ? rc : info.reta_size;
}

int
lg_port_vlan_off(uint16_t port)
{
	int on = rte_eth_dev_get_vlan_offload(port);

	if (on < 0)
		return on;
	on &= RTE_ETH_VLAN_STRIP_OFFLOAD | RTE_ETH_VLAN_FILTER_OFFLOAD |
			RTE_ETH_QINQ_STRIP_OFFLOAD;
	return on == 0 ? 0 : rte_eth_dev_set_vlan_offload(port, 0);
}

int
lg_port_set_mac(uint16_t port, const uint8_t mac[6])
{
	struct rte_ether_addr addr;

	memcpy(addr.addr_bytes, mac, sizeof(addr.addr_bytes));
	return rte_eth_dev_default_mac_addr_set(port, &addr);
}

void
lg_port_drain(uint16_t port, uint16_t queues)
{
	struct rte_mbuf *pkts[LG_BURST];
	uint16_t q, n;

	for (q = 0; q < queues; q++)
		while ((n = rte_eth_rx_burst(port, q, pkts, LG_BURST)) > 0)
			rte_pktmbuf_free_bulk(pkts, n);
}

int
lg_port_promiscuous(uint16_t port)
{
	return rte_eth_promiscuous_enable(port);
}

int
lg_port_multicast(uint16_t port, const uint8_t *groups, uint32_t n)
{
	struct rte_ether_addr *list = calloc(n, sizeof(*list));
	uint32_t i;
	int rc;

	if (list == NULL)
		return -ENOMEM;
	for (i = 0; i < n; i++)
		memcpy(list[i].addr_bytes, groups + 6 * i, sizeof(list[i].addr_bytes));
	/* A virtual function may accept "all multicast" and not get it, so the list comes first. */
	rc = rte_eth_dev_set_mc_addr_list(port, list, n);
	free(list);
	if (rc == 0)
		return LG_MULTICAST_GROUPS;
	rc = rte_eth_allmulticast_enable(port);
	if (rc == 0)
		return LG_MULTICAST_ALL;
	rc = rte_eth_promiscuous_enable(port);
	if (rc == 0)
		return LG_MULTICAST_PROMISCUOUS;
	return rc == -ENOTSUP ? LG_MULTICAST_UNFILTERED : rc;
}

int
lg_port_link_up(uint16_t port)
{
	struct rte_eth_link link;
	int rc;

	memset(&link, 0, sizeof(link));
	rc = rte_eth_link_get_nowait(port, &link);
	return rc != 0 ? rc : link.link_status == RTE_ETH_LINK_UP;
}

int
lg_port_mac(uint16_t port, uint8_t mac[6])
{
	struct rte_ether_addr addr;
	int rc = rte_eth_macaddr_get(port, &addr);

	if (rc == 0)
		memcpy(mac, addr.addr_bytes, sizeof(addr.addr_bytes));
	return rc;
}

static uint32_t resets[RTE_MAX_ETHPORTS];

/* The EAL's interrupt thread calls it. */
static int
on_reset(uint16_t port, enum rte_eth_event_type event, void *arg, void *ret)
{
	(void)event;
	(void)arg;
	(void)ret;
	__atomic_add_fetch(&resets[port], 1, __ATOMIC_RELAXED);
	return 0;
}

int
lg_port_count_resets(uint16_t port)
{
	if (port >= RTE_MAX_ETHPORTS)
		return -ENODEV;
	__atomic_store_n(&resets[port], 0, __ATOMIC_RELAXED);
	return rte_eth_dev_callback_register(port, RTE_ETH_EVENT_INTR_RESET, on_reset, NULL);
}

uint32_t
lg_port_resets(uint16_t port)
{
	return port < RTE_MAX_ETHPORTS ? __atomic_load_n(&resets[port], __ATOMIC_RELAXED) : 0;
}

void
lg_port_ignore_resets(uint16_t port)
{
	rte_eth_dev_callback_unregister(port, RTE_ETH_EVENT_INTR_RESET, on_reset, NULL);
}

#ifdef LG_FAULT_INJECTION
/* For drivers: exported as INTERNAL, declared in ethdev_driver.h, which isn't installed. */
struct rte_eth_dev *rte_eth_dev_get_by_name(const char *name);
int rte_eth_dev_callback_process(struct rte_eth_dev *dev, enum rte_eth_event_type event,
				 void *ret_param);

int
lg_port_report_reset(uint16_t port)
{
	char name[RTE_ETH_NAME_MAX_LEN];
	struct rte_eth_dev *dev;
	int rc = rte_eth_dev_get_name_by_port(port, name);

	if (rc != 0)
		return rc;
	dev = rte_eth_dev_get_by_name(name);
	if (dev == NULL)
		return -ENODEV;
	return rte_eth_dev_callback_process(dev, RTE_ETH_EVENT_INTR_RESET, NULL);
}
#endif

int
lg_port_stats(uint16_t port, struct lg_port_stats *stats)
{
	struct rte_eth_stats s;
	int rc = rte_eth_stats_get(port, &s);

	if (rc != 0)
		return rc;
	stats->ipackets = s.ipackets;
	stats->opackets = s.opackets;
	stats->ibytes = s.ibytes;
	stats->obytes = s.obytes;
	stats->imissed = s.imissed;
	stats->ierrors = s.ierrors;
	stats->oerrors = s.oerrors;
	stats->rx_nombuf = s.rx_nombuf;
	return 0;
}

int
lg_port_xstats(uint16_t port, lg_xstat_fn each, void *context)
{
	struct rte_eth_xstat_name *names;
	struct rte_eth_xstat *values;
	int i, n, rc = -ENOMEM;

	n = rte_eth_xstats_get_names(port, NULL, 0);
	if (n <= 0)
		return n;
	names = calloc(n, sizeof(*names));
	values = calloc(n, sizeof(*values));
	if (names != NULL && values != NULL) {
		/* More than `n`: the set has grown meanwhile, and nothing was written. */
		rc = rte_eth_xstats_get_names(port, names, n);
		if (rc == n)
			rc = rte_eth_xstats_get(port, values, n);
		for (i = 0; rc == n && i < n; i++)
			if (values[i].id < (uint64_t)n)
				each(context, names[values[i].id].name, values[i].value);
	}
	free(names);
	free(values);
	return rc < 0 ? rc : 0;
}

int
lg_port_dma_map(uint16_t port, void *addr, size_t len)
{
	struct rte_eth_dev_info info;
	int rc = dev_info(port, &info);

	if (rc != 0)
		return rc;
	if (info.device == NULL)
		return -ENOTSUP;
	if (rte_dev_dma_map(info.device, addr, (uint64_t)(uintptr_t)addr, len) != 0)
		return -rte_errno;
	return 0;
}

struct rte_ring *
lg_ring_create(const char *name, uint32_t entries, int numa_node)
{
	/* One sender, one receiver: each end of a queue belongs to one worker. */
	return rte_ring_create(name, entries, numa_node,
			RING_F_SP_ENQ | RING_F_SC_DEQ | RING_F_EXACT_SZ);
}

void
lg_ring_free(struct rte_ring *ring)
{
	rte_ring_free(ring);
}
