/* check_trees.c - every tree from its root, level by level and from left to right: each page is reached once and by the
 * separators that are its fences, its right sibling is the next page of its level. Inner pages are read again, leaves only
 * when something is wrong with them: what is known of a page has its fences, level and bucket in one hash.
 */
#include <stdlib.h>
#include <string.h>

#include "check_database.h"
#include "data.h"
#include "mshm/status.h"

struct level {
    mshm_pid *pids; /* inner pages, left to right */
    uint64_t count, capacity;
};

struct walk {
    struct check *check;
    struct check_bucket *bucket;
    struct level level, below;
    /* The page before the one at hand on the level below; NULL: the chain is broken there. */
    const struct check_page *before;
};

static int
level_add(struct level *level, mshm_pid pid)
{
    if (level->count == level->capacity) {
        uint64_t capacity = level->capacity != 0 ? level->capacity * 2 : 256;
        mshm_pid *grown = realloc(level->pids, capacity * sizeof *grown);
        if (grown == NULL)
            return MSHM_NO_MEMORY;
        level->pids = grown;
        level->capacity = capacity;
    }
    level->pids[level->count++] = pid;
    return MSHM_OK;
}

/* --- findings --- */

static struct finding
page_finding(const struct walk *walk, mshm_pid pid, const struct check_range *range, char *name)
{
    struct finding finding = {.pid = pid};
    const struct check_page *page = check_page_find(walk->check, pid);
    if (page != NULL) {
        data_name(name, data_location_file(page->location));
        finding.file = name;
        finding.has_offset = true;
        finding.offset = data_location_offset(page->location);
    }
    if (walk->bucket != NULL) {
        finding.bucket = walk->bucket->name;
        finding.bucket_size = walk->bucket->name_size;
    }
    if (range != NULL) {
        finding.has_range = true;
        finding.low = range->low;
        finding.high = range->high;
        finding.low_size = range->low_size;
        finding.high_size = range->high_size;
    }
    return finding;
}

static void
report_page(const struct walk *walk, mshm_pid pid, const struct check_range *range,
            const char *text)
{
    char name[DATA_NAME_SIZE];
    struct finding finding = page_finding(walk, pid, range, name);
    finding.text = text;
    report_damage(walk->check->report, &finding);
}

/* A page that cannot be used: it is read once more to tell why, and where exactly. */
static int
report_bad(const struct walk *walk, const struct check_page *page, const struct check_range *range)
{
    char name[DATA_NAME_SIZE];
    struct check_chain chain;
    struct finding finding = page_finding(walk, page->pid, range, name);
    int status = check_page_load(walk->check->reader, page->location, page->pid, &chain);
    if (status == MSHM_NO_MEMORY || status == MSHM_VERSION)
        return status;
    if (status != MSHM_OK) {
        data_name(name, data_location_file(chain.at));
        finding.offset = data_location_offset(chain.at);
    }
    finding.text = status != MSHM_OK ? chain.why : "the page could not be read a moment ago";
    report_damage(walk->check->report, &finding);
    return MSHM_OK;
}

/* Which of the things that stand in one hash is wrong. */
static int
report_misfit(const struct walk *walk, const struct check_page *page, unsigned level,
              const struct check_range *range)
{
    struct check_chain chain;
    struct page_facts facts;
    int status = check_page_load(walk->check->reader, page->location, page->pid, &chain);
    if (status != MSHM_OK)
        return status == MSHM_NO_MEMORY ? status : MSHM_OK;
    page_content_facts(check_page_content(walk->check->reader), &facts);
    report_page(walk, page->pid, range,
                facts.bucket != walk->bucket->id ? "the page belongs to another bucket"
                : facts.level != level           ? "the page is of another level than its place"
                                                 : "its fences are not its parent's separators");
    return MSHM_OK;
}

/* --- one page, as its parent sees it --- */

