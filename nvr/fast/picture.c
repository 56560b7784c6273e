/* NAL units to pictures: the half of the walker that puts together what the packets brought.

   nvr/rtsp/rtp.py (PyWalker) says what everything means. */

#include "fast.h"

#define PICTURE_LIMIT_BYTES (16 << 20)
#define PIECES_LIMIT 65536
#define SETS_LIMIT 64
#define SET_LIMIT_BYTES 4096
#define JOIN_LIMIT 32
#define TRUST_AFTER 8
enum { NAL_IDR = 5, NAL_SPS = 7, NAL_PPS = 8, NAL_FILLER = 12, NAL_SPS_EXT = 13, NAL_SUBSET_SPS = 15 };
enum { STAP_A = 24, STAP_B = 25, FU_A = 28, FU_B = 29 };

static int
is_payload(int kind)
{
    return kind != NAL_SPS && kind != NAL_PPS && kind != NAL_FILLER && kind != NAL_SPS_EXT && kind != NAL_SUBSET_SPS;
}

void
walker_spoil(Walker *self)
{
    self->open = self->is_damaged = 1;
    self->size = 0;
    self->middle = -1;
    pieces_clear(&self->views);
}

void
walker_drop(Walker *self)
{
    self->size = 0;
    self->open = self->has_slice = self->is_idr = self->is_damaged = 0;
    self->marks = 0;
    self->last_marked = 0;
    self->middle = -1;
    pieces_clear(&self->views);
}

void
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

int
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

int
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

int
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
