#include "backup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "data.h"
#include "env_status.h"
#include "mace/mace.h"
#include "mshm/status.h"
#include "wal_segment.h"

enum { ATTEMPTS = 50, PAUSE_NS = 20 * 1000 * 1000, CONNECT_MS = 3000 };

static const char *const rooms[] = {"wal", "data", "blob"};
enum { ROOMS = sizeof rooms / sizeof *rooms };

int
backup_refuse(struct backup *backup, int status, const char *name, const char *what)
{
    snprintf(backup->why, backup->why_size, "%s: %s", name, what);
    return status;
}

int
backup_refuse_error(struct backup *backup, const char *name, int64_t result)
{
    return backup_refuse(backup, env_status(result), name, strerror((int)-result));
}

/* --- the source --- */

/* Asks the broker for a checkpoint. MSHM_OK; *live false: no broker serves the database. */
static int
checkpoint_ask(struct backup *backup, const char *from)
{
    mace_options options;
    mace *db;
    mace_options_init(&options);
    backup->live = false;
    options.create = 0;
    options.start_broker = 0;
    options.connect_timeout_ms = CONNECT_MS;
    int status = mace_open(from, &options, &db);
    if (status == MACE_BROKER_LOST || status == MACE_NOT_FOUND)
        return MSHM_OK;
    if (status != MACE_OK)
        return backup_refuse(backup, status, from, mace_strerror(status));
    backup->live = true;
    status = mace_checkpoint(db);
    mace_close(db);
    return status == MACE_OK ? MSHM_OK
                             : backup_refuse(backup, status, "a checkpoint cannot be taken",
                                             mace_strerror(status));
}

/* A broker that starts between the two steps is asked in the next round. */
static int
source_open(struct backup *backup, const char *from, struct report *report)
{
    int status = MSHM_EXISTS;
    for (int i = 0; i < ATTEMPTS && status == MSHM_EXISTS; i++) {
        check_close(&backup->check);
        status = checkpoint_ask(backup, from);
        if (status != MSHM_OK)
            return status;
        status =
            check_open(&backup->check, from, backup->live, report, backup->why, backup->why_size);
    }
    return status;
}

/* The manifest, and all files that it names, open. What is not there may have been removed by a broker that went on: then there is
 * a newer manifest. */
static int
source_load(struct backup *backup)
{
    struct check *check = &backup->check;
    int status = MSHM_OK;
    for (int i = 0; i < ATTEMPTS; i++) {
        status = check_state_load(check, backup->why, backup->why_size);
        if (status == MSHM_OK && report_count(check->report) == 0)
            return MSHM_OK;
        if (!backup->live)
            break;
        if (i + 1 < ATTEMPTS) {
            check_state_free(check);
            report_clear(check->report);
        }
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    }
    if (report_count(check->report) == 0)
        return status;
    char first[400];
    report_first(check->report, first, sizeof first);
    backup_refuse(backup, 0, "the database is damaged", first);
    return MSHM_CORRUPT;
}

/* --- the copy --- */

static int
target_open(struct backup *backup, const char *to)
{
    int taken = place_take(&backup->place, to);
    if (taken == -ENOTEMPTY)
        return backup_refuse(backup, MSHM_EXISTS, to, "is there and not empty");
    if (taken == -EWOULDBLOCK)
        return backup_refuse(backup, MSHM_BUSY, to, "another program is at work in it");
    if (taken != 0)
        return backup_refuse_error(backup, to, taken);
    backup->host.directory = backup->place.directory;
    host_files_fill(&backup->env);
    backup->env.context = &backup->host;
    backup->env.log = backup->check.env.log;
    backup->env.random = backup->check.env.random;
    for (size_t i = 0; i < ROOMS; i++) {
        int result = backup->env.directory_create(backup->env.context, rooms[i]);
        if (result != 0)
            return backup_refuse_error(backup, to, result);
    }
    return MSHM_OK;
}

