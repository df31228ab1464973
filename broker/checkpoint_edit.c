/* checkpoint_edit.c - the manifest's part of a checkpoint: what changed is gathered in slices, made into one record by a job,
 * appended and synced; a manifest that has become long is written anew, whole, by a job. Locations change only when a
 * checkpoint's results take effect, which is never while anything here is under way, so slices of different turns fit
 * together.
 */
#include <stdlib.h>
#include <string.h>

#include "checkpoint_parts.h"
#include "env_status.h"
#include "kill_point.h"
#include "mshm/status.h"

/* --- gathering --- */

static bool
page_add(struct checkpoint *checkpoint, mshm_pid pid, data_location location)
{
    if (checkpoint->page_count == checkpoint->page_capacity) {
        uint64_t capacity = checkpoint->page_capacity ? checkpoint->page_capacity * 2 : 1024;
        void *grown = realloc(checkpoint->pages, capacity * sizeof *checkpoint->pages);
        if (grown == NULL)
            return false;
        checkpoint->pages = grown;
        checkpoint->page_capacity = capacity;
    }
    checkpoint->pages[checkpoint->page_count++] =
        (struct manifest_page){.pid = pid, .location = location};
    return true;
}

/* All files, with those left out of the manifest that nothing leads to any more. `whole`: only what there is. */
static int
files_gather(struct core *core, bool whole)
{
    struct checkpoint *checkpoint = core->checkpoint;
    uint32_t count = data_count(core->data);
    uint64_t offset;
    struct env_file *file;
    uint32_t writing = data_writing(core->data, 0, &offset, &file);
    struct manifest_file *files = malloc((count + 1) * sizeof *files);
    uint32_t *removals = malloc((count + 1) * sizeof *removals);
    if (files == NULL || removals == NULL) {
        free(files);
        free(removals);
        return MSHM_NO_MEMORY;
    }
    checkpoint->file_count = 0;
    uint32_t removed = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct data_figures figures;
        data_describe(core->data, i, &figures);
        bool dead = figures.live == 0 && figures.number != writing;
        if (dead)
            removals[removed++] = figures.number;
        if (dead && whole)
            continue;
        files[checkpoint->file_count++] = (struct manifest_file){
            .number = figures.number, .total = dead ? 0 : figures.total, .live = figures.live};
    }
    free(checkpoint->files);
    free(checkpoint->removals);
    checkpoint->files = files;
    checkpoint->removals = removals;
    checkpoint->removal_count = removed;
    return MSHM_OK;
}

static void
edit_fill(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    checkpoint->edit = (struct manifest_edit){
        .incarnation = core->manifest.incarnation,
        .first_segment = core->manifest.first_segment,
        .cut = checkpoint->cut,
        .pages = checkpoint->pages,
        .page_count = checkpoint->page_count,
        .files = checkpoint->files,
        .file_count = checkpoint->file_count,
        .catalogue = checkpoint->catalogue,
        .catalogue_size = checkpoint->catalogue_size,
        .outcomes = checkpoint->outcomes,
        .outcomes_size = checkpoint->outcomes_size,
        .strays = checkpoint->strays.bytes,
        .strays_size = checkpoint->strays.size,
    };
    if (checkpoint->cut.position.segment > checkpoint->edit.first_segment)
        checkpoint->edit.first_segment = checkpoint->cut.position.segment;
}

static int
edit_encode(void *argument)
{
    struct core *core = argument;
    struct checkpoint *checkpoint = core->checkpoint;
    checkpoint->bytes =
        manifest_edit_bytes(&core->manifest, &checkpoint->edit, &checkpoint->bytes_size);
    return checkpoint->bytes != NULL ? MSHM_OK : MSHM_NO_MEMORY;
}

static void
job_begin(struct core *core, int (*job)(void *), unsigned tag)
{
    core->checkpoint->working = true;
    core->env->job_start(core->env->context, job, core, CORE_TAG_CHECKPOINT + tag);
}

static int
gather_turn(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    for (uint32_t i = 0; i < SLICE_PAGES && checkpoint->gather_next < checkpoint->count; i++) {
        mshm_pid pid;
        data_location location;
        if (pages_result(core->pages, checkpoint->gather_next, &pid, &location) &&
            !page_add(checkpoint, pid, location))
            return checkpoint_hindered(core, MSHM_NO_MEMORY, "an edit of the manifest");
        checkpoint->gather_next++;
    }
    if (checkpoint->gather_next < checkpoint->count)
        return MSHM_OK;
    int status = files_gather(core, false);
    if (status != MSHM_OK)
        return checkpoint_hindered(core, status, "an edit of the manifest");
    edit_fill(core);
    checkpoint->stage = CHECKPOINT_ENCODE;
    return MSHM_OK;
}

/* --- appending --- */

static int
edit_append(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (checkpoint->manifest_file == NULL) {
        char name[MANIFEST_NAME_SIZE];
        manifest_name(name, core->manifest.number);
        int result = core->env->file_open(core->env->context, name, ENV_OPEN_WRITE,
                                          &checkpoint->manifest_file);
        if (result != 0) {
            checkpoint->manifest_file = NULL;
            return checkpoint_hindered(core, env_status(result), "the manifest");
        }
    }
    MACE_KILL_POINT("checkpoint:before_edit");
    checkpoint->working = true;
    core->env->file_append(core->env->context, checkpoint->manifest_file, core->manifest.size,
                           checkpoint->bytes, checkpoint->bytes_size, true,
                           CORE_TAG_CHECKPOINT + CHECKPOINT_TAG_EDIT);
    return MSHM_OK;
}

