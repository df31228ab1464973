/* sim_schedule.c - what is under way, and the virtual moments at which it goes on. */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "sim/sim_env_parts.h"

/* Short waits mostly, long ones now and then. */
static uint64_t
latency(struct sim_env *sim, uint64_t usual_ns)
{
    uint64_t ns = 1 + sim_random_below(&sim->random, usual_ns);
    return sim_random_chance(&sim->random, 5) ? ns * 20 : ns;
}

static struct sim_operation *
operation_new(struct sim_env *sim, enum sim_operation_kind kind, uint64_t tag)
{
    int slot = 0;
    while (slot < SIM_OPERATIONS && sim->operations[slot].kind != OPERATION_NONE)
        slot++;
    assert(slot < SIM_OPERATIONS);
    if (slot == sim->operations_end)
        sim->operations_end++;
    struct sim_operation *operation = &sim->operations[slot];
    *operation = (struct sim_operation){.kind = kind, .tag = tag};
    operation->due = sim->now + latency(sim, 30000);
    return operation;
}

static void
operation_free(struct sim_env *sim, struct sim_operation *operation)
{
    *operation = (struct sim_operation){.kind = OPERATION_NONE};
    while (sim->operations_end > 0 &&
           sim->operations[sim->operations_end - 1].kind == OPERATION_NONE)
        sim->operations_end--;
}

static uint64_t
bytes_sum(const void *bytes, size_t size)
{
    const uint8_t *at = bytes;
    uint64_t sum = size;
    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + at[i];
    return sum;
}

void
sim_append(void *context, struct env_file *file, uint64_t offset, const void *from, size_t size,
           bool sync, uint64_t tag)
{
    struct sim_env *sim = context;
    assert(file->writable && !file->busy);
    struct sim_operation *operation = operation_new(sim, OPERATION_APPEND, tag);
    operation->file = file;
    operation->offset = offset;
    operation->from = from;
    operation->size = size;
    operation->sync = sync;
    operation->sum = bytes_sum(from, size);
    file->busy = true;
    (void)sim_call_begin(sim, 0);
}

/* The bytes arrive when the read ends; who looks earlier sees rubbish. */
void
sim_read_start(void *context, struct env_file *file, uint64_t offset, void *to, size_t size,
               uint64_t tag)
{
    struct sim_env *sim = context;
    struct sim_operation *operation = operation_new(sim, OPERATION_READ, tag);
    operation->file = file;
    operation->offset = offset;
    operation->to = to;
    operation->size = size;
    uint64_t usual_ns = sim_random_chance(&sim->random, 1) ? 20000000 : 100000;
    operation->due = sim->now + sim->read_ns + latency(sim, usual_ns);
    file->reads++;
    memset(to, 0xa5, size);
}

void
sim_job_start(void *context, int (*job)(void *argument), void *argument, uint64_t tag)
{
    struct sim_env *sim = context;
    struct sim_operation *operation = operation_new(sim, OPERATION_JOB, tag);
    operation->job = job;
    operation->argument = argument;
    operation->due += sim->job_ns;
}

/* A lie that says that this append is durable when it is only written. */
static bool
sync_left_out(const struct sim_env *sim, const struct sim_operation *operation)
{
    const char *name = operation->file->name;
    switch (sim->lie) {
    case SIM_LIE_APPEND_UNSYNCED:
        return true;
    case SIM_LIE_EMPTY_APPEND:
        return operation->size == 0;
    case SIM_LIE_DATA_UNSYNCED:
        return strncmp(name, "data/", 5) == 0;
    case SIM_LIE_MANIFEST_UNSYNCED:
        return strncmp(name, "MANIFEST-", 9) == 0;
    default:
        return false;
    }
}

static void
append_write(struct sim_env *sim, struct sim_operation *operation)
{
    size_t size = operation->size;
    assert(bytes_sum(operation->from, size) == operation->sum);
    if (sim->lie == SIM_LIE_SHORT_APPEND && size > 4 * SIM_SECTOR)
        size -= SIM_SECTOR;
    struct sim_inode *inode = operation->file->inode;
    if (operation->sync && sim->lie == SIM_LIE_SYNC_BEFORE_WRITE)
        sim_sync_begin(inode, &operation->snapshot);
    operation->result = size > 0 ? sim_call_begin(sim, SIM_CALL_WRITE) : 0;
    if (sim->dead)
        return;
    if (operation->result == 0 && sim->full && operation->offset + size > inode->size)
        operation->result = -ENOSPC;
    if (operation->result != 0) /* something may have gone through */
        size = sim_random_below(&sim->random, size + 1);
    sim_inode_write(inode, operation->offset, operation->from, size);
    if (operation->result != 0 && sim->lie == SIM_LIE_APPEND_ERROR)
        operation->result = 0;
    operation->phase = operation->sync && operation->result == 0 ? PHASE_WRITTEN : PHASE_ENDED;
    if (sync_left_out(sim, operation))
        operation->phase = PHASE_ENDED;
    if (operation->result != 0 && sim->lie == SIM_LIE_SYNC_BEFORE_WRITE && operation->sync)
        sim_sync_forget(inode, &operation->snapshot);
}

