// Looks names up as programs of a C library do. For each argument, a host name
// or an address whose name is wanted, it prints a line: the argument, what came
// of it, and how long that took in microseconds, at the first and at the best of
// three times.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void addresses(const char *name, char *out, size_t size) {
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all = NULL;
	int err = getaddrinfo(name, NULL, &hints, &all);
	if (err) {
		snprintf(out, size, "%s", err == EAI_NONAME || err == -5 /* EAI_NODATA */ ? "none" : gai_strerror(err));
		return;
	}
	for (struct addrinfo *a = all; a; a = a->ai_next) {
		char text[INET6_ADDRSTRLEN];
		getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST);
		size_t n = strlen(out);
		snprintf(out + n, size - n, "%s%s", n ? "," : "", text);
	}
	freeaddrinfo(all);
}

static void owner(struct in_addr address, char *out, size_t size) {
	struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr = address};
	int err = getnameinfo((struct sockaddr *)&sa, sizeof sa, out, size, NULL, 0, NI_NAMEREQD);
	if (err)
		snprintf(out, size, "%s", err == EAI_NONAME ? "none" : gai_strerror(err));
}

int main(int argc, char **argv) {
	for (int i = 1; i < argc; i++) {
		char out[1024];
		long first = 0, best = 0;
		for (int turn = 0; turn < 3; turn++) {
			struct in_addr address;
			long start = now();
			out[0] = 0;
			if (inet_pton(AF_INET, argv[i], &address) == 1)
				owner(address, out, sizeof out);
			else
				addresses(argv[i], out, sizeof out);
			long took = now() - start;
			if (turn == 0)
				first = took;
			if (turn == 0 || took < best)
				best = took;
		}
		printf("%s\t%s\t%ld\t%ld\n", argv[i], out, first, best);
	}
	return 0;
}
