/* scan.c - ordered walks: everything with a prefix, forward and backward, at one snapshot.
 *
 *   mace-example-scan PATH PREFIX
 */
#include <mace/mace.h>

#include <stdio.h>
#include <string.h>

static const char *const fruits[] = {"apple", "apricot", "banana", "blueberry", "cherry"};

static int
fruits_store(mace *db, mace_bucket *bucket)
{
    mace_txn *txn;
    int status = mace_begin(db, 0, &txn);

    if (status != MACE_OK)
        return status;
    for (size_t i = 0; status == MACE_OK && i < sizeof(fruits) / sizeof(fruits[0]); i++)
        status = mace_put(txn, bucket, fruits[i], strlen(fruits[i]), &i, sizeof(i));
    if (status == MACE_OK)
        return mace_commit(txn);
    mace_abort(txn);
    return status;
}

typedef int move(mace_cursor *cursor, mace_slice *key, mace_slice *value);

/* Prints the keys that begin with `prefix` in the order of `step`: mace_cursor_next or mace_cursor_prev. */
static int
fruits_walk(mace_txn *txn, mace_bucket *bucket, const char *prefix, move *step)
{
    mace_cursor *cursor;
    mace_range range;
    mace_slice key;
    int status;

    mace_range_prefix(&range, prefix, strlen(prefix));
    status = mace_cursor_open(txn, bucket, &range, &cursor);
    if (status != MACE_OK)
        return status;
    while ((status = step(cursor, &key, NULL)) == MACE_OK)
        printf(" %.*s", (int)key.size, (const char *)key.data);
    printf("\n");
    mace_cursor_close(cursor);
    return status == MACE_NOT_FOUND ? MACE_OK : status;
}

int
main(int argc, char **argv)
{
    mace *db = NULL;
    mace_bucket *bucket = NULL;
    mace_txn *txn;
    int status;

    if (argc != 3) {
        fprintf(stderr, "usage: mace-example-scan PATH PREFIX\n");
        return 2;
    }
    status = mace_open(argv[1], NULL, &db);
    if (status == MACE_OK)
        status = mace_bucket_create(db, "fruits", NULL, &bucket);
    if (status == MACE_EXISTS)
        status = mace_bucket_open(db, "fruits", &bucket);
    if (status == MACE_OK)
        status = fruits_store(db, bucket);
    if (status == MACE_OK)
        status = mace_begin(db, MACE_RDONLY, &txn);
    if (status == MACE_OK) {
        status = fruits_walk(txn, bucket, argv[2], mace_cursor_next);
        if (status == MACE_OK)
            status = fruits_walk(txn, bucket, argv[2], mace_cursor_prev);
        mace_abort(txn);
    }
    if (status != MACE_OK)
        fprintf(stderr, "mace-example-scan: %s\n", mace_strerror(status));
    mace_bucket_close(bucket);
    mace_close(db);
    return status != MACE_OK;
}
