#include "fake_env.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mshm/ops.h"
#include "mshm/read.h"
#include "mshm/status.h"
#include "sessions.h"

enum { FILE_CAPACITY = 4 << 20, TURNS_MAX = 10000, TURN_NS = 10 * 1000 };

/* --- the machine -------------------------------------------------------------------------------------------------- */

static uint64_t
fake_clock(void *context)
{
    struct fake *fake = context;
    return fake->now_ns;
}

static uint64_t
fake_random(void *context)
{
    struct fake *fake = context;
    fake->random_state = fake->random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return fake->random_state ^ fake->random_state >> 29;
}

static struct env_file *
file_find(struct fake *fake, const char *name)
{
    for (int i = 0; i < FAKE_FILES; i++)
        if (fake->files[i].exists && strcmp(fake->files[i].name, name) == 0)
            return &fake->files[i];
    return NULL;
}

/* A removed file's place is used again: nobody may still read from it. */
static void
reads_check(const struct fake *fake, const struct env_file *file)
{
    for (unsigned i = 0; i < fake->completion_count; i++)
        ck_assert_ptr_ne(fake->operations[i].file, file);
}

static int
fake_open(void *context, const char *name, unsigned flags, struct env_file **file)
{
    struct fake *fake = context;
    struct env_file *found = file_find(fake, name);
    if (fake->open_error != 0)
        return fake->open_error;
    if ((flags & ENV_OPEN_CREATE) == 0) {
        *file = found;
        return found == NULL ? -ENOENT : 0;
    }
    if (found != NULL)
        return -EEXIST;
    for (int i = 0; i < FAKE_FILES; i++) {
        if (fake->files[i].exists)
            continue;
        struct env_file *made = &fake->files[i];
        reads_check(fake, made);
        free(made->bytes);
        *made = (struct env_file){.exists = true, .capacity = fake->file_capacity};
        snprintf(made->name, sizeof(made->name), "%s", name);
        made->bytes = calloc(1, made->capacity);
        *file = made;
        return 0;
    }
    return -EMFILE;
}

static void
fake_close(void *context, struct env_file *file)
{
    (void)context;
    (void)file;
}

static int64_t
fake_size(void *context, struct env_file *file)
{
    (void)context;
    return (int64_t)file->size;
}

static int64_t
bytes_read(const struct env_file *file, uint64_t offset, void *to, size_t size)
{
    if (offset >= file->size)
        return 0;
    if (size > file->size - offset)
        size = (size_t)(file->size - offset);
    memcpy(to, file->bytes + offset, size);
    return (int64_t)size;
}

/* Counts down to a planned failure: true when it is this call. */
static bool
planned(unsigned *countdown)
{
    return *countdown > 0 && --*countdown == 0;
}

static int64_t
fake_read(void *context, struct env_file *file, uint64_t offset, void *to, size_t size)
{
    struct fake *fake = context;
    fake->file_reads++;
    if (planned(&fake->file_read_fail))
        return fake->read_error;
    return bytes_read(file, offset, to, size);
}

static int
fake_write(void *context, struct env_file *file, uint64_t offset, const void *from, size_t size)
{
    (void)context;
    if (offset + size > file->capacity)
        return -ENOSPC;
    memcpy(file->bytes + offset, from, size);
    if (offset + size > file->size)
        file->size = offset + size;
    return 0;
}

static int
fake_sync(void *context, struct env_file *file)
{
    struct fake *fake = context;
    (void)file;
    return fake->sync_error;
}

static int
fake_preallocate(void *context, struct env_file *file, uint64_t size)
{
    struct fake *fake = context;
    if (fake->preallocate_error != 0)
        return fake->preallocate_error;
    if (size > file->capacity)
        return -ENOSPC;
    file->size = size > file->size ? size : file->size;
    return 0;
}

static int
fake_remove(void *context, const char *name)
{
    struct env_file *file = file_find(context, name);
    if (file == NULL)
        return -ENOENT;
    file->exists = false; /* the bytes stay until the place is used again: it may be open */
    return 0;
}

