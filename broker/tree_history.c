/* tree_history.c - old versions that a leaf has no room for: chains of history frames behind the leaf.
 *
 *   leaf ---history---> [newer old versions] ---history---> [older] ---history---> [oldest]
 *
 * A leaf always keeps the newest version of a key. What is moved out goes in front of the chain, so that each frame
 * holds, per key, older versions than the one before it. A rebuild takes the first frames in again while they are small
 * and writes them anew, merged and pruned; frames behind them stay as they are until the leaf is split or gone through in
 * the background.
 *
 * A leaf that leaves memory leaves its history here: the set keeps the link, and a page-in gives it back. What its records
 * hold must fit to it: a rebuild that moved versions out, or took some in, asks for a full record (tree_split.c), and a
 * record keeps tombstones as long as there is history (page_pack.h).
 */
#include "tree_parts.h"

enum {
    LOAD_BYTES = 65536, /* of history that every rebuild takes in */
    WALK_PLACES = 256,  /* looked at for each leaf that is rebuilt */
    FIRST_PLACES = 64,
};

/* --- taking in --- */

/* What is in the scratch file stays there, for all pages that the leaf becomes; but for what nobody needs of it. */
static int
history_meet_out(struct rebuild *rebuild)
{
    AO_t *released = plan_push(&rebuild->tree->plan.retired, sizeof(*released));
    if (!released)
        return MSHM_NO_MEMORY;
    rebuild->met_out = true;
    *released = rebuild->rest;
    rebuild->rest = history_live(rebuild->tree, rebuild->rest);
    return MSHM_OK;
}

static bool
fences_hold(const struct rebuild *rebuild, const struct mshm_version *version)
{
    return mshm_fences_compare(&rebuild->fences, version->key, version->key_size, 0) == 0;
}

/* What halves of a split leaf share in the scratch file comes back with the other one's keys. */
static void
fences_keep(const struct rebuild *rebuild, struct mshm_version **list, uint32_t *count)
{
    uint32_t first = 0, end = *count;
    while (first < end && !fences_hold(rebuild, &(*list)[first]))
        first++;
    while (end > first && !fences_hold(rebuild, &(*list)[end - 1]))
        end--;
    *list += first;
    *count = end - first;
}

int
history_load(struct rebuild *rebuild, bool all, struct mshm_version **versions, uint32_t *count)
{
    struct tree *tree = rebuild->tree;
    struct tree_plan *plan = &tree->plan;
    if (!rebuild->looked) {
        rebuild->looked = true;
        rebuild->rest = AO_load(&rebuild->page->history);
        rebuild->former_bytes = rebuild->rest ? history_known(tree, rebuild->leaf->pid) : 0;
        rebuild->keepers = plan_memory(plan, sizeof(*rebuild->keepers));
        if (!rebuild->keepers)
            return MSHM_NO_MEMORY;
        *rebuild->keepers = (struct history_keepers){0};
    }
    *versions = NULL;
    *count = 0;
    if (rebuild->met_out)
        return MSHM_OK;
    while (rebuild->rest != 0) {
        AO_t word = rebuild->rest;
        if (spill_number(word) != 0)
            return history_meet_out(rebuild);
        uint32_t size = mshm_class_size(mshm_map_class(word));
        if (!all && rebuild->loaded_bytes + size > LOAD_BYTES)
            break;
        const uint8_t *frame = frames_address(tree->frames, word);
        struct mshm_version *list;
        uint32_t loaded;
        int status = rebuild_load(plan, frame, size, &list, &loaded);
        if (status)
            return status;
        AO_t *retired = plan_push(&plan->retired, sizeof(*retired));
        if (!retired)
            return MSHM_NO_MEMORY;
        *retired = word;
        fences_keep(rebuild, &list, &loaded);
        for (uint32_t i = 0; i < loaded; i++)
            list[i].reserved = 0;
        *versions = *count ? rebuild_merge(plan, *versions, *count, list, loaded) : list;
        if (!*versions)
            return MSHM_NO_MEMORY;
        *count += loaded;
        rebuild->loaded_bytes += size;
        plan->history_loaded += size;
        rebuild->rest = AO_load(&((const struct mshm_page *)(const void *)frame)->history);
    }
    return MSHM_OK;
}

