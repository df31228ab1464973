/* salvage_leaves.c - the leaves that can be read: those that the manifest names, or, without it, the newest record of each
 * pid in the data files that can be read with all that it names. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crc.h"
#include "data.h"
#include "mshm/status.h"
#include "salvage.h"

#define REACHED (UINT64_C(1) << 63) /* above every cut */

static int
leaf_add(struct salvage_leaves *leaves, const struct salvage_leaf *leaf)
{
    if (leaves->count == leaves->capacity) {
        uint64_t capacity = leaves->capacity != 0 ? leaves->capacity * 2 : 1024;
        struct salvage_leaf *grown = realloc(leaves->list, capacity * sizeof *grown);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        leaves->list = grown;
        leaves->capacity = capacity;
    }
    leaves->list[leaves->count++] = *leaf;
    return MSHM_OK;
}

void
salvage_leaves_free(struct salvage_leaves *leaves)
{
    free(leaves->list);
    *leaves = (struct salvage_leaves){0};
}

static int
leaf_order(const void *left, const void *right)
{
    const struct salvage_leaf *a = left, *b = right;
    if (a->order != b->order)
        return a->order < b->order ? -1 : 1;
    return a->location < b->location ? -1 : a->location > b->location;
}

static void
leaves_sort(struct salvage_leaves *leaves)
{
    if (leaves->count > 1)
        qsort(leaves->list, leaves->count, sizeof *leaves->list, leaf_order);
}

/* Adds a page if it is a leaf that can be read. *taken: it can be read. */
static int
page_take(struct check *check, struct salvage_leaves *leaves, mshm_pid pid, data_location location,
          bool reached, bool *taken)
{
    struct check_chain chain;
    struct page_facts facts;
    *taken = false;
    int status = check_page_load(check->reader, location, pid, &chain);
    if (status != MSHM_OK)
        return status == MSHM_NO_MEMORY ? status : MSHM_OK;
    *taken = true;
    page_content_facts(check_page_content(check->reader), &facts);
    if (facts.kind != MSHM_PAGE_LEAF)
        return MSHM_OK;
    return leaf_add(leaves, &(struct salvage_leaf){.location = location,
                                                   .order = reached ? REACHED : facts.cut,
                                                   .pid = pid,
                                                   .bucket = facts.bucket});
}

int
salvage_leaves_named(struct check *check, struct salvage_leaves *leaves)
{
    int status = MSHM_OK;
    bool taken;
    for (uint64_t i = 0; i < check->page_count && status == MSHM_OK; i++) {
        const struct check_page *page = &check->pages[i];
        bool reached = (page->state & CHECK_REACHED) != 0;
        if ((page->state & CHECK_BAD) != 0 || page->level > 0)
            continue;
        leaves->overlap |= !reached;
        status = page_take(check, leaves, page->pid, page->location, reached, &taken);
    }
    leaves_sort(leaves);
    return status;
}

/* --- without a manifest --- */

/* A leaf record, or one that says that its page is none any more. */
struct found {
    data_location location;
    uint64_t birth, cut;
    uint32_t pid;
};

struct survey {
    struct check *check;
    struct found *list;
    uint64_t count, capacity;
    bool id_known;
};

static int
found_add(struct survey *survey, const struct found *found)
{
    if (survey->count == survey->capacity) {
        uint64_t capacity = survey->capacity != 0 ? survey->capacity * 2 : 4096;
        struct found *grown = realloc(survey->list, capacity * sizeof *grown);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        survey->list = grown;
        survey->capacity = capacity;
    }
    survey->list[survey->count++] = *found;
    return MSHM_OK;
}

static int
number_order(const void *left, const void *right)
{
    const struct check_file *a = left, *b = right;
    return a->number < b->number ? -1 : a->number > b->number;
}

static int
file_entry(const char *entry, void *argument)
{
    struct survey *survey = argument;
    struct check *check = survey->check;
    uint32_t number;
    if (!data_name_parse(entry, &number))
        return 0;
    if (check->file_count == check->file_capacity) {
        uint32_t capacity = check->file_capacity != 0 ? check->file_capacity * 2 : 64;
        struct check_file *grown = realloc(check->files, capacity * sizeof *grown);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        check->files = grown;
        check->file_capacity = capacity;
    }
    check->files[check->file_count++] = (struct check_file){.number = number};
    return 0;
}