static int
directories_sync(struct backup *backup, const char *to)
{
    const struct env *env = &backup->env;
    for (size_t i = 0; i < ROOMS; i++) {
        int result = env->directory_sync(env->context, rooms[i]);
        if (result != 0)
            return backup_refuse_error(backup, rooms[i], result);
    }
    int result = env->directory_sync(env->context, "");
    if (result != 0)
        return backup_refuse_error(backup, to, result);
    return MSHM_OK;
}

/* The directory's own entry. */
static int
parent_sync(struct backup *backup, const char *to)
{
    char *copy = strdup(to);
    if (copy == NULL)
        return backup_refuse_error(backup, to, -ENOMEM);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return MSHM_OK; /* it cannot be listed by this user: the rest is durable */
    int result = fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
    close(fd);
    return result == 0 ? MSHM_OK : backup_refuse_error(backup, to, result);
}

/* Everything that the source's manifest says, as the snapshot of a first manifest. */
static int
manifest_write(struct backup *backup, uint64_t incarnation, uint64_t first_segment)
{
    struct check *check = &backup->check;
    struct manifest fresh = {0};
    uint64_t size;
    struct manifest_page *pages = malloc((check->page_count + 1) * sizeof *pages);
    struct manifest_file *files = malloc((check->file_count + 1) * sizeof *files);
    void *bytes = NULL;
    int status = MSHM_NO_MEMORY;
    memcpy(fresh.database_id, check->manifest.database_id, sizeof fresh.database_id);
    if (pages != NULL && files != NULL) {
        for (uint64_t i = 0; i < check->page_count; i++)
            pages[i] = (struct manifest_page){check->pages[i].pid, check->pages[i].location};
        for (uint32_t i = 0; i < check->file_count; i++)
            files[i] = (struct manifest_file){check->files[i].number, check->files[i].total,
                                              check->files[i].live};
        struct manifest_edit edit = {
            .incarnation = incarnation,
            .first_segment = first_segment,
            .cut = check->manifest.cut,
            .pages = pages,
            .page_count = check->page_count,
            .files = files,
            .file_count = check->file_count,
            .catalogue = check->catalogue,
            .catalogue_size = check->catalogue_size,
            .outcomes = check->outcomes,
            .outcomes_size = check->outcomes_size,
            .strays = check->strays,
            .strays_size = check->strays_size,
        };
        bytes = manifest_snapshot_bytes(&fresh, &edit, &size);
    }
    if (bytes != NULL)
        status = manifest_switch(&backup->env, 0, bytes, size);
    free(bytes);
    free(pages);
    free(files);
    return status == MSHM_OK ? status
                             : backup_refuse(backup, status, "the manifest cannot be written",
                                             mshm_strerror(status));
}

/* --- all of it --- */

static int
target_fill(struct backup *backup, const char *to)
{
    uint64_t incarnation, first_segment;
    int status = backup_log(backup, &incarnation, &first_segment);
    if (status == MSHM_OK)
        status = backup_files(backup);
    if (status == MSHM_OK)
        status = directories_sync(backup, to);
    if (status == MSHM_OK)
        status = manifest_write(backup, incarnation, first_segment);
    return status == MSHM_OK ? parent_sync(backup, to) : status;
}

int
backup_run(const char *from, const char *to, struct backup_result *result, char *why,
           size_t why_size)
{
    struct backup backup = {
        .place = {.directory = -1}, .result = result, .why = why, .why_size = why_size};
    *result = (struct backup_result){0};
    why[0] = '\0';
    backup.check.host.directory = -1;
    struct report *report = report_create();
    int status = report != NULL ? source_open(&backup, from, report) : MSHM_NO_MEMORY;
    if (status == MSHM_OK)
        status = source_load(&backup);
    if (status == MSHM_OK)
        status = target_open(&backup, to);
    if (status == MSHM_OK)
        status = target_fill(&backup, to);
    if (status != MSHM_OK)
        place_clear(&backup.place, to);
    if (status != MSHM_OK && why[0] == '\0')
        snprintf(why, why_size, "%s", mshm_strerror(status));
    result->timestamp = backup.check.manifest.cut.timestamp;
    check_close(&backup.check);
    place_leave(&backup.place);
    report_destroy(report);
    return status;
}
