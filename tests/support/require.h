/* support/require.h - what helpers and forked workers use in place of Check's assertions: a message on stderr and the
 * end of this process with status 1, in any process of a test. Check reports a case that ends so as failed, and a parent
 * sees its worker's status.
 */
#ifndef SUPPORT_REQUIRE_H
#define SUPPORT_REQUIRE_H

#define require(condition, ...)                                          \
    do {                                                                 \
        if (!(condition))                                                \
            require_failed(__FILE__, __LINE__, #condition, __VA_ARGS__); \
    } while (0)

/* The call returned `wanted`, or the text of what it returned is printed. */
#define require_status(call, wanted)                                                 \
    do {                                                                             \
        int require_got = (call);                                                    \
        if (require_got != (wanted))                                                 \
            require_failed_status(__FILE__, __LINE__, #call, require_got, (wanted)); \
    } while (0)
#define require_ok(call) require_status(call, 0)

void require_failed(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((noreturn, format(printf, 4, 5)));
void require_failed_status(const char *file, int line, const char *call, int got, int wanted)
    __attribute__((noreturn));

#endif