static int
fake_rename(void *context, const char *from, const char *to)
{
    struct env_file *file = file_find(context, from);
    if (file == NULL)
        return -ENOENT;
    fake_remove(context, to);
    snprintf(file->name, sizeof(file->name), "%s", to);
    return 0;
}

static int
fake_directory(void *context, const char *name)
{
    (void)context;
    (void)name;
    return 0;
}

static int
fake_directory_sync(void *context, const char *name)
{
    struct fake *fake = context;
    (void)name;
    return fake->directory_sync_error;
}

static int
fake_list(void *context, const char *name, int (*each)(const char *, void *), void *argument)
{
    struct fake *fake = context;
    size_t size = strlen(name);
    int result = 0;
    for (int i = 0; i < FAKE_FILES && result == 0; i++) {
        const struct env_file *file = &fake->files[i];
        if (!file->exists)
            continue;
        const char *slash = strchr(file->name, '/');
        if (size == 0 && slash == NULL)
            result = each(file->name, argument);
        else if (slash != NULL && (size_t)(slash - file->name) == size &&
                 strncmp(file->name, name, size) == 0)
            result = each(slash + 1, argument);
    }
    return result;
}

static int
fake_map(void *context, struct env_file *file, uint64_t size, void **address)
{
    (void)context;
    if (size > file->capacity)
        return -ENOMEM;
    *address = file->bytes;
    return 0;
}

static void
fake_unmap(void *context, void *address, uint64_t size)
{
    (void)context;
    (void)address;
    (void)size;
}

static struct fake_operation *
operation_start(struct fake *fake, uint64_t tag)
{
    ck_assert_uint_lt(fake->completion_count, FAKE_COMPLETIONS);
    struct fake_operation *operation = &fake->operations[fake->completion_count++];
    *operation = (struct fake_operation){.tag = tag};
    return operation;
}

static void
fake_append(void *context, struct env_file *file, uint64_t offset, const void *from, size_t size,
            bool sync, uint64_t tag)
{
    struct fake *fake = context;
    int result = fake->append_error;
    if (result == 0 && size > 0)
        result = fake_write(fake, file, offset, from, size);
    fake->appends++;
    fake->syncs += sync;
    operation_start(fake, tag)->result = result;
}

static void
fake_read_start(void *context, struct env_file *file, uint64_t offset, void *to, size_t size,
                uint64_t tag)
{
    struct fake *fake = context;
    struct fake_operation *operation = operation_start(fake, tag);
    operation->file = file;
    operation->offset = offset;
    operation->to = to;
    operation->size = planned(&fake->read_short) ? size / 2 : size;
    operation->result = planned(&fake->read_fail) ? fake->read_error : 0;
    memset(to, 0xa5, size);
    fake->reads++;
}

static void
fake_job(void *context, int (*job)(void *), void *argument, uint64_t tag)
{
    struct fake_operation *operation = operation_start(context, tag);
    operation->job = job;
    operation->argument = argument;
}

static int64_t
operation_end(const struct fake_operation *operation)
{
    if (operation->result != 0)
        return operation->result;
    if (operation->job != NULL)
        return operation->job(operation->argument);
    if (operation->file != NULL)
        return bytes_read(operation->file, operation->offset, operation->to, operation->size);
    return 0;
}

static unsigned
fake_poll(void *context, struct env_completion *completions, unsigned capacity)
{
    struct fake *fake = context;
    unsigned count = fake->hold ? 0 : fake->completion_count;
    if (count > capacity)
        count = capacity;
    for (unsigned i = 0; i < count; i++) {
        unsigned at = fake->backwards ? fake->completion_count - 1 - i : i;
        const struct fake_operation *operation = &fake->operations[at];
        completions[i] = (struct env_completion){operation->tag, operation_end(operation)};
    }
    fake->completion_count -= count;
    if (!fake->backwards)
        memmove(fake->operations, fake->operations + count,
                fake->completion_count * sizeof(fake->operations[0]));
    return count;
}

