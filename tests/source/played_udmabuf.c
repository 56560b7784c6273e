/* Stands in for /dev/udmabuf where a kernel or a container has none: libcamera's `virtual` pipeline asks it for its buffers.
 * What is opened under that name is /dev/null; a buffer "created" from a memfd is the memfd itself; syncing it is nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <linux/dma-buf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>

static const char *instead(const char *path) { return strcmp(path, "/dev/udmabuf") == 0 ? "/dev/null" : path; }

#define PLAYED(name)                                                        \
    int name(const char *path, int flags, ...)                              \
    {                                                                       \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);      \
        va_list more;                                                       \
        va_start(more, flags);                                              \
        int mode = va_arg(more, int);                                       \
        va_end(more);                                                       \
        return real(instead(path), flags, mode);                            \
    }
PLAYED(open)
PLAYED(open64)

int ioctl(int fd, unsigned long request, ...)
{
    va_list more;
    va_start(more, request);
    void *argument = va_arg(more, void *);
    va_end(more);
    if (request == UDMABUF_CREATE)
        return fcntl(((struct udmabuf_create *)argument)->memfd, F_DUPFD_CLOEXEC, 3);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    int result = real(fd, request, argument);
    return result < 0 && errno == ENOTTY && request == DMA_BUF_IOCTL_SYNC ? 0 : result;
}
