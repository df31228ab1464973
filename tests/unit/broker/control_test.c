/* Requests over the socket: each message's bytes are hostile, replies come in commit order. */
#include "control.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fake_env.h"
#include "mshm/ops.h"
#include "mshm/status.h"

static struct fake fake;
static struct fake_client *a, *b;
static uint32_t bucket;

static void
setup(void)
{
    fake_init(&fake);
    ck_assert_int_eq(fake_start(&fake), MSHM_OK);
    bucket = fake_default(&fake);
    a = fake_attach(&fake, 0);
    b = fake_attach(&fake, 0);
}

static void
teardown(void)
{
    const char *why = "";
    ck_assert_msg(core_check(fake.core, &why) == MSHM_OK, "%s", why);
    fake_client_free(a);
    fake_client_free(b);
    fake_fini(&fake);
}

static struct mshm_message
head_of(unsigned kind, size_t size)
{
    return (struct mshm_message){.magic = MSHM_MESSAGE_MAGIC,
                                 .kind = (uint16_t)kind,
                                 .version = MSHM_LAYOUT_VERSION,
                                 .size = (uint32_t)size};
}

static int
send_head(struct fake_client *client, unsigned kind)
{
    struct mshm_message head = head_of(kind, sizeof(head));
    return core_control(fake.core, client->session, &head, sizeof(head));
}

static int
send_bucket(struct fake_client *client, unsigned kind, const char *name)
{
    struct mshm_bucket_message message = {.head = head_of(kind, sizeof(message)),
                                          .name_size = (uint16_t)strlen(name)};
    strcpy(message.name, name);
    return core_control(fake.core, client->session, &message, sizeof(message));
}

static int
reply_status(const struct fake_client *client)
{
    return ((const struct mshm_message *)client->reply)->status;
}

START_TEST(a_message_that_does_not_fit_its_kind_is_refused)
{
    uint8_t bytes[MSHM_MESSAGE_MAX] = {0};
    struct mshm_message head = head_of(MSHM_MESSAGE_SYNC, sizeof(head));
    for (size_t size = 0; size < sizeof(head); size++)
        ck_assert_int_eq(core_control(fake.core, a->session, &head, size), MSHM_INVALID);
    struct mshm_message wrong = head;
    wrong.magic++;
    ck_assert_int_eq(core_control(fake.core, a->session, &wrong, sizeof(wrong)), MSHM_INVALID);
    wrong = head;
    wrong.version++;
    ck_assert_int_eq(core_control(fake.core, a->session, &wrong, sizeof(wrong)), MSHM_INVALID);
    wrong = head;
    wrong.size++;
    ck_assert_int_eq(core_control(fake.core, a->session, &wrong, sizeof(wrong)), MSHM_INVALID);
    for (unsigned kind = 0; kind < 300; kind++) { /* one byte too many for every kind */
        size_t sizes[] = {17, 24, 25, 57, sizeof(struct mshm_bucket_message) + 1, sizeof(bytes)};
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            if (sizes[i] == 24 &&
                (kind == MSHM_MESSAGE_ARENA_GROW || kind == MSHM_MESSAGE_SESSIONS))
                continue; /* that is what they are */
            head = head_of(kind, sizes[i]);
            memcpy(bytes, &head, sizeof(head));
            ck_assert_int_eq(core_control(fake.core, a->session, bytes, sizes[i]), MSHM_INVALID);
        }
    }
    ck_assert_uint_eq(a->replies, 0);
}
END_TEST

START_TEST(hello_and_replies_are_not_requests)
{
    uint8_t bytes[sizeof(struct mshm_welcome)] = {0};
    struct mshm_message head = head_of(MSHM_MESSAGE_HELLO, sizeof(struct mshm_hello));
    memcpy(bytes, &head, sizeof(head));
    ck_assert_int_eq(core_control(fake.core, a->session, bytes, head.size), MSHM_INVALID);
}
END_TEST

