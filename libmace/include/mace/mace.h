/* mace/mace.h - the public interface of Mace, a key-value storage engine shared by the processes of one machine.
 *
 * A database is a directory. One process, the broker (mace-broker), is its only writer; mace_open starts it when none
 * answers. Programs that link this library map the broker's memory read-only and answer their own reads from it; a
 * commit travels to the broker as one request.
 *
 *     mace *db;
 *     mace_bucket *bucket;
 *     mace_txn *txn;
 *
 *     mace_open("/var/lib/example", NULL, &db);
 *     mace_bucket_open(db, "default", &bucket);
 *     mace_begin(db, 0, &txn);
 *     mace_put(txn, bucket, "key", 3, "value", 5);
 *     mace_commit(txn);                                   // durable when it returns MACE_OK
 *     mace_bucket_close(bucket);
 *     mace_close(db);
 *
 * Rules that hold for every function, and are not repeated below:
 *
 * Status.     A function that can fail returns int: MACE_OK or a negative code. On failure output arguments are left
 *             alone; the one exception is the size that comes with MACE_BUFFER_TOO_SMALL. A failed read or write inside a
 *             transaction changes nothing and leaves the transaction usable. A NULL where a handle or an output is
 *             required, and an unknown flag bit, are MACE_INVALID. Functions that return void accept NULL.
 * Manners.    No function prints, exits or aborts, or touches signal handlers or the host's children. Every descriptor
 *             of the library is close-on-exec.
 * Threads.    A `mace` and a `mace_bucket` may be used by any number of threads at once. A `mace_txn`, and the cursors
 *             inside it, belong to one thread at a time; they may move between threads with the usual synchronisation.
 * Fork.       A child opens its own `mace`. An inherited handle returns MACE_FORKED from every function that returns
 *             int; it may be closed, committed or aborted, which ends the child's copy and leaves the parent's alone.
 * Memory.     Keys and values that are passed in are copied before the function returns, and may alias slices that the
 *             library handed out. Slices that are handed out are read-only and belong to the library; each function says
 *             how long they live. Handles are freed by their close function (or mace_commit, mace_abort) only.
 * Blocking.   Reads of a transaction never wait for the broker or for a writer. Commits, the one-call writes and the
 *             calls on a `mace` wait for the broker's answer.
 * Signals.    A call interrupted by a signal handler goes on. Calls are not async-signal-safe: one made by a handler that
 *             interrupted another call either works or returns MACE_INVALID; a bucket or a cursor is then closed with
 *             its mace or transaction, and a mace that is closed there may keep its memory. None closes the mace whose
 *             call it interrupted. After a longjmp out of a call the mace can be closed, and not much else.
 * Lost.       When the broker goes away, open transactions, cursors and tickets carry the loss (MACE_BROKER_LOST); every
 *             call on the `mace` itself attaches again, starting a broker when that is allowed. Bucket handles stay
 *             valid.
 *
 * The header is C11, and usable from C++.
 */
#ifndef MACE_MACE_H
#define MACE_MACE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MACE_API __attribute__((visibility("default")))
#else
#define MACE_API
#endif

/* ---------------------------------------------------------------------------------------------------- Types */

typedef struct mace mace;               /* an attached database; safe to share between threads */
typedef struct mace_bucket mace_bucket; /* an open bucket, a named key space; safe to share */
typedef struct mace_txn mace_txn;       /* a transaction; used by one thread at a time */
typedef struct mace_cursor mace_cursor; /* an ordered walk inside a transaction; the same */

/* Bytes that somebody else owns. */
typedef struct mace_slice {
    const void *data; /* may be NULL when size is 0 */
    size_t size;      /* bytes */
} mace_slice;

/* An asynchronous commit, between mace_commit_async and mace_wait. Opaque but for `timestamp`: after mace_wait returned
 * MACE_OK the commit timestamp; 0: wrote nothing. */
typedef struct mace_ticket {
    uint64_t sequence;
    uint64_t incarnation;
    uint64_t timestamp;
    uint64_t reserved;
} mace_ticket;

/* The keys that a cursor walks; an empty slice is no bound on that side. */
typedef struct mace_range {
    mace_slice lower;
    mace_slice upper;
    unsigned flags; /* MACE_LOWER_OPEN, MACE_UPPER_CLOSED, MACE_RANGE_PREFIX */
} mace_range;

/* --------------------------------------------------------------------------------------------------- Status */

