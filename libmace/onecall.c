/* onecall.c - one operation without a transaction: one request, whose precondition the broker decides in commit order. */
#include "commit.h"
#include "mshm/counters.h"
#include "txn.h"

/* How often a request is taken to another broker. It goes on only when the loss is certain not to have applied it; brokers
 * that die one after the other are perhaps killed by the request itself. */
enum { BROKERS_MAX = 8 };

/* Sends the request to one broker. MACE_BROKER_LOST: certainly not applied. */
static int
write1_once(struct mlib_attachment *attachment, struct mlib_request *request)
{
    struct mace *db = attachment->mace;
    struct mlib_outcome answer;
    uint64_t sequence, timestamp, deadline = mlib_commit_deadline(db);
    int status = mlib_request_publish(attachment, request, deadline, &sequence);
    if (status != MACE_OK)
        return status == MACE_BUSY ? MACE_UNKNOWN_OUTCOME : status;
    status = mlib_answer_wait(attachment, sequence, request->level, deadline, &answer);
    switch (status) {
    case MACE_OK:
        if (answer.status == MACE_OK)
            mshm_counter_add(&attachment->session->counters.commits, 1);
        return answer.status;
    case MACE_BROKER_LOST:
        return mlib_lost_outcome(attachment, sequence, &timestamp);
    default:
        return MACE_UNKNOWN_OUTCOME;
    }
}

static int
write1_check(mace *db, mace_bucket *bucket, const void *key, size_t key_size, const void *value,
             size_t value_size)
{
    if (db == NULL || bucket == NULL)
        return MACE_INVALID;
    if (mlib_forked(db))
        return MACE_FORKED;
    if (bucket->mace != db)
        return MACE_INVALID;
    if (db->options.read_only != 0)
        return MACE_READ_ONLY;
    return mlib_write_check(key, key_size, value, value_size);
}

static int
write1(mace *db, mace_bucket *bucket, unsigned op, const void *key, size_t key_size,
       const void *value, size_t value_size)
{
    int status = write1_check(db, bucket, key, key_size, value, value_size);
    if (status != MACE_OK)
        return status;
    struct mlib_request request = {
        .kind = MSHM_REQUEST_ONE_CALL,
        .level = db->options.durability,
        .bucket = bucket->id,
        .op = op,
        .key = key,
        .value = value,
        .key_size = key_size,
        .value_size = value_size,
    };
    for (unsigned i = 0; i < BROKERS_MAX; i++) {
        struct mlib_attachment *attachment;
        struct mshm_tree_ref tree;
        uint32_t inline_limit;
        status = mlib_attachment_get(db, &attachment);
        if (status != MACE_OK)
            return status;
        status = mlib_bucket_find(bucket, attachment, UINT64_MAX, &tree, &inline_limit);
        if (status == MACE_OK && value_size > inline_limit)
            status = MACE_TOO_BIG;
        if (status == MACE_OK)
            status = write1_once(attachment, &request);
        bool lost = mlib_attachment_lost(attachment);
        mlib_attachment_put(attachment);
        if (status != MACE_BROKER_LOST || !lost)
            return status;
    }
    return status;
}

int
mace_put1(mace *db, mace_bucket *bucket, const void *key, size_t key_size, const void *value,
          size_t value_size)
{
    return write1(db, bucket, MSHM_OP_PUT, key, key_size, value, value_size);
}

int
mace_insert1(mace *db, mace_bucket *bucket, const void *key, size_t key_size, const void *value,
             size_t value_size)
{
    return write1(db, bucket, MSHM_OP_INSERT, key, key_size, value, value_size);
}

int
mace_update1(mace *db, mace_bucket *bucket, const void *key, size_t key_size, const void *value,
             size_t value_size)
{
    return write1(db, bucket, MSHM_OP_UPDATE, key, key_size, value, value_size);
}

int
mace_delete1(mace *db, mace_bucket *bucket, const void *key, size_t key_size)
{
    return write1(db, bucket, MSHM_OP_DELETE_EXISTING, key, key_size, NULL, 0);
}

/* No bucket has a merge operator. */
int
mace_merge1(mace *db, mace_bucket *bucket, const void *key, size_t key_size, const void *value,
            size_t value_size)
{
    int status = write1_check(db, bucket, key, key_size, value, value_size);
    return status != MACE_OK ? status : MACE_INVALID;
}