static int
child_look(struct walk *walk, mshm_pid pid, unsigned level, const struct check_range *range)
{
    struct check *check = walk->check;
    struct check_page *page = check_page_find(check, pid);
    const struct check_page *before = walk->before;
    int status = MSHM_OK;
    walk->before = NULL;
    if (page == NULL) {
        /* Of a bucket that is being given back the pages that have gone already are still named. */
        if (!walk->bucket->leaving)
            report_page(walk, pid, range, "a tree leads to it, and the manifest does not");
        walk->bucket->cut_off |= level > 0;
        return MSHM_OK;
    }
    if ((page->state & CHECK_REACHED) != 0) {
        report_page(walk, pid, range, "two places of the trees lead to the page");
        return MSHM_OK;
    }
    page->state |= CHECK_REACHED;
    if ((page->state & CHECK_BAD) != 0) {
        walk->bucket->cut_off |= level > 0;
        return report_bad(walk, page, range);
    }
    if (!check_fences_equal(page, walk->bucket->id, level, range)) {
        walk->bucket->cut_off |= level > 0;
        return report_misfit(walk, page, level, range);
    }
    if (before != NULL && before->right != pid)
        report_page(walk, before->pid, NULL, "its right sibling is not the next page of its level");
    walk->before = page;
    if (level > 0)
        status = level_add(&walk->below, pid);
    return status;
}

/* An inner page's own copy: the reader is used again while its children are looked at. */
struct inner {
    struct mshm_inner_spec spec;
    struct mshm_separator *separators;
    mshm_pid *children;
    uint8_t *bytes;
};

static void
inner_fini(struct inner *inner)
{
    free(inner->separators);
    free(inner->children);
    free(inner->bytes);
}

static const uint8_t *
bytes_keep(uint8_t **at, const uint8_t *from, size_t size)
{
    uint8_t *place = *at;
    if (size != 0)
        memcpy(place, from, size);
    *at += size;
    return place;
}

static int
inner_init(struct inner *inner, const struct mshm_inner_spec *spec)
{
    uint32_t count = spec->count;
    size_t high = spec->high_size == MSHM_FENCE_INFINITE ? 0 : spec->high_size;
    size_t size = spec->low_size + high + 1;
    for (uint32_t i = 0; i < count; i++)
        size += spec->separators[i].size;
    inner->spec = *spec;
    inner->separators = malloc((count + 1u) * sizeof *inner->separators);
    inner->children = malloc((count + 1u) * sizeof *inner->children);
    inner->bytes = malloc(size);
    if (inner->separators == NULL || inner->children == NULL || inner->bytes == NULL) {
        inner_fini(inner);
        return MSHM_NO_MEMORY;
    }
    uint8_t *at = inner->bytes;
    inner->spec.low = bytes_keep(&at, spec->low, spec->low_size);
    inner->spec.high = bytes_keep(&at, spec->high, high);
    for (uint32_t i = 0; i < count; i++) {
        inner->separators[i].size = spec->separators[i].size;
        inner->separators[i].key =
            bytes_keep(&at, spec->separators[i].key, spec->separators[i].size);
    }
    memcpy(inner->children, spec->children, (count + 1u) * sizeof *inner->children);
    return MSHM_OK;
}

static int
children_look(struct walk *walk, const struct inner *inner)
{
    const struct mshm_inner_spec *spec = &inner->spec;
    int status = MSHM_OK;
    for (uint32_t i = 0; i <= spec->count && status == MSHM_OK; i++) {
        struct check_range range = {spec->low, spec->high, spec->low_size, spec->high_size};
        if (i > 0) {
            range.low = inner->separators[i - 1].key;
            range.low_size = inner->separators[i - 1].size;
        }
        if (i < spec->count) {
            range.high = inner->separators[i].key;
            range.high_size = inner->separators[i].size;
        }
        status = child_look(walk, inner->children[i], spec->level - 1u, &range);
    }
    return status;
}

