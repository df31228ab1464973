/* recovery.c - from a directory to a broker that may serve.
 *
 *   manifest read, page map, catalogue and outcomes restored -> log read from the cut to its end, and only checked
 *     (nothing has been written so far: a refused open changes nothing)
 *     -> manifest settled, the new incarnation in it -> log rewritten behind the last proof, synced -> new segment, synced
 *     -> what nobody names removed -> log replayed, with checkpoints on the way when memory asks for them
 *     -> bucket "default"
 *
 * Pages are read when replay or a client needs them. Replay goes the way of the commits: through tree_plan and tree_apply,
 * writing blind where it can. The cut of a checkpoint on the way lies in a segment of an older incarnation; the next recovery
 * goes on there. Death at any step: the next recovery finds the same commits; an incarnation number may stay unused.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint.h"
#include "control.h"
#include "core_parts.h"
#include "env_status.h"
#include "kill_point.h"
#include "mshm/status.h"
#include "sessions.h"
#include "wal_segment.h"

enum { TEND_EVERY = 256, SEGMENTS_MANY = 8, SECOND_NS = 1000 * 1000 * 1000 };

struct recovery {
    struct core *core;
    struct wal_end end;
    struct manifest_file *files; /* that the manifest names */
    uint32_t file_count, file_capacity;
    void *strays; /* the manifest's table of them */
    uint64_t strays_size;
    char *why;
    size_t why_size;
};

static int
refuse(struct recovery *recovery, int status, const char *what)
{
    snprintf(recovery->why, recovery->why_size, "%s", what);
    return status;
}

static int
is_segment(const char *entry, void *argument)
{
    uint64_t number;
    (void)argument;
    return wal_segment_parse(entry, &number) ? 1 : 0;
}

static int
is_data_file(const char *entry, void *argument)
{
    uint32_t number;
    (void)argument;
    return data_name_parse(entry, &number) ? 1 : 0;
}

/* No CURRENT: a new database, if it is wanted and nothing of an old one is here. */
static int
manifest_begin(struct recovery *recovery, bool create)
{
    static const char *const directories[] = {"wal", "data", "blob"};
    struct core *core = recovery->core;
    const struct env *env = core->env;
    if (!create)
        return MSHM_NOT_FOUND;
    int result = env->directory_list(env->context, "wal", is_segment, NULL);
    if (result > 0)
        return refuse(recovery, MSHM_CORRUPT, "CURRENT: missing, but there is a log");
    if (result != 0 && result != -ENOENT)
        return refuse(recovery, env_status(result), "wal: cannot be listed");
    result = env->directory_list(env->context, "data", is_data_file, NULL);
    if (result > 0)
        return refuse(recovery, MSHM_CORRUPT, "CURRENT: missing, but there are data files");
    if (result != 0 && result != -ENOENT)
        return refuse(recovery, env_status(result), "data: cannot be listed");
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        if ((result = env->directory_create(env->context, directories[i])) != 0)
            return refuse(recovery, env_status(result), "the directory cannot be written");
    result = env->directory_sync(env->context, "");
    if (result != 0)
        return refuse(recovery, env_status(result), "the directory cannot be synced");
    core->manifest = (struct manifest){0};
    uint64_t id[2] = {env->random(env->context), env->random(env->context)};
    memcpy(core->manifest.database_id, id, sizeof id);
    return MSHM_OK;
}

/* --- what the manifest says --- */

static int
restore_page(void *argument, uint32_t pid, data_location location)
{
    struct recovery *recovery = argument;
    return pages_restore(recovery->core->pages, pid, location);
}

static int
restore_file(void *argument, const struct manifest_file *file)
{
    struct recovery *recovery = argument;
    if (recovery->file_count == recovery->file_capacity) {
        uint32_t capacity = recovery->file_capacity ? recovery->file_capacity * 2 : 64;
        void *grown = realloc(recovery->files, capacity * sizeof *recovery->files);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        recovery->files = grown;
        recovery->file_capacity = capacity;
    }
    recovery->files[recovery->file_count++] = *file;
    return MSHM_OK;
}

static int
restore_catalogue(void *argument, const void *bytes, uint64_t size)
{
    struct recovery *recovery = argument;
    return catalogue_load(recovery->core->catalogue, bytes, size);
}

