/* mshm/message.h - what travels over mace.sock (SOCK_SEQPACKET: one message per packet).
 *
 * Versions are exchanged before any descriptor is passed. Descriptors only go from broker to client, all four in the
 * reply to HELLO; a truncated control message there is MSHM_LIMIT. A client has at most one request under way.
 * Layout of these structs is fixed for ever in the first 16 bytes of HELLO and its reply, so that any two versions can
 * tell each other what they are.
 */
#ifndef MSHM_MESSAGE_H
#define MSHM_MESSAGE_H

#include "mshm/base.h"

#define MSHM_MESSAGE_MAGIC 0x4d43534du /* "MSCM" */
enum { MSHM_MESSAGE_MAX = 4096 };

enum mshm_message_kind {
    MSHM_MESSAGE_HELLO =
        1, /* client: struct mshm_hello; reply: struct mshm_welcome + 4 descriptors */
    MSHM_MESSAGE_BUCKET_CREATE = 2, /* struct mshm_bucket_message */
    MSHM_MESSAGE_BUCKET_OPEN = 3,
    MSHM_MESSAGE_BUCKET_DROP = 4,
    MSHM_MESSAGE_BUCKET_ALTER = 5,
    MSHM_MESSAGE_BUCKET_LIST =
        6, /* the next name after the one given (memcmp order); NOT_FOUND at the end */
    MSHM_MESSAGE_ARENA_GROW = 7, /* value = bytes wanted; reply: value = bytes granted */
    MSHM_MESSAGE_SYNC = 8,       /* reply when everything acknowledged so far is durable */
    MSHM_MESSAGE_CHECKPOINT = 9,
    MSHM_MESSAGE_LOOKUP = 10, /* outcome of an unanswered commit: struct mshm_lookup */
    MSHM_MESSAGE_SESSIONS =
        11, /* reply: struct mshm_session_info of the first session with number > value */
    MSHM_MESSAGE_BYE =
        12, /* orderly end: the broker replies when the session's resources are free */
};

/* Head of every message. [16 bytes, fixed for ever] */
struct mshm_message {
    uint32_t magic;
    uint16_t kind;    /* a reply repeats the request's kind */
    uint16_t version; /* MSHM_LAYOUT_VERSION of the sender */
    int32_t status;   /* reply: status code */
    uint32_t size;    /* bytes of the whole message */
};
static_assert(sizeof(struct mshm_message) == 16, "message head");

enum { MSHM_HELLO_OBSERVER = 1, MSHM_HELLO_READ_ONLY = 2 };
struct mshm_hello {
    struct mshm_message head;
    uint32_t layout_hash;
    uint32_t flags;
    uint64_t features; /* 0 */
    uint64_t pid;      /* for people only */
};
/* status: OK; BUSY = recovering, ask again on the same connection after a moment; VERSION, LIMIT, DENIED, FULL... */
struct mshm_welcome {
    struct mshm_message head;
    uint32_t layout_hash;
    uint32_t commit_durability; /* reserved, 0 */
    uint64_t features;
    uint64_t incarnation;
    uint64_t session; /* number: with the incarnation the token of unanswered commits */
    uint64_t store_size, hints_size, session_size;
    uint8_t database_id[16];
    char text[256]; /* on failure: for a person, NUL-terminated */
};
/* Descriptors of the welcome, in this order. */
enum {
    MSHM_FD_STORE = 0,
    MSHM_FD_HINTS = 1,
    MSHM_FD_SESSION = 2,
    MSHM_FD_DOORBELL = 3,
    MSHM_FD_COUNT = 4
};

struct mshm_bucket_message {
    struct mshm_message head;
    uint64_t id;    /* reply */
    uint64_t place; /* reply: index in the catalogue */
    uint32_t page_size, inline_limit, compression, backpressure,
        merge_operator; /* 0 = default / unchanged */
    uint16_t reserved;
    uint16_t name_size;
    char name[256]; /* name_size bytes */
};
struct mshm_value_message {
    struct mshm_message head;
    uint64_t value;
};
enum mshm_outcome {
    MSHM_OUTCOME_UNKNOWN = 0,
    MSHM_OUTCOME_COMMITTED = 1,
    MSHM_OUTCOME_NOT_COMMITTED = 2
};
struct mshm_lookup {
    struct mshm_message head;
    uint64_t incarnation, session, sequence;
    uint64_t outcome;   /* reply: enum mshm_outcome */
    uint64_t timestamp; /* reply, when committed */
};
struct mshm_session_info {
    struct mshm_message head;
    uint64_t number, pid, uid;
    uint64_t flags;
    uint64_t age_ns;
    uint64_t snapshots;       /* lanes with a snapshot */
    uint64_t oldest_snapshot; /* timestamp, 0 = none */
    uint64_t oldest_age_ns;   /* how long it has been seen registered */
    uint64_t commits, conflicts, gets, scans;
    uint64_t pending; /* requests published and not yet answered */
};

#endif