static void
append_sync_end(struct sim_env *sim, struct sim_operation *operation)
{
    struct sim_inode *inode = operation->file->inode;
    operation->result = sim_call_begin(sim, SIM_CALL_SYNC);
    if (sim->dead)
        return;
    if (operation->result == 0)
        sim_sync_end(inode, &operation->snapshot);
    else
        sim_sync_fail(sim->disk, inode, &operation->snapshot);
    if (sim->lie == SIM_LIE_APPEND_ERROR)
        operation->result = 0;
    operation->phase = PHASE_ENDED;
}

static void
read_end(struct sim_env *sim, struct sim_operation *operation)
{
    operation->result = sim_call_begin(sim, SIM_CALL_READ);
    if (sim->dead)
        return;
    if (operation->result == 0)
        operation->result =
            sim_bytes_read(sim, operation->file, operation->offset, operation->to, operation->size);
    operation->phase = PHASE_ENDED;
}

/* The next step of what is under way. */
static void
operation_step(struct sim_env *sim, struct sim_operation *operation)
{
    if (operation->kind == OPERATION_JOB) {
        operation->result = operation->job(operation->argument);
        operation->phase = PHASE_ENDED;
        operation->due = sim->now + latency(sim, 100000);
        return;
    }
    if (operation->kind == OPERATION_READ) {
        read_end(sim, operation);
        return;
    }
    switch (operation->phase) {
    case PHASE_WAITS:
        append_write(sim, operation);
        operation->due = sim->now + latency(sim, 10000);
        break;
    case PHASE_WRITTEN:
        if (sim->lie != SIM_LIE_SYNC_BEFORE_WRITE)
            sim_sync_begin(operation->file->inode, &operation->snapshot);
        operation->phase = PHASE_SYNCING;
        operation->due = sim->now + latency(sim, 200000);
        break;
    default:
        append_sync_end(sim, operation);
        operation->due = sim->now + latency(sim, 10000);
        break;
    }
}

static struct sim_operation *
operation_due(struct sim_env *sim)
{
    struct sim_operation *due = NULL;
    for (int i = 0; i < sim->operations_end; i++) {
        struct sim_operation *operation = &sim->operations[i];
        if (operation->kind == OPERATION_NONE || operation->due > sim->now)
            continue;
        if (due == NULL || operation->due < due->due)
            due = operation;
    }
    return due;
}

unsigned
sim_poll(void *context, struct env_completion *completions, unsigned capacity)
{
    struct sim_env *sim = context;
    unsigned count = 0;
    sim->now += 200; /* a turn takes time, so that a loop that only polls gets on */
    for (int i = 0; i < sim->operations_end && sim->dead && count < capacity; i++) {
        if (sim->operations[i].kind == OPERATION_NONE || sim->operations[i].phase == PHASE_REPORTED)
            continue;
        sim->operations[i].phase = PHASE_REPORTED;
        completions[count++] = (struct env_completion){sim->operations[i].tag, -EIO};
    }
    while (count < capacity && !sim->dead) {
        struct sim_operation *operation = operation_due(sim);
        if (operation == NULL)
            break;
        if (operation->phase != PHASE_ENDED) {
            operation_step(sim, operation);
            continue;
        }
        completions[count++] = (struct env_completion){operation->tag, operation->result};
        if (operation->kind == OPERATION_APPEND)
            operation->file->busy = false;
        if (operation->kind == OPERATION_READ)
            operation->file->reads--;
        operation_free(sim, operation);
    }
    return count;
}

void
sim_operations_tear(struct sim_env *sim)
{
    for (int i = 0; i < sim->operations_end; i++) {
        struct sim_operation *operation = &sim->operations[i];
        if (operation->kind != OPERATION_APPEND || operation->phase != PHASE_WAITS)
            continue;
        size_t sectors = operation->size / SIM_SECTOR + 1;
        size_t size = sim_random_below(&sim->random, sectors + 1) * SIM_SECTOR;
        sim_inode_write(operation->file->inode, operation->offset, operation->from,
                        size < operation->size ? size : operation->size);
    }
}

void
sim_operations_forget(struct sim_env *sim, const struct env_file *file)
{
    for (int i = sim->operations_end; i-- > 0;) {
        struct sim_operation *operation = &sim->operations[i];
        bool append = operation->kind == OPERATION_APPEND;
        if (file != NULL && operation->file != file)
            continue;
        if (append && (operation->snapshot.copies != NULL || operation->phase == PHASE_SYNCING))
            sim_sync_forget(operation->file->inode, &operation->snapshot);
        operation_free(sim, operation);
    }
}