static int
inner_look(struct walk *walk, mshm_pid pid)
{
    struct check *check = walk->check;
    const struct check_page *page = check_page_find(check, pid);
    struct check_chain chain;
    struct inner inner;
    int status = check_page_load(check->reader, page->location, pid, &chain);
    if (status == MSHM_NO_MEMORY)
        return status;
    if (status != MSHM_OK) { /* it was right a moment ago */
        walk->bucket->cut_off = true;
        return report_bad(walk, page, NULL);
    }
    status = inner_init(&inner, page_content_inner(check_page_content(check->reader)));
    if (status != MSHM_OK)
        return status;
    if (inner.spec.count == 0)
        report_page(walk, pid, NULL, "an inner page with one child");
    status = children_look(walk, &inner);
    inner_fini(&inner);
    return status;
}

/* --- a tree --- */

static void
level_end(struct walk *walk)
{
    if (walk->before != NULL && walk->before->right != 0)
        report_page(walk, walk->before->pid, NULL,
                    "the last page of its level has a right sibling");
    walk->before = NULL;
}

static void
level_down(struct walk *walk)
{
    struct level former = walk->level;
    walk->level = walk->below;
    walk->below = former;
    walk->below.count = 0;
}

static int
tree_look(struct check *check, struct check_bucket *bucket)
{
    const struct check_range everything = {(const uint8_t *)"", NULL, 0, MSHM_FENCE_INFINITE};
    struct walk walk = {.check = check, .bucket = bucket};
    const struct check_page *root = check_page_find(check, bucket->root);
    unsigned level = root != NULL && (root->state & CHECK_BAD) == 0 ? root->level : 0;
    if (root == NULL || (root->state & CHECK_BAD) != 0)
        bucket->cut_off = true;
    bucket->height = level + 1u;
    int status = child_look(&walk, bucket->root, level, &everything);
    level_end(&walk);
    level_down(&walk);
    while (status == MSHM_OK && walk.level.count > 0) {
        for (uint64_t i = 0; i < walk.level.count && status == MSHM_OK; i++)
            status = inner_look(&walk, walk.level.pids[i]);
        level_end(&walk);
        level_down(&walk);
    }
    free(walk.level.pids);
    free(walk.below.pids);
    return status;
}

/* --- pages that no tree leads to --- */

static int
stray_look(struct check *check, const struct check_page *page)
{
    struct walk walk = {.check = check};
    struct check_chain chain;
    struct page_facts facts;
    if ((page->state & CHECK_BAD) != 0)
        return report_bad(&walk, page, NULL);
    int status = check_page_load(check->reader, page->location, page->pid, &chain);
    if (status != MSHM_OK)
        return status == MSHM_NO_MEMORY ? status : MSHM_OK;
    const struct page_content *content = check_page_content(check->reader);
    page_content_facts(content, &facts);
    walk.bucket = check_bucket_find(check, facts.bucket);
    if (walk.bucket != NULL && walk.bucket->cut_off) {
        check->figures.pages_cut_off++; /* the lost page was told */
        return MSHM_OK;
    }
    struct check_range range = {0};
    if (facts.kind == MSHM_PAGE_LEAF) {
        const struct mshm_leaf_spec *leaf = page_content_leaf(content);
        range = (struct check_range){leaf->low, leaf->high, leaf->low_size, leaf->high_size};
    } else {
        const struct mshm_inner_spec *inner = page_content_inner(content);
        range = (struct check_range){inner->low, inner->high, inner->low_size, inner->high_size};
    }
    report_page(&walk, page->pid, &range,
                walk.bucket == NULL ? "the page belongs to a bucket that is not there"
                                    : "no tree leads to the page");
    return MSHM_OK;
}

int
check_trees(struct check *check)
{
    int status = MSHM_OK;
    for (uint32_t i = 0; i < check->bucket_count && status == MSHM_OK; i++)
        status = tree_look(check, &check->buckets[i]);
    for (uint64_t i = 0; i < check->page_count && status == MSHM_OK; i++)
        if ((check->pages[i].state & CHECK_REACHED) == 0)
            status = stray_look(check, &check->pages[i]);
    return status;
}
