/* Preloaded into a node: a name whose address changes between two look-ups.
 *
 * The first two look-ups of REBIND_NAME give REBIND_FIRST: that at the start of an integration, and that of its first
 * connection. Each later one gives REBIND_LATER. The file REBIND_NOTES gets a line
 * for each look-up of the name (`lookup ADDRESS`), and for each address that is connected to (`connect ADDRESS`). */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static atomic_int lookups;

static void note(const char *what, const char *address) {
    char line[128];
    int length = snprintf(line, sizeof line, "%s %s\n", what, address);
    int file = open(getenv("REBIND_NOTES"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || write(file, line, (size_t)length) != length)
        abort();
    close(file);
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    if (node != NULL && strcmp(node, getenv("REBIND_NAME")) == 0) {
        node = getenv(atomic_fetch_add(&lookups, 1) < 2 ? "REBIND_FIRST" : "REBIND_LATER");
        note("lookup", node);
    }
    return REAL(getaddrinfo)(node, service, hints, found);
}

int connect(int socket, const struct sockaddr *address, socklen_t length) {
    char text[INET6_ADDRSTRLEN] = "";
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof text);
    if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, sizeof text);
    if (text[0] != 0)
        note("connect", text);
    return REAL(connect)(socket, address, length);
}
