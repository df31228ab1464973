/* data_gather.h - records that a job is about to read, fetched together: a checkpoint packs pages in the order of their
 * pids, and so did the one before it, so the newest records of neighbours stand near each other. One read then brings
 * many of them, where one each would be as many requests to the disk, and all reads are under way at once.
 *
 * One thread at a time; no errors of its own: what was not fetched is read by itself.
 */
#ifndef DATA_GATHER_H
#define DATA_GATHER_H

#include "data.h"

enum {
    GATHER_WANTED = 1024,           /* records in one fetch */
    GATHER_RUNS = 1024,             /* of all fetches since a reset */
    GATHER_GAP = 8 * 1024,          /* bytes that cost less than another request */
    GATHER_RUN_MAX = 512 * 1024,    /* bytes of one read */
    GATHER_BYTES = 4 * 1024 * 1024, /* of private memory */
};

struct data_gather {
    struct data *data;
    uint32_t wanted_count, run_count;
    uint64_t bytes; /* of all runs */
    data_location wanted[GATHER_WANTED];
    struct data_range runs[GATHER_RUNS]; /* by file and offset; their bytes are this gather's */
};

void gather_init(struct data_gather *gather, struct data *data);
/* Gives the memory back. */
void gather_reset(struct data_gather *gather);
/* The next fetch is to bring this record. */
void gather_want(struct data_gather *gather, data_location location);
/* Reads what is wanted, as far as there is memory for it. */
void gather_fetch(struct data_gather *gather);
/* A page_read (page_pack.h) whose argument is a struct data_gather. */
int gather_read(void *argument, data_location location, uint32_t offset, void *to, uint32_t size);

#endif
