/* plan_host.c - decides which operations the CPU computes, makes its plans, and carries slots over
 * and back. */
#include "compute/vulkan/plan_host.h"

#include "base/mem.h"
#include "compute/cpu/slots.h"
#include "compute/vulkan/host.h"

#include <stdio.h>
#include <string.h>

#define AREA_ALIGNMENT 256

static const exo_backend *const cpu = &exo_backend_cpu;

/* ---- which operations ---- */

static bool type_absent(const exo_device *d, exo_dtype type, exo_vk_kernel first) {
    uint32_t t = exo_vk_weight_type(type);
    return t == EXO_VK_NO_WEIGHT_TYPE || d->absent[first + t];
}

static bool weight_absent(const exo_device *d, const exo_weight *w) {
    return w->host != NULL || type_absent(d, w->type, EXO_VK_KERNEL_matmul_f32);
}

/* What of an operation has no kernel here at all; NULL when all of it has. */
static const char *without_kernel(const exo_op *op) {
    switch (op->kind) {
    case EXO_OP_EMBED: {
        const exo_op_embed *e = &op->u.embed;
        bool plain = e->scale == 0 && e->positions == NULL && e->bias == NULL;
        return plain ? NULL : "an embedding with scale, positions or bias";
    }
    case EXO_OP_MATMUL:
        return op->u.matmul.epilogue > EXO_EPILOGUE_SILU_MUL ? "an activation other than SiLU"
                                                             : NULL;
    case EXO_OP_ROPE_KV: {
        const exo_op_rope_kv *r = &op->u.rope_kv;
        if (r->rope_offset != 0) return "a rotation that does not begin at dimension 0";
        return r->v_dim != 0 && r->v_dim != r->head_dim ? "values narrower than keys" : NULL;
    }
    case EXO_OP_ATTENTION: {
        const exo_op_attention *a = &op->u.attention;
        if (a->v_dim != 0 && a->v_dim != a->head_dim) return "values narrower than keys";
        if (a->softcap > 0) return "capped attention scores";
        if (a->window > 0) return "a sliding window";
        if (a->sinks != NULL) return "attention sinks";
        return a->bidirectional ? "attention to both sides" : NULL;
    }
    case EXO_OP_HEAD: {
        const exo_op_head *h = &op->u.head;
        if (h->norm == NULL) return "a head without norm";
        bool plain = h->bias == NULL && h->scale == 0 && h->softcap == 0;
        return plain ? NULL : "a head with bias, scale or soft cap";
    }
    case EXO_OP_ROUND_F16: return NULL;
    case EXO_OP_NORM: return "a norm of its own";
    case EXO_OP_COPY: return "copies between slots";
    case EXO_OP_ROUTE:
    case EXO_OP_EXPERTS:
    case EXO_OP_MIX: return "experts";
    }
    return "an unknown operation";
}

/* Keys and values: one home for all of a plan. */
static bool kv_on_host(const exo_plan *p) {
    const exo_device *d = p->device;
    if (d->absent[EXO_VK_KERNEL_rope_kv] || d->absent[EXO_VK_KERNEL_attention]) return true;
    for (size_t i = 0; i < p->desc.n_ops; i++) {
        const exo_op *op = &p->ops[i];
        bool rope = op->kind == EXO_OP_ROPE_KV, attention = op->kind == EXO_OP_ATTENTION;
        if ((rope || attention) && without_kernel(op) != NULL) return true;
        if (rope && op->u.rope_kv.head_dim % 4 != 0) return true;
        if (attention && op->u.attention.head_dim % 4 != 0) return true;
    }
    return false;
}

