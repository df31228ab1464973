/* strays.c - the table of pages that a checkpoint could not read. See strays.h. */
#include "strays.h"

#include <stdlib.h>
#include <string.h>

#include "mshm/base.h"
#include "mshm/status.h"
#include "stray_format.h"

enum { ALIGNMENT = 8, TABLE_FIRST = 4096, PIDS_FIRST = 16 };

int
strays_init(struct strays *strays, uint64_t limit)
{
    *strays = (struct strays){.limit = limit};
    strays->bytes = malloc(TABLE_FIRST);
    strays->capacity = TABLE_FIRST;
    return strays->bytes != NULL ? MSHM_OK : MSHM_NO_MEMORY;
}

void
strays_fini(struct strays *strays)
{
    free(strays->bytes);
    free(strays->pids);
    free(strays->known);
    *strays = (struct strays){0};
}

void
strays_begin(struct strays *strays)
{
    strays->size = 0;
    strays->count = 0;
}

/* --- making a table --- */

static uint64_t
write_size(uint32_t key_size, uint32_t value_size)
{
    return mshm_align_up(sizeof(struct stray_write) + key_size + value_size, ALIGNMENT);
}

uint64_t
strays_cost(const struct blind_entry *list)
{
    uint64_t size = sizeof(struct stray_page);
    for (; list != NULL; list = blind_entry_older(list))
        size += write_size(list->key_size, list->value_size);
    return size;
}

static int
pids_reserve(mshm_pid **pids, uint32_t *capacity, uint32_t needed)
{
    uint32_t grown = *capacity != 0 ? *capacity : PIDS_FIRST;
    while (grown < needed)
        grown *= 2;
    if (grown == *capacity)
        return MSHM_OK;
    mshm_pid *more = realloc(*pids, grown * sizeof *more);
    if (more == NULL)
        return MSHM_NO_MEMORY;
    *pids = more;
    *capacity = grown;
    return MSHM_OK;
}

int
strays_reserve(struct strays *strays, uint32_t count, uint64_t size)
{
    uint64_t needed = strays->size + sizeof(struct stray_header) + size;
    if (needed > strays->limit)
        return MSHM_LIMIT;
    if (needed > strays->capacity) {
        uint8_t *grown = realloc(strays->bytes, needed * 2);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        strays->bytes = grown;
        strays->capacity = needed * 2;
    }
    return pids_reserve(&strays->pids, &strays->pids_capacity, strays->count + count);
}

/* Writes the list, whose newest entry comes first, from its end. */
static void
list_write(uint8_t *end, const struct blind_entry *list)
{
    for (; list != NULL; list = blind_entry_older(list)) {
        struct stray_write write = {.timestamp = list->timestamp,
                                    .value_size = list->value_size,
                                    .key_size = list->key_size,
                                    .kind = list->kind};
        uint64_t bytes = (uint64_t)list->key_size + list->value_size;
        end -= write_size(list->key_size, list->value_size);
        memcpy(end, &write, sizeof write);
        memcpy(end + sizeof write, list->bytes, bytes);
    }
}

void
strays_add(struct strays *strays, mshm_pid pid, const struct blind_entry *list)
{
    struct stray_header header = {
        .magic = STRAY_MAGIC, .version = STRAY_VERSION, .count = strays->count + 1};
    struct stray_page page = {.pid = pid, .size = strays_cost(list) - sizeof page};
    for (const struct blind_entry *entry = list; entry != NULL; entry = blind_entry_older(entry))
        page.count++;
    if (strays->size == 0)
        strays->size = sizeof header;
    uint8_t *to = strays->bytes + strays->size;
    memset(to, 0, sizeof page + page.size);
    memcpy(to, &page, sizeof page);
    list_write(to + sizeof page + page.size, list);
    memcpy(strays->bytes, &header, sizeof header);
    strays->size += sizeof page + page.size;
    strays->pids[strays->count++] = pid;
}

/* --- which pages are known --- */

static int
pid_order(const void *a, const void *b)
{
    mshm_pid left = *(const mshm_pid *)a, right = *(const mshm_pid *)b;
    return (left > right) - (left < right);
}

