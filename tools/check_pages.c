/* check_pages.c - every page of the manifest, in the order of the data files: is its location one, are its records and its
 * content right, does it stand on no other page's bytes. What trees need to know of it is kept. */
#include <stdlib.h>
#include <string.h>

#include "check_database.h"
#include "data.h"
#include "mshm/status.h"

/* --- fences --- */

static uint64_t
fences_hash(uint32_t bucket, unsigned level, const struct check_range *range)
{
    const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
    bool unbounded = range->high_size == MSHM_FENCE_INFINITE;
    uint64_t hash = ((uint64_t)bucket << 8 | level) * odd;
    hash = (hash ^ mshm_key_hash(range->low, range->low_size)) * odd + range->low_size;
    hash ^= hash >> 29;
    hash = unbounded ? hash * odd + 1
                     : (hash ^ mshm_key_hash(range->high, range->high_size)) * odd + 2;
    return hash ^ hash >> 32;
}

void
check_fences_set(struct check_page *page, uint32_t bucket, unsigned level,
                 const struct check_range *range)
{
    uint64_t hash = fences_hash(bucket, level, range);
    page->fences_low = (uint32_t)hash;
    page->fences_high = (uint16_t)(hash >> 48);
}

bool
check_fences_equal(const struct check_page *page, uint32_t bucket, unsigned level,
                   const struct check_range *range)
{
    struct check_page wanted = {0};
    check_fences_set(&wanted, bucket, level, range);
    return page->fences_low == wanted.fences_low && page->fences_high == wanted.fences_high &&
           page->level == level;
}

/* --- order --- */

static bool
page_less(const struct check_page *a, const struct check_page *b, bool by_location)
{
    /* Chain and size stand beside the offset: file first, then offset. */
    if (by_location) {
        uint64_t left = (uint64_t)data_location_file(a->location) << 32 |
                        data_location_offset(a->location) / DATA_UNIT;
        uint64_t right = (uint64_t)data_location_file(b->location) << 32 |
                         data_location_offset(b->location) / DATA_UNIT;
        return left < right;
    }
    return a->pid < b->pid;
}

static void
page_swap(struct check_page *a, struct check_page *b)
{
    struct check_page former = *a;
    *a = *b;
    *b = former;
}

/* Quicksort in place: qsort(3) may take as much memory again. The pivots are chosen by chance, because the order is the
 * disk's to choose. */
static void
pages_sort(struct check_page *pages, uint64_t count, bool by_location)
{
    uint64_t chance = UINT64_C(0x2545f4914f6cdd1d);
    while (count > 1) {
        chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
        struct check_page pivot = pages[chance % count];
        uint64_t i = 0, j = count - 1;
        for (;;) {
            while (page_less(&pages[i], &pivot, by_location))
                i++;
            while (page_less(&pivot, &pages[j], by_location))
                j--;
            if (i >= j)
                break;
            page_swap(&pages[i++], &pages[j--]);
        }
        /* pages[0 .. j] <= pivot <= pages[j + 1 .. ]: the smaller part by recursion, the larger one here. */
        uint64_t left = j + 1;
        if (left == count) /* the pivot is the largest, at the end */
            left--;
        if (left < count - left) {
            pages_sort(pages, left, by_location);
            pages += left;
            count -= left;
        } else {
            pages_sort(pages + left, count - left, by_location);
            count = left;
        }
    }
}

/* --- one page --- */

struct looking {
    struct check *check;
    struct check_page *page;
};

/* Who stands where this record does? Pages are in the order of their newest records; 0: somebody's older record. */
static uint32_t
owner_find(const struct check *check, data_location location)
{
    struct check_page wanted = {.location = location};
    uint64_t low = 0, high = check->page_count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (page_less(&check->pages[middle], &wanted, true))
            low = middle + 1;
        else
            high = middle;
    }
    uint64_t end = data_location_offset(location) + data_location_size(location);
    for (uint64_t i = low > 0 ? low - 1 : 0; i < check->page_count && i < low + 2; i++) {
        data_location other = check->pages[i].location;
        uint64_t from = data_location_offset(other), to = from + data_location_size(other);
        if (other != location && data_location_file(other) == data_location_file(location) &&
            from < end && data_location_offset(location) < to)
            return check->pages[i].pid;
    }
    return 0;
}

