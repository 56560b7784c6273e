/* The module nvr._fast: what Python sees of the files beside this one.

   docs/decisions/0011-c-where-it-pays.md says why there is C at all. */

#include "fast.h"

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
    crc_choose();
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
