/* For tests: fdatasync(2) takes NVR_TEST_SYNC_MS longer. Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int fdatasync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    const char *text = getenv("NVR_TEST_SYNC_MS");
    long ms = text ? strtol(text, 0, 10) : 0;
    struct timespec wait = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&wait, 0);
    return real(fd);
}