static int
restore_outcomes(void *argument, const void *bytes, uint64_t size)
{
    struct recovery *recovery = argument;
    return outcomes_load(recovery->core->outcomes, bytes, size);
}

/* Looked at when the pages are there. */
static int
restore_strays(void *argument, const void *bytes, uint64_t size)
{
    struct recovery *recovery = argument;
    recovery->strays = malloc(size + 1);
    if (recovery->strays == NULL)
        return MSHM_NO_MEMORY;
    memcpy(recovery->strays, bytes, size);
    recovery->strays_size = size;
    return MSHM_OK;
}

/* Reads pages of this database; asked by tree_check, too. */
static int
peek(void *argument, mshm_pid pid, void *to, uint32_t *size, const char **why)
{
    struct core *core = argument;
    return pager_peek(core->pager, pid, to, size, why);
}

static void
page_loaded(void *tree, mshm_pid pid)
{
    tree_loaded(tree, pid);
}

static int
store_begin(struct recovery *recovery)
{
    struct core *core = recovery->core;
    struct data_options options = {.file_size = core->options.data_file_size};
    struct pager_options pager = {
        .tag_base = CORE_TAG_PAGER, .loaded = page_loaded, .snapshots = &core->snapshots};
    memcpy(options.database_id, core->manifest.database_id, sizeof options.database_id);
    memcpy(pager.database_id, core->manifest.database_id, sizeof pager.database_id);
    int status = data_create(&core->data, &options, core->env);
    for (uint32_t i = 0; i < recovery->file_count && status == MSHM_OK; i++)
        status = data_add(core->data, recovery->files[i].number, recovery->files[i].total,
                          recovery->files[i].live);
    if (status == MSHM_OK)
        status = pager_create(&core->pager, &pager, core->env, core->frames, core->pages,
                              core->data, tree_history_word, core->tree, &core->figures->counters);
    if (status == MSHM_OK)
        status = pages_restored(core->pages, core->manifest.cut.timestamp);
    if (status != MSHM_OK)
        return refuse(recovery, status, "the data files cannot be opened");
    status = checkpoint_restore(core, recovery->strays, recovery->strays_size);
    core->cache_short = status == MSHM_FULL;
    if (status != MSHM_OK)
        return refuse(recovery, status, "the manifest's writes of unreadable pages cannot be had");
    tree_set_peek(core->tree, peek, core);
    core->applied = core->manifest.cut.timestamp;
    AO_store_release(&core->store->visible, core->applied);
    return MSHM_OK;
}

static struct wal_from
log_from(const struct core *core)
{
    const struct manifest_cut *cut = &core->manifest.cut;
    return (struct wal_from){
        .timestamp = cut->timestamp, .chain = cut->chain, .position = cut->position};
}

/* --- replay --- */

/* What the running broker does between batches: drops versions and frames that nobody can read. */
static void
replay_tend(struct core *core)
{
    while (tree_tend(core->tree, 64))
        continue;
    catalogue_reap(core->catalogue, core->snapshots.horizon);
    frames_reclaim(core->frames, false);
}

/* Pages that a plan missed are read at once. One that cannot be read is told after the others have been. */
static int
replay_load(struct recovery *recovery)
{
    struct core *core = recovery->core;
    const mshm_pid *missing;
    const char *why = NULL;
    int lost = MSHM_OK;
    uint32_t count = tree_missing(core->tree, &missing);
    mshm_pid pids[MSHM_MAX_PAGE_IN];
    if (count > MSHM_MAX_PAGE_IN)
        count = MSHM_MAX_PAGE_IN;
    memcpy(pids, missing, count * sizeof *pids);
    for (uint32_t i = 0; i < count; i++) {
        int status = pager_load(core->pager, pids[i], &why);
        if (page_is_lost(status))
            lost = refuse(recovery, status, why != NULL ? why : "a page cannot be read");
        else if (status != MSHM_OK && status != MSHM_EXISTS)
            return status == MSHM_FULL ? status : refuse(recovery, status, "a page cannot be read");
    }
    return lost;
}

