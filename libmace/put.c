/* put.c - the writes of a transaction: checked here, kept in its write set until commit. */
#include "txn.h"

/* What a write requires of the key. */
enum precondition { PRE_NONE, PRE_ABSENT, PRE_PRESENT };

int
mlib_write_check(const void *key, size_t key_size, const void *value, size_t value_size)
{
    int status = mlib_key_check(key, key_size);
    if (status != MACE_OK)
        return status;
    if (value == NULL && value_size != 0)
        return MACE_INVALID;
    return value_size > MSHM_MAX_INLINE ? MACE_TOO_BIG : MACE_OK;
}

/* Decided on the snapshot and own writes; the conflict check at commit makes it hold. */
static int
precondition_check(struct mace_txn *txn, enum precondition precondition, const void *key,
                   size_t key_size)
{
    if (precondition == PRE_NONE)
        return mshm_snapshot_expired(txn->expired, txn->snapshot) ? MACE_SNAPSHOT_EXPIRED : MACE_OK;
    int status = mlib_txn_exists(txn, key, key_size);
    if (precondition == PRE_PRESENT)
        return status;
    return status == MACE_NOT_FOUND ? MACE_OK : status == MACE_OK ? MACE_EXISTS : status;
}

static int
txn_write(struct mace_txn *txn, struct mace_bucket *bucket, unsigned kind,
          enum precondition precondition, const void *key, size_t key_size, const void *value,
          size_t value_size)
{
    int status = mlib_txn_enter(txn, bucket);
    if (status != MACE_OK)
        return status;
    if ((txn->flags & MACE_RDONLY) != 0)
        return MACE_READ_ONLY;
    status = mlib_write_check(key, key_size, value, value_size);
    if (status != MACE_OK)
        return status;
    /* The snapshot may still read a bucket that has been dropped; nobody may write it. */
    struct mshm_tree_ref tree;
    uint32_t inline_limit;
    status = mlib_bucket_find(bucket, txn->attachment, UINT64_MAX, &tree, &inline_limit);
    if (status != MACE_OK)
        return status;
    if (value_size > inline_limit)
        return MACE_TOO_BIG;
    status = precondition_check(txn, precondition, key, key_size);
    if (status != MACE_OK)
        return status;
    return mlib_writeset_put(&txn->writes, bucket->id, kind, key, key_size, value, value_size);
}

int
mace_put(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size, const void *value,
         size_t value_size)
{
    return txn_write(txn, bucket, MSHM_OP_PUT, PRE_NONE, key, key_size, value, value_size);
}

int
mace_insert(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size, const void *value,
            size_t value_size)
{
    return txn_write(txn, bucket, MSHM_OP_PUT, PRE_ABSENT, key, key_size, value, value_size);
}

int
mace_update(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size, const void *value,
            size_t value_size)
{
    return txn_write(txn, bucket, MSHM_OP_PUT, PRE_PRESENT, key, key_size, value, value_size);
}

int
mace_delete(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size)
{
    return txn_write(txn, bucket, MSHM_OP_DELETE, PRE_PRESENT, key, key_size, NULL, 0);
}

/* No bucket has a merge operator. */
int
mace_merge(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size, const void *value,
           size_t value_size)
{
    int status = mlib_txn_enter(txn, bucket);
    if (status != MACE_OK)
        return status;
    if ((txn->flags & MACE_RDONLY) != 0)
        return MACE_READ_ONLY;
    status = mlib_write_check(key, key_size, value, value_size);
    return status != MACE_OK ? status : MACE_INVALID;
}
