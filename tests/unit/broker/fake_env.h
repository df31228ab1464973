/* fake_env.h - an environment in plain memory for tests of the broker's core, and clients that speak to it.
 *
 * Files, clock and chance are memory; an append, a read or a job ends when the core polls, unless completions are held.
 * The bytes of a read arrive, and a job runs, only then: who looks earlier sees rubbish. What a
 * client does goes through the same functions of mshm/protocol.h that libmace uses, on a segment that broker and client
 * share by sharing the address.
 */
#ifndef FAKE_ENV_H
#define FAKE_ENV_H

#include "core.h"
#include "core_parts.h"
#include "mshm/protocol.h"

enum { FAKE_FILES = 256, FAKE_COMPLETIONS = 8192, FAKE_WAKES = 256, FAKE_LINE = 256 };

struct env_file {
    char name[64];
    uint8_t *bytes;
    uint64_t size, capacity;
    bool exists;
};

/* Something under way: an append (done already), a read or a job (done when it is polled). */
struct fake_operation {
    uint64_t tag;
    int64_t result;        /* an error, or of what is done */
    struct env_file *file; /* a read */
    uint64_t offset;
    void *to;
    size_t size;
    int (*job)(void *argument);
    void *argument;
};

struct fake_client;

struct fake {
    struct env env;
    struct env_file files[FAKE_FILES];
    struct fake_operation operations[FAKE_COMPLETIONS]; /* in the order of their start */
    unsigned completion_count;
    uint64_t now_ns, random_state;

    bool hold;             /* completions stay where they are */
    bool backwards;        /* what was started last ends first */
    int append_error;      /* what the next appends end with: 0 or -errno */
    int preallocate_error; /* what the next preallocations return */
    int store_back_error;  /* what backing of the store returns */
    int arena_back_error;
    unsigned
        read_fail; /* this many-th file_read_start from now (1 = the next) ends with read_error; 0: none */
    unsigned
        read_short; /* this many-th file_read_start from now brings half of its bytes; 0: none */
    unsigned
        file_read_fail; /* this many-th blocking file_read from now returns read_error; 0: none */
    int read_error;     /* -EIO at first */
    int open_error, sync_error, directory_sync_error; /* what the next ones return */
    unsigned appends, syncs, reads, file_reads;
    uint64_t file_capacity; /* bytes a file can hold */

    unsigned int *woken[FAKE_WAKES]; /* words that env.wake was called for */
    unsigned wake_count;
    unsigned lines;
    char line[FAKE_LINE]; /* the newest line of the log of events */

    struct core_options options;
    void *store;
    uint64_t store_size;
    struct core *core;
};

/* One attached client: the handle that the core knows it by. */
struct fake_client {
    struct fake *fake;
    struct mshm_session *segment;
    struct mshm_producer producer;
    struct session *session;
    uint64_t arena; /* next free byte; falls back to 0 when the ring is empty */
    uint8_t reply[MSHM_MESSAGE_MAX];
    size_t reply_size;
    unsigned replies;
    bool freed; /* env.session_free was called */
};

void fake_init(struct fake *fake);
void fake_fini(struct fake *fake);
/* Memory for a store, as fake_start takes it. */
void *fake_memory(uint64_t size);
/* Starts a broker's core on the files as they are: core_create and core_recover. */
int fake_start(struct fake *fake);
/* The process is gone: the core's memory, nothing of the files. */
void fake_kill(struct fake *fake);
/* One turn; time goes on by 10 microseconds. */
bool fake_step(struct fake *fake);
/* Turns until nothing is done any more, at most 10,000. */
void fake_run(struct fake *fake);
/* Time goes on by `ms`, then the core runs. */
void fake_wait(struct fake *fake, unsigned ms);

struct fake_client *fake_attach(struct fake *fake, uint32_t flags);
/* Forgets a client after the core was told of its end. */
void fake_client_free(struct fake_client *client);

/* Publishes a request with these operations; returns its sequence. lane < 0: ONE_CALL. */
uint64_t fake_publish(struct fake_client *client, int lane, const void *ops, uint64_t size,
                      uint64_t count, unsigned flags);
/* A whole transaction of one put (value NULL: delete) at a lane's snapshot, answered: its status. */
int fake_put(struct fake_client *client, uint32_t bucket, const char *key, const char *value);
int fake_one_call(struct fake_client *client, uint32_t bucket, unsigned kind, const char *key,
                  const char *value);
/* Steps until the request is answered; its status. -1: not answered after 10,000 turns. */
int fake_answer(struct fake_client *client, uint64_t sequence, mshm_timestamp *timestamp);
bool fake_answered(struct fake_client *client, uint64_t sequence, int *status,
                   mshm_timestamp *timestamp);
/* Begins (registers a snapshot in the lane) and ends. */
mshm_timestamp fake_begin(struct fake_client *client, unsigned lane);
void fake_end(struct fake_client *client, unsigned lane);
/* Asks for a page: the request's sequence; or has it read in: the answer. */
uint64_t fake_publish_page_in(struct fake_client *client, mshm_pid pid);
int fake_page_in(struct fake_client *client, mshm_pid pid);
/* Reads as a client does, with pages read in where they are missing, value as a string of at most 255 bytes; snapshot 0: newest. */
int fake_get(struct fake_client *client, unsigned lane, uint32_t bucket, const char *key,
             mshm_timestamp snapshot, char value[256]);

/* Sends a control message and takes the reply: its status; 1 = none came. */
int fake_control(struct fake_client *client, const void *message, size_t size);
int fake_bucket(struct fake_client *client, unsigned kind, const char *name,
                struct mshm_bucket_message *reply);
/* The id of the bucket "default". */
uint32_t fake_default(struct fake *fake);

#endif
