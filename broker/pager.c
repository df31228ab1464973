/* pager.c - who waits for which page, and which reads are under way.
 *
 *                    place free              all records checked            installed, or failed
 *   want --> LINE -----------------> READING ---------------------> (lay out) ----------------> ENDED --> waiters told
 *                                     |  ^  ^                        |     ^
 *                 the page is not where |  |  `--- older ones         |     | a frame is free
 *                 it was: once more     '--'                  no frame v     |
 *                                                             FRAMELESS ----'
 *
 * A page has an entry in the table from the first wish to the end; an entry that has ended is in the table no more.
 * Waiters are told from pager_complete and pager_turn only, after everything here is in order: what they call may
 * come back here.
 */
#include "pager.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "env_status.h"
#include "mshm/status.h"
#include "pager_parts.h"

enum { RETRY_NS = 100 * 1000 /* between two looks for a frame */ };
enum { TAGS_PER_PLACE = PAGER_TAGS / PAGER_READS, TABLE_FIRST = 64, NO_PLACE = PAGER_READS };
static_assert(TAGS_PER_PLACE >= DATA_CHAIN_MAX + 1, "each record of a page has a tag");

struct waiter {
    struct waiter *next;
    struct pager_wait *wait;
};

struct page_in {
    struct page_in *chain; /* in the table */
    struct page_in *next;  /* in the line, among the frameless, or among the ended */
    struct waiter *waiters;
    mshm_pid pid;
    uint32_t place;   /* NO_PLACE: not under way */
    unsigned pending; /* reads that have not ended */
    int status;
    const char *why;
    data_location where; /* of the record that status is about */
    struct page_records records;
};

/* --- the table and the queues --- */

static struct page_in **
table_link(struct pager *pager, mshm_pid pid)
{
    struct page_in **link = &pager->table[pid * UINT32_C(0x9e3779b1) & (pager->table_size - 1)];
    while (*link != NULL && (*link)->pid != pid)
        link = &(*link)->chain;
    return link;
}

/* More chains. Without memory the chains get longer. */
static void
table_grow(struct pager *pager)
{
    uint32_t size = pager->table_size, more = size * 2;
    struct page_in **former = pager->table, **table = calloc(more, sizeof(struct page_in *));
    if (table == NULL)
        return;
    pager->table = table;
    pager->table_size = more;
    for (uint32_t i = 0; i < size; i++)
        while (former[i] != NULL) {
            struct page_in *entry = former[i];
            former[i] = entry->chain;
            entry->chain = NULL;
            *table_link(pager, entry->pid) = entry;
        }
    free(former);
}

static void
queue_add(struct page_in ***end, struct page_in *entry)
{
    entry->next = NULL;
    **end = entry;
    *end = &entry->next;
}

static struct page_in *
queue_take(struct page_in **first, struct page_in ***end)
{
    struct page_in *entry = *first;
    *first = entry->next;
    if (*first == NULL)
        *end = first;
    return entry;
}

int
pager_create(struct pager **pager, const struct pager_options *options, const struct env *env,
             struct frames *frames, struct pages *pages, struct data *data, pager_history *history,
             void *history_argument, struct mshm_counters *counters)
{
    struct pager *made = calloc(1, sizeof(*made));
    if (made == NULL)
        return MSHM_NO_MEMORY;
    made->options = *options;
    made->env = env;
    made->frames = frames;
    made->pages = pages;
    made->data = data;
    made->history = history;
    made->history_argument = history_argument;
    made->counters = counters;
    made->table_size = TABLE_FIRST;
    made->line_end = &made->line;
    made->frameless_end = &made->frameless;
    made->ended_end = &made->ended;
    for (uint32_t i = 0; i < PAGER_READS; i++)
        made->free_places[made->free_count++] = (uint16_t)(PAGER_READS - 1 - i);
    made->table = calloc(TABLE_FIRST, sizeof(struct page_in *));
    if (made->table == NULL || page_content_create(&made->content) != MSHM_OK) {
        pager_destroy(made);
        return MSHM_NO_MEMORY;
    }
    *pager = made;
    return MSHM_OK;
}

static void
entry_free(struct page_in *entry)
{
    while (entry->waiters != NULL) {
        struct waiter *waiter = entry->waiters;
        entry->waiters = waiter->next;
        free(waiter);
    }
    page_records_free(&entry->records);
    free(entry);
}

void
pager_destroy(struct pager *pager)
{
    if (pager == NULL)
        return;
    for (uint32_t i = 0; pager->table != NULL && i < pager->table_size; i++)
        while (pager->table[i] != NULL) {
            struct page_in *entry = pager->table[i];
            pager->table[i] = entry->chain;
            entry_free(entry);
        }
    while (pager->ended != NULL)
        entry_free(queue_take(&pager->ended, &pager->ended_end));
    page_content_destroy(pager->content);
    free(pager->table);
    free(pager);
}

/* --- a page's way --- */

