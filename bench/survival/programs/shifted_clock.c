/* Preloaded: UTC is SHIFTED_CLOCK_S seconds ahead of the host's, the monotonic clock is not.
 *
 * libfaketime 0.9.10 does not do for Python: with the monotonic clock left alone time.sleep fails (EINVAL),
 * and with it faked waits of threads do not end. Waits until a UTC instant are set back by as much.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define UTC_AT_LEAST 1000000000 /* seconds; no host has been up for as long */

static time_t ahead_s(void) {
    const char *text = getenv("SHIFTED_CLOCK_S");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += ahead_s();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}

static struct timespec host_instant(const struct timespec *until) {
    struct timespec real = *until;
    if (real.tv_sec > UTC_AT_LEAST) real.tv_sec -= ahead_s();
    return real;
}

static void *next(const char *name) {
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2"); /* of x86-64: conditions have an older one, too */
    return found ? found : dlsym(RTLD_NEXT, name);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static int (*wait)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec real = host_instant(until);
    if (!wait) wait = next("pthread_cond_timedwait");
    return wait(condition, mutex, &real);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*wait)(sem_t *, const struct timespec *);
    struct timespec real = host_instant(until);
    if (!wait) wait = next("sem_timedwait");
    return wait(semaphore, &real);
}
