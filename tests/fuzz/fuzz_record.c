/* fuzz_record.c - the reader of the log on arbitrary bytes: the body of a segment with a good header, with the records
 * as they come or with their checksums and chain made right, so that what lies behind the checksum is reached, too; from
 * the start of the log or from a checkpoint's cut.
 *
 * First byte of the input: bit 0 mend the records, bit 1 the bytes replace the header, too, bit 2 with a cut, bits 3 to 7
 * its place in units of 64 bytes.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "mshm/ops.h"
#include "mshm/status.h"
#include "sim/sim_env.h"
#include "wal.h"
#include "wal_segment.h"

enum { SEGMENT_SIZE = 32768 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t id[16] = "fuzz";

/* What is handed on must be good operations: every byte of them is looked at. */
static int
look(void *argument, const struct wal_segment_header *segment, const struct wal_record *record,
     const void *ops, uint64_t ops_size, struct wal_position end)
{
    (void)end;
    uint64_t *sum = argument;
    const struct mshm_op *op = ops;
    uint32_t count = record->op_count_flags & WAL_OP_COUNT_MASK;
    assert(segment->segment == 1);
    for (uint32_t i = 0; i < count; i++, op = mshm_op_next(op)) {
        assert((const uint8_t *)op < (const uint8_t *)ops + ops_size);
        for (uint32_t k = 0; k < op->key_size; k++)
            *sum += mshm_op_key(op)[k];
        for (uint32_t k = 0; k < op->value_size; k++)
            *sum += mshm_op_value(op)[k];
    }
    assert((const uint8_t *)op == (const uint8_t *)ops + ops_size);
    return MSHM_OK;
}

static void
records_mend(const struct wal_segment_header *header, const struct wal_from *from, uint8_t *bytes)
{
    uint64_t offset = from->position.offset, timestamp = from->timestamp;
    uint32_t chain = from->chain;
    while (offset + sizeof(struct wal_record) <= SEGMENT_SIZE) {
        struct wal_record *record = (struct wal_record *)(bytes + offset);
        record->magic = WAL_RECORD_MAGIC;
        record->size &= ~15u;
        if (record->size < sizeof *record || record->size > SEGMENT_SIZE - offset)
            break;
        record->previous_crc = chain;
        record->timestamp = timestamp + ((record->op_count_flags & WAL_FLAG_MARK) == 0 ? 1 : 0);
        record->crc = wal_record_crc(header, offset, record);
        chain = record->crc;
        timestamp = record->timestamp;
        offset += record->size;
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > SEGMENT_SIZE - WAL_RECORDS_AT)
        return 0;
    uint64_t sum = 0;
    char why[128];
    struct wal_end end;
    struct sim_inode *inode;
    struct sim_env *sim = sim_env_create(1);
    struct wal_segment_header header = {.segment = 1,
                                        .incarnation = 1,
                                        .salt = 12345,
                                        .segment_size = SEGMENT_SIZE,
                                        .first_of_incarnation = 1};
    struct wal_from from = {.position = {1, WAL_RECORDS_AT}};
    if (data[0] & 4) {
        from = (struct wal_from){5, 77, {1, WAL_RECORDS_AT + (uint64_t)(data[0] >> 3) * 64}};
        header.continues_timestamp = from.timestamp;
        header.continues_crc = from.chain;
    }
    memcpy(header.database_id, id, sizeof id);
    wal_header_seal(&header);
    uint8_t *bytes = calloc(1, SEGMENT_SIZE);
    assert(bytes != NULL);
    memcpy(bytes, &header, sizeof header);
    memcpy(bytes + WAL_RECORDS_AT, data + 1, size - 1);
    if (data[0] & 1)
        records_mend(&header, &from, bytes);
    if (data[0] & 2) /* the header too */
        memcpy(bytes, data + 1, size - 1 < sizeof header ? size - 1 : sizeof header);
    sim_disk_create_directory(sim_env_disk(sim), "wal");
    int made = sim_disk_create_file(sim_env_disk(sim), "wal/0000000000000001.log", &inode);
    assert(made == 0);
    (void)made;
    sim_inode_write(inode, 0, bytes, SEGMENT_SIZE);
    int status = wal_read(sim_env_interface(sim), id, 0, &from, look, &sum, &end, why, sizeof why);
    assert(status == MSHM_OK || status == MSHM_CORRUPT || status == MSHM_VERSION);
    assert(status != MSHM_OK || !wal_position_before(end.next.end, from.position) ||
           from.timestamp == 0);
    (void)status;
    free(bytes);
    sim_env_destroy(sim);
    return 0;
}
