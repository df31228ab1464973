/* bucket.c - named key spaces: asking the broker about them, and finding their trees in shared memory. */
#include <stdlib.h>
#include <string.h>

#include "mlib.h"

void
mace_bucket_options_init(mace_bucket_options *options)
{
    if (options == NULL)
        return;
    memset(options, 0, sizeof *options);
    options->size = sizeof *options;
}

static int
name_write(struct mshm_bucket_message *message, uint16_t kind, const char *name)
{
    memset(message, 0, sizeof *message);
    message->head.kind = kind;
    message->head.size = sizeof *message;
    size_t size = name == NULL ? 0 : strnlen(name, MSHM_MAX_BUCKET_NAME + 1);
    if (size == 0 || size > MSHM_MAX_BUCKET_NAME)
        return MACE_INVALID;
    message->name_size = (uint16_t)size;
    memcpy(message->name, name, size);
    return MACE_OK;
}

static int
options_write(struct mshm_bucket_message *message, const mace_bucket_options *options)
{
    if (options == NULL)
        return MACE_OK;
    if (options->size != sizeof *options)
        return MACE_VERSION;
    message->page_size = options->page_size;
    message->inline_limit = options->inline_limit;
    message->compression = options->compression;
    message->backpressure = options->backpressure;
    message->merge_operator = options->merge_operator;
    return MACE_OK;
}

/* Sends a bucket message. `change`: it alters the database, so a broker that is lost before it answers leaves the outcome
 * open; a question is simply asked again of the next one. */
static int
bucket_request(mace *db, struct mshm_bucket_message *message, bool change)
{
    for (;;) {
        struct mlib_attachment *attachment;
        int status = mlib_attachment_get(db, &attachment);
        if (status != MACE_OK)
            return status;
        struct mshm_bucket_message reply;
        memset(&reply, 0, sizeof reply);
        status = mlib_control(attachment, &message->head, &reply.head, sizeof reply);
        bool lost = mlib_attachment_lost(attachment);
        mlib_attachment_put(attachment);
        if (status == MSHM_BROKER_LOST && lost && !change)
            continue;
        if (status == MSHM_BROKER_LOST)
            return change ? MACE_UNKNOWN_OUTCOME : status;
        if (status == MACE_OK && reply.name_size > MSHM_MAX_BUCKET_NAME)
            return MACE_VERSION;
        if (status == MACE_OK)
            *message = reply;
        return status;
    }
}

static int
handle_create(mace *db, const struct mshm_bucket_message *reply, mace_bucket **out)
{
    int status = mlib_section_enter(db);
    if (status != MACE_OK)
        return status;
    struct mace_bucket *bucket = calloc(1, sizeof *bucket);
    if (bucket != NULL) {
        bucket->mace = db;
        bucket->id = (uint32_t)reply->id;
        pthread_mutex_lock(&db->lock);
        bucket->next = db->buckets;
        db->buckets = bucket;
        pthread_mutex_unlock(&db->lock);
        *out = bucket;
    }
    mlib_section_leave();
    return bucket != NULL ? MACE_OK : MACE_NO_MEMORY;
}

int
mace_bucket_create(mace *db, const char *name, const mace_bucket_options *options,
                   mace_bucket **bucket)
{
    if (db == NULL || bucket == NULL)
        return MACE_INVALID;
    if (mlib_forked(db))
        return MACE_FORKED;
    struct mshm_bucket_message message;
    int status = name_write(&message, MSHM_MESSAGE_BUCKET_CREATE, name);
    if (status == MACE_OK)
        status = options_write(&message, options);
    if (status != MACE_OK)
        return status;
    if (db->options.read_only != 0)
        return MACE_READ_ONLY;
    status = bucket_request(db, &message, true);
    return status == MACE_OK ? handle_create(db, &message, bucket) : status;
}

int
mace_bucket_open(mace *db, const char *name, mace_bucket **bucket)
{
    if (db == NULL || bucket == NULL)
        return MACE_INVALID;
    if (mlib_forked(db))
        return MACE_FORKED;
    struct mshm_bucket_message message;
    int status = name_write(&message, MSHM_MESSAGE_BUCKET_OPEN, name);
    if (status == MACE_OK)
        status = bucket_request(db, &message, false);
    return status == MACE_OK ? handle_create(db, &message, bucket) : status;
}

