/* The edge of a program, as a test wants it: its wall clock is off by so much, its disk is slow, full, failing or read-only. Loaded with LD_PRELOAD.

   NVR_EDGE_FILE names a file of eight 64-bit numbers; the test rewrites the first six while the program runs (edge.py):
       0 clock_ns   what CLOCK_REALTIME is ahead by
       1 sync_ms    fsync(2), fdatasync(2) and sync_file_range(2) take so much longer
       2 write_ms   every write takes so much longer
       3 error      ENOSPC: what needs new blocks fails. EIO: every write and sync fails. EROFS: so does every opening for writing.
       4 first      the error is met by call number `first` (from 0) below NVR_EDGE_UNDER that could meet one ...
       5 end        ... and those after it, up to before `end`; 0: by all of them
       6 held       written here: how many writes have met write_ms so far
       7 calls      written here: how many calls could have met an error so far, while there is one
   2 and 3, and 1, are for files below NVR_EDGE_UNDER only. Reads always work: an error of a read is another story. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t none[8];
static volatile int64_t *told = none;
static const char *under = "";
static size_t under_length;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("NVR_EDGE_FILE"), *folder = getenv("NVR_EDGE_UNDER");
    if (folder) under = folder, under_length = strlen(folder);
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *found = mmap(0, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (found != MAP_FAILED) told = found;
    close(fd);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* -- the clock */

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(clock_gettime);
    int status = real(clock, time);
    if (status == 0 && told[0] && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ns = time->tv_sec * INT64_C(1000000000) + time->tv_nsec + told[0];
        time->tv_sec = ns / 1000000000;
        time->tv_nsec = ns % 1000000000;
    }
    return status;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

/* -- the disk */

static int is_calm(void) { return !told[1] && !told[2] && !told[3]; }

static int is_path(const char *path) { return under_length && strncmp(path, under, under_length) == 0; }

static int is_ours(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_path(path);
}

static void wait_ms(int64_t ms) {
    struct timespec left = {ms / 1000, ms % 1000 * 1000000};
    while (ms > 0 && nanosleep(&left, &left) != 0 && errno == EINTR) {}
}

/* The error that this call meets, if its turn has come. */
static int due_error(void) {
    int error = (int)told[3];
    if (!error) return 0;
    int64_t call = __atomic_fetch_add(&told[7], 1, __ATOMIC_RELAXED);
    return !told[5] || (told[4] <= call && call < told[5]) ? error : 0;
}

/* What a write of `size` bytes at `offset` meets; offset -1: at the place of the descriptor. 0: nothing. */
static int met(int fd, off64_t offset, size_t size) {
    if (is_calm() || !is_ours(fd)) return 0;
    if (told[2]) __atomic_add_fetch(&told[6], 1, __ATOMIC_RELAXED);
    wait_ms(told[2]);
    int error = due_error();
    if (error != ENOSPC) return error;
    struct stat state;
    if (offset < 0) offset = lseek64(fd, 0, SEEK_CUR);
    if (fstat(fd, &state) != 0) return 0;
    if (fcntl(fd, F_GETFL) & O_APPEND) offset = state.st_size;
    return offset + (off64_t)size > (state.st_size + 4095) / 4096 * 4096 ? ENOSPC : 0;
}

static size_t sum(const struct iovec *parts, int count) {
    size_t size = 0;
    for (int each = 0; each < count; each++) size += parts[each].iov_len;
    return size;
}

#define MEETS(fd, offset, size) { int error = met(fd, offset, size); if (error) { errno = error; return -1; } }

ssize_t write(int fd, const void *data, size_t size) { REAL(write); MEETS(fd, -1, size) return real(fd, data, size); }
ssize_t writev(int fd, const struct iovec *parts, int count) { REAL(writev); MEETS(fd, -1, sum(parts, count)) return real(fd, parts, count); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { REAL(pwrite); MEETS(fd, at, size) return real(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); MEETS(fd, at, size) return real(fd, data, size, at); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { REAL(pwritev); MEETS(fd, at, sum(parts, count)) return real(fd, parts, count, at); }
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) { REAL(pwritev64); MEETS(fd, at, sum(parts, count)) return real(fd, parts, count, at); }
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    REAL(pwritev2); MEETS(fd, at, sum(parts, count)) return real(fd, parts, count, at, flags);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) {
    REAL(pwritev64v2); MEETS(fd, at, sum(parts, count)) return real(fd, parts, count, at, flags);
}
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned int flags) {
    REAL(copy_file_range); MEETS(to, to_at ? *to_at : -1, size) return real(from, from_at, to, to_at, size, flags);
}

