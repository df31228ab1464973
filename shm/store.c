/* shm/store.c - the store segment's geometry, its header, and a process's view of it. */
#include "mshm/store.h"

#include <string.h>

#include "mshm/counters.h"
#include "mshm/status.h"

enum { STORE_HUGE = 2 << 20, STORE_PADDING = MSHM_MAX_FRAME };

void
mshm_store_geometry_compute(uint64_t frames_size, uint64_t map_capacity,
                            struct mshm_store_geometry *geometry)
{
    if (map_capacity > MSHM_MAX_PIDS)
        map_capacity = MSHM_MAX_PIDS;
    geometry->counters_offset = sizeof(struct mshm_store);
    geometry->catalogue_offset =
        mshm_align_up(geometry->counters_offset + sizeof(struct mshm_figures), MSHM_UNIT);
    geometry->map_offset = mshm_align_up(geometry->catalogue_offset +
                                             MSHM_MAX_BUCKETS * sizeof(struct mshm_catalogue_entry),
                                         MSHM_UNIT);
    geometry->map_capacity = map_capacity;
    /* Frames begin on a huge page, so that one never holds page map and frames. */
    geometry->frames_offset =
        mshm_align_up(geometry->map_offset + map_capacity * sizeof(AO_t), STORE_HUGE);
    geometry->frames_size = mshm_align_up(frames_size, MSHM_MAX_FRAME);
    geometry->store_size = geometry->frames_offset + geometry->frames_size + STORE_PADDING;
}

void
mshm_store_init(void *base, const struct mshm_store_geometry *geometry, uint64_t incarnation,
                const uint8_t database_id[16], uint64_t broker_pid)
{
    struct mshm_store *store = base;
    store->magic = MSHM_STORE_MAGIC;
    store->version = MSHM_LAYOUT_VERSION;
    store->layout_hash = mshm_layout_hash();
    store->incarnation = incarnation;
    memcpy(store->database_id, database_id, sizeof(store->database_id));
    store->store_size = geometry->store_size;
    store->counters_offset = geometry->counters_offset;
    store->catalogue_offset = geometry->catalogue_offset;
    store->catalogue_capacity = MSHM_MAX_BUCKETS;
    store->map_offset = geometry->map_offset;
    store->map_capacity = geometry->map_capacity;
    store->frames_offset = geometry->frames_offset;
    store->frames_size = geometry->frames_size;
    store->broker_pid = broker_pid;
    struct mshm_figures *figures =
        (struct mshm_figures *)((uint8_t *)base + geometry->counters_offset);
    AO_store(&figures->histogram_version, MSHM_LAYOUT_VERSION);
    AO_store(&store->visible, 0);
    AO_store(&store->revoked, 0);
    AO_store(&store->horizon, 0);
    AO_int_store(&store->liveness, MSHM_LIVENESS_STARTING);
    AO_store_release(&store->epoch, 1); /* pairs with mshm_bracket_open */
}

/* True when `count` things of `size` bytes from `offset` end at or before `end`; no sum can overflow. */
static int
range_fits(uint64_t offset, uint64_t count, uint64_t size, uint64_t end)
{
    return offset <= end && count <= (end - offset) / size;
}

/* Do the offsets of a header describe parts that follow one another inside `size` bytes? */
static int
header_fits(const struct mshm_store *header, uint64_t size)
{
    if (header->store_size > size || header->counters_offset < sizeof(struct mshm_store) ||
        header->map_capacity < 2 || header->map_capacity > MSHM_MAX_PIDS ||
        header->catalogue_capacity < 1)
        return 0;
    if (header->counters_offset % MSHM_LINE != 0 || header->catalogue_offset % MSHM_LINE != 0 ||
        header->map_offset % MSHM_LINE != 0 || header->frames_offset % MSHM_MAX_FRAME != 0 ||
        header->frames_size % MSHM_MAX_FRAME != 0)
        return 0;
    return range_fits(header->counters_offset, 1, sizeof(struct mshm_figures),
                      header->catalogue_offset) &&
           range_fits(header->catalogue_offset, header->catalogue_capacity,
                      sizeof(struct mshm_catalogue_entry), header->map_offset) &&
           range_fits(header->map_offset, header->map_capacity, sizeof(AO_t),
                      header->frames_offset) &&
           header->frames_offset <= header->store_size &&
           header->frames_size <= header->store_size - header->frames_offset &&
           STORE_PADDING <= header->store_size - header->frames_offset - header->frames_size;
}

int
mshm_view_init(struct mshm_view *view, const void *base, uint64_t size, uint8_t *hints)
{
    struct mshm_store header; /* only the identity is copied: the words behind it are shared */
    if (size < sizeof(header))
        return MSHM_CORRUPT;
    memcpy(&header, base, offsetof(struct mshm_store, visible));
    if (header.magic != MSHM_STORE_MAGIC || header.version != MSHM_LAYOUT_VERSION ||
        header.layout_hash != mshm_layout_hash())
        return MSHM_VERSION;
    if (!header_fits(&header, size))
        return MSHM_CORRUPT;
    view->base = base;
    view->size = size;
    view->store = base;
    view->figures = (const struct mshm_figures *)(view->base + header.counters_offset);
    view->catalogue = (const struct mshm_catalogue_entry *)(view->base + header.catalogue_offset);
    view->catalogue_capacity = header.catalogue_capacity;
    view->map = (const AO_t *)(view->base + header.map_offset);
    view->map_capacity = header.map_capacity;
    view->frames_offset = header.frames_offset;
    view->frames_size = header.frames_size;
    view->hints = hints;
    view->incarnation = header.incarnation;
    return MSHM_OK;
}
