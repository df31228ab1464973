/* sweep_life.c - the broker, its client and what they owe each other. */
#include "fault/sweep_life.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fault/sweep.h"
#include "mshm/ops.h"
#include "mshm/status.h"

enum {
    TURNS = 20000,   /* until something has to have happened */
    HELD_TURNS = 200 /* until it does not happen for want of an append that is held */
};

struct life life;

/* --- lives --- */

int
life_start(void)
{
    char why[256] = "";

    life.fake.completion_count = 0;
    life.fake.store_size = core_store_size(&life.fake.options);
    life.fake.store = fake_memory(life.fake.store_size);
    int status = core_create(&life.fake.core, &life.fake.options, &life.fake.env, life.fake.store);
    if (status == MSHM_OK)
        status = core_recover(life.fake.core, true, why, sizeof why);
    if (status == MSHM_OK) {
        life.client = fake_attach(&life.fake, 0);
        life.bucket = fake_default(&life.fake);
        return status;
    }
    fake_kill(&life.fake);
    ck_assert_msg(status == MSHM_IO || status == MSHM_FULL || status == MSHM_NO_MEMORY ||
                      status == MSHM_LIMIT,
                  "a start was refused with %s: %s", mshm_strerror(status), why);
    return status;
}

void
life_die(void)
{
    fake_kill(&life.fake);
    fake_client_free(life.client);
    life.client = NULL;
}

/* --- reading --- */

static void
texts(unsigned commit, char key[16], char value[64])
{
    snprintf(key, 16, "key%u", commit % LIFE_KEYS);
    snprintf(value, 64, "commit %u of the sweep, which is a text of some length", commit);
}

/* True when it could be read; what was read is right. */
static bool
see_key(unsigned key_number)
{
    char key[16], value[256], wanted[64];

    texts(key_number, key, wanted);
    int status = fake_get(life.client, 0, life.bucket, key, 0, value);
    if (status == MSHM_NOT_FOUND) {
        ck_assert_msg(life.newest[key_number] == 0, "%s is not there", key);
        return true;
    }
    if (status != MSHM_OK)
        ck_assert_msg(sweep_met() && (status == MSHM_IO || status == MSHM_NO_MEMORY ||
                                      status == MSHM_LIMIT || status == -1),
                      "%s: %s", key, mshm_strerror(status));
    if (status != MSHM_OK)
        return false;
    texts(life.newest[key_number], key, wanted);
    if (life.newest[key_number] != 0 && strcmp(value, wanted) == 0)
        return true;
    texts(life.doubt, key, wanted);
    ck_assert_msg(life.doubt != 0 && life.doubt % LIFE_KEYS == key_number &&
                      strcmp(value, wanted) == 0,
                  "key %u has %s", key_number, value);
    return true;
}

/* Everything; with the fault gone all of it can be read. */
void
life_see_all(void)
{
    uint64_t visible = AO_load(&life.fake.core->store->visible);

    ck_assert_msg(visible == life.base + life.acked ||
                      (life.doubt != 0 && visible == life.base + life.acked + 1),
                  "%u commits were acknowledged, %d are there", life.acked,
                  (int)(visible - life.base));
    if (life.doubt != 0 && visible == life.base + life.acked + 1) {
        life.newest[life.doubt % LIFE_KEYS] = life.doubt;
        life.acked++;
    }
    life.doubt = 0;
    for (unsigned i = 0; i < LIFE_KEYS; i++)
        ck_assert_msg(see_key(i), "key %u cannot be read though the fault is over", i);
}

/* The broker has said that it cannot go on, or did not start: the next one does, once the fault is gone. */
void
life_restart(void)
{
    const char *why = "";

    if (life.fake.core != NULL)
        life_die();
    sweep_end();
    life.restarts++;
    ck_assert_int_eq(life_start(), MSHM_OK);
    if (life.acked == 0 && life.doubt == 0)
        life.base = AO_load(&life.fake.core->store->visible);
    life_see_all();
    ck_assert_msg(core_check(life.fake.core, &why) == MSHM_OK, "%s", why);
}

bool
life_poisoned(void)
{
    return life.fake.core == NULL || core_poisoned(life.fake.core);
}

/* --- writing --- */

