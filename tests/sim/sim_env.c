#include "sim/sim_env.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sim_env_parts.h"

/* --- death and faults --- */

void
sim_env_die(struct sim_env *sim, bool power_cut)
{
    if (sim->dead)
        return;
    sim->dead = true;
    if (sim->hooks.death != NULL)
        sim->hooks.death(sim->hooks.argument);
    sim_operations_tear(sim);
    sim->survivor = sim_disk_survivor(sim->disk, power_cut);
}

int
sim_call_begin(struct sim_env *sim, unsigned call)
{
    if (sim->dead)
        return -EIO;
    if (sim->looking)
        return 0;
    sim->calls++;
    if (sim->die_at != 0 && sim->calls >= sim->die_at) {
        sim->die_at = 0;
        sim_env_die(sim, sim->die_power_cut);
        return -EIO;
    }
    enum sim_death death =
        sim->call_hook != NULL ? sim->call_hook(sim->call_argument, call) : SIM_DEATH_NONE;
    if (death != SIM_DEATH_NONE) {
        sim_env_die(sim, death == SIM_DEATH_CUT);
        return -EIO;
    }
    if ((sim->fail_mask & call) != 0 && --sim->fail_nth == 0) {
        sim->fail_mask = 0;
        sim->failed = true;
        return -sim->fail_error;
    }
    return 0;
}

/* --- files --- */

static int
sim_open(void *context, const char *name, unsigned flags, struct env_file **file)
{
    struct sim_env *sim = context;
    struct sim_inode *inode = NULL;
    unsigned call = SIM_CALL_OPEN | ((flags & ENV_OPEN_CREATE) != 0 ? (unsigned)SIM_CALL_NAMES : 0);
    int result = sim_call_begin(sim, call);
    if (result != 0)
        return result;
    if ((flags & ENV_OPEN_CREATE) != 0) {
        if (sim->full)
            return -ENOSPC;
        if ((flags & ENV_OPEN_UNNAMED) != 0)
            inode = sim_disk_create_unnamed(sim->disk);
        else
            result = sim_disk_create_file(sim->disk, name, &inode);
        if (result != 0)
            return result;
    } else {
        inode = sim_disk_find(sim->disk, name);
        if (inode == NULL)
            return -ENOENT;
    }
    size_t slot = 0;
    while (slot < SIM_FILES && sim->files[slot] != NULL)
        slot++;
    assert(slot < SIM_FILES); /* more would be a leak */
    struct env_file *opened = calloc(1, sizeof *opened);
    assert(opened != NULL);
    opened->inode = inode;
    strcpy(opened->name, name);
    opened->writable = (flags & ENV_OPEN_WRITE) != 0;
    sim_inode_hold(inode);
    sim->files[slot] = opened;
    *file = opened;
    return 0;
}

static void
sim_close(void *context, struct env_file *file)
{
    struct sim_env *sim = context;
    assert((!file->busy && file->reads == 0) || sim->dead);
    for (size_t i = 0; i < SIM_FILES; i++)
        if (sim->files[i] == file)
            sim->files[i] = NULL;
    sim_operations_forget(sim, file);
    sim_inode_release(sim->disk, file->inode);
    free(file);
}

static int64_t
sim_size(void *context, struct env_file *file)
{
    struct sim_env *sim = context;
    int result = sim_call_begin(sim, SIM_CALL_READ);
    return result != 0 ? result : (int64_t)file->inode->size;
}

int64_t
sim_bytes_read(const struct sim_env *sim, const struct env_file *file, uint64_t offset, void *to,
               size_t size)
{
    if (sim->bad_prefix != NULL && !sim->looking &&
        strncmp(file->name, sim->bad_prefix, strlen(sim->bad_prefix)) == 0 &&
        offset < sim->bad_offset + sim->bad_size && sim->bad_offset < offset + size)
        return -EIO;
    if (offset >= file->inode->size)
        return 0;
    if (size > file->inode->size - offset)
        size = file->inode->size - offset;
    memcpy(to, file->inode->cache + offset, size);
    return (int64_t)size;
}

static int64_t
sim_read(void *context, struct env_file *file, uint64_t offset, void *to, size_t size)
{
    struct sim_env *sim = context;
    int result = sim_call_begin(sim, SIM_CALL_READ);
    return result != 0 ? result : sim_bytes_read(sim, file, offset, to, size);
}

static int
sim_write(void *context, struct env_file *file, uint64_t offset, const void *from, size_t size)
{
    struct sim_env *sim = context;
    assert(file->writable);
    int result = sim_call_begin(sim, SIM_CALL_WRITE);
    if (result != 0)
        return result;
    if (sim->full && offset + size > file->inode->size)
        return -ENOSPC;
    sim_inode_write(file->inode, offset, from, size);
    return 0;
}

