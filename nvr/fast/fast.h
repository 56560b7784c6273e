/* The hot loops of the recorder in C: gathered bytes, and RTP packets to pictures; and the CRC of both.

   Optional: nvr/gather.py (PyGather) and nvr/rtsp/rtp.py (PyWalker) are the same in Python, say what everything means,
   and must be changed together with these files; tests/test_fast.py compares the two byte by byte. Here is only what differs:
   memory. A Region is one exported buffer with a count of the pieces that lie in it; a Piece is a stretch of a
   region; a Gather is an array of pieces. No Python object is made for a packet, a handful for a picture.

   Everything runs with the GIL held but pwritev() and long CRCs. Nothing of ours can be part of a reference cycle: a gather holds
   buffers, and a walker gathers and bytes. */

#ifndef NVR_FAST_H
#define NVR_FAST_H

#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <Python.h>
#include <structmember.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Nothing is seen from outside but PyInit__fast. */
#pragma GCC visibility push(hidden)

/* -- crc.c */

extern uint32_t (*crc_update)(uint32_t, const uint8_t *, size_t);
extern const char *crc_kind;
void crc_choose(void); /* once, before anything else */
PyObject *crc32c(PyObject *module, PyObject *args);

/* -- pieces.c */

typedef struct {
    Py_ssize_t pieces; /* that lie in it, plus one while it is being walked */
    Py_buffer view;
} Region;

typedef struct {
    uint8_t *base;
    Py_ssize_t size;
    Region *region;
} Piece;

typedef struct {
    Piece *at;
    Py_ssize_t count, room;
} Pieces;

Region *region_of(PyObject *owner, int flags);
int pieces_reserve(Pieces *pieces, Py_ssize_t more);
void pieces_clear(Pieces *pieces);

static inline void
region_release(Region *region)
{
    if (--region->pieces == 0) {
        PyBuffer_Release(&region->view);
        PyMem_Free(region);
    }
}

static inline int
pieces_add(Pieces *pieces, Region *region, uint8_t *base, Py_ssize_t size)
{
    if (pieces->count == pieces->room && pieces_reserve(pieces, 1) < 0)
        return -1;
    Piece *piece = &pieces->at[pieces->count++];
    piece->base = base;
    piece->size = size;
    piece->region = region;
    region->pieces++;
    return 0;
}

/* -- gather.c */

typedef struct {
    PyObject_HEAD
    Pieces pieces;
    Py_ssize_t first; /* pieces before it are written and gone */
    Py_ssize_t size_bytes;
    int busy; /* somebody reads the pieces while other code may run */
} Gather;

extern PyTypeObject GatherType;

/* -- picture.c and walker.c */

typedef struct {
    PyObject_HEAD
    int payload_type, video, control; /* channels, -1 for none */
    int joins;
    /* counters, all visible */
    long long packets, lost, late, jumps, restarts, malformed, refused, unended, strays, damaged;
    long long other_payload, other_packets, other_bytes, ssrc, base_seq, base_packets, base_lost;
    /* sequence */
    long want, bad_seq;
    /* the picture being put together */
    Pieces views;
    Py_ssize_t size;
    long long ts, closed_ts, arrival_ns, lost_before;
    char open, has_slice, is_idr, is_damaged, check_first, restarted, trusts_marker, may_trust, last_marked;
    long marks, clean;
    PyObject *sets; /* list of bytes */
    /* the fragmented NAL unit being put together; its first piece is views.at[nal_piece] */
    int middle, nal_header;
    Py_ssize_t nal_piece, nal_size;
    PyObject *done;            /* list of pictures */
    PyObject *control_packets; /* list of (channel, bytes) */
} Walker;

extern PyTypeObject WalkerType;

void walker_spoil(Walker *self);
void walker_drop(Walker *self);
void walker_limit(Walker *self);
int walker_close(Walker *self, int by_marker);
int walker_marker(Walker *self);
int walker_payload(Walker *self, Region *region, uint8_t *spent, uint8_t *at, uint8_t *end);

static inline unsigned
be16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static inline uint32_t
be32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void
put32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

/* -- datagrams.c */

PyObject *receive_datagrams(PyObject *module, PyObject *args);

#pragma GCC visibility pop

#endif