/* --- who needs it --- */

static uint32_t
place_of(const struct history_set *set, mshm_pid pid)
{
    return (uint32_t)(pid * UINT64_C(0x9e3779b97f4a7c15) >> 40) & (set->capacity - 1);
}

static uint32_t
set_find(const struct history_set *set, mshm_pid pid)
{
    uint32_t place = place_of(set, pid);
    while (set->places[place].pid != 0 && set->places[place].pid != pid)
        place = (place + 1) & (set->capacity - 1);
    return place;
}

/* The first snapshot in the list that reads the version, or the list's count when only the horizon keeps it. */
static uint32_t
keeper_of(const struct snapshots *snapshots, mshm_timestamp timestamp, mshm_timestamp newer)
{
    uint32_t low = 0, high = snapshots->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (snapshots->list[middle] < timestamp)
            low = middle + 1;
        else
            high = middle;
    }
    return low < snapshots->count && snapshots->list[low] < newer ? low : snapshots->count;
}

static void
keepers_add(struct history_keepers *keepers, mshm_timestamp snapshot)
{
    for (uint32_t i = 0; i < keepers->count; i++)
        if (keepers->snapshots[i] == snapshot)
            return;
    if (keepers->count < HISTORY_KEEPERS)
        keepers->snapshots[keepers->count++] = snapshot;
    else
        keepers->more = true;
}

static void
keepers_widen(struct history_keepers *keepers, mshm_timestamp begin, mshm_timestamp end)
{
    if (keepers->end == 0 || begin < keepers->begin)
        keepers->begin = begin;
    if (end > keepers->end)
        keepers->end = end;
}

static void
keepers_note(const struct rebuild *rebuild, const struct mshm_version *version,
             mshm_timestamp newer)
{
    const struct snapshots *snapshots = rebuild->tree->snapshots;
    uint32_t keeper = keeper_of(snapshots, version->timestamp, newer);
    keepers_widen(rebuild->keepers, version->timestamp, newer);
    if (keeper < snapshots->count)
        keepers_add(rebuild->keepers, snapshots->list[keeper]);
    else
        rebuild->keepers->horizon = snapshots->horizon;
}

/* History that stays as it is keeps its keepers. */
void
history_inherit(const struct rebuild *rebuild)
{
    const struct history_set *set = &rebuild->tree->history;
    if (rebuild->rest == 0 || set->capacity == 0)
        return;
    const struct history_keepers *former = &set->places[set_find(set, rebuild->leaf->pid)].keepers;
    if (spill_number(rebuild->rest) != 0) { /* nobody goes through that part */
        keepers_widen(rebuild->keepers, former->begin, former->end);
        return;
    }
    for (uint32_t i = 0; i < former->count; i++)
        keepers_add(rebuild->keepers, former->snapshots[i]);
    keepers_widen(rebuild->keepers, former->begin, former->end);
    rebuild->keepers->more |= former->more;
    if (rebuild->keepers->horizon == 0)
        rebuild->keepers->horizon = former->horizon;
}

static bool
keepers_changed(const struct tree *tree, const struct history_keepers *keepers)
{
    const struct snapshots *snapshots = tree->snapshots;
    if (keepers->horizon != 0 && keepers->horizon < snapshots->horizon)
        return true;
    for (uint32_t i = 0; i < keepers->count; i++)
        if (keeper_of(snapshots, keepers->snapshots[i], keepers->snapshots[i] + 1) ==
            snapshots->count)
            return true;
    return false;
}

bool
history_unread(const struct tree *tree, mshm_timestamp begin, mshm_timestamp end)
{
    const struct snapshots *snapshots = tree->snapshots;
    return end <= snapshots->horizon && keeper_of(snapshots, begin, end) == snapshots->count;
}