enum {
    MACE_OK = 0,
    MACE_NOT_FOUND = -1001,        /* no such key, bucket, database or broker program */
    MACE_EXISTS = -1002,           /* the key or bucket is there already */
    MACE_CONFLICT = -1003,         /* another transaction committed first; begin again */
    MACE_INVALID = -1004,          /* an argument, flag or state that this call does not accept */
    MACE_TOO_BIG = -1005,          /* key, value or transaction */
    MACE_BUFFER_TOO_SMALL = -1006, /* the size needed was returned */
    MACE_READ_ONLY = -1007,        /* a write on something opened read-only */
    MACE_SNAPSHOT_EXPIRED = -1008, /* the snapshot kept too many old versions; begin again */
    MACE_BROKER_LOST = -1009,      /* the broker is gone; from a commit: certainly not applied */
    MACE_UNKNOWN_OUTCOME = -1010,  /* a commit went unanswered; perhaps applied */
    MACE_BUSY = -1011,             /* try again */
    MACE_FULL = -1012,             /* no room on disk or in the cache; reads still work */
    MACE_IO = -1013,               /* the operating system reported an input/output error */
    MACE_CORRUPT = -1014,          /* damaged data was found */
    MACE_VERSION = -1015,   /* library, broker, file format or struct size differ in version */
    MACE_DENIED = -1016,    /* permission */
    MACE_NO_MEMORY = -1017, /* this process could not allocate or map memory */
    MACE_FORKED = -1018,    /* a handle inherited across fork was used in the child */
    MACE_LIMIT = -1019      /* sessions, buckets, open transactions or descriptors */
};

/* The meaning of a status for a person: one line of English without a full stop. Never NULL, also for numbers that are
 * no status. Static storage. Any thread. */
MACE_API const char *mace_strerror(int status);

/* The library's version, "major.minor.patch". Static storage. Any thread. */
MACE_API const char *mace_version(void);

/* --------------------------------------------------------------------------------------------------- Limits */

#define MACE_MAX_KEY_SIZE 4096u           /* bytes; the smallest key has 1 */
#define MACE_MAX_VALUE_SIZE (1024u << 20) /* bytes that the interface allows; see mace_put */
#define MACE_MAX_BUCKET_NAME 255u         /* bytes */
#define MACE_MAX_TICKETS 65536u           /* outcomes of asynchronous commits that are kept */

/* ------------------------------------------------------------------------------------------------- Database */

/* Flags of mace_begin; the two durability levels also for mace_options.durability. */
enum {
    MACE_RDONLY = 1,       /* no writes; reads only */
    MACE_SERIALIZABLE = 2, /* not offered by this version: MACE_INVALID */
    MACE_SYNC = 4,         /* on return the commit survives power loss */
    MACE_OS = 8            /* on return the commit survives the death of any process */
};

/* How to open a database. Fill with mace_options_init, then change.
 *
 *  size                sizeof(mace_options) of the caller
 *  create              1 (default): make the directory and the database when missing; the parent must exist
 *  read_only           1: every transaction is MACE_RDONLY; bucket create, drop and alter are MACE_READ_ONLY. Default 0
 *  start_broker        1 (default): start mace-broker when none answers
 *  broker_path         the program to start. NULL (default): $MACE_BROKER, then in the tree that the library was loaded
 *                      from and in its install prefix (bin, libexec), then PATH
 *  connect_timeout_ms  milliseconds until mace_open, or attaching again, gives up. Default 10000
 *  commit_timeout_ms   milliseconds to wait for a commit's answer; on expiry MACE_UNKNOWN_OUTCOME. Default 0: as long as
 *                      the broker lives
 *  durability          MACE_SYNC (default) or MACE_OS, for transactions that name none and for one-call writes
 *  cache_size          bytes; used only when this call starts the broker. Default 0: a quarter of the memory
 *  idle_exit_ms        milliseconds from the end of the last session until a broker that this call starts leaves.
 *                      Default 10000; 0: never
 */
typedef struct mace_options {
    size_t size;
    int create;
    int read_only;
    int start_broker;
    const char *broker_path;
    unsigned connect_timeout_ms;
    unsigned commit_timeout_ms;
    unsigned durability;
    uint64_t cache_size;
    unsigned idle_exit_ms;
} mace_options;

/* Sets `size` and the defaults. */
MACE_API void mace_options_init(mace_options *options);

