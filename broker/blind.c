/* blind.c - writes to leaves that are not in memory. See blind.h.
 *
 * A generation is a table by pid of lists, and the blocks in which the entries stand:
 *
 *   table: pid | bytes | head --> newest entry --> ... --> oldest        blocks: [used ... | the one being filled | spare]
 *
 * The table is open-addressed with linear probing. When it has to grow, the larger one takes over the slots of the
 * former one a few at a time, with each write that comes, so that no commit waits for all of them (as the rehashing
 * of Redis' dict). Until then a pid is looked up in both, and what the new table says counts.
 */
#include "blind.h"

#include "mshm/status.h"

#include <stdlib.h>
#include <string.h>

enum {
    TABLE_SMALLEST = 64, /* slots */
    TABLE_MOVES = 8,     /* slots of the former table looked at with each write */
    BLOCK_CLASS = MSHM_CLASSES - 1,
    BLOCK_SIZE = MSHM_MAX_FRAME,
    ENTRY_MAX = (sizeof(struct blind_entry) + MSHM_MAX_KEY + MSHM_MAX_INLINE + 7) / 8 * 8,
    ENTRY_EXTRA =
        sizeof(struct blind_entry) + 7, /* bytes of an entry beside its key and value, at most */
};

struct slot {
    mshm_pid pid;                   /* 0: empty */
    uint32_t size;                  /* bytes of keys and values */
    const struct blind_entry *head; /* newest; NULL: forgotten */
};

struct table {
    struct slot *slots;
    uint32_t capacity; /* a power of two, or 0 */
    uint32_t used; /* slots that are not empty; of a former table: that were not looked at yet */
};

struct generation {
    struct table table, former;
    uint32_t moved;   /* slots of the former table that were looked at */
    uint32_t pages;   /* lists that are not empty */
    uint8_t **blocks; /* frames */
    uint32_t block_count, block_capacity;
    uint32_t block_at; /* the block being filled; those behind it are spare */
    uint32_t filled;   /* bytes of it */
};

struct blind {
    struct frames *frames;
    struct generation gathering, sealed;
    uint32_t expected; /* pages of the last sealed generation */
};

/* --- tables --- */

static uint32_t
table_place(const struct table *table, mshm_pid pid)
{
    uint64_t hash = pid * UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(hash >> 32) & (table->capacity - 1);
}

/* The slot of the pid, or the empty one where it would be put. The table is not empty and never full. */
static struct slot *
table_probe(const struct table *table, mshm_pid pid)
{
    uint32_t at = table_place(table, pid);
    while (table->slots[at].pid != 0 && table->slots[at].pid != pid)
        at = (at + 1) & (table->capacity - 1);
    return &table->slots[at];
}

static struct slot *
table_find(const struct table *table, mshm_pid pid)
{
    if (table->capacity == 0)
        return NULL;
    struct slot *slot = table_probe(table, pid);
    return slot->pid != 0 ? slot : NULL;
}

static struct slot *
slot_find(const struct generation *generation, mshm_pid pid)
{
    struct slot *slot = table_find(&generation->table, pid);
    return slot != NULL ? slot : table_find(&generation->former, pid);
}

static struct slot *
slot_insert(struct generation *generation, mshm_pid pid)
{
    struct slot *slot = table_probe(&generation->table, pid);
    if (slot->pid == 0) {
        slot->pid = pid;
        generation->table.used++;
    }
    return slot;
}

/* Looks at up to `count` more slots of the former table. */
static void
former_move(struct generation *generation, uint32_t count)
{
    struct table *former = &generation->former;
    for (; count > 0 && generation->moved < former->capacity; count--) {
        const struct slot *slot = &former->slots[generation->moved++];
        if (slot->pid == 0)
            continue;
        former->used--;
        if (slot->head != NULL && table_find(&generation->table, slot->pid) == NULL)
            *slot_insert(generation, slot->pid) = *slot;
    }
    if (former->capacity > 0 && generation->moved == former->capacity) {
        free(former->slots);
        *former = (struct table){0};
    }
}