static int
replay_operations(struct recovery *recovery, const struct mshm_op *ops, uint64_t size,
                  uint32_t count, mshm_timestamp timestamp)
{
    struct core *core = recovery->core;
    struct tree_plan *plan;
    int status;
    bool blind = false;
    while ((status = tree_plan(core->tree, ops, size, count, UINT64_MAX, catalogue_resolve,
                               core->catalogue, &plan)) == MSHM_BUSY) {
        status = replay_load(recovery);
        if (status != MSHM_OK && (blind || !page_is_lost(status)))
            break;
        /* What the run wrote to a leaf that cannot be read now may still be kept until it can. */
        blind = blind || status != MSHM_OK;
        tree_allow_blind(core->tree, blind);
    }
    tree_allow_blind(core->tree, false);
    if (status != MSHM_OK)
        return status;
    recovery->why[0] = '\0';
    tree_apply(core->tree, plan, timestamp);
    return MSHM_OK;
}

static int
replay_once(struct recovery *recovery, const struct mshm_op *ops, uint64_t size, uint32_t count,
            mshm_timestamp timestamp)
{
    struct core *core = recovery->core;
    if (ops->kind < MSHM_OP_BUCKET_CREATE)
        return replay_operations(recovery, ops, size, count, timestamp);
    int status;
    do
        status = count == 1 ? catalogue_apply(core->catalogue, ops, timestamp) : MSHM_CORRUPT;
    while (status == MSHM_BUSY && (status = replay_load(recovery)) == MSHM_OK);
    return status;
}

/* What was replayed so far is written. A disk without room for that is no cache that is too small. */
static int
replay_checkpoint(struct recovery *recovery)
{
    int status = checkpoint_run(recovery->core);
    if (status == MSHM_OK)
        return status;
    return refuse(recovery, status,
                  status == MSHM_FULL
                      ? "data: there is no room on the disk for the checkpoint that replay needs"
                      : "data: the checkpoint that replay needs cannot be written");
}

/* Makes room: clean pages leave memory; when there are too few, a checkpoint is made. */
static int
replay_make_room(struct recovery *recovery)
{
    struct core *core = recovery->core;
    core->now_ns = core->env->clock_ns(core->env->context);
    replay_tend(core);
    uint64_t later_ns = core->now_ns + SECOND_NS; /* nobody waits for what was just read in */
    if (pages_evict(core->pages, core->geometry.frames_size / 8, later_ns) == 0 ||
        checkpoint_pressed(core)) {
        int status = replay_checkpoint(recovery);
        if (status != MSHM_OK)
            return status;
        pages_evict(core->pages, core->geometry.frames_size / 8, later_ns);
    }
    frames_reclaim(core->frames, true);
    return MSHM_OK;
}

static bool
replay_short(const struct core *core)
{
    return frames_available(core->frames) < core->geometry.frames_size / 16 ||
           checkpoint_pressed(core);
}

static int
replay_refused(struct recovery *recovery, int status, uint64_t timestamp)
{
    if (recovery->why[0] != '\0')
        return status;
    if (status == MSHM_FULL) {
        recovery->core->cache_short = true;
        return refuse(recovery, status, "the cache is too small for the data in the log");
    }
    if (status == MSHM_NO_MEMORY)
        return refuse(recovery, status, "wal: there is no memory to replay the log");
    snprintf(recovery->why, recovery->why_size, "wal: commit %" PRIu64 " cannot be applied: %s",
             timestamp, mshm_strerror(status));
    return MSHM_CORRUPT;
}

static int
check_record(void *argument, const struct wal_segment_header *segment,
             const struct wal_record *record, const void *ops, uint64_t ops_size,
             struct wal_position end)
{
    struct recovery *recovery = argument;
    (void)record, (void)ops, (void)ops_size, (void)end;
    if (segment->incarnation > recovery->core->manifest.incarnation)
        return refuse(recovery, MSHM_CORRUPT, "the manifest is older than the log");
    return MSHM_OK;
}

