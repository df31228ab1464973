/* catalogue_parts.h - what stands inside struct catalogue, shared by catalogue.c and catalogue_save.c. */
#ifndef CATALOGUE_PARTS_H
#define CATALOGUE_PARTS_H

#include "catalogue_format.h"

enum place_state {
    PLACE_FREE,
    PLACE_LIVING = CATALOGUE_LIVING,
    PLACE_DROPPED = CATALOGUE_DROPPED,
    PLACE_LEAVING = CATALOGUE_LEAVING
};

struct place {
    enum place_state state;
    struct catalogue_bucket bucket;
};

struct catalogue {
    struct tree *tree;
    struct mshm_catalogue_entry *entries; /* in the store */
    struct place *places;                 /* capacity */
    uint32_t *names;                      /* places of living buckets, ascending by name */
    uint32_t *ids;                        /* open-addressed by id: place + 1, 0 = empty */
    uint32_t ids_mask;
    uint32_t capacity;
    uint32_t living, dropped;
    uint32_t next_id; /* ids only grow; replay of the log keeps the counter */
    uint32_t default_page_size;
};

bool catalogue_record_valid(const struct catalogue_record *record);
/* Puts the bucket of a filled place among the living ones: by name and by id. MSHM_CORRUPT: one has this name. */
int catalogue_enlist(struct catalogue *catalogue, uint32_t place);
/* Describes the bucket of a filled place to readers: everything before the id. */
void catalogue_show(struct catalogue *catalogue, uint32_t place);

#endif