/* Attaches to the database in the directory `path`, starting its broker when none answers and options allow it.
 *
 * path     directory; relative paths, spaces and paths longer than a socket address all work. A relative path is
 *          resolved during this call; a later chdir does no harm.
 * options  NULL: the defaults. Not kept; broker_path is copied.
 * db       receives the handle. One handle per process and database is enough; several are allowed, each is a session.
 *
 * Waits at most connect_timeout_ms, recovery of the database included. Any thread. A failed open leaves nothing behind
 * in this process. A broker that it started stays in this process's cgroup, has its own session and no descriptor of
 * this process, and is never a child that this process has to wait for.
 *
 * MACE_DENIED       directory or socket are not permitted to this user, also when the broker being started says so.
 * MACE_NOT_FOUND    nothing is there and `create` is 0; the parent directory is missing; no broker program was found.
 * MACE_INVALID      `path` is NULL, empty or not a directory; an option has no such value.
 * MACE_BROKER_LOST  no broker answers and `start_broker` is 0; or none answered in time.
 * MACE_VERSION      library, broker or file format differ; `size` of the options is unknown.
 * MACE_CORRUPT      the database is damaged; the broker refuses to serve it, and changed nothing.
 * MACE_LIMIT        too many sessions are attached, or this process has no descriptor left.
 * MACE_FULL         no room on disk for the database, or no memory for the cache.
 * MACE_NO_MEMORY, MACE_IO
 */
MACE_API int mace_open(const char *path, const mace_options *options, mace **db);

/* Detaches and frees the handle. Aborts transactions and closes cursors and buckets that are still open: their handles
 * are gone. Asynchronous commits that were handed over are carried out; nobody can wait for them any more. No other
 * thread may be inside a call on `db` or on what was opened through it. May wait shortly for the broker's good-bye. */
MACE_API void mace_close(mace *db);

/* Makes everything durable that was acknowledged before the call, by any process, at whatever level. Any thread.
 * MACE_BROKER_LOST (what was acknowledged at level OS survived if the machine did; call again), MACE_IO, MACE_FORKED;
 * and the failures of mace_open, because the call attaches again. */
MACE_API int mace_sync(mace *db);

/* Takes a checkpoint: on return one that is newer than the call is durable, so a start has nothing of before the call to
 * replay. Others go on meanwhile. Any thread. As mace_sync, and MACE_FULL: the disk has no room for it; MACE_IO
 * also: more pages than can be waited for cannot be read; it is tried again. */
MACE_API int mace_checkpoint(mace *db);

/* Figures about the broker and the database, for people; no promise hangs on them. Counters (they only grow) count since
 * the broker started, gauges are of now. The struct grows at its end in later versions. */
