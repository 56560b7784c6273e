/* Regions and pieces: which memory is in use, without a Python object for each packet.

   A Region is one exported buffer with a count of the pieces that lie in it; a Piece is a stretch of a region. */

#include "fast.h"

/* A region of all of `owner`, with one piece counted; NULL with an exception. */
Region *
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

int
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

/* Releasing a buffer may run anything, so the array is out of sight before it happens. */
void
pieces_clear(Pieces *pieces)
{
    Pieces old = *pieces;
    pieces->at = NULL;
    pieces->count = pieces->room = 0;
    for (Py_ssize_t n = 0; n < old.count; n++)
        region_release(old.at[n].region);
    PyMem_Free(old.at);
}
