/* shm/layout.c - one number for the layout of everything that two processes share: equal numbers, equal layouts.
 *
 * A hash over the names, sizes and offsets of all shared structs, and over the limits that shape them. It is exchanged
 * before any descriptor. A field that is added to a shared struct is added here.
 */
#include "mshm/counters.h"
#include "mshm/message.h"
#include "mshm/ops.h"
#include "mshm/page.h"
#include "mshm/session.h"
#include "mshm/store.h"

struct layout_row {
    const char *name;
    size_t offset, size;
};

#define TYPE(type) #type, _Alignof(struct type), sizeof(struct type)
#define FIELD(type, field) \
#field, offsetof(struct type, field), sizeof(((struct type *)NULL)->field)
#define NUMBER(name) #name, (size_t)(name), 0

static const struct layout_row layout_rows[] = {
    {TYPE(mshm_store)},
    {FIELD(mshm_store, incarnation)},
    {FIELD(mshm_store, database_id)},
    {FIELD(mshm_store, store_size)},
    {FIELD(mshm_store, counters_offset)},
    {FIELD(mshm_store, catalogue_offset)},
    {FIELD(mshm_store, catalogue_capacity)},
    {FIELD(mshm_store, map_offset)},
    {FIELD(mshm_store, map_capacity)},
    {FIELD(mshm_store, frames_offset)},
    {FIELD(mshm_store, frames_size)},
    {FIELD(mshm_store, broker_pid)},
    {FIELD(mshm_store, visible)},
    {FIELD(mshm_store, epoch)},
    {FIELD(mshm_store, revoked)},
    {FIELD(mshm_store, horizon)},
    {FIELD(mshm_store, liveness)},
    {TYPE(mshm_catalogue_entry)},
    {FIELD(mshm_catalogue_entry, id)},
    {FIELD(mshm_catalogue_entry, root)},
    {FIELD(mshm_catalogue_entry, created)},
    {FIELD(mshm_catalogue_entry, dropped)},
    {FIELD(mshm_catalogue_entry, inline_limit)},
    {FIELD(mshm_catalogue_entry, page_size)},
    {FIELD(mshm_catalogue_entry, options)},
    {TYPE(mshm_figures)},
#define X(name, unit, kind, text) {FIELD(mshm_counters, name)},
    MSHM_COUNTERS(X)
#undef X
        {FIELD(mshm_figures, histogram_version)},
#define X(name, unit, text) {FIELD(mshm_figures, name)},
    MSHM_HISTOGRAMS(X)
#undef X
        {TYPE(mshm_page)},
    {FIELD(mshm_page, kind)},
    {FIELD(mshm_page, level)},
    {FIELD(mshm_page, bucket)},
    {FIELD(mshm_page, pid)},
    {FIELD(mshm_page, right)},
    {FIELD(mshm_page, tail_count)},
    {FIELD(mshm_page, history)},
    {FIELD(mshm_page, key_count)},
    {FIELD(mshm_page, hash_count)},
    {FIELD(mshm_page, prefix_at)},
    {FIELD(mshm_page, prefix_size)},
    {FIELD(mshm_page, low_at)},
    {FIELD(mshm_page, low_size)},
    {FIELD(mshm_page, high_at)},
    {FIELD(mshm_page, high_size)},
    {FIELD(mshm_page, heads_at)},
    {FIELD(mshm_page, slots_at)},
    {FIELD(mshm_page, base_end)},
    {FIELD(mshm_page, children_at)},
    {TYPE(mshm_leaf)},
    {FIELD(mshm_leaf, tail_fingerprints)},
    {FIELD(mshm_leaf, tail_slots)},
    {TYPE(mshm_hash_bucket)},
    {FIELD(mshm_hash_bucket, count)},
    {FIELD(mshm_hash_bucket, overflow)},
    {FIELD(mshm_hash_bucket, fingerprints)},
    {FIELD(mshm_hash_bucket, slots)},
    {TYPE(mshm_entry)},
    {FIELD(mshm_entry, timestamp_low)},
    {FIELD(mshm_entry, timestamp_high)},
    {FIELD(mshm_entry, key_size)},
    {FIELD(mshm_entry, value_size)},
    {FIELD(mshm_entry, kind)},
    {FIELD(mshm_entry, flags)},
    {TYPE(mshm_session)},
    {FIELD(mshm_session, number)},
    {FIELD(mshm_session, incarnation)},
    {FIELD(mshm_session, segment_size)},
    {FIELD(mshm_session, arena_offset)},
    {FIELD(mshm_session, head)},
    {FIELD(mshm_session, asleep)},
    {FIELD(mshm_session, arena_size)},
    {FIELD(mshm_session, tail)},
    {FIELD(mshm_session, lanes_high)},
    {FIELD(mshm_session, counters)},
    {FIELD(mshm_session, expired)},
    {FIELD(mshm_session, lanes)},
    {FIELD(mshm_session, waiting)},
    {FIELD(mshm_session, completions)},
    {FIELD(mshm_session, ring)},
    {TYPE(mshm_lane)},
    {FIELD(mshm_lane, snapshot)},
    {FIELD(mshm_lane, epoch)},
    {FIELD(mshm_lane, gets)},
    {FIELD(mshm_lane, scans)},
    {FIELD(mshm_lane, retries)},
    {TYPE(mshm_request)},
    {FIELD(mshm_request, sequence)},
    {FIELD(mshm_request, kind_flags)},
    {FIELD(mshm_request, lane)},
    {FIELD(mshm_request, snapshot)},
    {FIELD(mshm_request, arena_offset)},
    {FIELD(mshm_request, arena_size)},
    {FIELD(mshm_request, op_count)},
    {TYPE(mshm_completion)},
    {FIELD(mshm_completion, timestamp)},
    {FIELD(mshm_completion, status_bits)},
    {FIELD(mshm_completion, done)},
    {TYPE(mshm_op)},
    {FIELD(mshm_op, bucket)},
    {FIELD(mshm_op, value_size)},
    {FIELD(mshm_op, key_size)},
    {FIELD(mshm_op, kind)},
    {FIELD(mshm_op, flags)},
    {TYPE(mshm_message)},
    {TYPE(mshm_hello)},
    {TYPE(mshm_welcome)},
    {TYPE(mshm_bucket_message)},
    {TYPE(mshm_value_message)},
    {TYPE(mshm_lookup)},
    {TYPE(mshm_session_info)},
    {FIELD(mshm_session_info, pending)},
    {NUMBER(MSHM_LAYOUT_VERSION)},
    {NUMBER(MSHM_MAX_LANES)},
    {NUMBER(MSHM_MAX_BUCKETS)},
    {NUMBER(MSHM_MAX_KEY)},
    {NUMBER(MSHM_MAX_INLINE)},
    {NUMBER(MSHM_RING_CAPACITY)},
    {NUMBER(MSHM_UNIT)},
    {NUMBER(MSHM_CLASSES)},
    {NUMBER(MSHM_TAIL_CAPACITY)},
    {NUMBER(MSHM_ARENA_MAX)},
};

/* FNV-1a (Fowler, Noll, Vo). */
static uint32_t
layout_mix(uint32_t hash, uint32_t value)
{
    return (hash ^ value) * 16777619u;
}

uint32_t
mshm_layout_hash(void)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < sizeof(layout_rows) / sizeof(layout_rows[0]); i++) {
        for (const char *name = layout_rows[i].name; *name != '\0'; name++)
            hash = layout_mix(hash, (uint8_t)*name);
        hash = layout_mix(hash, (uint32_t)layout_rows[i].offset);
        hash = layout_mix(hash, (uint32_t)layout_rows[i].size);
    }
    return hash;
}
