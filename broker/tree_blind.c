/* tree_blind.c - operations on leaves that are not in memory: which may be written without a look at the leaf.
 *
 * A put or delete changes nothing that stands in a leaf, so it needs the leaf only for the conflict check. No write to the
 * leaf is newer than pages_newest(): when the snapshot is not older than that, there is none. Otherwise the key itself
 * has to be looked at, unless one of the writes that are still in memory already answers it.
 */
#include "kill_point.h"
#include "tree_parts.h"

enum {
    SCATTERED_SHARE = 8
}; /* so much of the cache that is free in small pieces is enough to read pages into */

/* Does one of these writes, newest first, conflict? */
static bool
list_conflicts(const struct blind_entry *entry, const struct mshm_op *op, mshm_timestamp snapshot)
{
    for (; entry && entry->timestamp > snapshot; entry = blind_entry_older(entry))
        if (entry->key_size == op->key_size &&
            memcmp(entry->bytes, mshm_op_key(op), op->key_size) == 0)
            return true;
    return false;
}

static uint32_t
op_bytes(const struct mshm_op *op)
{
    return op->key_size + (plan_op_deletes(op) ? 0 : op->value_size);
}

static uint32_t
op_cost(const struct mshm_op *op)
{
    return data_version_cost(op->key_size, plan_op_deletes(op) ? 0 : op->value_size);
}

static uint64_t
list_cost(const struct blind_entry *entry)
{
    uint64_t cost = 0;
    for (; entry; entry = blind_entry_older(entry))
        cost += data_version_cost(entry->key_size, entry->value_size);
    return cost;
}

/* What is gathered for this page, the plan's part included: its operations on one leaf follow each other. Few entries reach
 * the limit, so they are gone through. */
static uint64_t
page_cost(struct tree *tree, mshm_pid pid)
{
    const struct tree_plan *plan = &tree->plan;
    const struct plan_blind *blinds = plan->blinds.data;
    uint64_t cost = list_cost(blind_gathered(pages_blind(tree->pages), pid));
    for (uint32_t i = plan->blinds.count; i-- > 0 && blinds[i].pid == pid;)
        cost += op_cost(blinds[i].op);
    return cost;
}

/* A checkpoint that cannot read the page adds what was sealed of it to what was gathered since (pages_carry), and both lists
 * have to fit on top of the longest chain: so two limits are the most that waits for a page. */
static bool
may_be_blind(struct tree *tree, const struct mshm_op *op, mshm_pid pid)
{
    data_location location = pages_location(tree->pages, pid);
    if ((op->kind != MSHM_OP_PUT && op->kind != MSHM_OP_DELETE) || location == 0 ||
        data_location_chain(location) == DATA_NO_DELTA)
        return false;
    uint64_t cost = page_cost(tree, pid) + op_cost(op);
    uint64_t most = (tree->blind_more ? 2 : 1) * (uint64_t)DATA_DELTA_MAX;
    return cost <= most && cost + list_cost(blind_sealed(pages_blind(tree->pages), pid)) <=
                               2 * (uint64_t)DATA_DELTA_MAX;
}

int
blinds_add(struct tree *tree, const struct mshm_op *op, mshm_pid pid, mshm_timestamp snapshot)
{
    struct tree_plan *plan = &tree->plan;
    if (pages_newest(tree->pages, pid) > snapshot) {
        const struct blind *blind = pages_blind(tree->pages);
        if (list_conflicts(blind_gathered(blind, pid), op, snapshot) ||
            list_conflicts(blind_sealed(blind, pid), op, snapshot))
            return MSHM_CONFLICT;
        return tree_miss(tree, pid);
    }
    if (!may_be_blind(tree, op, pid))
        return tree_miss(tree, pid);
    struct plan_blind *added = plan_push(&plan->blinds, sizeof(*added));
    if (!added)
        return MSHM_NO_MEMORY;
    *added = (struct plan_blind){.op = op, .pid = pid};
    plan->blind_bytes += op_bytes(op);
    return MSHM_OK;
}

int
blinds_reserve(struct tree *tree, bool reserve)
{
    const struct tree_plan *plan = &tree->plan;
    bool former = frames_allow_reserve(tree->frames, true);
    frames_allow_reserve(tree->frames, reserve || former);
    int status = blind_reserve(pages_blind(tree->pages), plan->blinds.count, plan->blind_bytes);
    frames_allow_reserve(tree->frames, former);
    return status;
}

int
blinds_miss(struct tree *tree)
{
    const struct tree_plan *plan = &tree->plan;
    const struct plan_blind *blinds = plan->blinds.data;
    int status = MSHM_OK;
    if (frames_available(tree->frames) < tree->view->frames_size / SCATTERED_SHARE)
        return MSHM_FULL;
    for (uint32_t i = 0; i < plan->blinds.count && status == MSHM_OK; i++)
        status = tree_miss(tree, blinds[i].pid);
    return status;
}

void
blinds_apply(struct tree *tree, const struct tree_plan *plan, mshm_timestamp timestamp)
{
    const struct plan_blind *blinds = plan->blinds.data;
    for (uint32_t i = 0; i < plan->blinds.count; i++) {
        struct mshm_version version = op_version(blinds[i].op, timestamp);
        pages_write_blind(tree->pages, blinds[i].pid, &version);
        MACE_KILL_POINT("tree:blind_write");
    }
    mshm_counter_add(&tree->counters->blind_writes, plan->blinds.count);
}