static void
report_overlap(const struct looking *looking, data_location location)
{
    char name[DATA_NAME_SIZE];
    data_name(name, data_location_file(location));
    uint32_t owner = owner_find(looking->check, location);
    struct finding finding = {.file = name,
                              .has_offset = true,
                              .offset = data_location_offset(location),
                              .pid = looking->page->pid};
    if (owner != 0)
        report_damagef(looking->check->report, finding,
                       "its location overlaps a live record of page %u", owner);
    else
        report_damagef(looking->check->report, finding,
                       "its location overlaps a live record of another page");
}

/* Each record of the chain is live: counted, and nobody else's. */
static int
chain_mark(const struct looking *looking, const struct check_chain *chain)
{
    int status = MSHM_OK;
    for (unsigned i = 0; i < chain->count && status == MSHM_OK; i++) {
        data_location location = chain->locations[i];
        uint64_t offset = data_location_offset(location);
        uint32_t size = data_location_size(location);
        struct check_file *file = check_file_find(looking->check, data_location_file(location));
        if (file == NULL)
            continue;
        file->counted += size;
        if (offset + size <= file->total && !check_file_mark(file, offset, size, &status) &&
            status == MSHM_OK)
            report_overlap(looking, location);
        looking->check->figures.records_live++;
    }
    return status;
}

static void
count_versions(struct check_bucket *bucket, const struct mshm_leaf_spec *leaf)
{
    const struct mshm_version *before = NULL;
    for (uint32_t i = 0; i < leaf->count; i++) {
        const struct mshm_version *version = &leaf->versions[i];
        bool first = before == NULL || before->key_size != version->key_size ||
                     memcmp(before->key, version->key, version->key_size) != 0;
        if (first && version->kind != MSHM_ENTRY_TOMBSTONE)
            bucket->keys++;
        before = version;
    }
    bucket->versions += leaf->count;
}

static void
page_keep(const struct looking *looking, const struct page_facts *facts)
{
    struct check *check = looking->check;
    const struct page_content *content = check_page_content(check->reader);
    struct check_range range;
    struct check_bucket *bucket = check_bucket_find(check, facts->bucket);
    if (facts->kind == MSHM_PAGE_LEAF) {
        const struct mshm_leaf_spec *leaf = page_content_leaf(content);
        range = (struct check_range){leaf->low, leaf->high, leaf->low_size, leaf->high_size};
        looking->page->right = leaf->right;
        if (bucket != NULL) {
            count_versions(bucket, leaf);
            bucket->pages_leaf++;
        }
    } else {
        const struct mshm_inner_spec *inner = page_content_inner(content);
        range = (struct check_range){inner->low, inner->high, inner->low_size, inner->high_size};
        looking->page->right = inner->right;
        if (bucket != NULL)
            bucket->pages_inner++;
    }
    looking->page->level = facts->level;
    check_fences_set(looking->page, facts->bucket, facts->level, &range);
}

static void
count_bytes(const struct looking *looking, const struct check_chain *chain, uint32_t id)
{
    struct check_bucket *bucket = check_bucket_find(looking->check, id);
    for (unsigned i = 0; bucket != NULL && i < chain->count; i++)
        bucket->bytes += data_location_size(chain->locations[i]);
}

static int
page_look(const struct looking *looking)
{
    struct check *check = looking->check;
    struct check_chain chain;
    struct page_facts facts;
    int status =
        check_page_load(check->reader, looking->page->location, looking->page->pid, &chain);
    if (status == MSHM_NO_MEMORY || status == MSHM_VERSION)
        return status;
    if (chain.count == 0)
        chain.count = 1; /* its head cannot be read, and it stands there all the same */
    if (status == MSHM_OK) {
        page_content_facts(check_page_content(check->reader), &facts);
        page_keep(looking, &facts);
        count_bytes(looking, &chain, facts.bucket);
    } else {
        looking->page->state |= CHECK_BAD; /* told when a tree leads to it, with its keys */
        check->figures.pages_bad++;
    }
    if (status == MSHM_OK && facts.cut > check->manifest.cut.timestamp) {
        char name[DATA_NAME_SIZE];
        data_name(name, data_location_file(chain.locations[0]));
        report_damagef(check->report,
                       (struct finding){.file = name,
                                        .has_offset = true,
                                        .offset = data_location_offset(chain.locations[0]),
                                        .pid = facts.pid},
                       "the record is newer than the checkpoint that leads to it");
    }
    return chain_mark(looking, &chain);
}

int
check_pages(struct check *check)
{
    int status = MSHM_OK;
    pages_sort(check->pages, check->page_count, true);
    for (uint64_t i = 0; i < check->page_count && status == MSHM_OK; i++)
        status = page_look(&(struct looking){check, &check->pages[i]});
    pages_sort(check->pages, check->page_count, false);
    return status;
}
