/* The protocol of the locks, for spin: docs/model.md. One conversation.
 *
 * Time passes when everything that a running process and the server have to do at this moment
 * is done: what makes them late is a fault, and faults are counted.
 */
#ifndef DROPS
#define DROPS 0
#endif
#ifndef LATES
#define LATES 0
#endif
#ifndef CANCELLATIONS
#define CANCELLATIONS 0
#endif
#ifndef CRASHES
#define CRASHES 0
#endif
#ifndef STOPS
#define STOPS 0
#endif
#ifndef OUTAGES
#define OUTAGES 0
#endif
#ifndef FLUSHES
#define FLUSHES 0
#endif
#ifndef BREAKS
#define BREAKS 0
#endif
#ifndef LOSSY
#define LOSSY 0
#endif
#ifndef LONGEST_WAIT
#define LONGEST_WAIT 8
#endif

#include "state.pml"

byte drops = DROPS, lates = LATES, cancels = CANCELLATIONS, crashes = CRASHES, stops = STOPS,
    outages = OUTAGES, flushes = FLUSHES, breaks = BREAKS;

#include "properties.pml"
#include "scripts.pml"

#define OVER_OR_DEAD(t) (phase[t] == OVER || phase[t] == DEAD)
/* Of a process one after another; processes are alike, so they begin in their order. */
#define MAY_BEGIN(t) (t % EACH -> OVER_OR_DEAD(t - 1) : t == 0 || phase[t - 1] != NEW)
#define HAS(t) (phase[t] == WAITS || phase[t] == INSIDE)
#ifdef DEADLINE_IS_NOT_WATCHED
#define LAPSED(t) 0
#else
#define LAPSED(t) (phase[t] == INSIDE && !until[t])
#endif
/* What has to be done before time passes. */
#define DUE(t) (RUNS(OWNER(t)) && ((!down && (asks[t] || phase[t] == LEAVES || phase[t] == CANCELS)) || \
    told[t] || bell[t] || broken_bell[t] || LAPSED(t)))
#define BEAT_IS_DUE(p) (RUNS(p) && !down && !beaten[p] && HAS_ANY(p))
#define STUCK(t) (RUNS(OWNER(t)) && phase[t] == WAITS)
#define FAULTLESS (stops == STOPS && outages == OUTAGES && flushes == FLUSHES && breaks == BREAKS && \
    crashes == CRASHES && drops == DROPS)
#define TURN(t) (phase[t] == INSIDE)

#if EACH == 1
#define HAS_ANY(p) HAS(p)
#elif EACH == 2
#define HAS_ANY(p) (HAS(p * EACH) || HAS(p * EACH + 1))
#else
#define HAS_ANY(p) (HAS(p * EACH) || HAS(p * EACH + 1) || HAS(p * EACH + 2))
#endif
#if TICKETS == 1
#define ANY(x) x(0)
#elif TICKETS == 2
#define ANY(x) (x(0) || x(1))
#elif TICKETS == 3
#define ANY(x) (x(0) || x(1) || x(2))
#elif TICKETS == 4
#define ANY(x) (x(0) || x(1) || x(2) || x(3))
#elif TICKETS == 6
#define ANY(x) (x(0) || x(1) || x(2) || x(3) || x(4) || x(5))
#endif
#if PROCESSES == 1
#define ANY_PROCESS(x) x(0)
#elif PROCESSES == 2
#define ANY_PROCESS(x) (x(0) || x(1))
#else
#define ANY_PROCESS(x) (x(0) || x(1) || x(2))
#endif

#include "processes.pml"
#include "faults.pml"

init {
    atomic {
        byte n;
        for (n : 0 .. TICKETS - 1) { run ticket(n) }
        for (n : 0 .. PROCESSES - 1) { run process(n) }
        run server()
    }
}
