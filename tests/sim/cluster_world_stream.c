/* cluster_world_stream.c - clients that ask for answers, read them, cancel, and ask again under the
 * same name when a typed error came; and what must hold of every answer. */
#include "sim/cluster_world_engine.h"

#include <stdlib.h>
#include <string.h>

#define ASKS        0.25 /* at each look, somebody asks for something new */
#define MOST_PROMPT 72
#define COMMON      40 /* tokens of a beginning that prompts of one model share */
#define MOST_ANSWER (SIM_CTX - MOST_PROMPT)
#define MOST_TRIES  6
#define CANCELS     0.2
#define AGAIN_MS    600 /* at most, between an error and the next attempt */
/* Once faults have stopped, and what they left on its way has arrived: */
#define SETTLE_MS 2000
#define HANG_MS   20000 /* an answer has ended by then */
#define ACK_MS    1000  /* a cancelled one, too */
#define HOLD_MS   1000  /* what has ended is held by nobody */
#define PLACE_MS  9000  /* an instance runs, or has ended */

struct sim_stream {
    uint32_t model, n_prompt, n_common, n_answer;
    int32_t expected[MOST_ANSWER];
    /* The attempt under way: */
    bool open, cancel_asked;
    uint32_t node, n_heard, n_tries;
    uint64_t epoch, handle, asked_us, cancel_us;
    /* Between attempts: */
    bool done;
    uint64_t again_us, ended_us;
};

static uint64_t hash(uint64_t a, uint64_t b) {
    sim_rng r = {a * 0x9E3779B97F4A7C15u + b};
    return sim_draw(&r);
}

void stream_prompt(const cworld *w, uint32_t k, sim_live *l) {
    const sim_stream *s = &w->streams[k];
    for (uint32_t p = 0; p < s->n_prompt; p++) {
        uint64_t whose = p < s->n_common ? s->model : 1000 + k;
        l->tokens[p] = (int32_t)(hash(w->d.seed ^ whose << 32, p) % 1000);
    }
    l->n_prompt = l->n_tokens = s->n_prompt;
    l->n_answer = s->n_answer;
}

/* ---- asking ---- */

static void make(cworld *w, uint32_t k) {
    sim_stream *s = &w->streams[k];
    sim_live l;
    bool common = sim_chance(&w->engine_rng, 0.4), longer = sim_chance(&w->engine_rng, 0.3);
    *s = (sim_stream){.model = (uint32_t)engine_between(w, 0, N_MODELS - 1)};
    s->n_prompt = (uint32_t)engine_between(w, 1, longer || common ? MOST_PROMPT : 12);
    s->n_answer = (uint32_t)engine_between(w, 1, longer ? MOST_ANSWER : 16);
    s->n_common = !common ? 0 : s->n_prompt < COMMON ? s->n_prompt : COMMON;
    stream_prompt(w, k, &l);
    stage_reference(l.tokens, l.n_prompt, k, s->n_answer, s->expected);
}

static void ask(cworld *w, uint32_t k) {
    sim_stream *s = &w->streams[k];
    uint32_t node = (uint32_t)sim_below(&w->engine_rng, w->n_nodes);
    if (!w->nodes[node].up) return; /* at another look, another one */
    count(w, s->n_tries > 0 ? COUNT_ANSWERS_AGAIN : COUNT_ANSWERS);
    s->n_tries++;
    s->open = true;
    s->node = node;
    s->epoch = w->nodes[node].epoch;
    s->handle = ++w->nodes[node].engine->last_handle;
    s->asked_us = w->now_us;
    s->n_heard = 0;
    s->cancel_asked = false;
    s->cancel_us = UINT64_MAX;
    if (sim_chance(&w->engine_rng, CANCELS)) {
        s->cancel_us = w->now_us + engine_between(w, 0, 1500) * SIM_MS;
    }
    word_to_loop(
        w, &(sim_word){
               .kind = WORD_ASK, .to = node, .handle = s->handle, .stream = k, .model = s->model});
}