uint32_t
history_keeper(const struct snapshots *snapshots, mshm_timestamp begin, mshm_timestamp end)
{
    return keeper_of(snapshots, begin, end);
}

/* True when no snapshot, registered or to come, reads anything of it. */
static bool
keepers_gone(const struct tree *tree, const struct history_keepers *keepers)
{
    return history_unread(tree, keepers->begin, keepers->end);
}

/* True when it is worth the while to go through what is in memory. Of what was in the scratch file when the leaf was rebuilt
 * only the range is known. */
static bool
keepers_left(const struct tree *tree, const struct history_keepers *keepers, bool overflowed)
{
    return keepers_changed(tree, keepers) || keepers_gone(tree, keepers) ||
           (overflowed && keepers->more);
}

/* --- moving out --- */

/* Bytes of the versions that only registered snapshots still need. */
static uint64_t
old_bytes(const struct rebuild *rebuild)
{
    const struct mshm_version *versions = rebuild->versions;
    uint64_t bytes = 0;
    for (uint32_t group = 0; group < rebuild->group_count; group++)
        for (uint32_t i = rebuild->groups[group].first + 1; i < rebuild->groups[group + 1].first;
             i++)
            if (versions[i - 1].timestamp <= rebuild->tree->snapshots->horizon)
                bytes += mshm_entry_size(0, versions[i].value_size);
    return bytes;
}

/* Where the part of a group begins that goes out: old versions altogether when there are many of them, and whatever makes
 * one key take more than half a page. */
static uint32_t
out_begin(const struct rebuild *rebuild, uint32_t group, bool all_old)
{
    const struct mshm_version *versions = rebuild->versions;
    uint32_t first = rebuild->groups[group].first, end = rebuild->groups[group + 1].first;
    uint32_t bytes = mshm_entry_size(versions[first].key_size, versions[first].value_size);
    uint32_t i = first + 1;
    for (; i < end; i++) {
        bytes += mshm_entry_size(0, versions[i].value_size);
        if (bytes > mshm_class_size(rebuild->class) / 2)
            break;
        if (all_old && versions[i - 1].timestamp <= rebuild->tree->snapshots->horizon)
            break;
    }
    return i;
}

int
history_move_out(struct rebuild *rebuild)
{
    struct tree_plan *plan = &rebuild->tree->plan;
    bool all_old =
        rebuild->group_count == 1 || old_bytes(rebuild) >= mshm_class_size(rebuild->class) / 4;
    struct mshm_version *keep = plan_memory(plan, rebuild->count * sizeof(*keep));
    struct mshm_version *out = plan_memory(plan, rebuild->count * sizeof(*out));
    rebuild->out_newer = plan_memory(plan, rebuild->count * sizeof(*rebuild->out_newer));
    if (!keep || !out || !rebuild->out_newer)
        return MSHM_NO_MEMORY;
    uint32_t kept = 0, moved = 0;
    for (uint32_t group = 0; group < rebuild->group_count; group++) {
        uint32_t first = rebuild->groups[group].first, end = rebuild->groups[group + 1].first;
        uint32_t begin = out_begin(rebuild, group, all_old);
        for (uint32_t i = first; i < begin; i++)
            keep[kept++] = rebuild->versions[i];
        for (uint32_t i = begin; i < end; i++) {
            keepers_note(rebuild, &rebuild->versions[i], rebuild->versions[i - 1].timestamp);
            rebuild->out_newer[moved] = rebuild->versions[i - 1].timestamp;
            out[moved++] = rebuild->versions[i];
        }
    }
    rebuild->versions = keep;
    rebuild->count = kept;
    rebuild->out = out;
    rebuild->out_count = moved;
    return rebuild_group(rebuild);
}

