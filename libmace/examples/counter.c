/* counter.c - several processes add to one counter.
 *
 *   mace-example-counter PATH [TIMES]
 *
 * Start it as often as you like, at the same time: no addition is lost. Each one is a transaction that reads the
 * counter and writes it back; when another process was faster, commit returns MACE_CONFLICT and the transaction is
 * begun again on the newer state.
 */
#include <mace/mace.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
counter_add(mace *db, mace_bucket *bucket, uint64_t *result)
{
    mace_txn *txn;
    mace_slice value;
    uint64_t count = 0;
    int status = mace_begin(db, MACE_OS, &txn);

    if (status != MACE_OK)
        return status;
    status = mace_get(txn, bucket, "counter", 7, &value);
    if (status == MACE_OK && value.size == sizeof(count))
        memcpy(&count, value.data, sizeof(count));
    else if (status == MACE_OK)
        status = MACE_CORRUPT;
    if (status == MACE_OK || status == MACE_NOT_FOUND) {
        count++;
        status = mace_put(txn, bucket, "counter", 7, &count, sizeof(count));
    }
    if (status != MACE_OK) {
        mace_abort(txn);
        return status;
    }
    status = mace_commit(txn); /* ends the transaction, whatever it returns */
    if (status == MACE_OK)
        *result = count;
    return status;
}

int
main(int argc, char **argv)
{
    mace *db = NULL;
    mace_bucket *bucket = NULL;
    uint64_t count = 0;
    long times = argc > 2 ? atol(argv[2]) : 1;
    long conflicts = 0;
    int status;

    if (argc < 2) {
        fprintf(stderr, "usage: mace-example-counter PATH [TIMES]\n");
        return 2;
    }
    status = mace_open(argv[1], NULL, &db);
    if (status == MACE_OK)
        status = mace_bucket_open(db, "default", &bucket);
    while (status == MACE_OK && times > 0) {
        status = counter_add(db, bucket, &count);
        if (status == MACE_OK) {
            times--;
        } else if (status == MACE_CONFLICT) {
            conflicts++;
            status = MACE_OK;
        }
    }
    if (status == MACE_OK)
        printf("%llu, begun again %ld times\n", (unsigned long long)count, conflicts);
    else
        fprintf(stderr, "mace-example-counter: %s\n", mace_strerror(status));
    mace_bucket_close(bucket);
    mace_close(db);
    return status != MACE_OK;
}
