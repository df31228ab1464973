/* attach.c - getting a session from a broker: connect, shake hands, map, and start a broker when there is none. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "mlib.h"
#include "mlib_time.h"
#include "mshm/segment.h"
#include "spawn.h"

/* Descriptors and sizes that came with a welcome. */
struct welcome {
    struct mshm_welcome message;
    int fds[MSHM_FD_COUNT];
};

static void
welcome_close(struct welcome *welcome)
{
    for (int i = 0; i < MSHM_FD_COUNT; i++)
        if (welcome->fds[i] >= 0)
            close(welcome->fds[i]);
}

static int
connect_status(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return MSHM_DENIED;
    case EMFILE:
    case ENFILE:
        return MSHM_LIMIT;
    case ENOMEM:
    case ENOBUFS:
        return MSHM_NO_MEMORY;
    case ENOENT:
    case ENOTDIR:
    case ECONNREFUSED:
    case ECONNRESET:
    case EAGAIN: /* the listener's queue is full: somebody serves, but not yet us */
    case EPIPE:
        return MSHM_BROKER_LOST;
    default:
        return MSHM_IO;
    }
}

/* The path to the socket goes through the descriptor of the directory, because a socket address holds 108 bytes and a
 * path may be longer. */
static int
socket_connect(const char *path, int *out)
{
    int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return connect_status(errno);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/mace.sock", directory);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int status = MSHM_OK;
    if (fd < 0) {
        status = connect_status(errno);
        goto out;
    }
    while (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        if (errno == EINTR)
            continue;
        status = connect_status(errno);
        close(fd);
        goto out;
    }
    *out = fd;
out:
    close(directory);
    return status;
}

/* Receives one reply with its descriptors. */
static int
welcome_receive(int fd, struct welcome *welcome)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 8)];
    } control;
    struct iovec vector = {.iov_base = &welcome->message, .iov_len = sizeof welcome->message};
    struct msghdr header = {.msg_iov = &vector,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof control};
    memset(&welcome->message, 0, sizeof welcome->message);
    ssize_t size;
    do
        size = recvmsg(fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    while (size < 0 && errno == EINTR);
    if (size <= 0)
        return MSHM_BROKER_LOST;
    unsigned count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&header); part != NULL;
         part = CMSG_NXTHDR(&header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t fds = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < fds; i++) {
            int received;
            memcpy(&received, CMSG_DATA(part) + i * sizeof(int), sizeof received);
            if (count < MSHM_FD_COUNT)
                welcome->fds[count++] = received;
            else
                close(received);
        }
    }
    /* A full descriptor table makes the kernel drop what did not fit, and this is all it says. */
    if ((header.msg_flags & MSG_CTRUNC) != 0)
        return MSHM_LIMIT;
    const struct mshm_message *head = &welcome->message.head;
    if ((size_t)size < sizeof *head || head->magic != MSHM_MESSAGE_MAGIC ||
        head->kind != MSHM_MESSAGE_HELLO || head->version != MSHM_LAYOUT_VERSION)
        return MSHM_VERSION;
    if (head->status != MSHM_OK)
        return head->status < 0 ? head->status : MSHM_IO;
    if ((size_t)size < sizeof welcome->message)
        return MSHM_VERSION;
    if (welcome->message.layout_hash != mshm_layout_hash() || welcome->message.features != 0)
        return MSHM_VERSION;
    return count == MSHM_FD_COUNT ? MSHM_OK : MSHM_LIMIT;
}

static int
hello_send(int fd, bool read_only)
{
    struct mshm_hello hello = {
        .head = {.magic = MSHM_MESSAGE_MAGIC,
                 .kind = MSHM_MESSAGE_HELLO,
                 .version = MSHM_LAYOUT_VERSION,
                 .size = sizeof hello},
        .layout_hash = mshm_layout_hash(),
        .flags = read_only ? MSHM_HELLO_READ_ONLY : 0,
        .pid = (uint64_t)getpid(),
    };
    ssize_t sent;
    do
        sent = send(fd, &hello, sizeof hello, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof hello ? MSHM_OK : MSHM_BROKER_LOST;
}

/* Waits until the socket has something to read, through signals: hello is not said twice. */
static int
welcome_await(int fd, uint64_t deadline_ns)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    for (;;) {
        int ready = poll(&wait, 1, mlib_time_left_ms(deadline_ns));
        if (ready > 0)
            return MSHM_OK;
        if ((ready < 0 && errno != EINTR) || mlib_time_left_ms(deadline_ns) == 0)
            return MSHM_BROKER_LOST;
    }
}

