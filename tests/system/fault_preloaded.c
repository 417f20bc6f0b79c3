/*
 * Loaded into the harness before the C library: while the file SLOW_DISK exists, every fsync takes long; while
 * the file CLOCK_SET_BACK exists, the wall clock is an hour behind. The monotonic clock goes on as ever.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define HOUR 3600
/* More than any monotonic clock shows: a deadline beyond it is one of the wall clock. */
#define LATER_THAN_ANY_BOOT 1000000000L

static int wanted(const char *variable)
{
    const char *path = getenv(variable);
    int before = errno, found = path && access(path, F_OK) == 0;
    errno = before;
    return found;
}

int fsync(int descriptor)
{
    if (wanted("SLOW_DISK"))
        usleep(700 * 1000);
    return (int)syscall(SYS_fsync, descriptor);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int done = (int)syscall(SYS_clock_gettime, clock, now);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && wanted("CLOCK_SET_BACK"))
        now->tv_sec -= HOUR;
    return done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec fine;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &fine);
    now->tv_sec = fine.tv_sec;
    now->tv_usec = fine.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *into)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into)
        *into = now.tv_sec;
    return now.tv_sec;
}

/* Deadlines that were reckoned by that clock are meant by that clock. */
int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict deadline)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec moved = *deadline;
    if (!real)
        real = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlvsym(
            RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (moved.tv_sec > LATER_THAN_ANY_BOOT && wanted("CLOCK_SET_BACK"))
        moved.tv_sec += HOUR;
    return real(condition, mutex, &moved);
}