/* The page is in memory, or cannot be had. */
static void
entry_end(struct pager *pager, struct page_in *entry, int status)
{
    assert(entry->pending == 0);
    *table_link(pager, entry->pid) = entry->chain;
    pager->table_count--;
    if (entry->place != NO_PLACE) {
        pager->places[entry->place] = NULL;
        pager->free_places[pager->free_count++] = (uint16_t)entry->place;
        entry->place = NO_PLACE;
    }
    page_records_free(&entry->records);
    entry->status = status;
    queue_add(&pager->ended_end, entry);
}

static void
entry_fail(struct page_in *entry, unsigned index, int status, const char *why)
{
    if (entry->status != MSHM_OK)
        return;
    entry->status = status;
    entry->why = why;
    entry->where = page_records_location(&entry->records, index);
}

/* Starts the read of one record. */
static void
entry_read(struct pager *pager, struct page_in *entry, unsigned index)
{
    struct page_records *records = &entry->records;
    data_location location = page_records_location(records, index);
    struct env_file *file;
    const char *why = NULL;
    int status = data_open(pager->data, location, &file, &why);
    if (status == MSHM_OK)
        status = page_records_reserve(records, index);
    if (status != MSHM_OK) {
        entry_fail(entry, index, status, why);
        return;
    }
    entry->pending++;
    pager->env->file_read_start(pager->env->context, file, data_location_offset(location),
                                records->bytes[index], data_location_size(location),
                                pager->options.tag_base + entry->place * TAGS_PER_PLACE + index);
}

static void
entry_lay_out(struct pager *pager, struct page_in *entry)
{
    const char *why = NULL;
    uint32_t class = 0;
    int status = pager_lay_out(pager, entry->pid, &entry->records, &class, &why);
    if (status == MSHM_FULL) {
        if (pager->frameless == NULL)
            pager->frameless_class = class;
        queue_add(&pager->frameless_end, entry);
        return;
    }
    pager_report(pager, entry->pid, entry->records.location, status, why);
    entry_end(pager, entry, status);
}

/* Begins with the newest record, or, when the others are remembered, with all of them side by side. */
static void
entry_start(struct pager *pager, struct page_in *entry, data_location location)
{
    struct page_records *records = &entry->records;
    struct page_known known;
    bool misled = records->misled;
    page_records_free(records);
    *records = (struct page_records){.location = location, .count = 1};
    entry->status = MSHM_OK;
    records->recalled = !misled && pages_recall(pager->pages, entry->pid, location, &known);
    if (records->recalled)
        memcpy(records->older, known.older, sizeof known.older);
    entry_read(pager, entry, 0);
    for (unsigned i = 1; records->recalled && i <= data_location_older(location); i++)
        entry_read(pager, entry, i);
}

/* No read is under way: what next? When the page has been written to another place meanwhile, what was read does not
 * count, not even a failure: its file may be gone. */
static void
entry_go_on(struct pager *pager, struct page_in *entry)
{
    struct page_records *records = &entry->records;
    while (entry->pending == 0) {
        data_location location = pages_location(pager->pages, entry->pid);
        if (location == 0) {
            entry_end(pager, entry, MSHM_OK);
            return;
        }
        if (location != records->location || records->misled) {
            entry_start(pager, entry, location);
            continue;
        }
        if (entry->status != MSHM_OK) {
            pager_report(pager, entry->pid, entry->where, entry->status, entry->why);
            entry_end(pager, entry, entry->status);
            return;
        }
        if (records->count == 1 + data_location_older(location) &&
            records->bytes[records->count - 1] != NULL) {
            entry_lay_out(pager, entry);
            return;
        }
        for (unsigned i = 1; i <= data_location_older(location); i++)
            entry_read(pager, entry, i);
    }
}

/* Pages from the line onto free places. */
static bool
line_move(struct pager *pager)
{
    bool moved = false;
    while (pager->line != NULL && pager->free_count > 0) {
        struct page_in *entry = queue_take(&pager->line, &pager->line_end);
        entry->place = pager->free_places[--pager->free_count];
        pager->places[entry->place] = entry;
        moved = true;
        entry_go_on(pager, entry);
    }
    return moved;
}

/* Pages that waited for a frame, in their order, until there is none again. */
static bool
frameless_move(struct pager *pager)
{
    bool moved = false;
    while (pager->frameless != NULL) {
        struct page_in *rest = pager->frameless->next, *entry = pager->frameless;
        struct page_in **rest_end = pager->frameless_end;
        pager->frameless = NULL;
        pager->frameless_end = &pager->frameless;
        entry_go_on(pager, entry);
        bool stuck = pager->frameless == entry;
        if (rest != NULL) {
            *pager->frameless_end = rest;
            pager->frameless_end = rest_end;
        }
        if (stuck)
            break;
        moved = true;
    }
    return moved;
}

void
pager_wait_tell(struct pager_wait *wait, int status)
{
    if (wait->status == MSHM_OK)
        wait->status = status;
    if (--wait->left == 0)
        wait->done(wait->argument, wait);
}

