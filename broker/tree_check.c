/* tree_check.c - does everything hold that a tree promises? For tests and mace-check. See tree.h. */
#include "tree_parts.h"

enum { MAX_LEVELS = 32 };

/* One pass, depth first and from left to right: so the page visited last on a level must name the next as its right
 * sibling, and its high fence is the next one's low fence because both are the parent's separator. */
struct check {
    struct tree *tree;
    struct mshm_tree_ref ref;
    uint64_t live_keys, pages;
    mshm_pid right[MAX_LEVELS]; /* that the page visited last names */
    bool seen[MAX_LEVELS];      /* false: there was none, or it was passed over */
    uint8_t *met;               /* a bit for each pid */
    uint8_t *peeked;            /* a page that is not in memory */
    struct mshm_leaf_iterator iterator;
};

struct range {
    const uint8_t *low, *high;
    uint32_t low_size, high_size;
};

static const char *
check_fences(const uint8_t *frame, uint32_t size, const struct range *range)
{
    struct mshm_fences fences;
    if (mshm_page_fences(frame, size, &fences) != MSHM_OK)
        return "fences that do not fit the page";
    if (mshm_key_compare(fences.low, fences.low_size, range->low, range->low_size) != 0)
        return "a low fence is not the parent's separator";
    if ((fences.high_size == MSHM_FENCE_INFINITE) != (range->high_size == MSHM_FENCE_INFINITE))
        return "a high fence is infinite, or should be";
    if (fences.high_size != MSHM_FENCE_INFINITE &&
        mshm_key_compare(fences.high, fences.high_size, range->high, range->high_size) != 0)
        return "a high fence is not the parent's separator";
    return NULL;
}

/* The oldest version of each key of one frame must be newer than every version of it further down the chain. */
static const char *
check_order(const struct mshm_version *newer, uint32_t newer_count,
            const struct mshm_version *older, uint32_t older_count)
{
    uint32_t i = 0;
    for (uint32_t j = 0; j < older_count; j++) {
        while (i < newer_count && mshm_key_compare(newer[i].key, newer[i].key_size, older[j].key,
                                                   older[j].key_size) < 0)
            i++;
        for (uint32_t k = i;
             k < newer_count && mshm_key_compare(newer[k].key, newer[k].key_size, older[j].key,
                                                 older[j].key_size) == 0;
             k++)
            if (newer[k].timestamp <= older[j].timestamp)
                return "a history frame holds a version that is not older than one before it";
    }
    return NULL;
}

/* Every key of the history has a version in the leaf. What halves of a split leaf share holds the other's keys, too. */
static const char *
check_known(const struct mshm_version *leaf, uint32_t leaf_count, const struct mshm_version *list,
            uint32_t count, const struct mshm_fences *fences)
{
    uint32_t i = 0;
    for (uint32_t j = 0; j < count; j++) {
        if (mshm_fences_compare(fences, list[j].key, list[j].key_size, 0) != 0)
            continue;
        while (i < leaf_count &&
               mshm_key_compare(leaf[i].key, leaf[i].key_size, list[j].key, list[j].key_size) < 0)
            i++;
        if (i == leaf_count ||
            mshm_key_compare(leaf[i].key, leaf[i].key_size, list[j].key, list[j].key_size) != 0)
            return "a key stands in the history and not in its leaf";
    }
    return NULL;
}

/* A leaf and the history that was looked at so far. */
struct chain {
    struct mshm_fences fences;
    struct mshm_version *first, *all; /* of the leaf; all in order */
    uint32_t first_count, count;
};

/* A page of the history, in memory or read from the scratch file: its frame and what is behind it. */
static const char *
history_page_get(struct check *check, AO_t word, const uint8_t **frame, uint32_t *size, AO_t *next,
                 uint64_t *bytes)
{
    struct tree *tree = check->tree;
    uint32_t number = spill_number(word);
    if (number == 0) {
        *frame = frames_address(tree->frames, word);
        *size = mshm_class_size(mshm_map_class(word));
        *next = AO_load(&history_page(tree, word)->history);
        *bytes += *size;
        const struct history_frame *note = history_frame(tree, word);
        if (note->page != 0 && spill_page(tree->out.spill, note->page)->references == 0)
            return "a history frame's copy is none";
        return note->pid != 0 ? NULL : "a history frame is not noted";
    }
    const struct spill_page *page = spill_page(tree->out.spill, number);
    uint8_t *copy = plan_memory(&tree->plan, mshm_class_size(tree_class(page->size)));
    if (!copy)
        return "out of memory";
    if (spill_peek(tree->out.spill, number, copy) != MSHM_OK)
        return "a page of the scratch file cannot be read";
    *frame = copy;
    *size = mshm_class_size(tree_class(page->size));
    *next = page->next;
    return *next == 0 || spill_number(*next) != 0 ? NULL
                                                  : "a page of the scratch file leads out of it";
}

