/* mshm/ops.h - the operations of one transaction, as they stand in the arena and, after validation, in the log.
 *
 *   op_count times:  struct mshm_op | key bytes | value bytes | zero padding to a multiple of 8
 *
 * Strictly ascending by (bucket, key); equal keys only within a run of MERGE operands. In the arena it is hostile
 * input: the broker copies it once into private memory and calls mshm_ops_validate on the copy. On disk it is
 * covered by the log record's checksum and validated again at replay.
 */
#ifndef MSHM_OPS_H
#define MSHM_OPS_H

#include "mshm/base.h"

enum mshm_op_kind {
    MSHM_OP_PUT = 1,    /* insert or replace */
    MSHM_OP_DELETE = 2, /* a tombstone */
    MSHM_OP_MERGE = 3,  /* an operand of the bucket's merge operator */
    /* Only in a ONE_CALL request: PUT or DELETE with a precondition that the broker decides in commit order.
     * They are logged as PUT and DELETE. */
    MSHM_OP_INSERT = 4,          /* PUT if absent, else EXISTS */
    MSHM_OP_UPDATE = 5,          /* PUT if present, else NOT_FOUND */
    MSHM_OP_DELETE_EXISTING = 6, /* DELETE if present, else NOT_FOUND */
    /* Only in the log, written by the broker itself; key = bucket name, value = struct in catalogue_format.h. */
    MSHM_OP_BUCKET_CREATE = 16,
    MSHM_OP_BUCKET_DROP = 17,
    MSHM_OP_BUCKET_ALTER = 18,
};

/* [layout 1: 16 bytes, little-endian, in the arena and on disk] */
struct mshm_op {
    uint32_t bucket;     /* bucket id */
    uint32_t value_size; /* bytes */
    uint16_t key_size;   /* bytes, 1 .. MSHM_MAX_KEY */
    uint8_t kind;        /* enum mshm_op_kind */
    uint8_t flags;       /* 0 */
    uint32_t reserved;   /* 0 */
};
static_assert(sizeof(struct mshm_op) == 16, "an operation's header is 16 bytes");

static inline uint64_t
mshm_op_size(uint16_t key_size, uint32_t value_size)
{
    return mshm_align_up(sizeof(struct mshm_op) + (uint64_t)key_size + value_size, 8);
}
static inline const uint8_t *
mshm_op_key(const struct mshm_op *op)
{
    return (const uint8_t *)(op + 1);
}
static inline const uint8_t *
mshm_op_value(const struct mshm_op *op)
{
    return mshm_op_key(op) + op->key_size;
}
static inline const struct mshm_op *
mshm_op_next(const struct mshm_op *op)
{
    return (const struct mshm_op *)((const uint8_t *)op +
                                    mshm_op_size(op->key_size, op->value_size));
}

/* Writes one operation at `to` (8-aligned, room checked by the caller) and returns the bytes written. */
uint64_t mshm_op_write(void *to, uint32_t bucket, unsigned kind, const void *key, uint16_t key_size,
                       const void *value, uint32_t value_size);

/* Which operations a source may contain. */
enum mshm_ops_source { MSHM_OPS_COMMIT = 1, MSHM_OPS_ONE_CALL = 2, MSHM_OPS_LOG = 3 };

/* Checks that the private, immutable bytes [ops, ops + size) are exactly `count` well-formed operations of kinds that
 * `source` may contain, ordered as above, padding zero, sizes within limits. Returns MSHM_OK or MSHM_INVALID. Never
 * reads beyond size. Bucket ids and inline limits are the caller's to check against the catalogue. */
int mshm_ops_validate(const void *ops, uint64_t size, uint64_t count, enum mshm_ops_source source);

#endif
