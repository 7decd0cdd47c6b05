/* SPDX-License-Identifier: Apache-2.0 */
#include "facts.h"

#include <linux/filter.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static void need(int rc, const char *what)
{
	if (rc < 0) {
		perror(what);
		exit(1);
	}
}

static void info_of(int fd, struct tcp_info *ret)
{
	socklen_t len = sizeof(*ret);

	memset(ret, 0, sizeof(*ret));
	need(getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret, &len), "TCP_INFO");
}

void facts_of(int fd, struct facts *ret)
{
	struct tcp_info before, info;

	info_of(fd, &info);
	do {
		before = info;
		need(ioctl(fd, SIOCINQ, &ret->inq), "SIOCINQ");
		need(ioctl(fd, SIOCOUTQ, &ret->outq), "SIOCOUTQ");
		info_of(fd, &info);
	} while (info.tcpi_bytes_received != before.tcpi_bytes_received ||
		 info.tcpi_bytes_acked != before.tcpi_bytes_acked);
	ret->received = info.tcpi_bytes_received;
	ret->acked = info.tcpi_bytes_acked;
	ret->sent = info.tcpi_bytes_sent;
	ret->retrans = info.tcpi_bytes_retrans;
	ret->notsent = info.tcpi_notsent_bytes;
	ret->backoff = info.tcpi_backoff;
}

uint64_t facts_read(int fd)
{
	struct facts f;

	facts_of(fd, &f);
	return f.received - (uint64_t)f.inq;
}

uint64_t facts_sent(int fd)
{
	struct facts f;

	facts_of(fd, &f);
	return f.sent - f.retrans + f.notsent;
}

void facts_lossy(int fd, unsigned int percent)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_RANDOM)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)(0xffffffffull * percent / 100), 0,
			 1),
		BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog program = {.len = 4, .filter = code};
	int unused = 0;

	if (percent)
		need(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)),
		     "SO_ATTACH_FILTER");
	else
		(void)setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &unused, sizeof(unused));
}
