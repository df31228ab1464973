/* tree_rebuild.c - consolidation: the versions of a leaf's base, tail and history, and the new ones, become new frames.
 *
 *   base + tail --load--.
 *   operations ---------+--merge--> prune --> fits? --yes--> one page
 *   history ----load----'                      |no
 *                                 collect the snapshots anew, prune --> fits? --> one page
 *                                              |no
 *                                 move old versions to history --> fits? --> one page
 *                                              |no
 *                                 split_leaf: several pages
 */
#include "tree_parts.h"

enum {
    HASH_BYTES = 5, /* of hash buckets per key, about */
    SLOT_BYTES = 6, /* head and slot of a key */
};

/* --- taking apart and merging --- */

int
rebuild_load(struct tree_plan *plan, const uint8_t *frame, uint32_t size,
             struct mshm_version **versions, uint32_t *count)
{
    const struct mshm_page *page = (const void *)frame;
    /* Every entry of the base takes a header between the fences and the end of the base. */
    uint32_t begin = (uint32_t)page->low_at * 4;
    uint32_t end = (uint32_t)page->base_end * 4;
    uint32_t tail = page->kind == MSHM_PAGE_LEAF ? (uint32_t)AO_load(&page->tail_count) : 0;
    uint32_t capacity = (end > begin ? end - begin : 0) / (uint32_t)sizeof(struct mshm_entry);
    capacity += tail + 1;
    uint32_t key_bytes = size + page->key_count * (uint32_t)page->prefix_size;
    struct mshm_version *list = plan_memory(plan, capacity * sizeof(*list));
    uint8_t *keys = page->prefix_size > 0 ? plan_memory(plan, key_bytes) : NULL;
    if (!list || (page->prefix_size > 0 && !keys))
        return MSHM_NO_MEMORY;
    int loaded = mshm_leaf_versions(frame, size, list, capacity, keys, keys ? key_bytes : 0);
    if (loaded < 0)
        return MSHM_CORRUPT;
    /* The value of a tail entry stands behind the base's end. */
    for (int i = 0; i < loaded; i++)
        list[i].reserved = list[i].value > frame + end ? VERSION_RECENT : 0;
    *versions = list;
    *count = (uint32_t)loaded;
    return MSHM_OK;
}

static int
version_compare(const struct mshm_version *a, const struct mshm_version *b)
{
    int order = mshm_key_compare(a->key, a->key_size, b->key, b->key_size);
    if (order != 0)
        return order;
    return a->timestamp > b->timestamp ? -1 : a->timestamp < b->timestamp;
}

struct mshm_version *
rebuild_merge(struct tree_plan *plan, const struct mshm_version *a, uint32_t a_count,
              const struct mshm_version *b, uint32_t b_count)
{
    struct mshm_version *merged = plan_memory(plan, ((size_t)a_count + b_count) * sizeof(*merged));
    if (!merged)
        return NULL;
    uint32_t i = 0, j = 0, count = 0;
    while (i < a_count && j < b_count) {
        bool first = version_compare(&a[i], &b[j]) <= 0;
        merged[count++] = first ? a[i++] : b[j++];
    }
    if (i < a_count)
        memcpy(merged + count, a + i, (a_count - i) * sizeof(*merged));
    if (j < b_count)
        memcpy(merged + count, b + j, (b_count - j) * sizeof(*merged));
    return merged;
}

/* The plan's operations on this leaf as versions that are newer than all others. */
static int
merge_operations(struct rebuild *rebuild)
{
    struct tree_plan *plan = &rebuild->tree->plan;
    const struct plan_leaf *leaf = rebuild->leaf;
    if (leaf->op_count == 0)
        return MSHM_OK;
    const struct plan_op *ops = (const struct plan_op *)plan->ops.data + leaf->first_op;
    struct mshm_version *list = plan_memory(plan, leaf->op_count * sizeof(*list));
    if (!list)
        return MSHM_NO_MEMORY;
    for (uint32_t i = 0; i < leaf->op_count; i++) {
        const struct mshm_op *op = ops[i].op;
        bool deletes = plan_op_deletes(op);
        list[i] = (struct mshm_version){
            .key = mshm_op_key(op),
            .value = mshm_op_value(op),
            .timestamp = PLAN_TIMESTAMP,
            .value_size = deletes ? 0 : op->value_size,
            .key_size = op->key_size,
            .kind = deletes ? MSHM_ENTRY_TOMBSTONE : MSHM_ENTRY_VALUE,
            .reserved = VERSION_RECENT,
        };
    }
    rebuild->versions =
        rebuild_merge(plan, list, leaf->op_count, rebuild->versions, rebuild->count);
    rebuild->count += leaf->op_count;
    return rebuild->versions ? MSHM_OK : MSHM_NO_MEMORY;
}