/* ---- hearing ---- */

static void end(cworld *w, sim_stream *s, bool answered) {
    bool quiet = w->now_us >= w->quiet_us;
    s->open = false;
    s->ended_us = w->now_us;
    s->again_us = w->now_us + engine_between(w, 1, AGAIN_MS) * SIM_MS;
    s->done = answered || s->cancel_asked || quiet || s->n_tries >= MOST_TRIES;
}

static void hear_error(cworld *w, uint32_t k, const sim_answer_event *e) {
    sim_stream *s = &w->streams[k];
    if (e->status == EXO_ECANCELED && !s->cancel_asked) {
        cworld_broken(w, "answer %u was cancelled, and nobody had asked for that", k);
    }
    count(w, e->status == EXO_ECANCELED ? COUNT_ANSWERS_CANCELED : COUNT_ANSWERS_FAILED);
    if (s->n_heard > 0 && e->status != EXO_ECANCELED) count(w, COUNT_ANSWERS_FAILED_MIDWAY);
    end(w, s, false);
}

static void hear_token(cworld *w, uint32_t k, const sim_answer_event *e) {
    sim_stream *s = &w->streams[k];
    if (e->pos != s->n_heard) {
        cworld_broken(w, "answer %u: token %u came %s", k, e->pos,
                      e->pos < s->n_heard ? "twice" : "before others");
    } else if (e->pos >= s->n_answer || e->token != s->expected[e->pos]) {
        cworld_broken(w, "answer %u: token %u is not the one of this answer", k, e->pos);
    } else if (e->finished != (e->pos + 1 == s->n_answer)) {
        cworld_broken(w, "answer %u of %u tokens %s token %u", k, s->n_answer,
                      e->finished ? "ended with" : "did not end with", e->pos);
    }
    s->n_heard++;
    if (!e->finished || cworld_over(w)) return;
    count(w, COUNT_ANSWERED);
    end(w, s, true);
}

void stream_hear(cworld *w, uint32_t node, uint64_t handle, const sim_answer_event *e) {
    for (uint32_t k = w->n_streams; k-- > 0;) { /* the young ones talk */
        const sim_stream *s = &w->streams[k];
        bool its = s->open && s->node == node && s->handle == handle;
        if (!its || s->epoch != w->nodes[node].epoch) continue;
        if (e->status != EXO_OK) {
            hear_error(w, k, e);
        } else {
            hear_token(w, k, e);
        }
        return;
    }
    cworld_broken(w, "node %u: an event of an answer that has ended", node);
}

void streams_node_gone(cworld *w, uint32_t node) {
    for (uint32_t k = 0; k < w->n_streams; k++) {
        sim_stream *s = &w->streams[k];
        if (!s->open || s->node != node) continue;
        count(w, COUNT_ANSWERS_CUT_OFF);
        end(w, s, false);
    }
}

/* ---- looking ---- */

/* Node that still works on answer k or keeps a route of it; -1 = none. */
static int holder(const cworld *w, uint32_t k) {
    for (uint32_t n = 0; n < w->n_nodes; n++) {
        const sim_engine *e = w->nodes[n].engine;
        for (const sim_route *r = e->routes; r != NULL; r = r->next) {
            if (r->stream == k) return (int)n;
        }
        for (const sim_instance *i = e->instances; i != NULL; i = i->next) {
            for (const sim_live *l = i->live; l != NULL; l = l->next) {
                if (l->stream == k) return (int)n;
            }
        }
    }
    return -1;
}

