/* election.pml - the election of src/cluster as a model for spin: every order of every event, for two
 * or three nodes and a few terms; tests/sim/election.sh runs it.
 *
 * Messages are sets: what was once sent may arrive at any time, twice, out of order, or never, and
 * so loss, delay and stalls need no events of their own.  A node may crash between any two events;
 * term and vote are on its disk, its role and the votes it has counted are not.  Pre-vote, timeouts
 * and check-quorum only decide when somebody stands for election; here everybody may at any time.
 *
 * FORKS: the rule of two nodes.  Whoever misses the other may begin a log of its own under a
 * provisional term, which is shown with the node's number behind it; a node of another log is let
 * in by a leader that is alone in its log, which raises its term above the newcomer's first.
 *
 * It must hold: one leader in a term of a log; a term as it is shown is never that of two logs, and
 * what a node shows never becomes less.
 * Each of these breaks that, and spin must find it:
 *   VOTE_NOT_PERSISTED  TERM_NOT_PERSISTED  OLD_TERM_GRANTED  VOTED_TWICE
 *   FORK_WITHOUT_NUMBER  NEWCOMERS_TERM_FORGOTTEN  SAME_TERM_FORGOTTEN (with FORKS) */
#ifndef N
#define N 3
#endif
#ifndef TERMS
#define TERMS 4 /* 0 .. TERMS - 1 */
#endif
#ifdef FORKS
#define LOGS 4 /* 0 is the log that both nodes begin in */
#else
#define LOGS 1
#endif

#define NOBODY 15
#define FOLLOWER 0
#define CANDIDATE 1
#define LEADER 2
#define AT(l, t) ((l) * TERMS + (t))
#define ONE(m) ((m) == 1 || (m) == 2 || (m) == 4)

byte term[N], vote[N];         /* on disk */
byte role[N], counted[N];      /* in memory; counted: who voted for it in this term, as bits */
byte log_of[N];                /* the log it is a member of */
byte members[LOGS];            /* as bits */
byte number[LOGS];             /* shown behind its terms: 0, or of the node that began it, from 1 */
byte n_logs;
byte asked[LOGS * TERMS];      /* candidates that have asked for votes, as bits */
byte gave[LOGS * TERMS * N];   /* who has promised its vote to that candidate, as bits */
byte leader[LOGS * TERMS];     /* node + 1; what it sent may arrive at any time */
byte shown[TERMS * (N + 1)];   /* log + 1 that was seen with this term and number */

inline win(i) {
    role[i] = LEADER;
    assert(leader[AT(log_of[i], term[i])] == 0 || leader[AT(log_of[i], term[i])] == i + 1);
    leader[AT(log_of[i], term[i])] = i + 1;
    assert(shown[term[i] * (N + 1) + number[log_of[i]]] == 0 ||
           shown[term[i] * (N + 1) + number[log_of[i]]] == log_of[i] + 1);
    shown[term[i] * (N + 1) + number[log_of[i]]] = log_of[i] + 1
}

/* More than half of the members: of two, both. */
inline count(i) {
    if
    :: ONE(members[log_of[i]]) -> win(i)
    :: members[log_of[i]] == 3 && (counted[i] & 3) == 3 -> win(i)
    :: members[log_of[i]] == 7 && !ONE(counted[i] & 7) && (counted[i] & 7) != 0 -> win(i)
    :: else
    fi
}

inline stand(i) {
    term[i]++;
    vote[i] = i;
    counted[i] = 1 << i;
    role[i] = CANDIDATE;
    asked[AT(log_of[i], term[i])] = asked[AT(log_of[i], term[i])] | (1 << i);
    count(i)
}

inline see_term(i, t) {
    if
    :: t > term[i] -> term[i] = t; vote[i] = NOBODY; role[i] = FOLLOWER; counted[i] = 0
    :: else
    fi
}

