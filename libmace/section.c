/* section.c - which threads are inside a part of the library that cannot be entered twice.
 *
 * A signal handler that calls the library may have interrupted the library in the same thread: then a lock that the call
 * needs may be held by the very call that it would wait for, and so may the lock of the memory allocator. So every part that
 * takes `lock` or `control_lock`, or asks for memory, is a section: its thread says so before, and is refused a second one.
 * The word is the thread's own, written before the lock is taken and cleared after it was given back: there is no
 * instruction between at which a handler would be let in, as there is between the lock and the owner word of a mutex.
 *
 * A section contains waits that are cancellation points. A thread is not cancelled there, because the others need the
 * locks; it is at the next one after it.
 */
#include "mlib.h"

enum { INSIDE_NO_HANDLE = 1 };
static _Thread_local AO_t inside; /* 0: outside; else the handle or INSIDE_NO_HANDLE */
static _Thread_local int cancel_before;

int
mlib_section_enter(const struct mace *db)
{
    int before;
    if (AO_load(&inside) != 0)
        return MACE_INVALID;
    AO_store(&inside, db == NULL ? INSIDE_NO_HANDLE : (AO_t)(uintptr_t)db);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    cancel_before = before;
    return MACE_OK;
}

void
mlib_section_leave(void)
{
    int ignored;
    pthread_setcancelstate(cancel_before, &ignored);
    AO_store(&inside, 0);
}

bool
mlib_section_is(const struct mace *db)
{
    AO_t where = AO_load(&inside);
    return where == INSIDE_NO_HANDLE || where == (AO_t)(uintptr_t)db;
}