/* Opens a file as far as it goes; a head that is right tells whose it is. */
static void
file_open(struct survey *survey, struct check_file *file)
{
    struct check *check = survey->check;
    const struct env *env = &check->env;
    char name[DATA_NAME_SIZE];
    struct data_file_header header = {0}, copy;
    data_name(name, file->number);
    if (env->file_open(env->context, name, ENV_OPEN_EXISTING, &file->open) != 0) {
        file->open = NULL;
        return;
    }
    int64_t size = env->file_size(env->context, file->open);
    if (size < (int64_t)DATA_RECORDS_AT || size > (int64_t)DATA_MAX_FILE_SIZE)
        return;
    file->size = (uint64_t)size;
    file->total = file->size / DATA_UNIT * DATA_UNIT;
    file->usable = true;
    if (survey->id_known ||
        env->file_read(env->context, file->open, 0, &header, sizeof header) != sizeof header)
        return;
    copy = header;
    copy.crc = 0;
    if (header.magic != DATA_FILE_MAGIC || header.crc != crc_extend(0, &copy, sizeof copy))
        return;
    memcpy(check->manifest.database_id, header.database_id, sizeof header.database_id);
    survey->id_known = true;
}

static int
file_survey(struct survey *survey, struct check_file *file)
{
    struct check *check = survey->check;
    struct page_record record;
    int status = MSHM_OK;
    uint64_t offset = DATA_RECORDS_AT;
    while (file->usable && offset < file->total && status == MSHM_OK) {
        uint32_t size =
            check_record_at(check->reader, file, check->manifest.database_id, offset, &record);
        if (size != 0)
            status = found_add(survey,
                               &(struct found){.location = data_location_make(
                                                   file->number, record.chain & 15, offset, size),
                                               .birth = record.birth,
                                               .cut = record.cut,
                                               .pid = record.pid});
        offset += size != 0 ? size : DATA_UNIT;
    }
    return status;
}

/* By pid, the newest state first. */
static int
found_order(const void *left, const void *right)
{
    const struct found *a = left, *b = right;
    if (a->pid != b->pid)
        return a->pid < b->pid ? -1 : 1;
    if (a->birth != b->birth)
        return a->birth > b->birth ? -1 : 1;
    if (a->cut != b->cut)
        return a->cut > b->cut ? -1 : 1;
    return a->location > b->location ? -1 : a->location < b->location;
}

static int
newest_take(struct survey *survey, struct salvage_leaves *leaves)
{
    int status = MSHM_OK;
    if (survey->count > 1)
        qsort(survey->list, survey->count, sizeof *survey->list, found_order);
    for (uint64_t i = 0; i < survey->count && status == MSHM_OK;) {
        uint32_t pid = survey->list[i].pid;
        bool taken = false;
        for (; i < survey->count && survey->list[i].pid == pid; i++)
            if (!taken && status == MSHM_OK)
                status =
                    page_take(survey->check, leaves, pid, survey->list[i].location, false, &taken);
    }
    return status;
}

int
salvage_leaves_found(struct check *check, struct salvage_leaves *leaves)
{
    struct survey survey = {.check = check};
    int status = MSHM_OK;
    check_state_free(check);
    int result = check->env.directory_list(check->env.context, "data", file_entry, &survey);
    if (result != 0 && result != -ENOENT)
        return result == MSHM_NO_MEMORY ? result : MSHM_IO;
    if (check->file_count > 1)
        qsort(check->files, check->file_count, sizeof *check->files, number_order);
    for (uint32_t i = 0; i < check->file_count; i++)
        file_open(&survey, &check->files[i]);
    if (check->file_count > 0 && !survey.id_known)
        status = MSHM_NOT_FOUND;
    if (status == MSHM_OK)
        status = check_reader_create(check, &check->reader);
    for (uint32_t i = 0; i < check->file_count && status == MSHM_OK; i++)
        status = file_survey(&survey, &check->files[i]);
    if (status == MSHM_OK)
        status = newest_take(&survey, leaves);
    free(survey.list);
    leaves->overlap = true;
    leaves_sort(leaves);
    return status;
}
