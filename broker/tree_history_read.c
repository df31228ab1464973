/* tree_history_read.c - history on its way back into memory.
 *
 *            a read may begin          read and checked                     in the chain, or failed
 *   want --> LINE -------------> READING ---------------> (lay out) ------------------------> ENDED --> waiters told
 *             ^                                             |  no frame
 *             '---------------------------------------------'  (what was read is read again)
 *
 * One page of a leaf's history comes in at a time, the newest that is out: whoever needs an older one asks again. A leaf has
 * an entry in the table from the first wish to the end. Waiters are told from tree_history_arrive only, after everything
 * here is in order: what they call may come back here.
 */
#include "kill_point.h"
#include "pager.h"
#include "tree_parts.h"

enum { TABLE_SIZE = 1024, RETRY_NS = 100 * 1000 /* between two looks for a frame */ };

struct history_waiter {
    struct history_waiter *next;
    struct pager_wait *wait;
};

struct history_in {
    struct history_in *chain; /* in the table */
    struct history_in *next;  /* in the line, or among the ended */
    struct history_waiter *waiters;
    mshm_pid pid;
    uint32_t number; /* of the page that is being read; 0: none */
    uint32_t bytes;  /* of the frame for it */
    int status;
};

static struct history_in **
table_link(struct tree *tree, mshm_pid pid)
{
    struct history_in **link = &tree->out.table[pid * UINT32_C(0x9e3779b1) >> 22];
    while (*link != NULL && (*link)->pid != pid)
        link = &(*link)->chain;
    return link;
}
static_assert(TABLE_SIZE == 1 << (32 - 22), "as many chains as the hash has values");

static void
queue_add(struct history_in ***end, struct history_in *entry)
{
    entry->next = NULL;
    **end = entry;
    *end = &entry->next;
}

static struct history_in *
queue_take(struct history_in **first, struct history_in ***end)
{
    struct history_in *entry = *first;
    *first = entry->next;
    if (*first == NULL)
        *end = first;
    return entry;
}

static void
entry_free(struct history_in *entry)
{
    while (entry->waiters != NULL) {
        struct history_waiter *waiter = entry->waiters;
        entry->waiters = waiter->next;
        free(waiter);
    }
    free(entry);
}

int
history_in_init(struct tree *tree)
{
    struct history_out *out = &tree->out;
    out->line_end = &out->line;
    out->ended_end = &out->ended;
    out->table = calloc(TABLE_SIZE, sizeof(struct history_in *));
    return out->table != NULL ? MSHM_OK : MSHM_NO_MEMORY;
}

void
history_in_fini(struct tree *tree)
{
    struct history_out *out = &tree->out;
    for (uint32_t i = 0; out->table != NULL && i < TABLE_SIZE; i++)
        while (out->table[i] != NULL) {
            struct history_in *entry = out->table[i];
            out->table[i] = entry->chain;
            entry_free(entry);
        }
    while (out->table != NULL && out->ended != NULL)
        entry_free(queue_take(&out->ended, &out->ended_end));
    free(out->table);
}

static void
entry_end(struct tree *tree, struct history_in *entry, int status)
{
    *table_link(tree, entry->pid) = entry->chain;
    entry->status = status;
    queue_add(&tree->out.ended_end, entry);
}

/* The newest page of the leaf's history that is out; 0: none. */
static uint32_t
page_out(const struct tree *tree, mshm_pid pid, struct history_link *link)
{
    return history_link_find(tree, pid, link) ? spill_number(link->word) : 0;
}

/* Whether readers' part of history's share has room for so much more; the rest is left to commits. What has no room comes in
 * one at a time, and so seldom that the one before it, which has a copy in the file, has left again: readers go on, whatever
 * history does. */
static bool
share_allows(struct tree *tree, uint32_t bytes)
{
    struct history_out *out = &tree->out;
    uint64_t now = tree->env->clock_ns(tree->env->context);
    uint64_t share = tree->options.history_limit / 4 * 3;
    if (tree->history_bytes + out->reading_bytes + bytes <= share)
        return true;
    if (out->reading_bytes > 0 || now < out->crowded_ns)
        return false;
    out->crowded_ns = now + 2 * tree->options.fresh_ns;
    return true;
}

static int
entry_read(struct tree *tree, struct history_in *entry, uint32_t number)
{
    struct history_out *out = &tree->out;
    unsigned class = tree_class(spill_page(out->spill, number)->size);
    uint32_t bytes = class < MSHM_CLASSES ? mshm_class_size(class) : 0;
    if (!share_allows(tree, bytes))
        return MSHM_BUSY;
    int status = spill_read(out->spill, number, entry->pid);
    if (status != MSHM_OK)
        return status;
    entry->number = number;
    entry->bytes = bytes;
    out->reading_bytes += bytes;
    return MSHM_OK;
}

/* Takes the first one out of the line when a read of it can be begun, or nothing is to be read; else false. */
static bool
line_read(struct tree *tree)
{
    struct history_out *out = &tree->out;
    struct history_in *entry = out->line;
    struct history_link link;
    uint32_t number = page_out(tree, entry->pid, &link);
    int status = number != 0 ? entry_read(tree, entry, number) : MSHM_OK;
    if (status == MSHM_BUSY)
        return false;
    (void)queue_take(&out->line, &out->line_end);
    if (number == 0 || status != MSHM_OK)
        entry_end(tree, entry, status);
    return true;
}

