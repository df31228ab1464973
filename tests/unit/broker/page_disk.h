/* page_disk.h - checkpoints and page-in of a fixture's store, with a disk in memory and without jobs: so a test decides for each
 * page when it is packed, takes effect, leaves memory and comes back. The records are real ones (page_pack.h). */
#ifndef PAGE_DISK_H
#define PAGE_DISK_H

#include "page_pack.h"
#include "unit/broker/store_fixture.h"

enum { DISK_FILE = 1 << 24 }; /* bytes of a file */

struct page_disk {
    struct fixture *fixture;
    uint8_t *files[64];
    uint32_t file;   /* the one being written, counted from 1 */
    uint64_t offset; /* in it */
    struct page_content *content;
    bool sealed, packed;
    mshm_timestamp cut; /* of the last checkpoint that was begun */
    uint32_t at;        /* the next sealed page to be packed */
    uint64_t fulls, deltas, bytes, loads, leaf_loads;
};

static int
disk_read(void *argument, data_location location, uint32_t offset, void *to, uint32_t size)
{
    const struct page_disk *disk = argument;
    uint32_t file = data_location_file(location);
    REQUIRE(file >= 1 && file <= disk->file && disk->files[file] != NULL);
    memcpy(to, disk->files[file] + data_location_offset(location) + offset, size);
    return MSHM_OK;
}

static inline void
disk_init(struct page_disk *disk, struct fixture *fixture)
{
    *disk = (struct page_disk){.fixture = fixture};
    REQUIRE_STATUS(page_content_create(&disk->content), MSHM_OK);
}

static inline void
disk_fini(struct page_disk *disk)
{
    page_content_destroy(disk->content);
    for (uint32_t i = 0; i < 64; i++)
        free(disk->files[i]);
}

static void
disk_room(struct page_disk *disk)
{
    if (disk->file != 0 && DISK_FILE - disk->offset >= PAGE_PACK_MAX)
        return;
    REQUIRE(disk->file < 63);
    disk->files[++disk->file] = aligned_alloc(DATA_UNIT, DISK_FILE);
    disk->offset = DATA_RECORDS_AT;
}

static void
disk_pack_one(struct page_disk *disk, uint32_t index)
{
    struct fixture *fixture = disk->fixture;
    const struct page_keep keep = {
        .horizon = fixture->snapshots.horizon,
        .count = fixture->snapshots.count,
        .snapshots = fixture->snapshots.list,
    };
    struct page_source source;
    struct page_packed packed;
    bool freed;
    pages_source(fixture->pages, index, &source, &freed);
    if (freed) {
        pages_packed(fixture->pages, index, 0);
        return;
    }
    disk_room(disk);
    struct page_place place = {.file = disk->file, .offset = disk->offset};
    REQUIRE_STATUS(page_pack(&source, &keep, &place, disk_read, disk,
                             disk->files[disk->file] + disk->offset, PAGE_PACK_MAX, &packed),
                   MSHM_OK);
    disk->offset += packed.size;
    disk->bytes += packed.size;
    disk->fulls += packed.size > 0 && packed.older_count == 0;
    disk->deltas += packed.size > 0 && packed.older_count > 0;
    pages_packed(fixture->pages, index, packed.size > 0 ? packed.location : 0);
}

/* The next step of a checkpoint, as of `cut` when it begins: up to `budget` pages. True when it is done. */
static inline bool
disk_checkpoint_step(struct page_disk *disk, mshm_timestamp cut, uint32_t budget)
{
    struct pages *pages = disk->fixture->pages;
    if (!disk->sealed) {
        REQUIRE_STATUS(pages_seal(pages, cut), MSHM_OK);
        disk->sealed = true;
        disk->cut = cut;
        disk->packed = false;
        disk->at = 0;
        return false;
    }
    if (!disk->packed) {
        for (; budget > 0 && disk->at < pages_sealed_count(pages); budget--)
            disk_pack_one(disk, disk->at++);
        disk->packed = disk->at == pages_sealed_count(pages);
        return false;
    }
    disk->sealed = pages_published(pages, budget);
    return !disk->sealed;
}

static inline void
disk_checkpoint(struct page_disk *disk, mshm_timestamp cut)
{
    while (!disk_checkpoint_step(disk, cut, UINT32_MAX))
        continue;
}

/* Takes a page's records apart, with what was written to it blind. */
static void
disk_load(struct page_disk *disk, mshm_pid pid, data_location *older, uint8_t **copies,
          struct page_facts *facts)
{
    static const uint8_t id[16];
    struct pages *pages = disk->fixture->pages;
    data_location all[DATA_CHAIN_MAX + 1] = {pages_location(pages, pid)};
    const struct blind_entry *lists[2] = {blind_gathered(pages_blind(pages), pid),
                                          blind_sealed(pages_blind(pages), pid)};
    const void *records[DATA_CHAIN_MAX + 1];
    unsigned count = 1 + data_location_older(all[0]);
    const char *why = "";
    for (unsigned i = 0; i < count; i++) {
        copies[i] = malloc(data_location_size(all[i]));
        disk_read(disk, all[i], 0, copies[i], data_location_size(all[i]));
        if (page_record_check(copies[i], data_location_size(all[i]), all[i], id, pid, &why))
            ck_abort_msg("page %u: %s", pid, why);
        if (i == 0)
            page_record_older(copies[0], all + 1);
        records[i] = copies[i];
    }
    memcpy(older, all + 1, DATA_CHAIN_MAX * sizeof(*older));
    if (page_content_load(disk->content, records, count, lists, 2, NULL, &why) != MSHM_OK)
        ck_abort_msg("page %u: %s", pid, why);
    page_content_facts(disk->content, facts);
}

