/* RTP packets: sequence numbers, losses, restarts, and the interleaved frames they come in.

   nvr/rtsp/rtp.py (PyWalker) says what everything means; what is in the packets is for picture.c. */

#include "fast.h"

#define SLACK_BYTES 16
#define CONTROL_LIMIT 256
#define LATE_LIMIT 100
#define GAP_LIMIT 3000

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
walker_datagrams(Walker *self, PyObject *args)
{
    PyObject *buffer, *sizes;
    Py_ssize_t start, slot, first;
    long seq;
    long long arrival_ns;
    if (!PyArg_ParseTuple(args, "OnnO!nlL:datagrams", &buffer, &start, &slot, &PyList_Type, &sizes, &first, &seq, &arrival_ns))
        return NULL;
    Region *region = region_of(buffer, PyBUF_WRITABLE);
    if (region == NULL)
        return NULL;
    Py_ssize_t room = region->view.len - SLACK_BYTES, count = PyList_GET_SIZE(sizes) - first;
    if (first < 0 || slot < 1 || start < 0 || start > room || (count > 0 && count > (room - start) / slot)) {
        PyErr_Format(PyExc_ValueError, "%zd slots of %zd bytes from %zd in %zd, of which %d must stay free", count, slot, start,
                     region->view.len, SLACK_BYTES);
        region_release(region);
        return NULL;
    }
    Py_ssize_t taken = 0;
    int failed = 0;
    while (!failed && taken < count && first + taken < PyList_GET_SIZE(sizes)) { /* giving memory back may run other code */
        long size = PyLong_AsLong(PyList_GET_ITEM(sizes, first + taken));
        if (size == -1 && PyErr_Occurred()) {
            region_release(region);
            return NULL;
        }
        uint8_t *at = (uint8_t *)region->view.buf + start + taken * slot;
        if (size < 12 || size > slot || (long)be16(at + 2) != seq)
            break;
        failed = walker_packet_at(self, region, at, at + size, arrival_ns);
        seq = (seq + 1) & 0xFFFF;
        taken++;
    }
    if (failed)
        walker_spoil(self); /* out of memory: what was put together is not whole */
    region_release(region);
    return failed ? NULL : PyLong_FromSsize_t(taken);
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
    {"datagrams", (PyCFunction)walker_datagrams, METH_VARARGS, "Take the RTP packets of a row of slots while they are in order; how many."},
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

PyTypeObject WalkerType = {
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