void
mace_bucket_close(mace_bucket *bucket)
{
    if (bucket == NULL || mlib_forked(bucket->mace))
        return; /* in a forked child the list may have been half-changed: mace_close frees it */
    struct mace *db = bucket->mace;
    if (mlib_section_enter(db) != MACE_OK)
        return; /* in a signal handler: the same */
    pthread_mutex_lock(&db->lock);
    struct mace_bucket **link = &db->buckets;
    while (*link != NULL && *link != bucket)
        link = &(*link)->next;
    if (*link == bucket)
        *link = bucket->next;
    pthread_mutex_unlock(&db->lock);
    free(bucket);
    mlib_section_leave();
}

int
mace_bucket_drop(mace *db, const char *name)
{
    struct mshm_bucket_message message;
    if (db == NULL)
        return MACE_INVALID;
    if (mlib_forked(db))
        return MACE_FORKED;
    int status = name_write(&message, MSHM_MESSAGE_BUCKET_DROP, name);
    if (status != MACE_OK)
        return status;
    if (db->options.read_only != 0)
        return MACE_READ_ONLY;
    return bucket_request(db, &message, true);
}

int
mace_bucket_alter(mace *db, const char *name, const mace_bucket_options *options)
{
    struct mshm_bucket_message message;
    if (db == NULL || options == NULL)
        return MACE_INVALID;
    if (mlib_forked(db))
        return MACE_FORKED;
    int status = name_write(&message, MSHM_MESSAGE_BUCKET_ALTER, name);
    if (status == MACE_OK)
        status = options_write(&message, options);
    if (status != MACE_OK)
        return status;
    if (db->options.read_only != 0)
        return MACE_READ_ONLY;
    return bucket_request(db, &message, true);
}

int
mace_bucket_list(mace *db, int (*each)(const char *name, void *arg), void *arg)
{
    if (db == NULL || each == NULL)
        return MACE_INVALID;
    if (mlib_forked(db))
        return MACE_FORKED;
    struct mshm_bucket_message message;
    memset(&message, 0, sizeof message);
    for (;;) {
        message.head.kind = MSHM_MESSAGE_BUCKET_LIST;
        message.head.size = sizeof message;
        int status = bucket_request(db, &message, false);
        if (status == MACE_NOT_FOUND)
            return MACE_OK;
        if (status != MACE_OK)
            return status;
        char name[MSHM_MAX_BUCKET_NAME + 1];
        memcpy(name, message.name, message.name_size);
        name[message.name_size] = '\0';
        status = each(name, arg);
        if (status != 0)
            return status;
    }
}

/* The catalogue place of a bucket id under this attachment, or -1. */
static int64_t
place_search(const struct mshm_view *view, uint32_t id)
{
    for (uint64_t place = 0; place < view->catalogue_capacity; place++)
        if (AO_load_acquire(&view->catalogue[place].id) == id)
            return (int64_t)place;
    return -1;
}

int
mlib_bucket_find(struct mace_bucket *bucket, const struct mlib_attachment *attachment,
                 uint64_t snapshot, struct mshm_tree_ref *tree, uint32_t *inline_limit)
{
    const struct mshm_view *view = &attachment->view;
    /* The cached place holds for one incarnation; its low 32 bits are enough to tell two of them apart, because the id
     * in the entry is checked as well. Place + 1, so that 0 stays "unknown". */
    AO_t resolved = AO_load(&bucket->resolved);
    uint64_t place = (resolved & 0xffffffffu) - 1;
    if (resolved == 0 || resolved >> 32 != (attachment->incarnation & 0xffffffffu) ||
        place >= view->catalogue_capacity ||
        AO_load_acquire(&view->catalogue[place].id) != bucket->id) {
        int64_t found = place_search(view, bucket->id);
        if (found < 0)
            return MACE_NOT_FOUND;
        place = (uint64_t)found;
        AO_store(&bucket->resolved,
                 (AO_t)(attachment->incarnation & 0xffffffffu) << 32 | (place + 1));
    }
    const struct mshm_catalogue_entry *entry = &view->catalogue[place];
    AO_t dropped = AO_load(&entry->dropped);
    tree->bucket = bucket->id;
    tree->root = (mshm_pid)AO_load(&entry->root);
    if (inline_limit != NULL)
        *inline_limit = (uint32_t)AO_load(&entry->inline_limit);
    /* The drop is published before its timestamp becomes visible, so a reader at or beyond it sees the mark. */
    if (dropped != 0 &&
        (snapshot == UINT64_MAX ? AO_load_acquire(&view->store->visible) : snapshot) >= dropped)
        return MACE_NOT_FOUND;
    return MACE_OK;
}