/* Room for `count` more pids. */
static int
table_reserve(struct generation *generation, uint32_t count, uint32_t expected)
{
    struct table *table = &generation->table;
    uint64_t needed = (uint64_t)table->used + generation->former.used + count;
    if (needed * 4 <= (uint64_t)table->capacity * 3)
        return MSHM_OK;
    former_move(generation, UINT32_MAX);
    uint64_t capacity = table->capacity > 0 ? 2 * (uint64_t)table->capacity : TABLE_SMALLEST;
    while (capacity * 3 < needed * 4 || (table->capacity == 0 && capacity < expected))
        capacity *= 2;
    struct slot *slots = capacity > UINT32_MAX ? NULL : calloc(capacity, sizeof(*slots));
    if (slots == NULL)
        return MSHM_NO_MEMORY;
    generation->former = *table;
    generation->moved = 0;
    *table = (struct table){.slots = slots, .capacity = (uint32_t)capacity};
    return MSHM_OK;
}

/* --- blocks --- */

static uint64_t
blocks_room(const struct generation *generation, uint64_t largest)
{
    if (generation->block_count == 0)
        return 0;
    /* An entry that does not fit into the rest of a block leaves it unused: less than `largest` bytes. */
    uint64_t rest = BLOCK_SIZE - generation->filled;
    uint64_t spare = generation->block_count - generation->block_at - 1;
    return (rest > largest ? rest - largest : 0) + spare * (BLOCK_SIZE - largest);
}

static int
block_add(struct blind *blind)
{
    struct generation *generation = &blind->gathering;
    if (generation->block_count == generation->block_capacity) {
        uint32_t capacity = generation->block_capacity * 2 + 16;
        void *grown = realloc(generation->blocks, capacity * sizeof(*generation->blocks));
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        generation->blocks = grown;
        generation->block_capacity = capacity;
    }
    uint8_t *block = frames_allocate(blind->frames, BLOCK_CLASS);
    if (block == NULL)
        return MSHM_FULL;
    generation->blocks[generation->block_count++] = block;
    return MSHM_OK;
}

/* Gives back the blocks from `first` on. No reader can know them. */
static void
blocks_free(struct blind *blind, struct generation *generation, uint32_t first)
{
    for (uint32_t i = first; i < generation->block_count; i++)
        frames_free(blind->frames, generation->blocks[i], BLOCK_CLASS);
    if (generation->block_count > first)
        generation->block_count = first;
}

static void
generation_free(struct blind *blind, struct generation *generation)
{
    blocks_free(blind, generation, 0);
    free(generation->blocks);
    free(generation->table.slots);
    free(generation->former.slots);
    *generation = (struct generation){0};
}

static struct blind_entry *
entry_add(struct generation *generation, uint64_t size)
{
    if (BLOCK_SIZE - generation->filled < size) {
        generation->block_at++;
        generation->filled = 0;
    }
    assert(generation->block_at < generation->block_count);
    void *entry = generation->blocks[generation->block_at] + generation->filled;
    generation->filled += (uint32_t)size;
    return entry;
}

/* --- creation --- */

int
blind_create(struct blind **result, struct frames *frames)
{
    struct blind *blind = calloc(1, sizeof(*blind));
    if (blind == NULL)
        return MSHM_NO_MEMORY;
    blind->frames = frames;
    *result = blind;
    return MSHM_OK;
}

void
blind_destroy(struct blind *blind)
{
    if (blind == NULL)
        return;
    generation_free(blind, &blind->gathering);
    generation_free(blind, &blind->sealed);
    free(blind);
}

/* --- writing --- */

/* The page's slot in the new table, for a write. */
static struct slot *
slot_gather(struct generation *generation, mshm_pid pid)
{
    const struct slot *former = table_find(&generation->former, pid);
    struct slot *slot = slot_insert(generation, pid);
    if (slot->head == NULL && former != NULL && former->head != NULL)
        *slot = *former;
    return slot;
}