static const char *
check_history_page(struct check *check, struct chain *chain, AO_t word, uint64_t *bytes, AO_t *next)
{
    const uint8_t *frame;
    uint32_t size, loaded;
    struct mshm_version *list;
    const char *why = history_page_get(check, word, &frame, &size, next, bytes);
    if (why)
        return why;
    const struct mshm_page *history = (const void *)frame;
    if (history->kind != MSHM_PAGE_HISTORY || history->bucket != check->ref.bucket)
        return "a history link leads to something else";
    if (mshm_leaf_check(frame, size, &why) != MSHM_OK)
        return why;
    if (rebuild_load(&check->tree->plan, frame, size, &list, &loaded))
        return "a history frame cannot be taken apart";
    why = check_known(chain->first, chain->first_count, list, loaded, &chain->fences);
    if (!why)
        why = check_order(chain->all, chain->count, list, loaded);
    if (why)
        return why;
    chain->all = rebuild_merge(&check->tree->plan, chain->all, chain->count, list, loaded);
    chain->count += loaded;
    return chain->all ? NULL : "out of memory";
}

static const char *
check_history(struct check *check, const uint8_t *leaf, uint32_t leaf_size)
{
    struct tree *tree = check->tree;
    struct tree_plan *plan = &tree->plan;
    const struct mshm_page *page = (const void *)leaf;
    AO_t word = AO_load(&page->history);
    uint64_t bytes = 0;
    struct chain chain;
    plan_memory_reset(plan);
    if (word != tree_history_word(tree, page->pid))
        return "a leaf's history is not the one that is noted";
    if (word == 0)
        return history_known(tree, page->pid) ? "a leaf without history is noted" : NULL;
    if (rebuild_load(plan, leaf, leaf_size, &chain.first, &chain.first_count))
        return "a leaf cannot be taken apart";
    chain.all = chain.first;
    chain.count = chain.first_count;
    if (mshm_page_fences(leaf, leaf_size, &chain.fences) != MSHM_OK)
        return "fences that do not fit the page";
    while (word != 0) {
        AO_t next;
        const char *why = check_history_page(check, &chain, word, &bytes, &next);
        if (why)
            return why;
        word = next;
    }
    return bytes == history_known(tree, page->pid) ? NULL : "a leaf's history is noted wrongly";
}

static const char *
check_leaf(struct check *check, const uint8_t *frame, uint32_t size)
{
    const char *why = NULL;
    if (mshm_leaf_check(frame, size, &why) != MSHM_OK)
        return why;
    if (mshm_leaf_iterator_init(&check->iterator, frame, size) != MSHM_OK)
        return "a leaf cannot be walked through";
    struct mshm_version version;
    while (mshm_leaf_iterator_next(&check->iterator, UINT64_MAX, &version) == MSHM_OK)
        check->live_keys += version.kind != MSHM_ENTRY_TOMBSTONE && version.kind != 0;
    return check_history(check, frame, size);
}

static const char *check_page(struct check *check, mshm_pid pid, unsigned level,
                              const struct range *range);

/* The frame may be gone when the first child has been looked at: two pages out of memory are never there at once. */

static const char *
check_children(struct check *check, const uint8_t *frame, uint32_t size, const struct range *range)
{
    const struct mshm_page *page = (const void *)frame;
    uint32_t count = page->key_count, room = count + 1, level = page->level - 1u;
    uint32_t key_bytes = size + count * (uint32_t)page->prefix_size;
    struct mshm_separator *separators = malloc(room * sizeof(*separators));
    mshm_pid *children = malloc(room * sizeof(*children));
    uint8_t *keys = malloc(key_bytes);
    const char *why = "out of memory";
    if (separators && children && keys) {
        why = NULL;
        if (mshm_inner_take(frame, size, separators, children, count, keys, key_bytes) !=
            (int)count)
            why = "an inner page cannot be taken apart";
    }
    for (uint32_t i = 0; i <= count && !why; i++) {
        struct range part = *range;
        if (i > 0) {
            part.low = separators[i - 1].key;
            part.low_size = separators[i - 1].size;
        }
        if (i < count) {
            part.high = separators[i].key;
            part.high_size = separators[i].size;
        }
        why = check_page(check, children[i], level, &part);
    }
    free(separators);
    free(children);
    free(keys);
    return why;
}