/* The frame takes the page's place in the chain, and holds the page as its copy. */
static int
page_lay_out(struct tree *tree, const struct history_link *link, const void *bytes)
{
    uint32_t number = spill_number(link->word);
    const struct spill_page *page = spill_page(tree->out.spill, number);
    unsigned class = tree_class(page->size);
    const char *why;
    if (class == MSHM_CLASSES)
        return MSHM_CORRUPT;
    uint8_t *frame = frames_allocate(tree->frames, class);
    if (frame == NULL) {
        tree->out.wanted_bytes = mshm_class_size(class);
        return MSHM_FULL;
    }
    tree->out.wanted_bytes = 0;
    memcpy(frame, bytes, page->size);
    struct mshm_page *header = (void *)frame;
    if (header->kind != MSHM_PAGE_HISTORY ||
        mshm_leaf_check(frame, mshm_class_size(class), &why) != MSHM_OK) {
        frames_free(tree->frames, frame, class);
        return MSHM_CORRUPT;
    }
    AO_store(&header->history, page->next);
    spill_hold(tree->out.spill, page->next);
    AO_t word = frames_word(tree->frames, frame, class, 0);
    *history_frame(tree, word) = (struct history_frame){
        .begin = page->begin,
        .end = page->end,
        .page = number, /* what the link held */
        .pid = link->pid,
        .came = (uint16_t)(tree->env->clock_ns(tree->env->context) >> 20),
        .fresh = true,
    };
    if (tree->options.hints)
        AO_char_store(history_hint(tree, word), 0);
    tree->pages_history++;
    tree->history_bytes += mshm_class_size(class);
    history_link_store(tree, link, word); /* after the frame's bytes */
    history_find(tree, link->pid)->bytes += mshm_class_size(class);
    MACE_KILL_POINT("history:read");
    return MSHM_OK;
}

/* When the leaf's history has changed meanwhile, what was read does not count, not even a failure. */
static void
entry_go_on(struct tree *tree, struct history_in *entry, int status, const void *bytes)
{
    struct history_link link;
    uint32_t number = page_out(tree, entry->pid, &link);
    bool same = number != 0 && number == entry->number;
    entry->number = 0;
    if (same && status == MSHM_OK)
        status = page_lay_out(tree, &link, bytes);
    if (number == 0)
        entry_end(tree, entry, MSHM_OK);
    else if (!same || status == MSHM_FULL)
        queue_add(&tree->out.line_end, entry);
    else
        entry_end(tree, entry, status);
    if (same && status == MSHM_FULL)
        tree->out.retry_ns = tree->env->clock_ns(tree->env->context) + RETRY_NS;
}

void
history_was_read(void *argument, uint32_t number, mshm_pid reader, int status, const void *bytes)
{
    struct tree *tree = argument;
    struct history_in *entry = *table_link(tree, reader);
    assert(entry != NULL && entry->number == number);
    (void)number;
    tree->out.reading_bytes -= entry->bytes;
    entry_go_on(tree, entry, status, bytes);
}

/* Begins as many reads as may be under way. */
static bool
line_move(struct tree *tree)
{
    struct history_out *out = &tree->out;
    bool moved = false;
    if (out->line == NULL || tree->env->clock_ns(tree->env->context) < out->retry_ns)
        return false;
    while (out->line != NULL && line_read(tree))
        moved = true;
    return moved;
}

int
tree_history_want(struct tree *tree, mshm_pid pid, struct pager_wait *wait)
{
    struct history_link link;
    if (page_out(tree, pid, &link) == 0)
        return MSHM_EXISTS;
    struct history_waiter *waiter = malloc(sizeof(*waiter));
    struct history_in *entry = *table_link(tree, pid);
    bool made = entry == NULL;
    if (made)
        entry = calloc(1, sizeof(*entry));
    if (waiter == NULL || entry == NULL) {
        free(waiter);
        if (made)
            free(entry);
        return MSHM_NO_MEMORY;
    }
    if (made) {
        entry->pid = pid;
        *table_link(tree, pid) = entry;
        queue_add(&tree->out.line_end, entry);
    }
    *waiter = (struct history_waiter){.next = entry->waiters, .wait = wait};
    entry->waiters = waiter;
    wait->left++;
    line_move(tree);
    return MSHM_OK;
}

void
tree_history_complete(struct tree *tree, const struct env_completion *completion)
{
    spill_complete(tree->out.spill, completion);
    tree_report(tree);
}

static bool
ended_move(struct tree *tree)
{
    struct history_out *out = &tree->out;
    bool moved = false;
    while (out->ended != NULL) {
        struct history_in *entry = out->ended;
        struct history_waiter *waiter = entry->waiters;
        moved = true;
        if (waiter == NULL) {
            entry_free(queue_take(&out->ended, &out->ended_end));
            continue;
        }
        struct pager_wait *wait = waiter->wait;
        entry->waiters = waiter->next;
        free(waiter);
        pager_wait_tell(wait, entry->status);
    }
    return moved;
}

bool
tree_history_arrive(struct tree *tree)
{
    bool moved = line_move(tree);
    return ended_move(tree) || moved;
}

bool
tree_history_idle(const struct tree *tree)
{
    return spill_idle(tree->out.spill) && tree->out.line == NULL && tree->out.ended == NULL;
}

bool
tree_history_waits(const struct tree *tree)
{
    return tree->out.line != NULL;
}

uint64_t
tree_history_short(const struct tree *tree)
{
    return tree->out.line != NULL ? tree->out.wanted_bytes : 0;
}