/* Says hello until the broker has recovered. MSHM_BROKER_LOST: it went away, or the time is over. */
static int
handshake(int fd, bool read_only, uint64_t deadline_ns, struct welcome *welcome)
{
    for (;;) {
        int status = hello_send(fd, read_only);
        if (status == MSHM_OK)
            status = welcome_await(fd, deadline_ns);
        if (status != MSHM_OK)
            return status;
        status = welcome_receive(fd, welcome);
        if (status != MSHM_BUSY)
            return status;
        if (mlib_time_left_ms(deadline_ns) == 0)
            return MSHM_BROKER_LOST;
        mlib_time_pause_ms(5);
    }
}

static void
attachment_unmap(struct mlib_attachment *attachment)
{
    if (attachment->view.base != NULL)
        munmap((void *)(uintptr_t)attachment->view.base, attachment->view.size);
    if (attachment->view.hints != NULL)
        munmap(attachment->view.hints, attachment->hints_size);
    if (attachment->session != NULL)
        munmap(attachment->session, attachment->session_size);
    attachment->session = NULL;
}

/* Closes what a session held; the broker sees the hang-up. Asks for no memory and frees none. */
static void
attachment_disconnect(struct mlib_attachment *attachment)
{
    if (attachment->released)
        return;
    attachment->released = true;
    attachment_unmap(attachment);
    close(attachment->socket);
    close(attachment->doorbell);
}

/* The same, and keeps the answers that tickets may still ask for. Under mace->lock. */
static void
attachment_release(struct mlib_attachment *attachment)
{
    if (!attachment->released)
        mlib_answers_settle(attachment);
    attachment_disconnect(attachment);
}

static int
attachment_map(struct mlib_attachment *attachment, const struct welcome *welcome)
{
    const struct mshm_welcome *message = &welcome->message;
    if (message->session_size < MSHM_SESSION_SIZE)
        return MSHM_VERSION;
    struct mshm_segment store, hints, session;
    int status = mshm_segment_map(&store, welcome->fds[MSHM_FD_STORE], message->store_size, 0);
    if (status != MSHM_OK)
        return status;
    attachment->view.base = store.base;
    attachment->view.size = store.size;
    status = mshm_segment_map(&hints, welcome->fds[MSHM_FD_HINTS], message->hints_size, 1);
    if (status != MSHM_OK)
        return status;
    attachment->view.hints = hints.base;
    attachment->hints_size = hints.size;
    status = mshm_segment_map(&session, welcome->fds[MSHM_FD_SESSION], message->session_size, 1);
    if (status != MSHM_OK)
        return status;
    attachment->session = (struct mshm_session *)(void *)session.base;
    attachment->session_size = session.size;
    /* Large pages for a large store: the frames are read at random. A refusal costs speed only. */
    (void)madvise(store.base, store.size, MADV_HUGEPAGE);

    struct mshm_view view;
    status = mshm_view_init(&view, store.base, message->store_size, hints.base);
    if (status == MSHM_OK)
        status = mshm_session_check(session.base, message->session_size);
    if (status == MSHM_OK && view.frames_size / MSHM_UNIT > message->hints_size)
        status = MSHM_VERSION;
    if (status == MSHM_OK)
        attachment->view = view;
    return status;
}

/* Reports a relock, so that a call from a signal handler fails instead of waiting for the thread it interrupted. */
static void
publish_lock_init(struct mlib_attachment *attachment)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&attachment->publish_lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

