/* core_start.c - how the parts of the core are put together and taken apart. */
#include <stdlib.h>

#include "checkpoint.h"
#include "commit.h"
#include "core_parts.h"
#include "mshm/status.h"
#include "sessions.h"

enum {
    BESIDE_FREE = 32 << 20, /* bytes beside the cache that it does not pay for */
    RESERVE_SHARE = 32,     /* part of the cache kept for deletes and housekeeping */
    CHAINED_SHARE =
        8, /* so much of the cache at a time is written anew for its readers' sake, at most */
    FRESH_NS = 10 * 1000 * 1000, /* a page that was read in stays at least that long */
};

void
core_options_init(struct core_options *options)
{
    *options = (struct core_options){
        .cache_size = UINT64_C(256) << 20,
        .map_capacity = UINT64_C(1) << 22,
        .page_size = 8192,
        .segment_size = UINT64_C(64) << 20,
        .data_file_size = UINT64_C(256) << 20,
        .checkpoint_log_bytes = UINT64_C(1) << 30,
        .checkpoint_interval_ns = UINT64_C(60) * 1000 * 1000 * 1000,
        .log_mapping = true,
        .max_sessions = MSHM_MAX_SESSIONS,
        .revoke_after_ns = UINT64_C(20) * 1000 * 1000,
    };
}

/* What the broker knows of each 4 KiB of frames takes up to 96 bytes beside them. A small cache leaves that to the private
 * memory that every broker has; a large one pays for it. */
static uint64_t
frames_size(const struct core_options *options)
{
    uint64_t beside = options->cache_size / 128 * 3;
    return beside <= BESIDE_FREE ? options->cache_size
                                 : options->cache_size - (beside - BESIDE_FREE);
}

uint64_t
core_store_size(const struct core_options *options)
{
    struct mshm_store_geometry geometry;
    mshm_store_geometry_compute(frames_size(options), options->map_capacity, &geometry);
    return geometry.store_size;
}

/* --- building ----------------------------------------------------------------------------------------------------- */

static bool
options_valid(const struct core_options *options)
{
    return options->cache_size >= 16 * MSHM_MAX_FRAME && options->map_capacity >= 2 &&
           options->map_capacity <= MSHM_MAX_PIDS && options->page_size >= 4096 &&
           options->page_size <= MSHM_MAX_FRAME &&
           (options->page_size & (options->page_size - 1)) == 0 && options->max_sessions >= 1 &&
           options->max_sessions <= MSHM_MAX_SESSIONS;
}

static int
store_create(struct core *core)
{
    static const uint8_t no_id[16];
    mshm_store_geometry_compute(frames_size(&core->options), core->options.map_capacity,
                                &core->geometry);
    if (core->env->store_back(core->env->context, 0, core->geometry.map_offset) != 0)
        return MSHM_FULL;
    mshm_store_init(core->base, &core->geometry, 0, no_id, core->options.broker_pid);
    core->store = (struct mshm_store *)core->base;
    core->figures = (struct mshm_figures *)(core->base + core->geometry.counters_offset);
    return mshm_view_init(&core->view, core->base, core->geometry.store_size, NULL);
}

static int
frames_start(struct core *core)
{
    uint64_t reserve = core->geometry.frames_size / RESERVE_SHARE;
    struct frames_options options = {
        .frames_size = core->geometry.frames_size,
        .reserve_size = reserve > MSHM_MAX_FRAME ? reserve : MSHM_MAX_FRAME,
        .revoke_after_ns = core->options.revoke_after_ns,
    };
    return frames_create(&core->frames, &options, core->env, core->base, &core->geometry,
                         sessions_lanes, core);
}

static int
pages_start(struct core *core)
{
    struct pages_options options = {
        .hints = core->options.hints,
        .fresh_ns = FRESH_NS,
        .chained_most =
            (uint32_t)(core->geometry.frames_size / CHAINED_SHARE / core->options.page_size),
    };
    return pages_create(&core->pages, &options, core->env, core->frames, &core->geometry);
}

static int
index_start(struct core *core)
{
    struct tree_options options = {
        .page_size = core->options.page_size,
        .history_limit = core->options.history_limit != 0 ? core->options.history_limit
                                                          : core->options.cache_size / 4,
        .history_size = core->options.history_size,
        .spill_tags = CORE_TAG_SPILL,
        .hints = core->options.hints,
        .fresh_ns = FRESH_NS,
    };
    int status = tree_create(&core->tree, &options, core->env, core->frames, core->pages,
                             &core->snapshots, &core->view, &core->figures->counters);
    if (status != MSHM_OK)
        return status;
    tree_set_collect(core->tree, core_collect, core);
    struct mshm_catalogue_entry *entries =
        (struct mshm_catalogue_entry *)(core->base + core->geometry.catalogue_offset);
    status = catalogue_create(&core->catalogue, core->tree, entries, MSHM_MAX_BUCKETS,
                              core->options.page_size);
    if (status == MSHM_OK)
        tree_set_resolve(core->tree, catalogue_resolve, core->catalogue);
    return status;
}

int
core_create(struct core **result, const struct core_options *options, const struct env *env,
            void *store)
{
    int status;
    if (!options_valid(options))
        return MSHM_INVALID;
    struct core *core = calloc(1, sizeof(*core));
    if (core == NULL)
        return MSHM_NO_MEMORY;
    core->options = *options;
    core->env = env;
    core->base = store;
    if ((status = store_create(core)) != MSHM_OK ||
        (status = sessions_create(&core->sessions, options->max_sessions)) != MSHM_OK ||
        (status = commits_create(&core->commits)) != MSHM_OK ||
        (status = snapshots_init(&core->snapshots)) != MSHM_OK ||
        (status = frames_start(core)) != MSHM_OK || (status = pages_start(core)) != MSHM_OK ||
        (status = index_start(core)) != MSHM_OK ||
        (status = outcomes_create(&core->outcomes)) != MSHM_OK ||
        (status = checkpoint_create(core)) != MSHM_OK) {
        core_destroy(core);
        return status;
    }
    *result = core;
    return MSHM_OK;
}

void
core_destroy(struct core *core)
{
    if (core == NULL)
        return;
    if (core->wal != NULL)
        wal_close(core->wal);
    checkpoint_close(core);
    checkpoint_destroy(core->checkpoint);
    pager_destroy(core->pager);
    data_destroy(core->data);
    outcomes_destroy(core->outcomes);
    catalogue_destroy(core->catalogue);
    tree_destroy(core->tree);
    pages_destroy(core->pages);
    frames_destroy(core->frames);
    snapshots_fini(&core->snapshots);
    commits_destroy(core->commits);
    sessions_destroy(core->sessions);
    free(core);
}

int
core_recover(struct core *core, bool create, char *why, size_t why_size)
{
    int status = recovery_run(core, create, why, why_size);
    if (status != MSHM_OK)
        return status;
    core->now_ns = core->started_ns = core->env->clock_ns(core->env->context);
    core->expiry_ns = UINT64_MAX;
    core->dirty = core->unmarked = core->untidy = true;
    return MSHM_OK;
}

bool
core_cache_short(const struct core *core)
{
    return core->cache_short;
}