typedef struct mace_stat {
    size_t size; /* sizeof(mace_stat); set by mace_stat_init */

    uint64_t broker_pid;  /* process id of the broker, as it sees itself */
    uint64_t incarnation; /* number of this start of the broker; differs between any two starts */

    uint64_t commits;             /* counter: commits acknowledged */
    uint64_t commits_sync;        /* counter: of them at level SYNC */
    uint64_t conflicts;           /* counter: commits refused because of a conflict */
    uint64_t refused;             /* counter: requests refused for any other reason */
    uint64_t operations;          /* counter: puts and deletes applied */
    uint64_t batches;             /* counter: groups of commits that were published together */
    uint64_t log_bytes;           /* counter: bytes appended to the log */
    uint64_t log_writes;          /* counter: write calls for the log */
    uint64_t log_syncs;           /* counter: syncs of the log */
    uint64_t log_segments;        /* gauge: log segments on disk */
    uint64_t replayed;            /* counter: commits replayed at start */
    uint64_t visible;             /* gauge: newest visible commit timestamp */
    uint64_t log_recycled;        /* counter: log segments made from older ones */
    uint64_t log_removed;         /* counter: log segments removed, covered by a checkpoint */
    uint64_t checkpoints;         /* counter: checkpoints that count */
    uint64_t checkpoint_cut;      /* gauge: newest commit in the last checkpoint */
    uint64_t data_bytes;          /* counter: bytes appended to data files */
    uint64_t data_live;           /* gauge: bytes of data files that are in use */
    uint64_t data_total;          /* gauge: bytes of data files */
    uint64_t pages_corrupt;       /* counter: pages found damaged on disk */
    uint64_t pages_stray;         /* gauge: unreadable pages whose writes wait */
    uint64_t dirty_bytes;         /* gauge: bytes of frames that are not on disk yet */
    uint64_t sealed_bytes;        /* gauge: bytes of frames that the checkpoint under way holds */
    uint64_t pages_resident;      /* gauge: pages in memory */
    uint64_t evictions;           /* counter: pages that left memory */
    uint64_t page_reads;          /* counter: pages read in */
    uint64_t blind_writes;        /* counter: writes to leaves that were not in memory */
    uint64_t cache_size;          /* gauge: bytes of frames configured */
    uint64_t cache_backed;        /* gauge: bytes of frames backed by memory */
    uint64_t cache_used;          /* gauge: bytes of frames in use, retired ones included */
    uint64_t cache_retired;       /* gauge: bytes of frames waiting for readers to leave */
    uint64_t history_bytes;       /* gauge: bytes of frames that hold history */
    uint64_t pages_leaf;          /* gauge: leaf pages */
    uint64_t pages_inner;         /* gauge: inner pages */
    uint64_t pages_history;       /* gauge: history pages in memory */
    uint64_t pages_scratch;       /* gauge: history pages in the scratch file */
    uint64_t scratch_bytes;       /* gauge: bytes of the scratch file that are in use */
    uint64_t scratch_file;        /* gauge: bytes of the scratch file */
    uint64_t scratch_written;     /* counter: bytes written to the scratch file */
    uint64_t scratch_reads;       /* counter: history pages read in */
    uint64_t tree_height;         /* gauge: levels of the highest tree */
    uint64_t appends;             /* counter: versions appended to leaves */
    uint64_t consolidations;      /* counter: leaves rebuilt */
    uint64_t splits;              /* counter: pages split */
    uint64_t merges;              /* counter: pages merged with their neighbours */
    uint64_t versions_pruned;     /* counter: versions dropped because no snapshot needs them */
    uint64_t snapshots_expired;   /* counter: snapshots expired */
    uint64_t revocations;         /* counter: reads overruled because they stayed open too long */
    uint64_t sessions;            /* gauge: sessions attached */
    uint64_t sessions_total;      /* counter: sessions ever attached */
    uint64_t sessions_ended_dead; /* counter: sessions whose process died without closing */
    uint64_t sessions_ended_invalid; /* counter: sessions ended because of a malformed request */
    uint64_t snapshots;              /* gauge: snapshots registered at the last collection */
    uint64_t buckets;                /* gauge: buckets */
    uint64_t doorbells;              /* counter: times the broker was woken by a client */
    uint64_t wakes;                  /* counter: waiting threads woken */
    uint64_t loops;                  /* counter: turns of the broker's loop */
    uint64_t io_uring;               /* gauge: 1: io_uring, 0: POSIX calls */
    uint64_t huge_pages;             /* gauge: 1: the store is on huge pages */

    /* Latencies in the broker, nanoseconds; half, 99 % and all of the cases are at or below. 0: no case yet. */
    uint64_t commit_p50_ns; /* from copying a request in to its answer, level OS */
    uint64_t commit_p99_ns;
    uint64_t commit_max_ns;
    uint64_t commit_sync_p50_ns; /* the same, level SYNC */
    uint64_t commit_sync_p99_ns;
    uint64_t commit_sync_max_ns;
    uint64_t log_sync_p50_ns; /* one write and sync of the log */
    uint64_t log_sync_p99_ns;
    uint64_t log_sync_max_ns;
    uint64_t checkpoint_pause_p50_ns, checkpoint_pause_p99_ns, checkpoint_pause_max_ns;

    uint64_t disk_stalls;     /* counter: requests that the disk did not answer for a second */
    uint64_t disk_unanswered; /* gauge: of them those that are still waited for */
    uint64_t direct_io;       /* gauge: 1: data files are read and written past the page cache */
} mace_stat;

/* Sets `size` and zeroes the rest. */
MACE_API void mace_stat_init(mace_stat *stat);

/* Fills `stat` from the shared figures, without asking the broker. Figures are read one after the other and need not
 * belong to one moment. Any thread. MACE_VERSION (`size` unknown), MACE_FORKED; and the failures of mace_open, because the
 * call attaches again when the broker is gone. */
MACE_API int mace_stat_read(mace *db, mace_stat *stat);

/* How a figure is distributed, since the broker started. The struct grows at its end in later versions. */
typedef struct mace_histogram {
    size_t size;      /* sizeof of the struct that the library knows */
    const char *name; /* the names stay as they are in later versions */
    const char *unit; /* "nanoseconds" or "count" */
    const char *text; /* what is measured */
    uint64_t count;   /* values measured: the sum of `counts` */
    uint64_t sum;     /* of the values; read a moment later, it may hold a few more */
    uint64_t max;     /* the greatest value */
    unsigned buckets;
    const uint64_t *
        bounds; /* the greatest value that falls into each bucket, ascending; the last is UINT64_MAX */
    const uint64_t *counts; /* values in each bucket */
} mace_histogram;

/* Calls `each` once for every histogram that the broker keeps, in an order that stays the same. What the struct points to
 * lives until `each` returns. A value other than 0 from `each` ends the list and is returned. Any thread. Failures as
 * mace_stat_read. */
