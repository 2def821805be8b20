// Looks names up with c-ares; see getaddrinfo.c.
#include <ares.h>
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>

static char out[1024];

static long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int failed(int status) {
	if (status == ARES_SUCCESS)
		return 0;
	snprintf(out, sizeof out, "%s", status == ARES_ENOTFOUND || status == ARES_ENODATA ? "none" : ares_strerror(status));
	return 1;
}

static void got_addresses(void *arg, int status, int timeouts, struct ares_addrinfo *result) {
	(void)arg, (void)timeouts;
	if (failed(status))
		return;
	for (struct ares_addrinfo_node *a = result->nodes; a; a = a->ai_next) {
		char text[INET6_ADDRSTRLEN];
		const void *address = a->ai_family == AF_INET ? (void *)&((struct sockaddr_in *)a->ai_addr)->sin_addr
		                                              : (void *)&((struct sockaddr_in6 *)a->ai_addr)->sin6_addr;
		inet_ntop(a->ai_family, address, text, sizeof text);
		size_t n = strlen(out);
		snprintf(out + n, sizeof out - n, "%s%s", n ? "," : "", text);
	}
	ares_freeaddrinfo(result);
}

static void got_owner(void *arg, int status, int timeouts, struct hostent *host) {
	(void)arg, (void)timeouts;
	if (!failed(status))
		snprintf(out, sizeof out, "%s", host->h_name);
}

static void wait_for_all(ares_channel channel) {
	for (;;) {
		fd_set in, to;
		struct timeval wait;
		FD_ZERO(&in);
		FD_ZERO(&to);
		int n = ares_fds(channel, &in, &to);
		if (n == 0)
			return;
		select(n, &in, &to, NULL, ares_timeout(channel, NULL, &wait));
		ares_process(channel, &in, &to);
	}
}

int main(int argc, char **argv) {
	ares_library_init(ARES_LIB_INIT_ALL);
	ares_channel channel;
	int status = ares_init(&channel);
	if (status != ARES_SUCCESS) {
		fprintf(stderr, "c-ares: %s\n", ares_strerror(status));
		return 1;
	}
	for (int i = 1; i < argc; i++) {
		long first = 0, best = 0;
		for (int turn = 0; turn < 3; turn++) {
			struct in_addr address;
			struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
			long start = now();
			out[0] = 0;
			if (inet_pton(AF_INET, argv[i], &address) == 1)
				ares_gethostbyaddr(channel, &address, sizeof address, AF_INET, got_owner, NULL);
			else
				ares_getaddrinfo(channel, argv[i], NULL, &hints, got_addresses, NULL);
			wait_for_all(channel);
			long took = now() - start;
			if (turn == 0)
				first = took;
			if (turn == 0 || took < best)
				best = took;
		}
		printf("%s\t%s\t%ld\t%ld\n", argv[i], out, first, best);
	}
	ares_destroy(channel);
	return 0;
}