static bool lacks_kernel(const exo_plan *p, const exo_op *op, bool kv) {
    const exo_device *d = p->device;
    bool absent = false;
    if (without_kernel(op) != NULL) return true;
    switch (op->kind) {
    case EXO_OP_EMBED:
        return op->u.embed.table->host != NULL ||
               type_absent(d, op->u.embed.table->type, EXO_VK_KERNEL_embed_f32);
    case EXO_OP_MATMUL:
        for (uint32_t i = 0; i < op->u.matmul.n_parts; i++) {
            absent = absent || weight_absent(d, op->u.matmul.w[i]);
        }
        return absent;
    case EXO_OP_ROPE_KV:
    case EXO_OP_ATTENTION: return kv;
    case EXO_OP_HEAD: return weight_absent(d, op->u.head.w);
    case EXO_OP_ROUND_F16: return false;
    default: return true;
    }
}

/* Of experts, those that a row is multiplied by. */
static uint64_t product_elements(const exo_op *op) {
    const exo_weight *const *w = NULL;
    uint32_t n_parts = 0;
    uint64_t n = 0, used = 1, of = 1;
    if (op->kind == EXO_OP_HEAD) {
        w = &op->u.head.w;
        n_parts = 1;
    } else if (op->kind == EXO_OP_MATMUL) {
        w = op->u.matmul.w;
        n_parts = op->u.matmul.n_parts;
    } else if (op->kind == EXO_OP_EXPERTS) {
        w = op->u.experts.w;
        n_parts = op->u.experts.n_parts;
        used = op->u.experts.n_used;
        of = op->u.experts.n_experts;
    }
    for (uint32_t i = 0; i < n_parts; i++) n += (uint64_t)w[i]->n_rows * w[i]->n_cols;
    return of > 0 ? n / of * used : n;
}

/* What keeps an operation with weights from the device, in words. */
static void name_lack(const exo_device *d, const exo_op *op, char *text, size_t cap) {
    const exo_weight *w = op->kind == EXO_OP_HEAD ? op->u.head.w : NULL;
    for (uint32_t i = 0; op->kind == EXO_OP_MATMUL && i < op->u.matmul.n_parts; i++) {
        if (w == NULL || weight_absent(d, op->u.matmul.w[i])) w = op->u.matmul.w[i];
    }
    const char *whole = without_kernel(op);
    if (w != NULL && (whole == NULL || weight_absent(d, w))) {
        (void)snprintf(text, cap, "products of %s", exo_dtype_get(w->type)->name);
    } else {
        (void)snprintf(text, cap, "%s", whole);
    }
}

/* EXO_EUNSUPPORTED when the CPU would do most of the work. */
static exo_status decide(const exo_plan *p, bool *takes, uint32_t *n, exo_error *err) {
    const exo_device *d = p->device;
    bool kv = kv_on_host(p);
    const exo_op *largest = NULL;
    uint64_t all = 0, host = 0, most = 0;
    char what[64];
    *n = 0;
    for (size_t i = 0; i < p->desc.n_ops; i++) {
        uint64_t elements = product_elements(&p->ops[i]);
        takes[i] = lacks_kernel(p, &p->ops[i], kv);
        all += elements;
        if (!takes[i]) continue;
        ++*n;
        host += elements;
        if (elements > most) {
            most = elements;
            largest = &p->ops[i];
        }
    }
    if (largest == NULL || host <= all / 100 * d->max_host_percent || d->max_host_percent >= 100) {
        return EXO_OK;
    }
    name_lack(d, largest, what, sizeof what);
    return exo_error_set(err, EXO_EUNSUPPORTED,
                         "vulkan:%u (%s) has no working kernels for %llu %% of this model's "
                         "weights, above all %s; see exo devices",
                         d->vk->index, d->vk->caps.name, (unsigned long long)(host * 100 / all),
                         what);
}

/* ---- slots of a span ---- */

static bool add_slot(uint32_t *list, uint32_t *n, uint32_t slot) {
    for (uint32_t i = 0; i < *n; i++) {
        if (list[i] == slot) return true;
    }
    if (*n == EXO_VK_SPAN_SLOTS) return false;
    list[(*n)++] = slot;
    return true;
}

static bool is_out(const exo_vk_span *s, uint32_t slot) {
    bool found = false;
    for (uint32_t i = 0; i < s->n_out; i++) found = found || s->out[i] == slot;
    return found;
}