static int
merge_history(struct rebuild *rebuild, bool all)
{
    struct mshm_version *list;
    uint32_t count;
    int status = history_load(rebuild, all, &list, &count);
    if (status || count == 0)
        return status;
    rebuild->versions =
        rebuild_merge(&rebuild->tree->plan, rebuild->versions, rebuild->count, list, count);
    rebuild->count += count;
    return rebuild->versions ? MSHM_OK : MSHM_NO_MEMORY;
}

/* --- pruning --- */

static bool
same_key(const struct mshm_version *a, const struct mshm_version *b)
{
    return a->key_size == b->key_size &&
           (a->key == b->key || memcmp(a->key, b->key, a->key_size) == 0);
}

/* Was the key there before the last rebuild of its leaf? */
static bool
known_key(const struct mshm_version *versions, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (versions[i].reserved != VERSION_RECENT)
            return true;
    return false;
}

/* Drops what nobody can read. A key whose newest version is a droppable tombstone goes altogether, but only when all of
 * its history is here: an old version left behind there would come back to life under the key's next version. */
static void
prune(struct rebuild *rebuild)
{
    const struct snapshots *snapshots = rebuild->tree->snapshots;
    struct mshm_version *versions = rebuild->versions;
    uint32_t kept = 0, count = rebuild->count;
    for (uint32_t i = 0; i < count;) {
        uint32_t end = i + 1;
        while (end < count && same_key(&versions[i], &versions[end]))
            end++;
        bool gone = versions[i].kind == MSHM_ENTRY_TOMBSTONE && rebuild->rest == 0 &&
                    snapshots_drop_tombstone(snapshots, versions[i].timestamp);
        rebuild->vanished |= gone;
        uint8_t known = known_key(versions + i, end - i) ? VERSION_KNOWN : 0;
        mshm_timestamp newer = 0;
        for (; i < end; i++) {
            mshm_timestamp timestamp = versions[i].timestamp;
            if (!gone && snapshots_need(snapshots, timestamp, newer)) {
                versions[kept] = versions[i];
                versions[kept++].reserved |= known;
            }
            newer = timestamp;
        }
    }
    rebuild->tree->plan.pruned += count - kept;
    rebuild->count = kept;
}

/* --- sizes --- */

static uint32_t
common_prefix(const struct mshm_version *a, const struct mshm_version *b)
{
    uint32_t limit = a->key_size < b->key_size ? a->key_size : b->key_size, size = 0;
    while (size < limit && a->key[size] == b->key[size])
        size++;
    return size;
}

/* Which keys are new, and do they stand together? */
static void
count_fresh(struct rebuild *rebuild)
{
    rebuild->fresh_count = rebuild->fresh_first = rebuild->fresh_last = 0;
    for (uint32_t group = 0; group < rebuild->group_count; group++) {
        if (rebuild->versions[rebuild->groups[group].first].reserved != VERSION_RECENT)
            continue;
        if (rebuild->fresh_count++ == 0)
            rebuild->fresh_first = group;
        rebuild->fresh_last = group;
    }
}

/* Room is left for further appends, and a page that would have less is split. But a page that gets no new keys does not
 * grow, so splitting it would only trade memory for fewer rebuilds: while there is memory, and never for deletes. */
static uint32_t
limit_choose(const struct rebuild *rebuild)
{
    const struct tree *tree = rebuild->tree;
    uint32_t size = mshm_class_size(rebuild->class);
    bool plenty = frames_available(tree->frames) > tree->view->frames_size / 2;
    bool grows = rebuild->fresh_count > 0 || (plenty && rebuild->leaf->puts);
    return grows ? size / 16 * 13 : size / 32 * 31;
}

int
rebuild_group(struct rebuild *rebuild)
{
    const struct mshm_version *versions = rebuild->versions;
    uint32_t count = rebuild->count, bytes = 0, groups = 0;
    uint64_t values = 0;
    uint32_t prefix = count ? common_prefix(&versions[0], &versions[count - 1]) : 0;
    rebuild->groups =
        plan_memory(&rebuild->tree->plan, ((size_t)count + 1) * sizeof(*rebuild->groups));
    if (!rebuild->groups)
        return MSHM_NO_MEMORY;
    rebuild->tail_count = rebuild->live = rebuild->live_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        bool first = i == 0 || !same_key(&versions[i - 1], &versions[i]);
        uint32_t key_size = first ? versions[i].key_size - prefix : 0;
        if (first)
            rebuild->groups[groups++] = (struct group){i, bytes, values};
        if (first && versions[i].kind != MSHM_ENTRY_TOMBSTONE) {
            rebuild->live += mshm_entry_size(key_size, versions[i].value_size);
            rebuild->live_count++;
        }
        bytes += first ? SLOT_BYTES + HASH_BYTES : 0;
        bytes += mshm_entry_size(key_size, versions[i].value_size);
        values += versions[i].value_size;
        rebuild->tail_count += versions[i].reserved & VERSION_RECENT;
    }
    rebuild->groups[groups] = (struct group){count, bytes, values};
    rebuild->group_count = groups;
    count_fresh(rebuild);
    rebuild->limit = limit_choose(rebuild);
    return MSHM_OK;
}

