/* spill.c - pages of the scratch file: their table, who holds them, what becomes of the file. See spill.h. */
#include <assert.h>
#include <stdlib.h>

#include "mshm/status.h"
#include "spill_parts.h"

enum {
    FIRST_PAGES = 256,
    UNITS_MOST = 1 << 30, /* of a file: 1 TiB */
};

int
spill_create(struct spill **spill, const struct spill_options *options, const struct env *env,
             struct mshm_counters *counters)
{
    struct spill *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return MSHM_NO_MEMORY;
    made->options = *options;
    made->env = env;
    made->counters = counters;
    made->end = 1; /* 0 is no number */
    uint64_t units = options->limit / SPILL_UNIT;
    made->space.limit = units < UNITS_MOST ? (uint32_t)units : UNITS_MOST;
    *spill = made;
    return MSHM_OK;
}

void
spill_destroy(struct spill *spill)
{
    if (spill == NULL)
        return;
    if (spill->file != NULL)
        spill->env->file_close(spill->env->context, spill->file);
    for (unsigned i = 0; i < SPILL_READS; i++)
        free(spill->readings[i].record);
    free(spill->batch.bytes);
    free(spill->space.bits);
    free(spill->pages);
    free(spill);
}

static void
spill_report(struct spill *spill)
{
    AO_store(&spill->counters->scratch_bytes, (uint64_t)spill->space.used * SPILL_UNIT);
    AO_store(&spill->counters->scratch_file, (uint64_t)spill->space.end * SPILL_UNIT);
    AO_store(&spill->counters->pages_scratch, spill->count);
}

/* --- pages --- */

const struct spill_page *
spill_page(const struct spill *spill, uint32_t number)
{
    assert(number > 0 && number < spill->end && spill->pages[number].references > 0);
    return &spill->pages[number];
}

/* 0: no memory. */
static uint32_t
number_new(struct spill *spill)
{
    uint32_t number = spill->free;
    if (number != 0) {
        spill->free = spill->pages[number].at;
    } else {
        if (spill->end >= spill->capacity) {
            uint32_t capacity = spill->capacity != 0 ? spill->capacity * 2 : FIRST_PAGES;
            struct spill_page *pages = realloc(spill->pages, capacity * sizeof(*pages));
            if (pages == NULL)
                return 0;
            spill->pages = pages;
            spill->capacity = capacity;
        }
        number = spill->end++;
    }
    spill->count++;
    return number;
}

static void
number_give_back(struct spill *spill, uint32_t number)
{
    spill->pages[number] = (struct spill_page){.at = spill->free};
    spill->free = number;
    spill->count--;
}

uint32_t
spill_page_new(struct spill *spill, const struct spill_page *page, uint32_t at)
{
    uint32_t number = number_new(spill);
    if (number == 0)
        return 0;
    if (space_take(&spill->space, at, spill_units(page->size)) != MSHM_OK) {
        number_give_back(spill, number);
        return 0;
    }
    spill_hold(spill, page->next);
    spill->pages[number] = *page;
    spill->pages[number].references = 2;
    spill->pages[number].at = at;
    spill->pages[number].birth = ++spill->births;
    spill_report(spill);
    return number;
}

static int
close_job(void *argument)
{
    const struct spill *spill = argument;
    spill->env->file_close(spill->env->context, spill->closing);
    return 0;
}

/* Nothing is in it any more. Closing a large file takes its time, so a job does it, unless one is still at the last one. */
static void
file_give_back(struct spill *spill)
{
    const struct env *env = spill->env;
    space_reset(&spill->space);
    free(spill->pages);
    spill->pages = NULL;
    spill->capacity = spill->free = 0;
    spill->end = 1;
    if (spill->file == NULL)
        return;
    if (spill->closing == NULL) {
        spill->closing = spill->file;
        env->job_start(env->context, close_job, spill, spill->options.tag_base + SPILL_TAG_CLOSE);
    } else {
        env->file_close(env->context, spill->file);
    }
    spill->file = NULL;
}

void
spill_hold(struct spill *spill, AO_t word)
{
    uint32_t number = spill_number(word);
    if (number == 0)
        return;
    assert(spill->pages[number].references > 0);
    spill->pages[number].references++;
}

void
spill_release(struct spill *spill, AO_t word)
{
    bool freed = false;
    for (uint32_t number = spill_number(word); number != 0; number = spill_number(word)) {
        struct spill_page *page = &spill->pages[number];
        assert(page->references > 0);
        if (--page->references > 0)
            break;
        freed = true;
        word = page->next;
        space_give(&spill->space, page->at, spill_units(page->size));
        number_give_back(spill, number);
        spill->full = false;
    }
    if (!freed)
        return;
    if (spill->count == 0)
        file_give_back(spill);
    spill_report(spill);
}

void
spill_link(struct spill *spill, uint32_t number, AO_t next)
{
    AO_t former = spill_page(spill, number)->next;
    spill_hold(spill, next);
    spill->pages[number].next = next;
    spill_release(spill, former);
}

/* --- the whole --- */

bool
spill_idle(const struct spill *spill)
{
    return !spill->batch.sending && spill->reading_count == 0 && spill->closing == NULL;
}

uint32_t
spill_end(const struct spill *spill)
{
    return spill->end;
}

/* What the file's own side holds. */
static void
held_add(const struct spill *spill, uint32_t *held)
{
    for (uint32_t i = 1; i < spill->end; i++)
        if (spill->pages[i].references > 0)
            held[spill_number(spill->pages[i].next)]++;
    for (unsigned i = 0; i < SPILL_READS; i++)
        held[spill->readings[i].number]++;
    for (uint32_t i = 0; i < spill->batch.count; i++)
        held[spill->batch.numbers[i]]++;
}

int
spill_check(const struct spill *spill, uint32_t *held, const char **why)
{
    uint64_t units = 0;
    uint32_t count = 0;
    held_add(spill, held);
    for (uint32_t i = 1; i < spill->end; i++) {
        const struct spill_page *page = &spill->pages[i];
        if (page->references != held[i]) {
            *why = "a page of the scratch file is held by others than it counts";
            return MSHM_CORRUPT;
        }
        count += page->references > 0;
        units += page->references > 0 ? spill_units(page->size) : 0;
    }
    if (count == spill->count && units == spill->space.used)
        return MSHM_OK;
    *why = "the scratch file's sums are wrong";
    return MSHM_CORRUPT;
}