int
blind_reserve(struct blind *blind, uint32_t count, uint64_t bytes)
{
    struct generation *generation = &blind->gathering;
    uint64_t needed = bytes + (uint64_t)count * ENTRY_EXTRA;
    uint64_t largest = bytes + ENTRY_EXTRA < ENTRY_MAX ? bytes + ENTRY_EXTRA : ENTRY_MAX;
    int status = table_reserve(generation, count, blind->expected);
    while (status == MSHM_OK && blocks_room(generation, largest) < needed)
        status = block_add(blind);
    return status;
}

void
blind_put(struct blind *blind, mshm_pid pid, const struct mshm_version *version)
{
    struct generation *generation = &blind->gathering;
    former_move(generation, TABLE_MOVES);
    struct slot *slot = slot_gather(generation, pid);
    uint32_t bytes = version->key_size + version->value_size;
    struct blind_entry *entry =
        entry_add(generation, mshm_align_up(sizeof(*entry) + bytes, sizeof(void *)));
    *entry = (struct blind_entry){
        .older_distance = blind_entry_distance(entry, slot->head),
        .timestamp = version->timestamp,
        .value_size = version->value_size,
        .key_size = version->key_size,
        .kind = version->kind,
    };
    memcpy(entry->bytes, version->key, version->key_size);
    if (version->value_size > 0)
        memcpy(entry->bytes + version->key_size, version->value, version->value_size);
    assert(slot->head == NULL || slot->head->timestamp <= version->timestamp);
    generation->pages += slot->head == NULL;
    slot->head = entry;
    slot->size += bytes;
}

/* Copies an entry without its link to the one before it. */
static struct blind_entry *
entry_copy(struct generation *generation, const struct blind_entry *entry)
{
    uint64_t size = sizeof(*entry) + entry->key_size + entry->value_size;
    struct blind_entry *copy = entry_add(generation, mshm_align_up(size, sizeof(void *)));
    memcpy(copy, entry, size);
    copy->older_distance = 0;
    return copy;
}

/* The oldest write of a list. Of the gathering generation, so that no job reads it, and its link may be set. */
static struct blind_entry *
oldest_gathered(const struct slot *slot)
{
    const struct blind_entry *entry = slot->head, *older;
    while ((older = blind_entry_older(entry)) != NULL)
        entry = older;
    return (struct blind_entry *)(uintptr_t)entry;
}

/* --- looking --- */

static const struct blind_entry *
list_find(const struct generation *generation, mshm_pid pid)
{
    const struct slot *slot = slot_find(generation, pid);
    return slot != NULL ? slot->head : NULL;
}

const struct blind_entry *
blind_gathered(const struct blind *blind, mshm_pid pid)
{
    return list_find(&blind->gathering, pid);
}

const struct blind_entry *
blind_sealed(const struct blind *blind, mshm_pid pid)
{
    return list_find(&blind->sealed, pid);
}

uint32_t
blind_size(const struct blind *blind, mshm_pid pid)
{
    const struct slot *slot = slot_find(&blind->gathering, pid);
    return slot != NULL ? slot->size : 0;
}

static void
list_forget(struct generation *generation, mshm_pid pid)
{
    struct slot *slot = table_find(&generation->table, pid);
    struct slot *former = table_find(&generation->former, pid);
    bool any = (slot != NULL ? slot->head : former != NULL ? former->head : NULL) != NULL;
    generation->pages -= any;
    if (slot != NULL)
        *slot = (struct slot){.pid = pid};
    if (former != NULL)
        *former = (struct slot){.pid = pid};
}

void
blind_forget(struct blind *blind, mshm_pid pid)
{
    list_forget(&blind->gathering, pid);
}

/* --- generations --- */

void
blind_seal(struct blind *blind)
{
    struct generation *generation = &blind->gathering;
    assert(blind->sealed.block_count == 0 && blind->sealed.table.capacity == 0);
    /* What was reserved and not used goes back; without any entry that is every block. */
    bool none = generation->block_at == 0 && generation->filled == 0;
    blocks_free(blind, generation, none ? 0 : generation->block_at + 1);
    blind->expected = generation->pages;
    blind->sealed = *generation;
    *generation = (struct generation){0};
}

