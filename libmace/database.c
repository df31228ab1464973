/* database.c - the handle: options, path, open, close, and the calls that concern the whole database. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mlib.h"
#include "mlib_time.h"
#include "spawn.h"

void
mace_options_init(mace_options *options)
{
    if (options == NULL)
        return;
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
    options->create = 1;
    options->start_broker = 1;
    options->connect_timeout_ms = 10000;
    options->durability = MACE_SYNC;
    options->idle_exit_ms = 10000;
}

const char *
mace_version(void)
{
    return MACE_VERSION_TEXT;
}

static int
options_check(const mace_options *options)
{
    if (options->size != sizeof *options)
        return MACE_VERSION;
    if (options->durability != MACE_SYNC && options->durability != MACE_OS)
        return MACE_INVALID;
    return MACE_OK;
}

static int
path_status(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
        return MACE_DENIED;
    case ENOENT:
        return MACE_NOT_FOUND;
    case ENOTDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return MACE_INVALID;
    case ENOMEM:
        return MACE_NO_MEMORY;
    case ENOSPC:
    case EDQUOT:
        return MACE_FULL;
    case EMFILE:
    case ENFILE:
        return MACE_LIMIT;
    default:
        return MACE_IO;
    }
}

/* The absolute path of a directory that need not exist yet, as malloc'd memory; NULL on failure. */
static int
path_resolve(const char *path, char **out, bool *exists)
{
    *exists = true;
    *out = realpath(path, NULL);
    if (*out != NULL) {
        struct stat state;
        int status = stat(*out, &state) != 0   ? path_status(errno)
                     : !S_ISDIR(state.st_mode) ? MACE_INVALID
                                               : MACE_OK;
        if (status != MACE_OK) {
            free(*out);
            *out = NULL;
        }
        return status;
    }
    if (errno != ENOENT)
        return path_status(errno);
    *exists = false;
    size_t size = strlen(path);
    while (size > 1 && path[size - 1] == '/')
        size--;
    size_t name = size;
    while (name > 0 && path[name - 1] != '/')
        name--;
    char *parent = name == 0 ? strdup(".") : strndup(path, name);
    if (parent == NULL)
        return MACE_NO_MEMORY;
    char *resolved = realpath(parent, NULL);
    int status = resolved != NULL ? MACE_OK : path_status(errno);
    free(parent);
    if (status != MACE_OK)
        return status;
    if (asprintf(out, "%s%s%.*s", resolved, strcmp(resolved, "/") == 0 ? "" : "/",
                 (int)(size - name), path + name) < 0) {
        *out = NULL;
        status = MACE_NO_MEMORY;
    }
    free(resolved);
    return status;
}

/* Whether the directory holds a database, so that opening without `create` makes none. */
static int
database_exists(const char *path)
{
    char *current;
    if (asprintf(&current, "%s/CURRENT", path) < 0)
        return MACE_NO_MEMORY;
    int status = access(current, F_OK) == 0 ? MACE_OK : path_status(errno);
    free(current);
    return status;
}

/* Makes what is missing before the first attempt. *made: the directory is ours to remove if opening fails. */
static int
directory_prepare(const struct mace *db, bool exists, bool *made)
{
    *made = false;
    if (db->options.create == 0)
        return exists ? database_exists(db->path) : MACE_NOT_FOUND;
    if (exists)
        return MACE_OK;
    if (db->options.start_broker == 0)
        return MACE_BROKER_LOST;
    char program[PATH_MAX];
    int status = mlib_spawn_find(db->broker_path, program, sizeof program);
    if (status != MSHM_OK)
        return status;
    if (mkdir(db->path, 0777) == 0)
        *made = true;
    else if (errno != EEXIST)
        return path_status(errno);
    return MACE_OK;
}

static unsigned
cpus_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    int count = CPU_COUNT(&set);
    return count < 1 ? 1 : (unsigned)count;
}

static int
fork_page_create(AO_t **out)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return MACE_NO_MEMORY;
    if (madvise(page, 4096, MADV_WIPEONFORK) != 0) {
        munmap(page, 4096);
        return MACE_IO;
    }
    *out = page;
    AO_store(*out, 1);
    return MACE_OK;
}

static void
mace_free(struct mace *db)
{
    if (db == NULL)
        return;
    if (db->fork_page != NULL)
        munmap(db->fork_page, 4096);
    free(db->broker_path);
    free(db->path);
    free(db);
}

