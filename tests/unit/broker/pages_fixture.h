/* pages_fixture.h - the table of pages over a store in plain memory, with a disk and a manifest that are arrays, and
 * jobs that run when the test says so. A page's content is a set of (key, timestamp), so that what is in a frame, in
 * a chain of records and in the lists of blind writes can be compared. */
#ifndef PAGES_FIXTURE_H
#define PAGES_FIXTURE_H

#include "pages.h"

#include "unit/broker/store_fixture.h"

enum {
    CONTENT_MAX = 44,
    WORLD_PIDS = 1024,
    JOB_PAGES = 8,
    BUCKET = 7,
};

/* --- contents --- */

struct item {
    uint16_t key;
    mshm_timestamp timestamp;
};
struct content { /* ascending by key, newest first */
    unsigned count;
    struct item items[CONTENT_MAX];
};

static inline void
content_add(struct content *content, uint16_t key, mshm_timestamp timestamp)
{
    unsigned at = content->count;
    REQUIRE(at < CONTENT_MAX);
    while (at > 0 &&
           (content->items[at - 1].key > key ||
            (content->items[at - 1].key == key && content->items[at - 1].timestamp < timestamp))) {
        content->items[at] = content->items[at - 1];
        at--;
    }
    REQUIRE(at == 0 || content->items[at - 1].key != key ||
            content->items[at - 1].timestamp != timestamp); /* the same write twice */
    content->items[at] = (struct item){.key = key, .timestamp = timestamp};
    content->count++;
}

static inline void
content_add_all(struct content *content, const struct content *more)
{
    for (unsigned i = 0; i < more->count; i++)
        content_add(content, more->items[i].key, more->items[i].timestamp);
}

static inline bool
content_equal(const struct content *a, const struct content *b)
{
    for (unsigned i = 0; i < a->count && i < b->count; i++)
        if (a->items[i].key != b->items[i].key || a->items[i].timestamp != b->items[i].timestamp)
            return false;
    return a->count == b->count;
}

static inline mshm_timestamp
content_newest(const struct content *content)
{
    mshm_timestamp newest = 0;
    for (unsigned i = 0; i < content->count; i++)
        if (content->items[i].timestamp > newest)
            newest = content->items[i].timestamp;
    return newest;
}

static inline void
content_print(const char *what, const struct content *content)
{
    printf("%s:", what);
    for (unsigned i = 0; i < content->count; i++)
        printf(" %u@%llu", content->items[i].key, (unsigned long long)content->items[i].timestamp);
    printf("\n");
}

