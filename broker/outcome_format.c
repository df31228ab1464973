/* outcome_format.c - the commits of a token in few bytes. */
#include "outcome_format.h"

static uint8_t *
number_write(uint8_t *at, uint64_t number)
{
    while (number >= 0x80) {
        *at++ = (uint8_t)(number | 0x80);
        number >>= 7;
    }
    *at++ = (uint8_t)number;
    return at;
}

void
outcome_write_begin(struct outcome_writer *writer, uint8_t *to, uint32_t count, uint64_t sequence,
                    uint64_t timestamp)
{
    to = number_write(to, count);
    to = number_write(to, sequence);
    to = number_write(to, timestamp);
    *writer = (struct outcome_writer){to, sequence, timestamp};
}

void
outcome_write_next(struct outcome_writer *writer, uint64_t sequence, uint64_t timestamp)
{
    uint64_t step = timestamp - writer->timestamp;
    writer->at = number_write(writer->at, sequence - writer->sequence - 1);
    writer->at = number_write(writer->at, step << 1 ^ (step >> 63 != 0 ? UINT64_MAX : 0));
    writer->sequence = sequence;
    writer->timestamp = timestamp;
}

static bool
number_read(struct outcome_reader *reader, uint64_t *number)
{
    *number = 0;
    for (unsigned shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
        uint8_t byte = *reader->at++;
        if (shift == 63 && byte > 1)
            return false;
        *number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* One commit less; the last one has to end the bytes. */
static bool
commit_taken(struct outcome_reader *reader)
{
    reader->left--;
    reader->good = reader->timestamp != 0 &&
                   reader->sequence - reader->first < MSHM_RING_CAPACITY &&
                   (reader->left != 0 || reader->at == reader->end);
    return reader->good;
}

bool
outcome_read_begin(struct outcome_reader *reader, const uint8_t *bytes, uint64_t size)
{
    *reader = (struct outcome_reader){.at = bytes, .end = bytes + size};
    if (!number_read(reader, &reader->left) || reader->left == 0 ||
        reader->left > MSHM_RING_CAPACITY || !number_read(reader, &reader->first) ||
        !number_read(reader, &reader->timestamp))
        return false;
    reader->sequence = reader->first;
    return commit_taken(reader);
}

bool
outcome_read_next(struct outcome_reader *reader)
{
    uint64_t step, change;
    if (!reader->good || reader->left == 0)
        return false;
    reader->good = false;
    if (!number_read(reader, &step) || !number_read(reader, &change) ||
        step >= MSHM_RING_CAPACITY || step >= UINT64_MAX - reader->sequence)
        return false;
    reader->sequence += step + 1;
    reader->timestamp += change >> 1 ^ ((change & 1) != 0 ? UINT64_MAX : 0);
    return commit_taken(reader);
}
