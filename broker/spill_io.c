/* spill_io.c - writing pages to the scratch file, and reading them. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "env_status.h"
#include "kill_point.h"
#include "spill_parts.h"

static const uint64_t pause_ns = UINT64_C(1000000000); /* after a failure */
static const uint64_t slow_ns = UINT64_C(1000000000);  /* as long as a write may take */
/* Of no account where files without names can be made; elsewhere the next start removes what a crash leaves of it. */
static const char scratch_name[] = "data/scratch.tmp";

/* --- writing --- */

bool
spill_sending(const struct spill *spill)
{
    return spill->batch.sending;
}

bool
spill_blocked(const struct spill *spill, uint64_t now_ns)
{
    const struct spill_batch *batch = &spill->batch;
    return spill->space.limit == 0 || spill->full || now_ns < spill->paused_ns ||
           (batch->sending && now_ns >= batch->sent_ns + slow_ns);
}

bool
spill_ready(const struct spill *spill, uint64_t now_ns)
{
    return !spill->batch.sending && !spill_blocked(spill, now_ns);
}

bool
spill_nearly_full(const struct spill *spill)
{
    return spill->space.limit > 0 &&
           (spill->full || spill->space.used > spill->space.limit / 8 * 7);
}

/* History stays in memory for a while. One line for each time that this begins. */
static void
spill_fail(struct spill *spill, int64_t result)
{
    char line[128];
    spill->paused_ns = spill->env->clock_ns(spill->env->context) + pause_ns;
    if (spill->failing)
        return;
    spill->failing = true;
    snprintf(line, sizeof(line),
             "the scratch file cannot be written (%s): old versions stay in memory",
             strerror((int)-result));
    spill->env->log(spill->env->context, ENV_LOG_WARNING, line);
}

static int
batch_begin(struct spill *spill)
{
    struct spill_batch *batch = &spill->batch;
    const struct env *env = spill->env;
    if (batch->bytes == NULL)
        batch->bytes = aligned_alloc(4096, SPILL_BATCH);
    if (batch->bytes == NULL) {
        spill_fail(spill, -ENOMEM);
        return MSHM_NO_MEMORY;
    }
    if (spill->file == NULL) {
        int result =
            env->file_open(env->context, scratch_name,
                           ENV_OPEN_CREATE | ENV_OPEN_WRITE | ENV_OPEN_UNNAMED, &spill->file);
        if (result != 0) {
            spill->file = NULL;
            spill_fail(spill, result);
            return env_status(result);
        }
        MACE_KILL_POINT("spill:opened");
    }
    batch->room = space_find(&spill->space, &batch->at);
    if (batch->room > BATCH_UNITS)
        batch->room = BATCH_UNITS;
    batch->used = 0;
    return MSHM_OK;
}

static uint32_t
record_checksum(const struct spill_record *record)
{
    struct spill_record header = *record;
    header.checksum = 0;
    return crc_extend(crc_extend(0, &header, sizeof(header)), record + 1, header.size);
}

static void
record_fill(const struct spill_page *page, const void *bytes, uint8_t *to)
{
    struct spill_record *record = (void *)to;
    *record = (struct spill_record){
        .magic = SPILL_MAGIC, .birth = page->birth, .size = page->size, .pid = page->pid};
    memcpy(record + 1, bytes, page->size);
    size_t end = sizeof(*record) + page->size;
    memset(to + end, 0, (size_t)spill_units(page->size) * SPILL_UNIT - end);
    record->checksum = record_checksum(record);
}

int
spill_add(struct spill *spill, const struct spill_page *page, const void *bytes, uint32_t *number)
{
    struct spill_batch *batch = &spill->batch;
    uint32_t units = spill_units(page->size);
    int status = MSHM_OK;
    if (batch->sending)
        return MSHM_BUSY;
    if (batch->count == 0 && (status = batch_begin(spill)) != MSHM_OK)
        return status;
    if (batch->used + units > batch->room) {
        if (batch->count > 0)
            return MSHM_BUSY;
        spill->full = true;
        return MSHM_FULL;
    }
    uint32_t added = spill_page_new(spill, page, batch->at + batch->used);
    if (added == 0) {
        if (batch->count == 0)
            spill_fail(spill, -ENOMEM);
        return MSHM_NO_MEMORY;
    }
    record_fill(spill_page(spill, added), bytes, batch->bytes + (size_t)batch->used * SPILL_UNIT);
    batch->numbers[batch->count++] = added;
    batch->used += units;
    *number = added;
    return MSHM_OK;
}

bool
spill_send(struct spill *spill)
{
    struct spill_batch *batch = &spill->batch;
    if (batch->sending || batch->count == 0)
        return false;
    batch->sending = true;
    batch->sent_ns = spill->env->clock_ns(spill->env->context);
    spill->env->file_append(spill->env->context, spill->file, (uint64_t)batch->at * SPILL_UNIT,
                            batch->bytes, (size_t)batch->used * SPILL_UNIT, false,
                            spill->options.tag_base + SPILL_TAG_WRITE);
    return true;
}

