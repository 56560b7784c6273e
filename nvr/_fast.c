/* The two hot loops of the recorder in C: gathered bytes, and RTP packets to pictures; and the CRC of both.

   Optional: nvr/gather.py (PyGather) and nvr/rtsp/rtp.py (PyWalker) are the same in Python, say what everything means,
   and must be changed together with this file; tests/test_fast.py compares the two byte by byte. Here is only what differs:
   memory. A Region is one exported buffer with a count of the pieces that lie in it; a Piece is a stretch of a
   region; a Gather is an array of pieces. No Python object is made for a packet, a handful for a picture.

   Everything runs with the GIL held but pwritev(); a gather that is being written refuses to be changed. Nothing of ours can
   be part of a reference cycle: a gather holds buffers, and a walker gathers and bytes. */

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

/* -- CRC-32C (RFC 3720, B.4) ------------------------------------------------------------------------ */

#define POLYNOMIAL 0x82F63B78u
#define LANE_BYTES 448 /* three lanes at once hide the latency of the instruction; an RTP packet is about 1400 bytes */

static uint32_t crc_table[8][256];
static uint32_t lane_table[4][256]; /* what LANE_BYTES zero bytes do to each byte of a CRC */

static void
crc_make_tables(void)
{
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t crc = n;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        crc_table[0][n] = crc;
    }
    for (uint32_t n = 0; n < 256; n++)
        for (int k = 1; k < 8; k++)
            crc_table[k][n] = crc_table[k - 1][n] >> 8 ^ crc_table[0][crc_table[k - 1][n] & 255];
    for (int byte = 0; byte < 4; byte++)
        for (uint32_t n = 0; n < 256; n++) {
            uint32_t crc = n << 8 * byte;
            for (int zero = 0; zero < LANE_BYTES; zero++)
                crc = crc >> 8 ^ crc_table[0][crc & 255];
            lane_table[byte][n] = crc;
        }
}

static inline uint32_t
load32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t
crc_by_table(uint32_t crc, const uint8_t *at, size_t size)
{
    for (; size >= 8; at += 8, size -= 8) {
        uint32_t low = crc ^ load32(at), high = load32(at + 4);
        crc = crc_table[7][low & 255] ^ crc_table[6][low >> 8 & 255] ^ crc_table[5][low >> 16 & 255] ^ crc_table[4][low >> 24]
            ^ crc_table[3][high & 255] ^ crc_table[2][high >> 8 & 255] ^ crc_table[1][high >> 16 & 255] ^ crc_table[0][high >> 24];
    }
    for (; size; at++, size--)
        crc = crc >> 8 ^ crc_table[0][(crc ^ *at) & 255];
    return crc;
}

static inline uint32_t
lane_shift(uint32_t crc)
{
    return lane_table[0][crc & 255] ^ lane_table[1][crc >> 8 & 255] ^ lane_table[2][crc >> 16 & 255] ^ lane_table[3][crc >> 24];
}

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HAVE_CRC_INSTRUCTION "sse4.2"
#define CRC_TARGET __attribute__((target("sse4.2")))
#define CRC64(crc, at) ((uint32_t)_mm_crc32_u64((crc), load64(at)))
#define CRC8(crc, at) (_mm_crc32_u8((crc), *(at)))
static int has_crc_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#define HAVE_CRC_INSTRUCTION "armv8"
#if defined(__clang__)
#define CRC_TARGET __attribute__((target("crc")))
#else
#define CRC_TARGET __attribute__((target("+crc")))
#endif
#define CRC64(crc, at) (__crc32cd((crc), load64(at)))
#define CRC8(crc, at) (__crc32cb((crc), *(at)))
static int has_crc_instruction(void) { return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0; }
#endif

#ifdef HAVE_CRC_INSTRUCTION
static inline uint64_t
load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, 8); /* both machines are little-endian here */
    return value;
}

CRC_TARGET static uint32_t
crc_by_instruction(uint32_t crc, const uint8_t *at, size_t size)
{
    for (; size >= 3 * LANE_BYTES; at += 3 * LANE_BYTES, size -= 3 * LANE_BYTES) {
        uint32_t one = crc, two = 0, three = 0;
        for (size_t k = 0; k < LANE_BYTES; k += 8) {
            one = CRC64(one, at + k);
            two = CRC64(two, at + LANE_BYTES + k);
            three = CRC64(three, at + 2 * LANE_BYTES + k);
        }
        crc = lane_shift(lane_shift(one) ^ two) ^ three;
    }
    for (; size >= 8; at += 8, size -= 8)
        crc = CRC64(crc, at);
    for (; size; at++, size--)
        crc = CRC8(crc, at);
    return crc;
}
#endif

static uint32_t (*crc_update)(uint32_t, const uint8_t *, size_t) = crc_by_table;
static const char *crc_kind = "table";

/* (data, value=0): of all bytes, continued from `value`; see nvr/crc.py. */
static PyObject *
crc32c(PyObject *module, PyObject *args)
{
    Py_buffer data;
    unsigned long value = 0;
    if (!PyArg_ParseTuple(args, "y*|k:crc32c", &data, &value))
        return NULL;
    uint32_t crc = ~(uint32_t)value;
    if (data.len < 1 << 16)
        crc = crc_update(crc, data.buf, (size_t)data.len);
    else {
        Py_BEGIN_ALLOW_THREADS
        crc = crc_update(crc, data.buf, (size_t)data.len);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&data);
    return PyLong_FromUnsignedLong((uint32_t)~crc);
}

/* -- regions and pieces ------------------------------------------------------------------------------- */

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