static int
replay_record(void *argument, const struct wal_segment_header *segment,
              const struct wal_record *record, const void *ops, uint64_t ops_size,
              struct wal_position end)
{
    struct recovery *recovery = argument;
    struct core *core = recovery->core;
    uint32_t count = record->op_count_flags & WAL_OP_COUNT_MASK;
    int status = MSHM_OK;
    if (replay_short(core))
        status = replay_make_room(recovery);
    if (status == MSHM_OK)
        status = replay_once(recovery, ops, ops_size, count, record->timestamp);
    if (status == MSHM_FULL) {
        status = replay_make_room(recovery);
        if (status == MSHM_OK)
            status = replay_once(recovery, ops, ops_size, count, record->timestamp);
    }
    if (status != MSHM_OK)
        return replay_refused(recovery, status, record->timestamp);
    /* Nobody maps the store yet, so only the newest versions are needed, and pages stay as small as they can be: what
     * fitted into the cache while snapshots were held fits again. */
    core->applied = record->timestamp;
    struct manifest_cut cut = {
        .timestamp = record->timestamp, .chain = record->crc, .position = end};
    checkpoint_replayed(core->checkpoint, &cut);
    AO_store_release(&core->store->visible, record->timestamp);
    snapshots_collect(&core->snapshots, core->store, sessions_snapshots, core, 0);
    mshm_counter_add(&core->figures->counters.replayed, 1);
    if (record->timestamp % TEND_EVERY == 0)
        replay_tend(core);
    if (record->session == 0)
        return MSHM_OK;
    /* Unlike a running broker, which may not fail here, a start refuses to forget whose commit this was. */
    status = outcomes_add(core->outcomes, segment->incarnation, record->session, record->sequence,
                          record->timestamp);
    return status == MSHM_OK ? status : replay_refused(recovery, status, record->timestamp);
}

/* --- steps --- */

/* Everything that can be found wrong is found before anything is written. */
static int
log_check(struct recovery *recovery)
{
    struct core *core = recovery->core;
    struct wal_from from = log_from(core);
    int status =
        wal_read(core->env, core->manifest.database_id, core->manifest.first_segment, &from,
                 check_record, recovery, &recovery->end, recovery->why, recovery->why_size);
    if (status == MSHM_OK && recovery->end.newest_incarnation > core->manifest.incarnation)
        return refuse(recovery, MSHM_CORRUPT, "the manifest is older than the log");
    return status;
}

/* The tree of a replay is not the tree of the run, so the reserve may be used: what fitted then has to fit now. */
static int
log_replay(struct recovery *recovery)
{
    struct core *core = recovery->core;
    struct wal_from from = log_from(core);
    struct wal_end end;
    if (recovery->end.records == 0)
        return MSHM_OK;
    bool reserve = frames_allow_reserve(core->frames, true);
    core->replaying = true;
    checkpoint_replayed(core->checkpoint, &core->manifest.cut);
    int status = wal_read(core->env, core->manifest.database_id, core->manifest.first_segment,
                          &from, replay_record, recovery, &end, recovery->why, recovery->why_size);
    core->replaying = false;
    frames_allow_reserve(core->frames, reserve);
    if (status == MSHM_OK && end.next.timestamp != recovery->end.next.timestamp)
        return refuse(recovery, MSHM_IO, "the log could not be read the same way twice");
    if (status != MSHM_OK)
        return status;
    replay_tend(core);
    MACE_KILL_POINT("recovery:replayed");
    return MSHM_OK;
}

static struct manifest_edit
edit_begin(const struct core *core)
{
    return (struct manifest_edit){
        .incarnation = core->manifest.incarnation,
        .first_segment = core->manifest.first_segment,
        .cut = core->manifest.cut,
    };
}

/* From here on this incarnation exists, whatever becomes of it. */
static int
incarnation_begin(struct recovery *recovery)
{
    struct core *core = recovery->core;
    struct manifest_edit edit = edit_begin(core);
    edit.incarnation++;
    int status = MSHM_OK;
    if (core->manifest.number != 0)
        status = manifest_settle(core->env, &core->manifest);
    if (status == MSHM_OK)
        status = manifest_store(core->env, &core->manifest, &edit);
    if (status != MSHM_OK)
        return refuse(recovery, status, "the manifest cannot be written");
    core->store->incarnation = core->manifest.incarnation;
    core->view.incarnation = core->manifest.incarnation;
    memcpy(core->store->database_id, core->manifest.database_id, sizeof core->store->database_id);
    MACE_KILL_POINT("recovery:manifest_stored");
    return MSHM_OK;
}