static int
fake_store_back(void *context, uint64_t offset, uint64_t size)
{
    struct fake *fake = context;
    ck_assert_uint_le(offset + size, fake->store_size);
    return fake->store_back_error;
}

static int
fake_arena_back(void *context, void *handle, uint64_t size)
{
    struct fake *fake = context;
    (void)handle;
    ck_assert_uint_le(size, MSHM_ARENA_MAX);
    return fake->arena_back_error;
}

static void
fake_wake(void *context, unsigned int *word)
{
    struct fake *fake = context;
    if (fake->wake_count < FAKE_WAKES)
        fake->woken[fake->wake_count] = word;
    fake->wake_count++;
}

static void
fake_reply(void *context, void *handle, const void *message, size_t size)
{
    struct fake_client *client = handle;
    (void)context;
    ck_assert_uint_le(size, sizeof(client->reply));
    ck_assert(!client->freed);
    memcpy(client->reply, message, size);
    client->reply_size = size;
    client->replies++;
}

static void
fake_session_free(void *context, void *handle)
{
    struct fake_client *client = handle;
    (void)context;
    ck_assert(!client->freed);
    client->freed = true;
    client->session = NULL;
}

static void
fake_log(void *context, enum env_log_level level, const char *line)
{
    struct fake *fake = context;
    (void)level;
    snprintf(fake->line, sizeof(fake->line), "%s", line);
    fake->lines++;
}

static const struct env fake_functions = {
    .clock_ns = fake_clock,
    .random = fake_random,
    .file_open = fake_open,
    .file_close = fake_close,
    .file_size = fake_size,
    .file_read = fake_read,
    .file_write = fake_write,
    .file_sync = fake_sync,
    .file_preallocate = fake_preallocate,
    .file_rename = fake_rename,
    .file_remove = fake_remove,
    .directory_create = fake_directory,
    .directory_sync = fake_directory_sync,
    .directory_list = fake_list,
    .file_map = fake_map,
    .file_unmap = fake_unmap,
    .file_append = fake_append,
    .file_read_start = fake_read_start,
    .job_start = fake_job,
    .poll = fake_poll,
    .store_back = fake_store_back,
    .arena_back = fake_arena_back,
    .wake = fake_wake,
    .reply = fake_reply,
    .session_free = fake_session_free,
    .log = fake_log,
};

void *
fake_memory(uint64_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(memory, MAP_FAILED);
    return memory;
}

/* --- the broker --------------------------------------------------------------------------------------------------- */

void
fake_init(struct fake *fake)
{
    memset(fake, 0, sizeof(*fake));
    fake->env = fake_functions;
    fake->env.context = fake;
    fake->now_ns = 1000 * 1000 * 1000;
    fake->random_state = 1;
    core_options_init(&fake->options);
    fake->options.cache_size = 8 << 20;
    fake->options.map_capacity = 1 << 16;
    fake->options.segment_size = 1 << 20;
    fake->file_capacity = FILE_CAPACITY;
    fake->read_error = -EIO;
}

int
fake_start(struct fake *fake)
{
    char why[256] = "";
    fake->store_size = core_store_size(&fake->options);
    fake->store = fake_memory(fake->store_size);
    fake->completion_count = 0;
    int status = core_create(&fake->core, &fake->options, &fake->env, fake->store);
    if (status == MSHM_OK)
        status = core_recover(fake->core, true, why, sizeof(why));
    if (status != MSHM_OK)
        fprintf(stderr, "fake_start: %s: %s\n", mshm_strerror(status), why);
    return status;
}

void
fake_kill(struct fake *fake)
{
    core_destroy(fake->core);
    fake->core = NULL;
    munmap(fake->store, fake->store_size);
    fake->store = NULL;
}