inline consider(i, c, t) { /* c asks i for its vote in term t */
    see_term(i, t);
#ifdef OLD_TERM_GRANTED
    gave[AT(log_of[i], t) * N + c] = gave[AT(log_of[i], t) * N + c] | (1 << i)
#else
    if
#ifdef VOTED_TWICE
    :: t == term[i] && role[i] != LEADER ->
#else
    :: t == term[i] && (vote[i] == NOBODY || vote[i] == c) ->
#endif
        vote[i] = c;
        gave[AT(log_of[i], t) * N + c] = gave[AT(log_of[i], t) * N + c] | (1 << i)
    :: else
    fi
#endif
}

inline crash(i) {
    role[i] = FOLLOWER;
    counted[i] = 0;
#ifdef VOTE_NOT_PERSISTED
    vote[i] = NOBODY;
#endif
#ifdef TERM_NOT_PERSISTED
    if
    :: term[i] > 0 -> term[i]--; vote[i] = NOBODY
    :: else
    fi;
#endif
    skip
}

#ifdef FORKS
inline fork(i) {
    log_of[i] = n_logs;
    members[n_logs] = 1 << i;
#ifdef FORK_WITHOUT_NUMBER
    number[n_logs] = 0;
#else
    number[n_logs] = i + 1;
#endif
    n_logs++;
    term[i]++;
    vote[i] = NOBODY;
    counted[i] = 0;
    role[i] = FOLLOWER
}

/* Node j is taken in by i, which leads alone: under a new name, with the term of the message by which
 * it hears of that.  What was shown to people and devices does not become less. */
inline let_in(i, j) {
    if
#ifndef NEWCOMERS_TERM_FORGOTTEN
    :: term[j] > term[i] -> see_term(i, term[j]) /* it leads again in the term behind */
#ifndef SAME_TERM_FORGOTTEN
    :: term[j] == term[i] && number[log_of[j]] > number[log_of[i]] ->
        if
        :: term[i] < TERMS - 1 -> see_term(i, term[i] + 1)
        :: else
        fi
#endif
#endif
    :: else ->
        assert(term[i] > term[j] ||
               (term[i] == term[j] && number[log_of[i]] >= number[log_of[j]]));
        members[log_of[i]] = members[log_of[i]] | (1 << j);
        log_of[j] = log_of[i];
        term[j] = term[i];
        vote[j] = NOBODY;
        counted[j] = 0;
        role[j] = FOLLOWER
    fi
}
#endif

proctype node(byte me) {
    byte other, t;
    do
    :: atomic { role[me] != LEADER && term[me] < TERMS - 1 -> stand(me) }
    :: atomic { role[me] != FOLLOWER || vote[me] != NOBODY -> crash(me) }
    :: atomic {
        select(other : 0 .. N - 1);
        select(t : 1 .. TERMS - 1);
        if
        :: other != me && (asked[AT(log_of[me], t)] >> other) & 1 -> consider(me, other, t)
        :: other != me && leader[AT(log_of[me], t)] == other + 1 && t >= term[me] ->
            see_term(me, t);
            if
            :: role[me] == CANDIDATE -> role[me] = FOLLOWER; counted[me] = 0
            :: else
            fi
        :: other != me && role[me] == CANDIDATE && t == term[me] &&
           (gave[AT(log_of[me], t) * N + me] >> other) & 1 ->
            counted[me] = counted[me] | (1 << other);
            count(me)
        :: else
        fi;
        other = 0;
        t = 0
       }
#ifdef FORKS
    :: atomic { role[me] != LEADER && !ONE(members[log_of[me]]) && n_logs < LOGS &&
                term[me] < TERMS - 2 -> fork(me) }
    :: atomic { role[me] == LEADER && members[log_of[me]] == (1 << me) &&
                log_of[1 - me] != log_of[me] -> let_in(me, 1 - me) }
#endif
    od
}

init {
    byte i;
    atomic {
        members[0] = (1 << N) - 1;
        n_logs = 1;
        for (i : 0 .. N - 1) {
            vote[i] = NOBODY;
            run node(i)
        }
        i = 0
    }
}