static void
batch_end(struct spill *spill, int64_t result)
{
    struct spill_batch *batch = &spill->batch;
    assert(batch->sending);
    batch->sending = false;
    if (result < 0) {
        spill_fail(spill, result);
    } else {
        MACE_KILL_POINT("spill:written");
        spill->failing = false;
        mshm_counter_add(&spill->counters->scratch_written, (uint64_t)batch->used * SPILL_UNIT);
    }
    uint32_t count = batch->count;
    batch->count = 0;
    for (uint32_t i = 0; i < count; i++)
        spill->options.written(spill->options.argument, batch->numbers[i], env_status(result));
    for (uint32_t i = 0; i < count; i++)
        spill_release(spill, spill_word(batch->numbers[i]));
}

/* --- reading --- */

static int
record_check(const struct spill *spill, uint32_t number, const struct spill_record *record,
             int64_t result, const char **why)
{
    const struct spill_page *page = spill_page(spill, number);
    *why = "reading failed";
    if (result < 0)
        return env_status(result);
    *why = "the file ends before it";
    if (result != (int64_t)(sizeof(*record) + page->size))
        return MSHM_CORRUPT;
    *why = "another page stands there";
    if (record->magic != SPILL_MAGIC || record->birth != page->birth ||
        record->size != page->size || record->pid != page->pid)
        return MSHM_CORRUPT;
    *why = "its checksum does not fit";
    return record->checksum == record_checksum(record) ? MSHM_OK : MSHM_CORRUPT;
}

static void
damage_report(struct spill *spill, uint32_t number, int status, const char *why)
{
    char line[160];
    if (status == MSHM_CORRUPT)
        mshm_counter_add(&spill->counters->pages_corrupt, 1);
    const struct spill_page *page = spill_page(spill, number);
    snprintf(line, sizeof(line),
             "history of page %" PRIu32 " cannot be read: scratch file, offset %" PRIu64 ": %s",
             page->pid, (uint64_t)page->at * SPILL_UNIT, why);
    spill->env->log(spill->env->context, ENV_LOG_ERROR, line);
}

static struct spill_record *
record_allocate(const struct spill_page *page)
{
    return aligned_alloc(SPILL_UNIT, (size_t)spill_units(page->size) * SPILL_UNIT);
}

int
spill_read(struct spill *spill, uint32_t number, mshm_pid reader)
{
    const struct spill_page *page = spill_page(spill, number);
    unsigned place = 0;
    while (place < SPILL_READS && spill->readings[place].number != 0)
        place++;
    if (place == SPILL_READS)
        return MSHM_BUSY;
    struct spill_reading *reading = &spill->readings[place];
    reading->record = record_allocate(page);
    if (reading->record == NULL)
        return MSHM_NO_MEMORY;
    reading->number = number;
    reading->reader = reader;
    spill->reading_count++;
    spill_hold(spill, spill_word(number));
    spill->env->file_read_start(spill->env->context, spill->file, (uint64_t)page->at * SPILL_UNIT,
                                reading->record, sizeof(*reading->record) + page->size,
                                spill->options.tag_base + SPILL_TAG_READ + place);
    return MSHM_OK;
}

static void
reading_end(struct spill *spill, struct spill_reading *reading, int64_t result)
{
    struct spill_record *record = reading->record;
    uint32_t number = reading->number;
    mshm_pid reader = reading->reader;
    const char *why;
    assert(number != 0);
    int status = record_check(spill, number, record, result, &why);
    if (status != MSHM_OK)
        damage_report(spill, number, status, why);
    else
        mshm_counter_add(&spill->counters->scratch_reads, 1);
    *reading = (struct spill_reading){0};
    spill->reading_count--;
    spill->options.read(spill->options.argument, number, reader, status, record + 1);
    free(record);
    spill_release(spill, spill_word(number));
}

int
spill_peek(struct spill *spill, uint32_t number, void *to)
{
    const struct spill_page *page = spill_page(spill, number);
    struct spill_record *record = record_allocate(page);
    const char *why;
    if (record == NULL)
        return MSHM_NO_MEMORY;
    int64_t result =
        spill->env->file_read(spill->env->context, spill->file, (uint64_t)page->at * SPILL_UNIT,
                              record, sizeof(*record) + page->size);
    int status = record_check(spill, number, record, result, &why);
    if (status == MSHM_OK)
        memcpy(to, record + 1, page->size);
    free(record);
    return status;
}

/* --- what has ended --- */

void
spill_complete(struct spill *spill, const struct env_completion *completion)
{
    uint64_t tag = completion->tag - spill->options.tag_base;
    assert(tag < SPILL_TAGS);
    if (tag == SPILL_TAG_WRITE)
        batch_end(spill, completion->result);
    else if (tag == SPILL_TAG_CLOSE)
        spill->closing = NULL;
    else
        reading_end(spill, &spill->readings[tag - SPILL_TAG_READ], completion->result);
}