void
blind_each_sealed(const struct blind *blind,
                  void (*each)(void *argument, mshm_pid pid, const struct blind_entry *list),
                  void *argument)
{
    const struct generation *generation = &blind->sealed;
    const struct table *table = &generation->table, *former = &generation->former;
    for (uint32_t i = 0; i < table->capacity; i++)
        if (table->slots[i].head != NULL)
            each(argument, table->slots[i].pid, table->slots[i].head);
    for (uint32_t i = generation->moved; i < former->capacity; i++)
        if (former->slots[i].head != NULL && table_find(table, former->slots[i].pid) == NULL)
            each(argument, former->slots[i].pid, former->slots[i].head);
}

void
blind_settle(struct blind *blind, mshm_pid pid)
{
    list_forget(&blind->sealed, pid);
}

void
blind_carry(struct blind *blind, mshm_pid pid)
{
    struct generation *generation = &blind->gathering;
    const struct slot *sealed = slot_find(&blind->sealed, pid);
    if (sealed == NULL || sealed->head == NULL)
        return;
    struct slot *slot = slot_gather(generation, pid);
    struct blind_entry *above = slot->head != NULL ? oldest_gathered(slot) : NULL;
    generation->pages += slot->head == NULL;
    slot->size += sealed->size;
    for (const struct blind_entry *entry = sealed->head; entry != NULL;
         entry = blind_entry_older(entry)) {
        struct blind_entry *copy = entry_copy(generation, entry);
        if (above == NULL)
            slot->head = copy;
        else
            above->older_distance = blind_entry_distance(above, copy);
        above = copy;
    }
    list_forget(&blind->sealed, pid);
}

void
blind_release(struct blind *blind)
{
    generation_free(blind, &blind->sealed);
}

/* --- figures --- */

uint64_t
blind_bytes(const struct blind *blind)
{
    return ((uint64_t)blind->gathering.block_count + blind->sealed.block_count) * BLOCK_SIZE;
}

uint64_t
blind_sealed_bytes(const struct blind *blind)
{
    return (uint64_t)blind->sealed.block_count * BLOCK_SIZE;
}

uint32_t
blind_pages(const struct blind *blind)
{
    return blind->gathering.pages;
}

/* --- check --- */

static const char *
check_list(const struct slot *slot)
{
    uint64_t bytes = 0;
    for (const struct blind_entry *entry = slot->head, *older; entry != NULL; entry = older) {
        older = blind_entry_older(entry);
        bytes += entry->key_size + entry->value_size;
        if (older != NULL && older->timestamp > entry->timestamp)
            return "blind writes that are not newest first";
    }
    return bytes != slot->size ? "the size of a list of blind writes is wrong" : NULL;
}

static const char *
check_generation(const struct blind *blind, const struct generation *generation)
{
    const char *why = NULL;
    uint32_t pages = 0, used = 0;
    for (uint32_t i = 0; why == NULL && i < generation->table.capacity; i++) {
        const struct slot *slot = &generation->table.slots[i];
        pages += slot->head != NULL;
        used += slot->pid != 0;
        if (slot->pid != 0 && table_probe(&generation->table, slot->pid) != slot)
            return "a slot of the blind table that is not found";
        why = check_list(slot);
    }
    for (uint32_t i = generation->moved; why == NULL && i < generation->former.capacity; i++) {
        const struct slot *slot = &generation->former.slots[i];
        if (slot->head == NULL || table_find(&generation->table, slot->pid) != NULL)
            continue;
        pages++;
        why = check_list(slot);
    }
    for (uint32_t i = 0; why == NULL && i < generation->block_count; i++)
        if (!frames_in_use(blind->frames, generation->blocks[i], BLOCK_CLASS))
            why = "a block of blind writes is not in use";
    if (why == NULL && (pages != generation->pages || used != generation->table.used))
        why = "the counts of the blind table are wrong";
    return why;
}

int
blind_check(const struct blind *blind, const char **why)
{
    const char *text = check_generation(blind, &blind->gathering);
    if (text == NULL)
        text = check_generation(blind, &blind->sealed);
    if (text == NULL)
        return MSHM_OK;
    *why = text;
    return MSHM_CORRUPT;
}