START_TEST(a_name_longer_than_its_field_is_invalid)
{
    struct mshm_bucket_message message = {.head =
                                              head_of(MSHM_MESSAGE_BUCKET_CREATE, sizeof(message))};
    static const unsigned kinds[] = {MSHM_MESSAGE_BUCKET_CREATE, MSHM_MESSAGE_BUCKET_OPEN,
                                     MSHM_MESSAGE_BUCKET_DROP, MSHM_MESSAGE_BUCKET_ALTER,
                                     MSHM_MESSAGE_BUCKET_LIST};
    memset(message.name, 'n', sizeof(message.name));
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        message.head.kind = (uint16_t)kinds[i];
        message.name_size = 256;
        ck_assert_int_eq(fake_control(a, &message, sizeof(message)), MSHM_INVALID);
        message.name_size = 65535;
        ck_assert_int_eq(fake_control(a, &message, sizeof(message)), MSHM_INVALID);
    }
    message.head.kind = MSHM_MESSAGE_BUCKET_CREATE;
    message.name_size = 255;
    ck_assert_int_eq(fake_control(a, &message, sizeof(message)), MSHM_OK);
}
END_TEST

START_TEST(a_second_request_before_the_reply_is_refused)
{
    fake.hold = true;
    ck_assert_int_eq(send_bucket(a, MSHM_MESSAGE_BUCKET_CREATE, "one"), MSHM_OK);
    ck_assert_int_eq(send_bucket(a, MSHM_MESSAGE_BUCKET_CREATE, "two"), MSHM_INVALID);
    fake.hold = false;
    fake_run(&fake);
    ck_assert_int_eq(reply_status(a), MSHM_OK);
}
END_TEST

START_TEST(the_reply_to_a_creation_comes_when_it_is_durable_and_visible)
{
    mshm_timestamp before = AO_load(&fake.core->store->visible);
    fake.hold = true;
    ck_assert_int_eq(send_bucket(a, MSHM_MESSAGE_BUCKET_CREATE, "new"), MSHM_OK);
    fake_run(&fake);
    ck_assert_uint_eq(a->replies, 0);
    /* Nobody builds on it before. */
    ck_assert_int_eq(send_bucket(b, MSHM_MESSAGE_BUCKET_OPEN, "new"), MSHM_OK);
    fake_run(&fake);
    ck_assert_uint_eq(b->replies, 0);
    ck_assert_uint_eq(AO_load(&fake.core->store->visible), before);
    fake.hold = false;
    fake_run(&fake);
    ck_assert_uint_eq(AO_load(&fake.core->store->visible), before + 1);
    ck_assert_int_eq(reply_status(a), MSHM_OK);
    ck_assert_int_eq(reply_status(b), MSHM_OK);
    const struct mshm_bucket_message *made = (void *)a->reply, *opened = (void *)b->reply;
    ck_assert_uint_eq(made->id, opened->id);
    ck_assert_uint_eq(made->place, opened->place);
    ck_assert_uint_eq(opened->head.kind, MSHM_MESSAGE_BUCKET_OPEN);
}
END_TEST

START_TEST(a_refusal_waits_for_what_it_is_based_on)
{
    fake.hold = true;
    ck_assert_int_eq(send_bucket(a, MSHM_MESSAGE_BUCKET_CREATE, "new"), MSHM_OK);
    ck_assert_int_eq(send_bucket(b, MSHM_MESSAGE_BUCKET_CREATE, "new"), MSHM_OK);
    fake_run(&fake);
    ck_assert_uint_eq(b->replies, 0);
    fake.hold = false;
    fake_run(&fake);
    ck_assert_int_eq(reply_status(a), MSHM_OK);
    ck_assert_int_eq(reply_status(b), MSHM_EXISTS);
}
END_TEST

START_TEST(a_change_that_finds_the_log_busy_is_done_later)
{
    _Alignas(8) uint8_t op[64]; /* smaller than what a creation logs: no gap is left for that */
    uint64_t size = mshm_op_write(op, bucket, MSHM_OP_PUT, "k", 1, "v", 1);
    fake.hold = true; /* the next segment is never ready */
    for (int i = 0; AO_load(&b->segment->head) == AO_load(&b->segment->tail); i++) {
        ck_assert_int_lt(i, 100000);
        fake_publish(b, -1, op, size, 1, 0);
        fake_step(&fake);
    }
    ck_assert_int_eq(send_bucket(a, MSHM_MESSAGE_BUCKET_CREATE, "new"), MSHM_OK);
    ck_assert_uint_eq(fake.core->sessions->controls_waiting, 1);
    fake_run(&fake);
    ck_assert_uint_eq(a->replies, 0);
    fake.hold = false;
    fake_run(&fake);
    ck_assert_uint_eq(a->replies, 1);
    ck_assert_int_eq(reply_status(a), MSHM_OK);
    ck_assert_uint_eq(fake.core->sessions->controls_waiting, 0);
}
END_TEST