static void
disk_copies_free(uint8_t **copies)
{
    for (unsigned i = 0; i <= DATA_CHAIN_MAX; i++)
        free(copies[i]);
}

static unsigned
disk_class(const struct page_disk *disk, const struct page_facts *facts)
{
    unsigned class = facts->frame_class;
    while (mshm_class_size(class) < page_content_size(disk->content))
        class ++;
    REQUIRE(class < MSHM_CLASSES);
    return class;
}

static AO_t
disk_history(const struct page_disk *disk, const struct page_facts *facts)
{
    return facts->kind == MSHM_PAGE_LEAF ? tree_history_word(disk->fixture->tree, facts->pid) : 0;
}

/* The cut of the record below the newest one. */
static inline mshm_timestamp
disk_below(uint8_t *const *copies)
{
    struct page_record record = {0};
    if (copies[1] != NULL)
        memcpy(&record, copies[1], sizeof record);
    return record.cut;
}

/* Brings a page into memory; false when there is no frame for it. */
static inline bool
disk_page_in(struct page_disk *disk, mshm_pid pid)
{
    struct fixture *fixture = disk->fixture;
    data_location older[DATA_CHAIN_MAX];
    uint8_t *copies[DATA_CHAIN_MAX + 1] = {NULL};
    struct page_facts facts;
    if (pages_location(fixture->pages, pid) == 0)
        return true;
    bool newer = blind_gathered(pages_blind(fixture->pages), pid) != NULL;
    disk_load(disk, pid, older, copies, &facts);
    unsigned class = disk_class(disk, &facts);
    uint8_t *frame = frames_allocate(fixture->frames, class);
    if (frame != NULL) {
        REQUIRE_STATUS(page_content_build(disk->content, frame, mshm_class_size(class),
                                          disk_history(disk, &facts)),
                       MSHM_OK);
        unsigned hint = facts.kind == MSHM_PAGE_LEAF ? mshm_leaf_hint(frame) : 0;
        pages_install(fixture->pages, pid, frames_word(fixture->frames, frame, class, hint),
                      facts.birth, facts.cut, disk_below(copies), older, newer);
        tree_loaded(fixture->tree, pid);
        disk->loads++;
        disk->leaf_loads += facts.kind == MSHM_PAGE_LEAF;
    }
    disk_copies_free(copies);
    return frame != NULL;
}

/* A tree_peek. */
static int
disk_peek(void *argument, mshm_pid pid, void *to, uint32_t *size, const char **why)
{
    struct page_disk *disk = argument;
    data_location older[DATA_CHAIN_MAX];
    uint8_t *copies[DATA_CHAIN_MAX + 1] = {NULL};
    struct page_facts facts;
    disk_load(disk, pid, older, copies, &facts);
    *size = mshm_class_size(disk_class(disk, &facts));
    *why = "a page that does not fit";
    int status = page_content_build(disk->content, to, *size, disk_history(disk, &facts));
    disk_copies_free(copies);
    return status;
}

/* Moves clean pages out, about so many bytes of them. */
static inline void
disk_evict(struct page_disk *disk, uint64_t bytes)
{
    disk->fixture->now_ns += 100 * 1000 * 1000;
    pages_evict(disk->fixture->pages, bytes, disk->fixture->now_ns);
}

/* Has what the tree missed read in. */
static inline void
disk_fetch(struct page_disk *disk)
{
    const mshm_pid *pids;
    uint32_t count = tree_missing(disk->fixture->tree, &pids);
    REQUIRE(count > 0);
    mshm_pid *copy = malloc(count * sizeof(*copy));
    memcpy(copy, pids, count * sizeof(*copy));
    for (uint32_t i = 0; i < count; i++)
        REQUIRE(disk_page_in(disk, copy[i]));
    free(copy);
}

static void
disk_restore_one(void *argument, mshm_pid pid, data_location location)
{
    REQUIRE_STATUS(pages_restore(argument, pid, location), MSHM_OK);
}

/* Makes `to` the store that a restart makes of the last checkpoint, which has taken effect; `twin` is its view of the disk. */
static inline void
disk_restart(struct page_disk *disk, struct fixture *to, struct page_disk *twin)
{
    struct tree_figures figures;
    mshm_pid next = 0;
    REQUIRE(!disk->sealed);
    while (pages_each_durable(disk->fixture->pages, &next, 1000, disk_restore_one, to->pages))
        continue;
    REQUIRE_STATUS(pages_restored(to->pages, disk->cut), MSHM_OK);
    tree_figures(disk->fixture->tree, &figures);
    tree_figures_restore(to->tree, &figures);
    *twin = *disk;
    twin->fixture = to;
    REQUIRE_STATUS(page_content_create(&twin->content), MSHM_OK);
    tree_set_peek(to->tree, disk_peek, twin);
    AO_store(&to->store->visible, disk->cut);
}

static inline void
disk_ok(struct page_disk *disk)
{
    const char *why = "";
    if (pages_check(disk->fixture->pages, &why) != MSHM_OK)
        ck_abort_msg("pages: %s", why);
}

#endif