static bool reads(exo_vk_span *s, uint32_t slot) {
    return is_out(s, slot) || add_slot(s->in, &s->n_in, slot);
}

/* False: no room, or a kind of operation that is unknown here. */
static bool add_op(exo_vk_span *s, const exo_op *op) {
    bool ok = true;
    switch (op->kind) {
    case EXO_OP_EMBED: return add_slot(s->out, &s->n_out, op->u.embed.out);
    case EXO_OP_MATMUL: {
        const exo_op_matmul *m = &op->u.matmul;
        uint32_t n = m->epilogue == EXO_EPILOGUE_STORE ? m->n_parts : 1;
        ok = reads(s, m->in);
        if (m->epilogue == EXO_EPILOGUE_ADD) ok = ok && reads(s, m->out[0]);
        for (uint32_t i = 0; i < n; i++) ok = ok && add_slot(s->out, &s->n_out, m->out[i]);
        return ok;
    }
    case EXO_OP_ROPE_KV: {
        const exo_op_rope_kv *r = &op->u.rope_kv;
        ok = reads(s, r->q) && reads(s, r->k) && reads(s, r->v);
        return ok && add_slot(s->out, &s->n_out, r->q) && add_slot(s->out, &s->n_out, r->k);
    }
    case EXO_OP_ATTENTION:
        return reads(s, op->u.attention.q) && add_slot(s->out, &s->n_out, op->u.attention.out);
    case EXO_OP_HEAD: return reads(s, op->u.head.in);
    case EXO_OP_ROUND_F16:
        return reads(s, op->u.round_slot) && add_slot(s->out, &s->n_out, op->u.round_slot);
    case EXO_OP_NORM:
        ok = reads(s, op->u.norm.in) && (!op->u.norm.add || reads(s, op->u.norm.out));
        return ok && add_slot(s->out, &s->n_out, op->u.norm.out);
    case EXO_OP_COPY: /* pieces: the rest of the slot stays */
        ok = reads(s, op->u.copy.in) && reads(s, op->u.copy.out);
        return ok && add_slot(s->out, &s->n_out, op->u.copy.out);
    case EXO_OP_ROUTE:
        return reads(s, op->u.route.in) && add_slot(s->out, &s->n_out, op->u.route.out);
    case EXO_OP_EXPERTS:
        ok = reads(s, op->u.experts.in) &&
             (op->u.experts.route == EXO_NO_SLOT || reads(s, op->u.experts.route));
        return ok && add_slot(s->out, &s->n_out, op->u.experts.out);
    case EXO_OP_MIX:
        ok = reads(s, op->u.mix.in) && reads(s, op->u.mix.route) &&
             (!op->u.mix.add || reads(s, op->u.mix.out));
        return ok && add_slot(s->out, &s->n_out, op->u.mix.out);
    default: return false;
    }
}

/* ---- what the CPU's operations point at ---- */

static exo_vk_copy *find_copy(exo_vk_host *h, const void *of, exo_error *err) {
    for (size_t i = 0; i < h->n_copies; i++) {
        if (h->copies[i].of == of) return &h->copies[i];
    }
    if (exo_grow((void **)&h->copies, &h->cap_copies, h->n_copies + 1, sizeof *h->copies) != 0) {
        exo_error_set(err, EXO_ENOMEM, "no memory for operations on the CPU");
        return NULL;
    }
    h->copies[h->n_copies] = (exo_vk_copy){.of = of};
    return &h->copies[h->n_copies++];
}

