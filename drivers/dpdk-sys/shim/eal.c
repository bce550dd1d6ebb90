/* The EAL's log and memory, and the state of kernel interfaces. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_config.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_memory.h>
#include <rte_memzone.h>

#include "internal.h"

static lg_log_fn log_sink;

static ssize_t
log_write(void *cookie, const char *text, size_t len)
{
	(void)cookie;
	log_sink(rte_log_cur_msg_loglevel(), text, len);
	return len;
}

int
lg_log_open(lg_log_fn sink)
{
	cookie_io_functions_t io = { .write = log_write };
	FILE *stream;

	log_sink = sink;
	stream = fopencookie(NULL, "w", io);
	if (stream == NULL)
		return -errno;
	/* One write per line, as each message ends in a newline and is flushed. */
	setvbuf(stream, NULL, _IOLBF, BUFSIZ);
	return rte_openlog_stream(stream);
}

int
lg_errno(void)
{
	return rte_errno;
}

/* As many regions as the EAL has memzones. */
#define REGIONS_MAX 2560

/* Physical addresses of a region's pages, from the page of its first byte on. */
struct iova_map {
	uintptr_t base;
	uintptr_t end;
	unsigned int shift;
	rte_iova_t *pages;
};

/* Entries are only added; a reader sees a new one by the number. */
static struct iova_map iova_map[REGIONS_MAX];
uint32_t lg_iova_maps;

void
lg_heap_limits(struct lg_heap_limits *limits)
{
	limits->list_pages = RTE_MAX_MEMSEG_PER_LIST;
	limits->list_bytes = (uint64_t)RTE_MAX_MEM_MB_PER_LIST << 20;
	limits->kind_pages = RTE_MAX_MEMSEG_PER_TYPE;
	limits->kind_bytes = (uint64_t)RTE_MAX_MEM_MB_PER_TYPE << 20;
}

int
lg_iova_is_physical(void)
{
	return rte_eal_iova_mode() == RTE_IOVA_PA;
}

void
lg_zone_of(void *addr, struct lg_zone *zone)
{
	const struct rte_memseg_list *list = rte_mem_virt2memseg_list(addr);

	zone->addr = addr;
	zone->page_bytes = list != NULL ? list->page_sz : 0;
	zone->node = list != NULL ? list->socket_id : -1;
}

/* Stores the physical addresses of the pages of a memzone. */
static int
iova_store(const struct rte_memzone *mz)
{
	struct iova_map map = {
		.base = (uintptr_t)mz->addr,
		.end = (uintptr_t)mz->addr + mz->len,
		.shift = __builtin_ctzll(mz->hugepage_sz),
	};
	uintptr_t page = map.base >> map.shift;
	size_t i, n = ((map.end - 1) >> map.shift) - page + 1;

	if (lg_iova_maps == RTE_DIM(iova_map))
		return -ENOSPC;
	map.pages = calloc(n, sizeof(*map.pages));
	if (map.pages == NULL)
		return -ENOMEM;
	for (i = 0; i < n; i++) {
		void *first = (void *)((page + i) << map.shift);
		const struct rte_memseg *seg = rte_mem_virt2memseg(first, NULL);

		if (seg == NULL || seg->iova == RTE_BAD_IOVA) {
			free(map.pages);
			return -EFAULT;
		}
		map.pages[i] = seg->iova;
	}
	iova_map[lg_iova_maps] = map;
	__atomic_store_n(&lg_iova_maps, lg_iova_maps + 1, __ATOMIC_RELEASE);
	return 0;
}

uint64_t
lg_iova_find(uintptr_t addr)
{
	/* Most pieces are in the region of the piece before. */
	static __thread uint32_t last;
	uint32_t i, n = __atomic_load_n(&lg_iova_maps, __ATOMIC_ACQUIRE);

	for (i = 0; i < n; i++) {
		uint32_t at = last + i < n ? last + i : last + i - n;
		const struct iova_map *map = &iova_map[at];

		if (addr >= map->base && addr < map->end) {
			size_t page = (addr >> map->shift) - (map->base >> map->shift);

			last = at;
			return map->pages[page] + (addr & (((uintptr_t)1 << map->shift) - 1));
		}
	}
	return rte_mem_virt2iova((void *)addr);
}

uint64_t
lg_iova_of(const void *addr)
{
	return lg_iova(addr);
}

int
lg_memzone_reserve(const char *name, size_t len, int numa_node, uint64_t page_bytes,
		struct lg_zone *zone)
{
	const struct rte_memzone *mz;
	unsigned int flags = 0;
	int rc;