MACE_API int mace_histogram_list(mace *db, int (*each)(const mace_histogram *histogram, void *arg),
                                 void *arg);

/* One attached session, as its broker sees it. The struct grows at its end in later versions. */
typedef struct mace_session_info {
    size_t size;     /* sizeof of the struct that the library knows */
    uint64_t number; /* of the session, ascending in order of attaching */
    uint64_t pid,
        uid; /* of the process; pid in the broker's namespace, for people, not an identity */
    uint64_t read_only;       /* 1: opened with read_only */
    uint64_t age_ns;          /* nanoseconds since it attached */
    uint64_t snapshots;       /* open transactions that hold a snapshot */
    uint64_t oldest_snapshot; /* commit timestamp of the oldest one, 0: none */
    uint64_t oldest_age_ns;   /* nanoseconds since that one was first seen */
    uint64_t commits, conflicts;
    uint64_t gets, scans; /* keys read, leaves scanned: by the process's own count */
    uint64_t pending;     /* requests that are not answered yet */
} mace_session_info;

/* Calls `each` for every attached session, the caller's own included, ascending by number; `info` is valid during the
 * call only. A non-zero return of `each` stops the walk and is returned. For finding out who holds a snapshot for long.
 * Any thread. MACE_OK at the end, MACE_FORKED; and the failures of mace_open, because the call attaches again. */
MACE_API int mace_session_list(mace *db, int (*each)(const mace_session_info *info, void *arg),
                               void *arg);

/* -------------------------------------------------------------------------------------------------- Buckets */

enum {
    MACE_COMPRESS_NONE = 1,
    MACE_COMPRESS_ZSTD = 2 /* pages are compressed when they are written */
};

/* Properties of a bucket; 0 means the default (in mace_bucket_alter: unchanged). page_size is a power of two from 4096 to
 * 65536, 8192 by default. Where the data is much larger than the cache, 4096 keeps twice as many hot places in it: a third
 * more gets. Where all of it fits, 8192 is faster. */
typedef struct mace_bucket_options {
    size_t size;             /* sizeof(mace_bucket_options); set by mace_bucket_options_init */
    uint32_t page_size;      /* bytes: target size of a leaf, see above; fixed at creation */
    uint32_t inline_limit;   /* bytes: larger values stand outside the leaf; at most 8192 */
    uint32_t compression;    /* MACE_COMPRESS_NONE (default) or MACE_COMPRESS_ZSTD */
    uint32_t backpressure;   /* reserved: 0 */
    uint32_t merge_operator; /* reserved: 0; fixed at creation */
} mace_bucket_options;

/* Sets `size` and zeroes the rest. */
MACE_API void mace_bucket_options_init(mace_bucket_options *options);

/* Bucket names are 1 to 255 bytes of valid UTF-8, NUL-terminated; anything else is MACE_INVALID. The bucket "default"
 * always exists. Creating, dropping and altering are commits of their own, always durable on return, independent of any
 * open transaction. Up to 1024 buckets exist at once. All of these calls: any thread; they attach again when the broker is
 * gone, so they can also fail as mace_open does, and return MACE_UNKNOWN_OUTCOME when the broker went away in the middle
 * of a change (open or list the bucket to find out). */

/* Creates a bucket and opens it. options: NULL for the defaults. The handle is closed with mace_bucket_close.
 * MACE_EXISTS, MACE_INVALID (name or options), MACE_READ_ONLY, MACE_VERSION (`size` unknown), MACE_LIMIT (too many
 * buckets), MACE_FULL, MACE_NO_MEMORY, MACE_FORKED. */
MACE_API int mace_bucket_create(mace *db, const char *name, const mace_bucket_options *options,
                                mace_bucket **bucket);

/* Opens a bucket. Handles are counted: each open needs its own close. MACE_NOT_FOUND, MACE_INVALID, MACE_NO_MEMORY,
 * MACE_FORKED. */
MACE_API int mace_bucket_open(mace *db, const char *name, mace_bucket **bucket);

/* Gives a handle back. Safe while open transactions and cursors use the bucket: they hold a count of their own. The
 * caller does not pass this handle to any call afterwards. Any thread. */
MACE_API void mace_bucket_close(mace_bucket *bucket);

/* Drops a bucket and everything in it; durable on return, the space comes back in the background. Transactions with older
 * snapshots may go on reading it; every other use of a handle of it returns MACE_NOT_FOUND, also after a bucket of the
 * same name was created. MACE_NOT_FOUND, MACE_INVALID (the name, or "default"), MACE_READ_ONLY, MACE_FULL,
 * MACE_FORKED. */
MACE_API int mace_bucket_drop(mace *db, const char *name);

