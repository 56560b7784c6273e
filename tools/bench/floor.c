/* The physical floor of recording: receive N RTP/TCP sockets on a timer and write the bytes to preallocated files.
 *
 * Nothing is parsed, so nothing can be done for less with these system calls. Called by tools/bench/floor.py.
 *   gcc -O2 -shared -fPIC -o libfloor.so floor.c
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

struct stream {
  uint8_t *chunk;
  size_t filled;
  off_t offset;
};

/* Drains every socket each tick_ms for `seconds`; whole chunks go to the files, which are used as rings.
 * Returns bytes received, or -errno of the first failure. */
int64_t floor_run(const int *sockets, const int *files, int n, int tick_ms, double seconds, int64_t file_bytes,
                  int64_t chunk_bytes) {
  struct stream *streams = calloc(n, sizeof *streams);
  int64_t received = 0;
  for (int i = 0; i < n; i++) streams[i].chunk = aligned_alloc(4096, chunk_bytes);
  double next = now_s(), end = next + seconds;
  while (next < end) {
    next += tick_ms * 1e-3;
    double wait = next - now_s();
    if (wait > 0) {
      struct timespec t = {(time_t)wait, (long)((wait - (long)wait) * 1e9)};
      nanosleep(&t, 0);
    }
    for (int i = 0; i < n; i++) {
      struct stream *s = &streams[i];
      for (;;) {
        size_t room = chunk_bytes - s->filled;
        ssize_t got = recv(sockets[i], s->chunk + s->filled, room, MSG_DONTWAIT);
        if (got == 0) return -ECONNRESET;
        if (got < 0) {
          if (errno == EAGAIN) break;
          return -errno;
        }
        received += got;
        s->filled += got;
        if (s->filled == (size_t)chunk_bytes) {
          if (pwrite(files[i], s->chunk, chunk_bytes, s->offset) != chunk_bytes) return -errno;
          s->filled = 0;
          s->offset += chunk_bytes;
          if (s->offset + chunk_bytes > file_bytes) s->offset = 0;
        }
        if ((size_t)got < room) break;
      }
    }
  }
  for (int i = 0; i < n; i++) free(streams[i].chunk);
  free(streams);
  return received;
}