START_TEST(a_session_that_ends_takes_its_waiting_request_along)
{
    fake.hold = true;
    ck_assert_int_eq(send_bucket(a, MSHM_MESSAGE_BUCKET_CREATE, "new"), MSHM_OK);
    core_session_end(fake.core, a->session, false);
    fake_run(&fake);
    ck_assert(!a->freed);
    fake.hold = false;
    fake_run(&fake);
    ck_assert(a->freed);
    ck_assert_int_eq(fake_bucket(b, MSHM_MESSAGE_BUCKET_OPEN, "new", NULL), MSHM_OK);
}
END_TEST

START_TEST(an_arena_grows_up_to_its_limit_and_never_shrinks)
{
    struct mshm_value_message message = {.head = head_of(MSHM_MESSAGE_ARENA_GROW, sizeof(message)),
                                         .value = 5 << 20};
    const struct mshm_value_message *reply = (void *)a->reply;
    ck_assert_int_eq(fake_control(a, &message, sizeof(message)), MSHM_OK);
    ck_assert_uint_eq(reply->value, 5 << 20);
    ck_assert_uint_eq(AO_load(&a->segment->arena_size), 5 << 20);
    message.value = 1;
    ck_assert_int_eq(fake_control(a, &message, sizeof(message)), MSHM_OK);
    ck_assert_uint_eq(reply->value, 5 << 20);
    fake.arena_back_error = -ENOSPC;
    message.value = 8 << 20;
    ck_assert_int_eq(fake_control(a, &message, sizeof(message)), MSHM_NO_MEMORY);
    ck_assert_uint_eq(AO_load(&a->segment->arena_size), 5 << 20);
    fake.arena_back_error = 0;
    message.value = UINT64_MAX;
    ck_assert_int_eq(fake_control(a, &message, sizeof(message)), MSHM_OK);
    ck_assert_uint_eq(reply->value, MSHM_ARENA_MAX);
    /* What the client writes there does not count. */
    AO_store(&a->segment->arena_size, UINT64_MAX);
    ck_assert_uint_eq(a->session->consumer.arena_size, MSHM_ARENA_MAX);
}
END_TEST

START_TEST(sync_and_checkpoint_wait_for_the_disk)
{
    static const unsigned kinds[] = {MSHM_MESSAGE_SYNC, MSHM_MESSAGE_CHECKPOINT};
    ck_assert_int_eq(fake_put(a, bucket, "k", "v"), MSHM_OK);
    fake.hold = true;
    unsigned syncs = fake.syncs;
    ck_assert_int_eq(send_head(a, kinds[_i]), MSHM_OK);
    fake_run(&fake);
    ck_assert_uint_eq(a->replies, 0);
    if (kinds[_i] == MSHM_MESSAGE_SYNC)
        ck_assert_uint_eq(fake.syncs, syncs + 1);
    fake.hold = false;
    fake_run(&fake);
    ck_assert_int_eq(reply_status(a), MSHM_OK);
    ck_assert_uint_gt(fake.syncs, syncs);
    if (kinds[_i] == MSHM_MESSAGE_CHECKPOINT)
        ck_assert_uint_ge(fake.core->manifest.cut.timestamp, fake.core->visible);
}
END_TEST

START_TEST(a_sync_that_fails_is_an_error)
{
    ck_assert_int_eq(fake_put(a, bucket, "k", "v"), MSHM_OK);
    fake.append_error = -EIO;
    ck_assert_int_eq(send_head(a, MSHM_MESSAGE_SYNC), MSHM_OK);
    ck_assert_int_eq(send_bucket(b, MSHM_MESSAGE_BUCKET_CREATE, "new"), MSHM_OK);
    fake_run(&fake);
    ck_assert_int_eq(reply_status(a), MSHM_IO);
    ck_assert_int_eq(reply_status(b), MSHM_UNKNOWN_OUTCOME);
}
END_TEST