/* A region of all of `owner`, with one piece counted; NULL with an exception. */
static Region *
region_of(PyObject *owner, int flags)
{
    Region *region = PyMem_Malloc(sizeof(Region));
    if (region == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    if (PyObject_GetBuffer(owner, &region->view, flags) < 0) {
        PyMem_Free(region);
        return NULL;
    }
    if (region->view.itemsize != 1) {
        PyBuffer_Release(&region->view);
        PyMem_Free(region);
        PyErr_SetString(PyExc_TypeError, "bytes are wanted, not larger items");
        return NULL;
    }
    region->pieces = 1;
    return region;
}

static void
region_release(Region *region)
{
    if (--region->pieces == 0) {
        PyBuffer_Release(&region->view);
        PyMem_Free(region);
    }
}

static int
pieces_reserve(Pieces *pieces, Py_ssize_t more)
{
    if (pieces->room - pieces->count >= more)
        return 0;
    Py_ssize_t room = pieces->room ? pieces->room : 16;
    while (room - pieces->count < more)
        room *= 2;
    Piece *at = PyMem_Realloc(pieces->at, (size_t)room * sizeof(Piece));
    if (at == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    pieces->at = at;
    pieces->room = room;
    return 0;
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

/* Releasing a buffer may run anything, so the array is out of sight before it happens. */
static void
pieces_clear(Pieces *pieces)
{
    Pieces old = *pieces;
    pieces->at = NULL;
    pieces->count = pieces->room = 0;
    for (Py_ssize_t n = 0; n < old.count; n++)
        region_release(old.at[n].region);
    PyMem_Free(old.at);
}

/* -- Gather: see PyGather -------------------------------------------------------------------------------- */

#define IOV_LIMIT 1024 /* Linux: one pwritev takes at most so many buffers */

typedef struct {
    PyObject_HEAD
    Pieces pieces;
    Py_ssize_t first; /* pieces before it are written and gone */
    Py_ssize_t size_bytes;
    int busy; /* somebody reads the pieces while other code may run */
} Gather;

static PyTypeObject GatherType;

static int
gather_can_change(Gather *self)
{
    if (self->busy)
        PyErr_SetString(PyExc_RuntimeError, "the gather is in use");
    return !self->busy;
}

static PyObject *
gather_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Gather", names))
        return NULL;
    return type->tp_alloc(type, 0); /* zeroed */
}

static void
gather_drop_first(Gather *self)
{
    /* pieces before `first` are released already */
    Py_ssize_t left = self->pieces.count - self->first;
    if (left)
        memmove(self->pieces.at, self->pieces.at + self->first, (size_t)left * sizeof(Piece));
    self->pieces.count = left;
    self->first = 0;
}

static void
gather_dealloc(Gather *self)
{
    if (self->first)
        gather_drop_first(self);
    pieces_clear(&self->pieces);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static int
gather_add_view(Gather *self, PyObject *view)
{
    Region *region = region_of(view, PyBUF_SIMPLE);
    if (region == NULL)
        return -1;
    int failed = 0;
    if (!gather_can_change(self)) /* taking the buffer may have run other code */
        failed = -1;
    else if (region->view.len) {
        failed = pieces_add(&self->pieces, region, region->view.buf, region->view.len);
        if (!failed)
            self->size_bytes += region->view.len;
    }
    region_release(region);
    return failed;
}

static PyObject *
gather_append(Gather *self, PyObject *view)
{
    if (gather_add_view(self, view) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
gather_extend(Gather *self, PyObject *other)
{
    if (Py_TYPE(other) == &GatherType) {
        Gather *from = (Gather *)other;
        Py_ssize_t count = from->pieces.count - from->first;
        if (!gather_can_change(self) || pieces_reserve(&self->pieces, count) < 0)
            return NULL;
        if (count == 0)
            Py_RETURN_NONE;
        Piece *to = self->pieces.at + self->pieces.count;
        for (Py_ssize_t n = 0; n < count; n++) {
            to[n] = from->pieces.at[from->first + n];
            to[n].region->pieces++;
        }
        self->pieces.count += count;
        self->size_bytes += from->size_bytes;
        Py_RETURN_NONE;
    }
    PyObject *views = PyObject_CallMethod(other, "views", NULL);
    PyObject *list = views ? PySequence_List(views) : NULL;
    Py_XDECREF(views);
    if (list == NULL)
        return NULL;
    for (Py_ssize_t n = 0; n < PyList_GET_SIZE(list); n++)
        if (gather_add_view(self, PyList_GET_ITEM(list, n)) < 0) {
            Py_DECREF(list);
            return NULL;
        }
    Py_DECREF(list);
    Py_RETURN_NONE;
}

/* A memoryview of one piece, which keeps its owner alive by itself. */
static PyObject *
piece_view(const Piece *piece)
{
    PyObject *whole = PyMemoryView_FromObject(piece->region->view.obj);
    if (whole == NULL)
        return NULL;
    Py_ssize_t offset = piece->base - (uint8_t *)piece->region->view.buf;
    PyObject *view = PySequence_GetSlice(whole, offset, offset + piece->size);
    Py_DECREF(whole);
    return view;
}

static PyObject *
gather_views(Gather *self, PyObject *nothing)
{
    Py_ssize_t count = self->pieces.count - self->first;
    PyObject *views = PyTuple_New(count);
    if (views == NULL)
        return NULL;
    self->busy++;
    for (Py_ssize_t n = 0; n < count; n++) {
        PyObject *view = piece_view(&self->pieces.at[self->first + n]);
        if (view == NULL) {
            Py_CLEAR(views);
            break;
        }
        PyTuple_SET_ITEM(views, n, view);
    }
    self->busy--;
    return views;
}

static PyObject *
gather_crc32c(Gather *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"value", NULL};
    unsigned long value = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|k:crc32c", names, &value))
        return NULL;
    uint32_t crc = ~(uint32_t)value;
    for (Py_ssize_t n = self->first; n < self->pieces.count; n++)
        crc = crc_update(crc, self->pieces.at[n].base, (size_t)self->pieces.at[n].size);
    return PyLong_FromUnsignedLong((uint32_t)~crc);
}

static PyObject *
gather_update(Gather *self, PyObject *hasher)
{
    PyObject *update = PyObject_GetAttrString(hasher, "update");
    if (update == NULL)
        return NULL;
    PyObject *result = NULL;
    self->busy++;
    for (Py_ssize_t n = self->first; n < self->pieces.count; n++) {
        PyObject *view = piece_view(&self->pieces.at[n]);
        result = view ? PyObject_CallOneArg(update, view) : NULL;
        Py_XDECREF(view);
        if (result == NULL)
            goto done;
        Py_CLEAR(result);
    }
    result = Py_NewRef(Py_None);
done:
    self->busy--;
    Py_DECREF(update);
    return result;
}

static void
gather_drop(Gather *self, Py_ssize_t size)
{
    self->size_bytes -= size;
    while (self->first < self->pieces.count && size >= self->pieces.at[self->first].size) {
        size -= self->pieces.at[self->first].size;
        region_release(self->pieces.at[self->first++].region);
    }
    if (size) {
        self->pieces.at[self->first].base += size;
        self->pieces.at[self->first].size -= size;
    }
    if (self->first == self->pieces.count || self->first > 4096)
        gather_drop_first(self);
}

static PyObject *
gather_write(Gather *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fd", "offset", "size_bytes", NULL};
    int fd;
    long long offset;
    Py_ssize_t size;
    struct iovec batch[IOV_LIMIT];
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "iLn:write", names, &fd, &offset, &size) || !gather_can_change(self))
        return NULL;
    if (size > self->size_bytes)
        return PyErr_Format(PyExc_ValueError, "%zd bytes of %zd", size, self->size_bytes);
    while (size > 0) {
        int count = 0;
        Py_ssize_t taken = 0;
        for (Py_ssize_t n = self->first; n < self->pieces.count && count < IOV_LIMIT && taken < size; n++, count++) {
            Py_ssize_t part = self->pieces.at[n].size;
            if (part > size - taken)
                part = size - taken;
            batch[count].iov_base = self->pieces.at[n].base;
            batch[count].iov_len = (size_t)part;
            taken += part;
        }
        ssize_t written;
        self->busy++;
        Py_BEGIN_ALLOW_THREADS
        written = pwritev(fd, batch, count, (off_t)offset);
        Py_END_ALLOW_THREADS
        self->busy--;
        if (written < 0 && errno == EINTR) {
            if (PyErr_CheckSignals() < 0 || !gather_can_change(self))
                return NULL;
            if (size > self->size_bytes) /* a signal handler wrote it */
                return PyErr_Format(PyExc_RuntimeError, "the gather was changed by a signal handler");
            continue;
        }
        if (written == 0)
            errno = EIO; /* a file never takes nothing */
        if (written <= 0)
            return PyErr_SetFromErrno(PyExc_OSError);
        offset += written;
        size -= written;
        self->busy++; /* giving memory back may run other code */
        gather_drop(self, written);
        self->busy--;
    }
    Py_RETURN_NONE;
}

static PyObject *
gather_split(Gather *self, PyObject *argument)
{
    Py_ssize_t size = PyLong_AsSsize_t(argument);
    if ((size == -1 && PyErr_Occurred()) || !gather_can_change(self))
        return NULL;
    if (size < 0 || size > self->size_bytes)
        return PyErr_Format(PyExc_ValueError, "%zd bytes of %zd", size, self->size_bytes);
    Gather *head = (Gather *)GatherType.tp_alloc(&GatherType, 0);
    if (head == NULL)
        return NULL;
    Py_ssize_t left = size, last = self->first;
    while (left && left >= self->pieces.at[last].size)
        left -= self->pieces.at[last++].size;
    Py_ssize_t whole = last - self->first;
    if (pieces_reserve(&head->pieces, whole + 1) < 0) {
        Py_DECREF(head);
        return NULL;
    }
    if (whole) /* they move, and with them what is counted in their regions */
        memcpy(head->pieces.at, self->pieces.at + self->first, (size_t)whole * sizeof(Piece));
    head->pieces.count = whole;
    self->first = last;
    if (left) {
        Piece *cut = &self->pieces.at[last];
        if (pieces_add(&head->pieces, cut->region, cut->base, left) < 0) { /* never: there is room */
            Py_DECREF(head);
            return NULL;
        }
        cut->base += left;
        cut->size -= left;
    }
    head->size_bytes = size;
    self->size_bytes -= size;
    if (self->first == self->pieces.count || self->first > 4096)
        gather_drop_first(self);
    return (PyObject *)head;
}

static PyMethodDef gather_methods[] = {
    {"append", (PyCFunction)gather_append, METH_O, "Add bytes at the end."},
    {"extend", (PyCFunction)gather_extend, METH_O, "Add all of another gather at the end."},
    {"split", (PyCFunction)gather_split, METH_O, "Take the first bytes away, as a gather of their own."},
    {"views", (PyCFunction)gather_views, METH_NOARGS, "The pieces themselves."},
    {"crc32c", (PyCFunction)(void (*)(void))gather_crc32c, METH_VARARGS | METH_KEYWORDS, "CRC-32C of all bytes."},
    {"update", (PyCFunction)gather_update, METH_O, "Feed all bytes to a hashlib-like object."},
    {"write", (PyCFunction)(void (*)(void))gather_write, METH_VARARGS | METH_KEYWORDS, "Write the first bytes and drop them."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef gather_members[] = {
    {"size_bytes", T_PYSSIZET, offsetof(Gather, size_bytes), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject GatherType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "nvr._fast.Gather",
    .tp_doc = "Bytes that lie in several places; see nvr.gather.PyGather.",
    .tp_basicsize = sizeof(Gather),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = gather_new,
    .tp_dealloc = (destructor)gather_dealloc,
    .tp_methods = gather_methods,
    .tp_members = gather_members,
};

/* -- Walker: see PyWalker ---------------------------------------------------------------------------------- */

#define SLACK_BYTES 16
#define PICTURE_LIMIT_BYTES (16 << 20)
#define PIECES_LIMIT 65536
#define SETS_LIMIT 64
#define SET_LIMIT_BYTES 4096
#define CONTROL_LIMIT 256
#define JOIN_LIMIT 32
#define TRUST_AFTER 8
#define LATE_LIMIT 100
#define GAP_LIMIT 3000

enum { NAL_IDR = 5, NAL_SPS = 7, NAL_PPS = 8, NAL_FILLER = 12, NAL_SPS_EXT = 13, NAL_SUBSET_SPS = 15 };
enum { STAP_A = 24, STAP_B = 25, FU_A = 28, FU_B = 29 };

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

static int
is_payload(int kind)
{
    return kind != NAL_SPS && kind != NAL_PPS && kind != NAL_FILLER && kind != NAL_SPS_EXT && kind != NAL_SUBSET_SPS;
}

static void
walker_spoil(Walker *self)
{
    self->open = self->is_damaged = 1;
    self->size = 0;
    self->middle = -1;
    pieces_clear(&self->views);
}

static void
walker_drop(Walker *self)
{
    self->size = 0;
    self->open = self->has_slice = self->is_idr = self->is_damaged = 0;
    self->marks = 0;
    self->last_marked = 0;
    self->middle = -1;
    pieces_clear(&self->views);
}

static void
walker_limit(Walker *self)
{
    if (self->size > PICTURE_LIMIT_BYTES || self->views.count > PIECES_LIMIT)
        walker_spoil(self);
}

/* Takes `nal` (NULL: too long); -1 with an exception. */
static int
walker_parameter_set(Walker *self, int kind, PyObject *nal)
{
    int failed = 0;
    if (kind == NAL_SPS || kind == NAL_PPS) {
        if (nal == NULL || PyBytes_GET_SIZE(nal) == 0 || PyList_GET_SIZE(self->sets) >= SETS_LIMIT)
            self->malformed++;
        else
            failed = PyList_Append(self->sets, nal);
    }
    Py_XDECREF(nal);
    return failed;
}

static void
walker_begin(Walker *self, int kind, int slice_byte)
{
    self->open = 1;
    if (kind < 1 || kind > 5)
        return;
    if (kind == NAL_IDR)
        self->is_idr = 1;
    if (self->has_slice)
        return;
    self->has_slice = 1;
    if (kind != 3 && kind != 4 && !(slice_byte & 0x80)) {
        if (self->check_first)
            walker_spoil(self);
        else if (self->closed_ts == self->ts) {
            self->strays++;
            self->trusts_marker = self->may_trust = 0;
            walker_spoil(self);
        }
    }
    self->check_first = 0;
}

static int
walker_end_fragments(Walker *self, int unended)
{
    if (self->middle < 0)
        return 0;
    self->unended += unended;
    self->middle = -1;
    Py_ssize_t size = self->size - self->nal_size - 4;
    int kind = self->nal_header & 31;
    uint8_t *start = self->views.at[self->nal_piece].base;
    put32(start, (uint32_t)size);
    start[4] = (uint8_t)self->nal_header;
    if (is_payload(kind))
        return 0;
    PyObject *nal = NULL;
    if (size <= SET_LIMIT_BYTES) {
        nal = PyBytes_FromStringAndSize(NULL, size);
        if (nal == NULL)
            return -1;
        uint8_t *to = (uint8_t *)PyBytes_AS_STRING(nal);
        Py_ssize_t skip = 4; /* the length */
        for (Py_ssize_t n = self->nal_piece; n < self->views.count; n++) {
            memcpy(to, self->views.at[n].base + skip, (size_t)(self->views.at[n].size - skip));
            to += self->views.at[n].size - skip;
            skip = 0;
        }
    }
    while (self->views.count > self->nal_piece)
        region_release(self->views.at[--self->views.count].region);
    self->size = self->nal_size;
    return walker_parameter_set(self, kind, nal);
}

/* Put the picture behind the one before it, of which nothing else is to be said either: 1 when done, 0 when not, -1 failed. */
static int
walker_join(Walker *self)
{
    Py_ssize_t count = PyList_GET_SIZE(self->done);
    PyObject *joined = count ? PyList_GET_ITEM(self->done, count - 1) : NULL;
    if (joined == NULL || PyTuple_GET_SIZE(joined) != 4)
        return 0;
    Gather *gather = (Gather *)PyTuple_GET_ITEM(joined, 0);
    PyObject *stamps = PyTuple_GET_ITEM(joined, 1), *sizes = PyTuple_GET_ITEM(joined, 2);
    if (PyList_GET_SIZE(stamps) >= JOIN_LIMIT || PyLong_AsLongLong(PyTuple_GET_ITEM(joined, 3)) != self->arrival_ns)
        return 0;
    PyObject *stamp = PyLong_FromLongLong(self->ts), *size = PyLong_FromSsize_t(self->size);
    int failed = stamp == NULL || size == NULL || pieces_reserve(&gather->pieces, self->views.count) < 0
        || PyList_Append(stamps, stamp) < 0;
    if (!failed && PyList_Append(sizes, size) < 0) {
        failed = 1;
        PyList_SetSlice(stamps, PyList_GET_SIZE(sizes), PyList_GET_SIZE(stamps), NULL);
    }
    Py_XDECREF(stamp);
    Py_XDECREF(size);
    if (failed)
        return -1;
    memcpy(gather->pieces.at + gather->pieces.count, self->views.at, (size_t)self->views.count * sizeof(Piece));
    gather->pieces.count += self->views.count;
    gather->size_bytes += self->size;
    self->views.count = 0; /* they moved */
    self->size = 0;
    return 1;
}

/* What take() gives for the picture, without its payload's pieces being counted twice; NULL with an exception. */
static PyObject *
walker_picture(Walker *self)
{
    int is_plain = !self->is_idr && !self->lost_before && !self->restarted && !PyList_GET_SIZE(self->sets);
    Gather *gather = (Gather *)GatherType.tp_alloc(&GatherType, 0);
    if (gather == NULL)
        return NULL;
    Py_ssize_t size = self->size;
    gather->pieces = self->views;
    gather->size_bytes = size;
    memset(&self->views, 0, sizeof(self->views));
    self->size = 0;
    if (self->joins && is_plain)
        return Py_BuildValue("N[L][n]L", gather, self->ts, size, self->arrival_ns);
    PyObject *sets = PyList_AsTuple(self->sets);
    if (sets == NULL) {
        Py_DECREF(gather);
        return NULL;
    }
    return Py_BuildValue("NLNLNLN", gather, self->ts, PyBool_FromLong(self->is_idr), self->lost_before, sets, self->arrival_ns,
                         PyBool_FromLong(self->restarted));
}

static int
walker_close(Walker *self, int by_marker)
{
    if (walker_end_fragments(self, 1) < 0)
        return -1;
    if (self->is_damaged)
        self->damaged++;
    else if (self->has_slice) {
        int joined = 0;
        if (self->joins && !self->is_idr && !self->lost_before && !self->restarted && !PyList_GET_SIZE(self->sets))
            joined = walker_join(self);
        if (joined == 0) {
            PyObject *picture = walker_picture(self);
            if (picture == NULL || PyList_Append(self->done, picture) < 0)
                joined = -1;
            Py_XDECREF(picture);
        }
        if (joined < 0) {
            walker_drop(self);
            return -1;
        }
        self->lost_before = 0;
        self->restarted = 0;
        if (PyList_GET_SIZE(self->sets) && PyList_SetSlice(self->sets, 0, PyList_GET_SIZE(self->sets), NULL) < 0)
            return -1;
        if (!by_marker) {
            self->clean = self->marks == 1 && self->last_marked ? self->clean + 1 : 0;
            if (self->clean >= TRUST_AFTER && self->may_trust)
                self->trusts_marker = 1;
        }
    }
    self->closed_ts = by_marker ? self->ts : -1;
    self->check_first = 0;
    walker_drop(self);
    return 0;
}

static int
walker_marker(Walker *self)
{
    if (walker_end_fragments(self, 1) < 0)
        return -1;
    if (!(self->has_slice || self->is_damaged))
        return 0;
    if (self->trusts_marker)
        return walker_close(self, 1);
    self->marks++;
    self->last_marked = 1;
    return 0;
}

/* 1 when it was put into the picture, 0 when not, -1 with an exception. */
static int
walker_whole(Walker *self, Region *region, uint8_t *spent, uint8_t *at, uint8_t *end)
{
    int kind = at[0] & 31;
    Py_ssize_t size = end - at;
    walker_begin(self, kind, size > 1 ? at[1] : 0);
    if (!is_payload(kind)) {
        PyObject *nal = NULL;
        if (size <= SET_LIMIT_BYTES && (nal = PyBytes_FromStringAndSize((char *)at, size)) == NULL)
            return -1;
        return walker_parameter_set(self, kind, nal);
    }
    if (self->is_damaged)
        return 0;
    if (at - spent >= 4) {
        put32(at - 4, (uint32_t)size);
        if (pieces_add(&self->views, region, at - 4, size + 4) < 0)
            return -1;
    } else {
        uint8_t length[4];
        put32(length, (uint32_t)size);
        PyObject *bytes = PyBytes_FromStringAndSize((char *)length, 4);
        Region *own = bytes ? region_of(bytes, PyBUF_SIMPLE) : NULL;
        Py_XDECREF(bytes);
        if (own == NULL)
            return -1;
        int failed = pieces_add(&self->views, own, own->view.buf, 4);
        region_release(own);
        if (failed || pieces_add(&self->views, region, at, size) < 0)
            return -1;
    }
    self->size += 4 + size;
    walker_limit(self);
    return 1;
}

static int
walker_fragment(Walker *self, Region *region, uint8_t *at, uint8_t *end)
{
    int indicator = at[0], header = at[1], kind = header & 31;
    if (header & 0x80) {
        if (walker_end_fragments(self, 1) < 0)
            return -1;
        if (kind < 1 || kind > 23) {
            self->malformed++;
            walker_spoil(self);
            return 0;
        }
        walker_begin(self, kind, end - at > 2 ? at[2] : 0);
        if (self->is_damaged)
            return 0;
        self->nal_header = (indicator & 0xE0) | kind;
        self->nal_piece = self->views.count;
        self->nal_size = self->size;
        if (pieces_add(&self->views, region, at - 3, end - at + 3) < 0)
            return -1;
        self->middle = indicator << 8 | kind;
        self->size += end - at + 3;
    } else if (self->middle < 0 || kind != (self->nal_header & 31)) {
        if (!self->is_damaged) {
            self->malformed += !self->check_first;
            walker_spoil(self);
        }
        return 0;
    } else if (end - at > 2) {
        if (pieces_add(&self->views, region, at + 2, end - at - 2) < 0)
            return -1;
        self->size += end - at - 2;
    }
    if (header & 0x40 && walker_end_fragments(self, 0) < 0)
        return -1;
    walker_limit(self);
    return 0;
}

static int
walker_payload(Walker *self, Region *region, uint8_t *spent, uint8_t *at, uint8_t *end)
{
    int kind = at[0] & 31;
    if (kind == FU_A) {
        if (end - at >= 2)
            return walker_fragment(self, region, at, end);
        self->malformed++;
        walker_spoil(self);
    } else if (kind >= 1 && kind <= 23) {
        if (walker_end_fragments(self, 1) < 0)
            return -1;
        return walker_whole(self, region, spent, at, end) < 0 ? -1 : 0;
    } else if (kind == STAP_A) {
        if (walker_end_fragments(self, 1) < 0)
            return -1;
        at++;
        while (end - at >= 2) {
            Py_ssize_t size = be16(at);
            at += 2;
            if (size > end - at) {
                self->malformed++;
                walker_spoil(self);
                break;
            }
            if (size) {
                int put = walker_whole(self, region, spent, at, at + size);
                if (put < 0)
                    return -1;
                if (put)
                    spent = at + size;
            }
            at += size;
        }
    } else if (kind >= STAP_B && kind <= FU_B) {
        self->refused++;
        walker_spoil(self);
    } else
        self->malformed++;
    return 0;
}

static void
walker_rebase(Walker *self, unsigned seq)
{
    self->want = (seq + 1) & 0xFFFF;
    self->bad_seq = -1;
    self->base_seq = seq;
    self->base_packets = self->packets;
    self->base_lost = self->lost;
}

static long
walker_sequence(Walker *self, unsigned seq)
{
    if (self->want < 0) {
        walker_rebase(self, seq);
        return 0;
    }
    long missing = ((long)seq - self->want) & 0xFFFF;
    if (missing >= 0x10000 - LATE_LIMIT) {
        self->late++;
        return -1;
    }
    if (missing > GAP_LIMIT) {
        if ((long)seq != self->bad_seq) {
            self->bad_seq = (seq + 1) & 0xFFFF;
            self->lost++;
            self->lost_before++;
            return -1;
        }
        self->jumps++;
        walker_rebase(self, seq);
        return 1;
    }
    self->want = (seq + 1) & 0xFFFF;
    self->lost += missing;
    self->lost_before += missing;
    return missing;
}

static int
walker_restart(Walker *self)
{
    self->restarts++;
    walker_drop(self);
    self->want = -1;
    self->ts = self->closed_ts = -1;
    self->check_first = 1;
    self->restarted = 1;
    return PyList_SetSlice(self->sets, 0, PyList_GET_SIZE(self->sets), NULL);
}

static int
walker_packet_at(Walker *self, Region *region, uint8_t *at, uint8_t *after, long long arrival_ns)
{
    if (after - at < 12) {
        self->malformed++;
        return 0;
    }
    unsigned flags = be16(at), seq = be16(at + 2);
    long long ts = be32(at + 4), ssrc = be32(at + 8);
    if (flags >> 14 != 2) {
        self->malformed++;
        return 0;
    }
    int is_ours = (int)(flags & 0x7F) == self->payload_type;
    if (ssrc != self->ssrc) {
        if (!is_ours) {
            self->other_payload++;
            return 0;
        }
        if (self->ssrc >= 0 && (long)seq != self->want && walker_restart(self) < 0)
            return -1;
        self->ssrc = ssrc;
    }
    long missing = walker_sequence(self, seq);
    if (missing < 0)
        return 0;
    self->packets++;
    if (missing && self->open)
        walker_spoil(self);
    if (!is_ours) {
        self->other_payload++;
        self->check_first = self->check_first || missing > 0;
        return 0;
    }
    if (ts != self->ts) {
        if (self->open && (self->has_slice || self->is_damaged) && walker_close(self, 0) < 0)
            return -1;
        self->ts = ts;
    }
    self->arrival_ns = arrival_ns;
    if (missing)
        self->check_first = 1;

    Py_ssize_t room = after - at, payload = 12 + 4 * (Py_ssize_t)(flags >> 8 & 15), end = room;
    if (flags & 0x1000 && payload + 4 <= room)
        payload += 4 + 4 * (Py_ssize_t)be16(at + payload + 2);
    if (flags & 0x2000)
        end = after[-1] ? room - after[-1] : -1;
    if (payload > end) {
        self->malformed++;
        walker_spoil(self);
    } else if (payload < end && walker_payload(self, region, at, at + payload, at + end) < 0)
        return -1;
    if (flags & 0x80)
        return walker_marker(self);
    if (self->has_slice)
        self->last_marked = 0;
    return 0;
}

static int
walker_take_control_packet(Walker *self, int channel, const uint8_t *at, Py_ssize_t size)
{
    if (PyList_GET_SIZE(self->control_packets) >= CONTROL_LIMIT)
        return 0;
    PyObject *packet = Py_BuildValue("iy#", channel, (const char *)at, size);
    int failed = packet ? PyList_Append(self->control_packets, packet) : -1;
    Py_XDECREF(packet);
    return failed;
}

/* The region of `buffer` when start and end are good; NULL with an exception. */
static Region *
walker_region(PyObject *buffer, Py_ssize_t start, Py_ssize_t end)
{
    Region *region = region_of(buffer, PyBUF_WRITABLE);
    if (region == NULL)
        return NULL;
    Py_ssize_t size = region->view.len;
    if (start < 0 || start > end || end > size - SLACK_BYTES) {
        region_release(region);
        PyErr_Format(PyExc_ValueError, "bytes %zd to %zd of %zd, of which %d must stay free", start, end, size, SLACK_BYTES);
        return NULL;
    }
    return region;
}

static PyObject *
walker_walk(Walker *self, PyObject *args)
{
    PyObject *buffer;
    Py_ssize_t start, end;
    long long arrival_ns;
    if (!PyArg_ParseTuple(args, "OnnL:walk", &buffer, &start, &end, &arrival_ns))
        return NULL;
    Region *region = walker_region(buffer, start, end);
    if (region == NULL)
        return NULL;
    uint8_t *base = region->view.buf;
    Py_ssize_t at = start;
    unsigned plain = 0x8000u | (unsigned)self->payload_type;
    int failed = 0;
    while (!failed && end - at >= 4) {
        uint8_t *head = base + at;
        Py_ssize_t length = be16(head + 2), after = at + 4 + length;
        if (head[0] != 0x24 || after > end)
            break;
        if (head[1] == self->video) { /* never equal when it is -1 */
            /* Nine of ten packets are the middle of a fragmented slice. */
            if (length > 14 && (int)be16(head + 16) == self->middle && (long)be16(head + 6) == self->want
                && be32(head + 8) == self->ts && be32(head + 12) == self->ssrc && be16(head + 4) == plain) {
                failed = pieces_add(&self->views, region, head + 18, length - 14);
                if (!failed)
                    self->size += length - 14;
                self->want = (self->want + 1) & 0xFFFF;
                self->packets++;
            } else
                failed = walker_packet_at(self, region, head + 4, base + after, arrival_ns);
        } else {
            self->other_packets++;
            self->other_bytes += length;
            if (head[1] == self->control)
                failed = walker_take_control_packet(self, head[1], head + 4, length);
        }
        at = after;
    }
    walker_limit(self);
    if (failed)
        walker_spoil(self); /* out of memory: what was put together is not whole */
    region_release(region);
    return failed ? NULL : PyLong_FromSsize_t(at);
}

static PyObject *
walker_packet(Walker *self, PyObject *args)
{
    PyObject *buffer;
    Py_ssize_t start, end;
    long long arrival_ns;
    if (!PyArg_ParseTuple(args, "OnnL:packet", &buffer, &start, &end, &arrival_ns))
        return NULL;
    Region *region = walker_region(buffer, start, end);
    if (region == NULL)
        return NULL;
    uint8_t *base = region->view.buf;
    int failed = walker_packet_at(self, region, base + start, base + end, arrival_ns);
    if (failed)
        walker_spoil(self);
    region_release(region);
    if (failed)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
swap_list(PyObject **list)
{
    PyObject *fresh = PyList_New(0), *old = *list;
    if (fresh == NULL)
        return NULL;
    *list = fresh;
    return old;
}

static PyObject *walker_take(Walker *self, PyObject *nothing) { return swap_list(&self->done); }
static PyObject *walker_take_control(Walker *self, PyObject *nothing) { return swap_list(&self->control_packets); }

static PyObject *
walker_flush(Walker *self, PyObject *nothing)
{
    if (self->middle >= 0)
        walker_spoil(self);
    if (self->open && walker_close(self, 0) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static void
walker_dealloc(Walker *self)
{
    pieces_clear(&self->views);
    Py_XDECREF(self->sets);
    Py_XDECREF(self->done);
    Py_XDECREF(self->control_packets);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *
walker_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"payload_type", "channel", "control_channel", "joins", NULL};
    int payload_type, channel = 0, control_channel = 1, joins = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|iip:Walker", names, &payload_type, &channel, &control_channel, &joins))
        return NULL;
    if (payload_type < 0 || payload_type > 127 || channel < -1 || channel > 255 || control_channel < -1 || control_channel > 255)
        return PyErr_Format(PyExc_ValueError, "payload type %d, channels %d and %d", payload_type, channel, control_channel);
    Walker *self = (Walker *)type->tp_alloc(type, 0);
    if (self == NULL)
        return NULL;
    self->payload_type = payload_type;
    self->video = channel;
    self->control = control_channel;
    self->joins = joins;
    self->ssrc = self->base_seq = self->want = self->bad_seq = self->ts = self->closed_ts = self->middle = -1;
    self->check_first = self->may_trust = 1;
    self->sets = PyList_New(0);
    self->done = PyList_New(0);
    self->control_packets = PyList_New(0);
    if (self->sets == NULL || self->done == NULL || self->control_packets == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef walker_methods[] = {
    {"walk", (PyCFunction)walker_walk, METH_VARARGS, "Take all complete interleaved packets of buffer[start:end]."},
    {"packet", (PyCFunction)walker_packet, METH_VARARGS, "Take one RTP packet, buffer[start:end]."},
    {"take", (PyCFunction)walker_take, METH_NOARGS, "The pictures that were completed since the last call."},
    {"take_control", (PyCFunction)walker_take_control, METH_NOARGS, "(channel, packet) of the control channel."},
    {"flush", (PyCFunction)walker_flush, METH_NOARGS, "The stream has ended."},
    {NULL, NULL, 0, NULL},
};

#define COUNTER(name) {#name, T_LONGLONG, offsetof(Walker, name), READONLY, NULL}
static PyMemberDef walker_members[] = {
    COUNTER(packets), COUNTER(lost), COUNTER(late), COUNTER(jumps), COUNTER(restarts), COUNTER(malformed), COUNTER(refused),
    COUNTER(unended), COUNTER(strays), COUNTER(damaged), COUNTER(other_payload), COUNTER(other_packets), COUNTER(other_bytes),
    COUNTER(ssrc), COUNTER(base_seq), COUNTER(base_packets), COUNTER(base_lost),
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject WalkerType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "nvr._fast.Walker",
    .tp_doc = "RTP packets to pictures; see nvr.rtsp.rtp.PyWalker.",
    .tp_basicsize = sizeof(Walker),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = walker_new,
    .tp_dealloc = (destructor)walker_dealloc,
    .tp_methods = walker_methods,
    .tp_members = walker_members,
};

/* -- datagrams ------------------------------------------------------------------------------------------- */

#define DATAGRAMS_MAX 64

/* Whether a datagram came from one of `hosts`, packed addresses. */
static int
is_from(const struct sockaddr_storage *from, PyObject *hosts)
{
    const char *address = NULL;
    Py_ssize_t size = 0;
    if (from->ss_family == AF_INET) {
        address = (const char *)&((const struct sockaddr_in *)from)->sin_addr;
        size = 4;
    } else if (from->ss_family == AF_INET6) {
        address = (const char *)&((const struct sockaddr_in6 *)from)->sin6_addr;
        size = 16;
    }
    for (Py_ssize_t n = 0; n < PyTuple_GET_SIZE(hosts); n++) {
        PyObject *host = PyTuple_GET_ITEM(hosts, n);
        if (PyBytes_Check(host) && PyBytes_GET_SIZE(host) == size && size && memcmp(PyBytes_AS_STRING(host), address, (size_t)size) == 0)
            return 1;
    }
    return 0;
}

static PyObject *
receive_datagrams(PyObject *module, PyObject *args)
{
    int fd;
    PyObject *owner, *hosts;
    Py_ssize_t start, slot;
    struct mmsghdr messages[DATAGRAMS_MAX];
    struct iovec slots[DATAGRAMS_MAX];
    struct sockaddr_storage from[DATAGRAMS_MAX];
    Py_buffer buffer;
    if (!PyArg_ParseTuple(args, "iOnnO!:receive_datagrams", &fd, &owner, &start, &slot, &PyTuple_Type, &hosts))
        return NULL;
    if (PyObject_GetBuffer(owner, &buffer, PyBUF_WRITABLE) < 0)
        return NULL;
    if (start < 0 || slot < 1 || start > buffer.len) {
        PyErr_Format(PyExc_ValueError, "slots of %zd bytes from %zd in %zd", slot, start, buffer.len);
        PyBuffer_Release(&buffer);
        return NULL;
    }
    Py_ssize_t count = (buffer.len - start) / slot;
    if (count > DATAGRAMS_MAX)
        count = DATAGRAMS_MAX;
    memset(messages, 0, sizeof(messages));
    for (Py_ssize_t n = 0; n < count; n++) {
        slots[n].iov_base = (char *)buffer.buf + start + n * slot;
        slots[n].iov_len = (size_t)slot;
        messages[n].msg_hdr.msg_iov = &slots[n];
        messages[n].msg_hdr.msg_iovlen = 1;
        messages[n].msg_hdr.msg_name = &from[n];
        messages[n].msg_hdr.msg_namelen = sizeof(from[n]);
    }
    int got = count ? recvmmsg(fd, messages, (unsigned)count, MSG_DONTWAIT, NULL) : 0;
    int error = errno;
    PyBuffer_Release(&buffer);
    if (got < 0) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *sizes = PyList_New(got);
    for (int n = 0; sizes != NULL && n < got; n++) {
        long size = !is_from(&from[n], hosts) ? -1 : messages[n].msg_hdr.msg_flags & MSG_TRUNC ? -2 : (long)messages[n].msg_len;
        PyObject *number = PyLong_FromLong(size);
        if (number == NULL)
            Py_CLEAR(sizes);
        else
            PyList_SET_ITEM(sizes, n, number);
    }
    return sizes;
}

static PyMethodDef functions[] = {
    {"crc32c", crc32c, METH_VARARGS, "(data, value=0): CRC-32C of all bytes, continued from `value`."},
    {"receive_datagrams", receive_datagrams, METH_VARARGS,
     "(fd, buffer, start, slot_bytes, hosts): receive into slots of `buffer`, without waiting; bytes of each, -1 from nobody of hosts, -2 too large."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "nvr._fast",
    .m_doc = "The hot loops of the recorder; see nvr/gather.py and nvr/rtsp/rtp.py.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__fast(void)
{
    crc_make_tables();
#ifdef HAVE_CRC_INSTRUCTION
    if (has_crc_instruction()) {
        crc_update = crc_by_instruction;
        crc_kind = HAVE_CRC_INSTRUCTION;
    }
#endif
    if (PyType_Ready(&GatherType) < 0 || PyType_Ready(&WalkerType) < 0)
        return NULL;
    PyObject *self = PyModule_Create(&module);
    if (self == NULL)
        return NULL;
    if (PyModule_AddObjectRef(self, "Gather", (PyObject *)&GatherType) < 0
        || PyModule_AddObjectRef(self, "Walker", (PyObject *)&WalkerType) < 0
        || PyModule_AddStringConstant(self, "CRC_KIND", crc_kind) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return self;
}