/* The answer, or MSHM_BROKER_LOST when none will come. */
int
life_answer(uint64_t sequence)
{
    mshm_timestamp timestamp;
    int status;

    for (int i = 0; i < TURNS; i++) {
        if (fake_answered(life.client, sequence, &status, &timestamp))
            return status;
        if (life_poisoned() || (sweep_held() && i > HELD_TURNS))
            return MSHM_BROKER_LOST;
        fake_step(&life.fake);
    }
    ck_abort_msg("a commit is not answered");
}

int
life_put(bool sync)
{
    static const char filler[LIFE_FILLER];
    _Alignas(8) uint8_t ops[2048];
    char key[16], value[64];

    texts(++life.number, key, value);
    uint64_t size = mshm_op_write(ops, life.bucket, MSHM_OP_PUT, key, (uint16_t)strlen(key), value,
                                  (uint32_t)strlen(value));
    snprintf(key, sizeof key, "z%u", life.number % 7);
    size += mshm_op_write(ops + size, life.bucket, MSHM_OP_PUT, key, (uint16_t)strlen(key), filler,
                          LIFE_FILLER);
    fake_begin(life.client, 7);
    int status =
        life_answer(fake_publish(life.client, 7, ops, size, 2, sync ? MSHM_REQUEST_LEVEL_SYNC : 0));
    fake_end(life.client, 7);
    if (status == MSHM_OK) {
        life.newest[life.number % LIFE_KEYS] = life.number;
        life.acked++;
        return status;
    }
    ck_assert_msg(sweep_met(), "a commit without a fault: %s", mshm_strerror(status));
    if (status == MSHM_BROKER_LOST || status == MSHM_UNKNOWN_OUTCOME)
        life.doubt = life.number;
    else
        ck_assert_msg(status == MSHM_FULL || status == MSHM_IO || status == MSHM_NO_MEMORY ||
                          status == MSHM_LIMIT,
                      "a commit: %s", mshm_strerror(status));
    life.refused++;
    life.full += status == MSHM_FULL;
    return status;
}

/* Puts, and starts again when the broker says that it cannot go on. */
void
life_load(unsigned commits)
{
    for (unsigned i = 0; i < commits; i++) {
        life_put(i % 8 == 7);
        if (life_poisoned())
            life_restart();
    }
}

/* Asks for a checkpoint, and waits for a while: a full disk holds it up. */
int
life_checkpoint(void)
{
    struct mshm_message message = {.magic = MSHM_MESSAGE_MAGIC,
                                   .kind = MSHM_MESSAGE_CHECKPOINT,
                                   .version = MSHM_LAYOUT_VERSION,
                                   .size = sizeof message};
    unsigned replies = life.client->replies;

    ck_assert_int_eq(core_control(life.fake.core, life.client->session, &message, sizeof message),
                     MSHM_OK);
    for (int i = 0; i < 400 && life.client->replies == replies && !life_poisoned(); i++) {
        fake_step(&life.fake);
        if (i % 100 == 99)
            life.fake.now_ns += UINT64_C(300) * 1000 * 1000; /* it tries again now and then */
    }
    if (life_poisoned()) {
        life_restart();
        return MSHM_BROKER_LOST;
    }
    if (life.client->replies == replies)
        return MSHM_BUSY;
    return ((struct mshm_message *)life.client->reply)->status;
}

void
life_evict(void)
{
    fake_wait(&life.fake, 2000);
    if (life_poisoned())
        life_restart();
    while (pages_evict(life.fake.core->pages, UINT64_MAX,
                       life.fake.now_ns += UINT64_C(1000000000)) > 0)
        continue;
}

void
life_see_some(void)
{
    for (unsigned i = 0; i < LIFE_KEYS && life.doubt == 0; i++)
        if (!see_key(i)) {
            if (life_poisoned())
                life_restart();
            ck_assert_msg(see_key(i) || sweep_met(), "key %u cannot be read", i);
        }
}

void
life_begin(bool mapping)
{
    memset(&life, 0, sizeof life);
    fake_init(&life.fake);
    life.fake.file_capacity = LIFE_FILE_ROOM;
    life.fake.options.page_size = 4096;
    life.fake.options.map_capacity = 4096;
    life.fake.options.segment_size = 64 * 1024;
    life.fake.options.log_mapping = mapping;
    sweep_begin(&life.fake);
}

void
life_end(void)
{
    life_die();
    fake_fini(&life.fake);
}