static exo_status repack(exo_plan *p, const exo_weight *w, exo_weight **out, exo_error *err) {
    exo_device *host;
    exo_status st = exo_vk_host_device(p->device, &host, err);
    if (st != EXO_OK) return st;
    uint8_t *bytes = exo_malloc(w->n_rows * exo_dtype_row_bytes(w->type, w->n_cols));
    if (bytes == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a weight on the CPU");
    st = exo_vk_weight_unpack(p->device->vk, w, bytes, err);
    if (st == EXO_OK) st = cpu->weight_create(host, w->type, w->n_rows, w->n_cols, bytes, out, err);
    exo_free(bytes);
    return st;
}

static exo_status on_cpu_weight(exo_plan *p, const exo_weight **w, exo_error *err) {
    const exo_weight *of = *w;
    if (of == NULL) return EXO_OK;
    *w = of->host;
    if (of->host != NULL) return EXO_OK;
    exo_vk_copy *c = find_copy(p->host, of, err);
    if (c == NULL) return EXO_ENOMEM;
    exo_status st = c->weight == NULL ? repack(p, of, &c->weight, err) : EXO_OK;
    *w = c->weight;
    return st;
}

/* A vector with its content, or a pool without. */
static exo_status on_cpu_buffer(exo_plan *p, const exo_buffer **b, bool content, exo_error *err) {
    const exo_buffer *of = *b;
    if (of == NULL) return EXO_OK;
    exo_vk_copy *c = find_copy(p->host, of, err);
    if (c == NULL) return EXO_ENOMEM;
    exo_device *host;
    exo_status st = exo_vk_host_device(p->device, &host, err);
    if (st != EXO_OK || c->buffer != NULL) {
        *b = c->buffer;
        return st;
    }
    void *bytes = content ? exo_malloc(of->bytes) : NULL;
    if (content && bytes == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a vector");
    st = cpu->allocate(host, of->bytes, &c->buffer, err);
    if (st == EXO_OK && content) {
        st = exo_vk_copy_from_device(p->device->vk->transfer, bytes, of->memory, 0, of->bytes, err);
        if (st == EXO_OK) st = cpu->copy_to_device(host, c->buffer, 0, bytes, of->bytes, err);
    }
    exo_free(bytes);
    *b = c->buffer;
    return st;
}

static exo_status on_cpu_pool(exo_plan *p, exo_buffer **b, exo_error *err) {
    const exo_buffer *pool = *b;
    exo_status st = on_cpu_buffer(p, &pool, false, err);
    exo_vk_copy *c = st == EXO_OK ? find_copy(p->host, *b, err) : NULL;
    if (c != NULL) *b = c->buffer;
    return st;
}

static exo_status on_cpu_op(exo_plan *p, exo_op *op, exo_error *err) {
    exo_status st = EXO_OK;
    switch (op->kind) {
    case EXO_OP_EMBED:
        st = on_cpu_weight(p, &op->u.embed.table, err);
        if (st == EXO_OK) st = on_cpu_weight(p, &op->u.embed.positions, err);
        return st == EXO_OK ? on_cpu_buffer(p, &op->u.embed.bias, true, err) : st;
    case EXO_OP_MATMUL:
        st = on_cpu_buffer(p, &op->u.matmul.norm, true, err);
        for (uint32_t i = 0; st == EXO_OK && i < op->u.matmul.n_parts; i++) {
            st = on_cpu_weight(p, &op->u.matmul.w[i], err);
            if (st == EXO_OK) st = on_cpu_buffer(p, &op->u.matmul.bias[i], true, err);
        }
        return st;
    case EXO_OP_ROPE_KV:
        st = on_cpu_buffer(p, &op->u.rope_kv.q_norm, true, err);
        if (st == EXO_OK) st = on_cpu_buffer(p, &op->u.rope_kv.k_norm, true, err);
        if (st == EXO_OK) st = on_cpu_pool(p, &op->u.rope_kv.k_pages, err);
        return st == EXO_OK ? on_cpu_pool(p, &op->u.rope_kv.v_pages, err) : st;
    case EXO_OP_ATTENTION:
        st = on_cpu_buffer(p, &op->u.attention.k_pages, false, err);
        if (st == EXO_OK) st = on_cpu_buffer(p, &op->u.attention.sinks, true, err);
        return st == EXO_OK ? on_cpu_buffer(p, &op->u.attention.v_pages, false, err) : st;
    case EXO_OP_HEAD:
        st = on_cpu_buffer(p, &op->u.head.norm, true, err);
        if (st == EXO_OK) st = on_cpu_buffer(p, &op->u.head.bias, true, err);
        return st == EXO_OK ? on_cpu_weight(p, &op->u.head.w, err) : st;
    case EXO_OP_NORM:
        st = on_cpu_buffer(p, &op->u.norm.weight, true, err);
        return st == EXO_OK ? on_cpu_buffer(p, &op->u.norm.bias, true, err) : st;
    case EXO_OP_ROUTE: return on_cpu_buffer(p, &op->u.route.choice_bias, true, err);
    case EXO_OP_EXPERTS:
        st = on_cpu_buffer(p, &op->u.experts.norm, true, err);
        for (uint32_t i = 0; st == EXO_OK && i < op->u.experts.n_parts; i++) {
            st = on_cpu_weight(p, &op->u.experts.w[i], err);
            if (st == EXO_OK) st = on_cpu_buffer(p, &op->u.experts.bias[i], true, err);
        }
        return st;
    default: return EXO_OK;
    }
}

/* ---- making ---- */

static exo_status make_span(exo_plan *p, exo_vk_span *s, exo_error *err) {
    exo_device *host;
    exo_status st = exo_vk_host_device(p->device, &host, err);
    if (st != EXO_OK) return st;
    size_t n = s->end - s->begin;
    exo_op *ops = exo_calloc(n, sizeof *ops);
    if (ops == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for operations on the CPU");
    memcpy(ops, p->ops + s->begin, n * sizeof *ops);
    for (size_t i = 0; st == EXO_OK && i < n; i++) {
        if (!add_op(s, &ops[i])) {
            st = exo_error_set(err, EXO_EUNSUPPORTED,
                               "operation %zu can not be left to the CPU: unknown, or its run has "
                               "more than %d slots",
                               s->begin + i, EXO_VK_SPAN_SLOTS);
        }
        if (st == EXO_OK) st = on_cpu_op(p, &ops[i], err);
    }
    exo_plan_desc desc = p->desc;
    desc.ops = ops;
    desc.n_ops = n;
    if (st == EXO_OK) st = cpu->plan_create(host, &desc, &s->cpu, err);
    exo_free(ops);
    return st;
}

static exo_status make_spans(exo_plan *p, uint32_t n_taken, exo_error *err) {
    exo_vk_host *h = p->host;
    h->spans = exo_calloc(n_taken, sizeof *h->spans);
    if (h->spans == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for host points");
    exo_status st = EXO_OK;
    for (size_t i = 0; st == EXO_OK && i < p->desc.n_ops; i++) {
        if (!h->takes[i]) continue;
        exo_vk_span *s = &h->spans[h->n_spans++];
        s->begin = i;
        while (i < p->desc.n_ops && h->takes[i]) i++;
        s->end = i;
        st = make_span(p, s, err);
    }
    h->takes_head = p->ops[p->desc.n_ops - 1].kind == EXO_OP_HEAD && h->takes[p->desc.n_ops - 1];
    return st;
}

/* Room for every slot, although few travel: they are small beside weights. */
static exo_status make_room(exo_plan *p, exo_error *err) {
    exo_vk_host *h = p->host;
    exo_vk_memory *m = &p->device->vk->memory;
    VkDeviceSize bytes = 0;
    h->slot_at = exo_calloc(p->desc.n_slots, sizeof *h->slot_at);
    h->x = exo_calloc((size_t)p->desc.max_rows * p->slot_width[0], sizeof *h->x);
    h->rows = exo_calloc(p->desc.max_rows, sizeof *h->rows);
    if (h->slot_at == NULL || h->x == NULL || h->rows == NULL) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for host points");
    }
    for (uint32_t i = 0; i < p->desc.n_slots; i++) {
        uint64_t ld = (p->slot_width[i] + EXO_VK_UNIT - 1) / EXO_VK_UNIT * EXO_VK_UNIT;
        uint64_t slot = p->desc.max_rows * ld * sizeof(float);
        h->slot_at[i] = bytes;
        bytes += (slot + AREA_ALIGNMENT - 1) / AREA_ALIGNMENT * AREA_ALIGNMENT;
    }
    const exo_vk_memory_need needs[] = {{EXO_VK_MEMORY_READBACK, bytes},
                                        {EXO_VK_MEMORY_UPLOAD, bytes}};
    exo_status st = exo_vk_memory_check(m, needs, 2, err);
    if (st == EXO_OK) {
        st = exo_vk_memory_allocate(m, EXO_VK_MEMORY_READBACK, bytes, &h->from_device, err);
    }
    if (st == EXO_OK) {
        st = exo_vk_memory_allocate(m, EXO_VK_MEMORY_UPLOAD, bytes, &h->to_device, err);
    }
    if (st == EXO_OK) memset(h->to_device->mapped, 0, bytes); /* behind each row's width */
    return st;
}

exo_status exo_vk_host_create(exo_plan *p, exo_error *err) {
    uint32_t n = 0;
    bool *takes = exo_calloc(p->desc.n_ops, sizeof *takes);
    if (takes == NULL) return exo_error_set(err, EXO_ENOMEM, "no memory for a plan");
    exo_status st = decide(p, takes, &n, err);
    if (st == EXO_OK && n > 0) {
        p->host = exo_calloc(1, sizeof *p->host);
        if (p->host == NULL) st = exo_error_set(err, EXO_ENOMEM, "no memory for a plan");
    }
    if (p->host == NULL) {
        exo_free(takes);
        return st;
    }
    p->host->takes = takes;
    st = make_spans(p, n, err);
    return st == EXO_OK ? make_room(p, err) : st;
}

void exo_vk_host_destroy(exo_plan *p) {
    exo_vk_host *h = p->host;
    if (h == NULL) return;
    for (uint32_t i = 0; i < h->n_spans; i++) cpu->plan_destroy(h->spans[i].cpu);
    for (size_t i = 0; i < h->n_copies; i++) {
        const exo_vk_copy *c = &h->copies[i];
        if (c->weight != NULL) cpu->weight_destroy(p->device->host, c->weight);
        if (c->buffer != NULL) cpu->deallocate(p->device->host, c->buffer);
    }
    exo_vk_memory_deallocate(&p->device->vk->memory, h->from_device);
    exo_vk_memory_deallocate(&p->device->vk->memory, h->to_device);
    exo_free(h->takes);
    exo_free(h->spans);
    exo_free(h->copies);
    exo_free(h->cuts);
    exo_free(h->slot_at);
    exo_free(h->x);
    exo_free(h->rows);
    exo_free(h);
    p->host = NULL;
}

/* ---- recording ---- */

const exo_vk_span *exo_vk_host_span(const exo_plan *p, size_t i) {
    const exo_vk_host *h = p->host;
    for (uint32_t k = 0; h != NULL && k < h->n_spans; k++) {
        if (h->spans[k].begin == i) return &h->spans[k];
    }
    return NULL;
}

static VkDeviceSize rows_bytes(const exo_vk_recorder *r, uint32_t slot) {
    return (VkDeviceSize)r->rows * r->p->slots[slot].x.ld * sizeof(float);
}

exo_status exo_vk_host_record(exo_vk_recorder *r, const exo_vk_span *s, exo_error *err) {
    exo_plan *p = r->p;
    exo_vk_host *h = p->host;
    for (uint32_t i = 0; i < s->n_in; i++) {
        uint32_t slot = s->in[i];
        exo_vk_emit_copy(r, p->acts, p->slots[slot].x.offset, h->from_device, h->slot_at[slot],
                         rows_bytes(r, slot));
    }
    if (exo_grow((void **)&h->cuts, &h->cap_cuts, h->n_cuts + 1, sizeof *h->cuts) != 0) {
        return exo_error_set(err, EXO_ENOMEM, "no memory for host points");
    }
    if (s == h->spans) r->bucket->first_cut = h->n_cuts;
    h->cuts[h->n_cuts++] = r->bucket->n_commands;
    exo_status st = exo_vk_emit_cut(r, err);
    for (uint32_t i = 0; st == EXO_OK && i < s->n_out; i++) {
        uint32_t slot = s->out[i];
        exo_vk_emit_copy(r, h->to_device, h->slot_at[slot], p->acts, p->slots[slot].x.offset,
                         rows_bytes(r, slot));
        r->held[slot] = NULL;
    }
    return st;
}

/* ---- running ---- */

uint32_t exo_vk_host_cut(const exo_plan *p, const exo_vk_bucket *b, uint32_t i) {
    return p->host->cuts[b->first_cut + i];
}

/* Rows of a slot between its area's stride and the CPU's. */
static void move_slot(const exo_plan *p, const exo_vk_span *s, uint32_t slot, uint32_t n_rows,
                      bool in) {
    const exo_vk_host *h = p->host;
    size_t width = p->slot_width[slot], ld = width, area_ld = p->slots[slot].x.ld;
    float *rows = slot == 0 ? h->x : exo_cpu_plan_slot(s->cpu, slot, &ld);
    uint8_t *mapped = (in ? h->from_device : h->to_device)->mapped + h->slot_at[slot];
    float *area = (float *)(void *)mapped;
    for (uint32_t i = 0; i < n_rows; i++) {
        if (in) {
            memcpy(rows + i * ld, area + i * area_ld, width * sizeof *rows);
        } else {
            memcpy(area + i * area_ld, rows + i * ld, width * sizeof *rows);
        }
    }
}

/* Packed rows of logits, to where the device would have put them; from the last one on, since they
 * move up. */
static void spread_logits(const exo_plan *p, const exo_plan_args *args) {
    float *logits = (float *)(void *)p->output->mapped;
    size_t n_vocab = p->bounds.n_vocab, ld = p->head.ld, n = 0;
    for (uint32_t k = 0; k < args->n_rows; k++) n += (args->rows[k].flags & EXO_ROW_LOGITS) != 0;
    for (; n > 1; n--) {
        memmove(logits + (n - 1) * ld, logits + (n - 1) * n_vocab, n_vocab * sizeof *logits);
    }
}

exo_status exo_vk_host_run(exo_plan *p, uint32_t i, const exo_plan_args *args, exo_error *err) {
    exo_vk_host *h = p->host;
    exo_vk_memory *m = &p->device->vk->memory;
    const exo_vk_span *s = &h->spans[i];
    bool head = h->takes_head && i + 1 == h->n_spans;
    exo_status st = exo_vk_memory_invalidate(m, h->from_device, 0, h->from_device->size, err);
    if (st != EXO_OK) return st;
    for (uint32_t k = 0; k < s->n_in; k++) move_slot(p, s, s->in[k], args->n_rows, true);
    exo_plan_args a = *args;
    a.x_in = p->ops[s->begin].kind == EXO_OP_EMBED ? NULL : h->x;
    a.x_out = head ? NULL : h->x;
    a.logits = NULL;
    if (head) a.logits = (float *)(void *)p->output->mapped;
    st = cpu->plan_run(s->cpu, &a, err);
    if (st == EXO_OK && head) spread_logits(p, args);
    if (st == EXO_OK && head) st = exo_vk_memory_flush(m, p->output, 0, p->output->size, err);
    if (st != EXO_OK) return st;
    if (head && is_out(s, 0)) { /* the CPU gives rows or logits; its slot 0 has them all the same */
        size_t ld;
        const float *x = exo_cpu_plan_slot(s->cpu, 0, &ld);
        size_t width = p->slot_width[0];
        for (uint32_t k = 0; k < args->n_rows; k++) {
            memcpy(h->x + k * width, x + k * ld, width * sizeof *x);
        }
    }
    for (uint32_t k = 0; k < s->n_out; k++) move_slot(p, s, s->out[k], args->n_rows, false);
    return exo_vk_memory_flush(m, h->to_device, 0, h->to_device->size, err);
}