static int
sim_sync(void *context, struct env_file *file)
{
    struct sim_env *sim = context;
    struct sim_snapshot snapshot;
    if (sim->dead)
        return -EIO;
    if (sim->lie == SIM_LIE_FILE_SYNC)
        return sim_call_begin(sim, SIM_CALL_SYNC);
    assert(!file->busy);
    sim_sync_begin(file->inode, &snapshot);
    int result = sim_call_begin(sim, SIM_CALL_SYNC);
    if (result == 0)
        sim_sync_end(file->inode, &snapshot);
    else if (sim->dead)
        sim_sync_forget(file->inode, &snapshot);
    else
        sim_sync_fail(sim->disk, file->inode, &snapshot);
    return result;
}

static int
sim_preallocate(void *context, struct env_file *file, uint64_t size)
{
    struct sim_env *sim = context;
    int result = sim_call_begin(sim, SIM_CALL_PREALLOCATE);
    if (result != 0)
        return result;
    if (sim->full)
        return -ENOSPC;
    sim_inode_reserve(file->inode, size);
    if (file->inode->size < size)
        file->inode->size = size;
    return 0;
}

static int
sim_rename(void *context, const char *from, const char *to)
{
    struct sim_env *sim = context;
    int result = sim_call_begin(sim, SIM_CALL_NAMES);
    return result != 0 ? result : sim_disk_rename(sim->disk, from, to);
}

static int
sim_remove(void *context, const char *name)
{
    struct sim_env *sim = context;
    int result = sim_call_begin(sim, SIM_CALL_NAMES);
    return result != 0 ? result : sim_disk_remove(sim->disk, name);
}

static int
sim_directory_create(void *context, const char *name)
{
    struct sim_env *sim = context;
    int result = sim_call_begin(sim, SIM_CALL_NAMES);
    if (result == 0 && sim->full && !sim_disk_is_directory(sim->disk, name))
        result = -ENOSPC;
    return result != 0 ? result : sim_disk_create_directory(sim->disk, name);
}

static int
sim_directory_sync(void *context, const char *name)
{
    struct sim_env *sim = context;
    int result = sim_call_begin(sim, SIM_CALL_DIRECTORY_SYNC);
    bool lie = sim->lie == SIM_LIE_DIRECTORY_SYNC ||
               (sim->lie == SIM_LIE_DATA_DIRECTORY && strcmp(name, "data") == 0);
    if (result == 0 && !lie)
        sim_disk_sync_directory(sim->disk, name);
    return result;
}

static int
sim_directory_list(void *context, const char *name, int (*each)(const char *name, void *argument),
                   void *argument)
{
    struct sim_env *sim = context;
    int result = sim_call_begin(sim, SIM_CALL_READ);
    return result != 0 ? result : sim_disk_list(sim->disk, name, each, argument);
}

static int
sim_map(void *context, struct env_file *file, uint64_t size, void **address)
{
    struct sim_env *sim = context;
    int result = sim_call_begin(sim, SIM_CALL_MAP);
    if (result != 0)
        return result;
    if (!sim->mapping)
        return -ENODEV;
    assert(size <= file->inode->size);
    file->inode->mapped = true;
    *address = file->inode->cache;
    return 0;
}

static void
sim_unmap(void *context, void *address, uint64_t size)
{
    (void)context;
    (void)address;
    (void)size;
}

/* --- the rest --- */

static uint64_t
sim_clock(void *context)
{
    struct sim_env *sim = context;
    return sim->now;
}

static uint64_t
sim_chance(void *context)
{
    struct sim_env *sim = context;
    return sim_random_next(&sim->random);
}

static int
sim_store_back(void *context, uint64_t offset, uint64_t size)
{
    struct sim_env *sim = context;
    (void)offset;
    if (sim->store_backed + size > sim->store_limit)
        return -ENOMEM;
    sim->store_backed += size;
    return 0;
}

static int
sim_arena_back(void *context, void *session_handle, uint64_t arena_size)
{
    (void)context;
    (void)session_handle;
    (void)arena_size;
    return 0;
}

static void
sim_wake(void *context, unsigned int *word)
{
    struct sim_env *sim = context;
    if (sim->hooks.wake != NULL)
        sim->hooks.wake(sim->hooks.argument, word);
}

static void
sim_reply(void *context, void *session_handle, const void *message, size_t size)
{
    struct sim_env *sim = context;
    if (sim->hooks.reply != NULL)
        sim->hooks.reply(sim->hooks.argument, session_handle, message, size);
}

static void
sim_session_free(void *context, void *session_handle)
{
    struct sim_env *sim = context;
    if (sim->hooks.session_free != NULL)
        sim->hooks.session_free(sim->hooks.argument, session_handle);
}

static void
sim_log(void *context, enum env_log_level level, const char *line)
{
    struct sim_env *sim = context;
    if (sim->hooks.log != NULL)
        sim->hooks.log(sim->hooks.argument, level, line);
    if (sim->verbose)
        printf("  broker [%d] %s\n", (int)level, line);
}