void
fake_fini(struct fake *fake)
{
    if (fake->core != NULL)
        fake_kill(fake);
    for (int i = 0; i < FAKE_FILES; i++)
        free(fake->files[i].bytes);
}

bool
fake_step(struct fake *fake)
{
    uint64_t wait_ns;
    fake->now_ns += TURN_NS;
    return core_step(fake->core, &wait_ns);
}

void
fake_run(struct fake *fake)
{
    for (int i = 0; i < TURNS_MAX; i++)
        if (!fake_step(fake) && (fake->completion_count == 0 || fake->hold))
            return;
    ck_abort_msg("the core does not come to rest");
}

void
fake_wait(struct fake *fake, unsigned ms)
{
    fake->now_ns += ms * UINT64_C(1000000);
    fake_run(fake);
}

uint32_t
fake_default(struct fake *fake)
{
    return catalogue_find(fake->core->catalogue, "default", 7)->id;
}

/* --- clients ------------------------------------------------------------------------------------------------------ */

struct fake_client *
fake_attach(struct fake *fake, uint32_t flags)
{
    struct fake_client *client = calloc(1, sizeof(*client));
    client->fake = fake;
    client->segment = fake_memory(MSHM_SESSION_SIZE);
    int status =
        core_session_attach(fake->core, client->segment, client, flags, 1000, 77, &client->session);
    ck_assert_int_eq(status, MSHM_OK);
    ck_assert_int_eq(mshm_session_check(client->segment, MSHM_SESSION_SIZE), MSHM_OK);
    mshm_producer_init(&client->producer, client->segment);
    AO_store_release(&client->segment->lanes_high, 8);
    return client;
}

void
fake_client_free(struct fake_client *client)
{
    munmap(client->segment, MSHM_SESSION_SIZE);
    free(client);
}

uint64_t
fake_publish(struct fake_client *client, int lane, const void *ops, uint64_t size, uint64_t count,
             unsigned flags)
{
    uint64_t offset = 0;
    int wake;
    ck_assert_int_eq(mshm_producer_arena(&client->producer, size, &offset), MSHM_OK);
    memcpy((uint8_t *)client->segment + MSHM_SESSION_ARENA + offset, ops, size);
    unsigned kind = lane < 0 ? MSHM_REQUEST_ONE_CALL : MSHM_REQUEST_COMMIT;
    mshm_timestamp snapshot = lane < 0 ? 0 : AO_load(&client->segment->lanes[lane].snapshot);
    uint64_t sequence =
        mshm_producer_publish(&client->producer, kind, flags, 0, lane < 0 ? 0 : (unsigned)lane,
                              snapshot, offset, size, count, &wake);
    if (wake)
        core_session_doorbell(client->fake->core, client->session);
    return sequence;
}

bool
fake_answered(struct fake_client *client, uint64_t sequence, int *status, mshm_timestamp *timestamp)
{
    return mshm_completion_take(client->segment, sequence, status, timestamp) != 0;
}

int
fake_answer(struct fake_client *client, uint64_t sequence, mshm_timestamp *timestamp)
{
    mshm_timestamp ignored;
    int status;
    for (int i = 0; i < TURNS_MAX; i++) {
        if (fake_answered(client, sequence, &status, timestamp != NULL ? timestamp : &ignored))
            return status;
        fake_step(client->fake);
    }
    return -1;
}

mshm_timestamp
fake_begin(struct fake_client *client, unsigned lane)
{
    return mshm_snapshot_register(client->fake->core->store, &client->segment->lanes[lane]);
}

void
fake_end(struct fake_client *client, unsigned lane)
{
    mshm_snapshot_release(&client->segment->lanes[lane]);
}

int
fake_put(struct fake_client *client, uint32_t bucket, const char *key, const char *value)
{
    _Alignas(8) uint8_t op[4096];
    uint64_t size =
        mshm_op_write(op, bucket, value != NULL ? MSHM_OP_PUT : MSHM_OP_DELETE, key,
                      (uint16_t)strlen(key), value, value != NULL ? (uint32_t)strlen(value) : 0);
    fake_begin(client, 7);
    int status = fake_answer(client, fake_publish(client, 7, op, size, 1, 0), NULL);
    fake_end(client, 7);
    return status;
}

