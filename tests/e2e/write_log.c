/* For tests: logs what a process writes, truncates, syncs, renames and removes below NVR_LOG_UNDER into NVR_LOG_FILE. Loaded with LD_PRELOAD.
 *
 * One entry: kind (1 byte), length of the path (uint16), path, offset (uint64), length of the data (uint32), data; numbers in the machine's order.
 * Kinds: w write, t truncate (offset is the size), s sync, u unlink, r rename (data is the new path), d directory sync.
 * Memory maps are not seen: SQLite's -shm is one, and no power cut keeps it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int log_fd = -1;
static const char *under;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("NVR_LOG_FILE");
    under = getenv("NVR_LOG_UNDER");
    if (path && under) log_fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int is_ours(const char *path) { return log_fd >= 0 && strncmp(path, under, strlen(under)) == 0; }

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_ours(path);
}

static void put(char kind, const char *path, uint64_t offset, const void *data, uint32_t length) {
    uint16_t path_length = (uint16_t)strlen(path);
    struct iovec parts[] = {{&kind, 1}, {&path_length, 2}, {(void *)path, path_length}, {&offset, 8}, {&length, 4}, {(void *)data, length}};
    pthread_mutex_lock(&lock);
    ssize_t written = syscall(SYS_writev, log_fd, parts, 6);
    (void)written;
    pthread_mutex_unlock(&lock);
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static ssize_t logged(int fd, const void *data, ssize_t count, off64_t offset) {
    char path[PATH_MAX];
    if (count > 0 && path_of(fd, path)) put('w', path, (uint64_t)offset, data, (uint32_t)count);
    return count;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    REAL(pwrite64);
    return logged(fd, data, real(fd, data, size, offset), offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    REAL(pwrite);
    return logged(fd, data, real(fd, data, size, offset), offset);
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    char path[PATH_MAX];
    ssize_t count = real(fd, data, size);
    if (count > 0 && fd != log_fd && path_of(fd, path)) put('w', path, (uint64_t)(lseek(fd, 0, SEEK_CUR) - count), data, (uint32_t)count);
    return count;
}

static int truncated(int fd, int status, off64_t size) {
    char path[PATH_MAX];
    if (status == 0 && path_of(fd, path)) put('t', path, (uint64_t)size, "", 0);
    return status;
}

int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); return truncated(fd, real(fd, size), size); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); return truncated(fd, real(fd, size), size); }

static int synced(int fd, int status) {
    char path[PATH_MAX];
    struct stat state;
    if (status == 0 && path_of(fd, path)) put(fstat(fd, &state) == 0 && S_ISDIR(state.st_mode) ? 'd' : 's', path, 0, "", 0);
    return status;
}

int fsync(int fd) { REAL(fsync); return synced(fd, real(fd)); }
int fdatasync(int fd) { REAL(fdatasync); return synced(fd, real(fd)); }

int unlink(const char *path) {
    REAL(unlink);
    int status = real(path);
    if (status == 0 && is_ours(path)) put('u', path, 0, "", 0);
    return status;
}

int rename(const char *path, const char *to) {
    REAL(rename);
    int status = real(path, to);
    if (status == 0 && is_ours(path)) put('r', path, 0, to, (uint32_t)strlen(to));
    return status;
}