static void
edit_free(struct checkpoint *checkpoint)
{
    free(checkpoint->bytes);
    free(checkpoint->pages);
    free(checkpoint->files);
    checkpoint->bytes = NULL;
    checkpoint->pages = NULL;
    checkpoint->files = NULL;
    checkpoint->page_count = checkpoint->page_capacity = 0;
    checkpoint->file_count = 0;
}

/* --- a whole new manifest --- */

static void
each_durable(void *argument, mshm_pid pid, data_location location)
{
    page_add(argument, pid, location); /* room for a slice was made */
}

static bool
durable_reserve(struct checkpoint *checkpoint, uint64_t more)
{
    uint64_t needed = checkpoint->page_count + more;
    if (needed <= checkpoint->page_capacity)
        return true;
    uint64_t capacity = needed + needed / 2;
    void *grown = realloc(checkpoint->pages, capacity * sizeof *checkpoint->pages);
    if (grown == NULL)
        return false;
    checkpoint->pages = grown;
    checkpoint->page_capacity = capacity;
    return true;
}

static int
collect_turn(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (!durable_reserve(checkpoint, SLICE_PAGES))
        return checkpoint_hindered(core, MSHM_NO_MEMORY, "a new manifest");
    if (pages_each_durable(core->pages, &checkpoint->collect_next, SLICE_PAGES, each_durable,
                           checkpoint))
        return MSHM_OK;
    int status = files_gather(core, true);
    if (status != MSHM_OK)
        return checkpoint_hindered(core, status, "a new manifest");
    edit_fill(core);
    checkpoint->stage = CHECKPOINT_REWRITE;
    return MSHM_OK;
}

static int
manifest_write(void *argument)
{
    struct core *core = argument;
    struct checkpoint *checkpoint = core->checkpoint;
    if (checkpoint->bytes == NULL)
        checkpoint->bytes =
            manifest_snapshot_bytes(&core->manifest, &checkpoint->edit, &checkpoint->bytes_size);
    if (checkpoint->bytes == NULL)
        return MSHM_NO_MEMORY;
    return manifest_switch(core->env, core->manifest.number, checkpoint->bytes,
                           checkpoint->bytes_size);
}

/* --- turns and completions --- */

int
edit_turn(struct core *core, bool *moved)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (checkpoint->working)
        return MSHM_OK;
    *moved = true;
    switch (checkpoint->stage) {
    case CHECKPOINT_GATHER:
        return gather_turn(core);
    case CHECKPOINT_ENCODE:
        job_begin(core, edit_encode, CHECKPOINT_TAG_ENCODE);
        return MSHM_OK;
    case CHECKPOINT_EDIT:
        return edit_append(core);
    case CHECKPOINT_COLLECT:
        return collect_turn(core);
    default:
        job_begin(core, manifest_write, CHECKPOINT_TAG_REWRITE);
        return MSHM_OK;
    }
}

/* From here on the checkpoint counts. */
static void
edit_counts(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    MACE_KILL_POINT("checkpoint:edited");
    manifest_appended(&core->manifest, &checkpoint->edit, checkpoint->bytes,
                      checkpoint->bytes_size);
    edit_free(checkpoint);
    strays_settle(core);
    checkpoint->stage = CHECKPOINT_PUBLISH;
    manifest_mark_bytes(&core->manifest, checkpoint->mark);
    checkpoint->working = true;
    core->env->file_append(core->env->context, checkpoint->manifest_file, core->manifest.size,
                           checkpoint->mark, sizeof checkpoint->mark, false,
                           CORE_TAG_CHECKPOINT + CHECKPOINT_TAG_MARK);
}

static void
rewrite_counts(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    manifest_switched(&core->manifest, &checkpoint->edit, checkpoint->bytes,
                      checkpoint->bytes_size);
    if (checkpoint->manifest_file != NULL)
        core->env->file_close(core->env->context, checkpoint->manifest_file);
    checkpoint->manifest_file = NULL;
    edit_free(checkpoint);
    checkpoint->stage = CHECKPOINT_IDLE;
}

int
edit_complete(struct core *core, unsigned tag, int64_t result)
{
    struct checkpoint *checkpoint = core->checkpoint;
    checkpoint->working = false;
    if (tag == CHECKPOINT_TAG_ENCODE) {
        if (result != MSHM_OK)
            return checkpoint_hindered(core, result, "an edit of the manifest");
        checkpoint->stage = CHECKPOINT_EDIT;
    } else if (tag == CHECKPOINT_TAG_EDIT) {
        if (result != 0)
            return checkpoint_hindered(core, env_status(result), "the manifest cannot be written");
        edit_counts(core);
    } else if (tag == CHECKPOINT_TAG_MARK) {
        return MSHM_OK; /* without it the edit is only unproven: the next one brings the same bytes */
    } else {
        if (result != MSHM_OK)
            return checkpoint_hindered(core, result, "a new manifest cannot be written");
        rewrite_counts(core);
    }
    return MSHM_OK;
}

void
edit_fini(struct checkpoint *checkpoint)
{
    edit_free(checkpoint);
    free(checkpoint->removals);
    checkpoint->removals = NULL;
}
