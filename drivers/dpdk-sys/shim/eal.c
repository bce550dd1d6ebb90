/* The EAL's log and memory, and the state of kernel interfaces. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <rte_errno.h>
#include <rte_log.h>
#include <rte_memory.h>
#include <rte_memzone.h>

#include "shim.h"

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

void *
lg_memzone_reserve(const char *name, size_t len, int numa_node)
{
	const struct rte_memzone *mz = rte_memzone_reserve_aligned(name, len, numa_node, 0, 4096);

	return mz == NULL ? NULL : mz->addr;
}

void *
lg_anonymous_memory(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
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
