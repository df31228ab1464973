/* control.h - requests over a session's socket: buckets, arena, sync, look-ups, reports, BYE (mshm/message.h). */
#ifndef CONTROL_H
#define CONTROL_H

#include "core_parts.h"
#include "sessions.h"

/* One message of `size` hostile bytes. MSHM_OK: answered now or later. MSHM_INVALID: end the session. */
int control_message(struct core *core, struct session *session, const void *message, size_t size);
/* Tries again what found the log busy. True when one went on. */
bool control_retry(struct core *core);
/* Answers those who wait for a checkpoint that has ended (or cannot end: FULL). */
void control_checkpoints(struct core *core);
/* Sends the reply that stands in session->control, with `status`, and makes the session ready for the next request. */
void control_reply(struct core *core, struct session *session, int status);

/* Creates the bucket "default", durably, before any session is served; blocks on the log. For recovery. MSHM_OK, or why
 * not: MSHM_FULL, MSHM_IO, MSHM_NO_MEMORY. */
int control_create_default(struct core *core);

#endif
