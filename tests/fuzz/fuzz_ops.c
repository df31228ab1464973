/* fuzz_ops.c - what a hostile client may put into its ring and arena: a request of eight words, then operations.
 *
 * Input: one byte that chooses the source of the operations, the 64 bytes of a request, and the arena. The request goes
 * through mshm_consumer_peek, the bytes it names through mshm_ops_validate; what both accept is walked as the broker
 * would walk it, and must be what the rules say. A check that fails aborts.
 */
#include <stdlib.h>
#include <string.h>

#include "mshm/ops.h"
#include "mshm/page.h"
#include "mshm/protocol.h"

enum { ARENA = 64 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
demand(int condition)
{
    if (!condition)
        abort();
}

/* Walks accepted operations with the accessors and holds them against the rules, stated once more. */
static void
walk(const uint8_t *ops, uint64_t size, uint64_t count, enum mshm_ops_source source)
{
    const struct mshm_op *op = (const struct mshm_op *)ops, *before = NULL;
    const uint8_t *end = ops + size;
    for (uint64_t i = 0; i < count; i++) {
        demand((const uint8_t *)(op + 1) <= end);
        demand(op->key_size >= 1 && op->key_size <= MSHM_MAX_KEY);
        demand(op->kind < MSHM_OP_BUCKET_CREATE || source == MSHM_OPS_LOG);
        demand(op->kind < MSHM_OP_INSERT || source != MSHM_OPS_COMMIT);
        demand((const uint8_t *)mshm_op_next(op) <= end);
        if (before != NULL && before->bucket == op->bucket) {
            int order = mshm_key_compare(mshm_op_key(before), before->key_size, mshm_op_key(op),
                                         op->key_size);
            demand(order < 0 ||
                   (order == 0 && before->kind == MSHM_OP_MERGE && op->kind == MSHM_OP_MERGE));
        } else if (before != NULL) {
            demand(before->bucket < op->bucket);
        }
        before = op;
        op = mshm_op_next(op);
    }
    demand((const uint8_t *)op == end);
}

/* The bytes stand in memory of exactly their size, so that a read beyond them is seen. */
static void
validate(const uint8_t *ops, uint64_t size, uint64_t count, enum mshm_ops_source source)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    demand(copy != NULL);
    if (size > 0)
        memcpy(copy, ops, size);
    if (mshm_ops_validate(copy, size, count, source) == MSHM_OK)
        walk(copy, size, count, source);
    free(copy);
}

/* The bytes of an input as operations alone, with the count that their own sizes suggest, so that the fuzzer gets past
 * the count soon. */
static void
validate_plain(const uint8_t *ops, uint64_t size, enum mshm_ops_source source)
{
    uint64_t at = 0, count = 0;
    while (size - at >= sizeof(struct mshm_op)) {
        struct mshm_op op;
        memcpy(&op, ops + at, sizeof(op));
        count++;
        if (mshm_op_size(op.key_size, op.value_size) > size - at)
            break;
        at += mshm_op_size(op.key_size, op.value_size);
    }
    validate(ops, size, count, source);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct {
        struct mshm_session session;
        uint8_t rest[8192 + ARENA];
    } memory;
    struct mshm_consumer consumer;
    struct mshm_request_copy request;
    if (size < 1 + sizeof(struct mshm_request) || size > ARENA)
        return 0;
    enum mshm_ops_source source = (enum mshm_ops_source)(data[0] % 3 + 1);
    uint8_t *arena = (uint8_t *)&memory + MSHM_SESSION_ARENA;
    data++;
    size--;
    memcpy(&memory.session.ring[0], data, sizeof(struct mshm_request));
    data += sizeof(struct mshm_request);
    size -= sizeof(struct mshm_request);
    if (size > 0)
        memcpy(arena, data, size);
    mshm_consumer_init(&consumer, &memory.session, size);
    if (mshm_consumer_peek(&consumer, &request) == MSHM_OK) {
        demand(request.arena_size <= size && request.arena_offset <= size - request.arena_size);
        demand(request.lane < MSHM_MAX_LANES && request.sequence == 1);
        demand(request.op_count * 24 <= request.arena_size);
        validate(mshm_consumer_arena(&consumer, &request), request.arena_size, request.op_count,
                 request.kind == MSHM_REQUEST_ONE_CALL ? MSHM_OPS_ONE_CALL : MSHM_OPS_COMMIT);
    }
    validate_plain(data, size, source);
    return 0;
}
