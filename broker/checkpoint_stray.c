/* checkpoint_stray.c - pages that a checkpoint cannot read: told, put into the table that the manifest keeps, and taken up
 * again by a start. See strays.h.
 */
#include <inttypes.h>
#include <stdio.h>

#include "checkpoint_parts.h"
#include "mshm/status.h"

/* Said once, however many checkpoints try it in vain. Whoever reads its keys is told, too. */
static void
stray_report(struct core *core, const struct page_source *source, int status)
{
    char line[224];
    if (strays_known(&core->checkpoint->strays, source->pid))
        return;
    snprintf(
        line, sizeof line,
        "page %" PRIu32 ": its record in data file %" PRIu32 " at %" PRIu64
        " cannot be extended (%s): what was written to it is kept in the manifest until it can",
        source->pid, data_location_file(source->location), data_location_offset(source->location),
        mshm_strerror(status));
    core->env->log(core->env->context, ENV_LOG_ERROR, line);
    if (status == MSHM_CORRUPT)
        mshm_counter_add(&core->figures->counters.pages_corrupt, 1);
}

int
batch_strays(struct core *core, const struct batch *batch)
{
    struct strays *strays = &core->checkpoint->strays;
    uint32_t pages = 0, writes = 0;
    uint64_t size = 0, bytes = 0;
    for (uint32_t i = batch->done; i < batch->done + batch->packed; i++) {
        const struct blind_entry *entry = batch->sources[i].blind;
        if (batch->statuses[i] == MSHM_OK)
            continue;
        pages++;
        size += strays_cost(entry);
        for (; entry != NULL; entry = blind_entry_older(entry), writes++)
            bytes += (uint64_t)entry->key_size + entry->value_size;
    }
    if (pages == 0)
        return MSHM_OK;
    int status = strays_reserve(strays, pages, size);
    if (status == MSHM_OK)
        status = pages_carry_reserve(core->pages, writes, bytes);
    for (uint32_t i = batch->done; i < batch->done + batch->packed && status == MSHM_OK; i++) {
        if (batch->statuses[i] == MSHM_OK)
            continue;
        strays_add(strays, batch->sources[i].pid, batch->sources[i].blind);
        pages_carry(core->pages, batch->first + i);
        stray_report(core, &batch->sources[i], batch->statuses[i]);
    }
    return status;
}

void
records_lose(struct core *core, const struct page_source *source, uint32_t count)
{
    struct checkpoint *checkpoint = core->checkpoint;
    if (checkpoint->lost == 0) {
        checkpoint->lost_below = source->location;
        checkpoint->lost_page = source->pid;
    }
    checkpoint->lost += count;
}

/* One line, however many there are: a device that reads nothing may lose those of all pages. */
static void
lost_report(struct core *core)
{
    struct checkpoint *checkpoint = core->checkpoint;
    char line[256];
    if (checkpoint->lost == 0)
        return;
    snprintf(line, sizeof line,
             "checkpoint: %" PRIu64
             " records are garbage and stay counted as in use, because the records that name "
             "them cannot be read (page %" PRIu32 ", data file %" PRIu32 " at %" PRIu64
             " is one of these): mace-check tells how much it is",
             checkpoint->lost, checkpoint->lost_page, data_location_file(checkpoint->lost_below),
             data_location_offset(checkpoint->lost_below));
    core->env->log(core->env->context, ENV_LOG_WARNING, line);
    checkpoint->lost = 0;
}

void
strays_settle(struct core *core)
{
    lost_report(core);
    struct strays *strays = &core->checkpoint->strays;
    uint32_t former = strays->known_count;
    strays_count(strays);
    AO_store(&core->figures->counters.pages_stray, strays->known_count);
    if (former > 0 && strays->known_count == 0)
        core->env->log(core->env->context, ENV_LOG_INFO,
                       "checkpoint: all pages could be read again, and have their writes");
}

static int
stray_restore(void *argument, mshm_pid pid, const struct mshm_version *version)
{
    struct core *core = argument;
    return pages_restore_stray(core->pages, pid, version);
}

int
checkpoint_restore(struct core *core, const void *strays, uint64_t size)
{
    struct checkpoint *checkpoint = core->checkpoint;
    uint64_t cut = core->manifest.cut.timestamp;
    int status = strays_load(&checkpoint->strays, strays, size, cut);
    if (status == MSHM_OK)
        status = strays_read(strays, size, cut, stray_restore, core);
    AO_store(&core->figures->counters.pages_stray, checkpoint->strays.known_count);
    return status;
}
