/* sim_disk.h - a disk that forgets: files with a page cache before them, a name space with a journal behind it.
 *
 * Each file has what the processes see (cache) and what the platters hold (durable), compared by sectors of 512 bytes.
 * A sync makes the content as of its start durable; at any moment single dirty sectors may be written back. A power cut
 * leaves of each sector the durable or a later version, of names and sizes what was synced or, by chance, more. The
 * death of the process alone leaves the cache. After a failed sync the sectors it was about count as clean and are not
 * written again until they change, as on Linux.
 */
#ifndef SIM_DISK_H
#define SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIM_SECTOR = 512, SIM_NAME_MAX = 64 };

struct sim_random { /* splitmix64: the whole run follows from the seed */
    uint64_t state;
};
uint64_t sim_random_next(struct sim_random *random);
/* Below `bound`, which is not 0. */
uint64_t sim_random_below(struct sim_random *random, uint64_t bound);
/* True in `percent` of a hundred cases. */
bool sim_random_chance(struct sim_random *random, unsigned percent);

struct sim_sector_copy {
    uint64_t sector;
    bool written; /* a newer version went to the platters meanwhile, or this one did */
    uint8_t bytes[SIM_SECTOR];
};

/* The dirty sectors of a file at the moment a sync began. */
struct sim_snapshot {
    struct sim_sector_copy *copies;
    size_t count;
    uint64_t size; /* of the file */
};

struct sim_inode {
    uint8_t *cache, *durable; /* `capacity` bytes each */
    uint8_t **lost; /* per sector: content that a failed sync left looking clean, or NULL */
    uint64_t capacity, size, durable_size;
    uint32_t references; /* names (current or durable) and open files */
    bool mapped;
    struct sim_snapshot *snapshot; /* of the sync under way; owned by who syncs */
};

struct sim_disk;

struct sim_disk *sim_disk_create(struct sim_random *random);
void sim_disk_destroy(struct sim_disk *disk);

/* Names, as the processes see them: 0 or -errno. */
int sim_disk_create_file(struct sim_disk *disk, const char *name, struct sim_inode **inode);
/* A file without a name, for whoever holds it. */
struct sim_inode *sim_disk_create_unnamed(struct sim_disk *disk);
struct sim_inode *sim_disk_find(struct sim_disk *disk, const char *name); /* NULL: none */
int sim_disk_rename(struct sim_disk *disk, const char *from, const char *to);
int sim_disk_remove(struct sim_disk *disk, const char *name);
int sim_disk_create_directory(struct sim_disk *disk, const char *name);
bool sim_disk_is_directory(struct sim_disk *disk, const char *name);
int sim_disk_list(struct sim_disk *disk, const char *name,
                  int (*each)(const char *name, void *argument), void *argument);
void sim_disk_sync_directory(struct sim_disk *disk, const char *name);

void sim_inode_hold(struct sim_inode *inode);
void sim_inode_release(struct sim_disk *disk, struct sim_inode *inode);
/* Room for `size` bytes; the buffers of a mapped file never move. */
void sim_inode_reserve(struct sim_inode *inode, uint64_t size);
void sim_inode_write(struct sim_inode *inode, uint64_t offset, const void *from, size_t size);

/* The three steps of a sync. Failing leaves some sectors durable and all of them clean. */
void sim_sync_begin(struct sim_inode *inode, struct sim_snapshot *snapshot);
void sim_sync_end(struct sim_inode *inode, struct sim_snapshot *snapshot);
void sim_sync_fail(struct sim_disk *disk, struct sim_inode *inode, struct sim_snapshot *snapshot);
void sim_sync_forget(struct sim_inode *inode, struct sim_snapshot *snapshot);

/* Writes a few random dirty sectors back. */
void sim_disk_write_back(struct sim_disk *disk);
/* What is left when the power goes (or only the process): a new disk that nobody has open. The old one stays as it is,
 * so that a process that does not know yet that it is dead can go on with it. */
struct sim_disk *sim_disk_survivor(struct sim_disk *disk, bool power_cut);
/* Flips one bit of what both cache and platters hold of a file. */
void sim_disk_rot(struct sim_inode *inode, uint64_t offset, unsigned bit);
/* The same by name: 0; -ENOENT; -EINVAL: the file ends before the offset. */
int sim_disk_flip(struct sim_disk *disk, const char *name, uint64_t offset, unsigned bit);

#endif