/* A handle that is not attached yet. *made: as directory_prepare. Inside a section. */
static int
mace_create(const char *path, const mace_options *options, struct mace **db, bool *made)
{
    struct mace *self = calloc(1, sizeof *self);
    if (self == NULL)
        return MACE_NO_MEMORY;
    bool exists;
    self->options = *options;
    self->options.broker_path = NULL;
    self->cpus = cpus_count();
    int status = path_resolve(path, &self->path, &exists);
    if (status == MACE_OK && options->broker_path != NULL) {
        self->broker_path = strdup(options->broker_path);
        status = self->broker_path == NULL ? MACE_NO_MEMORY : MACE_OK;
    }
    if (status == MACE_OK)
        status = fork_page_create(&self->fork_page);
    if (status == MACE_OK)
        status = directory_prepare(self, exists, made);
    if (status == MACE_OK) {
        pthread_mutex_init(&self->lock, NULL);
        *db = self;
    } else {
        mace_free(self);
    }
    return status;
}

static int
mace_attach(struct mace *db, bool made)
{
    struct mlib_attachment *attachment;
    int status = mlib_attachment_get(db, &attachment);
    if (status == MACE_OK) {
        mlib_attachment_put(attachment);
        return MACE_OK;
    }
    (void)mlib_section_enter(
        NULL); /* succeeds: this thread was in one a moment ago, and has left it */
    if (made)
        (void)rmdir(db->path);
    pthread_mutex_destroy(&db->lock);
    mace_free(db);
    mlib_section_leave();
    return status;
}

int
mace_open(const char *path, const mace_options *options, mace **db)
{
    mace_options defaults;
    if (options == NULL) {
        mace_options_init(&defaults);
        options = &defaults;
    }
    if (path == NULL || path[0] == '\0' || db == NULL)
        return MACE_INVALID;
    int status = options_check(options);
    if (status != MACE_OK)
        return status;
    struct mace *self = NULL;
    bool made = false;
    status = mlib_section_enter(NULL);
    if (status != MACE_OK)
        return status;
    status = mace_create(path, options, &self, &made);
    mlib_section_leave();
    if (status == MACE_OK)
        status = mace_attach(self, made);
    if (status == MACE_OK)
        *db = self;
    return status;
}

/* Tells the broker that this session ends in order, so that it forgets the outcomes kept for it. */
static void
goodbye_say(struct mace *db)
{
    struct mlib_attachment *attachment =
        (struct mlib_attachment *)(uintptr_t)AO_load_acquire(&db->current);
    if (attachment == NULL || mlib_attachment_lost(attachment))
        return;
    struct mshm_message message = {.kind = MSHM_MESSAGE_BYE, .size = sizeof message};
    (void)mlib_control(attachment, &message, &message, sizeof message);
}

static void
transactions_abandon(struct mace *db)
{
    for (struct mlib_attachment *attachment = db->attachments; attachment != NULL;
         attachment = attachment->next)
        for (unsigned lane = 0; lane < MSHM_MAX_LANES; lane++)
            if (attachment->lane_owner[lane] != NULL)
                mlib_txn_abandon(attachment->lane_owner[lane]);
}

void
mace_close(mace *db)
{
    if (db == NULL)
        return;
    bool forked = mlib_forked(db);
    /* A longjmp out of a call left its section, and perhaps locks, behind: nobody waits for these here. The section ends
     * after what would need a lock, so that this is left undone. */
    bool left_inside = mlib_section_is(db);
    transactions_abandon(db);
    if (!forked) {
        goodbye_say(db);
        AO_store(&db->current, 0);
    }
    if (left_inside)
        mlib_section_leave();
    mlib_attachments_disconnect(db, forked);
    if (mlib_section_enter(db) != MACE_OK)
        return; /* in a handler that interrupted a call on another mace: its memory cannot be freed here */
    mlib_attachments_free(db, forked);
    while (db->buckets != NULL) {
        struct mace_bucket *bucket = db->buckets;
        db->buckets = bucket->next;
        free(bucket);
    }
    if (!forked)
        pthread_mutex_destroy(&db->lock);
    mace_free(db);
    mlib_section_leave();
}

/* Sends a message that names nothing and whose answer is a status, to whichever broker serves: when one is lost on the
 * way, the next one is asked, because what it acknowledged before is in the log that its successor made durable. */
static int
simple_request(mace *db, uint16_t kind)
{
    if (db == NULL)
        return MACE_INVALID;
    for (;;) {
        struct mlib_attachment *attachment;
        int status = mlib_attachment_get(db, &attachment);
        if (status != MACE_OK)
            return status;
        struct mshm_message message = {.kind = kind, .size = sizeof message};
        status = mlib_control(attachment, &message, &message, sizeof message);
        bool lost = mlib_attachment_lost(attachment);
        mlib_attachment_put(attachment);
        if (status != MSHM_BROKER_LOST || !lost)
            return status;
    }
}

int
mace_sync(mace *db)
{
    return simple_request(db, MSHM_MESSAGE_SYNC);
}

int
mace_checkpoint(mace *db)
{
    return simple_request(db, MSHM_MESSAGE_CHECKPOINT);
}
