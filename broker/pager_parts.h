/* pager_parts.h - what pager.c and pager_page.c share, and nobody else includes. */
#ifndef PAGER_PARTS_H
#define PAGER_PARTS_H

#include "mshm/counters.h"
#include "pager.h"

/* The records of one page on their way into memory. */
struct page_records {
    data_location location; /* of the newest one */
    data_location older[DATA_CHAIN_MAX];
    void *bytes[DATA_CHAIN_MAX + 1]; /* of the newest, then as in `older`; 64-aligned */
    unsigned count;                  /* 1 until the newest one was checked */
    bool recalled; /* `older` was remembered, and is to be compared with what the newest one says */
    bool misled;   /* that is something else */
};

enum { DAMAGED_KEPT = 16 };

struct page_in;
struct pager {
    struct pager_options options;
    const struct env *env;
    struct frames *frames;
    struct pages *pages;
    struct data *data;
    pager_history *history;
    void *history_argument;
    struct mshm_counters *counters;
    struct page_content *content;
    data_location damaged[DAMAGED_KEPT]; /* that were reported last */
    unsigned damaged_count;
    char report[256]; /* page, file, offset and what is wrong there: the newest one */

    struct page_in **table; /* by pid; chained */
    uint32_t table_size, table_count;
    struct page_in *line, **line_end;           /* wait for a place among those under way */
    struct page_in *frameless, **frameless_end; /* wait for a frame */
    struct page_in *ended, **ended_end;         /* their waiters are still to be told */
    struct page_in *places[PAGER_READS]; /* under way, those that wait for a frame included */
    uint16_t free_places[PAGER_READS];
    uint32_t free_count;
    uint32_t frameless_class; /* that the first of them wants */
    uint64_t retry_ns;        /* when it looks for a frame again */
};

/* --- pager_page.c: one page --- */

void page_records_free(struct page_records *records);
/* Takes memory for record `index`, whose address is known. MSHM_OK, MSHM_NO_MEMORY. */
int page_records_reserve(struct page_records *records, unsigned index);
data_location page_records_location(const struct page_records *records, unsigned index);
/* Checks record `index`; the newest one tells how many there are. MSHM_OK, MSHM_CORRUPT, MSHM_VERSION. */
int page_records_check(struct page_records *records, const struct pager *pager, mshm_pid pid,
                       unsigned index, const char **why);
/* All records are there: brings the page into a frame and installs it. MSHM_OK; MSHM_FULL: no frame (*class: that it
 * needs); MSHM_CORRUPT, MSHM_NO_MEMORY. */
int pager_lay_out(struct pager *pager, mshm_pid pid, const struct page_records *records,
                  uint32_t *class, const char **why);
/* Counts what could not be read, and writes a line about it, once for a while. */
void pager_report(struct pager *pager, mshm_pid pid, data_location location, int status,
                  const char *why);

#endif