	if (page_bytes == RTE_PGSIZE_2M)
		flags = RTE_MEMZONE_2MB;
	else if (page_bytes == RTE_PGSIZE_1G)
		flags = RTE_MEMZONE_1GB;
	mz = rte_memzone_reserve_aligned(name, len, numa_node, flags, 4096);
	if (mz == NULL)
		return -rte_errno;
	rc = lg_iova_is_physical() ? iova_store(mz) : 0;
	if (rc != 0) {
		rte_memzone_free(mz);
		return rc;
	}
	zone->addr = mz->addr;
	zone->page_bytes = mz->hugepage_sz;
	zone->node = mz->socket_id;
	return 0;
}

int
lg_lock_memory(uint64_t *limit)
{
	struct rlimit rl;

	*limit = getrlimit(RLIMIT_MEMLOCK, &rl) != 0 || rl.rlim_cur == RLIM_INFINITY
			? UINT64_MAX : rl.rlim_cur;
	/* Not MCL_FUTURE: it makes later mappings fail at the limit. */
	return mlockall(MCL_CURRENT | MCL_ONFAULT) != 0 ? -errno : 0;
}

/*
 * Many IOMMUs have 39 bits of address, and devices use virtual addresses. So anonymous memory is
 * below that, and above the EAL's, if the space is free there.
 */
#define ANONYMOUS_BASE ((uintptr_t)1 << 38)
#define ANONYMOUS_ALIGN ((uintptr_t)2 << 20)

void *
lg_anonymous_memory(size_t len)
{
	static uintptr_t next = ANONYMOUS_BASE;
	void *p = mmap((void *)__atomic_load_n(&next, __ATOMIC_RELAXED), len,
			PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	__atomic_fetch_add(&next, RTE_ALIGN_CEIL(len, ANONYMOUS_ALIGN), __ATOMIC_RELAXED);
	/* Fewer TLB misses with transparent huge pages; failure doesn't matter. */
	madvise(p, len, MADV_HUGEPAGE);
	return p;
}

int
lg_extmem_register(void *addr, size_t len)
{
	return rte_extmem_register(addr, len, NULL, 0, 4096) != 0 ? -rte_errno : 0;
}

static int
interface_request(const char *interface, unsigned long request, struct ifreq *ifr)
{
	int fd, rc;

	if (strlen(interface) >= sizeof(ifr->ifr_name))
		return -ENODEV;
	memset(ifr, 0, sizeof(*ifr));
	strcpy(ifr->ifr_name, interface);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	rc = ioctl(fd, request, ifr) != 0 ? -errno : 0;
	close(fd);
	return rc;
}

int
lg_kernel_mtu(const char *interface)
{
	struct ifreq ifr;
	int rc = interface_request(interface, SIOCGIFMTU, &ifr);

	return rc != 0 ? rc : ifr.ifr_mtu;
}

int
lg_kernel_mac(const char *interface, uint8_t mac[6])
{
	struct ifreq ifr;
	int rc = interface_request(interface, SIOCGIFHWADDR, &ifr);

	if (rc == 0)
		memcpy(mac, ifr.ifr_hwaddr.sa_data, 6);
	return rc;
}

int
lg_kernel_running(const char *interface)
{
	struct ifreq ifr;
	int rc = interface_request(interface, SIOCGIFFLAGS, &ifr);

	return rc != 0 ? rc : (ifr.ifr_flags & IFF_UP) != 0 && (ifr.ifr_flags & IFF_RUNNING) != 0;
}

static int
ethtool_request(const char *interface, void *request)
{
	struct ifreq ifr;
	int fd, rc;

	if (strlen(interface) >= sizeof(ifr.ifr_name))
		return -ENODEV;
	memset(&ifr, 0, sizeof(ifr));
	strcpy(ifr.ifr_name, interface);
	ifr.ifr_data = request;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	rc = ioctl(fd, SIOCETHTOOL, &ifr) != 0 ? -errno : 0;
	close(fd);
	return rc;
}

int
lg_kernel_offload(const char *interface, uint32_t command)
{
	struct ethtool_value value = { .cmd = command };
	int rc = ethtool_request(interface, &value);

	return rc != 0 ? rc : value.data != 0;
}

int
lg_kernel_is_veth(const char *interface)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };
	int rc = ethtool_request(interface, &info);

	return rc != 0 ? rc : strncmp(info.driver, "veth", sizeof(info.driver)) == 0;
}
