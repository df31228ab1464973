/* support/client.h - short forms of the public interface for tests: every call has to succeed unless its name says else.
 */
#ifndef SUPPORT_CLIENT_H
#define SUPPORT_CLIENT_H

#include <stdint.h>

#include "mace/mace.h"
#include "support/require.h"

/* Opens with start_broker off and level OS. */
mace *client_open(const char *path);
/* The same, starting a broker when none answers. */
mace *client_open_starting(const char *path, unsigned idle_exit_ms);
mace_bucket *client_bucket(mace *db, const char *name);

/* One-call forms with text keys and values; `put` returns the status. */
int client_put(mace *db, mace_bucket *bucket, const char *key, const char *value);
/* 1: the key has this value; 0: another one or none. */
int client_has(mace *db, mace_bucket *bucket, const char *key, const char *value);
int client_absent(mace *db, mace_bucket *bucket, const char *key);

/* Puts one key in a transaction with `flags` and commits; the commit's status. */
int client_commit_put(mace *db, mace_bucket *bucket, unsigned flags, const char *key,
                      const char *value, uint64_t *timestamp);

/* The newest commit that a transaction sees which begins now. */
uint64_t client_newest(mace *db);
mace_stat client_stat(mace *db);

#endif