/* Tells waiters. One that is told may wish for pages or forget others that wait. */
static bool
ended_move(struct pager *pager)
{
    bool moved = false;
    while (pager->ended != NULL) {
        struct page_in *entry = pager->ended;
        struct waiter *waiter = entry->waiters;
        moved = true;
        if (waiter == NULL) {
            entry_free(queue_take(&pager->ended, &pager->ended_end));
            continue;
        }
        struct pager_wait *wait = waiter->wait;
        entry->waiters = waiter->next;
        free(waiter);
        pager_wait_tell(wait, entry->status);
    }
    return moved;
}

/* --- the outside --- */

static struct page_in *
entry_create(struct pager *pager, mshm_pid pid)
{
    struct page_in *entry = calloc(1, sizeof(*entry));
    if (entry == NULL)
        return NULL;
    entry->pid = pid;
    entry->place = NO_PLACE;
    if (pager->table_count >= pager->table_size)
        table_grow(pager);
    *table_link(pager, pid) = entry;
    pager->table_count++;
    queue_add(&pager->line_end, entry);
    return entry;
}

int
pager_want(struct pager *pager, mshm_pid pid, struct pager_wait *wait)
{
    if (pages_location(pager->pages, pid) == 0)
        return MSHM_EXISTS;
    struct waiter *waiter = wait != NULL ? malloc(sizeof(*waiter)) : NULL;
    if (wait != NULL && waiter == NULL)
        return MSHM_NO_MEMORY;
    struct page_in *entry = *table_link(pager, pid);
    if (entry == NULL)
        entry = entry_create(pager, pid);
    if (entry == NULL) {
        free(waiter);
        return MSHM_NO_MEMORY;
    }
    if (waiter != NULL) {
        *waiter = (struct waiter){.next = entry->waiters, .wait = wait};
        entry->waiters = waiter;
        wait->left++;
    }
    line_move(pager);
    return MSHM_OK;
}

static void
waiters_forget(struct page_in *entry, const struct pager_wait *wait)
{
    struct waiter **link = &entry->waiters;
    while (*link != NULL) {
        struct waiter *waiter = *link;
        if (waiter->wait != wait) {
            link = &waiter->next;
            continue;
        }
        *link = waiter->next;
        free(waiter);
    }
}

void
pager_forget(struct pager *pager, struct pager_wait *wait)
{
    for (uint32_t i = 0; i < pager->table_size; i++)
        for (struct page_in *entry = pager->table[i]; entry != NULL; entry = entry->chain)
            waiters_forget(entry, wait);
    for (struct page_in *entry = pager->ended; entry != NULL; entry = entry->next)
        waiters_forget(entry, wait);
    wait->left = 0;
}

void
pager_complete(struct pager *pager, const struct env_completion *completion)
{
    uint64_t tag = completion->tag - pager->options.tag_base;
    assert(tag < PAGER_TAGS);
    struct page_in *entry = pager->places[tag / TAGS_PER_PLACE];
    unsigned index = (unsigned)(tag % TAGS_PER_PLACE);
    assert(entry != NULL && entry->pending > 0);
    struct page_records *records = &entry->records;
    const char *why = NULL;
    int status = env_status(completion->result);
    entry->pending--;
    if (status == MSHM_OK &&
        completion->result != (int64_t)data_location_size(page_records_location(records, index))) {
        status = MSHM_CORRUPT;
        why = "the data file ends before the record does";
    }
    if (status == MSHM_OK)
        status = page_records_check(records, pager, entry->pid, index, &why);
    if (status != MSHM_OK)
        entry_fail(entry, index, status, why);
    entry_go_on(pager, entry);
    line_move(pager);
    ended_move(pager);
}

/* Clean pages leave memory, so that the first page that waits for a frame gets one; readers may still be in theirs.
 * Looking again at once would be in vain. */
static bool
frameless_turn(struct pager *pager)
{
    const struct env *env = pager->env;
    if (pager->frameless == NULL)
        return false;
    uint64_t now_ns = env->clock_ns(env->context);
    if (now_ns < pager->retry_ns)
        return false;
    bool moved = frameless_move(pager);
    if (pager->frameless == NULL)
        return moved;
    if (!frames_pending(pager->frames))
        pages_evict(pager->pages, mshm_class_size(pager->frameless_class), now_ns);
    frames_reclaim(pager->frames, true);
    pager->retry_ns = now_ns + RETRY_NS;
    return moved;
}

bool
pager_turn(struct pager *pager)
{
    bool moved = frameless_turn(pager);
    moved = line_move(pager) || moved;
    return ended_move(pager) || moved;
}

bool
pager_idle(const struct pager *pager)
{
    return pager->table_count == 0 && pager->ended == NULL;
}

bool
pager_reads(const struct pager *pager, uint32_t file)
{
    for (uint32_t place = 0; place < PAGER_READS; place++) {
        const struct page_in *entry = pager->places[place];
        if (entry == NULL || entry->pending == 0)
            continue;
        const struct page_records *records = &entry->records;
        unsigned count =
            records->recalled ? 1 + data_location_older(records->location) : records->count;
        for (unsigned i = 0; i < count; i++)
            if (data_location_file(page_records_location(records, i)) == file)
                return true;
    }
    return false;
}

uint64_t
pager_short(const struct pager *pager)
{
    return pager->frameless != NULL ? mshm_class_size(pager->frameless_class) : 0;
}