static int allocated(int fd, off64_t at, off64_t size) { return met(fd, at, (size_t)size); }

int fallocate(int fd, int mode, off_t at, off_t size) {
    REAL(fallocate);
    int error = mode & FALLOC_FL_PUNCH_HOLE ? 0 : allocated(fd, at, size);
    if (error) { errno = error; return -1; }
    return real(fd, mode, at, size);
}
int fallocate64(int fd, int mode, off64_t at, off64_t size) {
    REAL(fallocate64);
    int error = mode & FALLOC_FL_PUNCH_HOLE ? 0 : allocated(fd, at, size);
    if (error) { errno = error; return -1; }
    return real(fd, mode, at, size);
}
int posix_fallocate(int fd, off_t at, off_t size) { REAL(posix_fallocate); int error = allocated(fd, at, size); return error ? error : real(fd, at, size); }
int posix_fallocate64(int fd, off64_t at, off64_t size) { REAL(posix_fallocate64); int error = allocated(fd, at, size); return error ? error : real(fd, at, size); }

static int shortened(int fd) { return !is_calm() && is_ours(fd) && told[3] != ENOSPC ? due_error() : 0; }

int ftruncate(int fd, off_t size) { REAL(ftruncate); if ((errno = shortened(fd))) return -1; return real(fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); if ((errno = shortened(fd))) return -1; return real(fd, size); }

static int synced(int fd) {
    if (is_calm() || !is_ours(fd)) return 0;
    wait_ms(told[1]);
    return told[3] == EIO ? due_error() : 0;
}

int fsync(int fd) { REAL(fsync); if ((errno = synced(fd))) return -1; return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); if ((errno = synced(fd))) return -1; return real(fd); }

/* What a change of a name meets; a full disk has room for another name in a directory that is there. */
static int named(int folder, const char *path, int makes_new) {
    if (!told[3] || !(path[0] == '/' ? is_path(path) : folder != AT_FDCWD && is_ours(folder))) return 0;
    int error = due_error();
    return error == ENOSPC ? (makes_new ? ENOSPC : 0) : error;
}

#define NAMED(folder, path, makes_new) if ((errno = named(folder, path, makes_new))) return -1;
#define MODE(flags) mode_t mode = 0; if ((flags) & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); mode = va_arg(list, mode_t); va_end(list); }

static int opens(int folder, const char *path, int flags) {
    return (flags & O_ACCMODE) == O_RDONLY && !(flags & (O_CREAT | O_TRUNC)) ? 0 : told[3] == ENOSPC ? 0 : named(folder, path, 0);
}

int open(const char *path, int flags, ...) { REAL(open); MODE(flags) if ((errno = opens(AT_FDCWD, path, flags))) return -1; return real(path, flags, mode); }
int open64(const char *path, int flags, ...) { REAL(open64); MODE(flags) if ((errno = opens(AT_FDCWD, path, flags))) return -1; return real(path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { REAL(openat); MODE(flags) if ((errno = opens(folder, path, flags))) return -1; return real(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { REAL(openat64); MODE(flags) if ((errno = opens(folder, path, flags))) return -1; return real(folder, path, flags, mode); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); NAMED(AT_FDCWD, path, 1) return real(path, mode); }
int unlink(const char *path) { REAL(unlink); NAMED(AT_FDCWD, path, 0) return real(path); }
int unlinkat(int folder, const char *path, int flags) { REAL(unlinkat); NAMED(folder, path, 0) return real(folder, path, flags); }
int rename(const char *path, const char *to) { REAL(rename); NAMED(AT_FDCWD, to, 0) return real(path, to); }
int renameat(int folder, const char *path, int other, const char *to) { REAL(renameat); NAMED(other, to, 0) return real(folder, path, other, to); }
