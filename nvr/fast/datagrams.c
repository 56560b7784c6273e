/* To receive many datagrams by one system call, which Python's sockets cannot.

   See nvr/source/rtsp.py. */

#include "fast.h"

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

PyObject *
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
