/* shm/ops.c - writing one operation, and the check of operations that a stranger or a disk handed over. */
#include "mshm/ops.h"

#include <string.h>

#include "mshm/page.h"
#include "mshm/status.h"

uint64_t
mshm_op_write(void *to, uint32_t bucket, unsigned kind, const void *key, uint16_t key_size,
              const void *value, uint32_t value_size)
{
    struct mshm_op op = {
        .bucket = bucket,
        .value_size = value_size,
        .key_size = key_size,
        .kind = (uint8_t)kind,
    };
    uint8_t *at = to;
    uint64_t size = mshm_op_size(key_size, value_size);
    uint64_t used = sizeof(op) + (uint64_t)key_size + value_size;
    memcpy(at, &op, sizeof(op));
    memcpy(at + sizeof(op), key, key_size);
    if (value_size > 0)
        memcpy(at + sizeof(op) + key_size, value, value_size);
    memset(at + used, 0, (size_t)(size - used));
    return size;
}

static int
kind_allowed(unsigned kind, enum mshm_ops_source source)
{
    switch (kind) {
    case MSHM_OP_PUT:
    case MSHM_OP_DELETE:
    case MSHM_OP_MERGE:
        return 1;
    case MSHM_OP_INSERT:
    case MSHM_OP_UPDATE:
    case MSHM_OP_DELETE_EXISTING:
        return source == MSHM_OPS_ONE_CALL;
    case MSHM_OP_BUCKET_CREATE:
    case MSHM_OP_BUCKET_DROP:
    case MSHM_OP_BUCKET_ALTER:
        return source == MSHM_OPS_LOG;
    default:
        return 0;
    }
}

/* Is this header, with `left` bytes from its start, one that `source` may contain? */
static int
op_allowed(const struct mshm_op *op, uint64_t left, enum mshm_ops_source source)
{
    if (op->flags != 0 || op->reserved != 0 || !kind_allowed(op->kind, source))
        return 0;
    if (op->key_size == 0 || op->key_size > MSHM_MAX_KEY || op->value_size > MSHM_MAX_VALUE)
        return 0;
    if ((op->kind == MSHM_OP_DELETE || op->kind == MSHM_OP_DELETE_EXISTING) && op->value_size != 0)
        return 0;
    if (op->kind >= MSHM_OP_BUCKET_CREATE && op->key_size > MSHM_MAX_BUCKET_NAME)
        return 0;
    return mshm_op_size(op->key_size, op->value_size) <= left;
}

/* Does `op` come after `before`? Their keys stand at the given addresses. */
static int
op_follows(const struct mshm_op *before, const uint8_t *before_key, const struct mshm_op *op,
           const uint8_t *key)
{
    if (op->bucket != before->bucket)
        return op->bucket > before->bucket;
    int order = mshm_key_compare(before_key, before->key_size, key, op->key_size);
    return order < 0 || (order == 0 && before->kind == MSHM_OP_MERGE && op->kind == MSHM_OP_MERGE);
}

static int
padding_zero(const uint8_t *at, uint64_t used, uint64_t size)
{
    for (uint64_t i = used; i < size; i++)
        if (at[i] != 0)
            return 0;
    return 1;
}

/* The shape of the whole: an empty record is legal in the log only (it carries a durable mark). */
static int
count_allowed(uint64_t size, uint64_t count, enum mshm_ops_source source)
{
    if (count == 0)
        return source == MSHM_OPS_LOG && size == 0;
    return source != MSHM_OPS_ONE_CALL || count == 1;
}

int
mshm_ops_validate(const void *ops, uint64_t size, uint64_t count, enum mshm_ops_source source)
{
    const uint8_t *base = ops, *before_key = NULL;
    struct mshm_op op, before = {0};
    uint64_t at = 0;
    if (!count_allowed(size, count, source))
        return MSHM_INVALID;
    for (uint64_t i = 0; i < count; i++) {
        if (size - at < sizeof(op))
            return MSHM_INVALID;
        memcpy(&op, base + at, sizeof(op)); /* the bytes need no alignment */
        if (!op_allowed(&op, size - at, source))
            return MSHM_INVALID;
        const uint8_t *key = base + at + sizeof(op);
        if (before_key != NULL && !op_follows(&before, before_key, &op, key))
            return MSHM_INVALID;
        uint64_t op_size = mshm_op_size(op.key_size, op.value_size);
        if (!padding_zero(base + at, sizeof(op) + (uint64_t)op.key_size + op.value_size, op_size))
            return MSHM_INVALID;
        before = op;
        before_key = key;
        at += op_size;
    }
    return at == size ? MSHM_OK : MSHM_INVALID;
}