static int
attachment_create(struct mace *db, int fd, const struct welcome *welcome,
                  struct mlib_attachment **out)
{
    struct mlib_attachment *attachment = calloc(1, sizeof *attachment);
    if (attachment == NULL)
        return MSHM_NO_MEMORY;
    attachment->mace = db;
    attachment->socket = fd;
    attachment->doorbell = welcome->fds[MSHM_FD_DOORBELL];
    attachment->incarnation = welcome->message.incarnation;
    attachment->number = welcome->message.session;
    AO_store(&attachment->references, 1); /* the mace's */
    int status = MSHM_NO_MEMORY;
    attachment->outcomes = calloc(MLIB_OUTCOMES, sizeof *attachment->outcomes);
    if (attachment->outcomes != NULL)
        status = attachment_map(attachment, welcome);
    if (status != MSHM_OK) {
        attachment_unmap(attachment);
        free(attachment->outcomes);
        free(attachment);
        return status;
    }
    pthread_mutex_init(&attachment->control_lock, NULL);
    publish_lock_init(attachment);
    mshm_producer_init(&attachment->producer, attachment->session);
    for (int i = 0; i < MSHM_FD_COUNT; i++)
        if (i != MSHM_FD_DOORBELL)
            close(welcome->fds[i]);
    *out = attachment;
    return MSHM_OK;
}

/* One attempt: connect and shake hands. MSHM_BROKER_LOST: nobody (or nobody any more) answers. */
static int
attach_once(struct mace *db, uint64_t deadline_ns, struct mlib_attachment **out)
{
    struct welcome welcome = {.fds = {-1, -1, -1, -1}};
    int fd = -1;
    int status = socket_connect(db->path, &fd);
    if (status != MSHM_OK)
        return status;
    status = handshake(fd, db->options.read_only != 0, deadline_ns, &welcome);
    if (status == MSHM_OK)
        status = attachment_create(db, fd, &welcome, out);
    if (status != MSHM_OK) {
        welcome_close(&welcome);
        close(fd);
    }
    return status;
}

/* Starts a broker and waits for its word. MSHM_OK: somebody serves (this one, or another that was faster). */
static int
broker_start(struct mace *db, uint64_t deadline_ns)
{
    char program[4096];
    int status = mlib_spawn_find(db->broker_path, program, sizeof program);
    if (status != MSHM_OK)
        return status;
    struct mlib_spawn spawn = {
        .program = program,
        .path = db->path,
        .cache_size = db->options.cache_size,
        .idle_exit_ms = db->options.idle_exit_ms,
    };
    int ready_fd;
    status = mlib_spawn_start(&spawn, &ready_fd);
    if (status != MSHM_OK)
        return status;
    return mlib_spawn_ready(ready_fd, deadline_ns);
}

/* Attaches, starting brokers as needed, until the timeout. Any end of a connection before the handshake is over counts
 * as "nobody answers": the broker may just have been leaving. */
static int
attach_until(struct mace *db, struct mlib_attachment **out)
{
    uint64_t deadline = mlib_time_ns() + (uint64_t)db->options.connect_timeout_ms * 1000000u;
    for (;;) {
        int status = attach_once(db, deadline, out);
        if (status != MSHM_BROKER_LOST)
            return status;
        if (db->options.start_broker == 0 || mlib_time_left_ms(deadline) == 0)
            return status;
        status = broker_start(db, deadline);
        if (status != MSHM_OK && status != MSHM_BROKER_LOST)
            return status;
        if (status == MSHM_BROKER_LOST)
            mlib_time_pause_ms(5);
    }
}

static struct mlib_attachment *
current_hold(struct mace *db)
{
    struct mlib_attachment *attachment =
        (struct mlib_attachment *)(uintptr_t)AO_load_acquire(&db->current);
    if (attachment == NULL)
        return NULL;
    AO_fetch_and_add_full(&attachment->references, 1);
    if (AO_load_acquire(&db->current) != (AO_t)(uintptr_t)attachment) {
        mlib_attachment_put(attachment);
        return NULL;
    }
    return attachment;
}

/* Takes the attachment out of use; its holders may still read through it. Under mace->lock. */
static void
current_retire(struct mace *db)
{
    struct mlib_attachment *attachment = (struct mlib_attachment *)(uintptr_t)AO_load(&db->current);
    AO_store_release(&db->current, 0);
    if (attachment == NULL)
        return;
    /* No transaction of this process has read at a later snapshot: what mace_begin holds the next broker to. */
    AO_t visible = AO_load_acquire(&attachment->view.store->visible);
    if (visible > AO_load(&db->newest_seen))
        AO_store(&db->newest_seen, visible);
    if (AO_fetch_and_sub1_full(&attachment->references) == 1)
        attachment_release(attachment);
}