/* Fills frames from the first version on; returns where the frame that begins at `first` ends, by an upper estimate. */
static uint32_t
frame_end(const struct rebuild *rebuild, uint32_t first, uint32_t end)
{
    const struct mshm_version *out = rebuild->out;
    uint32_t bytes = sizeof(struct mshm_page) + 64, i = first;
    for (; i < end; i++) {
        bool same = i > first && out[i].key == out[i - 1].key;
        bytes += mshm_entry_size(same ? 0 : out[i].key_size, out[i].value_size) + 8;
        if (bytes > MSHM_MAX_FRAME)
            break;
    }
    return i;
}

static int
frame_build(struct rebuild *rebuild, uint32_t first, uint32_t end, mshm_pid pid, AO_t *word,
            uint64_t *bytes)
{
    struct tree *tree = rebuild->tree;
    struct mshm_leaf_spec spec = {
        .pid = pid,
        .bucket = rebuild->page->bucket,
        .kind = MSHM_PAGE_HISTORY,
        .high_size = MSHM_FENCE_INFINITE,
        .history = *word,
        .versions = rebuild->out + first,
        .count = end - first,
    };
    unsigned class = tree_class(mshm_leaf_size(&spec));
    assert(class < MSHM_CLASSES);
    struct plan_page *page;
    int status = plan_page_add(tree, class, &page);
    if (status)
        return status;
    page->kind = MSHM_PAGE_HISTORY;
    page->pid = pid;
    page->begin = UINT64_MAX;
    for (uint32_t i = first; i < end; i++) {
        if (rebuild->out[i].timestamp < page->begin)
            page->begin = rebuild->out[i].timestamp;
        if (rebuild->out_newer[i] > page->end)
            page->end = rebuild->out_newer[i];
    }
    status = mshm_leaf_build(page->frame, mshm_class_size(class), &spec);
    assert(status == MSHM_OK);
    *word = frames_word(tree->frames, page->frame, class, 0);
    *bytes += mshm_class_size(class);
    return status;
}

int
history_build(struct rebuild *rebuild, uint32_t first, uint32_t end, mshm_pid pid, AO_t *word,
              uint64_t *bytes)
{
    struct tree_plan *plan = &rebuild->tree->plan;
    uint32_t *begins = plan_memory(plan, (end - first) * sizeof(*begins));
    if (!begins)
        return MSHM_NO_MEMORY;
    uint32_t count = 0;
    for (uint32_t at = first; at < end; at = frame_end(rebuild, at, end))
        begins[count++] = at;
    int status = MSHM_OK;
    for (uint32_t i = count; i-- > 0 && !status; end = begins[i])
        status = frame_build(rebuild, begins[i], end, pid, word, bytes);
    return status;
}

/* --- the set of leaves with history --- */

static void
set_remove(struct history_set *set, mshm_pid pid)
{
    uint32_t mask = set->capacity - 1, hole = set_find(set, pid);
    if (set->places[hole].pid == 0)
        return;
    set->count--;
    /* What follows moves up, unless it stands between its own place and the hole. */
    for (uint32_t at = (hole + 1) & mask; set->places[at].pid != 0; at = (at + 1) & mask) {
        uint32_t home = place_of(set, set->places[at].pid);
        if (((at - home) & mask) < ((at - hole) & mask))
            continue;
        set->places[hole] = set->places[at];
        hole = at;
    }
    set->places[hole] = (struct history_leaf){0};
}

int
history_reserve(struct tree *tree, uint32_t more)
{
    struct history_set *set = &tree->history;
    uint64_t needed = 2 * ((uint64_t)set->count + more);
    if (needed <= set->capacity)
        return MSHM_OK;
    struct history_set larger = {.capacity = set->capacity ? set->capacity : FIRST_PLACES,
                                 .count = set->count};
    while (larger.capacity < needed)
        larger.capacity *= 2;
    larger.places = calloc(larger.capacity, sizeof(*larger.places));
    if (!larger.places)
        return MSHM_NO_MEMORY;
    for (uint32_t i = 0; i < set->capacity; i++)
        if (set->places[i].pid != 0)
            larger.places[set_find(&larger, set->places[i].pid)] = set->places[i];
    free(set->places);
    *set = larger;
    return MSHM_OK;
}