bool
strays_known(const struct strays *strays, mshm_pid pid)
{
    return strays->known_count > 0 &&
           bsearch(&pid, strays->known, strays->known_count, sizeof pid, pid_order) != NULL;
}

void
strays_count(struct strays *strays)
{
    mshm_pid *former = strays->known;
    uint32_t capacity = strays->known_capacity;
    strays->known = strays->pids;
    strays->known_count = strays->count;
    strays->known_capacity = strays->pids_capacity;
    strays->pids = former;
    strays->pids_capacity = capacity;
}

/* --- reading a table --- */

/* Takes one write from what is left of a page's; NULL: it makes no sense. */
static const uint8_t *
write_take(const uint8_t *at, const uint8_t *end, struct mshm_version *version)
{
    struct stray_write write;
    if ((uint64_t)(end - at) < sizeof write)
        return NULL;
    memcpy(&write, at, sizeof write);
    if (write.key_size == 0 || write.key_size > MSHM_MAX_KEY ||
        write.value_size > MSHM_MAX_INLINE ||
        write_size(write.key_size, write.value_size) > (uint64_t)(end - at) ||
        !(write.kind == MSHM_ENTRY_VALUE ||
          (write.kind == MSHM_ENTRY_TOMBSTONE && write.value_size == 0)))
        return NULL;
    *version = (struct mshm_version){
        .key = at + sizeof write,
        .value = at + sizeof write + write.key_size,
        .timestamp = write.timestamp,
        .value_size = write.value_size,
        .key_size = write.key_size,
        .kind = write.kind,
    };
    return at + write_size(write.key_size, write.value_size);
}

static int
page_read_writes(const struct stray_page *page, const uint8_t *at, mshm_timestamp cut,
                 strays_each *each, void *argument)
{
    const uint8_t *end = at + page->size;
    mshm_timestamp newest = 1;
    for (uint32_t i = 0; i < page->count; i++) {
        struct mshm_version version;
        at = write_take(at, end, &version);
        if (at == NULL || version.timestamp < newest || version.timestamp > cut)
            return MSHM_CORRUPT;
        newest = version.timestamp;
        int status = each(argument, page->pid, &version);
        if (status != MSHM_OK)
            return status;
    }
    return at == end && page->count > 0 ? MSHM_OK : MSHM_CORRUPT;
}

int
strays_read(const void *bytes, uint64_t size, mshm_timestamp cut, strays_each *each, void *argument)
{
    struct stray_header header;
    struct stray_page page;
    mshm_pid former = 0;
    if (size == 0)
        return MSHM_OK; /* and no bytes: there is nothing to add to */
    if (size < sizeof header)
        return MSHM_CORRUPT;
    const uint8_t *at = bytes, *end = at + size;
    memcpy(&header, at, sizeof header);
    at += sizeof header;
    if (header.magic != STRAY_MAGIC)
        return MSHM_CORRUPT;
    if (header.version != STRAY_VERSION)
        return MSHM_VERSION;
    for (uint32_t i = 0; i < header.count; i++) {
        if ((uint64_t)(end - at) < sizeof page)
            return MSHM_CORRUPT;
        memcpy(&page, at, sizeof page);
        at += sizeof page;
        if (page.pid <= former || page.pid >= MSHM_MAX_PIDS || page.size > (uint64_t)(end - at))
            return MSHM_CORRUPT;
        int status = page_read_writes(&page, at, cut, each, argument);
        if (status != MSHM_OK)
            return status;
        former = page.pid;
        at += page.size;
    }
    return at == end ? MSHM_OK : MSHM_CORRUPT;
}

static int
pid_learn(void *argument, mshm_pid pid, const struct mshm_version *version)
{
    struct strays *strays = argument;
    (void)version;
    if (strays->known_count > 0 && strays->known[strays->known_count - 1] == pid)
        return MSHM_OK;
    int status = pids_reserve(&strays->known, &strays->known_capacity, strays->known_count + 1);
    if (status == MSHM_OK)
        strays->known[strays->known_count++] = pid;
    return status;
}

int
strays_load(struct strays *strays, const void *bytes, uint64_t size, mshm_timestamp cut)
{
    strays->known_count = 0;
    return strays_read(bytes, size, cut, pid_learn, strays);
}
