/* Gather: bytes that lie in several places, as an array of pieces.

   nvr/gather.py (PyGather) says what everything means. A gather that is being written refuses to be changed. */

#include "fast.h"

#define IOV_LIMIT 1024 /* Linux: one pwritev takes at most so many buffers */

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

PyTypeObject GatherType = {
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
