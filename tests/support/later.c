/* Another day for a process and its children: the wall clock is SECONDS_AHEAD of the machine's.
 *
 *     cc -shared -fPIC -o later.so later.c && SECONDS_AHEAD=47520000 LD_PRELOAD=./later.so date
 *
 * The monotonic clock stays, so that every wait is as long as it should be: Debian's faketime
 * 0.9.10 moves both, or makes clock_nanosleep fail, which is Python's time.sleep.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t seconds_ahead(void)
{
	const char *seconds = getenv("SECONDS_AHEAD");
	return seconds ? atol(seconds) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = syscall(SYS_clock_gettime, clock, now);
	if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		now->tv_sec += seconds_ahead();
	return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec exact;
	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
		return -1;
	now->tv_sec = exact.tv_sec;
	now->tv_usec = exact.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *now)
{
	struct timespec exact;
	if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
		return -1;
	if (now)
		*now = exact.tv_sec;
	return exact.tv_sec;
}
