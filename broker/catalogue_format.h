/* catalogue_format.h - the catalogue as a checkpoint keeps it, inside the manifest. Little-endian.
 *
 *   struct catalogue_header | for each bucket: struct catalogue_image, its name, zeros to a multiple of 8 bytes
 */
#ifndef CATALOGUE_FORMAT_H
#define CATALOGUE_FORMAT_H

#include "catalogue.h"

#define CATALOGUE_MAGIC UINT64_C(0x31306c746163634d) /* "Mccatl01" */
enum { CATALOGUE_VERSION = 1 };

/* [version 1: 64 bytes] */
struct catalogue_header {
    uint64_t magic;
    uint32_t version;
    uint32_t count;                           /* buckets that follow */
    uint32_t next_id;                         /* the next bucket gets this id or a higher one */
    uint32_t reserved;                        /* 0 */
    uint64_t pages_leaf, pages_inner, height; /* struct tree_figures */
    uint64_t reserved64[2];                   /* 0 */
};
static_assert(sizeof(struct catalogue_header) == 64, "the head of a catalogue is 64 bytes");

/* The states of a bucket that a checkpoint can meet: drawn in catalogue.c. */
enum catalogue_state { CATALOGUE_LIVING = 1, CATALOGUE_DROPPED = 2, CATALOGUE_LEAVING = 3 };

/* [version 1: 64 bytes] */
struct catalogue_image {
    uint32_t id; /* bucket id */
    uint32_t root;
    uint32_t state;            /* enum catalogue_state */
    uint32_t name_size;        /* bytes, 1 .. MSHM_MAX_BUCKET_NAME */
    uint64_t created, dropped; /* timestamps; dropped 0: lives */
    struct catalogue_record options;
};
static_assert(sizeof(struct catalogue_image) == 64, "a bucket's image is 64 bytes");

/* Takes the bytes of catalogue_save apart, hostile ones too: each(bucket, state) for every bucket; each for itself makes
 * sense (place is its number). MSHM_OK and *header; MSHM_CORRUPT, MSHM_VERSION; or what `each` returned. */
int catalogue_read(const void *bytes, uint64_t size, struct catalogue_header *header,
                   int (*each)(void *argument, const struct catalogue_bucket *bucket,
                               enum catalogue_state state),
                   void *argument);

#endif