/* The separator in front of a key is a prefix of that key, so it needs no memory of its own. */
static uint16_t
separator_size(const struct rebuild *rebuild, uint32_t group)
{
    const struct mshm_version *right = &rebuild->versions[rebuild->groups[group].first];
    return (uint16_t)(common_prefix(right - 1, right) + 1);
}

uint32_t
rebuild_size(const struct rebuild *rebuild, uint32_t first, uint32_t end,
             struct mshm_leaf_spec *spec)
{
    const struct group *groups = rebuild->groups;
    *spec = (struct mshm_leaf_spec){
        .bucket = rebuild->page->bucket,
        .kind = MSHM_PAGE_LEAF,
        .low = rebuild->fences.low,
        .low_size = rebuild->fences.low_size,
        .high = rebuild->fences.high,
        .high_size = rebuild->fences.high_size,
        .versions = rebuild->versions + groups[first].first,
        .count = groups[end].first - groups[first].first,
    };
    if (first > 0) {
        spec->low = rebuild->versions[groups[first].first].key;
        spec->low_size = separator_size(rebuild, first);
    }
    if (end < rebuild->group_count) {
        spec->high = rebuild->versions[groups[end].first].key;
        spec->high_size = separator_size(rebuild, end);
    }
    return mshm_leaf_size(spec);
}

/* --- the whole --- */

int
rebuild_begin(struct rebuild *rebuild)
{
    const struct plan_leaf *leaf = rebuild->leaf;
    struct tree_plan *plan = &rebuild->tree->plan;
    rebuild->class = tree_class(leaf->target.page_size);
    assert(rebuild->class < MSHM_CLASSES);
    if (mshm_page_fences(leaf->frame, leaf->size, &rebuild->fences) != MSHM_OK)
        return MSHM_CORRUPT;
    int status = rebuild_load(plan, leaf->frame, leaf->size, &rebuild->versions, &rebuild->count);
    if (!status)
        status = merge_operations(rebuild);
    if (!status)
        status = merge_history(rebuild, leaf->whole_history);
    return status;
}

/* Are there versions that a newer list of snapshots might let go? */
static bool
may_shrink(const struct rebuild *rebuild)
{
    return rebuild->count > rebuild->group_count || rebuild->former_bytes > 0;
}

static bool
fits(const struct rebuild *rebuild)
{
    struct mshm_leaf_spec spec;
    return rebuild_size(rebuild, 0, rebuild->group_count, &spec) <= rebuild->limit;
}

int
rebuild_prune(struct rebuild *rebuild)
{
    prune(rebuild);
    return rebuild_group(rebuild);
}

static int
collect_anew(struct rebuild *rebuild)
{
    struct tree *tree = rebuild->tree;
    if (!tree->collect || tree->plan.collected)
        return MSHM_OK;
    tree->plan.collected = true;
    tree->collect(tree->collect_argument);
    return rebuild_prune(rebuild);
}

/* What does not fit: newer snapshots, then the rest of the history (a split divides it), then history. */
static int
make_smaller(struct rebuild *rebuild)
{
    int status = may_shrink(rebuild) ? collect_anew(rebuild) : MSHM_OK;
    if (!status && !fits(rebuild) && rebuild->rest != 0 && rebuild->group_count > 1) {
        status = merge_history(rebuild, true);
        if (!status)
            status = rebuild_prune(rebuild);
    }
    if (!status && !fits(rebuild) && rebuild->count > rebuild->group_count)
        status = history_move_out(rebuild);
    return status;
}

int
rebuild_leaf(struct tree *tree, struct plan_leaf *leaf)
{
    struct rebuild rebuild = {
        .tree = tree,
        .leaf = leaf,
        .page = (const struct mshm_page *)(const void *)leaf->frame,
    };
    int status = rebuild_begin(&rebuild);
    if (!status)
        status = rebuild_prune(&rebuild);
    if (!status && !leaf->puts && leaf->op_count > 0)
        status =
            collect_anew(&rebuild); /* so that tombstones go, and with them half of the frame */
    if (!status && !fits(&rebuild))
        status = make_smaller(&rebuild);
    if (!status) {
        history_inherit(&rebuild);
        status = split_leaf(&rebuild);
    }
    tree->plan.rebuilt++;
    return status;
}
