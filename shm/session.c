/* shm/session.c - the identity of a session segment: written once by the broker, checked once by the client. */
#include "mshm/session.h"

#include "mshm/status.h"

void
mshm_session_init(void *base, uint64_t number, uint64_t incarnation, uint64_t arena_size)
{
    struct mshm_session *session = base;
    session->magic = MSHM_SESSION_MAGIC;
    session->version = MSHM_LAYOUT_VERSION;
    session->layout_hash = mshm_layout_hash();
    session->number = number;
    session->incarnation = incarnation;
    session->segment_size = MSHM_SESSION_SIZE;
    session->arena_offset = MSHM_SESSION_ARENA;
    AO_store_release(&session->arena_size, arena_size); /* pairs with mshm_producer_arena's load */
}

int
mshm_session_check(const void *base, uint64_t size)
{
    const struct mshm_session *session = base;
    if (size < sizeof(*session))
        return MSHM_CORRUPT;
    if (session->magic != MSHM_SESSION_MAGIC || session->version != MSHM_LAYOUT_VERSION ||
        session->layout_hash != mshm_layout_hash())
        return MSHM_VERSION;
    if (session->segment_size > size || session->segment_size != MSHM_SESSION_SIZE ||
        session->arena_offset != MSHM_SESSION_ARENA ||
        AO_load(&session->arena_size) > MSHM_ARENA_MAX)
        return MSHM_CORRUPT;
    return MSHM_OK;
}
