/* Preloaded into a broker, notes how to undo what it does to the message store on a real disk, so
 * that a test can take back all that was not synced, as a power cut does. Notes go to the file
 * FORGET_NOTES, one per line; files that lose their name are kept in FORGET_KEEP. Only paths under
 * FORGET_DIR count, and of files only those in a directory `store`. The others, such as the tables of
 * the registry and the shared memory of SQLite, which it makes anew, stay as they are.
 *
 * With FORGET_SYNC=no the syncs of files count for nothing, with FORGET_SYNC=/TEXT those of files that
 * have /TEXT in their path; with FORGET_SYNC_DIR=NAME those of directories of that name.
 *
 * With FORGET_FAIL=A:B of the syncs of the store's files A succeed, then B fail with EIO, and so on.
 * With FORGET_FAIL=A:B:quiet those do not say so.
 *
 *   w INODE OFFSET HEX   bytes that were there before a write, or before they were cut off
 *   s INODE NOTE         the file is synced: all writes noted before that note are durable
 *   f INODE NOTE         a sync has failed: of the writes noted before that note those that were
 *                        not durable never will be, as the kernel takes them for written
 *   c PATH               a new file      m PATH   a new directory
 *   r FROM TO KEPT       a file renamed; KEPT is what had the name, or -
 *   u PATH KEPT          a name removed
 *   d PATH NOTE          the directory is synced
 *   x CALL PATH          a change that this library cannot undo
 *
 * What calls the kernel without the C library is not seen: the store does so to take space for a
 * new file, to lock and to set flags, none of which changes what can be read.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static FILE *notes;
static long count;
static const char *root, *keep;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void begin(void) {
    root = getenv("FORGET_DIR");
    keep = getenv("FORGET_KEEP");
    const char *path = getenv("FORGET_NOTES");
    if (root && keep && path)
        notes = fopen(path, "ae");
}

static void note(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(notes, format, arguments);
    va_end(arguments);
    fputc('\n', notes);
    fflush(notes);
    count++;
}

static int under_root(const char *path) {
    return notes && path && strncmp(path, root, strlen(root)) == 0;
}

static int counts(const char *path) {
    return under_root(path) && strstr(path, "/store/") != NULL && !strstr(path, "/LOCK") &&
           !strstr(path, "-shm");
}

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return 1;
}

/* Gives the file another name, under which it is found when it is to be brought back. */
static void keep_file(const char *path, char *kept) {
    struct stat found;
    strcpy(kept, "-");
    if (lstat(path, &found) == 0) {
        snprintf(kept, PATH_MAX, "%s/%lu-%ld", keep, (unsigned long)found.st_ino, count);
        link(path, kept);
    }
}