START_TEST(sessions_are_listed_by_number)
{
    struct mshm_value_message message = {.head = head_of(MSHM_MESSAGE_SESSIONS, sizeof(message))};
    const struct mshm_session_info *info = (void *)a->reply;
    fake_begin(b, 3);
    ck_assert_int_eq(fake_put(b, bucket, "k", "v"), MSHM_OK);
    ck_assert_int_eq(fake_put(b, bucket, "k", "w"), MSHM_OK);
    fake_wait(&fake, 5);
    fake_put(b, bucket, "k", "x");
    fake_wait(&fake, 5);
    ck_assert_int_eq(fake_control(a, &message, sizeof(message)), MSHM_OK);
    ck_assert_uint_eq(a->reply_size, sizeof(*info));
    ck_assert_uint_eq(info->number, core_session_number(a->session));
    message.value = info->number;
    ck_assert_int_eq(fake_control(a, &message, sizeof(message)), MSHM_OK);
    ck_assert_uint_eq(info->number, core_session_number(b->session));
    ck_assert_uint_eq(info->pid, 77);
    ck_assert_uint_eq(info->uid, 1000);
    ck_assert_uint_eq(info->commits, 3);
    ck_assert_uint_eq(info->snapshots, 1);
    ck_assert_uint_eq(info->oldest_snapshot, AO_load(&b->segment->lanes[3].snapshot));
    ck_assert_uint_gt(info->oldest_age_ns, 0);
    message.value = info->number;
    ck_assert_int_eq(fake_control(a, &message, sizeof(message)), MSHM_NOT_FOUND);
}
END_TEST

START_TEST(bye_is_answered_when_the_session_is_over)
{
    int status;
    mshm_timestamp timestamp;
    _Alignas(8) uint8_t op[64];
    uint64_t size = mshm_op_write(op, bucket, MSHM_OP_PUT, "k", 1, "v", 1);
    fake.hold = true;
    uint64_t sequence = fake_publish(a, -1, op, size, 1, MSHM_REQUEST_LEVEL_SYNC);
    ck_assert_int_eq(send_head(a, MSHM_MESSAGE_BYE), MSHM_OK);
    fake_run(&fake);
    ck_assert_uint_eq(a->replies, 0);
    ck_assert(!a->freed);
    core_session_end(fake.core, a->session, false); /* the client hangs up meanwhile */
    fake.hold = false;
    fake_run(&fake);
    ck_assert_uint_eq(a->replies, 1);
    ck_assert_uint_eq(((struct mshm_message *)a->reply)->kind, MSHM_MESSAGE_BYE);
    ck_assert_int_eq(reply_status(a), MSHM_OK);
    ck_assert(a->freed);
    ck_assert(fake_answered(a, sequence, &status, &timestamp));
    ck_assert_uint_eq(AO_load(&fake.core->figures->counters.sessions_ended_dead), 0);
}
END_TEST

int
main(void)
{
    TCase *tcase = tcase_create("control");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, a_message_that_does_not_fit_its_kind_is_refused);
    tcase_add_test(tcase, hello_and_replies_are_not_requests);
    tcase_add_test(tcase, a_name_longer_than_its_field_is_invalid);
    tcase_add_test(tcase, a_second_request_before_the_reply_is_refused);
    tcase_add_test(tcase, the_reply_to_a_creation_comes_when_it_is_durable_and_visible);
    tcase_add_test(tcase, a_refusal_waits_for_what_it_is_based_on);
    tcase_add_test(tcase, a_change_that_finds_the_log_busy_is_done_later);
    tcase_add_test(tcase, a_session_that_ends_takes_its_waiting_request_along);
    tcase_add_test(tcase, an_arena_grows_up_to_its_limit_and_never_shrinks);
    tcase_add_loop_test(tcase, sync_and_checkpoint_wait_for_the_disk, 0, 2);
    tcase_add_test(tcase, a_sync_that_fails_is_an_error);
    tcase_add_test(tcase, sessions_are_listed_by_number);
    tcase_add_test(tcase, bye_is_answered_when_the_session_is_over);
    Suite *suite = suite_create("control");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