static void check(cworld *w, uint32_t k) {
    const sim_stream *s = &w->streams[k];
    uint64_t settled_us = w->calm_us + SETTLE_MS * SIM_MS, now = w->now_us;
    if (w->calm_us == 0 || now < settled_us) return;
    uint64_t asked_us = s->asked_us > settled_us ? s->asked_us : settled_us;
    uint64_t cancel_us = s->cancel_us > settled_us ? s->cancel_us : settled_us;
    uint64_t ended_us = s->ended_us > settled_us ? s->ended_us : settled_us;
    if (s->open && now > asked_us + HANG_MS * SIM_MS) {
        cworld_broken(w, "answer %u, asked on node %u, hangs", k, s->node);
    } else if (s->open && s->cancel_asked && now > cancel_us + ACK_MS * SIM_MS) {
        cworld_broken(w, "answer %u, asked on node %u, was cancelled and goes on", k, s->node);
    } else if (s->done && now > ended_us + HOLD_MS * SIM_MS &&
               now <= ended_us + 2 * HOLD_MS * SIM_MS) {
        int n = holder(w, k);
        if (n >= 0) cworld_broken(w, "answer %u has ended, and node %d holds it", k, n);
    }
}

static void look(cworld *w, uint32_t k) {
    sim_stream *s = &w->streams[k];
    check(w, k);
    if (s->open && !s->cancel_asked && w->now_us >= s->cancel_us) {
        s->cancel_asked = true;
        s->cancel_us = w->now_us;
        word_to_loop(w, &(sim_word){.kind = WORD_HANG_UP, .to = s->node, .handle = s->handle});
    }
    if (s->open || s->done || w->now_us < s->again_us) return;
    if (w->now_us < w->quiet_us) {
        ask(w, k);
    } else {
        s->done = true;
        s->ended_us = w->now_us;
    }
}

void streams_act(cworld *w) {
    if (w->streams == NULL) {
        w->streams = calloc(MAX_STREAMS, sizeof *w->streams);
        if (w->streams == NULL) abort();
    }
    for (uint32_t k = 0; k < w->n_streams && !cworld_over(w); k++) look(w, k);
    if (w->now_us >= w->quiet_us || w->n_streams == MAX_STREAMS) return;
    if (!sim_chance(&w->engine_rng, ASKS)) return;
    make(w, w->n_streams);
    ask(w, w->n_streams++);
}

/* ---- at the end ---- */

/* Its owner runs it, and the log has not deleted it. */
static void check_instance(cworld *w, const sim_instance *i) {
    const exo_state *s = exo_cluster_state_of(w->nodes[i->node].cluster);
    const sim_instance *at_owner = place_find(w, i->owner, i->id);
    if (at_owner == NULL || at_owner->epoch != i->epoch) {
        cworld_broken(w, "at the end node %u holds a stage of %s, which node %u does not run",
                      i->node, i->id, i->owner);
    } else if (i->state != SIM_RUNNING && i->owner == i->node &&
               w->now_us > i->begun_us + PLACE_MS * SIM_MS) {
        cworld_broken(w, "at the end instance %s of node %u neither runs nor ends", i->id, i->node);
    } else if (exo_state_was_deleted(s, i->id)) {
        cworld_broken(w, "at the end node %u runs %s, which was deleted", i->node, i->id);
    }
}

static void check_node(cworld *w, uint32_t n) {
    const sim_engine *e = w->nodes[n].engine;
    if (e->routes != NULL) cworld_broken(w, "at the end node %u holds a route", n);
    for (const sim_instance *i = e->instances; i != NULL; i = i->next) {
        check_instance(w, i);
        exo_sched_stats stats = {0};
        if (i->sched != NULL) exo_sched_get_stats(i->sched, &stats);
        if (i->live != NULL || stats.n_running + stats.n_waiting + stats.pages_used > 0) {
            cworld_broken(w, "at the end instance %s of node %u holds an answer", i->id, n);
        }
    }
}

void streams_final(cworld *w) {
    for (uint32_t k = 0; k < w->n_streams; k++) {
        if (!w->streams[k].done) cworld_broken(w, "answer %u never ended", k);
    }
    for (uint32_t n = 0; n < w->n_nodes; n++) check_node(w, n);
}

void streams_finish(cworld *w) { free(w->streams); }