/* Calls `each` with the name of every bucket, ascending by memcmp; `name` is valid during the call only. A non-zero
 * return of `each` stops the walk and is returned. Buckets that are created or dropped meanwhile may be met or not.
 * `each` may call anything but mace_close. MACE_OK at the end, MACE_NO_MEMORY, MACE_FORKED. */
MACE_API int mace_bucket_list(mace *db, int (*each)(const char *name, void *arg), void *arg);

/* Changes the properties of a bucket that are not 0 in `options`; existing pages follow when they are rewritten.
 * MACE_NOT_FOUND, MACE_INVALID (also: a property that is fixed at creation and differs), MACE_READ_ONLY, MACE_VERSION,
 * MACE_FULL, MACE_FORKED. */
MACE_API int mace_bucket_alter(mace *db, const char *name, const mace_bucket_options *options);

/* --------------------------------------------------------------------------------------------- Transactions */

/* A transaction reads one snapshot, everything that was committed when it began and nothing later, and its own writes.
 * It may touch several buckets. Its writes appear to others all at once, at commit, or never. Isolation is snapshot
 * isolation: of two transactions that overlap in time and write the same key, the second to commit gets MACE_CONFLICT;
 * write skew (each reads what the other writes) is possible.
 */

/* Begins a transaction on the newest snapshot. Attaches again first when the broker is gone.
 *
 * flags  0, MACE_RDONLY, or one of MACE_SYNC and MACE_OS in place of the handle's durability.
 * txn    receives the transaction; it ends with mace_commit, mace_commit_ts, mace_commit_async or mace_abort.
 *
 * Any thread; does not wait for the broker, except to attach. MACE_INVALID (both levels at once, MACE_SERIALIZABLE,
 * unknown flags), MACE_LIMIT (128 transactions of this handle are open), MACE_NO_MEMORY, MACE_FORKED; MACE_IO (the
 * disk of an earlier broker failed and lost commits that this process has seen: it would go back in time); and the
 * failures of mace_open, because the call attaches again. On a handle that was opened read_only every transaction is
 * MACE_RDONLY. */
MACE_API int mace_begin(mace *db, unsigned flags, mace_txn **txn);

/* Commits and always ends the transaction, whatever it returns: handle, cursors and slices of it are gone. MACE_OK means
 * applied, visible to every transaction that begins from now on, and safe at the transaction's level. A transaction that
 * wrote nothing commits without asking the broker.
 *
 * MACE_CONFLICT          a key that it wrote was written by a transaction that committed after its snapshot.
 * MACE_TOO_BIG           more than one commit may carry: 64 MiB of keys and values, and no more than an eighth of the cache.
 * MACE_FULL              no room on disk or in the cache.
 * MACE_NOT_FOUND         a bucket that it wrote to was dropped.
 * MACE_SNAPSHOT_EXPIRED  its snapshot was expired.
 * MACE_BROKER_LOST       the broker went away; certainly not applied.
 * MACE_UNKNOWN_OUTCOME   the broker went away or commit_timeout_ms passed, and whether it was applied is not known, or
 *                        not yet; read to find out.
 * MACE_NO_MEMORY         not applied.
 * MACE_IO, MACE_CORRUPT  what is on disk of a key that it wrote cannot be read, or (MACE_IO) of so many that writing has to
 *                        wait for it; not applied.
 * MACE_FORKED            the child's copy is gone; the parent's transaction is untouched.
 * With every other status than MACE_OK and MACE_UNKNOWN_OUTCOME nothing was applied. */
MACE_API int mace_commit(mace_txn *txn);

/* The same, and tells the commit timestamp: its place in commit order, 0 when it wrote nothing. */
MACE_API int mace_commit_ts(mace_txn *txn, uint64_t *timestamp);

/* Ends the transaction and forgets its writes. Handle, cursors and slices of it are gone. Never waits. */
MACE_API void mace_abort(mace_txn *txn);

/* Moves a MACE_RDONLY transaction to the newest snapshot, allocating nothing. Slices of it end; its cursors stay open,
 * unpositioned, as if fresh. MACE_INVALID (not MACE_RDONLY), MACE_BROKER_LOST (abort and begin again; the transaction
 * keeps its old snapshot), MACE_FORKED. */
MACE_API int mace_renew(mace_txn *txn);

/* The commit timestamp that the transaction reads at: it sees exactly the commits up to this one. Never goes back from
 * one begin to the next within a process. 0 for NULL. */
MACE_API uint64_t mace_txn_snapshot(const mace_txn *txn);

