/* core_parts.h - what stands inside struct core, shared by the files of the core alone (core.c, commit.c, control.c,
 * sessions.c, recovery.c). */
#ifndef CORE_PARTS_H
#define CORE_PARTS_H

#include "catalogue.h"
#include "core.h"
#include "frames.h"
#include "manifest.h"
#include "mshm/protocol.h"
#include "outcome.h"
#include "snapshots.h"
#include "tree.h"
#include "wal.h"

struct commit_queue; /* commit.c: commits applied and not yet answered, in order */
struct sessions;     /* sessions.c: the table of attached clients */

struct core {
    struct core_options options;
    const struct env *env;
    uint8_t *base; /* the store, writable */
    struct mshm_store *store;
    struct mshm_figures *figures;
    struct mshm_view view;
    struct mshm_store_geometry geometry;
    struct frames *frames;
    struct snapshots snapshots;
    struct tree *tree;
    struct catalogue *catalogue;
    struct wal *wal; /* NULL until recovered */
    struct outcomes *outcomes;
    struct manifest manifest;
    struct sessions *sessions;
    struct commit_queue *commits;
    mshm_timestamp applied; /* newest commit applied to the index */
    mshm_timestamp visible; /* newest published */
    uint64_t maintained_ns; /* last pruning and reclaiming */
    bool stopping, stopped, poisoned;
};

/* Tags of completions. */
enum { CORE_TAG_WAL = 0x100 };

/* recovery.c: the work of core_recover. */
int recovery_run(struct core *core, bool create, char *why, size_t why_size);

#endif
