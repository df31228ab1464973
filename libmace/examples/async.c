/* async.c - many durable commits without waiting for each: they share the syncs of the log.
 *
 *   mace-example-async PATH [COUNT]
 */
#include <mace/mace.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { WINDOW = 256 }; /* commits under way at once */

/* Begins, writes and hands over commit number `i`. */
static int
commit_start(mace *db, mace_bucket *bucket, uint64_t i, mace_ticket *ticket)
{
    char key[32];
    int size = snprintf(key, sizeof(key), "entry %012llu", (unsigned long long)i);
    mace_txn *txn;
    int status = mace_begin(db, MACE_SYNC, &txn);

    if (status != MACE_OK)
        return status;
    status = mace_put(txn, bucket, key, (size_t)size, &i, sizeof(i));
    if (status == MACE_OK)
        return mace_commit_async(txn, ticket);
    mace_abort(txn);
    return status;
}

int
main(int argc, char **argv)
{
    static mace_ticket tickets[WINDOW];
    mace *db = NULL;
    mace_bucket *bucket = NULL;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000;
    uint64_t started = 0, answered = 0;
    int status;

    if (argc < 2) {
        fprintf(stderr, "usage: mace-example-async PATH [COUNT]\n");
        return 2;
    }
    status = mace_open(argv[1], NULL, &db);
    if (status == MACE_OK)
        status = mace_bucket_open(db, "default", &bucket);
    while (status == MACE_OK && answered < count) {
        if (started < count && started - answered < WINDOW) {
            status = commit_start(db, bucket, started, &tickets[started % WINDOW]);
            started++;
        } else {
            status = mace_wait(db, &tickets[answered % WINDOW]);
            answered++;
        }
    }
    if (status == MACE_OK)
        printf("%llu durable commits\n", (unsigned long long)answered);
    else
        fprintf(stderr, "mace-example-async: %s\n", mace_strerror(status));
    mace_bucket_close(bucket);
    mace_close(db);
    return status != MACE_OK;
}