/* Hands the commit to the broker, ends the transaction, and returns without waiting for the outcome; it waits only while
 * the request ring is full. Asynchronous commits of one thread are carried out in their order.
 *
 * ticket  receives what mace_wait needs. Its outcome is kept until 65,536 later ones of this handle.
 *
 * Any status other than MACE_OK is the final outcome, as from mace_commit; the transaction has ended and the ticket is
 * left alone. A transaction that wrote nothing gives a ticket that mace_wait answers at once. */
MACE_API int mace_commit_async(mace_txn *txn, mace_ticket *ticket);

/* Waits for the outcome of an asynchronous commit and returns what mace_commit would have returned; on MACE_OK fills
 * ticket->timestamp. Any thread, once per ticket: a second wait, a zeroed ticket, a ticket of another handle, and an
 * outcome no longer kept are MACE_INVALID. After MACE_UNKNOWN_OUTCOME because of commit_timeout_ms the ticket may be waited for again. */
MACE_API int mace_wait(mace *db, mace_ticket *ticket);

/* --------------------------------------------------------------------------------- Reads inside a transaction */

/* Keys are 1 to 4096 bytes of any content, ordered by memcmp, a shorter key before its extensions. In every call key size
 * 0 is MACE_INVALID and above 4096 is MACE_TOO_BIG. The status codes that every read can return beside its own:
 *
 * MACE_INVALID           the bucket belongs to another handle.
 * MACE_NOT_FOUND         the bucket was dropped before the snapshot; or no such key.
 * MACE_SNAPSHOT_EXPIRED  the snapshot was expired; every further read and write returns it. mace_renew takes a new one.
 * MACE_BROKER_LOST       the broker is gone; reads may also go on as before.
 * MACE_CORRUPT           the page that covers the key is damaged.
 * MACE_NO_MEMORY, MACE_FORKED
 */

/* Finds the value of a key.
 * value  receives the bytes; NULL: only the status is wanted. The slice is valid until the next mace_get or mace_get_many
 *        on the same transaction, or its end; writes and cursor moves do not end it. */
MACE_API int mace_get(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size,
                      mace_slice *value);

/* Finds the value of a key and copies it into `buffer`.
 * capacity    bytes of `buffer`; buffer may be NULL when it is 0.
 * value_size  receives the value's size in bytes, also with MACE_BUFFER_TOO_SMALL, where `buffer` is left alone. May be
 *             NULL. */
MACE_API int mace_get_into(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size,
                           void *buffer, size_t capacity, size_t *value_size);

/* Finds the values of `count` keys, at one snapshot as all reads of the transaction. Key i's own status is statuses[i], its
 * value, when MACE_OK, values[i]; values[i] is left alone otherwise. The slices live as those of mace_get. Returns MACE_OK
 * when every key was looked up, found or not; a failure that concerns the whole call is returned and nothing is filled. */
MACE_API int mace_get_many(mace_txn *txn, mace_bucket *bucket, size_t count, const mace_slice *keys,
                           mace_slice *values, int *statuses);

/* -------------------------------------------------------------------------------- Writes inside a transaction */

/* Writes are collected in this process until commit. Preconditions are decided on the transaction's snapshot and its own
 * writes, and the conflict check at commit makes them hold. Value size 0 is legal (NULL, 0 too) and is a value. The status
 * codes that every write can return beside its own:
 *
 * MACE_READ_ONLY         the transaction is MACE_RDONLY.
 * MACE_INVALID           key size 0; NULL with a size; the bucket belongs to another handle.
 * MACE_TOO_BIG           key above 4096 bytes, value above 1 GiB; in this version: above 8192 bytes or the bucket's
 *                        inline_limit, because every value stands in a leaf. Also: more than one commit may carry.
 * MACE_NOT_FOUND         the bucket was dropped.
 * MACE_CONFLICT          already seen that commit must fail; commit returns it as well.
 * MACE_SNAPSHOT_EXPIRED, MACE_BROKER_LOST, MACE_CORRUPT, MACE_NO_MEMORY, MACE_FORKED
 */

/* Inserts the key or replaces its value. */
MACE_API int mace_put(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size,
                      const void *value, size_t value_size);

/* As mace_put, but MACE_EXISTS if the key is there. */
MACE_API int mace_insert(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size,
                         const void *value, size_t value_size);

/* As mace_put, but MACE_NOT_FOUND if the key is not there. */
MACE_API int mace_update(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size,
                         const void *value, size_t value_size);

/* Deletes the key. MACE_NOT_FOUND if it is not there. */
MACE_API int mace_delete(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size);