struct sim_env *
sim_env_create(uint64_t seed)
{
    struct sim_env *sim = calloc(1, sizeof *sim);
    assert(sim != NULL);
    sim->random.state = seed;
    sim->disk = sim_disk_create(&sim->random);
    sim->mapping = true;
    sim->store_limit = UINT64_MAX;
    sim->now = 1000000000;
    sim->interface = (struct env){.context = sim,
                                  .clock_ns = sim_clock,
                                  .random = sim_chance,
                                  .file_open = sim_open,
                                  .file_close = sim_close,
                                  .file_size = sim_size,
                                  .file_read = sim_read,
                                  .file_write = sim_write,
                                  .file_sync = sim_sync,
                                  .file_preallocate = sim_preallocate,
                                  .file_rename = sim_rename,
                                  .file_remove = sim_remove,
                                  .directory_create = sim_directory_create,
                                  .directory_sync = sim_directory_sync,
                                  .directory_list = sim_directory_list,
                                  .file_map = sim_map,
                                  .file_unmap = sim_unmap,
                                  .file_append = sim_append,
                                  .file_read_start = sim_read_start,
                                  .job_start = sim_job_start,
                                  .poll = sim_poll,
                                  .store_back = sim_store_back,
                                  .arena_back = sim_arena_back,
                                  .wake = sim_wake,
                                  .reply = sim_reply,
                                  .session_free = sim_session_free,
                                  .log = sim_log};
    return sim;
}

static void
process_forget(struct sim_env *sim)
{
    sim_operations_forget(sim, NULL);
    for (size_t i = 0; i < SIM_FILES; i++) {
        if (sim->files[i] == NULL)
            continue;
        sim_inode_release(sim->disk, sim->files[i]->inode);
        free(sim->files[i]);
        sim->files[i] = NULL;
    }
}

void
sim_env_destroy(struct sim_env *sim)
{
    if (sim == NULL)
        return;
    process_forget(sim);
    sim_disk_destroy(sim->disk);
    sim_disk_destroy(sim->survivor);
    free(sim);
}

void
sim_env_restart(struct sim_env *sim)
{
    assert(sim->dead);
    process_forget(sim);
    sim_disk_destroy(sim->disk);
    sim->disk = sim->survivor;
    sim->survivor = NULL;
    sim->dead = false;
    sim->die_at = 0;
    sim->fail_mask = 0;
    sim->failed = false;
    sim->store_backed = 0;
}

const struct env *
sim_env_interface(struct sim_env *sim)
{
    return &sim->interface;
}

struct sim_random *
sim_env_random(struct sim_env *sim)
{
    return &sim->random;
}

void
sim_env_set_hooks(struct sim_env *sim, const struct sim_hooks *hooks)
{
    sim->hooks = *hooks;
}

void
sim_env_set_lie(struct sim_env *sim, enum sim_lie lie)
{
    sim->lie = lie;
}

void
sim_env_set_verbose(struct sim_env *sim, bool verbose)
{
    sim->verbose = verbose;
}

uint64_t
sim_env_now(const struct sim_env *sim)
{
    return sim->now;
}

void
sim_env_advance(struct sim_env *sim, uint64_t ns)
{
    sim->now += ns;
}

bool
sim_env_busy(const struct sim_env *sim)
{
    return sim->operations_end > 0;
}

void
sim_env_write_back(struct sim_env *sim)
{
    if (!sim->dead)
        sim_disk_write_back(sim->disk);
}

uint64_t
sim_env_calls(const struct sim_env *sim)
{
    return sim->calls;
}

void
sim_env_die_at(struct sim_env *sim, uint64_t calls, bool power_cut)
{
    sim->die_at = calls != 0 ? sim->calls + calls : 0;
    sim->die_power_cut = power_cut;
}

void
sim_env_set_call_hook(struct sim_env *sim, sim_call_hook *call, void *argument)
{
    sim->call_hook = call;
    sim->call_argument = argument;
}

bool
sim_env_set_looking(struct sim_env *sim, bool looking)
{
    bool before = sim->looking;
    sim->looking = looking;
    return before;
}

bool
sim_env_dead(const struct sim_env *sim)
{
    return sim->dead;
}

void
sim_env_fail(struct sim_env *sim, unsigned calls_mask, uint64_t nth, int error)
{
    sim->fail_mask = calls_mask;
    sim->fail_nth = nth;
    sim->fail_error = error;
    sim->failed = false;
}

bool
sim_env_failed(const struct sim_env *sim)
{
    return sim->failed;
}

void
sim_env_set_full(struct sim_env *sim, bool full)
{
    sim->full = full;
}

void
sim_env_set_read_ns(struct sim_env *sim, uint64_t ns)
{
    sim->read_ns = ns;
}

void
sim_env_set_job_ns(struct sim_env *sim, uint64_t ns)
{
    sim->job_ns = ns;
}

void
sim_env_set_bad(struct sim_env *sim, const char *prefix, uint64_t offset, uint64_t size)
{
    sim->bad_prefix = prefix;
    sim->bad_offset = offset;
    sim->bad_size = size;
}

void
sim_env_set_mapping(struct sim_env *sim, bool possible)
{
    sim->mapping = possible;
}

void
sim_env_set_store_limit(struct sim_env *sim, uint64_t bytes)
{
    sim->store_limit = bytes;
}

struct sim_disk *
sim_env_disk(struct sim_env *sim)
{
    return sim->disk;
}