/* A page in memory, or its copy; *frame NULL: passed over. */
static const char *
check_find(struct check *check, mshm_pid pid, const uint8_t **frame, uint32_t *size)
{
    struct tree *tree = check->tree;
    const char *why = NULL;
    *frame = NULL;
    if (pid == 0 || pid >= tree->view->map_capacity)
        return "a pid beyond the page map";
    if (check->met[pid / 8] & 1u << pid % 8)
        return "a page that two lead to";
    check->met[pid / 8] |= (uint8_t)(1u << pid % 8);
    AO_t word = AO_load(frames_map(tree->frames, pid));
    if (mshm_map_state(word) == MSHM_MAP_RESIDENT) {
        *frame = tree_frame(tree, pid, size);
    } else if (mshm_map_state(word) != MSHM_MAP_ON_DISK) {
        return "a page that is neither in memory nor on disk";
    } else if (tree->peek) {
        if (tree->peek(tree->peek_argument, pid, check->peeked, size, &why) != MSHM_OK)
            return why ? why : "a page that cannot be read";
        *frame = check->peeked;
    }
    return NULL;
}

static const char *
check_frame(struct check *check, mshm_pid pid, unsigned level, const uint8_t *frame, uint32_t size,
            const struct range *range)
{
    const struct mshm_page *page = (const void *)frame;
    if (page->magic != MSHM_PAGE_MAGIC || page->pid != pid || page->bucket != check->ref.bucket)
        return "a page that is not the one its pid names";
    if (page->level != level)
        return "a page of the wrong level";
    if (page->kind != (level == 0 ? MSHM_PAGE_LEAF : MSHM_PAGE_INNER))
        return "a page of the wrong kind";
    if (check->seen[level] && check->right[level] != pid)
        return "a right sibling that is not the next page";
    check->seen[level] = true;
    check->right[level] = page->right;
    check->pages++;
    return check_fences(frame, size, range);
}

static const char *
check_page(struct check *check, mshm_pid pid, unsigned level, const struct range *range)
{
    const uint8_t *frame;
    uint32_t size;
    const char *why = check_find(check, pid, &frame, &size);
    if (why)
        return why;
    if (!frame) {
        for (unsigned i = 0; i <= level; i++)
            check->seen[i] = false;
        return NULL;
    }
    why = check_frame(check, pid, level, frame, size, range);
    if (why)
        return why;
    if (level == 0)
        return check_leaf(check, frame, size);
    if (mshm_inner_check(frame, size, &why) != MSHM_OK)
        return why;
    if (((const struct mshm_page *)(const void *)frame)->key_count == 0)
        return "an inner page with one child";
    return check_children(check, frame, size, range);
}

static const char *
check_tree(struct check *check)
{
    struct range everything = {.low = (const uint8_t *)"", .high_size = MSHM_FENCE_INFINITE};
    const uint8_t *frame;
    uint32_t size;
    const char *why = check_find(check, check->ref.root, &frame, &size);
    if (why || !frame)
        return why;
    unsigned level = ((const struct mshm_page *)(const void *)frame)->level;
    if (level >= MAX_LEVELS)
        return "the root's level is beyond reason";
    check->met[check->ref.root / 8] &= (uint8_t) ~(1u << check->ref.root % 8);
    why = check_page(check, check->ref.root, level, &everything);
    for (unsigned i = 0; i <= level && !why; i++)
        if (check->seen[i] && check->right[i] != 0)
            why = "the last page of a level has a right sibling";
    return why;
}

int
tree_check(struct tree *tree, struct mshm_tree_ref ref, uint64_t *live_keys, const char **why)
{
    assert(!tree->plan.open);
    struct check check = {
        .tree = tree,
        .ref = ref,
        .met = calloc(tree->view->map_capacity / 8 + 1, 1),
        .peeked = aligned_alloc(MSHM_LINE, MSHM_MAX_FRAME),
    };
    const char *text = "out of memory";
    if (check.met && check.peeked)
        text = check_tree(&check);
    free(check.met);
    free(check.peeked);
    plan_memory_reset(&tree->plan);
    if (text) {
        if (why)
            *why = text;
        return MSHM_CORRUPT;
    }
    if (live_keys)
        *live_keys = check.live_keys;
    return MSHM_OK;
}

int
tree_history_check(const struct tree *tree, const char **why)
{
    const struct history_set *set = &tree->history;
    uint32_t *held = calloc(spill_end(tree->out.spill) + 1u, sizeof(*held));
    uint64_t bytes = 0;
    if (!held)
        return MSHM_NO_MEMORY;
    for (uint32_t i = 0; i < set->capacity; i++) {
        AO_t word = set->places[i].pid != 0 ? set->places[i].word : 0;
        for (; word != 0 && spill_number(word) == 0;
             word = AO_load(&history_page(tree, word)->history)) {
            held[history_frame(tree, word)->page]++;
            bytes += mshm_class_size(mshm_map_class(word));
        }
        held[spill_number(word)]++;
    }
    int status = spill_check(tree->out.spill, held, why);
    free(held);
    if (status == MSHM_OK && bytes != tree->history_bytes) {
        *why = "the sum of the history frames is wrong";
        status = MSHM_CORRUPT;
    }
    return status;
}