#define REQUIRE_CONTENT(got, wanted)           \
    do {                                       \
        if (!content_equal((got), (wanted))) { \
            content_print("got", (got));       \
            content_print("wanted", (wanted)); \
            fflush(stdout);                    \
            ck_abort_msg("%s", #got);          \
        }                                      \
    } while (0)

/* --- frames --- */

struct item_bytes {
    uint8_t key[2], value[4];
};

static inline struct mshm_version
item_version(struct item item, struct item_bytes *bytes)
{
    bytes->key[0] = (uint8_t)(item.key >> 8);
    bytes->key[1] = (uint8_t)item.key;
    memset(bytes->value, (int)item.timestamp & 255, sizeof(bytes->value));
    return (struct mshm_version){.key = bytes->key,
                                 .key_size = 2,
                                 .value = bytes->value,
                                 .value_size = sizeof(bytes->value),
                                 .timestamp = item.timestamp,
                                 .kind = MSHM_ENTRY_VALUE};
}

static inline struct item
version_item(const struct mshm_version *version)
{
    REQUIRE(version->key_size == 2);
    return (struct item){.key = (uint16_t)(version->key[0] << 8 | version->key[1]),
                         .timestamp = version->timestamp};
}

/* What stands in a leaf's frame, up to a timestamp. */
static inline struct content
frame_content(const void *frame, uint32_t size, mshm_timestamp cut)
{
    struct mshm_version versions[CONTENT_MAX + 64];
    uint8_t keys[4096];
    struct content content = {0};
    int count = mshm_leaf_versions(frame, size, versions, CONTENT_MAX + 64, keys, sizeof(keys));
    REQUIRE(count >= 0);
    for (int i = 0; i < count; i++)
        if (versions[i].timestamp <= cut)
            content_add(&content, version_item(&versions[i]).key, versions[i].timestamp);
    return content;
}

/* --- the world --- */

/* A record of the disk; its location says where it stands in the array. */
struct record {
    mshm_pid pid;
    uint64_t birth;
    mshm_timestamp cut;
    struct content content;
    unsigned older_count;
    data_location older[DATA_CHAIN_MAX];
};

struct job {
    uint32_t first, count;
    struct page_source sources[JOB_PAGES];
    bool freed[JOB_PAGES];
    data_location results[JOB_PAGES];
    bool lost[JOB_PAGES]; /* its records could not be read */
    bool ran;
};

struct world {
    struct fixture store;
    struct pages *pages;
    uint8_t *hints;
    mshm_timestamp clock; /* newest commit */
    struct record *records;
    uint32_t record_count, record_capacity;
    data_location manifest[WORLD_PIDS];
    struct content strays[WORLD_PIDS];          /* of the checkpoint in flight */
    struct content manifest_strays[WORLD_PIDS]; /* that the manifest has */
    uint64_t carried;
    struct job job;
    uint32_t next; /* sealed place that no job has taken */
    uint64_t fulls, deltas, nothings, merged;
    bool forgetful;       /* there was no memory for the addresses of older records */
    uint64_t spent_bytes; /* of frames that the test took for nothing */
};

static inline void
world_pages_create(struct world *world, uint64_t fresh_ns)
{
    struct pages_options options = {.hints = world->hints, .fresh_ns = fresh_ns};
    ck_assert_int_eq(pages_create(&world->pages, &options, &world->store.env, world->store.frames,
                                  &world->store.geometry),
                     MSHM_OK);
}

static inline void
world_init(struct world *world, uint64_t cache, uint64_t fresh_ns)
{
    memset(world, 0, sizeof(*world));
    fixture_init(&world->store, cache, 0, WORLD_PIDS);
    world->hints = calloc(cache / MSHM_UNIT, 1);
    ck_assert_ptr_ne(world->hints, NULL);
    world_pages_create(world, fresh_ns);
}

/* Every frame in use belongs to a page, to a job, or to the blind writes. */
static inline void
world_check_frames(struct world *world)
{
    struct pages_figures figures;
    struct mshm_counters *counters = &world->store.counters;
    uint64_t bytes = world->spent_bytes;
    for (mshm_pid pid = 1; pid < frames_pid_end(world->store.frames); pid++) {
        AO_t word = AO_load(&world->store.view.map[pid]);
        if (mshm_map_state(word) == MSHM_MAP_RESIDENT)
            bytes += mshm_class_size(mshm_map_class(word));
    }
    pages_figures(world->pages, &figures);
    frames_report(world->store.frames, counters);
    REQUIRE(bytes + figures.kept_bytes + figures.blind_bytes ==
            AO_load(&counters->cache_used) - AO_load(&counters->cache_retired));
}

static inline void
world_check(struct world *world)
{
    const char *why = "";
    if (pages_check(world->pages, &why) != MSHM_OK)
        ck_abort_msg("pages: %s", why);
    fixture_frames_ok(&world->store);
    world_check_frames(world);
}

static inline void
world_fini(struct world *world)
{
    pages_destroy(world->pages);
    fixture_frames_ok(&world->store);
    frames_destroy(world->store.frames);
    munmap(world->store.base, world->store.geometry.store_size);
    free(world->hints);
    free(world->records);
}

static inline AO_t
page_word(struct world *world, mshm_pid pid)
{
    return AO_load(&world->store.view.map[pid]);
}

static inline unsigned
page_state_now(struct world *world, mshm_pid pid)
{
    return mshm_map_state(page_word(world, pid));
}

static inline uint8_t *
page_frame(struct world *world, mshm_pid pid)
{
    return frames_address(world->store.frames, page_word(world, pid));
}

static inline uint32_t
page_size(struct world *world, mshm_pid pid)
{
    return mshm_class_size(mshm_map_class(page_word(world, pid)));
}

/* The byte that a reader of this page sets. */
static inline uint8_t *
page_hint(struct world *world, mshm_pid pid)
{
    return &world->hints[(mshm_map_frame(page_word(world, pid)) -
                          world->store.geometry.frames_offset) /
                         MSHM_UNIT];
}

/* A new frame with the content, not published. 0: there is none. */
static inline AO_t
frame_build(struct world *world, mshm_pid pid, const struct content *content, unsigned class)
{
    struct mshm_version versions[CONTENT_MAX];
    struct item_bytes bytes[CONTENT_MAX];
    uint8_t *frame = frames_allocate(world->store.frames, class);
    if (frame == NULL)
        return 0;
    for (unsigned i = 0; i < content->count; i++)
        versions[i] = item_version(content->items[i], &bytes[i]);
    struct mshm_leaf_spec spec = {.pid = pid,
                                  .bucket = BUCKET,
                                  .kind = MSHM_PAGE_LEAF,
                                  .low = (const uint8_t *)"",
                                  .high_size = MSHM_FENCE_INFINITE,
                                  .versions = versions,
                                  .count = content->count};
    REQUIRE_STATUS(mshm_leaf_build(frame, mshm_class_size(class), &spec), MSHM_OK);
    return frames_word(world->store.frames, frame, class, mshm_leaf_hint(frame));
}

static inline bool
page_publish(struct world *world, mshm_pid pid, const struct content *content, unsigned class,
             bool whole)
{
    AO_t word = frame_build(world, pid, content, class);
    if (word == 0)
        return false;
    pages_publish(world->pages, pid, word, content_newest(content), whole);
    return true;
}

/* False: tail or heap are full. */
static inline bool
page_append(struct world *world, mshm_pid pid, uint16_t key)
{
    struct item_bytes bytes;
    struct mshm_version version =
        item_version((struct item){.key = key, .timestamp = world->clock + 1}, &bytes);
    if (mshm_leaf_append(page_frame(world, pid), page_size(world, pid), &version,
                         mshm_key_hash(bytes.key, 2)) != MSHM_OK)
        return false;
    world->clock++;
    pages_touch(world->pages, pid, world->clock);
    return true;
}

static inline bool
page_write_blind(struct world *world, mshm_pid pid, uint16_t key)
{
    struct item_bytes bytes;
    struct mshm_version version =
        item_version((struct item){.key = key, .timestamp = world->clock + 1}, &bytes);
    if (blind_reserve(pages_blind(world->pages), 1, 6) != MSHM_OK)
        return false;
    world->clock++;
    pages_write_blind(world->pages, pid, &version);
    return true;
}

/* --- the disk --- */

static inline struct record *
record_at(struct world *world, data_location location)
{
    uint64_t index = (data_location_offset(location) - DATA_RECORDS_AT) / DATA_UNIT;
    REQUIRE(data_location_file(location) == 1 && index < world->record_count);
    struct record *record = &world->records[index];
    REQUIRE(data_location_older(location) == record->older_count);
    return record;
}

static inline data_location
record_write(struct world *world, const struct record *record)
{
    if (world->record_count == world->record_capacity) {
        world->record_capacity = 2 * world->record_capacity + 64;
        world->records = realloc(world->records, world->record_capacity * sizeof(*record));
        REQUIRE(world->records != NULL);
    }
    world->records[world->record_count] = *record;
    uint64_t offset = DATA_RECORDS_AT + (uint64_t)world->record_count++ * DATA_UNIT;
    return data_location_make(1, record->older_count, offset, DATA_UNIT);
}

/* What the record and those that it names hold together. */
static inline struct content
chain_content(struct world *world, data_location location)
{
    const struct record *newest = record_at(world, location);
    struct content content = newest->content;
    for (unsigned i = 0; i < newest->older_count; i++) {
        const struct record *older = record_at(world, newest->older[i]);
        REQUIRE(older->pid == newest->pid && older->birth == newest->birth);
        REQUIRE(older->older_count + i + 1 == newest->older_count);
        content_add_all(&content, &older->content);
    }
    return content;
}

static inline void
list_add(struct content *content, const struct blind_entry *list, mshm_timestamp since)
{
    for (; list != NULL; list = blind_entry_older(list)) {
        struct mshm_version version = {.key = list->bytes, .key_size = list->key_size};
        REQUIRE(list->timestamp > since && list->value_size == 4);
        content_add(content, version_item(&version).key, list->timestamp);
    }
}

/* What a reader of the page gets, wherever it is. */
static inline struct content
page_content_now(struct world *world, mshm_pid pid)
{
    if (page_state_now(world, pid) == MSHM_MAP_RESIDENT)
        return frame_content(page_frame(world, pid), page_size(world, pid), UINT64_MAX);
    data_location location = pages_location(world->pages, pid);
    REQUIRE(location != 0);
    struct content content = chain_content(world, location);
    mshm_timestamp cut = record_at(world, location)->cut;
    list_add(&content, blind_sealed(pages_blind(world->pages), pid), cut);
    list_add(&content, blind_gathered(pages_blind(world->pages), pid), cut);
    return content;
}

/* The cut of the record below; 0: there is none. */
static inline mshm_timestamp
record_below(struct world *world, const struct record *record)
{
    return record->older_count > 0 ? record_at(world, record->older[0])->cut : 0;
}

/* Reads a page in as the pager does. False: no frame. */
static inline bool
page_install(struct world *world, mshm_pid pid, unsigned class)
{
    struct content content = page_content_now(world, pid);
    const struct record *record = record_at(world, pages_location(world->pages, pid));
    AO_t word = frame_build(world, pid, &content, class);
    if (word == 0)
        return false;
    bool newer = blind_gathered(pages_blind(world->pages), pid) != NULL;
    pages_install(world->pages, pid, word, record->birth, record->cut, record_below(world, record),
                  record->older, newer);
    return true;
}

/* --- the checkpoint --- */

static inline void
job_take(struct world *world, uint32_t count)
{
    struct job *job = &world->job;
    uint32_t left = pages_sealed_count(world->pages) - world->next;
    job->first = world->next;
    job->count = count < left ? count : left;
    job->ran = false;
    for (uint32_t i = 0; i < job->count; i++) {
        memset(&job->sources[i], 0xa5, sizeof(job->sources[i]));
        pages_source(world->pages, job->first + i, &job->sources[i], &job->freed[i]);
    }
}

/* The new record takes up the newest delta, of which it has what is needed. */
static inline void
record_replace(struct world *world, const struct page_source *source, struct record *record)
{
    const struct record *former = record_at(world, source->location);
    record->older_count = former->older_count;
    memcpy(record->older, former->older, former->older_count * sizeof(*former->older));
    record->birth = former->birth;
    world->merged++;
}

static inline void
record_continue(struct world *world, const struct page_source *source, struct record *record)
{
    const struct record *former = record_at(world, source->location);
    record->older_count = former->older_count + 1;
    record->older[0] = source->location;
    memcpy(record->older + 1, former->older, former->older_count * sizeof(*former->older));
    record->birth = former->birth;
}

/* The entries of the frame that count are those that are not newer than the cut. */
static inline void
source_check_tail(const struct page_source *source)
{
    const struct mshm_leaf *leaf = (const void *)source->frame;
    AO_t now = AO_load(&leaf->page.tail_count);
    REQUIRE(source->tail_count <= now);
    for (unsigned i = 0; i < now; i++) {
        const struct mshm_entry *entry = (const void *)(source->frame + leaf->tail_slots[i] * 4);
        REQUIRE((mshm_entry_timestamp(entry) <= source->cut) == (i < source->tail_count));
    }
}

static inline data_location
pack_resident(struct world *world, const struct page_source *source, bool want_full,
              bool want_merged)
{
    const struct mshm_page *page = (const void *)source->frame;
    REQUIRE(page->pid == source->pid && page->bucket == source->bucket && source->blind == NULL);
    source_check_tail(source);
    struct content all = frame_content(source->frame, source->frame_size, source->cut);
    struct record record = {.pid = source->pid, .birth = source->birth, .cut = source->cut};
    unsigned chain = data_location_older(source->location);
    if (source->location != 0) {
        const struct record *former = record_at(world, source->location);
        REQUIRE(former->pid == source->pid && former->birth == source->birth);
        REQUIRE(former->cut == source->since);
        REQUIRE((source->older != NULL) == (chain > 0) || world->forgetful);
        REQUIRE(source->older == NULL || memcmp(source->older, former->older, chain * 8) == 0);
        REQUIRE(source->older == NULL || source->below == record_below(world, former));
    }
    if (source->full || source->location == 0 || chain == DATA_CHAIN_MAX || want_full) {
        record.content = all;
        world->fulls++;
        return record_write(world, &record);
    }
    mshm_timestamp above = want_merged && source->below != 0 ? source->below : source->since;
    for (unsigned i = 0; i < all.count; i++)
        if (all.items[i].timestamp > above)
            content_add(&record.content, all.items[i].key, all.items[i].timestamp);
    if (content_newest(&record.content) <= source->since) {
        world->nothings++;
        return 0;
    }
    if (above != source->since)
        record_replace(world, source, &record);
    else
        record_continue(world, source, &record);
    world->deltas++;
    return record_write(world, &record);
}

static inline data_location
pack_blind(struct world *world, const struct page_source *source, bool want_merged)
{
    const struct record *former = record_at(world, source->location);
    struct record record = {.pid = source->pid, .birth = former->birth, .cut = source->cut};
    REQUIRE(source->blind != NULL && source->blind->timestamp <= source->cut && !source->full);
    if (former->older_count == DATA_CHAIN_MAX) {
        record.content = chain_content(world, source->location);
        list_add(&record.content, source->blind, former->cut);
        world->fulls++;
    } else if (want_merged && former->older_count > 0) {
        record.content = former->content;
        list_add(&record.content, source->blind, former->cut);
        record_replace(world, source, &record);
        world->deltas++;
    } else {
        list_add(&record.content, source->blind, former->cut);
        record_continue(world, source, &record);
        world->deltas++;
    }
    return record_write(world, &record);
}

static inline void
job_run(struct world *world, uint64_t *random)
{
    struct job *job = &world->job;
    for (uint32_t i = 0; i < job->count; i++) {
        const struct page_source *source = &job->sources[i];
        bool want_full = random != NULL && fixture_random(random) % 8 == 0;
        bool want_merged = random != NULL && fixture_random(random) % 2 == 0;
        job->results[i] = 0;
        job->lost[i] = random != NULL && source->frame == NULL && !job->freed[i] &&
                       fixture_random(random) % 4 == 0;
        if (job->lost[i])
            continue;
        if (job->freed[i])
            REQUIRE(source->location == world->manifest[source->pid] && source->location != 0);
        else if (source->frame != NULL)
            job->results[i] = pack_resident(world, source, want_full, want_merged);
        else
            job->results[i] = pack_blind(world, source, want_merged);
    }
    job->ran = true;
}

/* What could not be read waits, in memory and for the manifest. False: there is no room for it. */
static inline bool
job_carry(struct world *world)
{
    struct job *job = &world->job;
    uint32_t count = 0;
    for (uint32_t i = 0; i < job->count; i++)
        for (const struct blind_entry *entry = job->lost[i] ? job->sources[i].blind : NULL;
             entry != NULL; entry = blind_entry_older(entry))
            count++;
    if (count > 0 && pages_carry_reserve(world->pages, count, count * UINT64_C(6)) != MSHM_OK)
        return false;
    for (uint32_t i = 0; i < job->count; i++) {
        if (!job->lost[i])
            continue;
        REQUIRE(world->strays[job->sources[i].pid].count == 0);
        list_add(&world->strays[job->sources[i].pid], job->sources[i].blind, 0);
        pages_carry(world->pages, job->first + i);
        world->carried++;
    }
    return true;
}

static inline void
job_finish(struct world *world)
{
    struct job *job = &world->job;
    if (!job_carry(world)) {
        job->ran = false;
        return;
    }
    for (uint32_t i = 0; i < job->count; i++)
        pages_packed(world->pages, job->first + i, job->results[i]);
    world->next = job->first + job->count;
    job->count = 0;
}

/* The edit of the manifest is durable. */
static inline void
manifest_edit(struct world *world)
{
    for (uint32_t i = 0; i < pages_sealed_count(world->pages); i++) {
        mshm_pid pid;
        data_location location;
        if (pages_result(world->pages, i, &pid, &location))
            world->manifest[pid] = location;
    }
    memcpy(world->manifest_strays, world->strays, sizeof(world->strays));
}

/* What a start finds. */
static inline struct content
manifest_content(struct world *world, mshm_pid pid)
{
    struct content content = chain_content(world, world->manifest[pid]);
    content_add_all(&content, &world->manifest_strays[pid]);
    return content;
}

static inline void
manifest_restore_strays(struct world *world, mshm_pid pid)
{
    const struct content *strays = &world->manifest_strays[pid];
    mshm_timestamp former = 0;
    for (unsigned i = 0; i < strays->count; i++) { /* the oldest of those that are left */
        const struct item *next = NULL;
        struct item_bytes bytes;
        for (unsigned k = 0; k < strays->count; k++)
            if (strays->items[k].timestamp > former &&
                (next == NULL || strays->items[k].timestamp < next->timestamp))
                next = &strays->items[k];
        struct mshm_version version = item_version(*next, &bytes);
        REQUIRE_STATUS(pages_restore_stray(world->pages, pid, &version), MSHM_OK);
        former = next->timestamp;
    }
}

static inline void
checkpoint_seal(struct world *world)
{
    REQUIRE_STATUS(pages_seal(world->pages, world->clock), MSHM_OK);
    world->next = 0;
    world->job.count = 0;
    memset(world->strays, 0, sizeof(world->strays));
}

/* Packs what is left and edits the manifest. */
static inline void
checkpoint_pack(struct world *world)
{
    while (world->next < pages_sealed_count(world->pages)) {
        job_take(world, JOB_PAGES);
        job_run(world, NULL);
        job_finish(world);
    }
    manifest_edit(world);
}

static inline void
checkpoint_whole(struct world *world)
{
    checkpoint_seal(world);
    checkpoint_pack(world);
    while (pages_published(world->pages, 3))
        world_check(world);
    world_check(world);
}

/* --- the manifest as the table has it --- */

static void
durable_compare(void *argument, mshm_pid pid, data_location location)
{
    data_location *left = argument;
    REQUIRE(left[pid] == location);
    left[pid] = 0;
}

/* After the edit, and until the next one. */
static inline void
durable_check(struct world *world)
{
    data_location left[WORLD_PIDS];
    mshm_pid next = 1;
    memcpy(left, world->manifest, sizeof(left));
    while (pages_each_durable(world->pages, &next, 37, durable_compare, left))
        continue;
    for (mshm_pid pid = 0; pid < WORLD_PIDS; pid++)
        REQUIRE(left[pid] == 0);
}

#endif