void
history_forget(struct tree *tree, mshm_pid pid)
{
    if (tree->history.capacity > 0)
        set_remove(&tree->history, pid);
}

void
history_note(struct tree *tree, const struct plan_page *page, mshm_timestamp timestamp)
{
    struct history_set *set = &tree->history;
    struct history_leaf *leaf = &set->places[set_find(set, page->pid)];
    set->count += leaf->pid == 0;
    *leaf = (struct history_leaf){
        .pid = page->pid,
        .target = page->target,
        .word = page->spec.history,
        .bytes = page->history_bytes,
        .keepers = *page->keepers,
    };
    if (leaf->keepers.end == PLAN_TIMESTAMP)
        leaf->keepers.end = timestamp;
}

struct history_leaf *
history_find(const struct tree *tree, mshm_pid pid)
{
    const struct history_set *set = &tree->history;
    struct history_leaf *leaf = set->count > 0 ? &set->places[set_find(set, pid)] : NULL;
    return leaf && leaf->pid != 0 ? leaf : NULL;
}

uint64_t
history_known(const struct tree *tree, mshm_pid pid)
{
    const struct history_set *set = &tree->history;
    return set->count ? set->places[set_find(set, pid)].bytes : 0;
}

AO_t
tree_history_word(void *argument, mshm_pid pid)
{
    const struct tree *tree = argument;
    const struct history_set *set = &tree->history;
    return set->count ? set->places[set_find(set, pid)].word : 0;
}

uint32_t
history_retire(struct tree *tree, mshm_pid pid, AO_t word)
{
    uint32_t count = 0;
    while (word != 0) {
        AO_t next = spill_number(word) == 0 ? AO_load(&history_page(tree, word)->history) : 0;
        history_drop(tree, word);
        word = next;
        count++;
    }
    if (count > 0)
        history_forget(tree, pid);
    return count;
}

/* --- letting go --- */

/* A leaf that is not in memory keeps its history as it is, or loses all of it: true. */
static bool
history_let_go(struct tree *tree, const struct history_leaf *leaf)
{
    if (!keepers_gone(tree, &leaf->keepers))
        return false;
    history_retire(tree, leaf->pid, leaf->word);
    tree_report(tree);
    return true;
}

/* Goes through the set from the cursor on. Places move when leaves leave the set, so one may be met twice in a pass; or not
 * at all where a rebuild makes leaves leave it, and then the next pass meets it. */
static bool
set_walk(struct tree *tree, unsigned budget, bool overflowed)
{
    struct history_set *set = &tree->history;
    unsigned places = WALK_PLACES * (budget + 1);
    while (set->cursor < set->capacity && budget > 0 && places-- > 0) {
        mshm_pid pid = set->places[set->cursor++].pid;
        uint32_t size;
        if (pid == 0)
            continue;
        if (history_trim(tree, pid)) {
            set->cursor--; /* another leaf may have moved here */
            continue;
        }
        struct history_leaf leaf = *history_find(tree, pid);
        if (!tree_frame(tree, pid, &size)) {
            set->cursor -= history_let_go(tree, &leaf);
            continue;
        }
        if (spill_number(leaf.word) != 0 || !keepers_left(tree, &leaf.keepers, overflowed))
            continue;
        tree_rebuild(tree, &leaf.target, pid, true, true);
        budget--;
    }
    if (set->cursor < set->capacity)
        return true;
    set->cursor = 0;
    tree->history_kept = tree->history_bytes;
    return false;
}

bool
history_sweep(struct tree *tree, unsigned budget)
{
    return set_walk(tree, budget, false);
}

bool
tree_history_prune(struct tree *tree, unsigned budget)
{
    return set_walk(tree, budget, true);
}
