/* fault/image.h - a real file system of a test's own: ext4 in a file behind a loop device, mounted in a mount name space
 * that ends with this process. Its power can be cut, and its device be made to wait.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include <stdbool.h>

#include "support/scratch.h"

enum { IMAGE_SKIP = 77 /* exit status of a test that cannot run here */ };

struct image {
    char file[SCRATCH_PATH], mounted[SCRATCH_PATH]; /* the image; the directory it is mounted at */
    char device[32];
    int loop; /* of the device, which vanishes when nobody uses it any more; -1: none */
};

/* Makes directory/NAME.img with an empty file system of so many MiB, and mounts it at directory/NAME. NULL, or what this
 * machine does not allow; static storage. */
const char *image_create(struct image *image, const char *directory, const char *name,
                         unsigned size_mib);
/* Nothing on it is in use. */
void image_destroy(struct image *image);

/* The power goes: nothing reaches the device any more, every call that needs it fails. journal: what the file system's
 * journal has in memory goes to the device first. */
void image_cut(struct image *image, bool journal);
/* The power comes back: mounts again what is on the device. Nobody may have a file open. */
void image_restore(struct image *image);

/* Writes to this file system wait from now on, for ever and in the kernel; so does the device of an image whose file is
 * on it. Thawed at the latest when this process ends. */
void image_freeze(struct image *image);
void image_thaw(struct image *image);
/* Requests that the device has taken and not finished. */
unsigned image_in_flight(const struct image *image);

#endif
