/* raft_vote.c - elections: asking for votes, granting them, counting them.
 *
 * A node first asks whether it would win (pre-vote) and raises its term only then: one that was
 * cut off comes back without unseating a leader that the others hear. */
#include "cluster/raft_impl.h"

static void count(exo_raft *r) {
    uint32_t yes = 0, no = 0;
    for (uint32_t i = 0; i < r->n_peers; i++) {
        const exo_raft_peer *p = &r->peers[i];
        if (!p->voter || !p->voted) continue;
        if (p->refused) {
            no++;
        } else {
            yes++;
        }
    }
    uint32_t majority = exo_raft_majority(r);
    if (yes >= majority) {
        if (r->role == EXO_RAFT_PRE_CANDIDATE) {
            exo_raft_campaign(r, false);
        } else {
            exo_raft_become_leader(r);
        }
    } else if (no > r->n_voters - majority) {
        exo_raft_become_follower(r, r->term, 0);
    }
}

void exo_raft_campaign(exo_raft *r, bool pre_vote) {
    for (uint32_t i = 0; i < r->n_peers; i++) {
        r->peers[i].voted = r->peers[i].id == r->id;
        r->peers[i].refused = false;
    }
    if (!pre_vote) {
        r->term++;
        r->vote = r->id;
        exo_raft_persist_vote(r);
    }
    exo_raft_set_role(r, pre_vote ? EXO_RAFT_PRE_CANDIDATE : EXO_RAFT_CANDIDATE, 0);
    exo_raft_wait_for_leader(r);
    uint64_t last = exo_raft_log_last(&r->log);
    for (uint32_t i = 0; i < r->n_peers; i++) {
        const exo_raft_peer *p = &r->peers[i];
        if (!p->voter || p->id == r->id) continue;
        exo_raft_message m = {.type = pre_vote ? EXO_RAFT_PRE_VOTE : EXO_RAFT_VOTE,
                              .to = p->id,
                              .term = r->term + (pre_vote ? 1 : 0),
                              .index = last,
                              .log_term = exo_raft_log_term(&r->log, last),
                              .hand_over = r->hand_over};
        exo_raft_send(r, &m);
    }
    r->hand_over = false;
    count(r); /* a cluster of one has its majority already */
}

/* The term of an accepted request is ours, or for a pre-vote at least ours. */
void exo_raft_on_vote(exo_raft *r, const exo_raft_message *m) {
    bool pre_vote = m->type == EXO_RAFT_PRE_VOTE;
    uint64_t last = exo_raft_log_last(&r->log), last_term = exo_raft_log_term(&r->log, last);
    bool up_to_date = m->log_term > last_term || (m->log_term == last_term && m->index >= last);
    bool free =
        pre_vote ? m->term > r->term : r->vote == m->from || (r->vote == 0 && r->leader == 0);
    exo_raft_message reply = {
        .type = pre_vote ? EXO_RAFT_PRE_VOTE_REPLY : EXO_RAFT_VOTE_REPLY,
        .to = m->from,
        .refused = !up_to_date || !free,
    };
    /* A promise is for the term that was asked about, a refusal tells ours. */
    reply.term = pre_vote && !reply.refused ? m->term : r->term;
    if (!pre_vote && !reply.refused) {
        if (r->vote != m->from) {
            r->vote = m->from;
            exo_raft_persist_vote(r);
        }
        exo_raft_wait_for_leader(r);
    }
    exo_raft_send(r, &reply);
}

void exo_raft_on_vote_reply(exo_raft *r, const exo_raft_message *m) {
    bool pre_vote = m->type == EXO_RAFT_PRE_VOTE_REPLY;
    exo_raft_role asked = pre_vote ? EXO_RAFT_PRE_CANDIDATE : EXO_RAFT_CANDIDATE;
    uint64_t term = pre_vote && !m->refused ? r->term + 1 : r->term;
    exo_raft_peer *p = exo_raft_find(r, m->from);
    if (r->role != asked || m->term != term || p == NULL || p->voted) return;
    p->voted = true;
    p->refused = m->refused;
    count(r);
}
