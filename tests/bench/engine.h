/* engine.h - what the comparison asks of every engine: the same work, the same keys and values.
 *
 * One handle per process (opened after fork); one thread per handle unless `threads` says that handles are shared.
 */
#ifndef BENCH_ENGINE_H
#define BENCH_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct engine_handle;

struct engine_setup {
    bool sync;          /* every commit durable; else it survives the death of its process only */
    uint64_t memory;    /* bytes that caches and write buffers may take; 0: plenty */
    uint64_t map;       /* bytes of address space where a database is mapped; 0: 8 GiB */
    bool direct;        /* reads and flushes past the kernel's page cache, where the engine can */
    uint32_t page_size; /* bytes of a leaf, where the engine lets its user choose; 0: its default */
};

struct engine {
    const char *name;
    bool processes; /* several processes may have it open at once */
    /* Opens (making it when missing) the database in `path`. NULL on failure. */
    struct engine_handle *(*open)(const char *path, const struct engine_setup *setup);
    void (*close)(struct engine_handle *handle);
    /* One put, one commit. */
    int (*put)(struct engine_handle *handle, const void *key, size_t key_size, const void *value,
               size_t value_size);
    /* `count` puts in one commit: keys and values stand one after the other. */
    int (*put_many)(struct engine_handle *handle, size_t count, const void *keys, size_t key_size,
                    const void *values, size_t value_size);
    /* Reading goes through one snapshot between read_begin and read_end. */
    int (*read_begin)(struct engine_handle *handle);
    int (*get)(struct engine_handle *handle, const void *key, size_t key_size, void *value,
               size_t capacity);
    /* Walks everything in order, touching key and value; returns the entries met. *sum takes bytes of both. */
    uint64_t (*scan)(struct engine_handle *handle, uint64_t *sum);
    void (*read_end)(struct engine_handle *handle);
    /* Hands a put over without waiting; drain waits for all. NULL where there is no such thing. */
    int (*put_async)(struct engine_handle *handle, const void *key, size_t key_size,
                     const void *value, size_t value_size);
    int (*drain)(struct engine_handle *handle);
    /* put_many without waiting for it; a few at most are under way. NULL: put_many. */
    int (*put_many_async)(struct engine_handle *handle, size_t count, const void *keys,
                          size_t key_size, const void *values, size_t value_size);

    /* --- for databases larger than memory; NULL in engines that bench_beyond does not run --- */

    /* One more handle of the same database for another thread; unshare gives it back. */
    struct engine_handle *(*share)(struct engine_handle *handle);
    void (*unshare)(struct engine_handle *handle);
    /* The newest value, without a snapshot that lasts. */
    int (*get_newest)(struct engine_handle *handle, const void *key, size_t key_size, void *value,
                      size_t capacity);
    /* `count` keys, one after the other, in the snapshot of read_begin: returns how many were found. */
    size_t (*get_many)(struct engine_handle *handle, size_t count, const void *keys,
                       size_t key_size);
    /* Up to `count` entries from the first key >= key on, newest state; returns the entries met. */
    size_t (*scan_from)(struct engine_handle *handle, const void *key, size_t key_size,
                        size_t count);
    /* Comes back when nothing is left to be written: flushed, compacted, checkpointed. */
    int (*settle)(struct engine_handle *handle);
    /* The process that writes the database's files; 0: the caller itself. */
    int (*writer)(struct engine_handle *handle);
};

extern const struct engine engine_mace, engine_lmdb, engine_rocksdb, engine_leveldb;

#endif