/* Adds an operand for the bucket's merge operator. No bucket has one in this version: MACE_INVALID. */
MACE_API int mace_merge(mace_txn *txn, mace_bucket *bucket, const void *key, size_t key_size,
                        const void *value, size_t value_size);

/* ------------------------------------------------------------------------------------------- One-call forms */

/* One operation on the newest state, without a transaction, at the handle's durability. The broker evaluates the
 * precondition at the operation's place in commit order, so these never return MACE_CONFLICT. Any thread. They attach again
 * when the broker is gone; a write that went unanswered is sent again only when it is certain that it was not applied;
 * otherwise its true result is returned, or MACE_UNKNOWN_OUTCOME. Statuses as in the transaction's forms, without
 * MACE_CONFLICT and MACE_SNAPSHOT_EXPIRED, with MACE_FULL and MACE_UNKNOWN_OUTCOME, and the failures of mace_open. A write
 * on a handle that was opened read_only is MACE_READ_ONLY. */

MACE_API int mace_put1(mace *db, mace_bucket *bucket, const void *key, size_t key_size,
                       const void *value, size_t value_size);
MACE_API int mace_insert1(mace *db, mace_bucket *bucket, const void *key, size_t key_size,
                          const void *value, size_t value_size);
MACE_API int mace_update1(mace *db, mace_bucket *bucket, const void *key, size_t key_size,
                          const void *value, size_t value_size);
MACE_API int mace_merge1(mace *db, mace_bucket *bucket, const void *key, size_t key_size,
                         const void *value, size_t value_size);
MACE_API int mace_delete1(mace *db, mace_bucket *bucket, const void *key, size_t key_size);

/* Copies the newest committed value of a key into `buffer`, without a request and without a snapshot. Arguments as in
 * mace_get_into. */
MACE_API int mace_get1(mace *db, mace_bucket *bucket, const void *key, size_t key_size,
                       void *buffer, size_t capacity, size_t *value_size);

/* -------------------------------------------------------------------------------------------------- Cursors */

/* Flags of mace_range; 0: lower bound included, upper bound excluded. */
enum {
    MACE_LOWER_OPEN = 1,   /* the lower bound itself is outside */
    MACE_UPPER_CLOSED = 2, /* the upper bound itself is inside */
    MACE_RANGE_PREFIX = 4  /* the keys that begin with `lower`; `upper` is empty, no other flag */
};

/* Makes `range` the keys that begin with `prefix`; an empty prefix is everything. The library computes the end, carries
 * over bytes 0xff included. `range` points at the caller's bytes, which stay valid until mace_cursor_open returns. */
MACE_API void mace_range_prefix(mace_range *range, const void *prefix, size_t size);

/* Opens a cursor on a bucket inside a transaction; it stands before the first and after the last entry.
 * range   NULL: everything. Bounds are copied and may have any size; an inverted range is empty.
 * cursor  receives the handle; mace_cursor_close, or the end of the transaction, closes it.
 * As a read, and MACE_INVALID (flags). */
MACE_API int mace_cursor_open(mace_txn *txn, mace_bucket *bucket, const mace_range *range,
                              mace_cursor **cursor);

/* Closes a cursor; its slices end. Not after the end of its transaction: then the handle is gone already. */
MACE_API void mace_cursor_close(mace_cursor *cursor);

/* Moves. Each returns MACE_OK with the entry that the cursor now stands on, or MACE_NOT_FOUND past either end, from where
 * the opposite move comes back in. Next on a fresh cursor is first, prev is last. Each move finds the next key beyond the
 * current one among the snapshot and the transaction's own writes as they are at that moment: deleting the current entry is
 * fine, and keys inserted ahead are met.
 *
 * key, value  receive slices that live until the next move of this cursor, its close, or the end of its transaction,
 *             whatever else is called. NULL: not wanted; a walk over keys alone never touches large values.
 *
 * Other statuses as for reads; after one of them the cursor keeps its place. */
MACE_API int mace_cursor_first(mace_cursor *cursor, mace_slice *key, mace_slice *value);
MACE_API int mace_cursor_last(mace_cursor *cursor, mace_slice *key, mace_slice *value);
MACE_API int mace_cursor_next(mace_cursor *cursor, mace_slice *key, mace_slice *value);
MACE_API int mace_cursor_prev(mace_cursor *cursor, mace_slice *key, mace_slice *value);

/* Moves to the first key >= `key` within the range. The key may have any size, 0 included; below the range it is the
 * range's first entry, above it MACE_NOT_FOUND. */
MACE_API int mace_cursor_seek(mace_cursor *cursor, const void *key, size_t key_size,
                              mace_slice *found_key, mace_slice *found_value);

#ifdef __cplusplus
}
#endif

#endif
