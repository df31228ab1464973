/* sweep.c - faults between the broker's core and its files. */
#include "fault/sweep.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct {
    struct env whole; /* the functions that work */
    enum sweep_kind kind;
    uint64_t left;
    int error;
    bool for_good, met;
    const char *only;
} plan;

/* An append that is under way for long. */
static struct {
    uint64_t left; /* appends until it; 0: none is waited for */
    struct env_file *file;
    uint64_t offset;
    uint8_t *bytes;
    size_t size;
} held;

const char *
sweep_name(enum sweep_kind kind)
{
    static const char *const names[SWEEP_KINDS] = {
        "write",       "sync",  "read",           "open", "create",
        "preallocate", "names", "directory sync", "map",  "growth"};
    return names[kind];
}

/* 0, or the error of this call. */
static int
fault(enum sweep_kind kind)
{
    if (kind != plan.kind || plan.left == 0)
        return 0;
    if (--plan.left > 0)
        return 0;
    plan.met = true;
    plan.left = plan.for_good;
    return -plan.error;
}

static bool
counts(const char *name)
{
    return plan.only == NULL || strncmp(name, plan.only, strlen(plan.only)) == 0;
}

static int
grows(const char *name, bool growth)
{
    return growth && counts(name) ? fault(SWEEP_GROWTH) : 0;
}

static bool
hold(struct env_file *file, uint64_t offset, const void *from, size_t size)
{
    if (held.left == 0 || size == 0 || !counts(file->name) || --held.left > 0)
        return false;
    held.file = file;
    held.offset = offset;
    held.size = size;
    held.bytes = malloc(size);
    if (held.bytes == NULL)
        abort();
    memcpy(held.bytes, from, size);
    plan.met = true;
    return true;
}

static bool
is_there(void *context, const char *name)
{
    const struct fake *fake = context;
    for (int i = 0; i < FAKE_FILES; i++)
        if (fake->files[i].exists && strcmp(fake->files[i].name, name) == 0)
            return true;
    return false;
}

static int
faulty_open(void *context, const char *name, unsigned flags, struct env_file **file)
{
    bool create = (flags & ENV_OPEN_CREATE) != 0 && !is_there(context, name);
    int error = create ? fault(SWEEP_CREATE) : fault(SWEEP_OPEN);
    if (error == 0)
        error = grows(name, create);
    return error != 0 ? error : plan.whole.file_open(context, name, flags, file);
}

static int64_t
faulty_size(void *context, struct env_file *file)
{
    int error = fault(SWEEP_OPEN);
    return error != 0 ? error : plan.whole.file_size(context, file);
}

static int64_t
faulty_read(void *context, struct env_file *file, uint64_t offset, void *to, size_t size)
{
    int error = fault(SWEEP_READ);
    return error != 0 ? error : plan.whole.file_read(context, file, offset, to, size);
}

static void
faulty_read_start(void *context, struct env_file *file, uint64_t offset, void *to, size_t size,
                  uint64_t tag)
{
    struct fake *fake = context;
    int error = fault(SWEEP_READ);
    if (error != 0) {
        fake->read_fail = 1;
        fake->read_error = error;
    }
    plan.whole.file_read_start(context, file, offset, to, size, tag);
}

static int
faulty_write(void *context, struct env_file *file, uint64_t offset, const void *from, size_t size)
{
    int error = fault(SWEEP_WRITE);
    bool beyond = offset + size > file->size;
    if (error == 0)
        error = grows(file->name, beyond);
    if (error == 0)
        return plan.whole.file_write(context, file, offset, from, size);
    plan.whole.file_write(context, file, offset, from, size / 2);
    return error;
}

static int
faulty_sync(void *context, struct env_file *file)
{
    int error = fault(SWEEP_SYNC);
    return error != 0 ? error : plan.whole.file_sync(context, file);
}

/* The write by faulty_write, whose error the append then ends with; a sync that fails comes after the whole write. */
static void
faulty_append(void *context, struct env_file *file, uint64_t offset, const void *from, size_t size,
              bool sync, uint64_t tag)
{
    struct fake *fake = context;
    if (hold(file, offset, from, size))
        return;
    int error = size > 0 ? faulty_write(context, file, offset, from, size) : 0;
    if (error == 0 && sync)
        error = fault(SWEEP_SYNC);
    fake->append_error = error;
    plan.whole.file_append(context, file, offset, from, error != 0 ? 0 : size, sync, tag);
    fake->append_error = 0;
}

static int
faulty_preallocate(void *context, struct env_file *file, uint64_t size)
{
    int error = fault(SWEEP_PREALLOCATE);
    if (error == 0)
        error = grows(file->name, size > file->size);
    return error != 0 ? error : plan.whole.file_preallocate(context, file, size);
}

static int
faulty_rename(void *context, const char *from, const char *to)
{
    int error = fault(SWEEP_NAMES);
    if (held.file != NULL && strcmp(held.file->name, to) == 0)
        held.file = NULL;
    return error != 0 ? error : plan.whole.file_rename(context, from, to);
}

static int
faulty_remove(void *context, const char *name)
{
    int error = fault(SWEEP_NAMES);
    if (held.file != NULL && strcmp(held.file->name, name) == 0)
        held.file = NULL; /* it goes to a file that nobody can open any more */
    return error != 0 ? error : plan.whole.file_remove(context, name);
}

static int
faulty_directory(void *context, const char *name)
{
    int error = fault(SWEEP_CREATE);
    return error != 0 ? error : plan.whole.directory_create(context, name);
}

static int
faulty_directory_sync(void *context, const char *name)
{
    int error = fault(SWEEP_DIRECTORY);
    return error != 0 ? error : plan.whole.directory_sync(context, name);
}

static int
faulty_map(void *context, struct env_file *file, uint64_t size, void **address)
{
    int error = fault(SWEEP_MAP);
    return error != 0 ? error : plan.whole.file_map(context, file, size, address);
}

void
sweep_begin(struct fake *fake)
{
    memset(&plan, 0, sizeof plan);
    plan.whole = fake->env;
    fake->env.file_open = faulty_open;
    fake->env.file_size = faulty_size;
    fake->env.file_read = faulty_read;
    fake->env.file_read_start = faulty_read_start;
    fake->env.file_write = faulty_write;
    fake->env.file_sync = faulty_sync;
    fake->env.file_append = faulty_append;
    fake->env.file_preallocate = faulty_preallocate;
    fake->env.file_rename = faulty_rename;
    fake->env.file_remove = faulty_remove;
    fake->env.directory_create = faulty_directory;
    fake->env.directory_sync = faulty_directory_sync;
    fake->env.file_map = faulty_map;
}

void
sweep_plan(enum sweep_kind kind, uint64_t nth, int error, bool for_good)
{
    plan.kind = kind;
    plan.left = nth;
    plan.error = error;
    plan.for_good = for_good;
    plan.met = false;
}

void
sweep_only(const char *prefix)
{
    plan.only = prefix;
}

bool
sweep_met(void)
{
    return plan.met;
}

void
sweep_hold(uint64_t nth)
{
    held.left = nth;
}

bool
sweep_held(void)
{
    return held.bytes != NULL;
}

void
sweep_release(void)
{
    if (held.file != NULL)
        plan.whole.file_write(NULL, held.file, held.offset, held.bytes, held.size);
    free(held.bytes);
    memset(&held, 0, sizeof held);
}

void
sweep_end(void)
{
    plan.left = 0;
}