static int
log_make_durable(struct recovery *recovery)
{
    const struct env *env = recovery->core->env;
    const struct wal_end *end = &recovery->end;
    if (end->records == 0)
        return MSHM_OK;
    int status = wal_rewrite(env, end);
    if (status == MSHM_OK)
        status = wal_make_durable(env, end->known_durable.segment, end->next.end.segment);
    if (status != MSHM_OK)
        return refuse(recovery, status, "the log cannot be made durable");
    MACE_KILL_POINT("recovery:durable");
    return MSHM_OK;
}

static int
log_open(struct recovery *recovery)
{
    struct core *core = recovery->core;
    struct wal_end *end = &recovery->end;
    struct wal_options options = {core->options.segment_size, core->options.log_mapping};
    struct wal_from from = log_from(core);
    end->next.incarnation = core->manifest.incarnation;
    int status = wal_open(&core->wal, &options, core->env, &end->next, core->figures, CORE_TAG_WAL);
    if (status != MSHM_OK)
        return refuse(recovery, status, "a new log segment cannot be written");
    MACE_KILL_POINT("recovery:segment_opened");
    /* Not before a header is durable: a log that was started has to be there. */
    if (core->manifest.first_segment == 0) {
        struct manifest_edit edit = edit_begin(core);
        edit.first_segment =
            end->next.end.segment != 0 ? end->first_segment : end->next.next_segment;
        status = manifest_store(core->env, &core->manifest, &edit);
        if (status != MSHM_OK)
            return refuse(recovery, status, "the manifest cannot be written");
    }
    mshm_counter_add(&core->figures->counters.log_segments, end->segments);
    wal_remove_dead(core->env, core->manifest.database_id, &from);
    manifest_tidy(core->env, &core->manifest);
    data_tidy(core->data);
    return MSHM_OK;
}

static int
recovery_steps(struct recovery *recovery, bool create)
{
    struct core *core = recovery->core;
    const struct manifest_visitor visitor = {
        .argument = recovery,
        .page = restore_page,
        .file = restore_file,
        .catalogue = restore_catalogue,
        .outcomes = restore_outcomes,
        .strays = restore_strays,
    };
    int status =
        manifest_load(core->env, &core->manifest, &visitor, recovery->why, recovery->why_size);
    if (status == MSHM_NOT_FOUND)
        status = manifest_begin(recovery, create);
    else if (status == MSHM_OK)
        status = log_check(recovery);
    memcpy(recovery->end.next.database_id, core->manifest.database_id,
           sizeof recovery->end.next.database_id);
    if (status != MSHM_OK || (status = store_begin(recovery)) != MSHM_OK ||
        (status = incarnation_begin(recovery)) != MSHM_OK ||
        (status = log_make_durable(recovery)) != MSHM_OK ||
        (status = log_open(recovery)) != MSHM_OK || (status = log_replay(recovery)) != MSHM_OK)
        return status;
    outcomes_seal(core->outcomes, core->manifest.incarnation);
    if (recovery->end.segments > SEGMENTS_MANY)
        checkpoint_request(core); /* one start after the other leaves a segment each */
    core->visible = core->applied;
    AO_store_release(&core->store->visible, core->visible);
    if (catalogue_find(core->catalogue, "default", 7) != NULL)
        return MSHM_OK;
    status = control_create_default(core);
    return status == MSHM_OK ? status
                             : refuse(recovery, status, "bucket \"default\" cannot be created");
}

/* What whoever reads the refusal can do about it. */
static void
refusal_advise(struct recovery *recovery, int status)
{
    const char *advice = "";
    if (status == MSHM_FULL)
        advice = recovery->core->cache_short
                     ? "; start it with a larger --cache"
                     : "; make room on the file system of the database, and start again";
    else if (status == MSHM_NO_MEMORY)
        advice = "; give the broker more memory, or a smaller --cache, and start again";
    size_t length = strlen(recovery->why);
    if (length != 0)
        snprintf(recovery->why + length, recovery->why_size - length, "%s", advice);
}

int
recovery_run(struct core *core, bool create, char *why, size_t why_size)
{
    struct recovery recovery = {
        .core = core, .end = {.next = {.next_segment = 1}}, .why = why, .why_size = why_size};
    MACE_KILL_POINT("recovery:begin");
    why[0] = '\0';
    int status = recovery_steps(&recovery, create);
    refusal_advise(&recovery, status);
    free(recovery.files);
    free(recovery.strays);
    return status;
}