static int opened(int fd, const char *path, int is_new) {
    if (fd >= 0 && is_new && counts(path)) {
        pthread_mutex_lock(&lock);
        note("c %s", path);
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

/* A change of the store's files that is not undone: the test is to know. */
static void unknown(const char *call, const char *path) {
    if (counts(path)) {
        pthread_mutex_lock(&lock);
        note("x %s %s", call, path);
        pthread_mutex_unlock(&lock);
    }
}

static void unknown_at(const char *call, int fd) {
    char path[PATH_MAX];
    if (notes && path_of(fd, path))
        unknown(call, path);
}

/* Whether an opening empties a file that has something. */
static int empties(const char *path, int flags) {
    struct stat found;
    return (flags & O_TRUNC) && stat(path, &found) == 0 && found.st_size > 0;
}

#define OPEN(name)                                                                      \
    int name(const char *path, int flags, ...) {                                        \
        va_list arguments;                                                              \
        va_start(arguments, flags);                                                     \
        mode_t mode = va_arg(arguments, mode_t);                                        \
        va_end(arguments);                                                              \
        int is_new = (flags & O_CREAT) && access(path, F_OK) != 0;                      \
        if (empties(path, flags))                                                       \
            unknown("O_TRUNC", path);                                                   \
        return opened(REAL(name)(path, flags, mode), path, is_new);                     \
    }
OPEN(open)
OPEN(open64)

/* Notes what stands in these bytes of a file. */
static void note_bytes(int fd, size_t length, off_t offset) {
    struct stat found;
    fstat(fd, &found);
    unsigned char *before = calloc(1, length + 1);
    char *hex = calloc(1, 2 * length + 1);
    ssize_t had = pread(fd, before, length, offset);
    (void)had;
    for (size_t at = 0; at < length; at++) {
        hex[2 * at] = "0123456789abcdef"[before[at] >> 4];
        hex[2 * at + 1] = "0123456789abcdef"[before[at] & 15];
    }
    note("w %lu %lld %s", (unsigned long)found.st_ino, (long long)offset, hex);
    free(before);
    free(hex);
}

#define PWRITE(name, offset_type)                                                       \
    ssize_t name(int fd, const void *bytes, size_t length, offset_type offset) {        \
        char path[PATH_MAX];                                                            \
        if (!notes || !path_of(fd, path) || !counts(path))                              \
            return REAL(name)(fd, bytes, length, offset);                               \
        pthread_mutex_lock(&lock);                                                      \
        note_bytes(fd, length, offset);                                                 \
        ssize_t done = REAL(name)(fd, bytes, length, offset);                           \
        pthread_mutex_unlock(&lock);                                                    \
        return done;                                                                    \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[PATH_MAX];
    if (!notes || !path_of(fd, path) || !counts(path))
        return REAL(write)(fd, bytes, length);
    pthread_mutex_lock(&lock);
    struct stat found;
    fstat(fd, &found);
    note_bytes(fd, length, fcntl(fd, F_GETFL) & O_APPEND ? found.st_size : lseek(fd, 0, SEEK_CUR));
    ssize_t done = REAL(write)(fd, bytes, length);
    pthread_mutex_unlock(&lock);
    return done;
}

/* What a cut takes away comes back; what it adds are zeros, which may stay. */
#define CUT(name, offset_type)                                                          \
    int name(int fd, offset_type length) {                                              \
        char path[PATH_MAX];                                                            \
        if (!notes || !path_of(fd, path) || !counts(path))                              \
            return REAL(name)(fd, length);                                              \
        pthread_mutex_lock(&lock);                                                      \
        struct stat found;                                                              \
        fstat(fd, &found);                                                              \
        if (found.st_size > length)                                                     \
            note_bytes(fd, found.st_size - length, length);                             \
        int done = REAL(name)(fd, length);                                              \
        pthread_mutex_unlock(&lock);                                                    \
        return done;                                                                    \
    }
CUT(ftruncate, off_t)
CUT(ftruncate64, off64_t)

/* Whether this sync of a file of the store fails, and whether it says so. */
static int fails(int *quiet) {
    static long done;
    long passing, failing;
    char word[8] = "";
    const char *pattern = getenv("FORGET_FAIL");
    if (!pattern || sscanf(pattern, "%ld:%ld:%7s", &passing, &failing, word) < 2)
        return 0;
    *quiet = strcmp(word, "quiet") == 0;
    return done++ % (passing + failing) >= passing;
}

static int synced(int fd, int (*sync)(int)) {
    char path[PATH_MAX];
    struct stat found;
    if (!notes || !path_of(fd, path) || !under_root(path) || fstat(fd, &found) != 0)
        return sync(fd);
    int is_directory = S_ISDIR(found.st_mode);
    const char *ignored = getenv(is_directory ? "FORGET_SYNC_DIR" : "FORGET_SYNC");
    const char *name = strrchr(path, '/');
    int quiet = 0;
    pthread_mutex_lock(&lock);
    long upto = count;
    int failed = !is_directory && counts(path) && fails(&quiet);
    if (failed)
        note("f %lu %ld", (unsigned long)found.st_ino, upto);
    pthread_mutex_unlock(&lock);
    if (failed) {
        errno = EIO;
        return quiet ? 0 : -1;
    }
    if (ignored && strcmp(ignored, is_directory ? (name ? name + 1 : path) : "no") == 0)
        return 0;
    if (ignored && !is_directory && ignored[0] == '/' && strstr(path, ignored) != NULL)
        return 0;
    int done = sync(fd);
    pthread_mutex_lock(&lock);
    if (done == 0 && is_directory)
        note("d %s %ld", path, upto);
    else if (done == 0)
        note("s %lu %ld", (unsigned long)found.st_ino, upto);
    pthread_mutex_unlock(&lock);
    return done;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

int rename(const char *from, const char *to) {
    if (!counts(from))
        return REAL(rename)(from, to);
    char kept[PATH_MAX];
    pthread_mutex_lock(&lock);
    keep_file(to, kept);
    int done = REAL(rename)(from, to);
    if (done == 0)
        note("r %s %s %s", from, to, kept);
    pthread_mutex_unlock(&lock);
    return done;
}

int unlink(const char *path) {
    if (!counts(path))
        return REAL(unlink)(path);
    char kept[PATH_MAX];
    pthread_mutex_lock(&lock);
    keep_file(path, kept);
    int done = REAL(unlink)(path);
    if (done == 0)
        note("u %s %s", path, kept);
    pthread_mutex_unlock(&lock);
    return done;
}

int mkdir(const char *path, mode_t mode) {
    int done = REAL(mkdir)(path, mode);
    if (done == 0 && under_root(path)) {
        pthread_mutex_lock(&lock);
        note("m %s", path);
        pthread_mutex_unlock(&lock);
    }
    return done;
}

/* Calls that change files or names in ways that are not undone; each is passed on. */

#define UNDONE(type, name, parameters, arguments)                                       \
    type name parameters {                                                              \
        unknown_at(#name, fd);                                                          \
        return REAL(name) arguments;                                                    \
    }
UNDONE(ssize_t, writev, (int fd, const struct iovec *parts, int number), (fd, parts, number))
UNDONE(ssize_t, pwritev, (int fd, const struct iovec *parts, int number, off_t offset),
       (fd, parts, number, offset))
UNDONE(ssize_t, pwritev64, (int fd, const struct iovec *parts, int number, off64_t offset),
       (fd, parts, number, offset))

#define UNDONE_AT(name, parameters, path, arguments)                                    \
    int name parameters {                                                               \
        unknown(#name, path);                                                           \
        return REAL(name) arguments;                                                    \
    }
UNDONE_AT(renameat, (int from_dir, const char *from, int to_dir, const char *to), from,
          (from_dir, from, to_dir, to))
UNDONE_AT(unlinkat, (int dir, const char *path, int flags), path, (dir, path, flags))
UNDONE_AT(truncate, (const char *path, off_t length), path, (path, length))

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    if ((protection & PROT_WRITE) && (flags & MAP_SHARED))
        unknown_at("mmap", fd);
    return REAL(mmap)(address, length, protection, flags, fd, offset);
}
