/* Preloaded into a broker, gives the name RESOLVE_NAME another address at each look-up: those of
 * RESOLVE_ADDRESSES, which are separated by blanks, in turn. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char addresses[1024], *next;

static const char *address(void) {
    char *found = next ? strtok_r(NULL, " ", &next) : NULL;
    if (!found) {
        strncpy(addresses, getenv("RESOLVE_ADDRESSES"), sizeof addresses - 1);
        found = strtok_r(addresses, " ", &next);
    }
    return found;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, "getaddrinfo");
    const char *name = getenv("RESOLVE_NAME");
    if (!node || !name || strcmp(node, name) != 0)
        return real(node, service, hints, found);
    pthread_mutex_lock(&lock);
    int done = real(address(), service, hints, found);
    pthread_mutex_unlock(&lock);
    return done;
}