/* Closes sessions that lost their last user inside a signal handler, which could not take the lock. Under mace->lock. */
static void
attachments_sweep(struct mace *db)
{
    for (struct mlib_attachment *at = db->attachments; at != NULL; at = at->next)
        if (!at->released && AO_load(&at->references) == 0)
            attachment_release(at);
}

int
mlib_attachment_get(struct mace *db, struct mlib_attachment **out)
{
    if (mlib_forked(db))
        return MSHM_FORKED;
    struct mlib_attachment *attachment = current_hold(db);
    if (attachment != NULL && !mlib_attachment_lost(attachment)) {
        *out = attachment;
        return MSHM_OK;
    }
    if (attachment != NULL)
        mlib_attachment_put(attachment);

    int status = mlib_section_enter(db);
    if (status != MSHM_OK)
        return status;
    pthread_mutex_lock(&db->lock);
    attachment = (struct mlib_attachment *)(uintptr_t)AO_load(&db->current);
    if (attachment == NULL || mlib_attachment_lost(attachment)) {
        bool before = db->attachments != NULL;
        current_retire(db);
        attachments_sweep(db);
        status = attach_until(db, &attachment);
        if (status == MSHM_NOT_FOUND && before)
            status = MSHM_BROKER_LOST; /* a get must not say "no such key" for "no such program" */
        if (status == MSHM_OK) {
            attachment->next = db->attachments;
            db->attachments = attachment;
            AO_store_release(&db->current, (AO_t)(uintptr_t)attachment);
        }
    }
    if (status == MSHM_OK) {
        AO_fetch_and_add_full(&attachment->references, 1);
        *out = attachment;
    }
    pthread_mutex_unlock(&db->lock);
    mlib_section_leave();
    return status;
}

void
mlib_attachment_hold(struct mlib_attachment *attachment)
{
    AO_fetch_and_add_full(&attachment->references, 1);
}

void
mlib_attachment_put(struct mlib_attachment *attachment)
{
    struct mace *db = attachment->mace;
    if (mlib_forked(db))
        return; /* a copied lock may be held for ever; mace_close frees what the child has */
    if (AO_fetch_and_sub1_full(&attachment->references) != 1)
        return;
    /* The count can rise from zero and fall again while somebody looks at a stale `current`; only the first fall after
     * retirement releases. A signal handler leaves it to attachments_sweep. */
    if (mlib_section_enter(db) != MSHM_OK)
        return;
    pthread_mutex_lock(&db->lock);
    if (AO_load(&attachment->references) == 0 &&
        AO_load(&db->current) != (AO_t)(uintptr_t)attachment)
        attachment_release(attachment);
    pthread_mutex_unlock(&db->lock);
    mlib_section_leave();
}

void
mlib_attachments_disconnect(struct mace *db, bool forked)
{
    for (struct mlib_attachment *at = db->attachments; at != NULL; at = at->next) {
        if (!forked) {
            attachment_disconnect(at);
        } else if (!at->released) {
            /* The mappings did not come along; the descriptors did, and closing a copy ends nothing. */
            close(at->socket);
            close(at->doorbell);
        }
    }
}

void
mlib_attachments_free(struct mace *db, bool forked)
{
    while (db->attachments != NULL) {
        struct mlib_attachment *attachment = db->attachments;
        db->attachments = attachment->next;
        if (!forked) {
            pthread_mutex_destroy(&attachment->control_lock);
            pthread_mutex_destroy(&attachment->publish_lock);
        }
        mlib_lanes_fini(attachment);
        free(attachment->outcomes);
        free(attachment);
    }
}

void
mlib_doorbell(struct mlib_attachment *attachment)
{
    uint64_t one = 1;
    long written;
    /* A full counter (EAGAIN) means that the bell is ringing already. The system call is made directly, so that it is no
     * cancellation point: a commit that was handed over is not left half-way. */
    do
        written = syscall(SYS_write, attachment->doorbell, &one, sizeof one);
    while (written < 0 && errno == EINTR);
}