int
fake_one_call(struct fake_client *client, uint32_t bucket, unsigned kind, const char *key,
              const char *value)
{
    _Alignas(8) uint8_t op[4096];
    uint64_t size = mshm_op_write(op, bucket, kind, key, (uint16_t)strlen(key), value,
                                  value != NULL ? (uint32_t)strlen(value) : 0);
    return fake_answer(client, fake_publish(client, -1, op, size, 1, 0), NULL);
}

uint64_t
fake_publish_page_in(struct fake_client *client, mshm_pid pid)
{
    uint64_t offset = 0;
    uint64_t pids = pid; /* one pid, rounded up to 8 bytes */
    int wake;
    ck_assert_int_eq(mshm_producer_arena(&client->producer, sizeof pids, &offset), MSHM_OK);
    memcpy((uint8_t *)client->segment + MSHM_SESSION_ARENA + offset, &pids, sizeof pids);
    uint64_t sequence = mshm_producer_publish(&client->producer, MSHM_REQUEST_PAGE_IN, 0, 0, 0, 0,
                                              offset, sizeof pids, 1, &wake);
    if (wake)
        core_session_doorbell(client->fake->core, client->session);
    return sequence;
}

int
fake_page_in(struct fake_client *client, mshm_pid pid)
{
    return fake_answer(client, fake_publish_page_in(client, pid), NULL);
}

int
fake_get(struct fake_client *client, unsigned lane, uint32_t bucket, const char *key,
         mshm_timestamp snapshot, char value[256])
{
    struct core *core = client->fake->core;
    const struct catalogue_bucket *found = catalogue_get(core->catalogue, bucket);
    if (found == NULL)
        return MSHM_NOT_FOUND;
    struct mshm_tree_ref ref = {.bucket = bucket, .root = found->root};
    uint64_t size = 0;
    int status, read = MSHM_OK;
    do {
        mshm_pid missing = 0;
        status = mshm_get(&core->view, &client->segment->lanes[lane],
                          snapshot == 0 ? NULL : &client->segment->expired[lane], ref, key,
                          strlen(key), snapshot, value, 255, &size, NULL, &missing);
        if (status == MSHM_BUSY && missing != 0)
            read = fake_page_in(client, missing);
    } while (status == MSHM_BUSY && read == MSHM_OK);
    if (read != MSHM_OK)
        return read;
    if (status == MSHM_OK)
        value[size] = 0;
    return status;
}

int
fake_control(struct fake_client *client, const void *message, size_t size)
{
    unsigned before = client->replies;
    int status = core_control(client->fake->core, client->session, message, size);
    if (status != MSHM_OK)
        return 2;
    for (int i = 0; i < TURNS_MAX && client->replies == before; i++)
        fake_step(client->fake);
    return client->replies == before ? 1 : ((struct mshm_message *)client->reply)->status;
}

int
fake_bucket(struct fake_client *client, unsigned kind, const char *name,
            struct mshm_bucket_message *reply)
{
    struct mshm_bucket_message message = {
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = (uint16_t)kind,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof(message)},
        .name_size = (uint16_t)strlen(name),
    };
    if (reply != NULL) { /* options to ask for */
        message.page_size = reply->page_size;
        message.inline_limit = reply->inline_limit;
        message.compression = reply->compression;
        message.backpressure = reply->backpressure;
        message.merge_operator = reply->merge_operator;
    }
    memcpy(message.name, name, strlen(name) < 256 ? strlen(name) : 256);
    int status = fake_control(client, &message, sizeof(message));
    if (reply != NULL && client->reply_size == sizeof(*reply))
        memcpy(reply, client->reply, sizeof(*reply));
    return status;
}
